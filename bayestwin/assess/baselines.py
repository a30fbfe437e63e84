"""What simple methods would have predicted: the last value, that of a period earlier, a regression on the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws, points
from bayestwin.assess.origins import flat

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

LAST = "_last"
"""In the group `origins` of a backtest: an observation's last value that was known to the calibration."""


def baselines(
    tree: xr.DataTree, dataset: xr.Dataset, name: str, past: Telemetry | None, period: float | None
) -> dict[str, np.ndarray]:
    """Predictions of one observation by simple methods, from what the calibration knew and nothing after it.

    Args:
        tree: A forecast or a backtest.
        dataset: Its predictive draws, along points.
        name: The observation.
        past: Telemetry with what was calibrated; without it there is persistence alone.
        period: Time after which observations repeat themselves, in the twin's unit; without it no `seasonal`.

    Returns:
        `persistence`, `seasonal` and `linear`, shape (time,) each, in the unit of the observation; NaN where a method
        has nothing to go by.

    Raises:
        InvalidSetting: `period` is not positive, or there is no `past` to take values from.
    """
    if period is not None and not (period > 0 and past is not None):
        raise errors.InvalidSetting(
            errors.explain(
                "`period` says after which time observations repeat themselves.",
                expected="a positive number, in the twin's unit of time, and `past` to take them from",
                received=f"{period}, and {'no `past`' if past is None else '`past`'}",
                advice="For a day in seconds pass `period=86400`.",
            )
        )
    found = {"persistence": _persistence(tree, dataset, name)}
    if past is None:
        return found
    if "experiment" in dataset.coords:
        past = draws.counted(past, dataset["experiment"])
    inputs = _inputs(tree, dataset, past)
    size = dataset.sizes["time"]
    found |= {"linear": np.full(size, np.nan)} | ({} if period is None else {"seasonal": np.full(size, np.nan)})
    for members, since, until in _calibrations(tree, dataset):
        times = past.table.index
        rows = np.ones(len(times), dtype=bool) if since is None else np.asarray(times >= since)
        rows &= np.asarray(times <= until)
        known = past.in_unit(name, str(dataset[name].attrs.get("units", ""))) if name in past.table else None
        if known is None or not (rows := rows & np.isfinite(known)).any():
            continue
        if period is not None:
            ahead = points.since(tree, points.labels(dataset)[members], until)
            before = points.since(tree, times[rows], until)
            found["seasonal"][members] = _seasonal(before, known[rows], ahead, period)
        if inputs:
            seen = np.column_stack([np.ones(rows.sum()), *(past.in_unit(n, u)[rows] for n, (u, _) in inputs.items())])
            asked = np.column_stack([np.ones(members.sum()), *(values[members] for _, values in inputs.values())])
            found["linear"][members] = asked @ np.linalg.lstsq(seen, known[rows])[0]
    return found


def last_observed(tree: xr.DataTree, name: str, start: np.generic) -> float:
    """Last value of an observation before `start` in the group `observed_data`; NaN where there is none."""
    if "observed_data" not in tree.children or name not in tree["observed_data"].data_vars:
        return float("nan")
    past = tree["observed_data"].to_dataset()[name].dropna("time")
    past = past.isel(time=np.flatnonzero(past["time"].to_numpy() < start)).sortby("time")
    return float(past[-1]) if past.size else float("nan")


def _persistence(tree: xr.DataTree, dataset: xr.Dataset, name: str) -> np.ndarray:
    if "origin" in dataset.coords:
        last = tree["origins"][f"{name}{LAST}"].to_series()
        return np.asarray(last.reindex(dataset["origin"].to_numpy()), dtype=float)
    return np.full(dataset.sizes["time"], last_observed(tree, name, dataset["time"].to_numpy().min()))


def _calibrations(tree: xr.DataTree, dataset: xr.Dataset) -> list[tuple[np.ndarray, object, object]]:
    """By calibration: mask of the points that it predicts, shape (time,), its first and its last time."""
    if "origin" not in dataset.coords:
        end = points.last_known(tree)
        return [] if end is None else [(np.ones(dataset.sizes["time"], dtype=bool), None, end)]
    table = tree["origins"].to_dataset()
    found = []
    for origin in np.unique(dataset["origin"].to_numpy()):
        own = table.sel(origin=origin)
        members = dataset["origin"].to_numpy() == origin
        found.append((members, own["calibrated_from"].to_numpy()[()], own["calibrated_until"].to_numpy()[()]))
    return found


def _inputs(tree: xr.DataTree, dataset: xr.Dataset, past: Telemetry) -> dict[str, tuple[str, np.ndarray]]:
    """Unit and values at the points of each input that is known throughout, before and then."""
    if "predictions_constant_data" not in tree.children:
        return {}
    driven = flat(tree["predictions_constant_data"].to_dataset()).reindex(time=dataset["time"])
    return {
        str(name): (str(values.attrs.get("units", "")), values.to_numpy())
        for name, values in driven.data_vars.items()
        if name in past.table and bool(np.isfinite(values).all()) and bool(past.table[name].notna().to_numpy().all())
    }


def _seasonal(before: np.ndarray, known: np.ndarray, ahead: np.ndarray, period: float) -> np.ndarray:
    """Values of as few whole periods earlier as are known, interpolated between observations.

    Args:
        before: Times of what is known, up to 0 where the calibration ends; shape (k,).
        known: Values there, shape (k,).
        ahead: Times asked for, after 0; shape (n,).
        period: In the same unit.
    """
    earlier = ahead - period * np.maximum(np.ceil(ahead / period - 1e-9), 1.0)
    return np.interp(earlier, before, known, left=np.nan, right=known[-1])
