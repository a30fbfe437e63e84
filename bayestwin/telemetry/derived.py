"""What every feature is, what it is computed from, and lengths of time in the terms of the record."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from bayestwin._base.units import registry
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.moments import Zone
from bayestwin.telemetry.times import counted, length_of

SLACK = 1e-9
"""Share of a length of time that counts as nothing, where times are numbers."""


class Record(NamedTuple):
    """What a feature is computed from.

    Attributes:
        name: Of the feature, for messages.
        index: Times, dates or numbers, increasing; shape (n,).
        columns: What was recorded, and features made before; NaN is missing; shape (n,) each.
        units: Unit of each column where it is known, and of `time` where times are numbers.
        strict: Whether a feature without any value is an error, and functions are checked for looking ahead.
        zone: Declared for the telemetry: moments without an offset are on its clock.
    """

    name: str
    index: pd.Index
    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    strict: bool = True
    zone: Zone = None

    @property
    def dated(self) -> bool:
        """Whether times are dates."""
        return isinstance(self.index, pd.DatetimeIndex)

    @property
    def times(self) -> np.ndarray:
        """Times as numbers: dates in whole nanoseconds, others as they are; shape (n,)."""
        return counted(self.index)

    def values(self, column: str) -> np.ndarray:
        """A column.

        Raises:
            InvalidTelemetry: If there is none of that name.
        """
        if column in self.columns:
            return self.columns[column]
        there = ", ".join(f"`{name}`" for name in self.columns)
        return self.refuse(
            f"is made of `{column}`, which is no column.",
            expected=f"one of {there}",
            received=f"`{column}`",
            advice="A feature may be made of columns, by their names in the twin, and of features declared before it.",
        )

    def length(self, argument: str, value: str | float, *, zero: bool = False) -> int | float:
        """A length of time: whole nanoseconds for dates, else a number.

        Args:
            argument: What it is for, for messages.
            value: `"1h"` for dates, a number for times that are numbers.
            zero: Whether it may be nothing.

        Raises:
            InvalidTelemetry: If it is no length of time, or a negative one.
        """
        expected = "a duration such as `'1h'`" if self.dated else "a number, in the unit of the times"
        found = length_of(value, dated=self.dated)
        if found is None:
            self.refuse(f"has no length of time for `{argument}`.", expected, repr(value), "Correct it.")
        if found < 0:
            self.refuse(
                f"looks ahead: its `{argument}` is negative.",
                expected="at time t nothing but what was recorded at or before t",
                received=f"`{argument}={value!r}`",
                advice="Leads are not known when they are needed. For a value from before, give a positive length.",
            )
        if found == 0 and not zero:
            self.refuse(f"has a `{argument}` of nothing.", f"{expected}, above zero", repr(value), "Correct it.")
        return found

    def slack(self, length: float) -> np.ndarray:
        """Within which times that are numbers are the same; zero for dates; shape (n,)."""
        if self.dated:
            return np.zeros(len(self.index), dtype=np.int64)
        return SLACK * length + 4.0 * np.spacing(np.abs(self.times))

    def refuse(self, problem: str, expected: str, received: str, advice: str) -> NoReturn:
        """Raise the error that a feature cannot be made."""
        raise InvalidTelemetry(
            explain(f"Feature `{self.name}` {problem}", expected=expected, received=received, advice=advice)
        )


class Column(NamedTuple):
    """What a feature is.

    Attributes:
        values: NaN where there is none; shape (n,).
        unit: Where it is known; `""` for none.
        until: Where statistics over a part of the record are in it, the end of that part.
    """

    values: np.ndarray
    unit: str | None
    until: Any = None


class Feature(abc.ABC):
    """A column that is made of others: at time t of what they were at `t - delay` and before.

    Attributes:
        delay: As text or number, as `Record.length` takes it; None for none.
    """

    delay: str | float | None = None

    @property
    @abc.abstractmethod
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""

    def waits(self, record: Record) -> int | float:
        """How old the newest value is that counts, its delay, counted as `record.times`."""
        return record.length("delay", self.delay, zero=True) if self.delay is not None else 0

    @abc.abstractmethod
    def compute(self, record: Record) -> Column:
        """The feature at all times of a record.

        Raises:
            InvalidTelemetry: If it cannot be made, or would look ahead.
        """


def difference_unit(unit: str | None) -> str | None:
    """The unit of a difference of two values: of temperatures in °C it is not °C."""
    if unit is None:
        return None
    quantity = registry().Quantity
    return str((quantity(1.0, unit) - quantity(0.0, unit)).units)
