"""Features of a column's own past: lags, differences and rates, and statistics over a window of time."""

import dataclasses
from typing import Literal

import numpy as np

from bayestwin._base.units import registry
from bayestwin.telemetry.derived import Column, Feature, Record, difference_unit

STATISTICS = ("mean", "min", "max", "std", "sum")


@dataclasses.dataclass(frozen=True)
class Lag(Feature):
    """The value of a column some time before: `x(t - by)`.

    Attributes:
        of: The column.
        by: How long before, `"1h"` for dates or a number for times that are numbers. Zero, with `max_age`,
            holds values.
        max_age: By how much the value may be older than `t - by`: the last that is not missing counts. By default it
            must have been recorded at that very time, and is NaN elsewhere.
    """

    of: str
    by: str | float
    max_age: str | float | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def waits(self, record: Record) -> int | float:
        """As long as the lag."""
        return record.length("by", self.by, zero=True)

    def compute(self, record: Record) -> Column:
        """As declared."""
        before = _before(record, self.of, self.waits(record), self.max_age)
        return Column(before[0], record.units.get(self.of))


@dataclasses.dataclass(frozen=True)
class Difference(Feature):
    """What a column has changed by since some time before: `x(t) - x(t - over)`, or that per time.

    Attributes:
        of: The column.
        over: How long before, as in `Lag`.
        max_age: As in `Lag`.
        per: Unit of time of a rate of change, such as `"h"`; None for the difference. The time that has really passed
            counts.
    """

    of: str
    over: str | float
    max_age: str | float | None = None
    per: str | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: Record) -> Column:
        """As declared."""
        over = record.length("over", self.over)
        before, age = _before(record, self.of, over, self.max_age)
        change, unit = record.values(self.of) - before, difference_unit(record.units.get(self.of))
        if self.per is None:
            return Column(change, unit)
        own = "ns" if record.dated else record.units.get("time")
        try:
            if own is None:
                record.refuse(
                    "is a rate, and the unit of the times is not stated.",
                    expected="`units={'time': 'h'}` where telemetry is read, since its times are numbers",
                    received="none",
                    advice="State it even if it is the twin's.",
                )
            passed = registry().Quantity(age, own).to(self.per).magnitude
        except (ValueError, AttributeError, TypeError) as reason:  # of pint, for what is no unit, or none of time
            record.refuse(
                "has no unit of time for `per`.", "`s`, `h` or the like", f"{self.per!r}: {reason}", "Correct it."
            )
        rate = None if unit is None else str(registry().parse_units(unit) / registry().parse_units(self.per))
        return Column(change / passed, rate)


@dataclasses.dataclass(frozen=True)
class Rolling(Feature):
    """A statistic of a column over the samples in `(t - window, t]`, each counted once whatever lies between them.

    It is NaN until the record covers a whole window.

    Attributes:
        of: The column.
        window: Length of time, `"6h"` for dates or a number for times that are numbers.
        statistic: `"mean"`, `"min"`, `"max"`, `"std"` (of a sample, with n - 1) or `"sum"`.
        missing: `"nan"`: one missing value in the window makes it NaN; `"skip"`: those that are there count.
        side: At which end of the window t lies: nothing but `"right"`, since other windows look ahead.
    """

    of: str
    window: str | float
    statistic: Literal["mean", "min", "max", "std", "sum"] = "mean"
    missing: Literal["nan", "skip"] = "nan"
    side: Literal["right"] = "right"

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: Record) -> Column:
        """As declared."""
        if self.side != "right":
            record.refuse(
                "looks ahead: its window reaches beyond the time that it stands for.",
                expected="`side='right'`: at time t the window (t - window, t]",
                received=f"`side={self.side!r}`",
                advice="Centred windows use what is not known yet: leave `side` out.",
            )
        if self.statistic not in STATISTICS or self.missing not in ("nan", "skip"):
            record.refuse(
                "has no such statistic.",
                expected=f"`statistic` one of {', '.join(STATISTICS)}, and `missing` one of nan, skip",
                received=f"{self.statistic!r}, {self.missing!r}",
                advice="Correct it.",
            )
        values, times, window = record.values(self.of), record.times, record.length("window", self.window)
        slack = record.slack(window)
        low = np.searchsorted(times, times - window + slack, "right")
        high = np.arange(1, times.size + 1)
        there = np.isfinite(values)
        before = np.append(0, np.cumsum(there))  # samples before each row, to count in those that are there alone
        first, last = before[low], before[high]
        least = 2 if self.statistic == "std" else 1
        told = (last - first >= least) & (times - window >= times[0] - slack)
        if self.missing == "nan":
            told &= last - first == high - low
        found = np.where(told, _over(values[there], first, last, told, self.statistic), np.nan)
        unit = record.units.get(self.of)
        return Column(found, difference_unit(unit) if self.statistic == "std" else unit)


def _before(record: Record, column: str, by: int | float, max_age: str | float | None) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column some time before, and how long before t they were recorded; shape (n,) each."""
    reach = 0 if max_age is None else record.length("max_age", max_age, zero=True)
    values, times = record.values(column), record.times
    there = np.isfinite(values)
    if not there.any():
        return np.full(times.size, np.nan), np.full(times.size, np.nan)
    known, slack = times[there], record.slack(by + reach)
    row = np.searchsorted(known, times - by + slack, "right") - 1
    age = times - known[row.clip(0)]
    found = (row >= 0) & (age <= by + reach + slack)
    return np.where(found, values[there][row.clip(0)], np.nan), np.where(found, age, np.nan)


def _over(values: np.ndarray, first: np.ndarray, last: np.ndarray, told: np.ndarray, statistic: str) -> np.ndarray:
    """A statistic of `values[first:last]` for each pair of limits; only where `told` it means something; shape (n,)."""
    if statistic == "std":
        found = np.full(first.size, np.nan)
        for row in np.flatnonzero(told):  # in one go it would take differences of large sums
            found[row] = values[first[row] : last[row]].std(ddof=1)
        return found
    reduce = {"min": np.minimum, "max": np.maximum}.get(statistic, np.add)
    # every second pair of limits is a window; a value at the end lets a limit lie there
    limits = np.stack([first, last], axis=1).ravel()
    found = reduce.reduceat(np.append(values, 0.0), limits)[::2]
    return found / np.maximum(last - first, 1) if statistic == "mean" else found
