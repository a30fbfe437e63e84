"""How far a forecast lies from what was observed: errors, proper scores, and skill against simple methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.draws import flat
from bayestwin.assess.grouping import BinEdges, By, grouped
from bayestwin.assess.intervals import checked_prob
from bayestwin.telemetry.times import at

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


# What simple methods would have predicted: the last value, that of a period earlier, a regression on the inputs.

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
            "`period` says after which time observations repeat themselves.",
            expected="a positive number, in the twin's unit of time, and `past` to take them from",
            received=f"{period}, and {'no `past`' if past is None else '`past`'}",
            advice="For a day in seconds pass `period=86400`.",
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
        if period is not None and draws.ANEW not in tree.attrs:
            ahead = draws.since(tree, draws.labels(dataset)[members], until)
            before = draws.since(tree, times[rows], until)
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
    if draws.ANEW in tree.attrs:  # nothing is known before it
        return np.full(dataset.sizes["time"], np.nan)
    return np.full(dataset.sizes["time"], last_observed(tree, name, dataset["time"].to_numpy().min()))


def _calibrations(tree: xr.DataTree, dataset: xr.Dataset) -> list[tuple[np.ndarray, object, object]]:
    """By calibration: mask of the points that it predicts, shape (time,), its first and its last time."""
    if "origin" not in dataset.coords:
        end = draws.last_known(tree)
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
    driven = flat(tree["predictions_constant_data"].to_dataset())
    times, own = (pd.Index(one["time"].to_numpy()) for one in (dataset, driven))
    found = {
        str(name): (str(values.attrs.get("units", "")), at(values.to_numpy(), times, own))
        for name, values in driven.data_vars.items()
        if name in past.table and bool(past.table[name].notna().to_numpy().all())
    }
    return {name: one for name, one in found.items() if np.isfinite(one[1]).all()}


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


class Judged(NamedTuple):
    """One observation as it was predicted and observed, at n points.

    Attributes:
        ensemble: Predictive draws, shape (n, samples).
        values: What was observed, shape (n,).
        baselines: What simple methods predicted, by name, shape (n,) each.
        paths: Number of the forecast that each point belongs to, shape (n,).
    """

    ensemble: np.ndarray
    values: np.ndarray
    baselines: Mapping[str, np.ndarray]
    paths: np.ndarray


def scores(
    forecast: xr.DataTree,
    telemetry: Telemetry | Mapping[str, Telemetry] | None = None,
    *,
    prob: float | Sequence[float] | None = None,
    past: Telemetry | Mapping[str, Telemetry] | None = None,
    period: float | None = None,
    by: By = None,
    bins: BinEdges = None,
) -> xr.Dataset:
    """Scores of a forecast on held-out telemetry, by observation; smaller is better but for `skill`.

    The point forecast is the mean of the predictive draws for `rmse` and their median for `mae` and `mape`.
    `mape` leaves out observations that are zero, where a relative error has no meaning. `crps` judges all
    draws at once (see `crps`); without any spread it would equal `mae`. `energy` does so with the draws of a whole
    forecast, which it takes for one path (see `energy`); it is the mean over the forecasts of a backtest.

    The baseline holds the last value observed before the forecast starts, from the group `observed_data`;
    NaN where there is none. `skill` = 1 - rmse / persistence_rmse: 1 is perfect, 0 as good as the baseline.

    Args:
        forecast: What `predict` or `backtest` returned.
        telemetry: Held-out observations; NaN is missing and does not count. Of several experiments those of each, by
            its name. A backtest has its own.
        prob: Nominal probabilities for which intervals are scored.
        past: What was calibrated, for more baselines; of a backtest the whole telemetry, of which each origin is given
            what its calibration had.
        period: Time after which observations repeat themselves, in the twin's unit of time, for the baseline that takes
            the value of one or more periods earlier.
        by: What to tell apart, see `coverage`.
        bins: See `coverage`.

    Returns:
        All with dimension (observation): `num` (observations compared), `mape` in percent, `skill`, and in
        the unit of the coordinate `units` `rmse`, `mae`, `crps`, `persistence_rmse`, `persistence_mae`, `energy`; NaN
        where there is nothing to compare. Draws that are not there are left out (of `energy` those that are not there
        to the end of the path), `failed` is then their mean share, and an observation at whose time there is none is
        not compared. With `prob` also, with
        dimensions (observation, prob), `width` (mean width: sharpness) and `interval_score` of equal-tailed intervals.
        With `past` also `linear_rmse`, `linear_mae`, `linear_skill` (least squares on the inputs of the same time), and
        with `period` `seasonal_rmse`, `seasonal_mae`, `seasonal_skill`. Several experiments are a first dimension, then
        what `by` names.

    Raises:
        InvalidSetting: `prob`, `by`, `bins` or `period` has no meaning.
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    levels = np.empty(0) if prob is None else checked_prob(prob)

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        group, dataset = draws.predictive(tree)
        pairs = draws.pairs(tree, dataset, one)
        own = past[str(dataset["experiment"].item())] if isinstance(past, Mapping) else past
        # the points of one forecast are one path; those of a backtest start anew at each origin
        starts = dataset["origin"].to_numpy() if "origin" in dataset.coords else np.zeros(dataset.sizes["time"])
        paths = np.unique(starts, return_inverse=True)[1]
        table, failed = {}, {}
        for name, pair in pairs.items():
            simple = baselines(tree, dataset, name, own, period)
            simple = {word: values[pair.positions] for word, values in simple.items()}
            ensemble = draws.samples(dataset, name)[pair.positions]
            table[name] = Judged(ensemble, pair.values, simple, paths[pair.positions])
            failed[name] = draws.share_failed(ensemble)
        marks = {name: pair.positions for name, pair in pairs.items()}
        units = draws.units(dataset, tuple(pairs))

        def scored(keep: np.ndarray) -> xr.Dataset:
            rows = [_row(_part(one, keep[marks[name]] & (failed[name] < 1)), levels) for name, one in table.items()]
            found = {score: (_dims(rows[0][score]), np.array([row[score] for row in rows])) for score in rows[0]}
            made = xr.Dataset(
                {score: (dims, values, _attrs(score)) for score, (dims, values) in found.items()},
                coords={"observation": list(table), "units": units} | ({"prob": levels} if levels.size else {}),
                attrs={"group": group},
            )
            return draws.with_mean_failed(made, {name: failed[name][keep[marks[name]]] for name in table})

        return scored

    return grouped(judge, forecast, telemetry, by, bins)


_ATTRS = {
    "num": {"long_name": "observations compared"},
    "rmse": {"long_name": "root mean square error of the predictive mean"},
    "mae": {"long_name": "mean absolute error of the predictive median"},
    "mape": {"long_name": "mean absolute relative error of the predictive median", "units": "%"},
    "crps": {"long_name": "continuous ranked probability score, fair version"},
    "energy": {"long_name": "energy score of whole forecasts, per square root of their length, fair version"},
    "skill": {"long_name": "1 - rmse / persistence_rmse"},
    "width": {"long_name": "mean width of the equal-tailed intervals"},
    "interval_score": {"long_name": "interval score of the equal-tailed intervals"},
}
_BASELINES = {
    "persistence": "the last value before the forecast",
    "seasonal": "the value of one or more periods earlier",
    "linear": "a linear regression on the inputs",
}


def _attrs(score: str) -> dict[str, str]:
    baseline, _, kind = score.partition("_")
    if baseline not in _BASELINES:
        return _ATTRS[score]
    words = {"rmse": "root mean square error of", "mae": "mean absolute error of", "skill": "1 - rmse / that of"}
    return {"long_name": f"{words[kind]} {_BASELINES[baseline]}"}


def _dims(value: float | np.ndarray) -> tuple[str, ...]:
    return ("observation", "prob")[: 1 + np.ndim(value)]


def _part(judged: Judged, keep: np.ndarray) -> Judged:
    """The points in a mask, shape (n,)."""
    simple = {word: values[keep] for word, values in judged.baselines.items()}
    return Judged(judged.ensemble[keep], judged.values[keep], simple, judged.paths[keep])


def _row(judged: Judged, levels: np.ndarray) -> dict[str, float | np.ndarray]:
    """Scores of one observation."""
    table, values = judged.ensemble, judged.values
    there = functools.partial(draws.of_those_there, table)
    median = there(lambda some, _: np.median(some, axis=-1)) if table.size else np.empty(0)
    relative = np.abs((median - values)[values != 0] / values[values != 0])
    rmse = _root_mean_square(there(lambda some, _: some.mean(axis=-1)) - values)
    row: dict[str, float | np.ndarray] = {
        "num": values.size,
        "rmse": rmse,
        "mae": _mean(np.abs(median - values)),
        "mape": 100 * _mean(relative),
        "crps": _mean(there(lambda some, rows: crps(some, values[rows]))),
    }
    for word, predicted in judged.baselines.items():
        baseline = _root_mean_square(predicted - values)
        row[f"{word}_rmse"] = baseline
        row[f"{word}_mae"] = _mean(np.abs(predicted - values))
        # the skill against persistence is the one that is meant where nothing else is said
        row["skill" if word == "persistence" else f"{word}_skill"] = 1 - rmse / baseline if baseline > 0 else np.nan
    parts = [judged.paths == path for path in np.unique(judged.paths)]
    row["energy"] = _mean(np.array([energy(_whole(table[part]), values[part]) for part in parts]))
    if levels.size:
        tails = np.concatenate([(1 - levels) / 2, (1 + levels) / 2])
        ends = (
            there(lambda some, _: np.quantile(some, tails, axis=-1).T).T
            if table.size
            else np.empty((2 * levels.size, 0))
        )
        lower, upper = np.split(ends, 2)
        row["width"] = _mean_of_rows(upper - lower)
        row["interval_score"] = _mean_of_rows(interval_score(lower, upper, values, levels))
    return row


def _whole(table: np.ndarray) -> np.ndarray:
    """The draws (n, samples) that are there to the end of their path."""
    lost = np.isnan(table).any(axis=0)
    return table[:, ~lost] if lost.any() else table


def _mean_of_rows(table: np.ndarray) -> np.ndarray:
    return table.mean(axis=-1) if table.shape[-1] else np.full(len(table), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(_mean(np.square(values))))


# Proper scoring rules of predictive draws and intervals: smaller is better, and honesty is best.


def crps(ensemble: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of an ensemble, fair version.

    `crps = mean_i |x_i - y| - Σ_i Σ_j |x_i - x_j| / (2 m (m - 1))`, with the double sum from sorted draws in
    O(m log m). Fair: its expectation does not depend on m, so that forecasts with few and many draws compare
    (Ferro 2014, doi:10.1002/qj.2270; estimators: Zamo & Naveau 2018, doi:10.1007/s11004-017-9709-7).

    Args:
        ensemble: Predictive draws, shape (n, m).
        values: What was observed, shape (n,).

    Returns:
        The score of each observation, shape (n,), in its unit; NaN where a draw is NaN or m < 2.
    """
    size = ensemble.shape[-1]
    if size < 2:
        return np.full(values.shape, np.nan)
    # Relative to the observation: the weights below sum to zero, and large levels would cost digits.
    error = np.sort(ensemble - values[:, None], axis=-1)
    weights = 2 * np.arange(1, size + 1) - size - 1
    return np.abs(error).mean(axis=-1) - error @ weights / (size * (size - 1))


def energy(ensemble: np.ndarray, values: np.ndarray) -> float:
    """Energy score of draws of a whole path, fair version, divided by the square root of its length.

    `energy = (mean_i ‖x_i - y‖ - Σ_i Σ_j ‖x_i - x_j‖ / (2 m (m - 1))) / √n`: of one time it is the CRPS; of several it
    also judges whether draws move together as observations do (Gneiting & Raftery 2007,
    doi:10.1198/016214506000001437).

    Args:
        ensemble: Predictive draws of a path, shape (n, m).
        values: What was observed, shape (n,).

    Returns:
        The score, in the unit of the observation; NaN where a draw is NaN, m < 2 or n = 0.
    """
    length, size = ensemble.shape
    if size < 2 or length == 0:
        return float("nan")
    error = ensemble - values[:, None]
    products = error.T @ error
    squares = np.diag(products)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0))
    spread = (apart.sum() - np.trace(apart)) / (2 * size * (size - 1))
    return float((np.sqrt(squares).mean() - spread) / np.sqrt(length))


def interval_score(lower: np.ndarray, upper: np.ndarray, values: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """Interval score: the width of a central interval, and what it misses times 2 / (1 - prob).

    Gneiting & Raftery 2007, doi:10.1198/016214506000001437, section 6.2.

    Args:
        lower: Lower ends, shape (prob, n).
        upper: Upper ends, shape (prob, n).
        values: What was observed, shape (n,).
        prob: Nominal probabilities, shape (prob,).

    Returns:
        The score of each, shape (prob, n), in the unit of the observation.
    """
    missed = np.maximum(lower - values, 0.0) + np.maximum(values - upper, 0.0)
    return upper - lower + 2.0 / (1.0 - prob)[:, None] * missed
