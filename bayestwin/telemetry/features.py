"""All features: of a column's own past, labels of what an asset was doing, and combinations of several columns."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pint

from bayestwin._base.units import check_unit, convert, difference_unit, registry
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.derived import (
    ALLOWED,
    Feature,
    FeatureColumn,
    RecordedColumns,
    evaluate,
    parse,
)
from bayestwin.telemetry.leakage import find_leak
from bayestwin.telemetry.record import said, time_in

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

    def waits(self, record: RecordedColumns) -> int | float:
        """As long as the lag."""
        return record.length("by", self.by, zero=True)

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        before = _before(record, self.of, self.waits(record), self.max_age)
        return FeatureColumn(before[0], record.units.get(self.of))


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

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        over = record.length("over", self.over)
        before, age = _before(record, self.of, over, self.max_age)
        change, unit = record.values(self.of) - before, difference_unit(record.units.get(self.of))
        if self.per is None:
            return FeatureColumn(change, unit)
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
        return FeatureColumn(change / passed, rate)


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

    def compute(self, record: RecordedColumns) -> FeatureColumn:
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
        return FeatureColumn(found, difference_unit(unit) if self.statistic == "std" else unit)


def _before(
    record: RecordedColumns, column: str, by: int | float, max_age: str | float | None
) -> tuple[np.ndarray, np.ndarray]:
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


# Labels of what an asset was doing, as numbers: bins of a signal, the hour or weekday, the state of a switch.

PARTS = {"hour": "hour", "weekday": "day_of_week", "month": "month"}
"""Names that pandas has for them."""


@dataclasses.dataclass(frozen=True)
class Bins(Feature):
    """In which bin a column lies: 0 below the first edge, k from the k-th edge on, NaN where the column is.

    Attributes:
        of: The column.
        edges: Increasing, in the unit of the column. Quantiles of the record would know its future: say numbers.
    """

    of: str
    edges: Sequence[float]

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        edges = np.asarray(self.edges, dtype=np.float64)
        if edges.ndim != 1 or not edges.size or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
            record.refuse("has no edges of bins.", "increasing numbers", repr(self.edges), "Correct `edges`.")
        values = record.values(self.of)
        return FeatureColumn(np.where(np.isfinite(values), np.searchsorted(edges, values, "right"), np.nan), "")


@dataclasses.dataclass(frozen=True)
class Calendar(Feature):
    """The hour (0 to 23), weekday (0 is Monday) or month (1 to 12) on the clock of a zone; known at any time ahead.

    Attributes:
        part: Which.
        timezone: The zone, such as `"Europe/Berlin"`.
    """

    part: Literal["hour", "weekday", "month"]
    timezone: str = "UTC"

    @property
    def made_of(self) -> tuple[str, ...]:
        """Of nothing but the time."""
        return ()

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        index = record.index
        if not isinstance(index, pd.DatetimeIndex) or self.part not in PARTS:
            expected = f"dates, and one of {', '.join(PARTS)}"
            record.refuse("is no part of a date.", expected, f"{index[0]!r} and `{self.part}`", "Correct it.")
        try:
            local = index.tz_localize("UTC").tz_convert(self.timezone)
        except Exception as reason:  # pandas, zoneinfo and dateutil each raise their own
            record.refuse("has no such time zone.", "`Europe/Berlin` or the like", f"{reason}", "Correct `timezone`.")
        return FeatureColumn(getattr(local, PARTS[self.part]).to_numpy().astype(np.float64), "")


@dataclasses.dataclass(frozen=True)
class Switch(Feature):
    """Whether something is on: 1 from where the column is above a limit until it is not, else 0.

    NaN where the column is missing, and before it was first clear which.

    Attributes:
        of: The column.
        above: The limit, in the unit of the column.
        below: Where that is lower, what is on stays on down to it (hysteresis).
    """

    of: str
    above: float
    below: float | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        below = self.above if self.below is None else self.below
        if not below <= self.above:
            received = f"above={self.above!r}, below={self.below!r}"
            record.refuse("goes off above where it goes on.", "`below` at most `above`", received, "Correct them.")
        values = record.values(self.of)
        on = values > self.above
        off = values <= below
        last = np.maximum.accumulate(np.where(on | off, np.arange(values.size), -1))
        told = (last >= 0) & np.isfinite(values)
        return FeatureColumn(np.where(told, on[last], np.nan), "")


# Features of several columns at one time, by an expression or a function, and standardised columns.


NUMBERS = "a number that has a unit stands with it, in quotes of their own: `'0.2 W/K'`."


@dataclasses.dataclass(frozen=True)
class Expression(Feature):
    """An expression over columns at one time, such as `"'4186 J/(kg K)' * flow * (supply - back)"`.

    Where all its columns have units, so has the result, and a sum of what does not add up is an error. A result that is
    no finite number is NaN.

    Attributes:
        value: The expression, in the language of `features.language`.
        unit: The unit wanted; by default the one that comes out.
    """

    value: str
    unit: str | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        try:
            return parse(self.value)[1]
        except ValueError:
            return ()

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        try:
            tree, names, quantities = parse(self.value)
        except ValueError as reason:
            record.refuse("has an expression that cannot be read.", ALLOWED, str(reason), "Correct `value`.")
        columns: dict[str, Any] = {name: record.values(name) for name in names}
        bare = [name for name in names if name not in record.units]
        if bare and quantities:
            shown = ", ".join(f"`{name}`" for name in bare)
            record.refuse(
                "has quantities with units in it beside columns whose unit is not stated.",
                expected="a unit for each of its columns",
                received=f"none for {shown}",
                advice="State them where telemetry is read, by `units`.",
            )
        if not bare:
            columns = {name: registry().Quantity(values, record.units[name]) for name, values in columns.items()}
        try:
            with np.errstate(all="ignore"):
                found = evaluate(tree, columns)
        except (pint.PintError, TypeError, ValueError) as reason:
            received = f"`{self.value}`: {reason}"
            advice = f"Correct `value`; {NUMBERS}"
            record.refuse("has units that do not fit together.", "terms of one dimension", received, advice)
        if not names and not quantities:
            self._refuse_bare(record, float(found))
        return _in_unit(record, found, None if bare else "", self.unit)

    def _refuse_bare(self, record: RecordedColumns, number: float) -> None:
        """Refuse a number alone that has no unit, where one is wanted."""
        wanted = self.unit or ""
        check_unit(wanted, f"feature `{record.name}`", InvalidTelemetry)
        if not registry().Unit(wanted).is_compatible_with(""):
            record.refuse(
                f"is a number without a unit, and is wanted in `{wanted}`.",
                expected=f"`value = \"'{number:g} {wanted}'\"`, with both kinds of quotes",
                received=f'`value = "{self.value}"`',
                advice=f"In expressions {NUMBERS}",
            )


@dataclasses.dataclass(frozen=True)
class Function(Feature):
    """A Python function of columns, which may look back as far as it likes and never ahead.

    That is found out: it is called again with everything after some time altered or cut off, and what it said up to
    then must not change. A function that looks ahead nowhere but at a few rows may escape that.

    Attributes:
        function: Takes a pandas table of the columns, indexed by time, and returns n values.
        of: The columns.
        unit: The unit of the values; `""` for none, None where it is not known.
        delay: How much older than t the newest value is that counts at t, which is checked too.
    """

    function: Callable[[pd.DataFrame], Any]
    of: Sequence[str]
    unit: str | None = None
    delay: str | float | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return tuple(self.of)

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        table = pd.DataFrame({name: record.values(name) for name in self.of}, index=record.index)
        values = self._called(record, table)
        if record.strict:
            self._refuse_leak(record, table)
        if self.unit is not None:
            check_unit(self.unit, f"feature `{record.name}`", InvalidTelemetry)
        return FeatureColumn(np.where(np.isfinite(values), values, np.nan), self.unit)

    def __repr__(self) -> str:
        """The same in every process, unlike that of a function."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"Function({name}, of={tuple(self.of)!r}, unit={self.unit!r}, delay={self.delay!r})"

    def _called(self, record: RecordedColumns, table: pd.DataFrame) -> np.ndarray:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are altered to see what happens
            try:
                found = np.asarray(self.function(table.copy()), dtype=np.float64)
            except Exception as reason:
                where = inspect.getmodule(self.function)
                received = f"{type(reason).__name__}: {reason}, for {len(table)} rows"
                advice = f"It must bear any beginning of the record. It is in `{getattr(where, '__name__', '?')}`."
                record.refuse("has a function that fails.", "one value a row", received, advice)
        if found.shape != (len(table),):
            record.refuse(
                "has a function that does not give one value a row.",
                f"shape ({len(table)},)",
                f"{found.shape}",
                "Correct it.",
            )
        return found

    def _refuse_leak(self, record: RecordedColumns, table: pd.DataFrame) -> None:
        leak = find_leak(lambda other: self._called(record, other)[:, None], table, self.waits(record))
        if leak is not None:
            record.refuse(
                "looks ahead.",
                expected=f"at {leak.at} the same value whatever is recorded after {leak.cut}",
                received=f"{leak.was:g}, and {leak.became:g} where all after {leak.cut} is {leak.how}",
                advice="Let its function use rows up to each time alone; statistics of the whole record are no such.",
            )


@dataclasses.dataclass(frozen=True)
class Standardized(Feature):
    """A column less its mean, by its standard deviation, both of the part of the record before `until` alone.

    Attributes:
        of: The column.
        until: Where that part ends: not after the first forecast begins.
    """

    of: str
    until: Any = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """As declared."""
        if self.until is None:
            record.refuse(
                "uses the mean of the whole record, and so its future.",
                expected="`until`, the end of the part that statistics are of: what is calibrated",
                received="none",
                advice="In a job file it is where `hold_out_from` in `[split]` is, unless said otherwise.",
            )
        until = time_in(self.until, record.index, record.zone, "until")
        values = record.values(self.of)
        part = values[np.asarray(record.index < until) & np.isfinite(values)]
        spread = part.std(ddof=1) if part.size > 1 else 0.0
        if not spread > 0:
            received = f"{part.size} of them or all the same"
            if record.strict:
                record.refuse(
                    "has no spread to be measured by.",
                    f"two values before {said(until, record.zone)}",
                    received,
                    "Leave it out.",
                )
            return FeatureColumn(np.full(values.size, np.nan), "", until)
        return FeatureColumn((values - part.mean()) / spread, "", until)


def _in_unit(record: RecordedColumns, found: Any, plain: str | None, unit: str | None) -> FeatureColumn:
    """Values in the unit wanted; `plain` is that of what came out without one."""
    has = str(found.units) if isinstance(found, pint.Quantity) else plain
    values = found.magnitude if isinstance(found, pint.Quantity) else found
    values = np.broadcast_to(np.asarray(values, dtype=np.float64), len(record.index))
    if unit is not None:
        check_unit(unit, f"feature `{record.name}`", InvalidTelemetry)
        with_unit = values if has is None else convert(values, has, unit, f"feature `{record.name}`", InvalidTelemetry)
        values, has = with_unit, unit
    return FeatureColumn(np.where(np.isfinite(values), values, np.nan), has)
