"""Telemetry as the checks see it: one signal at a time, in order of time, with the rows that a finding names."""

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
        return f"{value:.4g} {self.unit}".strip()

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


class Record(NamedTuple):
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
) -> Record:
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
    return Record(tuple(found), table.index, clock, calibrated, first, time_unit, zone)


def numbers_of(times: pd.Index) -> np.ndarray:
    """Times as numbers: seconds since the first for dates, else what they are; shape (n,)."""
    numbers = counted(times)
    if isinstance(times, pd.DatetimeIndex):
        return (numbers - numbers[:1]).astype(np.float64) * 1e-9
    return numbers


def lasting(of: Signal | Record, step: float) -> str:
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
