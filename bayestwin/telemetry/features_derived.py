"""Features of several columns at one time, by an expression or a function, and standardised columns."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pint

from bayestwin._base.units import check_unit, convert, registry
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.derived import Column, Feature, Record
from bayestwin.telemetry.language import ALLOWED, evaluate, parse
from bayestwin.telemetry.leaks import find_leak
from bayestwin.telemetry.moments import said, time_in


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

    def compute(self, record: Record) -> Column:
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
            record.refuse("has units that do not fit together.", "terms of one dimension", received, "Correct `value`.")
        return _in_unit(record, found, None if bare else "", self.unit)


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

    def compute(self, record: Record) -> Column:
        """As declared."""
        table = pd.DataFrame({name: record.values(name) for name in self.of}, index=record.index)
        values = self._called(record, table)
        if record.strict:
            self._refuse_leak(record, table)
        if self.unit is not None:
            check_unit(self.unit, f"feature `{record.name}`", InvalidTelemetry)
        return Column(np.where(np.isfinite(values), values, np.nan), self.unit)

    def __repr__(self) -> str:
        """The same in every process, unlike that of a function."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"Function({name}, of={tuple(self.of)!r}, unit={self.unit!r}, delay={self.delay!r})"

    def _called(self, record: Record, table: pd.DataFrame) -> np.ndarray:
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

    def _refuse_leak(self, record: Record, table: pd.DataFrame) -> None:
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

    def compute(self, record: Record) -> Column:
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
            return Column(np.full(values.size, np.nan), "", until)
        return Column((values - part.mean()) / spread, "", until)


def _in_unit(record: Record, found: Any, plain: str | None, unit: str | None) -> Column:
    """Values in the unit wanted; `plain` is that of what came out without one."""
    has = str(found.units) if isinstance(found, pint.Quantity) else plain
    values = found.magnitude if isinstance(found, pint.Quantity) else found
    values = np.broadcast_to(np.asarray(values, dtype=np.float64), len(record.index))
    if unit is not None:
        check_unit(unit, f"feature `{record.name}`", InvalidTelemetry)
        with_unit = values if has is None else convert(values, has, unit, f"feature `{record.name}`", InvalidTelemetry)
        values, has = with_unit, unit
    return Column(np.where(np.isfinite(values), values, np.nan), has)
