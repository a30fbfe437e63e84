"""Sensors that do not change: never, or for so long at once as their own habits make improbable."""

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding
from bayestwin.check.signals import Signal, is_switched, percentage
from bayestwin.check.thresholds import Thresholds
from bayestwin.telemetry import said

IMPROBABLE = 1e-6
"""A run is improbable if by chance fewer than so many of its length were expected in the whole record."""

HABIT = 3.0
"""A run is a habit if others are longer than it over this: a signal that rests now and then is not stuck."""


def constant(signal: Signal) -> list[Finding]:
    """All values are the same."""
    values = signal.values[signal.present]
    if values.size < 2 or values.min() != values.max():
        return []
    value = float(values[0])
    sentence = (
        f"{signal.called} never changes: all {values.size:,} values are {value:g} {signal.unit}".rstrip()
        + ". Check the sensor; a constant says next to nothing about the dynamics."
    )
    # an input that nobody changes is a matter of the experiment
    severity = "warn" if signal.role == "observation" else "note"
    return [Finding("constant", severity, signal.name, sentence, {"value": value, "values": int(values.size)})]


def stuck(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Runs of equal values that the rest of the record makes improbable.

    With a share `p` of values elsewhere that repeat the one before, `n (1 − p) p^(L − 1)` runs of L values or more are
    expected by chance in n. A run also has to be three times as long as the third longest of the other ones, since a
    signal that comes to rest repeats itself without being stuck; and an input may rest at its ends, or at 0.
    """
    there = signal.present
    values = signal.values[there]
    if values.size < max(2 * limits.stuck, 20) or values.min() == values.max():
        return []
    if signal.role == "input" and is_switched(signal):
        return []  # it is held on purpose
    starts = np.r_[0, np.flatnonzero(np.diff(values) != 0) + 1]
    lengths = np.diff(np.r_[starts, values.size])
    rests = {0.0, float(values.min()), float(values.max())}
    found = []
    for run in np.argsort(lengths, kind="stable")[::-1][:5]:
        length, value = int(lengths[run]), float(values[starts[run]])
        others = np.delete(lengths, run)
        if length < limits.stuck or not _improbable(length, others, values.size):
            break
        if signal.role == "input" and value in rests:
            continue
        found.append(there[starts[run] : starts[run] + length])
    if not found:
        return []
    rows = np.concatenate(found)
    longest = max(found, key=len)
    value = float(signal.values[longest[0]])
    words = (
        f"does not move from {signal.amount(value)} for {len(longest)} values in a row, while it repeats only "
        f"{percentage(_repeats(np.delete(lengths, np.argmax(lengths))))} of its values elsewhere"
    )
    advice = (
        f"If the sensor or its transmission was stuck, leave these values out when reading: `{_drop(signal, found)}`."
    )
    evidence = {"value": value, "longest": len(longest), "runs": len(found)}
    return [signal.finding("stuck", "warn", np.sort(rows), words, advice, **evidence)]


def _drop(signal: Signal, found: list[np.ndarray]) -> str:
    """The argument that drops stretches of rows, the first three of them."""
    stretches = sorted(found, key=lambda rows: rows[0])[:3]
    ends = [[signal.times[int(row)] for row in (rows[0], rows[-1])] for rows in stretches]
    dated = isinstance(signal.times, pd.DatetimeIndex)
    shown = [[said(end, signal.zone) if dated else float(end) for end in pair] for pair in ends]
    return f"drop={[{'column': signal.name, 'start': start, 'end': end} for start, end in shown]}"


def _repeats(lengths: np.ndarray) -> float:
    """Share of values that repeat the one before, from lengths of runs; never quite 0, as it is not known so well."""
    return float((lengths - 1).sum() + 1) / float(lengths.sum() + 2)


def _improbable(length: int, others: np.ndarray, num: int) -> bool:
    # up to four more runs may be stuck as well
    habits = np.sort(others)[::-1][min(4, others.size - 1) :]
    if others.size < 5 or habits[0] * HABIT >= length:
        return False
    share = _repeats(habits)
    return num * (1 - share) * share ** (length - 1) < IMPROBABLE
