"""Clocks that disagree: a sensor that moves before what drives it, or whose lag behind it grows along the record.

Told by cross-correlations of the innovations of pairs of columns; L. D. Haugh (1976), Checking the
independence of two covariance-stationary time series, J. Am. Stat. Assoc. 71, 378–385.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from bayestwin.readiness.finding import Finding
from bayestwin.readiness.innovations import innovations
from bayestwin.readiness.signals import Record, Signal, lasting, usual_step
from bayestwin.readiness.thresholds import Thresholds

MOST_LAG = 60
"""Rows that two clocks may be apart."""

WINDOW = 60
"""Rows that a window has at least; there are up to `MOST_WINDOWS`."""

MOST_WINDOWS = 8

SURE = 6.0
"""Standard errors, 1/√n, that a correlation must have to count."""

SURE_OF_CHANGE = 9.0
"""Likewise along a lag that changes: there are thousands of such lags to choose from."""

BETTER = 1.4
"""A lag that changes must gather so many times the correlation of one that does not."""

LIMIT = 4.0
"""Innovations beyond so many standard deviations count as that many: one jump is no evidence of a lag."""


class Pair(NamedTuple):
    """Cross-correlations of two signals.

    Attributes:
        first: What drives, or one of two observations.
        second: What responds.
        lags: Rows by which `second` comes later than `first`; shape (l,).
        windows: Correlation in each window; shape (w, l).
        centres: Middle of each window, from 0 to 1; shape (w,).
        num: Rows in all.
    """

    first: Signal
    second: Signal
    lags: np.ndarray
    windows: np.ndarray
    centres: np.ndarray
    num: int

    @property
    def whole(self) -> np.ndarray:
        """Correlation over all windows; shape (l,)."""
        return self.windows.mean(axis=0)

    @property
    def sure(self) -> float:
        """The size from which on a correlation over all windows counts."""
        return SURE / np.sqrt(self.num)


class Lag(NamedTuple):
    """A lag in rows that changes along the record, and the mean correlation along it."""

    kind: str
    start: float
    change: float
    score: float
    at: float = 0.0


def clocks(record: Record, limits: Thresholds) -> list[Finding]:
    """The disagreement of each sensor that is the clearest."""
    best: dict[str, tuple[float, Finding]] = {}
    for pair in _pairs(record):
        judged = _changing(pair, limits) or _constant(pair, limits)
        if judged is None:
            continue
        score, finding = judged
        if score > best.get(finding.column, (0.0, finding))[0]:
            best[finding.column] = (score, finding)
    return [finding for _, finding in best.values()]


def _pairs(record: Record) -> Iterator[Pair]:
    news: dict[str, np.ndarray] = {}
    for signal in record.signals:
        found = innovations(signal)
        if found is not None and found.sd > 0:
            news[signal.name] = _scaled(found.residual, found.sd)
    inputs = [one for one in record.inputs if one.name in news]
    observed = [one for one in record.observations if one.name in news]
    pairs = [(drive, response) for drive in inputs for response in observed]
    pairs += list(combinations(observed, 2))
    for first, second in pairs:
        pair = _correlated(first, second, news[first.name], news[second.name])
        if pair is not None:
            yield pair


def _scaled(residual: np.ndarray, sd: float) -> np.ndarray:
    """Innovations without their tails, 0 where there are none, in standard deviations."""
    limited = np.clip(np.where(np.isfinite(residual), residual, 0.0) / sd, -LIMIT, LIMIT)
    size = limited.std()
    return (limited - limited.mean()) / size if size > 0 else limited


def _correlated(first: Signal, second: Signal, drive: np.ndarray, response: np.ndarray) -> Pair | None:
    num = drive.size
    windows = min(MOST_WINDOWS, num // WINDOW)
    if windows < 2:
        return None
    edges = np.linspace(0, num, windows + 1).astype(int)
    most = min(MOST_LAG, int(np.diff(edges).min()) // 2)
    lags = np.arange(-most, most + 1)
    padded = np.r_[np.zeros(most), response, np.zeros(most)]
    products = np.stack([drive * padded[most + lag : most + lag + num] for lag in lags], axis=1)
    spread = np.sqrt(np.mean(drive**2) * np.mean(response**2))
    means = np.stack([products[a:b].mean(axis=0) for a, b in pairwise(edges)])
    return Pair(first, second, lags, means / max(spread, 1e-12), (edges[:-1] + edges[1:]) / (2 * num), num)


def _changing(pair: Pair, limits: Thresholds) -> tuple[float, Finding] | None:
    """A lag that grows, or jumps once, if along it there is much more correlation than along any constant one."""
    best = max((one for sign in (1, -1) for one in _paths(sign * pair.windows, pair)), key=lambda one: one.score)
    still = max(float(np.abs(pair.whole).max()), 1e-12)
    if abs(best.change) < limits.lag or best.score < max(pair.sure * SURE_OF_CHANGE / SURE, BETTER * still):
        return None
    step = usual_step(pair.first.clock)
    total = lasting(pair.first, abs(best.change) * step)
    other = pair.first.name
    rows = np.arange(pair.num)
    if best.kind == "clock_drift":
        words = (
            f"runs {'late' if best.change > 0 else 'early'} against `{other}` by more and more, {total} "
            f"({abs(best.change):.2g} rows) from the beginning to the end"
        )
    else:
        rows = rows[round(best.at * pair.num) :]
        words = (
            f"is {total} ({abs(best.change):.2g} rows) {'later' if best.change > 0 else 'earlier'} against `{other}` "
            "from some time on than before it"
        )
    advice = "One of the two clocks is wrong: correct its times before the columns are joined."
    evidence = {"other": other, "lag": best.change, "correlation": best.score, "of_constant_lag": still}
    return best.score, pair.second.finding(best.kind, "warn", rows, words, advice, **evidence)


def _paths(windows: np.ndarray, pair: Pair) -> Iterator[Lag]:
    """Lags that grow evenly, and lags that jump between two windows, with the mean correlation along each."""
    most, count = int(pair.lags[-1]), len(pair.centres)
    at = np.arange(count)
    # between two windows' lags the neighbours count as well: a lag that grows is smeared within a window
    blurred = np.maximum(windows, 0.8 * np.maximum(np.roll(windows, 1, axis=1), np.roll(windows, -1, axis=1)))
    blurred[:, 0], blurred[:, -1] = windows[:, 0], windows[:, -1]
    steps = np.arange(-most, most + 1)
    lines = steps[:, None, None] + np.arange(-2 * most, 2 * most + 1)[None, :, None] * pair.centres
    inside = (np.abs(lines) <= most).all(axis=-1)
    scores = np.where(inside, blurred[at, np.clip(np.round(lines), -most, most).astype(int) + most].mean(axis=-1), 0.0)
    start, slope = np.unravel_index(scores.argmax(), scores.shape)
    yield Lag("clock_drift", float(steps[start]), float(slope - 2 * most), float(scores[start, slope]))
    for cut in range(1, count):
        before, after = windows[:cut].mean(axis=0), windows[cut:].mean(axis=0)
        one, other = int(before.argmax()), int(after.argmax())
        score = float(cut * before[one] + (count - cut) * after[other]) / count
        yield Lag("clock_skew", float(pair.lags[one]), float(other - one), score, cut / count)


def _constant(pair: Pair, limits: Thresholds) -> tuple[float, Finding] | None:
    """A response before its cause: with feedback there would be one after it too."""
    size = np.abs(pair.whole)
    peak = int(size.argmax())
    lag, height = int(pair.lags[peak]), float(size[peak])
    if pair.first.role != "input" or lag > -limits.lag or height < pair.sure:
        return None
    later = float(size[pair.lags >= 0].max())
    if later > max(0.5 * height, 0.0):
        return None
    span = lasting(pair.first, -lag * usual_step(pair.first.clock))
    words = (
        f"moves {span} ({-lag} rows) before `{pair.first.name}`, which drives it (correlation of their innovations "
        f"{height:.2f} there, at most {later:.2f} at later times)"
    )
    advice = "Their clocks differ, or one of them is stamped at the end of what it averages: correct its times."
    evidence = {"other": pair.first.name, "lag": lag, "correlation": height}
    return height, pair.second.finding("clock_skew", "warn", np.arange(pair.num), words, advice, **evidence)
