"""Numbers that mean “missing” and that nobody declared: they lie apart from all others, and come again."""

import numpy as np

from bayestwin.check.finding import Finding
from bayestwin.check.signals import Signal

CODES = (-1.0, -127.0, 85.0, 99.0, 127.0, 255.0, 850.0, 999.0, 9999.0, 32767.0, -32768.0, 65535.0, 99999.0, 1e6)
"""What sensors, buses and loggers show when they have nothing to show, beside what reading refuses already."""

MOST = 0.5
"""A larger share of one value is no sentinel."""

RARE = 0.05
"""Likewise of an input."""


def sentinels(signal: Signal) -> list[Finding]:
    """Values further from all others than these are from each other, that come more than once or are usual codes."""
    there = signal.present
    values = signal.values[there]
    if values.size < 20:
        return []
    taken: list[float] = []
    left = values
    for _ in range(3):
        found = _apart(left, signal)
        if found is None:
            break
        taken.append(found)
        left = left[left != found]
    if not taken:
        return []
    rows = np.flatnonzero(np.isin(signal.values, taken))
    shown = " and ".join(signal.amount(value) for value in taken)
    low, high = (signal.amount(float(end)) for end in (left.min(), left.max()))
    words = f"holds {shown} in {rows.size} rows, far from all other values ({low} to {high})"
    advice = f"If it means “missing”, read with `sentinels=({', '.join(f'{value:g}' for value in taken)},)`."
    return [signal.finding("sentinel", "fail", rows, words, advice, values=taken)]


def _apart(values: np.ndarray, signal: Signal) -> float | None:
    """The value at one end that lies apart from all others; None where there is none."""
    levels, counts = np.unique(values, return_counts=True)
    if levels.size < 6:
        return None
    for end, inner, outer in ((0, 1, -1), (-1, -2, 0)):
        gap = abs(levels[inner] - levels[end])
        rest = abs(levels[outer] - levels[inner])
        repeated = counts[end] > 1 and counts[end] <= MOST * signal.present.size
        coded = levels[end] in CODES
        if signal.role == "input":  # it may be driven at one level for long
            repeated = repeated and counts[end] <= RARE * signal.present.size and gap > 3 * rest
        # one value twice may be chance where values are coarse; far from all others it is none
        if signal.role == "input" and levels[end] == 0.0:
            continue  # it is off
        if gap > rest > 0 and (repeated or coded):
            return float(levels[end])
    return None
