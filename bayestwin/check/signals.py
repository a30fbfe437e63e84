"""Telemetry as the checks see it: signals in order of time, with the rows that a finding names.

Also what is made of them to look at: a record on even steps, and what is new in a signal, given its past and the
inputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding, Severity, place, where
from bayestwin.telemetry import Zone
from bayestwin.telemetry.times import counted

ORDINARY = (0.5, 1.5)
"""Steps within these multiples of the usual one are ordinary: what is said of neighbours is said across these."""


class Signal(NamedTuple):
    """One column.

    Attributes:
        name: The column.
        unit: Its unit; empty where it is not known.
        role: What it is to the twin.
        values: NaN is missing; shape (n,).
        times: The user's times; shape (n,).
        clock: The same as numbers: seconds for dates, else the user's own; shape (n,).
        first: What the first row is counted as.
        time_unit: Unit of times that are numbers.
        zone: In which times that are dates are shown.
        label: What sentences call it; by default its name.
    """

    name: str
    unit: str
    role: Literal["observation", "input"]
    values: np.ndarray
    times: pd.Index
    clock: np.ndarray
    first: int = 1
    time_unit: str = ""
    zone: Zone = None
    label: str = ""

    @property
    def called(self) -> str:
        """What sentences call it."""
        return self.label or f"`{self.name}`"

    @property
    def present(self) -> np.ndarray:
        """Rows that hold a value."""
        return np.flatnonzero(np.isfinite(self.values))

    @property
    def span(self) -> float:
        """Difference of the largest and the smallest value; 0 without values."""
        there = self.values[self.present]
        return float(np.ptp(there)) if there.size else 0.0

    def amount(self, value: float) -> str:
        """A number with the signal's unit."""
        return f"{value:.4g} {self.unit}".strip().replace("-", "\N{MINUS SIGN}", int(value < 0.0))

    def finding(
        self, kind: str, severity: Severity, rows: np.ndarray, words: str, advice: str = "", **evidence: Any
    ) -> Finding:
        """A finding on some rows, counted from 0: "`indoor` <words> (rows 7 to 9). <advice>"."""
        found = place(rows, self.times, self.first, self.zone)
        start, end = found["times"]
        moment = f"at {start}" if start == end else f"{start} to {end}"
        moment += f" {self.time_unit}" if self.time_unit else ""
        sentence = f"{self.called} {words} ({where(found)}; {moment}). {advice}".strip()
        return Finding(kind, severity, self.name, sentence, found | evidence)


class SignalRecord(NamedTuple):
    """All signals of a record in order of time, and how many of its rows are calibrated."""

    signals: tuple[Signal, ...]
    times: pd.Index
    clock: np.ndarray
    calibrated: int
    first: int = 1
    time_unit: str = ""
    zone: Zone = None

    @property
    def inputs(self) -> tuple[Signal, ...]:
        """Those that drive the twin."""
        return tuple(one for one in self.signals if one.role == "input")

    @property
    def observations(self) -> tuple[Signal, ...]:
        """Those that the twin predicts."""
        return tuple(one for one in self.signals if one.role == "observation")

    def has(self, column: str) -> bool:
        """Whether a column has values."""
        return any(one.name == column and one.present.size > 0 for one in self.signals)


def record_of(
    table: pd.DataFrame,
    observations: Sequence[str],
    inputs: Sequence[str],
    units: Mapping[str, str],
    *,
    calibrated: int | None = None,
    first: int = 1,
    time_unit: str = "",
    zone: Zone = None,
    labels: Mapping[str, str] | None = None,
) -> SignalRecord:
    """The signals of a table, in order of time."""
    table = table.sort_index(kind="stable")
    clock = numbers_of(table.index)
    time_unit = "" if isinstance(table.index, pd.DatetimeIndex) else time_unit

    def signal(name: str, role: Literal["observation", "input"]) -> Signal:
        values = table[name].to_numpy(np.float64)
        unit, label = units.get(name, ""), (labels or {}).get(name, "")
        return Signal(name, unit, role, values, table.index, clock, first, time_unit, zone, label)

    found = [*(signal(name, "observation") for name in observations), *(signal(name, "input") for name in inputs)]
    calibrated = len(table) if calibrated is None else calibrated
    return SignalRecord(tuple(found), table.index, clock, calibrated, first, time_unit, zone)


def numbers_of(times: pd.Index) -> np.ndarray:
    """Times as numbers: seconds since the first for dates, else what they are; shape (n,)."""
    numbers = counted(times)
    if isinstance(times, pd.DatetimeIndex):
        return (numbers - numbers[:1]).astype(np.float64) * 1e-9
    return numbers


def lasting(of: Signal | SignalRecord, step: float) -> str:
    """A span of time in words: of dates in the two largest units that it has, such as 6 h 15 min."""
    if not isinstance(of.times, pd.DatetimeIndex):
        return f"{step:g} {of.time_unit}".strip()
    if step < 60.0:
        return f"{step:.3g} s"
    told, rest = [], round(step)
    for unit, seconds in {"d": 86_400, "h": 3_600, "min": 60, "s": 1}.items():
        whole, rest = divmod(rest, seconds)
        told += [f"{whole} {unit}"] if whole else []
    return " ".join(told[:2])


def percentage(share: float) -> str:
    """A share in words: 0.83 %, 12 %, 100 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def usual_step(clock: np.ndarray) -> float:
    """The median step; NaN where there is none."""
    steps = np.diff(clock)
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else float("nan")


def ordinary(clock: np.ndarray) -> np.ndarray:
    """Whether the step that leads to each row is an ordinary one; the first row has none; shape (n,)."""
    steps, usual = np.diff(clock), usual_step(clock)
    inside = (steps >= ORDINARY[0] * usual) & (steps <= ORDINARY[1] * usual)
    return np.r_[False, inside]


def runs_of(mask: np.ndarray) -> np.ndarray:
    """Stretches in which a mask is true, as rows (start, end), both inclusive; shape (k, 2)."""
    edges = np.diff(np.r_[0, mask.astype(np.int8), 0])
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1])


def robust_sd(values: np.ndarray) -> float:
    """Standard deviation by the median of absolute deviations from the median; NaN are left out."""
    there = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(there - np.median(there)))) if there.size else float("nan")


def is_switched(signal: Signal) -> bool:
    """Whether a signal jumps between few levels or mostly rests, as what is switched does."""
    there = signal.values[signal.present]
    if there.size < 2:
        return True
    rests = float(np.mean(np.diff(there) == 0))
    return np.unique(there).size <= max(5, 0.02 * there.size) or rests > 0.5


# A record on even steps, so that a lag in rows is a lag in time: values between neighbours, none in longer steps.

JITTER = 0.01
"""Steps within this share of the usual one are even already."""


class Even(NamedTuple):
    """A record on the grid of its usual step.

    Attributes:
        signals: With values (NaN where their neighbours are further apart than an ordinary step) and `clock` on the
            grid, where long steps are shortened; shape (g,) each.
        rows: The row at or before each time of the grid; shape (g,).
        since: Share of the record that has gone by; shape (g,).
    """

    signals: tuple[Signal, ...]
    rows: np.ndarray
    since: np.ndarray


def evenly(record: SignalRecord, longest: int) -> Even | None:
    """The record on even steps; None where it has none.

    What is switched keeps its last value between two rows, everything else goes straight from one to the other.

    Args:
        record: In order of time.
        longest: Steps without values that a long one becomes at most: where nothing is known, a day is as good as a
            year.
    """
    usual, clock = usual_step(record.clock), record.clock
    if not np.isfinite(usual):
        return None
    since = (clock - clock[0]) / (clock[-1] - clock[0])
    steps = np.diff(clock) / usual
    if np.all(np.abs(steps - 1.0) <= JITTER):
        return Even(record.signals, np.arange(clock.size), since)
    # whole steps stay whole, so that rows on a grid with gaps stay on it
    own = np.r_[0.0, np.cumsum(np.where(steps > longest, longest + steps % 1.0, steps))]
    at = np.arange(int(own[-1] + JITTER) + 1)
    rows = np.clip(np.searchsorted(own, at + JITTER, "right") - 1, 0, clock.size - 1)
    grid = clock[0] + usual * at
    signals = tuple(one._replace(values=_values(one, own, at), clock=grid) for one in record.signals)
    return Even(signals, rows, np.interp(at, own, since))


def _values(signal: Signal, own: np.ndarray, at: np.ndarray) -> np.ndarray:
    """One signal on the grid; shape (g,)."""
    there = signal.present
    if there.size < 2:
        return np.full(at.size, np.nan)
    times, values = own[there], signal.values[there]
    before = np.clip(np.searchsorted(times, at + JITTER, "right") - 1, 0, there.size - 1)
    after = np.clip(np.searchsorted(times, at - JITTER, "left"), 0, there.size - 1)
    known = (times[before] <= at + JITTER) & (times[after] >= at - JITTER)
    known &= times[after] - times[before] <= ORDINARY[1]
    between = values[before] if is_switched(signal) else np.interp(at, times, values)
    return np.where(known, between, np.nan)


# What is new in a signal: the residual of a linear prediction from its own past and from the inputs.
#
# Honest dynamics of an asset are in the prediction; what is done to it, or to the sensor, from outside is not.

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
