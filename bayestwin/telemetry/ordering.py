"""Which rows of telemetry count, and in which order: revisions, order of time, times that occur more than once."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.moments import Zone, said
from bayestwin.telemetry.times import rows_in_words, time_message

type Duplicates = Literal["error", "first", "last", "mean"]
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
        message = explain(
            f"Nothing was known as of {said(as_of, zone)}.",
            expected=f"a time from {said(known.min(), zone)} on, the first in `{known_at}`",
            received=said(as_of, zone),
            advice="Correct `as_of`.",
        )
        raise InvalidTelemetry(message)
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
        duplicates: Which of the rows of one time is kept, whole; or the mean of each column's values there.

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
            raise InvalidTelemetry(time_message(time, "runs backwards", rows[backwards], advice))
        place = np.argsort(table.index.to_numpy(), kind="stable")
        table, rows = table.iloc[place], rows[place]
        how_often = f"{backwards.size} time{'s' if backwards.size > 1 else ''}"
        notices.append(f"`{time}` runs backwards {how_often} and was sorted ({where}).{_clock(steps, table.index)}")
    again = table.index.duplicated()
    if again.any():
        again_rows = np.sort(rows[again])
        if duplicates == "error":
            advice = "Keep one: `duplicates='first'` or `'last'`, or take their `'mean'`."
            advice += _clock(steps, table.index)
            raise InvalidTelemetry(time_message(time, "occurs twice", again_rows, advice))
        if duplicates == "mean":
            table = pd.DataFrame(table.groupby(level=0).mean())
        else:
            table = table.loc[~table.index.duplicated(keep=duplicates)]
        did = {"first": "the first was kept", "last": "the last was kept", "mean": "their mean was taken"}[duplicates]
        notices.append(f"{again_rows.size} rows repeat a time in `{time}`: {did} ({rows_in_words(again_rows)}).")
    return table, tuple(notices)


def _clock(steps: np.ndarray, times: pd.Index) -> str:
    """A hint where dates go back by no more than an hour, as the clock does in autumn."""
    if not isinstance(times, pd.DatetimeIndex):
        return ""
    back = steps[steps.astype(np.float64) < 0]
    if back.size and (back >= np.timedelta64(-1, "h")).all():
        return " They go back by an hour at most, as a clock does in autumn: are they local times? Pass `timezone=`."
    return ""
