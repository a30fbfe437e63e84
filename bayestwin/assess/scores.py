"""How far a forecast lies from what was observed: RMSE, MAE, MAPE, CRPS, and a persistence baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayestwin.assess import draws

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


def scores(forecast: xr.DataTree, telemetry: Telemetry | Mapping[str, Telemetry]) -> xr.Dataset:
    """Scores of a forecast on held-out telemetry, by observation; smaller is better but for `skill`.

    The point forecast is the mean of the predictive draws for `rmse` and their median for `mae` and `mape`.
    `mape` leaves out observations that are zero, where a relative error has no meaning. `crps` judges all
    draws at once (see the function `crps`); without any spread it would equal `mae`.

    The baseline holds the last value observed before the forecast starts, from the group `observed_data`;
    NaN where there is none. `skill` = 1 - rmse / persistence_rmse: 1 is perfect, 0 as good as the baseline.

    Args:
        forecast: What `predict` returned.
        telemetry: Held-out observations; NaN is missing and does not count. Of several experiments those of each, by
            its name.

    Returns:
        All with dimension (observation): `num` (observations compared), `mape` in percent, `skill`, and in
        the unit of the coordinate `units` `rmse`, `mae`, `crps`, `persistence_rmse`, `persistence_mae`; NaN
        where there is nothing to compare, or where a draw at an observed time is not finite. Several experiments are
        a first dimension.

    Raises:
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    if isinstance(telemetry, Mapping):
        return draws.of_each(forecast, telemetry, scores)
    group, dataset = draws.predictive(forecast)
    pairs = {name: draws.observed(dataset, telemetry, name) for name in draws.observations(dataset)}
    draws.require_some(pairs, telemetry)
    rows = []
    for name, pair in pairs.items():
        table = draws.samples(dataset, name)[pair.positions]
        last = last_observed(forecast, name, dataset["time"].to_numpy().min())
        rows.append(_row(table, pair.values, last))
    names = tuple(pairs)
    return xr.Dataset(
        {score: ("observation", [row[score] for row in rows], _ATTRS.get(score, {})) for score in rows[0]},
        coords={"observation": list(names), "units": draws.units(dataset, names)},
        attrs={"group": group},
    )


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


def last_observed(tree: xr.DataTree, name: str, start: np.generic) -> float:
    """Last value of an observation before `start` in the group `observed_data`; NaN where there is none."""
    if "observed_data" not in tree.children or name not in tree["observed_data"].data_vars:
        return float("nan")
    past = tree["observed_data"].to_dataset()[name].dropna("time")
    past = past.isel(time=np.flatnonzero(past["time"].to_numpy() < start)).sortby("time")
    return float(past[-1]) if past.size else float("nan")


_ATTRS = {
    "num": {"long_name": "observations compared"},
    "rmse": {"long_name": "root mean square error of the predictive mean"},
    "mae": {"long_name": "mean absolute error of the predictive median"},
    "mape": {"long_name": "mean absolute relative error of the predictive median", "units": "%"},
    "crps": {"long_name": "continuous ranked probability score, fair version"},
    "persistence_rmse": {"long_name": "root mean square error of the last value before the forecast"},
    "persistence_mae": {"long_name": "mean absolute error of the last value before the forecast"},
    "skill": {"long_name": "1 - rmse / persistence_rmse"},
}


def _row(table: np.ndarray, values: np.ndarray, last: float) -> dict[str, float]:
    """Scores of one observation: draws (n, samples), values (n,), and the persistence forecast."""
    median = np.median(table, axis=-1) if table.size else np.empty(0)
    relative = np.abs((median - values)[values != 0] / values[values != 0])
    rmse = _root_mean_square(table.mean(axis=-1) - values)
    baseline = _root_mean_square(last - values)
    return {
        "num": values.size,
        "rmse": rmse,
        "mae": _mean(np.abs(median - values)),
        "mape": 100 * _mean(relative),
        "crps": _mean(crps(table, values)),
        "persistence_rmse": baseline,
        "persistence_mae": _mean(np.abs(last - values)),
        "skill": 1 - rmse / baseline if baseline > 0 else float("nan"),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(_mean(np.square(values))))
