"""Quantities of interest that were predicted: medians and intervals, how often a first time never comes, and meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.intervals import checked_prob
from bayestwin.results.schema import QUANTITY, quantity_names
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.times import paired


def quantities(
    tree: xr.DataTree,
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    telemetry: Telemetry | Mapping[str, Telemetry] | None = None,
) -> xr.Dataset:
    """Median and equal-tailed intervals of the quantities of interest that a forecast has.

    They have the uncertainty of parameters and of initial states, and none of observations. A first time that does not
    come is later than the forecast ends: it counts as infinite, and so do ends of intervals that lie there.

    Args:
        tree: What `predict` returned for a twin with `quantities=`.
        prob: Nominal probability of each interval, between 0 and 1.
        telemetry: What was recorded at these times, by experiment where there are several: what a `meter` counted from
            the first time of the forecast to its last is then held against the intervals.

    Returns:
        `median` (quantity), `lower` and `upper` (quantity, prob), in the unit that the coordinate `units` names, and
        `never` (quantity), the share of draws in which a first time does not come. Draws whose solve fails are left
        out, and `unsolved` (quantity) is their share. With telemetry also `measured` (quantity), NaN where there is no
        meter or no reading at both ends, and `inside` (quantity, prob), 1 where the interval holds it and else 0.
        Several experiments are a first dimension.

    Raises:
        InvalidInput: The tree holds no quantities.
        InvalidSetting: `prob` is none.
        InvalidTelemetry: The telemetry has no such meter, or it counts backwards.
    """
    levels = checked_prob(prob)
    dataset = tree["predictions"].to_dataset() if "predictions" in tree.children else xr.Dataset()
    names = quantity_names(dataset)
    if not names:
        raise errors.InvalidInput(
            "The result holds no quantities.",
            expected="what `predict` returned for a twin with `quantities=`",
            received=", ".join(map(str, dataset.data_vars)) or ", ".join(tree.children) or "an empty tree",
            advice="Give the twin some, `quantities={'energy': bt.Integral(…)}`, and predict again: the posterior "
            "stays as it is.",
        )
    if "experiment" in dataset.dims:
        known = telemetry if isinstance(telemetry, Mapping) else {}
        return draws.side_by_side(
            [_of_asset(tree, name, prob, known.get(name)) for name in draws.experiments(tree)], draws.experiments(tree)
        )
    found = xr.concat([_ends(dataset[name], levels) for name in names], pd.Index(names, name="quantity"))
    told = {"units": [dataset[name].attrs["units"] for name in names], "kind": [_kind(dataset[name]) for name in names]}
    found = found.assign_coords({name: ("quantity", words) for name, words in told.items()})
    if telemetry is not None:
        assert not isinstance(telemetry, Mapping)
        read = [_measured(dataset[name], dataset["time"].to_numpy(), telemetry) for name in names]
        found["measured"] = ("quantity", np.array(read))
        held = (found["lower"] <= found["measured"]) & (found["measured"] <= found["upper"])
        found["inside"] = held.where(np.isfinite(found["measured"]))
    return found.assign_attrs(kind="equal-tailed interval", group="predictions")


def _of_asset(tree: xr.DataTree, name: str, prob: float | Sequence[float], telemetry: Telemetry | None) -> xr.Dataset:
    """The same of one experiment, in elapsed times."""
    own = tree.sel(experiment=name)
    if telemetry is not None:
        telemetry = draws.counted(telemetry, own["predictions"].to_dataset()["experiment"])
    return quantities(draws.alone(own), prob, telemetry=telemetry)


def _kind(values: xr.DataArray) -> str:
    return str(values.attrs[QUANTITY])


def _ends(values: xr.DataArray, levels: np.ndarray) -> xr.Dataset:
    """Median and intervals of one quantity."""
    drawn = values.to_numpy().ravel()
    there = drawn[~np.isnan(drawn)]
    wanted = np.concatenate([[0.5], (1 - levels) / 2, (1 + levels) / 2])
    # between a number and infinity there is nothing to interpolate
    method = "linear" if np.isfinite(there).all() else "inverted_cdf"
    ends = np.quantile(there, wanted, method=method) if there.size else np.full(wanted.shape, np.nan)
    num = len(levels)
    return xr.Dataset(
        {
            "median": ((), ends[0]),
            "lower": ("prob", ends[1 : 1 + num]),
            "upper": ("prob", ends[1 + num :]),
            "never": ((), np.isinf(there).mean() if there.size else np.nan),
            "unsolved": ((), np.isnan(drawn).mean()),
        },
        coords={"prob": levels},
    )


def _measured(values: xr.DataArray, times: np.ndarray, telemetry: Telemetry) -> float:
    """What a meter counted from the first time to the last one; NaN where nobody knows.

    Raises:
        InvalidTelemetry: There is no such column, or it counts backwards.
    """
    meter = values.attrs.get("meter")
    if meter is None:
        return np.nan
    if not telemetry.holds(meter):
        raise errors.InvalidTelemetry(
            f"Telemetry has no column `{meter}`, the meter of quantity `{values.name}`.",
            expected=f"a column `{meter}` that counts up",
            received=", ".join(f"`{column}`" for column in telemetry.table.columns),
            advice="Rename a column to it by `rename={…}`, or leave the telemetry out.",
        )
    rows = paired(telemetry.table.index, pd.Index(times))
    read = telemetry.in_unit(meter, str(values.attrs["units"]), difference=True)
    within = read[(rows >= 0) & np.isfinite(read)]
    if (np.diff(within) < 0).any():
        raise errors.InvalidTelemetry(
            f"The meter `{meter}` counts backwards.",
            expected="readings that do not decrease within what was predicted",
            received=f"from {within[np.argmin(np.diff(within))]:g} to {within[np.argmin(np.diff(within)) + 1]:g}",
            advice="Mend it where it was exchanged or reset, or predict up to there.",
        )
    ends = [read[rows == place] for place in (0, len(times) - 1)]
    first, last = (one[0] if len(one) else np.nan for one in ends)
    return float(last - first)
