"""What is new in a signal: the residual of a linear prediction from its own past and from the inputs.

Honest dynamics of an asset are in the prediction; what is done to it, or to the sensor, from outside is not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bayestwin.check.signals import Signal, ordinary, robust_sd

ORDER = 2
"""How many own values before are used."""

HUBER = 1.5
ROUNDS = 10


class Innovations(NamedTuple):
    """The residual of `y_t = c + Σ a_i y_(t−i) + Σ b_ij u_j,(t−i) + e_t`.

    Attributes:
        residual: e, NaN where it cannot be computed; shape (n,).
        weights: a; shape (order,).
        sd: Robust standard deviation of e.
        design: What y is regressed on, where e is known; shape (k, terms).
    """

    residual: np.ndarray
    weights: np.ndarray
    sd: float
    design: np.ndarray


def innovations(signal: Signal, inputs: Sequence[Signal] = (), order: int = ORDER) -> Innovations | None:
    """Estimate the linear prediction by Huber's M-estimator, across ordinary steps alone; None where there are too few.

    Args:
        signal: What is predicted.
        inputs: What drives it; those that never change are left out.
        order: How many own values before are used.
    """
    moving = [one for one in inputs if one.span > 0]
    lags = range(1, order + 1)
    past = np.column_stack([shifted(signal.values, lag) for lag in lags])
    drive = [shifted(one.values, lag) for one in moving for lag in range(order)]
    design = np.column_stack([np.ones(signal.values.size), past, *drive])
    steady = ordinary(signal.clock)
    usable = np.isfinite(design).all(axis=1) & np.isfinite(signal.values)
    for lag in range(order):
        usable &= shifted(steady.astype(float), lag) == 1.0
    if usable.sum() < max(30, 4 * design.shape[1]):
        return None
    rows, target = design[usable], signal.values[usable]
    size = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    coefficients = _huber(rows / size, target) / size
    residual = np.full(signal.values.size, np.nan)
    residual[usable] = target - rows @ coefficients
    sd = robust_sd(residual)
    return Innovations(residual, coefficients[1 : order + 1], max(sd, _resolution(signal)), rows / size)


def shifted(values: np.ndarray, lag: int) -> np.ndarray:
    """Values of `lag` rows before; NaN where there are none."""
    return np.r_[np.full(lag, np.nan), values][: values.size]


def _huber(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Iteratively reweighted least squares; doi:10.1214/aoms/1177703732."""
    weights = np.ones(target.size)
    found = np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(rows * root[:, None], target * root, rcond=None)[0]
        residual = target - rows @ found
        size = robust_sd(residual)
        if not size > 0:
            break
        weights = np.minimum(1.0, HUBER * size / np.maximum(np.abs(residual), 1e-300))
    return found


def _resolution(signal: Signal) -> float:
    """What rounding alone adds to a residual: no innovation is known more precisely than that."""
    steps = np.abs(np.diff(signal.values[signal.present]))
    moved = steps[steps > 1e-9 * max(signal.span, 1e-300)]
    return float(moved.min()) / np.sqrt(12.0) if moved.size else 0.0
