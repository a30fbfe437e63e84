"""Rows that are there twice: stretches repeated within a record, and telemetry that is both calibrated and held out."""

import numpy as np
import pandas as pd

from bayestwin.readiness.finding import Finding, place, ranges_of, where
from bayestwin.readiness.signals import Record
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
    rows = _copies(both.to_numpy(np.float64))
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
    rows = _copies(np.column_stack([one.values for one in record.signals]))
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


def _copies(values: np.ndarray) -> dict[int, int]:
    """Rows that lie in a stretch that agrees with an earlier one, and the rows that they agree with."""
    num = len(values) - STRETCH + 1
    if num < 2:
        return {}
    codes = pd.factorize(pd.Series([row.tobytes() for row in np.nan_to_num(values, nan=np.inf) + 0.0]))[0]
    changes = np.r_[0, np.cumsum(np.diff(codes) != 0)]
    lively = changes[STRETCH - 1 :] - changes[:num] >= DIFFERENT - 1
    if np.mean(np.bincount(codes)[codes] == 1) < UNIQUE:
        return {}
    stretches = np.lib.stride_tricks.sliding_window_view(codes, STRETCH)
    seen: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for at in np.flatnonzero(lively):
        key = stretches[at].tobytes()
        before = seen.setdefault(key, int(at))
        if before + STRETCH <= at and len(set(stretches[at])) >= DIFFERENT:
            found |= {int(at) + row: before + row for row in range(STRETCH)}
    return found
