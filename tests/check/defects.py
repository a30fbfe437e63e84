"""Defects to plant in real records: each with the kind of finding that is to name it, and with its rows."""

from collections.abc import Callable, Mapping

import numpy as np
from real_sets import RealSet

import bayestwin as bt
from bayestwin.check.signals import numbers_of, usual_step

type Planted = tuple[bt.Telemetry, str, np.ndarray, int]
"""Telemetry with a defect, the kind and the rows (from 1) to be found, and by how many rows their ends may be off."""


def replaced(telemetry: bt.Telemetry, name: str, values: np.ndarray) -> bt.Telemetry:
    return telemetry.with_table(telemetry.table.assign(**{name: values}))


def told_at(telemetry: bt.Telemetry, values: np.ndarray, steps: float | np.ndarray) -> np.ndarray:
    """The values of a sensor whose clock is wrong: at each time those of so many usual steps later."""
    clock = numbers_of(telemetry.table.index)
    return np.interp(clock + steps * usual_step(clock), clock, values)


def stuck(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start, length = values.size // 2, max(15, values.size // 40)
    values[start : start + length] = values[start]
    # the value before may be the same by chance
    return replaced(telemetry, one.observed, values), "stuck", np.arange(start, start + length) + 1, 2


def spike(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.array([0.21, 0.52, 0.77]) * values.size
    rows = rows.astype(int)
    values[rows] += 0.4 * np.ptp(values)
    return replaced(telemetry, one.observed, values), "spike", rows + 1, 0


def sentinel(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.array([11, values.size // 3, values.size // 3 + 1, values.size - 30])
    values[rows] = -999.0
    return replaced(telemetry, one.observed, values), "sentinel", rows + 1, 0


def gap(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = values.size // 2
    table = telemetry.table.drop(telemetry.table.index[start : start + 20])
    return telemetry.with_table(table), "gap", np.array([start, start + 1]), 0


def missing(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.arange(20) + values.size // 3
    values[rows] = np.nan
    return replaced(telemetry, one.observed, values), "gap", rows + 1, 0


def duplicate(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = values.size // 4
    kept = np.sort(np.r_[np.arange(values.size), np.arange(start, start + 4)])
    table = telemetry.table.iloc[kept]
    return telemetry.with_table(table), "duplicate", start + 2 * np.arange(1, 5), 0


def out_of_order(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    order = np.arange(values.size)
    at = int(0.4 * values.size)
    order[at : at + 2] = at + 1, at
    return telemetry.with_table(telemetry.table.iloc[order]), "out_of_order", np.array([at + 2]), 0


def clock_skew(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    half = values.size // 2
    values[half:] = told_at(telemetry, values, -8.0)[half:]
    # told to one of up to eight windows
    rows = np.arange(half, values.size) + 1
    return replaced(telemetry, one.observed, values), "clock_skew", rows, values.size // 16 + 1


def clock_early(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    early = replaced(telemetry, one.observed, told_at(telemetry, values, 10.0))
    clock = numbers_of(telemetry.table.index)
    known = clock <= clock[-1] - 10.0 * usual_step(clock)
    return early.with_table(early.table[known]), "clock_skew", np.arange(known.sum()) + 1, 0


def clock_drift(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    clock = numbers_of(telemetry.table.index)
    late = told_at(telemetry, values, -12.0 * (clock - clock[0]) / (clock[-1] - clock[0]))
    return replaced(telemetry, one.observed, late), "clock_drift", np.arange(values.size) + 1, 0


def unit_scale(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    return replaced(telemetry, one.observed, 1000.0 * values), "unit_scale", np.flatnonzero(values) + 1, 0


def saturation(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    limit = np.quantile(values, 0.9)
    clipped = np.minimum(values, limit)
    return replaced(telemetry, one.observed, clipped), "saturation", np.flatnonzero(values >= limit) + 1, 0


def quantisation(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    step = np.ptp(values) / 10.0
    coarse = np.round(values / step) * step
    return replaced(telemetry, one.observed, coarse), "quantisation", np.arange(values.size) + 1, 0


def level_shift(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = int(0.55 * values.size)
    values[start:] += one.shift * np.ptp(values)
    return replaced(telemetry, one.observed, values), "level_shift", np.array([start + 1]), 2


def out_of_range(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.arange(6) + int(0.7 * values.size)
    low, high = (one.limits[one.observed][end] for end in ("low", "high"))
    values[rows] = high + np.linspace(0.02, 0.05, 6) * (high - low)
    return replaced(telemetry, one.observed, values), "range", rows + 1, 0


DEFECTS: Mapping[str, Callable[[RealSet, bt.Telemetry, np.ndarray], Planted]] = {
    one.__name__: one
    for one in (
        stuck,
        spike,
        sentinel,
        gap,
        missing,
        duplicate,
        out_of_order,
        clock_skew,
        clock_early,
        clock_drift,
        unit_scale,
        saturation,
        quantisation,
        level_shift,
        out_of_range,
    )
}
