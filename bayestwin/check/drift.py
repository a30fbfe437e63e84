"""Drift and hidden interventions: a linear prediction that needs another constant from some time on, or one that grows.

The test of a change at an unknown time is the highest of those at each time: D. W. K. Andrews (1993), Tests for
parameter instability and structural change with unknown change point, doi:10.2307/2951764.
"""

from typing import NamedTuple

import numpy as np

from bayestwin.check.finding import Finding
from bayestwin.check.innovations import Innovations, innovations
from bayestwin.check.signals import Record, Signal
from bayestwin.check.thresholds import Thresholds
from bayestwin.telemetry import said

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


class Change(NamedTuple):
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


def drifts(record: Record, limits: Thresholds) -> list[Finding]:
    """Observations whose prediction needs another constant from some time on, or one that grows along the record."""
    found = []
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
            found += [_told(signal, rows, changes, one, news.sd) for one in changes]
        elif ramp.statistic >= RAMP * limits.drift and abs(ramp.size) >= SIZE:
            words = (
                "drifts: what its past and the inputs do not explain "
                f"{'grows' if ramp.size > 0 else 'falls'} along the record, {ramp.statistic:.2g} standard errors"
            )
            advice = "Does the sensor age, or the asset? `bt.Biased` models a sensor that drifts."
            whole = np.arange(rows[0], rows[-1] + 1)
            # a note: what drifts may as well be the asset, in a way that no linear prediction knows
            found.append(signal.finding("drift", "note", whole, words, advice, slope=ramp.size))
    return found


def change_of_constant(design: np.ndarray, residual: np.ndarray) -> Change | None:
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


def _judged(term: np.ndarray, at: int, basis: np.ndarray, residual: np.ndarray) -> Change:
    """Coefficient of one more term, and how sure it is."""
    own = term - basis @ (basis.T @ term)
    weight = float(own @ own)
    if not weight > 1e-9 * term.size:
        return Change(term, at, 0.0, 0.0)
    coefficient = float(own @ residual) / weight
    rest = residual - coefficient * own
    sd = float(rest.std())
    if not sd > 1e-6:  # nothing is left but rounding
        return Change(term, at, 0.0, 0.0)
    error = np.sqrt(long_run_variance(rest) / weight)
    return Change(term, at, coefficient / sd, coefficient / error)


def _changes(news: Innovations, limits: Thresholds) -> list[Change]:
    """Changes one after the other, until none is left; none at all where there are many."""
    residual = _limited(news)
    # what wanders slowly may be a state of the asset that nobody observes: a change has to be sharper than that
    waves = np.cos(np.pi * np.arange(1, SLOW + 1) * (np.arange(residual.size)[:, None] + 0.5) / residual.size)
    design = np.column_stack([news.design, waves])
    found: list[Change] = []
    while len(found) <= FEW_CHANGES:
        basis = np.linalg.qr(design)[0]
        change = change_of_constant(design, residual - basis @ (basis.T @ residual))
        if change is None or abs(change.statistic) < limits.drift or abs(change.size) < SIZE:
            break
        found.append(change)
        design = np.column_stack([design, change.term])
    return sorted(found, key=lambda one: one.at) if len(found) <= FEW_CHANGES else []


def _ramp(news: Innovations, rows: np.ndarray) -> Change:
    """Even growth from 0 to 1 along the record; the sign of `statistic` is left off."""
    term = (rows - rows[0]) / max(rows[-1] - rows[0], 1)
    basis = np.linalg.qr(news.design)[0]
    residual = _limited(news)
    found = _judged(term, 0, basis, residual - basis @ (basis.T @ residual))
    return found._replace(statistic=abs(found.statistic))


def _limited(news: Innovations) -> np.ndarray:
    known = news.residual[np.isfinite(news.residual)]
    return np.clip(known / news.sd, -LIMIT, LIMIT)


def _told(signal: Signal, rows: np.ndarray, changes: list[Change], change: Change, sd: float) -> Finding:
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
