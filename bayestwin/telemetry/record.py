"""What telemetry is once it was read: a table with units and a fingerprint of all that shaped it; and moments."""

import dataclasses
import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayestwin._base.units import check_undeclared, convert, difference_unit
from bayestwin.errors import InvalidTelemetry

# Single moments: what the user gives beside the data, read by one rule; and moments in words, on a clock that is said.
#
# Text is ISO 8601. Without a UTC offset it is on the clock of the zone that was declared for the telemetry, else in
# UTC.

type Zone = str | Sequence[str] | None
"""The zone that telemetry declares; several where its sources declare different ones."""

_DAY = re.compile(r"\s*(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[T ,]+(\d{1,2}:\d{2}(?::\d{2})?))?\s*")


def time_in(value: Any, index: pd.Index, zone: Zone = None, argument: str = "") -> Any:
    """A moment given by the user, in the terms of the telemetry's own times.

    Args:
        value: ISO 8601 text, a date, or a number. `pandas.Timestamp` and `numpy.datetime64` without a zone are as those
            of `index`: in UTC. Other dates without an offset are on the clock of `zone`.
        index: The times of the telemetry: dates in UTC without zone, or numbers.
        zone: Declared for the telemetry; None for UTC.
        argument: Where the moment stood, for messages.

    Raises:
        InvalidTelemetry: If it is no such moment, or leaves open which instant is meant.
    """
    subject = f"The moment in `{argument}`" if argument else "A moment"
    if not isinstance(index, pd.DatetimeIndex):
        try:
            return float(value)
        except (TypeError, ValueError) as reason:
            raise _misfit(subject, "a number", value, index, zone) from reason
    if isinstance(value, str):
        stamp = _parsed(value, subject)
    elif isinstance(value, dt.date | np.datetime64):
        stamp = pd.Timestamp(value)
    else:
        raise _misfit(subject, "a date", value, index, zone)
    if not isinstance(stamp, pd.Timestamp):  # but no time
        raise _misfit(subject, "a date", value, index, zone)
    stamp = stamp.as_unit("ns")
    if stamp.tzinfo is not None:
        return stamp.tz_convert("UTC").tz_localize(None)
    if zone is None or isinstance(value, pd.Timestamp | np.datetime64):
        return stamp
    return _in_utc(stamp, zone, subject)


def said(moment: Any, zone: Zone = None) -> str:
    """A moment in words, which read back as the same: `2026-10-25 03:30+02:00`, `2026-10-25 01:30 UTC`, or a number.

    Args:
        moment: A date in UTC without zone, as telemetry has them, or a number.
        zone: Zone to show dates in; UTC where there is none, or several.
    """
    if not isinstance(moment, pd.Timestamp | np.datetime64):
        return str(moment)
    stamp = pd.Timestamp(moment)
    if not isinstance(stamp, pd.Timestamp):
        return "no time"
    detail = "minutes" if stamp == stamp.floor("min") else "auto"
    if isinstance(zone, str) and zone not in ("", "UTC"):
        local = stamp.tz_localize("UTC").tz_convert(zone)
        return local.isoformat(sep=" ", timespec=detail)
    return f"{stamp.isoformat(sep=' ', timespec=detail)} UTC"


def days_meant(text: str) -> tuple[str, ...]:
    """ISO forms of a day that is written otherwise: one, or two where day and month may be either; none for no day."""
    found = _DAY.fullmatch(text)
    if found is None:
        return ()
    first, _, second, year, clock = found.groups()
    days = []
    for day, month in ((first, second), (second, first)):
        try:
            days.append(dt.date(int(year), int(month), int(day)).isoformat() + (f" {clock:0>5}" if clock else ""))
        except ValueError:
            continue
    return tuple(dict.fromkeys(days))


def _parsed(text: str, subject: str) -> Any:
    """ISO text as a moment; what is printed for UTC reads too."""
    plain = re.sub(r"\s*UTC$", "Z", text.strip())
    try:
        if not plain[:4].isdigit():  # pandas takes "now" and "today"
            raise ValueError(text)
        return pd.to_datetime(plain, format="ISO8601")
    except ValueError as reason:
        days = days_meant(text)
        advice = "Write year, month and day, and the time of day where it matters."
        if len(days) == 1:
            advice = f"Write `{days[0]}`."
        elif days:
            advice = f"It could be two days: write `{days[0]}` if the day comes first in it, `{days[1]}` if the month."
        raise InvalidTelemetry(
            f"{subject} is not written as ISO 8601.",
            expected="a date such as `2026-03-21`, `2026-03-21 13:00` or `2026-03-21 13:00+01:00`",
            received=f"`{text}`",
            advice=advice,
        ) from reason


def _in_utc(stamp: pd.Timestamp, zone: str | Sequence[str], subject: str) -> Any:
    """A moment on the clock of a zone, where that is one instant."""
    shown = stamp.isoformat(sep=" ", timespec="minutes" if stamp == stamp.floor("min") else "auto")
    if not isinstance(zone, str):
        raise InvalidTelemetry(
            f"{subject} has no UTC offset, and the sources of the telemetry have different time zones.",
            expected=f"an offset with it, as in `{shown}+01:00` or `{shown}Z`",
            received=f"`{shown}`, and the zones {', '.join(f'`{one}`' for one in zone)}",
            advice="Write the offset.",
        )
    both = [stamp.tz_localize(zone, ambiguous=summer, nonexistent="NaT") for summer in (True, False)]
    instants = [one for one in dict.fromkeys(both) if isinstance(one, pd.Timestamp)]
    if len(instants) == 1:
        return instants[0].tz_convert("UTC").tz_localize(None)
    never = not instants
    forms = [f"`{one.isoformat(sep=' ', timespec='minutes')}`" for one in instants] or [f"`{shown}Z`"]
    raise InvalidTelemetry(
        f"The clock of `{zone}` {'never showed' if never else 'showed twice'} `{shown}`: it was put "
        f"{'forward' if never else 'back'} then.",
        expected=f"the moment with its UTC offset: {' or '.join(forms)}",
        received=f"`{shown}`",
        advice=f"{subject} is read on that clock, since it has no offset.",
    )


def _misfit(subject: str, expected: str, value: Any, index: pd.Index, zone: Zone) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"{subject} does not fit the times of the telemetry.",
        expected=expected,
        received=f"{value!r}",
        advice=f"The telemetry runs from {said(index[0], zone)} to {said(index[-1], zone)}.",
    )


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
        texts: What columns hold that have no numbers and were left out, in words, by name.
    """

    table: pd.DataFrame
    units: Mapping[str, str]
    t0: Any
    source: str
    sha256: str
    notices: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """In short: rows, times, columns with their units, and what was done to the data."""
        times = self.table.index
        rows = f"{len(times):,} row{'' if len(times) == 1 else 's'}"
        step = f", usually {_step(times, self.units.get('time', ''))} apart" if len(times) > 1 else ""
        lines = [f"Telemetry ({self.source}): {rows}, {self.shown(times[0])} to {self.shown(times[-1])}{step}"]
        for name in map(str, self.table.columns):
            values = self.table[name].to_numpy(np.float64)
            there = values[np.isfinite(values)]
            num, same = there.size, there.size > 1 and bool((there == there[0]).all())
            unit = "unit of the twin" if name not in self.units else self.units[name] or "no unit"
            alike = f", all {there[0]:g}" if same else ""
            lines.append(f"  {self.label(name)}: {num:,} value{'' if num == 1 else 's'}{alike}, {unit}")
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

    def holds(self, column: str) -> bool:
        """Whether there is a column of numbers of that name.

        Raises:
            InvalidTelemetry: If there was one in the data, of text.
        """
        if column in self.table.columns:
            return True
        if column in self.texts:
            known = self.label(column)
            raise InvalidTelemetry(
                f"Telemetry column {known} holds text or other things, not numbers.",
                expected="numbers, or words for on and off such as ON and OFF, true and false, open and closed",
                received=self.texts[column],
                advice="Give each category a number, or each a column of 1 and 0 (`pandas.get_dummies`), and pass the "
                "table; words that mean “missing” go into `sentinels`.",
            )
        return False

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
            raise InvalidTelemetry(
                "No telemetry is left between the given times.",
                expected=f"times between {self.shown(times[0])} and {self.shown(times[-1])}",
                received=f"start {first}, end {last}",
                advice="Choose limits inside the record.",
            )
        return self.with_table(self.table.loc[keep])

    def with_table(self, table: pd.DataFrame, *, t0: Any = None) -> "Telemetry":
        """The same record with a part of its rows or columns, and perhaps another `t0`."""
        units = {name: unit for name, unit in self.units.items() if name in (*table.columns, "time")}
        t0 = self.t0 if t0 is None else t0
        return sealed(table, units, t0, self.source, self.notices, self.settings, self.renamed, self.texts)

    def in_unit(self, column: str, unit: str, *, difference: bool = False) -> np.ndarray:
        """The values of a column in a unit; where the telemetry states none, they are taken to be in it already.

        Args:
            column: Its name.
            unit: That wanted.
            difference: Whether they are differences, for which it does not matter where a scale of temperature begins.

        Raises:
            InvalidTelemetry: If the units have different dimensions, or none is stated where values or the unit wanted
                leave open which one is meant: °C or K, gauge or absolute.
        """
        values = self.table[column].to_numpy(np.float64)
        owner = f"telemetry column {self.label(column)}"
        if column not in self.units:
            if not difference:
                check_undeclared(values, unit, owner, InvalidTelemetry)
            return values
        own = self.units[column]
        if difference and own != unit:
            own, unit = str(difference_unit(own)), str(difference_unit(unit))
        return convert(values, own, unit, owner, InvalidTelemetry)


def sealed(
    table: pd.DataFrame,
    units: Mapping[str, str],
    t0: Any,
    source: str,
    notices: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
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
    plain = (dict(one or {}) for one in (settings, renamed, texts))
    return Telemetry(table, dict(units), t0, source, found, notices, *plain)


def _step(times: pd.Index, unit: str) -> str:
    """The usual step between times in words: `15 min`, `0.25 h`."""
    if not isinstance(times, pd.DatetimeIndex):
        return f"{np.median(np.diff(times.to_numpy(np.float64))):g} {unit}".strip()
    seconds = float(np.median(np.diff(times.as_unit("ns").asi8))) * 1e-9
    name, size = next((one for one in (("d", 86400), ("h", 3600), ("min", 60)) if seconds % one[1] == 0), ("s", 1))
    return f"{seconds / size:g} {name}"
