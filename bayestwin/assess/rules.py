"""Proper scoring rules of predictive draws and intervals: smaller is better, and honesty is best."""

from __future__ import annotations

import numpy as np


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
