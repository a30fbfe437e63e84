"""What telemetry is once it was read: a table with units, and a fingerprint of all that shaped it."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestwin._base.units import check_undeclared, convert
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.moments import Zone, said, time_in


@dataclasses.dataclass(frozen=True, repr=False)
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
        renamed: Names in the data by those of columns that `rename` gave other ones.
    """

    table: pd.DataFrame
    units: Mapping[str, str]
    t0: Any
    source: str
    sha256: str
    notices: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """In short: rows, times, columns with their units, and what was done to the data."""
        times = self.table.index
        rows = f"{len(times):,} row{'' if len(times) == 1 else 's'}"
        step = f", usually {_step(times, self.units.get('time', ''))} apart" if len(times) > 1 else ""
        lines = [f"Telemetry ({self.source}): {rows}, {self.shown(times[0])} to {self.shown(times[-1])}{step}"]
        for name in map(str, self.table.columns):
            num = int(np.isfinite(self.table[name].to_numpy(np.float64)).sum())
            unit = "unit of the twin" if name not in self.units else self.units[name] or "no unit"
            lines.append(f"  {self.label(name)}: {num:,} value{'' if num == 1 else 's'}, {unit}")
        if self.t0 != times[0]:
            lines.append(f"  t0: {self.shown(self.t0)}")
        return "\n".join(lines + [f"  - {notice}" for notice in self.notices])

    @property
    def dated(self) -> bool:
        """Whether times are dates rather than numbers."""
        return isinstance(self.table.index, pd.DatetimeIndex)

    @property
    def timezone(self) -> Zone:
        """The zone that was declared for dates without an offset; several where sources have different ones."""
        return self.settings.get("timezone")

    def moment(self, value: Any, argument: str = "") -> Any:
        """A moment that the user gives, in the terms of the table's own times.

        Args:
            value: ISO 8601 text, a date or a number. Without a UTC offset it is in the declared `timezone`, else in
                UTC; `pandas.Timestamp` and `numpy.datetime64` without a zone are in UTC, as those of the table are.
            argument: Where it stood, for messages.

        Raises:
            InvalidTelemetry: If it is no such moment, or leaves open which instant is meant.
        """
        return time_in(value, self.table.index, self.timezone, argument)

    def shown(self, moment: Any) -> str:
        """One of the table's times in words: in the declared `timezone`, else in UTC, and which of them is said."""
        return said(moment, self.timezone)

    def label(self, column: str) -> str:
        """What messages call a column: by its name in the data, with that in the twin in brackets where it differs."""
        known = self.renamed.get(column, column)
        return f"`{column}`" if known == column else f"`{known}` (`{column}`)"

    def between(self, start: Any = None, end: Any = None) -> "Telemetry":
        """The rows with `start <= time < end`; `t0` stays where it is.

        Args:
            start: First time kept, as `moment` takes them; the beginning by default.
            end: First time dropped; nothing is dropped by default.

        Raises:
            InvalidTelemetry: If one is no moment, or no row is left.
        """
        times = self.table.index
        ends = [None if one is None else self.moment(one, name) for name, one in (("start", start), ("end", end))]
        keep = np.ones(len(times), dtype=bool)
        if ends[0] is not None:
            keep &= np.asarray(times >= ends[0])
        if ends[1] is not None:
            keep &= np.asarray(times < ends[1])
        if not keep.any():
            first, last = ("none" if one is None else self.shown(one) for one in ends)
            message = explain(
                "No telemetry is left between the given times.",
                expected=f"times between {self.shown(times[0])} and {self.shown(times[-1])}",
                received=f"start {first}, end {last}",
                advice="Choose limits inside the record.",
            )
            raise InvalidTelemetry(message)
        return self.with_table(self.table.loc[keep])

    def with_table(self, table: pd.DataFrame, *, t0: Any = None) -> "Telemetry":
        """The same record with a part of its rows or columns, and perhaps another `t0`."""
        units = {name: unit for name, unit in self.units.items() if name in (*table.columns, "time")}
        t0 = self.t0 if t0 is None else t0
        return sealed(table, units, t0, self.source, self.notices, self.settings, self.renamed)

    def in_unit(self, column: str, unit: str) -> np.ndarray:
        """The values of a column in a unit; where the telemetry states none, they are taken to be in it already.

        Raises:
            InvalidTelemetry: If the units have different dimensions, or none is stated where values or the unit wanted
                leave open which one is meant: °C or K, gauge or absolute.
        """
        values = self.table[column].to_numpy(np.float64)
        owner = f"telemetry column {self.label(column)}"
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
    renamed: Mapping[str, str] | None = None,
) -> Telemetry:
    """Telemetry with its fingerprint, which depends on content and settings and not on the file's name or layout."""
    digest = hashlib.sha256()
    digest.update(np.asarray(table.index).tobytes())
    for column in sorted(table.columns):
        digest.update(column.encode() + table[column].to_numpy(np.float64).tobytes())
    digest.update(repr((sorted(units.items()), str(t0))).encode())
    if settings:
        digest.update(repr(sorted(settings.items())).encode())
    found = digest.hexdigest()
    return Telemetry(table, dict(units), t0, source, found, notices, dict(settings or {}), dict(renamed or {}))


def _step(times: pd.Index, unit: str) -> str:
    """The usual step between times in words: `15 min`, `0.25 h`."""
    if not isinstance(times, pd.DatetimeIndex):
        return f"{np.median(np.diff(times.to_numpy(np.float64))):g} {unit}".strip()
    seconds = float(np.median(np.diff(times.as_unit("ns").asi8))) * 1e-9
    name, size = next((one for one in (("d", 86400), ("h", 3600), ("min", 60)) if seconds % one[1] == 0), ("s", 1))
    return f"{seconds / size:g} {name}"
