"""Values that are dropped and cells that are filled, as the user declares; and records cut at their gaps."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.columns import counted_noun, found_names
from bayestwin.telemetry.record import Telemetry, said
from bayestwin.telemetry.times import Clock, counted, given_time, length_of

type FillHow = Literal["previous", "linear"]


class Drop(TypedDict, total=False):
    """A stretch whose values become missing, both ends included; of all columns where none is named."""

    column: str
    start: Any
    end: Any


class Fill(TypedDict):
    """How missing cells between known ones are filled, where these lie no further apart than `within`."""

    how: FillHow
    within: NotRequired[str | float]


class Stretch(NamedTuple):
    """A `Drop` in the terms of the table: its columns, and the rows."""

    columns: tuple[str, ...]
    start: Any
    end: Any


def dropped(
    table: pd.DataFrame,
    drop: Sequence[Drop],
    clock: Clock,
    labels: Mapping[str, str],
    own: Callable[[str], str],
) -> tuple[pd.DataFrame, tuple[str, ...], list[Any]]:
    """The table without the values in some stretches.

    Args:
        table: Numbers in order of time.
        drop: The stretches.
        clock: On which their ends are read.
        labels: What messages call each column.
        own: The name in the table of a column that is named as in the twin.

    Returns:
        The table, notices, and the stretches as plain values for `Telemetry.settings`.

    Raises:
        InvalidTelemetry: If a stretch has no end, ends before it starts, or names a column that is not there.
    """
    table, notices, plain = table.copy(), [], []
    for number, one in enumerate(drop, start=1):
        stretch = _stretch(one, f"drop[{number}]" if len(drop) > 1 else "drop", table, clock, labels, own)
        inside = np.ones(len(table), dtype=bool)
        if stretch.start is not None:
            inside &= np.asarray(table.index >= stretch.start)
        if stretch.end is not None:
            inside &= np.asarray(table.index <= stretch.end)
        for column in stretch.columns:
            values = table[column].to_numpy(np.float64)
            rows = np.flatnonzero(inside & np.isfinite(values))
            if rows.size:
                table[column] = np.where(inside, np.nan, values)
                span = _span(table.index, rows, clock)
                were = "was" if rows.size == 1 else "were"
                notices.append(
                    f"{labels[column]}: {counted_noun(rows.size, 'value')} {were} dropped, as declared: {span}."
                )
            elif one.get("column") is not None:
                ends = [("the start", stretch.start), ("the end", stretch.end)]
                shown = " to ".join(name if end is None else said(end, clock.timezone) for name, end in ends)
                notices.append(f"{labels[column]}: no value was dropped: it has none from {shown}.")
        ends = [None if end is None else str(end) for end in (stretch.start, stretch.end)]
        plain.append((None if one.get("column") is None else stretch.columns[0], *ends))
    return table, tuple(notices), plain


def filled(
    table: pd.DataFrame, fill: Mapping[str, FillHow | Fill], clock: Clock, labels: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...], list[Any]]:
    """The table with missing cells filled between known ones, by the last value or on the line between the neighbours.

    Args:
        table: Numbers in order of time, each time once.
        fill: How, by column.
        clock: On which times are shown.
        labels: What messages call each column.

    Returns:
        The table, notices, and what was declared as plain values for `Telemetry.settings`.

    Raises:
        InvalidTelemetry: If a column is not there, or how to fill it makes no sense.
    """
    table, notices, plain = table.copy(), [], []
    times = counted(table.index)
    for column, wanted in found_names(fill, table.columns, "fill", labels).items():
        how, within = _rule(labels[column], wanted, dated=isinstance(table.index, pd.DatetimeIndex))
        plain.append((column, how, None if within is None else str(within)))
        values = table[column].to_numpy(np.float64)
        there = np.flatnonzero(np.isfinite(values))
        gone = np.flatnonzero(~np.isfinite(values))
        if not there.size:
            continue
        place = np.searchsorted(there, gone)
        between = (place > 0) & (place < there.size)
        gone, place = gone[between], place[between]
        before, after = there[place - 1], there[place]
        near = np.ones(gone.size, dtype=bool) if within is None else times[after] - times[before] <= within
        rows, before, after = gone[near], before[near], after[near]
        found = values[before]
        if how == "linear":
            # the difference comes first: whole nanoseconds since 1970 have more digits than a float keeps
            share = (times[rows] - times[before]).astype(np.float64) / (times[after] - times[before])
            found = found + share * (values[after] - found)
        values = values.copy()
        values[rows] = found
        table[column] = values
        notices += _told(labels[column], how, table.index, rows, gone[~near], clock)
    return table, tuple(notices), plain


def _told(label: str, how: FillHow, index: pd.Index, rows: np.ndarray, left: np.ndarray, clock: Clock) -> list[str]:
    """What was filled, and what was too long for it."""
    notices = []
    if rows.size:
        what = "the value before" if how == "previous" else "a straight line between the values around"
        were = "was" if rows.size == 1 else "were"
        shown = f"{counted_noun(rows.size, 'missing cell')} {were} filled, as declared, by {what}"
        notices.append(f"{label}: {shown}: {_span(index, rows, clock)}.")
    if left.size:
        where = _span(index, left, clock)
        notices.append(f"{label}: {counted_noun(left.size, 'cell')} stay missing: longer than `within`: {where}.")
    return notices


def _span(index: pd.Index, rows: np.ndarray, clock: Clock) -> str:
    """Where rows lie: at one time, in one stretch, or between the first and the last of several."""
    first, last = (said(index[int(row)], clock.timezone) for row in (rows[0], rows[-1]))
    if rows.size == 1:
        return f"at {first}"
    stretches = 1 + int((np.diff(rows) > 1).sum())
    return f"{first} to {last}" if stretches == 1 else f"{stretches} stretches between {first} and {last}"


def _stretch(
    one: Drop,
    argument: str,
    table: pd.DataFrame,
    clock: Clock,
    labels: Mapping[str, str],
    own: Callable[[str], str],
) -> Stretch:
    said_of = {name for name, value in one.items() if value is not None} if isinstance(one, Mapping) else set()
    if said_of - {"column", "start", "end"} or not said_of & {"start", "end"}:
        raise InvalidTelemetry(
            f"`{argument}` does not say what is to be dropped.",
            expected="`start`, `end` or both, both included, and perhaps `column`",
            received=", ".join(f"`{name}`" for name in sorted(said_of)) or repr(one),
            advice="A column that is not needed at all need not be dropped: the twin takes those that it has.",
        )
    ends = [
        None if moment is None else given_time(moment, table.index, clock, f"{argument}.{name}")
        for name, moment in (("start", one.get("start")), ("end", one.get("end")))
    ]
    start, end = ends
    if start is not None and end is not None and start > end:
        shown = " to ".join(said(moment, clock.timezone) for moment in ends)
        raise InvalidTelemetry(
            f"`{argument}` ends before it starts.",
            expected="a stretch whose end is not before its start",
            received=f"from {shown}",
            advice="Swap them, or leave one out.",
        )
    columns = tuple(map(str, table.columns))
    if (column := one.get("column")) is not None:
        columns = tuple(found_names({own(column): None}, columns, f"{argument}.column", labels))
    return Stretch(columns, start, end)


def _rule(label: str, wanted: FillHow | Fill, *, dated: bool) -> tuple[FillHow, int | float | None]:
    """How a column is filled, and the widest distance of the known values around, counted as times are."""
    how = wanted if isinstance(wanted, str) else wanted.get("how") if isinstance(wanted, Mapping) else None
    stray = set(wanted) - {"how", "within"} if isinstance(wanted, Mapping) else set()
    if how not in ("previous", "linear") or stray:
        raise InvalidTelemetry(
            f"How {label} is to be filled makes no sense.",
            expected="`fill={'column': 'previous'}`, `'linear'`, or `{'how': 'linear', 'within': '15min'}`",
            received=f"{wanted!r}",
            advice="Cells are filled between known ones alone, by the value before or on a line between both.",
        )
    within = wanted.get("within") if isinstance(wanted, Mapping) else None
    if within is None:
        return how, None
    found = length_of(within, dated=dated)
    if found is None or found <= 0:
        raise InvalidTelemetry(
            f"`within` of `fill` is no length of time, for {label}.",
            expected="a duration such as `'15min'`" if dated else "a positive number, in the unit of the times",
            received=f"{within!r}",
            advice="It is the widest distance of the two known values around a stretch that is filled.",
        )
    return how, found


# A record cut where nothing was recorded: what nobody knows is bridged nowhere.


def cut_at_gaps(telemetry: Telemetry, longest: str | float) -> dict[str, Telemetry]:
    """Cut telemetry at its gaps into experiments, for `calibrate`: each begins anew, in a state of its own.

    Inputs are interpolated between rows, also across a gap, where they may have been anything. Parameters are the same
    in all parts, so that nothing is lost but what the gap would have made wrong.

    Args:
        telemetry: What was recorded.
        longest: Time between two rows that is no gap yet: text such as `"1h"` where times are dates, else a number.

    Returns:
        Telemetry by name, `part_1` and so on, in order of time. Initial states hold at the first time of each.

    Raises:
        InvalidTelemetry: If `longest` is no length of time, or leaves a part with a single row.
    """
    times = telemetry.table.index
    length = length_of(longest, dated=telemetry.dated)
    if length is None or length <= 0:
        raise InvalidTelemetry(
            "`longest` is no length of time.",
            expected='text such as `"1h"`' if telemetry.dated else "a positive number, in the unit of the times",
            received=repr(longest),
            advice="Say how far apart two rows may be before something may have happened between them.",
        )
    edges = [0, *(np.flatnonzero(np.diff(counted(times)) > length) + 1).tolist(), len(times)]
    short = [first for first, last in pairwise(edges) if last - first < 2]
    if short:
        raise InvalidTelemetry(
            "A part of the telemetry between two gaps has a single row.",
            expected=f"at least two rows that are at most {longest} apart",
            received=f"one at {times[short[0]]}",
            advice="Choose a larger `longest`, or drop that row.",
        )
    parts = [telemetry.table.iloc[first:last] for first, last in pairwise(edges)]
    return {
        f"part_{number}": telemetry.with_table(part, t0=part.index[0]) for number, part in enumerate(parts, start=1)
    }
