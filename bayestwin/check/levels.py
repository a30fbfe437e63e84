"""The values that a sensor can show: pile-up at its ends (saturation), and steps between values (quantisation)."""

import numpy as np

from bayestwin.check.finding import Finding
from bayestwin.check.signals import Signal, runs_of
from bayestwin.check.thresholds import Thresholds

PILE = 5.0
"""The end has so many times as many values as the levels next to it."""

NEXT_LEVELS = 5

JUMP = 5.0
"""Steps into and out of the end are at most so many usual ones."""

FINEST = 12
"""Decimals beyond which digits are taken for rounding of the computer's own."""


def saturation(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Values that pile up exactly at the highest or the lowest one, in stretches."""
    there = signal.present
    values = signal.values[there]
    if signal.role == "input" or values.size < 30:
        return []
    levels, counts = np.unique(values, return_counts=True)
    if levels.size < 6:
        return []
    found = []
    for end, step, word in ((0, 1, "lowest"), (-1, -1, "highest")):
        value, num = float(levels[end]), int(counts[end])
        beside = counts[1 : NEXT_LEVELS + 1] if step == 1 else counts[-NEXT_LEVELS - 1 : -1]
        if value == 0.0 and end == 0:
            continue  # many quantities end at 0
        if num < max(5, limits.saturation * values.size) or num < PILE * beside.mean():
            continue
        at_end = signal.values == value
        longest = int(np.max(np.diff(runs_of(at_end), axis=1)) + 1)
        if longest < 3 or _jumps_there(signal, at_end):
            continue
        words = f"has {num} values exactly at its {word}, {signal.amount(value)}, up to {longest} in a row"
        advice = "If the sensor cannot show more, say so by `bt.Censored` around its noise."
        found.append(
            signal.finding("saturation", "warn", np.flatnonzero(at_end), words, advice, value=value, longest=longest)
        )
    return found


def _jumps_there(signal: Signal, at_end: np.ndarray) -> bool:
    """Whether values jump to their end rather than run into it: what is cut off lies next to what is left."""
    there = signal.present
    values, ends = signal.values[there], at_end[there]
    steps = np.abs(np.diff(values))
    edge = ends[1:] != ends[:-1]
    # a fine sensor that is read often shows most values twice
    moves = steps[~ends[1:] & ~ends[:-1] & (steps > 0)]
    return bool(moves.size and np.median(steps[edge]) > JUMP * np.median(moves))


def quantisation(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Few different values over the whole range, or a stretch in which values are coarser than elsewhere."""
    there = signal.present
    values = signal.values[there]
    if signal.role == "input" or values.size < 40 or signal.span == 0:
        return []
    levels = np.unique(values)
    step = float(np.median(np.diff(levels)))
    counts = bool(np.all(values == np.round(values))) and not signal.unit.startswith("deg") and step == 1.0
    if levels.size < limits.levels and not counts:
        words = (
            f"shows only {levels.size} different values between {signal.amount(float(levels[0]))} and "
            f"{signal.amount(float(levels[-1]))}, in steps of about {signal.amount(step)}"
        )
        advice = "Rounding is then not noise: put `bt.Rounded` around it, or read a finer column."
        evidence = {"levels": int(levels.size), "step": step}
        return [signal.finding("quantisation", "warn", there, words, advice, **evidence)]
    return _coarser(signal, limits)


def _coarser(signal: Signal, limits: Thresholds) -> list[Finding]:
    """The longest stretch of values with fewer decimals than elsewhere, if that is no chance: `n r^L < 10⁻⁹`."""
    there = signal.present
    values = signal.values[there]
    decimals = _decimals(values)
    with np.errstate(divide="ignore"):
        sizes = np.floor(np.log10(np.abs(values)))
    digits = decimals + np.where(np.isfinite(sizes), sizes, 0.0)
    for finer in range(int(decimals.max()), int(decimals.min()), -1):
        coarse = decimals < finer
        share = float(np.mean(coarse))
        stretches = runs_of(coarse)
        if stretches.size == 0 or share == 1.0:
            continue
        lengths = np.diff(stretches, axis=1)[:, 0] + 1
        at = int(lengths.argmax())
        length = int(lengths[at])
        outside = coarse.sum() - length
        elsewhere = float(outside + 1) / float(values.size - length + 2)
        enough = length >= max(3 * limits.stuck, 20) and values.size - length >= 20
        if not enough or elsewhere > 0.3 or values.size * elsewhere**length >= 1e-9:
            continue
        rows = there[stretches[at, 0] : stretches[at, 1] + 1]
        if np.unique(signal.values[rows]).size < 3:
            continue  # it is stuck or at rest, which is another finding
        beyond = np.ones(values.size, dtype=bool)
        beyond[stretches[at, 0] : stretches[at, 1] + 1] = False
        if np.median(digits[~beyond]) >= np.median(digits[beyond]):
            continue  # larger values with as many digits
        word = "decimal" if finer == 1 else "decimals"
        words = f"has values of fewer than {finer} {word} for {length} values in a row, and mostly more elsewhere"
        advice = "Its resolution changed: the noise model cannot be the same on both sides."
        return [signal.finding("quantisation", "warn", rows, words, advice, decimals=finer)]
    return []


def _decimals(values: np.ndarray) -> np.ndarray:
    """How many decimals each value needs, up to `FINEST`; negative where it is a multiple of ten; shape (n,)."""
    size = np.abs(values).max()
    digits = int(np.floor(np.log10(size))) if size > 0 else 0
    # as many significant digits as a double is sure to keep
    most = min(FINEST, FINEST - 1 - digits)
    found = np.full(values.shape, most)
    for decimals in range(most - 1, -digits - 2, -1):
        scaled = values * 10.0**decimals
        found = np.where(
            np.abs(scaled - np.round(scaled)) < 1e-6 * np.maximum(1.0, np.abs(scaled) * 1e-6), decimals, found
        )
    return found
