"""A record on even steps, so that a lag in rows is a lag in time: values between neighbours, none in longer steps."""

from typing import NamedTuple

import numpy as np

from bayestwin.check.signals import ORDINARY, Record, Signal, is_switched, usual_step

JITTER = 0.01
"""Steps within this share of the usual one are even already."""


class Even(NamedTuple):
    """A record on the grid of its usual step.

    Attributes:
        signals: With values (NaN where their neighbours are further apart than an ordinary step) and `clock` on the
            grid, where long steps are shortened; shape (g,) each.
        rows: The row at or before each time of the grid; shape (g,).
        since: Share of the record that has gone by; shape (g,).
    """

    signals: tuple[Signal, ...]
    rows: np.ndarray
    since: np.ndarray


def evenly(record: Record, longest: int) -> Even | None:
    """The record on even steps; None where it has none.

    What is switched keeps its last value between two rows, everything else goes straight from one to the other.

    Args:
        record: In order of time.
        longest: Steps without values that a long one becomes at most: where nothing is known, a day is as good as a
            year.
    """
    usual, clock = usual_step(record.clock), record.clock
    if not np.isfinite(usual):
        return None
    since = (clock - clock[0]) / (clock[-1] - clock[0])
    steps = np.diff(clock) / usual
    if np.all(np.abs(steps - 1.0) <= JITTER):
        return Even(record.signals, np.arange(clock.size), since)
    # whole steps stay whole, so that rows on a grid with gaps stay on it
    own = np.r_[0.0, np.cumsum(np.where(steps > longest, longest + steps % 1.0, steps))]
    at = np.arange(int(own[-1] + JITTER) + 1)
    rows = np.clip(np.searchsorted(own, at + JITTER, "right") - 1, 0, clock.size - 1)
    grid = clock[0] + usual * at
    signals = tuple(one._replace(values=_values(one, own, at), clock=grid) for one in record.signals)
    return Even(signals, rows, np.interp(at, own, since))


def _values(signal: Signal, own: np.ndarray, at: np.ndarray) -> np.ndarray:
    """One signal on the grid; shape (g,)."""
    there = signal.present
    if there.size < 2:
        return np.full(at.size, np.nan)
    times, values = own[there], signal.values[there]
    before = np.clip(np.searchsorted(times, at + JITTER, "right") - 1, 0, there.size - 1)
    after = np.clip(np.searchsorted(times, at - JITTER, "left"), 0, there.size - 1)
    known = (times[before] <= at + JITTER) & (times[after] >= at - JITTER)
    known &= times[after] - times[before] <= ORDINARY[1]
    between = values[before] if is_switched(signal) else np.interp(at, times, values)
    return np.where(known, between, np.nan)
