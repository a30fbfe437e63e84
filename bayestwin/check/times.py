"""The times of a record: given twice, out of order, irregular, with gaps; and rows that are there twice."""

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding, Thresholds, place, ranges_of, where
from bayestwin.check.signals import Signal, SignalRecord, lasting, numbers_of, percentage
from bayestwin.telemetry import Telemetry, Zone, said

JITTER = 0.05
"""Steps within this share of the usual one count as regular."""

RARE = 0.02
"""Where a larger share of the steps is long, long steps are how the record was made, and no gaps."""

NEAR = 5
"""Steps on either side of one that tell what is usual there."""

_NOTICES = {"runs backwards": "out_of_order", "repeat a time": "duplicate", "taken as missing": "sentinel"}


def times_of(table: pd.DataFrame, first: int = 1, zone: Zone = None) -> list[Finding]:
    """Times that are there twice, or that run backwards, in the order in which the table has them."""
    index, findings = table.index, []
    steps = np.diff(numbers_of(index))
    if (backwards := np.flatnonzero(steps < 0) + 1).size:
        evidence = place(backwards, index, first, zone)
        words = f"Times run backwards at {where(evidence)}. Sort the rows, and find out why they are not in order."
        findings.append(Finding("out_of_order", "fail", "", words, evidence))
    if (again := np.flatnonzero(index.duplicated())).size:
        evidence = place(again, index, first, zone)
        words = (
            f"Times are there more than once: {where(evidence)} repeat a time, the first is "
            f"{said(index[again[0]], zone)}. Say which row counts by `duplicates=` when reading."
        )
        findings.append(Finding("duplicate", "fail", "", words, evidence))
    return findings


def notices_of(notices: tuple[str, ...], source: str) -> list[Finding]:
    """What reading did, by kind; `source_rows` are the first rows concerned, counted from 1 in the source."""
    findings = []
    for sentence in notices:
        kind = next((kind for words, kind in _NOTICES.items() if words in sentence), "reading")
        evidence: dict[str, object] = {"source": source}
        if rows := re.search(r"\(row ([\d, ]+)", sentence):
            evidence["source_rows"] = [int(row) for row in re.findall(r"\d+", rows[1])]
        column = re.match(r"(?:`[^`]+` \()?`([^`]+)`\)?: (?:\d+|no) (?:cell|value|missing cell)", sentence)
        findings.append(Finding(kind, "note", column[1] if column else "", sentence, evidence))
    return findings


def irregular(record: SignalRecord) -> list[Finding]:
    """More than 1 % of the steps are not the usual one."""
    steps = np.diff(record.clock)
    steps = steps[steps > 0]
    if len(steps) < 2:
        return []
    usual = float(np.median(steps))
    share = float(np.mean(np.abs(steps - usual) > JITTER * usual))
    if not share > 0.01:
        return []
    told = {name: lasting(record, float(step)) for name, step in _extremes(steps, usual).items()}
    sentence = (
        f"Sampling is irregular: {percentage(share)} of the steps differ from the usual {told['usual']} "
        f"(shortest {told['shortest']}, longest {told['longest']})."
    )
    return [Finding("irregular", "note", "", sentence, {"share": share, **told})]


def gaps(record: SignalRecord, limits: Thresholds) -> list[Finding]:
    """Long times between two rows; between two values of a column, see `missing`."""
    long = long_steps(record.clock, limits.gap)
    if long.size == 0:
        return []
    steps = np.diff(record.clock)
    worst = long[np.argmax(steps[long])]
    evidence = place(np.r_[long, long + 1], record.times, record.first, record.zone)
    evidence["rows"] = [[int(row) + record.first, int(row) + record.first + 1] for row in long]
    local = float(local_steps(record.clock)[worst])
    usual, longest = (lasting(record, step) for step in (local, float(steps[worst])))
    start, end = (said(record.times[row], record.zone) for row in (worst, worst + 1))
    many = "There is a gap" if long.size == 1 else f"There are {long.size} gaps, the longest"
    sentence = (
        f"{many} of {longest} between rows {worst + record.first} and {worst + record.first + 1}, from {start} to "
        f"{end} (usual step {usual}). Inputs are bridged across it. If something may have happened there, calibrate "
        "what lies on one side (`start` or `end` in `[split]`), or both as experiments, by `bt.cut_at_gaps`."
    )
    evidence |= {"gap": longest, "start": start, "end": end, "usual": usual}
    return [Finding("gap", "warn", "", sentence, evidence)]


def long_steps(clock: np.ndarray, factor: float) -> np.ndarray:
    """Rows before steps of more than `factor` usual ones; none where such steps are how the record was made."""
    steps = np.diff(clock)
    if steps.size < 4:
        return np.zeros(0, dtype=np.int64)
    long = np.flatnonzero(steps > factor * local_steps(clock))
    if long.size > max(2, RARE * steps.size):
        return np.zeros(0, dtype=np.int64)
    # a sampling that slows down by and by, as for a decay, has no gaps
    around = np.array([np.max(np.r_[steps[max(at - 1, 0) : at], steps[at + 1 : at + 2], 0.0]) for at in long])
    return long[steps[long] > 3.0 * around]


def local_steps(clock: np.ndarray) -> np.ndarray:
    """What is usual around each step: the larger one of the medians before it and after it; shape (n − 1,).

    A record may be sampled once a second while something happens and once a minute at rest: a minute is a gap in the
    first part, and not between the two.
    """
    steps = np.diff(clock)
    padded = np.r_[np.full(NEAR, np.nan), np.where(steps > 0, steps, np.nan), np.full(NEAR, np.nan)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, NEAR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing lies before the first step
        medians = np.nanmedian(windows, axis=1)
    return np.fmax(medians[: steps.size], medians[NEAR + 1 :])


def unstated(signal_units: dict[str, str], telemetry: Telemetry) -> list[Finding]:
    """Columns whose unit nobody stated.

    Args:
        signal_units: Unit in the twin, by column.
        telemetry: Has other units, by column, and knows what messages call them.
    """
    return [
        Finding(
            "unit_assumed",
            "note",
            name,
            f"{telemetry.label(name)} comes without a unit and was taken to be in {unit}, the twin's.",
            {"unit": unit},
        )
        for name, unit in signal_units.items()
        if unit and name not in telemetry.units
    ]


def few(signal: Signal, limits: Thresholds) -> list[Finding]:
    """No value, or hardly any."""
    num, rows = signal.present.size, signal.values.size
    if num >= limits.few:
        return []
    evidence = {"values": int(num), "rows_in_all": rows}
    if num == 0:
        return [Finding("few", "fail", signal.name, f"{signal.called} holds no value in {rows:,} rows.", evidence)]
    sentence = f"{signal.called} holds only {num} values: the prior will decide much of the posterior."
    return [Finding("few", "warn", signal.name, sentence, evidence)]


def _extremes(steps: np.ndarray, usual: float) -> dict[str, float]:
    return {"usual": usual, "shortest": float(steps.min()), "longest": float(steps.max())}


# Rows that are there twice: stretches repeated within a record, and telemetry that is both calibrated and held out.

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


def repeated(record: SignalRecord) -> list[Finding]:
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
