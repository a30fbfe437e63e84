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
from bayestwin.density.bind import elapsed
from bayestwin.telemetry import said

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
            return group, dataset.dropna("time", how="all") if "experiment" in dataset.coords else flat(dataset)
    raise errors.InvalidInput(
        "The result holds no predictive draws.",
        expected="a group `predictions` (from `predict`) or `posterior_predictive` (from `calibrate`)",
        received=", ".join(tree.children) or "a tree without groups",
        advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
    )


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
    along = pd.Index(names, name="experiment")
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


def units(dataset: xr.Dataset, names: tuple[str, ...]) -> xr.DataArray:
    """Unit of each observation as text, empty where none is known; dimension `observation`."""
    return xr.DataArray([str(dataset[name].attrs.get("units", "")) for name in names], dims="observation")


def observed(dataset: xr.Dataset, telemetry: Telemetry, name: str, unit: str | None = None) -> ObservedPoints:
    """The observations `name` of the telemetry, placed on the dataset's times.

    Times are joined where they are exactly equal: a join that rounds or drops would count wrong pairs. Values are
    converted to `unit`, by default to that of the forecast.

    Raises:
        InvalidTelemetry: An observation at a time that is not in the forecast, or in a unit of another dimension.
        InvalidInput: The forecast holds a time twice.
    """
    times = pd.Index(dataset["time"].to_numpy())
    if not times.is_unique:
        raise errors.InvalidInput(
            "The forecast holds a time twice.",
            expected="every time once",
            received=f"{said(times[times.duplicated()][0])} more than once",
            advice="Predict at each time once.",
        )
    if not telemetry.holds(name):
        return ObservedPoints(np.empty(0, dtype=int), np.empty(0))
    if "experiment" in dataset.coords:
        telemetry = counted(telemetry, dataset["experiment"])
    values = telemetry.in_unit(name, str(dataset[name].attrs.get("units", "")) if unit is None else unit)
    column = pd.Series(values, index=telemetry.table.index).dropna()
    positions = times.get_indexer(column.index)
    if np.any(positions < 0):
        strays = column.index[positions < 0]
        raise errors.InvalidTelemetry(
            f"`{name}` was observed at {strays[0]}, a time that is not in the forecast.",
            expected=f"times exactly equal to some of the forecast's {len(times)} ({_ends(times)})",
            received=f"{len(strays)} of {len(column)} observations at other times ({_ends(strays)})",
            advice="Predict at the times of this telemetry, or pass the part of it that was predicted.",
        )
    return ObservedPoints(positions, column.to_numpy(dtype=float))


def alone(tree: xr.DataTree) -> xr.DataTree:
    """One experiment taken out of a result, as the result of a telemetry that counts elapsed time."""

    def own(dataset: xr.Dataset) -> xr.Dataset:
        dataset = dataset.drop_vars("experiment", errors="ignore")
        return dataset.dropna("time", how="all") if "time" in dataset.dims and dataset.data_vars else dataset

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
    found = {name: observed(dataset, telemetry, name, known.get(name)) for name in names}
    require_some(found, telemetry)
    if "predictions" in tree.children and "observed_data" in tree.children:
        _refuse_calibrated(tree, labels(dataset), found)
    return found


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
                advice="Judge by what was held out: `telemetry.between(start=…)`. For the calibration's own data "
                "pass the posterior instead of a forecast.",
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
    end = last_known(tree)
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
