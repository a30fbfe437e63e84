"""Values that jump out and back (spikes), and jumps that stay (level shifts): outliers of a linear prediction.

Each has a signature in the residual of the prediction, and is told apart by which fits best: C. Chen and L.-M. Liu
(1993), Joint estimation of model parameters and outlier effects in time series, doi:10.1080/01621459.1993.10594321.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bayestwin.check.finding import Finding
from bayestwin.check.innovations import Innovations, innovations
from bayestwin.check.signals import Record, Signal, is_switched, robust_sd
from bayestwin.check.thresholds import Thresholds

WIDTHS = (1, 2, 3)
"""Rows that a spike may last."""

LASTING = 12
"""Rows over which a jump has to stay."""

AROUND = 6
"""Rows around an outlier in which there is no other."""

BACK = 0.3
"""After a spike a value is back to within this share of its height."""

STAYS = 0.5
"""This share of a jump has to stay."""

APART = 2.5
"""An outlier is so many times what 99 % of the others are."""

ENOUGH = 5
"""Other times that an input was switched, to know what follows."""

RARE = 0.02
"""Where more is outlying, this is how the signal is."""


def jumps(record: Record, limits: Thresholds) -> list[Finding]:
    """Spikes of all signals that are not switched, and level shifts of observations."""
    found = []
    for signal in record.signals:
        if is_switched(signal) and signal.role == "input":
            continue
        drive = record.inputs if signal.role == "observation" else ()
        news = innovations(signal, drive)
        if news is None or not news.sd > 0:
            continue
        outliers = _outliers(news, limits)
        outliers = {
            at: width
            for at, width in outliers.items()
            if _seen(signal.values, at, width) and not _explained(at, width, drive, news)
        }
        found += _spikes(signal, news, outliers)
        if signal.role == "observation":
            found += _shifts(signal, news, outliers)
    return found


def _outliers(news: Innovations, limits: Thresholds) -> dict[int, int]:
    """Rows at which something begins, and how many rows it lasts; 0 is for ever."""
    widths = (*WIDTHS, 0)
    sizes = np.abs([_statistic(news, width) for width in widths])
    # innovations that are not quite independent make some shapes more usual than others
    scales = [robust_sd(np.r_[one[one > 0], -one[one > 0]]) for one in sizes]
    highest = np.max([one / max(scale, 1.0) for one, scale in zip(sizes, scales, strict=True)], axis=0)
    lowest_limit = min(limits.spike, limits.level_shift)
    peaks: list[int] = []
    left = highest.copy()
    most = max(5, round(RARE * highest.size))
    while len(peaks) <= most and left.max() > lowest_limit:
        peak = int(left.argmax())
        peaks.append(peak)
        left[max(peak - LASTING, 0) : peak + AROUND] = 0.0  # all that this one is seen in
    if not peaks or len(peaks) > most:
        return {}
    usual = float(np.quantile(left[left > 0], 0.99)) if (left > 0).any() else 0.0
    found = {}
    for peak in sorted(peaks):
        width = widths[int(sizes[:, peak].argmax())]
        if width == 0 and peak >= highest.size - len(WIDTHS):
            width = 1  # whether it stays is not known yet
        limit = limits.level_shift if width == 0 else limits.spike
        if highest[peak] > max(limit, APART * usual):
            found[peak] = width
    return found


def _statistic(news: Innovations, width: int) -> np.ndarray:
    """How many standard errors a box of so many rows (0: a step) that begins at each row is high; shape (n,)."""
    length = LASTING if width == 0 else width + len(news.weights)
    box = np.zeros(length)
    box[: width or length] = 1.0
    filtered = np.convolve(box, np.r_[1.0, -news.weights])[:length]
    residual = np.where(np.isfinite(news.residual), news.residual, 0.0) / news.sd
    limited = np.clip(residual, -1e6, 1e6)
    known = np.isfinite(news.residual).astype(float)
    weight = np.correlate(np.r_[known, np.zeros(length - 1)], filtered**2, mode="valid")
    score = np.correlate(np.r_[limited, np.zeros(length - 1)], filtered, mode="valid")
    return np.where(weight > 0.5 * np.sum(filtered**2), score / np.sqrt(np.maximum(weight, 1e-12)), 0.0)


def _seen(values: np.ndarray, at: int, width: int) -> bool:
    """Whether the values themselves go out and come back, or stay: a fast rise and fall of the asset does neither."""
    before = values[max(at - 3, 0) : at]
    before = before[np.isfinite(before)]
    after = values[at + width : at + width + 3] if width else values[at : at + AROUND]
    after = after[np.isfinite(after)]
    if before.size == 0 or after.size == 0:
        return True  # at the ends nothing else is known
    if width == 0:
        jump = values[at] - before[-1]
        return bool((np.median(after) - np.median(before)) * np.sign(jump) > STAYS * abs(jump))
    box = values[at : at + width]
    box = box[np.isfinite(box)]
    height = np.abs(box - (before[-1] + after[0]) / 2).min() if box.size else 0.0
    return bool(abs(after[0] - before[-1]) < BACK * height and max(np.ptp(before), np.ptp(after)) < height)


def _explained(at: int, width: int, drive: Sequence[Signal], news: Innovations) -> bool:
    """Whether an input that is switched does it: what others do is in the prediction.

    A jump may follow within some rows, if it is not far higher than after all other times that the input was switched.
    What goes out and back within two is explained by an input that does so too.
    """
    for one in drive:
        steps = np.abs(np.diff(one.values))
        if not is_switched(one) or not np.isfinite(steps).any():
            continue
        seldom = steps > float(np.nanquantile(steps, 0.99))
        before = AROUND if width in (0, max(WIDTHS)) else 2
        there = bool(seldom[max(at - before, 0) : at + 1].any())
        back = width not in WIDTHS[:2] or bool(seldom[at : at + width + 1].any())
        if there and back and not _beyond(at, np.flatnonzero(seldom), news):
            return True
    return False


def _beyond(at: int, switched: np.ndarray, news: Innovations) -> bool:
    """Whether an innovation is far higher than all that follow the other times that an input was switched."""
    others = switched[np.abs(switched - at) > 2 * AROUND]
    if others.size < ENOUGH:
        return False
    rows = np.clip(others[:, None] + np.arange(AROUND + 2), 0, news.residual.size - 1)
    usual = np.nanmax(np.abs(np.where(np.isfinite(news.residual[rows]), news.residual[rows], 0.0)))
    return bool(abs(news.residual[at]) > APART * usual > 0)


def _spikes(signal: Signal, news: Innovations, outliers: Mapping[int, int]) -> list[Finding]:
    rows = [at + row for at, width in outliers.items() for row in range(width)]
    there = np.array([row for row in rows if row < signal.values.size and np.isfinite(signal.values[row])], dtype=int)
    if there.size == 0:
        return []
    highest = there[np.argmax(np.abs(news.residual[there]))]
    words = (
        f"jumps out and back at {there.size} value{'s' if there.size > 1 else ''}, the highest by "
        f"{signal.amount(float(abs(news.residual[highest])))}, {_times(news, highest)} its usual innovation"
    )
    advice = (
        "If they are not real, leave them out by `drop=` when reading, or take a noise model with heavy tails "
        "(`bt.StudentT`)."
    )
    return [signal.finding("spike", "warn", there, words, advice, values=[float(v) for v in signal.values[there][:20]])]


def _shifts(signal: Signal, news: Innovations, outliers: Mapping[int, int]) -> list[Finding]:
    found = []
    for at in (at for at, width in outliers.items() if width == 0):
        size = float(news.residual[at])
        words = (
            f"jumps by {signal.amount(size)} and stays there, {_times(news, at)} its usual innovation, and neither its "
            "past nor the inputs explain it"
        )
        advice = (
            "Was something done to the asset or to the sensor? Calibrate on one side of it, or model it as an event."
        )
        found.append(signal.finding("level_shift", "warn", np.array([at]), words, advice, size=size))
    return found


def _times(news: Innovations, at: int) -> str:
    return f"{abs(news.residual[at]) / news.sd:.2g} times"
