"""Missing values of a sensor: how many, in which blocks, and whether they go with another column or the time of day."""

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding
from bayestwin.check.signals import Record, Signal, lasting, percentage, runs_of, usual_step
from bayestwin.check.thresholds import Thresholds
from bayestwin.check.times import local_steps, long_steps
from bayestwin.telemetry import said

RATIO = 4.0
"""Values that are missing so many times as often in one regime as in the other go with it."""

SURE = 4.0
"""Standard errors by which a share must differ from that of chance."""


def missing(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Missing values and blocks of them, as far as rows are there; a sensor that reports more rarely has no block."""
    there = signal.present
    if there.size < 2:
        return []
    gone = ~np.isfinite(signal.values)
    if not gone.any():
        return []
    share = float(np.mean(gone))
    own = signal.clock[there]
    long = long_steps(own, limits.gap)
    blocks = [np.arange(int(there[at]) + 1, int(there[at + 1])) for at in long if there[at + 1] > there[at] + 1]
    blocks += _ends(signal, there, limits.gap)
    evidence = {"share": share, "usual": lasting(signal, usual_step(own))}
    if blocks:
        longest = max(blocks, key=len)
        before, after = max(longest[0] - 1, 0), min(longest[-1] + 1, len(signal.clock) - 1)
        gap = lasting(signal, float(signal.clock[after] - signal.clock[before]))
        start, end = (said(signal.times[row], signal.zone) for row in (before, after))
        words = (
            f"has {len(blocks)} long gap{'s' if len(blocks) > 1 else ''}, the longest of {gap}, from {start} to {end} "
            f"(usual step {evidence['usual']}); {percentage(share)} of its values are missing"
        )
        evidence |= {"gap": gap, "start": start, "end": end}
        advice = "The posterior rests on the rest; look whether what is missing is what mattered."
        return [signal.finding("gap", "warn", np.concatenate(blocks), words, advice, **evidence)]
    sparse = there.size > 2 and bool(np.ptp(np.diff(there)) == 0)  # it reports every so many rows
    severity = "warn" if share > limits.missing and not sparse else "note"
    words = f"misses {percentage(share)} of its values"
    return [signal.finding("missing", severity, np.flatnonzero(gone), words, **evidence)]


def _ends(signal: Signal, there: np.ndarray, factor: float) -> list[np.ndarray]:
    """Rows before the first value and after the last one, where these are many usual steps."""
    local = local_steps(signal.clock[there])
    # rows may lie further apart there than where there were values
    first, last = local_steps(signal.clock[: there[0] + 2]), local_steps(signal.clock[there[-1] - 1 :])
    usual = [max(local[0], first[0]), max(local[-1], last[-1])]
    ends = [np.arange(there[0]), np.arange(there[-1] + 1, len(signal.values))]
    spans = [signal.clock[there[0]] - signal.clock[0], signal.clock[-1] - signal.clock[there[-1]]]
    return [rows for rows, span, step in zip(ends, spans, usual, strict=True) if rows.size and span > factor * step]


def missing_by_regime(record: Record) -> list[Finding]:
    """Values of a sensor that are missing mostly where another column is low or high, or at one time of day."""
    found = []
    for signal in record.signals:
        gone = ~np.isfinite(signal.values)
        stretches = runs_of(gone)
        if len(stretches) < 8 or gone.all():
            continue
        regimes = {other.called: other.values for other in record.signals if other.name != signal.name}
        if isinstance(record.times, pd.DatetimeIndex):
            regimes["the hour of the day (UTC)"] = np.asarray(record.times.hour, dtype=np.float64)
        for name, values in regimes.items():
            if side := _side(stretches, values):
                words = f"is missing mostly where {name} is {side}"
                advice = "What is left does not represent that regime: ask why values are missing there."
                found.append(signal.finding("missing_regime", "warn", np.flatnonzero(gone), words, advice, by=name))
                break
    return found


def _side(stretches: np.ndarray, values: np.ndarray) -> str:
    """Where missing stretches begin: "high" or "low" if mostly above or below the median of these values, else nothing.

    A stretch counts as one, by a binomial test with its normal approximation.
    """
    known = np.isfinite(values)
    starts = stretches[:, 0][known[stretches[:, 0]]]
    if starts.size < 8:
        return ""
    middle = np.median(values[known])
    share = float(np.mean(values[known] > middle))
    high = float(np.mean(values[starts] > middle))
    error = np.sqrt(share * (1 - share) / starts.size)
    if error == 0 or abs(high - share) < SURE * error:
        return ""
    odds = (high / share, (1 - high) / (1 - share))
    if max(odds) < RATIO * min(odds):
        return ""
    return "high" if odds[0] > odds[1] else "low"
