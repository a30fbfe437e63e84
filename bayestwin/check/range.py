"""Telemetry against the twin's operating range: outside it, too fast, not visited; and held out beyond calibrated."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bayestwin.check.card import Limit
from bayestwin.check.finding import Finding
from bayestwin.check.signals import Record, Signal, percentage
from bayestwin.check.thresholds import Thresholds
from bayestwin.check.unit_changes import TEMPERATURES, changes_of

ENDS = (0.005, 0.995)
"""Quantiles between which a signal is said to have been."""

FITTING = 0.9
"""Share of values that another unit must bring into the range."""

TINY, WIDE = 0.02, 0.2
"""Values that have visited less of the range than the first, and in another unit more than the second, are in that."""

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
    used = _used(there, signal.unit)
    if ((used < limit.low) | (used > limit.high)).sum() > 0.5 * used.size:
        fit = _fitting(used, limit, signal.unit)
        if fit is not None:
            words += f"; {fit.words}, {100 * fit.inside:.0f} % would lie inside"
            advice = f"Is its unit ({signal.unit or 'none'}) right?"
            evidence = {"share": share, "suggestion": fit.words, "inside_then": fit.inside}
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
                f"99 % of {signal.called} was calibrated between {signal.amount(low)} and {signal.amount(high)}: "
                f"{100 * share:.2g} % of the operating range of {signal.amount(limit.low)} to "
                f"{signal.amount(limit.high)}."
            )
            evidence = {"share": share, "low": low, "high": high}
            fit = _fitting(_used(calibrated, signal.unit), limit, signal.unit) if 0 < share < TINY else None
            if fit is not None and fit.visited > WIDE:
                sentence += (
                    f" {fit.words[0].upper()}{fit.words[1:]}, it would be {100 * fit.visited:.0f} %: is its unit "
                )
                sentence += f"({signal.unit or 'none'}) right?"
                more = {"suggestion": fit.words, "share_then": fit.visited}
                found.append(Finding("unit_scale", "warn", signal.name, sentence, evidence | more))
                continue
            sentence += " Elsewhere the equations alone speak."
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


class _Fit(NamedTuple):
    """Another unit that values may be in: how many then lie in the range, and how much of it they visit."""

    words: str
    inside: float
    visited: float


def _fitting(values: np.ndarray, limit: Limit, unit: str) -> _Fit | None:
    """The unit in which values lie inside the range and visit most of it; the smallest change where it has no width."""
    fits: list[_Fit] = []
    width = limit.high - limit.low
    for words, change in changes_of(unit).items() if values.size else ():
        changed = change(values)
        inside = float(np.mean((changed >= limit.low) & (changed <= limit.high)))
        low, high = np.quantile(changed, ENDS)
        fits.append(_Fit(words, inside, float(high - low) / width))
    good = [fit for fit in fits if fit.inside > FITTING and width > 0]
    return max(good, key=lambda fit: fit.visited, default=None)


def _used(values: np.ndarray, unit: str) -> np.ndarray:
    """Values that say something about their unit: zero is zero in all but those of temperatures."""
    return values if unit in TEMPERATURES else values[values != 0]


def _calibrated(signal: Signal, record: Record) -> np.ndarray:
    values = signal.values[: record.calibrated]
    return values[np.isfinite(values)]
