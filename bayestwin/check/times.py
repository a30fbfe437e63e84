"""The times of a record: given twice, out of order, irregular, with gaps; and what reading did about them."""

import re
import warnings

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding, place, where
from bayestwin.check.signals import Record, Signal, lasting, numbers_of, percentage
from bayestwin.check.thresholds import Thresholds
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
    index, found = table.index, []
    steps = np.diff(numbers_of(index))
    if (backwards := np.flatnonzero(steps < 0) + 1).size:
        evidence = place(backwards, index, first, zone)
        words = f"Times run backwards at {where(evidence)}. Sort the rows, and find out why they are not in order."
        found.append(Finding("out_of_order", "fail", "", words, evidence))
    if (again := np.flatnonzero(index.duplicated())).size:
        evidence = place(again, index, first, zone)
        words = (
            f"Times are there more than once: {where(evidence)} repeat a time, the first is "
            f"{said(index[again[0]], zone)}. Say which row counts by `duplicates=` when reading."
        )
        found.append(Finding("duplicate", "fail", "", words, evidence))
    return found


def notices_of(notices: tuple[str, ...], source: str) -> list[Finding]:
    """What reading did, by kind; `source_rows` are the first rows concerned, counted from 1 in the source."""
    found = []
    for sentence in notices:
        kind = next((kind for words, kind in _NOTICES.items() if words in sentence), "reading")
        evidence: dict[str, object] = {"source": source}
        if rows := re.search(r"\(row ([\d, ]+)", sentence):
            evidence["source_rows"] = [int(row) for row in re.findall(r"\d+", rows[1])]
        column = re.match(r"(?:`[^`]+` \()?`([^`]+)`\)?: (?:\d+|no) (?:cell|value|missing cell)", sentence)
        found.append(Finding(kind, "note", column[1] if column else "", sentence, evidence))
    return found


def irregular(record: Record) -> list[Finding]:
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


def gaps(record: Record, limits: Thresholds) -> list[Finding]:
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
