"""Single moments: what the user gives beside the data, read by one rule; and moments in words, on a clock that is said.

Text is ISO 8601. Without a UTC offset it is on the clock of the zone that was declared for the telemetry, else in UTC.
"""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain

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
    if isinstance(zone, str) and zone != "UTC":
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
        message = explain(
            f"{subject} is not written as ISO 8601.",
            expected="a date such as `2026-03-21`, `2026-03-21 13:00` or `2026-03-21 13:00+01:00`",
            received=f"`{text}`",
            advice=advice,
        )
        raise InvalidTelemetry(message) from reason


def _in_utc(stamp: pd.Timestamp, zone: str | Sequence[str], subject: str) -> Any:
    """A moment on the clock of a zone, where that is one instant."""
    shown = stamp.isoformat(sep=" ", timespec="minutes" if stamp == stamp.floor("min") else "auto")
    if not isinstance(zone, str):
        message = explain(
            f"{subject} has no UTC offset, and the sources of the telemetry have different time zones.",
            expected=f"an offset with it, as in `{shown}+01:00` or `{shown}Z`",
            received=f"`{shown}`, and the zones {', '.join(f'`{one}`' for one in zone)}",
            advice="Write the offset.",
        )
        raise InvalidTelemetry(message)
    both = [stamp.tz_localize(zone, ambiguous=summer, nonexistent="NaT") for summer in (True, False)]
    instants = [one for one in dict.fromkeys(both) if isinstance(one, pd.Timestamp)]
    if len(instants) == 1:
        return instants[0].tz_convert("UTC").tz_localize(None)
    never = not instants
    forms = [f"`{one.isoformat(sep=' ', timespec='minutes')}`" for one in instants] or [f"`{shown}Z`"]
    message = explain(
        f"The clock of `{zone}` {'never showed' if never else 'showed twice'} `{shown}`: it was put "
        f"{'forward' if never else 'back'} then.",
        expected=f"the moment with its UTC offset: {' or '.join(forms)}",
        received=f"`{shown}`",
        advice=f"{subject} is read on that clock, since it has no offset.",
    )
    raise InvalidTelemetry(message)


def _misfit(subject: str, expected: str, value: Any, index: pd.Index, zone: Zone) -> InvalidTelemetry:
    message = explain(
        f"{subject} does not fit the times of the telemetry.",
        expected=expected,
        received=f"{value!r}",
        advice=f"The telemetry runs from {said(index[0], zone)} to {said(index[-1], zone)}.",
    )
    return InvalidTelemetry(message)
