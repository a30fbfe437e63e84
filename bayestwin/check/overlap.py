"""Rows that are there twice: stretches repeated within a record, and telemetry that is both calibrated and held out."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding, place, ranges_of, where
from bayestwin.check.signals import Record
from bayestwin.telemetry import Telemetry

STRETCH = 12
"""Rows in a row, not all alike, that must agree in all columns to be a repetition."""

OFTEN = 0.4
"""Where a larger share of the record repeats itself, it is periodic."""

UNIQUE = 0.3
"""Where fewer rows are there but once, values are so coarse that stretches agree by chance."""

DIFFERENT = 8
"""So many of them must differ from each other."""


def overlap(telemetry: Telemetry, held_out: Telemetry) -> list[Finding]:
    """Times that both have, and stretches of rows that both have at other times."""
    ours, theirs = telemetry.table, held_out.table
    same = np.flatnonzero(ours.index.isin(theirs.index))
    what = "A validation on what was calibrated flatters: hold out other rows."
    if same.size:
        evidence = place(same, ours.index, zone=telemetry.timezone)
        sentence = (
            f"{same.size:,} times are both calibrated and held out ({where(evidence)} of the calibration). {what}"
        )
        return [Finding("overlap", "fail", "", sentence, evidence)]
    columns = [name for name in ours.columns if name in theirs.columns]
    if not columns:
        return []
    both = pd.concat([ours[columns], theirs[columns]])
    rows = copies(both.to_numpy(np.float64), [len(ours), len(theirs)])
    rows = {later: earlier for later, earlier in rows.items() if later >= len(ours) > earlier}
    if not rows:
        return []
    evidence = place(np.array(sorted(rows.values())), ours.index, zone=telemetry.timezone)
    evidence["held_out_rows"] = ranges_of(np.array(sorted(rows)) - len(ours))
    sentence = (
        f"{len(rows):,} rows of what is held out repeat calibrated ones at other times ({where(evidence)} of the "
        f"calibration). {what}"
    )
    return [Finding("overlap", "fail", "", sentence, evidence)]


def repeated(record: Record) -> list[Finding]:
    """Stretches in which all columns repeat earlier rows to the last digit, as when a buffer is sent twice."""
    if len(record.signals) == 0 or len(record.times) < 2 * STRETCH:
        return []
    rows = copies(np.column_stack([one.values for one in record.signals]))
    # a cycle that repeats over most of the record is how it was made
    if not 0 < len(rows) <= OFTEN * len(record.times):
        return []
    later = np.array(sorted(rows))
    evidence = place(later, record.times, record.first, record.zone)
    evidence["copied_from"] = ranges_of(np.array(sorted(rows.values())), record.first)
    sentence = (
        f"{later.size:,} rows repeat earlier ones in all columns, to the last digit ({where(evidence)}, from "
        f"{evidence['times'][0]} to {evidence['times'][1]}). Drop them if they were recorded or sent twice."
    )
    return [Finding("repeated", "warn", "", sentence, evidence)]


def copies(values: np.ndarray, parts: Sequence[int] = ()) -> dict[int, int]:
    """Rows that lie in a stretch that agrees with an earlier one, and the rows that they agree with.

    Args:
        values: Shape (n, columns).
        parts: How many rows each of several records has that were put one after the other; one by default.
    """
    num = len(values) - STRETCH + 1
    if num < 2:
        return {}
    codes = pd.factorize(pd.Series([row.tobytes() for row in np.nan_to_num(values, nan=np.inf) + 0.0]))[0]
    # each record by itself: a copy of the whole record has no row that is there but once
    edges = np.cumsum([0, *(parts or [len(values)])])
    fine = np.zeros(len(values), dtype=bool)
    for start, end in pairwise(edges):
        own = np.unique(codes[start:end], return_counts=True)[1]
        fine[start:end] = end > start and np.sum(own == 1) >= UNIQUE * (end - start)
    changes = np.r_[0, np.cumsum(np.diff(codes) != 0)]
    lively = (changes[STRETCH - 1 :] - changes[:num] >= DIFFERENT - 1) & fine[:num]
    # no stretch goes on from one record into the next
    lively &= np.searchsorted(edges, np.arange(num), "right") == np.searchsorted(
        edges, np.arange(num) + STRETCH - 1, "right"
    )
    stretches = np.lib.stride_tricks.sliding_window_view(codes, STRETCH)
    seen: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for at in np.flatnonzero(lively):
        key = stretches[at].tobytes()
        before = seen.setdefault(key, int(at))
        if before + STRETCH <= at and len(set(stretches[at])) >= DIFFERENT:
            found |= {int(at) + row: before + row for row in range(STRETCH)}
    return found
