"""What telemetry is once it was read: a table with units, and a fingerprint of all that shaped it."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.units import check_undeclared, convert


@dataclasses.dataclass(frozen=True)
class Telemetry:
    """Recorded signals of one asset.

    Attributes:
        table: One column a signal; the index `time` holds dates (UTC, without zone) or numbers, increasing.
        units: Unit of each column where it is known; otherwise the unit of the twin is taken.
        t0: When the initial state holds; not after the first row.
        source: Where the table came from.
        sha256: Fingerprint of times, values, units, `t0` and `settings`.
        notices: What was done to the data on the way, one sentence each: sorted, left out, taken as missing.
        settings: The arguments of `read_telemetry` or `align` that shaped the values, where they are not the defaults.
    """

    table: pd.DataFrame
    units: Mapping[str, str]
    t0: Any
    source: str
    sha256: str
    notices: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def dated(self) -> bool:
        """Whether times are dates rather than numbers."""
        return isinstance(self.table.index, pd.DatetimeIndex)

    def between(self, start: Any = None, end: Any = None) -> "Telemetry":
        """The rows with `start <= time < end`; `t0` stays where it is.

        Args:
            start: First time kept; the beginning by default. Dates without a UTC offset are UTC.
            end: First time dropped; nothing is dropped by default.

        Raises:
            InvalidTelemetry: If no row is left.
        """
        times = self.table.index
        keep = np.ones(len(times), dtype=bool)
        if start is not None:
            keep &= np.asarray(times >= time_in(start, times))
        if end is not None:
            keep &= np.asarray(times < time_in(end, times))
        if not keep.any():
            message = explain(
                "No telemetry is left between the given times.",
                expected=f"times between {times[0]} and {times[-1]}",
                received=f"start {start}, end {end}",
                advice="Choose limits inside the record.",
            )
            raise InvalidTelemetry(message)
        return self.with_table(self.table.loc[keep])

    def with_table(self, table: pd.DataFrame, *, t0: Any = None) -> "Telemetry":
        """The same record with a part of its rows or columns, and perhaps another `t0`."""
        units = {name: unit for name, unit in self.units.items() if name in (*table.columns, "time")}
        return sealed(table, units, self.t0 if t0 is None else t0, self.source, self.notices, self.settings)

    def in_unit(self, column: str, unit: str) -> np.ndarray:
        """The values of a column in a unit; where the telemetry states none, they are taken to be in it already.

        Raises:
            InvalidTelemetry: If the units have different dimensions, or none is stated where values or the unit wanted
                leave open which one is meant: °C or K, gauge or absolute.
        """
        values = self.table[column].to_numpy(np.float64)
        owner = f"telemetry column `{column}`"
        if column not in self.units:
            check_undeclared(values, unit, owner, InvalidTelemetry)
            return values
        return convert(values, self.units[column], unit, owner, InvalidTelemetry)


def sealed(
    table: pd.DataFrame,
    units: Mapping[str, str],
    t0: Any,
    source: str,
    notices: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
) -> Telemetry:
    """Telemetry with its fingerprint, which depends on content and settings and not on the file's name or layout."""
    digest = hashlib.sha256()
    digest.update(np.asarray(table.index).tobytes())
    for column in sorted(table.columns):
        digest.update(column.encode() + table[column].to_numpy(np.float64).tobytes())
    digest.update(repr((sorted(units.items()), str(t0))).encode())
    if settings:
        digest.update(repr(sorted(settings.items())).encode())
    return Telemetry(table, dict(units), t0, source, digest.hexdigest(), notices, dict(settings or {}))


def time_in(value: Any, index: pd.Index) -> Any:
    """A time given by the user, in the terms of the telemetry's own times."""
    try:
        if isinstance(index, pd.DatetimeIndex):
            if isinstance(value, int | float):
                reason = "a number where the telemetry has dates"
                raise TypeError(reason)
            stamp = pd.Timestamp(value)
            return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo is not None else stamp
        return float(value)
    except (TypeError, ValueError) as reason:
        message = explain(
            "A time does not fit the times of the telemetry.",
            expected="a date" if isinstance(index, pd.DatetimeIndex) else "a number",
            received=f"{value!r}",
            advice=f"The telemetry runs from {index[0]} to {index[-1]}.",
        )
        raise InvalidTelemetry(message) from reason


def rows_in_words(rows: np.ndarray) -> str:
    """Rows counted from 1, the first five of them: "row 3, 4"; `rows` counts from 0."""
    return "row " + ", ".join(str(row + 1) for row in rows[:5]) + (", …" if rows.size > 5 else "")
