"""Jumps that are not dynamics: out and back (spikes), jumps that stay (level shifts), drifts and hidden interventions.

All are told by the residual of a linear prediction, by which signature fits best: C. Chen and L.-M. Liu (1993), Joint
estimation of model parameters and outlier effects in time series, doi:10.1080/01621459.1993.10594321.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bayestwin.check.finding import Finding, Thresholds
from bayestwin.check.signals import Innovations, Signal, SignalRecord, innovations, is_switched, robust_sd
from bayestwin.telemetry import said

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


def jumps(record: SignalRecord, limits: Thresholds) -> list[Finding]:
    """Spikes of all signals that are not switched, and level shifts of observations."""
    findings = []
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
        findings += _spikes(signal, news, outliers)
        if signal.role == "observation":
            findings += _shifts(signal, news, outliers)
    return findings


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
    findings = []
    for at in (at for at, width in outliers.items() if width == 0):
        size = float(news.residual[at])
        words = (
            f"jumps by {signal.amount(size)} and stays there, {_times(news, at)} its usual innovation, and neither its "
            "past nor the inputs explain it"
        )
        advice = (
            "Was something done to the asset or to the sensor? Calibrate on one side of it, or model it as an event."
        )
        findings.append(signal.finding("level_shift", "warn", np.array([at]), words, advice, size=size))
    return findings


def _times(news: Innovations, at: int) -> str:
    return f"{abs(news.residual[at]) / news.sd:.2g} times"


# Drift and hidden interventions: a linear prediction that needs another constant from some time on, or one that grows.
#
# The test of a change at an unknown time is the highest of those at each time: D. W. K. Andrews (1993), Tests for
# parameter instability and structural change with unknown change point, doi:10.2307/2951764.

FEW_CHANGES = 2
"""Where there are more, the residual goes up and down with something that the inputs leave out, which is no change."""

SIZE = 1.0
"""A change of the constant must be so many standard deviations of the residual."""

SLOW = 6
"""Half-waves over the record that are left to states of the asset."""

RAMP = 2.0
"""A ramp must be so many times as sure as a step: states that nobody observes look like slow ones."""

LIMIT = 4.0
"""Residuals beyond so many standard deviations count as that many: a jump is another finding."""

SHORTEST = 20
"""Values before, between and after changes."""


class MissingTerm(NamedTuple):
    """A term that the prediction lacks.

    Attributes:
        term: 0 before the change and 1 from it on; or a ramp; shape (k,).
        at: Where it begins, counted in known residuals.
        size: Its coefficient, in standard deviations of the residual.
        statistic: How many standard errors that is, with autocorrelation.
    """

    term: np.ndarray
    at: int
    size: float
    statistic: float


def drifts(record: SignalRecord, limits: Thresholds) -> list[Finding]:
    """Observations whose prediction needs another constant from some time on, or one that grows along the record."""
    findings = []
    for signal in record.observations:
        news = innovations(signal, record.inputs)
        if news is None or not news.sd > 0:
            continue
        rows = np.flatnonzero(np.isfinite(news.residual))
        if rows.size < 4 * SHORTEST + news.design.shape[1]:
            continue
        ramp = _ramp(news, rows)
        changes = _changes(news, limits)
        if changes:
            findings += [_told(signal, rows, changes, one, news.sd) for one in changes]
        elif ramp.statistic >= RAMP * limits.drift and abs(ramp.size) >= SIZE:
            words = (
                "drifts: what its past and the inputs do not explain "
                f"{'grows' if ramp.size > 0 else 'falls'} along the record, {ramp.statistic:.2g} standard errors"
            )
            advice = "Does the sensor age, or the asset? `bt.Biased` models a sensor that drifts."
            whole = np.arange(rows[0], rows[-1] + 1)
            # a note: what drifts may as well be the asset, in a way that no linear prediction knows
            findings.append(signal.finding("drift", "note", whole, words, advice, slope=ramp.size))
    return findings


def change_of_constant(design: np.ndarray, residual: np.ndarray) -> MissingTerm | None:
    """The step that explains most of a least-squares residual, beside the design: exactly, at every possible time.

    With `M` the projection off the design, the step `s` has the coefficient `s'e / s'Ms`, with standard error
    `σ / √(s'Ms)`.

    Args:
        design: Shape (n, terms).
        residual: Orthogonal to the design; shape (n,).

    Returns:
        The step; None where there is none that the design does not hold already.
    """
    num = residual.size
    basis = np.linalg.qr(design)[0]
    after = np.cumsum(residual[::-1])[::-1]
    shared = np.cumsum(basis[::-1], axis=0)[::-1]
    left = np.arange(num, 0, -1) - np.sum(shared**2, axis=1)
    inside = np.zeros(num, dtype=bool)
    inside[SHORTEST : num - SHORTEST + 1] = True
    usable = inside & (left > 1e-6 * num)
    if not usable.any():
        return None
    gain = np.where(usable, after**2 / np.where(usable, left, 1.0), 0.0)
    at = int(gain.argmax())
    term = (np.arange(num) >= at).astype(float)
    return _judged(term, at, basis, residual)


def long_run_variance(values: np.ndarray) -> float:
    """Variance of a mean times n, with autocorrelation, by Bartlett's weights; doi:10.2307/1913610."""
    centred = values - values.mean()
    most = int(4 * (values.size / 100) ** (2 / 9)) + 8
    total = float(np.mean(centred**2))
    for lag in range(1, most + 1):
        total += 2 * (1 - lag / (most + 1)) * float(np.sum(centred[lag:] * centred[:-lag])) / values.size
    return max(total, float(np.mean(centred**2)))


def _judged(term: np.ndarray, at: int, basis: np.ndarray, residual: np.ndarray) -> MissingTerm:
    """Coefficient of one more term, and how sure it is."""
    own = term - basis @ (basis.T @ term)
    weight = float(own @ own)
    if not weight > 1e-9 * term.size:
        return MissingTerm(term, at, 0.0, 0.0)
    coefficient = float(own @ residual) / weight
    rest = residual - coefficient * own
    sd = float(rest.std())
    if not sd > 1e-6:  # nothing is left but rounding
        return MissingTerm(term, at, 0.0, 0.0)
    error = np.sqrt(long_run_variance(rest) / weight)
    return MissingTerm(term, at, coefficient / sd, coefficient / error)


def _changes(news: Innovations, limits: Thresholds) -> list[MissingTerm]:
    """Changes one after the other, until none is left; none at all where there are many."""
    residual = _limited(news)
    # what wanders slowly may be a state of the asset that nobody observes: a change has to be sharper than that
    waves = np.cos(np.pi * np.arange(1, SLOW + 1) * (np.arange(residual.size)[:, None] + 0.5) / residual.size)
    design = np.column_stack([news.design, waves])
    missing_terms: list[MissingTerm] = []
    while len(missing_terms) <= FEW_CHANGES:
        basis = np.linalg.qr(design)[0]
        change = change_of_constant(design, residual - basis @ (basis.T @ residual))
        if change is None or abs(change.statistic) < limits.drift or abs(change.size) < SIZE:
            break
        missing_terms.append(change)
        design = np.column_stack([design, change.term])
    return sorted(missing_terms, key=lambda one: one.at) if len(missing_terms) <= FEW_CHANGES else []


def _ramp(news: Innovations, rows: np.ndarray) -> MissingTerm:
    """Even growth from 0 to 1 along the record; the sign of `statistic` is left off."""
    term = (rows - rows[0]) / max(rows[-1] - rows[0], 1)
    basis = np.linalg.qr(news.design)[0]
    residual = _limited(news)
    found = _judged(term, 0, basis, residual - basis @ (basis.T @ residual))
    return found._replace(statistic=abs(found.statistic))


def _limited(news: Innovations) -> np.ndarray:
    known = news.residual[np.isfinite(news.residual)]
    return np.clip(known / news.sd, -LIMIT, LIMIT)


def _told(signal: Signal, rows: np.ndarray, changes: list[MissingTerm], change: MissingTerm, sd: float) -> Finding:
    later = [one.at for one in changes if one.at > change.at]
    until = rows[min(later) - 1] if later else rows[-1]
    since = said(signal.times[rows[change.at]], signal.zone)
    words = (
        f"behaves differently from {since} on: what its past and the inputs do not explain "
        f"{'rises' if change.size > 0 else 'falls'} by {signal.amount(abs(change.size) * sd)} a step, "
        f"{abs(change.statistic):.2g} standard errors"
    )
    advice = "Was something changed, opened, repaired? Calibrate on one side, or model it as an event."
    return signal.finding("drift", "warn", np.arange(rows[change.at], until + 1), words, advice, change=change.size)
