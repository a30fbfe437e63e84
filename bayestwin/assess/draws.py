"""Predictive draws read from a result as plain arrays, of one forecast or of a backtest, whose forecasts are laid flat.

They are joined with telemetry at exactly equal times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.density.bind import elapsed, rows_in_both
from bayestwin.telemetry import said
from bayestwin.telemetry.times import paired

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


NOISE_FREE = "_noise_free"
"""Suffix of the variable that holds an observation's value without observation noise."""


class ObservedPoints(NamedTuple):
    """What telemetry holds of one observation, at the times of a forecast.

    Attributes:
        positions: Places on the forecast's time axis, shape (n,).
        values: The observations there, shape (n,), none of them NaN.
    """

    positions: np.ndarray
    values: np.ndarray


def predictive(tree: xr.DataTree) -> tuple[str, xr.Dataset]:
    """Name and content of the group that holds predictive draws: `predictions`, else `posterior_predictive`.

    Those of a backtest are laid flat, see `origins.flat`.

    Raises:
        InvalidInput: The tree has neither group, or the group has no observation.
    """
    for group in ("predictions", "posterior_predictive"):
        if group in tree.children:
            dataset = tree[group].to_dataset()
            if not observations(dataset):
                raise errors.InvalidInput(
                    f"The group `{group}` holds no observation.",
                    expected=f"pairs of variables such as `indoor` and `indoor{NOISE_FREE}`",
                    received=", ".join(str(name) for name in dataset.data_vars) or "an empty group",
                    advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
                )
            if 0 in (dataset.sizes.get("chain", 0), dataset.sizes.get("draw", 0)):
                raise errors.InvalidInput(
                    f"The group `{group}` holds no draws.",
                    expected="variables (chain, draw, time) with at least one draw",
                    received=f"{dict(dataset.sizes)}",
                    advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
                )
            if "experiment" in dataset.dims:
                names = [str(name) for name in dataset["experiment"].to_numpy()]
                raise errors.InvalidInput(
                    "The result is about several experiments.",
                    expected="one of them, or telemetry of each by its name",
                    received=", ".join(f"`{name}`" for name in names),
                    advice=f"Take one: `.sel(experiment={names[0]!r})`.",
                )
            # of one experiment taken out of several: the others have times of their own
            return group, _own_times(dataset) if "experiment" in dataset.coords else flat(dataset)
    raise errors.InvalidInput(
        "The result holds no predictive draws.",
        expected="a group `predictions` (from `predict`) or `posterior_predictive` (from `calibrate`)",
        received=", ".join(tree.children) or "a tree without groups",
        advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
    )


def _own_times(dataset: xr.Dataset) -> xr.Dataset:
    """What is known of one experiment, at its own times; where all its paths have failed as well."""
    counts = dataset.get("num_failed")
    found = dataset.drop_vars("num_failed", errors="ignore").dropna("time", how="all")
    own = dataset["time"].isin(found["time"]) if counts is None else dataset["time"].isin(found["time"]) | (counts > 0)
    return dataset.isel(time=np.flatnonzero(own.to_numpy()))


def experiments(tree: xr.DataTree) -> tuple[str, ...]:
    """Names of the experiments that a result predicts; none where it is about one telemetry, or one of them."""
    for group in ("predictions", "posterior_predictive"):
        if group in tree.children:
            dataset = tree[group].to_dataset()
            return tuple(map(str, dataset["experiment"].to_numpy())) if "experiment" in dataset.dims else ()
    return ()


def of_each(
    tree: xr.DataTree, telemetry: Mapping[str, Telemetry], function: Callable[[xr.DataTree, Telemetry], xr.Dataset]
) -> xr.Dataset:
    """What a function says about each experiment that there is telemetry of; errors are those of `parts`."""
    return side_by_side([function(part, one) for part, one in parts(tree, telemetry)], [*telemetry])


def parts[T](tree: xr.DataTree, telemetry: Mapping[str, T] | T) -> list[tuple[xr.DataTree, T]]:
    """A result with its telemetry, or each experiment of it with its own.

    Raises:
        InvalidTelemetry: The result does not predict these experiments.
    """
    if not isinstance(telemetry, Mapping):
        return [(tree, telemetry)]
    names = experiments(tree)
    unknown = [name for name in telemetry if name not in names]
    if unknown or not telemetry:
        raise errors.InvalidTelemetry(
            "The telemetry is not that of experiments that were predicted.",
            expected=", ".join(f"`{name}`" for name in names) or "one telemetry: there are no experiments",
            received=", ".join(f"`{name}`" for name in unknown) or "none",
            advice="Name them as in the forecast.",
        )
    return [(tree.sel(experiment=name), one) for name, one in telemetry.items()]


def side_by_side(parts: Sequence[xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    """What was found for each experiment, along the dimension `experiment`."""
    parts = [part.drop_vars("experiment", errors="ignore") for part in parts]
    along = xr.DataArray(np.array(names, dtype=str), dims="experiment", name="experiment")  # as files can hold it
    parts = all_with_failed(parts)
    return xr.concat(parts, along, coords="minimal", compat="override", join="outer").assign_attrs(parts[0].attrs)


def observations(dataset: xr.Dataset) -> tuple[str, ...]:
    """Names of the observations: the variables that also have a noise-free version."""
    return tuple(str(name) for name in dataset.data_vars if f"{name}{NOISE_FREE}" in dataset.data_vars)


def samples(dataset: xr.Dataset, variable: str) -> np.ndarray:
    """All chains' draws of one variable, shape (time, samples); what is not finite becomes NaN."""
    table = dataset[variable].transpose("time", "chain", "draw").to_numpy().astype(float)
    table = table.reshape(table.shape[0], -1)
    table[~np.isfinite(table)] = np.nan
    return table


# Draws that are not there: from when their solve failed on, or where the noise model has no such observation.

FAILED = "failed"
"""Variable of tables: the share of the draws that are not there; absent where all are."""


def of_those_there(table: np.ndarray, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """What a function says of rows of draws, each of those that are there.

    Args:
        table: Draws, shape (n, samples), NaN where one is not there.
        function: Rows of draws that are all there, shape (k, m), and which rows these are, shape (k,) → shape (k, …).

    Returns:
        Shape (n, …); NaN where not one draw is there.
    """
    counts = np.sum(~np.isnan(table), axis=-1)
    if (counts == table.shape[-1]).all():
        return function(table, np.arange(len(table)))
    parts = {}
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        parts[count] = rows, function(np.sort(table[rows], axis=-1)[:, :count], rows)
    shape = next((values.shape[1:] for _, values in parts.values()), function(table[:0], np.arange(0)).shape[1:])
    found = np.full((len(table), *shape), np.nan)
    for rows, values in parts.values():
        found[rows] = values
    return found


def share_failed(table: np.ndarray) -> np.ndarray:
    """Share of the draws, shape (n, samples), that are not there; shape (n,)."""
    return np.isnan(table).mean(axis=-1)


class Lost(NamedTuple):
    """Draws of a forecast that are not there to its end.

    Attributes:
        num: How many, where most are missing.
        of: How many draws there are.
        since: The time from which on any is missing, in words.
        beyond: The time from which on more than a limit are, in words; empty where that is never so.
    """

    num: int
    of: int
    since: str
    beyond: str

    @property
    def words(self) -> str:
        """A sentence."""
        share = f"{100 * self.num / self.of:.2g} %"
        return (
            f"{self.num:,} of {self.of:,} predicted paths ({share}) are not there to the end, the first of them missing"
            f" from {self.since} on: they cannot be solved, or the noise model has no such observation. Intervals are"
            " those of the others."
        )


def lost(tree: xr.DataTree, limit: float = 1.0) -> Lost | None:
    """The draws of a result that are not there to its end, of several experiments where most are missing.

    Args:
        tree: A forecast, a backtest or a posterior.
        limit: Largest share that does not matter.
    """
    found = []
    for name in experiments(tree) or ("",):
        part = tree.sel(experiment=name) if name else tree
        if not {"predictions", "posterior_predictive"} & set(part.children):
            return None
        row = predictive(part)[1]
        moments = labels(row)
        own = np.flatnonzero(~pd.isna(moments))
        if "origin" in row.coords:  # those of an origin that has no forecast are told by that
            own = own[~np.isin(row["origin"].to_numpy()[own], _without_forecast(tree))]
        for variable in observations(row):
            counts = np.isnan(samples(row, variable)[own]).sum(axis=-1)
            if counts.any():
                of = row.sizes["chain"] * row.sizes["draw"]
                order = np.argsort(moments[own], kind="stable")
                times, ordered = moments[own][order], counts[order]
                more = ordered > limit * of
                since = _moment(times[ordered > 0][0])
                found.append(Lost(int(counts.max()), of, since, _moment(times[more][0]) if more.any() else ""))
    return max(found, key=lambda one: one.num, default=None)


def _moment(label: object) -> str:
    return said(label) if isinstance(label, pd.Timestamp) else f"{label:g}"


def _without_forecast(tree: xr.DataTree) -> np.ndarray:
    """Origins of a backtest that gave no forecast."""
    table = tree["origins"].to_dataset() if "origins" in tree.children else xr.Dataset()
    return table["origin"].to_numpy()[table["failure"].to_numpy() != ""] if "failure" in table else np.empty(0)


def with_failed(found: xr.Dataset, shares: xr.DataArray) -> xr.Dataset:
    """A table with the shares of draws that are not there, unless all are."""
    if not bool((shares > 0).any()):
        return found
    return found.assign({FAILED: shares.assign_attrs(long_name="share of the draws that are not there")})


def with_mean_failed(found: xr.Dataset, shares: Mapping[str, np.ndarray]) -> xr.Dataset:
    """As `with_failed`, from the shares of some points by observation, of which each gets the mean."""
    means = [float(np.mean(own)) if len(own) else 0.0 for own in shares.values()]
    return with_failed(found, xr.DataArray(means, {"observation": list(shares)}, "observation"))


def all_with_failed(parts: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Tables of one shape, all of them with `FAILED` if any has it."""
    like = next((part[FAILED] for part in parts if FAILED in part), None)
    if like is None:
        return list(parts)
    spare = [part["median"] if "time" in like.dims else part["num"] for part in parts]
    zero = [xr.zeros_like(one.isel({dim: 0 for dim in one.dims if dim not in like.dims})) for one in spare]
    return [
        part if FAILED in part else part.assign({FAILED: one.astype(float)})
        for part, one in zip(parts, zero, strict=True)
    ]


def units(dataset: xr.Dataset, names: tuple[str, ...]) -> xr.DataArray:
    """Unit of each observation as text, empty where none is known; dimension `observation`."""
    return xr.DataArray([str(dataset[name].attrs.get("units", "")) for name in names], dims="observation")


def observed(dataset: xr.Dataset, telemetry: Telemetry, name: str, unit: str | None = None) -> ObservedPoints:
    """The observations `name` of the telemetry, placed on the dataset's times.

    Times are joined where they are exactly equal: a join that rounds or drops would count wrong pairs. Values are
    converted to `unit`, by default to that of the forecast.

    Replicates are joined in their order.

    Raises:
        InvalidTelemetry: An observation at a time that is not in the forecast, or in a unit of another dimension.
    """
    times = pd.Index(dataset["time"].to_numpy())
    if not telemetry.holds(name):
        return ObservedPoints(np.empty(0, dtype=int), np.empty(0))
    if "experiment" in dataset.coords:
        telemetry = counted(telemetry, dataset["experiment"])
    values = telemetry.in_unit(name, str(dataset[name].attrs.get("units", "")) if unit is None else unit)
    there, labels = ~np.isnan(values), telemetry.table.index
    positions, seen = paired(labels, times)[there], values[there]
    if np.any(positions < 0):
        strays = labels[there][positions < 0]
        raise errors.InvalidTelemetry(
            f"`{name}` was observed at {strays[0]}, a time that is not in the forecast.",
            expected=f"times exactly equal to some of the forecast's {len(times)} ({_ends(times)})",
            received=f"{len(strays)} of {len(seen)} observations at other times ({_ends(strays)})",
            advice="Predict at the times of this telemetry, or pass the part of it that was predicted.",
        )
    return ObservedPoints(positions, seen)


def alone(tree: xr.DataTree) -> xr.DataTree:
    """One experiment taken out of a result, as the result of a telemetry that counts elapsed time."""

    def own(dataset: xr.Dataset) -> xr.Dataset:
        dataset = dataset.drop_vars("experiment", errors="ignore")
        return _own_times(dataset) if "time" in dataset.dims and dataset.data_vars else dataset

    found = xr.DataTree.from_dict({name: own(node.to_dataset()) for name, node in tree.children.items()})
    found.attrs = tree.attrs
    return found


def counted(telemetry: Telemetry, experiment: xr.DataArray) -> Telemetry:
    """Telemetry of one experiment in elapsed times, as a result of several counts them.

    Args:
        telemetry: In the user's times.
        experiment: The coordinate of the result, at this experiment.
    """
    t0, unit = experiment.attrs["t0"][str(experiment.item())], experiment.attrs["time_unit"]
    times = elapsed(telemetry.table.index, t0, telemetry.units.get("time", unit), unit)
    table = telemetry.table.set_axis(pd.Index(times, name="time"))
    return dataclasses.replace(telemetry, table=table, units={**telemetry.units, "time": unit}, t0=0.0)


def require_some(pairs: dict[str, ObservedPoints], telemetry: Telemetry) -> None:
    """Raise where none of the observations of a forecast was observed.

    Raises:
        InvalidTelemetry: Not one observation to compare the forecast with.
    """
    if any(pair.values.size for pair in pairs.values()):
        return
    columns = ", ".join(f"`{column}`" for column in telemetry.table.columns) or "none"
    raise errors.InvalidTelemetry(
        "The telemetry holds nothing to compare the forecast with.",
        expected=f"values of {', '.join(f'`{name}`' for name in pairs)}",
        received=f"{len(telemetry.table)} rows with the columns {columns}, and no such value in them",
        advice="Pass telemetry of the predicted times, its columns named as the twin's observations.",
    )


def _ends(times: pd.Index) -> str:
    return f"{said(times[0])} to {said(times[-1])}" if len(times) else "none"


# Backtests laid flat: forecasts from many origins as points in one row, and back again.

AXES = ("origin", "horizon")


def flat(dataset: xr.Dataset) -> xr.Dataset:
    """Lay forecasts from several origins in one row, origin after origin; anything else stays as it is.

    Args:
        dataset: Variables (…, origin, horizon), and the user's time of each forecast as coordinate `time`, missing
            where an origin has no such horizon. Of one origin or horizon alone that dimension may be absent.

    Returns:
        Variables (…, time), where `time` numbers the points and `label`, `origin` and `horizon` say what they are.
    """
    if any(axis not in dataset.coords for axis in AXES):
        return dataset
    whole = dataset.expand_dims([axis for axis in AXES if axis not in dataset.dims])
    row = whole.rename(time="label").stack(time=AXES, create_index=False)
    return row.assign_coords(time=np.arange(row.sizes["time"]))


def by_origin(row: xr.Dataset) -> xr.Dataset:
    """Put points back where `flat` took them from; what has no such points stays as it is."""
    if any(axis not in row.coords for axis in AXES):
        return row
    attrs = {axis: row[axis].attrs for axis in AXES}
    found = row.drop_vars("time").set_index(time=AXES).unstack("time").rename(label="time")
    for axis in AXES:
        found[axis].attrs = attrs[axis]
    return found


# Where predictions meet observations: the points of a forecast, of a backtest, or of intervals made from them.

ANEW = "starts_anew"
"""Attribute of a forecast that does not go on from its calibration, but begins at its own first time."""

SAME = 0.9
"""Of two recordings fewer observations than that share are the same at the same times."""

INTERVALS = "intervals"
"""Group of a result that holds intervals instead of draws."""


def axis(tree: xr.DataTree) -> xr.Dataset:
    """What a result predicts with, along one row of points `time`: its intervals if it holds some, else its draws."""
    if INTERVALS in tree.children:
        return flat(tree[INTERVALS].to_dataset())
    return predictive(tree)[1]


def labels(dataset: xr.Dataset) -> pd.Index:
    """The user's time of each point."""
    return pd.Index(dataset["label" if "label" in dataset.coords else "time"].to_numpy())


def pairs(tree: xr.DataTree, dataset: xr.Dataset, telemetry: Telemetry | None) -> dict[str, ObservedPoints]:
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
    names = observations(dataset) if units is None else tuple(map(str, dataset["observation"].to_numpy()))
    if "origin" in dataset.coords:
        return _kept(tree, names)
    if telemetry is None:
        raise errors.InvalidTelemetry(
            "A forecast is judged by what was observed then.",
            expected="telemetry of the predicted times; only a backtest has it in itself",
            received="no telemetry",
            advice="Pass the telemetry that was held out.",
        )
    known = {} if units is None else {name: str(units.sel(observation=name).item()) for name in names}
    units_of = known or {name: dataset[name].attrs.get("units", "") for name in names}
    found = {name: observed(dataset, telemetry, name, known.get(name)) for name in names}
    require_some(found, telemetry)
    if "predictions" in tree.children and "observed_data" in tree.children:
        if ANEW in tree.attrs:
            _refuse_same_rows(tree, telemetry, {name: str(units_of[name]) for name in names})
        else:
            _refuse_calibrated(tree, labels(dataset), found)
    return found


def start_words(tree: xr.DataTree) -> str:
    """A sentence on how a forecast begins that does not go on from its calibration; empty where it does."""
    if ANEW not in tree.attrs:
        return ""
    starts = tree.attrs[ANEW]
    listed = ", ".join(f"`{name}` as {value}" for name, value in starts.items()) or "all states as the twin knows them"
    return (
        "The forecast does not go on from the calibration, which gives the parameters alone: it begins at its own first"
        f" time, {listed}."
    )


def _refuse_same_rows(tree: xr.DataTree, telemetry: Telemetry, units: Mapping[str, str]) -> None:
    """Refuse to judge a forecast that starts anew by the very rows that were calibrated."""
    shared, same = rows_in_both(flat(tree["observed_data"].to_dataset()), telemetry, units)
    if shared > 1 and same > SAME * shared:
        raise errors.InvalidTelemetry(
            "This telemetry is what was calibrated, and not another recording.",
            expected="observations that calibration has not seen",
            received=f"{same:,} of {shared:,} observations as they were calibrated, at the same times",
            advice="Judge by another recording, or by what was held out: `telemetry.between(start=…)`.",
        )


def _refuse_calibrated(tree: xr.DataTree, times: pd.Index, found: Mapping[str, ObservedPoints]) -> None:
    """Refuse to judge a forecast by observations that it was calibrated on."""
    calibrated = flat(tree["observed_data"].to_dataset())
    for name, pair in found.items():
        if name not in calibrated:
            continue
        known = labels(calibrated)[np.isfinite(calibrated[name].to_numpy().astype(float))]
        both = times[pair.positions].intersection(known)
        if both.size:
            raise errors.InvalidTelemetry(
                f"Validation overlaps with calibration: this forecast was calibrated on some of `{name}`.",
                expected="observations at times that the calibration has none at",
                received=f"{both.size} of {pair.values.size} at times of the calibration, {both[0]} to {both[-1]}",
                advice="Judge by what was held out: `telemetry.between(start=…)`. For the calibration's own data pass "
                "the posterior instead of a forecast; for another recording say by `initial=` how it begins.",
            )


def _kept(tree: xr.DataTree, names: tuple[str, ...]) -> dict[str, ObservedPoints]:
    """What a backtest has kept of the observations."""
    if "observed_data" not in tree.children:
        raise errors.InvalidInput(
            "These are intervals from several origins, without what was observed.",
            expected="the result that they come from, with its group `observed_data`",
            received=", ".join(tree.children),
            advice="Pass what `backtest` or `conformalize` returned, as it is.",
        )
    row = flat(tree["observed_data"].to_dataset())
    found = {}
    for name in names:
        values = row[name].to_numpy().astype(float)
        positions = np.flatnonzero(np.isfinite(values))
        found[name] = ObservedPoints(positions, values[positions])
    return found


def horizons(tree: xr.DataTree, dataset: xr.Dataset) -> np.ndarray:
    """How far ahead each point lies: time since the last observation that was known, in the twin's unit of time.

    Raises:
        InvalidInput: The result does not say when that was.
    """
    if "horizon" in dataset.coords:
        return dataset["horizon"].to_numpy()
    end = labels(dataset).min() if ANEW in tree.attrs else last_known(tree)
    if end is None:
        raise errors.InvalidInput(
            "How far ahead this forecast looks is not known.",
            expected="the group `observed_data`, with the observations of the calibration",
            received=", ".join(tree.children),
            advice="Pass what `predict` or `backtest` returned.",
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
