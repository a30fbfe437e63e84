"""How far a forecast lies from what was observed: errors, proper scores, and skill against baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from bayestwin.assess import draws, points
from bayestwin.assess.baselines import baselines
from bayestwin.assess.grouping import Bins, By, grouped
from bayestwin.assess.intervals import checked_prob
from bayestwin.assess.rules import crps, energy, interval_score

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


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
    bins: Bins = None,
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
        where there is nothing to compare, or where a draw at an observed time is not finite. With `prob` also, with
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
        pairs = points.pairs(tree, dataset, one)
        own = past[str(dataset["experiment"].item())] if isinstance(past, Mapping) else past
        # the points of one forecast are one path; those of a backtest start anew at each origin
        starts = dataset["origin"].to_numpy() if "origin" in dataset.coords else np.zeros(dataset.sizes["time"])
        paths = np.unique(starts, return_inverse=True)[1]
        table = {}
        for name, pair in pairs.items():
            simple = baselines(tree, dataset, name, own, period)
            simple = {word: values[pair.positions] for word, values in simple.items()}
            ensemble = draws.samples(dataset, name)[pair.positions]
            table[name] = Judged(ensemble, pair.values, simple, paths[pair.positions])
        marks = {name: pair.positions for name, pair in pairs.items()}
        units = draws.units(dataset, tuple(pairs))

        def scored(keep: np.ndarray) -> xr.Dataset:
            rows = [_row(_part(one, keep[marks[name]]), levels) for name, one in table.items()]
            found = {score: (_dims(rows[0][score]), np.array([row[score] for row in rows])) for score in rows[0]}
            return xr.Dataset(
                {score: (dims, values, _attrs(score)) for score, (dims, values) in found.items()},
                coords={"observation": list(table), "units": units} | ({"prob": levels} if levels.size else {}),
                attrs={"group": group},
            )

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
    median = np.median(table, axis=-1) if table.size else np.empty(0)
    relative = np.abs((median - values)[values != 0] / values[values != 0])
    rmse = _root_mean_square(table.mean(axis=-1) - values)
    row: dict[str, float | np.ndarray] = {
        "num": values.size,
        "rmse": rmse,
        "mae": _mean(np.abs(median - values)),
        "mape": 100 * _mean(relative),
        "crps": _mean(crps(table, values)),
    }
    for word, predicted in judged.baselines.items():
        baseline = _root_mean_square(predicted - values)
        row[f"{word}_rmse"] = baseline
        row[f"{word}_mae"] = _mean(np.abs(predicted - values))
        # the skill against persistence is the one that is meant where nothing else is said
        row["skill" if word == "persistence" else f"{word}_skill"] = 1 - rmse / baseline if baseline > 0 else np.nan
    parts = [judged.paths == path for path in np.unique(judged.paths)]
    row["energy"] = _mean(np.array([energy(table[part], values[part]) for part in parts]))
    if levels.size:
        tails = np.concatenate([(1 - levels) / 2, (1 + levels) / 2])
        lower, upper = np.split(np.quantile(table, tails, axis=-1), 2) if table.size else np.empty((2, levels.size, 0))
        row["width"] = _mean_of_rows(upper - lower)
        row["interval_score"] = _mean_of_rows(interval_score(lower, upper, values, levels))
    return row


def _mean_of_rows(table: np.ndarray) -> np.ndarray:
    return table.mean(axis=-1) if table.shape[-1] else np.full(len(table), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(_mean(np.square(values))))
