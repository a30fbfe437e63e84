"""Telemetry against the twin's operating range: outside it, too fast, not visited; and held out beyond calibrated."""

from collections.abc import Mapping

import numpy as np

from bayestwin.readiness.card import Limit
from bayestwin.readiness.finding import Finding
from bayestwin.readiness.signals import Record, Signal, percentage
from bayestwin.readiness.thresholds import Thresholds

SCALES = (1e3, 1e-3, 60.0, 1 / 60.0, 100.0, 0.01, 3.6, 1 / 3.6, 1e6, 1e-6)
"""Factors between units that are taken for each other: kW and W, h and min, a share and a percentage, km/h and m/s."""

ENDS = (0.005, 0.995)
"""Quantiles between which a signal is said to have been."""

BEYOND = 0.1
"""Held-out values may lie outside what was calibrated by this share of its span."""


def ranges(signal: Signal, limit: Limit) -> list[Finding]:
    """Values outside the range; a suggestion where another unit would bring most of them in."""
    outside = np.flatnonzero((signal.values < limit.low) | (signal.values > limit.high))
    if outside.size == 0:
        return []
    there = signal.values[signal.present]
    share = outside.size / there.size
    stated = limit.words(signal.unit)
    extremes = [float(signal.values[outside].min()), float(signal.values[outside].max())]
    shown = (
        signal.amount(extremes[0])
        if extremes[0] == extremes[1]
        else f"{extremes[0]:.4g} to {signal.amount(extremes[1])}"
    )
    words = f"lies outside the twin's operating range of {stated} in {percentage(share)} of its values: {shown}"
    advice = "The twin is not made for that: leave these times out (`drop=`), or do not rely on it there."
    if share > 0.5:
        for factor in SCALES:
            inside = np.mean((there * factor >= limit.low) & (there * factor <= limit.high))
            if inside > 0.9 and limit.high > limit.low:
                words += f"; times {factor:.3g}, {100 * inside:.0f} % would lie inside"
                advice = "Check its unit."
                evidence = {"share": share, "factor": factor, "inside": float(inside)}
                return [signal.finding("unit_scale", "fail", outside, words, advice, **evidence)]
    return [signal.finding("range", "warn", outside, words, advice, share=share, extremes=extremes)]


def rates(signal: Signal, limit: Limit, elapsed: np.ndarray, time_unit: str) -> list[Finding]:
    """Changes faster than allowed, each at the later of its two rows.

    Args:
        signal: What changes.
        limit: How fast it may.
        elapsed: Times of all rows in the twin's unit; shape (n,).
        time_unit: That unit.
    """
    there = signal.present
    if not np.isfinite(limit.max_rate) or there.size < 2:
        return []
    steps = np.diff(elapsed[there])
    rate = np.abs(np.diff(signal.values[there])) / np.where(steps > 0, steps, np.nan)
    fast = np.flatnonzero(rate > limit.max_rate)
    if fast.size == 0:
        return []
    highest = float(rate[fast].max())
    per = f"{signal.unit or '1'} in 1 {time_unit}"
    words = f"changes by up to {highest:.3g} {per}, where the twin's operating range allows {limit.max_rate:.3g}"
    advice = "No asset of this kind moves so fast: look for spikes, resets or wrong times there."
    return [signal.finding("rate", "warn", there[fast + 1], words, advice, highest=highest, max_rate=limit.max_rate)]


def visited(record: Record, limits: Mapping[str, Limit], thresholds: Thresholds) -> list[Finding]:
    """How little of the stated range the calibrated part has visited."""
    found = []
    for signal in record.signals:
        limit = limits.get(signal.name, Limit())
        calibrated = _calibrated(signal, record)
        width = limit.high - limit.low
        if not np.isfinite(width) or calibrated.size < 2:
            continue
        low, high = (float(end) for end in np.quantile(calibrated, ENDS))
        share = max(min(high, limit.high) - max(low, limit.low), 0.0) / width
        if share < thresholds.coverage:
            sentence = (
                f"{signal.called} was calibrated between {signal.amount(low)} and {signal.amount(high)}: "
                f"{100 * share:.0f} % of the operating range of {signal.amount(limit.low)} to "
                f"{signal.amount(limit.high)}. Elsewhere the equations alone speak."
            )
            evidence = {"share": share, "low": low, "high": high}
            found.append(Finding("coverage", "note", signal.name, sentence, evidence))
    return found


def extrapolated(record: Record, thresholds: Thresholds) -> list[Finding]:
    """Held-out values that lie beyond what was calibrated."""
    found = []
    for signal in record.signals:
        calibrated = _calibrated(signal, record)
        if calibrated.size < 2:
            continue
        low, high = float(calibrated.min()), float(calibrated.max())
        margin = BEYOND * (high - low)
        beyond = (signal.values < low - margin) | (signal.values > high + margin)
        rows = np.flatnonzero(beyond)
        held_out = int(np.isfinite(signal.values[record.calibrated :]).sum())
        if rows.size == 0:
            continue
        share = rows.size / held_out
        words = (
            f"is outside what was calibrated ({signal.amount(low)} to {signal.amount(high)}) in {percentage(share)} of "
            "what is held out"
        )
        advice = "Forecasts extrapolate there: judge them apart."
        severity = "warn" if share > thresholds.outside else "note"
        found.append(signal.finding("extrapolation", severity, rows, words, advice, share=share))
    return found


def _calibrated(signal: Signal, record: Record) -> np.ndarray:
    values = signal.values[: record.calibrated]
    return values[np.isfinite(values)]
