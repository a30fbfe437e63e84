"""The times of telemetry: ISO dates or numbers, dates in UTC, what the clock leaves open, and the order of rows.

Rows of one time and revisions are resolved as the user chooses.
"""

import difflib
import re
import zoneinfo
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.record import Zone, days_meant, said, time_in

type Ambiguous = Literal["earlier", "later", "infer"]

# An offset stands behind a time of day; `-29` at the end of a date is none.
_OFFSET = r"\d\d?[T ]\d\d?.*?(Z|[+-]\d\d(?::?\d\d)?)$"


class Clock(NamedTuple):
    """What the user says about dates.

    Attributes:
        timezone: Zone of dates that carry no UTC offset, e.g. `"Europe/Berlin"`; None where nothing is said.
        ambiguous: Which of two instants is meant where the clock went back; None makes it an error.
        time_format: How dates that are text are written, in the codes of `strptime`; None for ISO 8601.
    """

    timezone: str | None = None
    ambiguous: Ambiguous | None = None
    time_format: str | None = None


def parse_times(index: pd.Index, name: str, clock: Clock) -> tuple[pd.Index, tuple[str, ...]]:
    """Times as UTC dates without zone or as float64 numbers, in the order of the rows; and notices.

    Args:
        index: As they stand in the data; shape (n,).
        name: Column that they come from, for messages.
        clock: What the user says about them.

    Raises:
        InvalidTelemetry: If one is missing, no date as declared and no number, or leaves open which instant is meant.
    """
    check_zone(clock.timezone)
    _check_there(index.isna(), name)
    if clock.time_format is not None and not isinstance(index, pd.DatetimeIndex):
        index = _formatted(index, name, clock.time_format)
    if pd.api.types.is_numeric_dtype(index.dtype):
        if clock.timezone is not None:
            raise _no_dates(index, name, clock.timezone)
        times = pd.Index(index.to_numpy(np.float64))
        _check_digits(index, times, name)
        notices: tuple[str, ...] = ()
    else:
        if not isinstance(index, pd.DatetimeIndex):
            index = _dates(index, name, clock.timezone)
        times, notices = _to_utc(index, name, clock)
    _check_there(times.isna() | ~np.isfinite(times.to_numpy().astype(np.float64)), name)
    return times, notices


def _check_digits(index: pd.Index, times: pd.Index, name: str) -> None:
    """Refuse whole numbers that float64 does not hold: nanoseconds since 1970 have 19 digits, and it has 16."""
    if not pd.api.types.is_integer_dtype(index.dtype):
        return
    whole, large = index.to_numpy(), np.abs(times.to_numpy()) > 2.0**53
    lost = np.flatnonzero(large)[times.to_numpy()[large].astype(whole.dtype) != whole[large]]
    if lost.size:
        raise InvalidTelemetry(
            f"The times in `{name}` have more digits than a float64 holds.",
            expected="whole numbers up to 9,007,199,254,740,992, or dates",
            received=f"{index[lost[0]]}, and {lost.size} such times: {rows_in_words(lost)}",
            advice="Are they nanoseconds since 1970? `pandas.to_datetime(…, utc=True)` makes dates of them.",
        )


_WRITTEN = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def refuse_written_dates(index: pd.Index, name: str, clock: Clock) -> None:
    """Refuse whole numbers that are dates, such as 20261108, where nobody says so: their differences are no times.

    Raises:
        InvalidTelemetry: If three or more are there and all of them read as dates of 1950 to 2100.
    """
    if clock.time_format is not None or len(index) < 3 or not pd.api.types.is_integer_dtype(index.dtype):
        return
    digits = len(str(index[0]))
    if digits not in _WRITTEN or not all(1950 <= int(str(end)[:4]) <= 2100 for end in (index.min(), index.max())):
        return
    texts = pd.Series(index.astype(str))
    if texts.str.len().nunique() > 1 or pd.to_datetime(texts, format=_WRITTEN[digits], errors="coerce").isna().any():
        return
    raise InvalidTelemetry(
        f"The times in `{name}` are whole numbers that all read as dates.",
        expected="`time_format` for dates that are written so, or `units={'time': …}` for numbers",
        received=f"{index[0]}, {index[1]}, …",
        advice=f"Pass `time_format='{_WRITTEN[digits]}'`. As numbers they would jump where a month or an hour ends.",
    )


def given_time(value: Any, times: pd.Index, clock: Clock, argument: str = "") -> Any:
    """A time that the user gives beside the data, on the same clock as these; in the terms of `times`."""
    naive = isinstance(value, pd.Timestamp | np.datetime64)  # as those of the data: no clock of its own
    return time_in(str(value) if naive else value, times, clock.timezone, argument)


def check_zone(timezone: str | None) -> None:
    """Refuse a time zone that nobody knows.

    Raises:
        InvalidTelemetry: Naming those with a similar name.
    """
    try:
        pd.Timestamp("2026-01-01").tz_localize(timezone)
    except Exception as reason:  # pandas, zoneinfo and dateutil each raise their own
        known = difflib.get_close_matches(str(timezone), zoneinfo.available_timezones(), n=3)
        raise InvalidTelemetry(
            f"There is no time zone `{timezone}`.",
            expected="a name such as `Europe/Berlin`, `UTC`, or a fixed offset such as `+01:00`",
            received=f"`{timezone}`",
            advice=f"Did you mean {', '.join(f'`{name}`' for name in known)}?" if known else "Correct the name.",
        ) from reason


def wrong_times(name: str, what: str, rows: np.ndarray, advice: str) -> InvalidTelemetry:
    """The error about the times in some rows, which are counted from 0 here and from 1 there."""
    return InvalidTelemetry(
        f"The time in `{name}` {what}.",
        expected="one time a row, each after the one before",
        received=f"{rows.size} such row{'s' if rows.size > 1 else ''}: {rows_in_words(rows)}",
        advice=advice,
    )


def _check_there(missing: np.ndarray, name: str) -> None:
    rows = np.flatnonzero(missing)
    if rows.size:
        raise wrong_times(name, "is missing", rows, "Drop these rows or fill in their times.")


def _formatted(index: pd.Index, name: str, time_format: str) -> pd.DatetimeIndex:
    """Text, or whole numbers such as 20261108, as dates in a declared format; in UTC where that has an offset."""
    texts = pd.Series(index.astype(str)).str.strip()
    utc = "%z" in time_format
    try:
        found = pd.to_datetime(texts, format=time_format, errors="coerce", utc=utc)
    except (ValueError, TypeError) as reason:
        raise InvalidTelemetry(
            f"`time_format` is no format of dates: {reason}.",
            expected="codes such as `%d.%m.%Y %H:%M` for 08.11.2026 13:00",
            received=f"`{time_format}`",
            advice="%d day, %m month, %Y year, %y year in two digits, %H hour, %M minute, %S second, %z UTC offset.",
        ) from reason
    wrong = np.flatnonzero(found.isna())
    if wrong.size:
        such = f"{wrong.size} such time{'s' if wrong.size > 1 else ''}: {rows_in_words(wrong)}"
        raise InvalidTelemetry(
            f"The times in `{name}` are not all written as `time_format` says.",
            expected=f"`{time_format}` throughout",
            received=f"`{texts.iloc[int(wrong[0])]}`, and {such}",
            advice="Correct `time_format`, or these rows.",
        )
    return pd.DatetimeIndex(found)


def _dates(index: pd.Index, name: str, timezone: str | None) -> pd.DatetimeIndex:
    """Text as dates: without zone if it carries no UTC offsets, in UTC if each carries one."""
    texts = pd.Series(index.astype(str))
    offsets = texts.str.extract(_OFFSET)[0]
    zoned = offsets.notna()
    if zoned.any() and not zoned.all():
        _refuse_mixed(texts, name, "some times have a UTC offset and some have none", np.flatnonzero(~zoned))
    try:
        found = pd.DatetimeIndex(pd.to_datetime(index, format="ISO8601", utc=bool(zoned.any())))
    except ValueError as reason:
        advice = _format_meant(texts)
        if texts.str.fullmatch(r"\s*[+-]?\d+,\d+\s*").all():
            advice = "Are they numbers with a decimal comma? Then pass `decimal=','`."
        raise InvalidTelemetry(
            f"The times in `{name}` do not read as dates.",
            expected="ISO dates such as 2026-03-29T13:00:00 or 2026-03-29 13:00+01:00 throughout, or numbers",
            received=f"{index[0]!r}, … ({str(reason).partition('. ')[0]})",
            advice=advice,
        ) from reason
    if zoned.any():
        _check_offsets(found, offsets, texts, name, timezone)
    return found


def _format_meant(texts: pd.Series) -> str:
    """The formats in which all of some texts read; of day and month, what comes first may remain open."""
    clocks = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f")
    days = ("%d.%m.%Y", "%m.%d.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%Y/%m/%d", "%Y.%m.%d")
    formats = [day + clock for day in days for clock in clocks]
    formats += [one for one in ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p")]
    stripped = texts.str.strip()

    def all_read(some: pd.Series, one: str) -> bool:
        return bool(pd.to_datetime(some, format=one, errors="coerce").notna().all())

    reads = [one for one in formats if all_read(stripped[:20], one) and all_read(stripped, one)]
    told = " or ".join(f"`time_format='{one}'`" for one in reads)
    if len(reads) > 1:
        days_of = days_meant(stripped.iloc[0])
        either = f"{stripped.iloc[0]} is ambiguous, {' or '.join(days_of)}" if len(days_of) > 1 else "it is ambiguous"
        return f"Say which is meant, by {told}: {either}."
    return f"Pass {told}." if reads else "Say how they are written by `time_format`, such as `time_format='%d/%m/%Y'`."


def _check_offsets(
    instants: pd.DatetimeIndex, offsets: pd.Series, texts: pd.Series, name: str, timezone: str | None
) -> None:
    """Different offsets need a zone to be named: UTC if each is right by itself, else that which they follow."""
    minutes = offsets.map(_minutes).to_numpy()
    if timezone is None and np.unique(minutes).size > 1:
        places = np.flatnonzero(minutes != minutes[0])
        _refuse_mixed(texts, name, f"offsets {', '.join(offsets.unique()[:4])}", places)
    if timezone is None or timezone == "UTC":
        return
    local = instants.tz_convert(timezone).tz_localize(None) - instants.tz_localize(None)
    wrong = np.flatnonzero(local.to_numpy() != minutes * np.timedelta64(1, "m").astype("timedelta64[ns]"))
    if wrong.size:
        raise InvalidTelemetry(
            f"The times in `{name}` carry UTC offsets that are not those of `{timezone}`.",
            expected=f"an offset of {local[wrong[0]]} in row {wrong[0] + 1}",
            received=f"{texts.iloc[int(wrong[0])]}, and {wrong.size} such rows in all",
            advice="Pass `timezone='UTC'` if the offsets are right: each time is then unambiguous as it stands.",
        )


def _refuse_mixed(texts: pd.Series, name: str, received: str, rows: np.ndarray) -> None:
    raise InvalidTelemetry(
        f"The times in `{name}` do not read as dates on one clock.",
        expected="one UTC offset throughout, or none throughout; best UTC, as in 2026-03-29T01:30:00Z",
        received=f"{received}: {texts.iloc[0]}, and {texts.iloc[int(rows[0])]} in row {rows[0] + 1}",
        advice="Write them all in UTC. If each time has an offset and it is right, pass `timezone='UTC'`.",
    )


def _minutes(offset: str) -> int:
    if offset == "Z":
        return 0
    digits = re.sub(r"\D", "", offset).ljust(4, "0")
    return (-1 if offset[0] == "-" else 1) * (60 * int(digits[:2]) + int(digits[2:]))


def _to_utc(index: pd.DatetimeIndex, name: str, clock: Clock) -> tuple[pd.DatetimeIndex, tuple[str, ...]]:
    """Dates without zone, in UTC."""
    notices: tuple[str, ...] = ()
    if index.tz is not None:
        found = index.tz_convert("UTC")
    elif clock.timezone is None:
        found = index.tz_localize("UTC")
        notices = (f"The dates in `{name}` carry no UTC offset and were taken as UTC; `timezone=` says another zone.",)
    else:
        found = _localized(index, name, clock.timezone, clock.ambiguous).tz_convert("UTC")
    return found.tz_localize(None).as_unit("ns"), notices


def _localized(index: pd.DatetimeIndex, name: str, zone: str, ambiguous: Ambiguous | None) -> pd.DatetimeIndex:
    """Dates on the clock of a zone, where each is one instant."""
    later = np.zeros(len(index), dtype=bool)
    absent = np.flatnonzero(index.tz_localize(zone, ambiguous=later, nonexistent="NaT").isna())
    if absent.size:
        raise InvalidTelemetry(
            f"The clock of `{zone}` never showed times that stand in `{name}`: it went forward over them.",
            expected=f"times that exist in `{zone}`",
            received=f"{index[absent[0]]}, and {absent.size} such times in all: {rows_in_words(absent)}",
            advice="Does the logger stay on winter time, or on UTC? Then pass `timezone='+01:00'`, or `'UTC'`.",
        )
    twice = np.flatnonzero(index.tz_localize(zone, ambiguous="NaT").isna())
    if not twice.size:
        return index.tz_localize(zone)
    if ambiguous == "infer":
        try:
            return index.tz_localize(zone, ambiguous="infer")
        except ValueError as reason:
            raise _ambiguous(index, twice, name, zone, f" ({reason})") from reason
    if ambiguous is None:
        raise _ambiguous(index, twice, name, zone)
    return index.tz_localize(zone, ambiguous=~later if ambiguous == "earlier" else later)


def _ambiguous(index: pd.DatetimeIndex, rows: np.ndarray, name: str, zone: str, reason: str = "") -> InvalidTelemetry:
    return InvalidTelemetry(
        f"The clock of `{zone}` showed times that stand in `{name}` twice: it went back.",
        expected="a UTC offset with each time, or the choice which of the two instants is meant",
        received=f"{index[rows[0]]}, and {rows.size} such times in all: {rows_in_words(rows)}{reason}",
        advice="Pass `ambiguous='earlier'` (summer time), `'later'` (winter time), or `'infer'` where the hour "
        "stands in the data twice, in order.",
    )


def _no_dates(index: pd.Index, name: str, timezone: str) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"`timezone` is given, but the times in `{name}` are numbers.",
        expected="dates, which have a time zone",
        received=f"{index[0]!r}, … and `timezone='{timezone}'`",
        advice="Leave `timezone` out; numbers may start from any moment, and `units={'time': 's'}` says their unit.",
    )


def counted(times: pd.Index) -> np.ndarray:
    """Times as numbers: dates in whole nanoseconds, others as they are."""
    if isinstance(times, pd.DatetimeIndex):
        return times.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return times.to_numpy(np.float64)


def length_of(value: Any, *, dated: bool) -> int | float | None:
    """A length of time as `counted` counts: of dates from text such as `"1h"`, else a number; None where it is none."""
    try:
        found = pd.Timedelta(value).as_unit("ns").value if dated else float(value)
        return found if np.isfinite(found) and isinstance(value, str) == dated else None
    except (TypeError, ValueError):
        return None


def rows_in_words(rows: np.ndarray) -> str:
    """Rows counted from 1, the first five of them: "row 3, 4"; `rows` counts from 0."""
    return "row " + ", ".join(str(row + 1) for row in rows[:5]) + (", …" if rows.size > 5 else "")


# Which rows of telemetry count, and in which order: revisions, order of time, times that occur more than once.

type Duplicates = Literal["error", "first", "last", "mean", "all"]
type Order = Literal["sort", "error"]


def revisions(
    times: pd.Index, names: np.ndarray, known: pd.Index, as_of: Any, known_at: str, zone: Zone = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which rows were in force at one moment: of those known by then the newest of each time and name.

    Args:
        times: Time of each row; shape (n,).
        names: Signal of each row, all the same where a row holds all signals; shape (n,).
        known: When each row became known; shape (n,).
        as_of: The moment, in the terms of `known`; None means when everything was known.
        known_at: Column that `known` comes from.
        zone: In which times are shown.

    Returns:
        A mask, and notices. Rows that became known at the same moment all remain.

    Raises:
        InvalidTelemetry: If nothing was known by then.
    """
    there = np.ones(len(times), dtype=bool) if as_of is None else np.asarray(known <= as_of)
    if not there.any():
        raise InvalidTelemetry(
            f"Nothing was known as of {said(as_of, zone)}.",
            expected=f"a time from {said(known.min(), zone)} on, the first in `{known_at}`",
            received=said(as_of, zone),
            advice="Correct `as_of`.",
        )
    rows = pd.DataFrame({"time": times, "name": names, "known": known})[there]
    newest = rows.groupby(["time", "name"])["known"].transform("max")
    kept = there.copy()
    kept[there] = (rows["known"] == newest).to_numpy()
    notices = []
    if late := int((~there).sum()):
        moment = said(as_of, zone)
        notices.append(f"{late} of {len(times)} rows became known (`{known_at}`) after {moment} and were left out.")
    if replaced := int(there.sum() - kept.sum()):
        notices.append(f"{replaced} rows gave way to later revisions of the same time (`{known_at}`).")
    return kept, tuple(notices)


def in_order(
    table: pd.DataFrame, rows: np.ndarray, time: str, order: Order, duplicates: Duplicates
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table in order of time, each time once; and notices.

    Args:
        table: Numbers, indexed by times that are all there.
        rows: Where its rows stand in the source, counted from 0; shape (n,).
        time: Column that the times come from, for messages.
        order: Whether rows out of order are sorted or refused.
        duplicates: Which of the rows of one time is kept, whole, or that all are; or the mean of each column's values.

    Raises:
        InvalidTelemetry: If rows are out of order, or a time occurs twice, and that is to be refused.
    """
    notices = []
    steps = np.diff(table.index.to_numpy())
    backwards = np.flatnonzero(steps.astype(np.float64) < 0) + 1
    if backwards.size:
        where = rows_in_words(rows[backwards])
        if order == "error":
            advice = "Pass `order='sort'` to have it sorted, or correct the record."
            raise wrong_times(time, "runs backwards", rows[backwards], advice)
        place = np.argsort(table.index.to_numpy(), kind="stable")
        table, rows = table.iloc[place], rows[place]
        how_often = f"{backwards.size} time{'s' if backwards.size > 1 else ''}"
        notices.append(f"`{time}` runs backwards {how_often} and was sorted ({where}).{_clock(steps, table.index)}")
    again = table.index.duplicated()
    if again.any():
        again_rows = np.sort(rows[again])
        if duplicates == "error":
            advice = (
                "Are they replicates, several readings at one time? `duplicates='all'` keeps them, and each counts. "
            )
            advice += (
                "Where a row was logged again, keep one: `duplicates='first'` or `'last'`, or take their `'mean'`."
            )
            advice += _clock(steps, table.index)
            raise wrong_times(time, "occurs twice", again_rows, advice)
        told = f"({rows_in_words(again_rows)})"
        if duplicates == "all":
            said = f"{again_rows.size} rows repeat a time in `{time}`: they were kept as replicates {told}."
            return table, (*notices, said)
        if duplicates == "mean":
            table = pd.DataFrame(table.groupby(level=0).mean())
        else:
            table = table.loc[~table.index.duplicated(keep=duplicates)]
        did = {"first": "the first was kept", "last": "the last was kept", "mean": "their mean was taken"}[duplicates]
        notices.append(f"{again_rows.size} rows repeat a time in `{time}`: {did} {told}.")
    return table, tuple(notices)


def _clock(steps: np.ndarray, times: pd.Index) -> str:
    """A hint where dates go back by no more than an hour, as the clock does in autumn."""
    if not isinstance(times, pd.DatetimeIndex):
        return ""
    back = steps[steps.astype(np.float64) < 0]
    if back.size and (back >= np.timedelta64(-1, "h")).all():
        return " They go back by an hour at most, as a clock does in autumn: are they local times? Pass `timezone=`."
    return ""


def at(values: np.ndarray, times: pd.Index, among: pd.Index) -> np.ndarray:
    """Values of times `among` others, NaN where they do not stand there; replicates as in `paired`; shape (n,)."""
    places = paired(times, among)
    return (
        np.where(places < 0, np.nan, np.asarray(values, float)[places]) if len(among) else np.full(len(times), np.nan)
    )


def paired(times: pd.Index, among: pd.Index) -> np.ndarray:
    """Where times stand among others, in order of time; −1 where they do not; shape (n,).

    Of times that are there more than once, as those of replicates, the first is the first and the second the second;
    where there are fewer, the last one stands for the rest.
    """
    if among.is_unique:
        return among.get_indexer(times)
    begins = np.flatnonzero(~among.duplicated())
    which = among[begins].get_indexer(times)
    number = pd.Series(np.zeros(len(times))).groupby(np.asarray(times)).cumcount().to_numpy()
    size = np.diff(np.append(begins, len(among)))
    return np.where(which < 0, -1, begins[which] + np.minimum(number, size[which] - 1))
