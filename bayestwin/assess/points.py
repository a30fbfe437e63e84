"""Where predictions meet observations: the points of a forecast, of a backtest, or of intervals made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.origins import flat
from bayestwin.density.bind import elapsed

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

INTERVALS = "intervals"
"""Group of a result that holds intervals instead of draws."""


def axis(tree: xr.DataTree) -> xr.Dataset:
    """What a result predicts with, along one row of points `time`: its intervals if it holds some, else its draws."""
    if INTERVALS in tree.children:
        return flat(tree[INTERVALS].to_dataset())
    return draws.predictive(tree)[1]


def labels(dataset: xr.Dataset) -> pd.Index:
    """The user's time of each point."""
    return pd.Index(dataset["label" if "label" in dataset.coords else "time"].to_numpy())


def pairs(tree: xr.DataTree, dataset: xr.Dataset, telemetry: Telemetry | None) -> dict[str, draws.Observed]:
    """What was observed of each observation, and at which points.

    Args:
        tree: A result.
        dataset: Its `axis`.
        telemetry: Where it was observed; a backtest has that in itself.

    Raises:
        InvalidTelemetry: As `draws.observed`, or none where it is needed, with nothing to compare, or with observations
            that the forecast was calibrated on.
    """
    units = dataset["units"] if "observation" in dataset.dims else None
    names = draws.observations(dataset) if units is None else tuple(map(str, dataset["observation"].to_numpy()))
    if "origin" in dataset.coords:
        return _kept(tree, names)
    if telemetry is None:
        raise errors.InvalidTelemetry(
            errors.explain(
                "A forecast is judged by what was observed then.",
                expected="telemetry of the predicted times; only a backtest has it in itself",
                received="no telemetry",
                advice="Pass the telemetry that was held out.",
            )
        )
    known = {} if units is None else {name: str(units.sel(observation=name).item()) for name in names}
    found = {name: draws.observed(dataset, telemetry, name, known.get(name)) for name in names}
    draws.require_some(found, telemetry)
    if "predictions" in tree.children and "observed_data" in tree.children:
        _refuse_calibrated(tree, labels(dataset), found)
    return found


def _refuse_calibrated(tree: xr.DataTree, times: pd.Index, found: Mapping[str, draws.Observed]) -> None:
    """Refuse to judge a forecast by observations that it was calibrated on."""
    calibrated = flat(tree["observed_data"].to_dataset())
    for name, pair in found.items():
        if name not in calibrated:
            continue
        known = labels(calibrated)[np.isfinite(calibrated[name].to_numpy().astype(float))]
        both = times[pair.positions].intersection(known)
        if both.size:
            raise errors.InvalidTelemetry(
                errors.explain(
                    f"Validation overlaps with calibration: this forecast was calibrated on some of `{name}`.",
                    expected="observations at times that the calibration has none at",
                    received=f"{both.size} of {pair.values.size} at times of the calibration, {both[0]} to {both[-1]}",
                    advice="Judge by what was held out: `telemetry.between(start=…)`. For the calibration's own data "
                    "pass the posterior instead of a forecast.",
                )
            )


def _kept(tree: xr.DataTree, names: tuple[str, ...]) -> dict[str, draws.Observed]:
    """What a backtest has kept of the observations."""
    if "observed_data" not in tree.children:
        raise errors.InvalidInput(
            errors.explain(
                "These are intervals from several origins, without what was observed.",
                expected="the result that they come from, with its group `observed_data`",
                received=", ".join(tree.children),
                advice="Pass what `backtest` or `conformalize` returned, as it is.",
            )
        )
    row = flat(tree["observed_data"].to_dataset())
    found = {}
    for name in names:
        values = row[name].to_numpy().astype(float)
        positions = np.flatnonzero(np.isfinite(values))
        found[name] = draws.Observed(positions, values[positions])
    return found


def horizons(tree: xr.DataTree, dataset: xr.Dataset) -> np.ndarray:
    """How far ahead each point lies: time since the last observation that was known, in the twin's unit of time.

    Raises:
        InvalidInput: The result does not say when that was.
    """
    if "horizon" in dataset.coords:
        return dataset["horizon"].to_numpy()
    end = last_known(tree)
    if end is None:
        raise errors.InvalidInput(
            errors.explain(
                "How far ahead this forecast looks is not known.",
                expected="the group `observed_data`, with the observations of the calibration",
                received=", ".join(tree.children),
                advice="Pass what `predict` or `backtest` returned.",
            )
        )
    return since(tree, labels(dataset), end)


def last_known(tree: xr.DataTree) -> object | None:
    """The time of the last observation of the calibration, if the result holds it."""
    if "observed_data" not in tree.children:
        return None
    times = tree["observed_data"].to_dataset().dropna("time", how="all")["time"].to_numpy()
    return times.max() if times.size else None


def since(tree: xr.DataTree, times: pd.Index, start: object) -> np.ndarray:
    """Time that has passed since `start`, in the twin's unit of time; shape (n,)."""
    unit = str(tree.attrs.get("time_unit", "s"))
    own = tree.attrs.get("telemetry_time_unit", "")
    # times of several experiments have been counted in the twin's unit already
    return elapsed(times, start, own if isinstance(own, str) and own else unit, unit)
