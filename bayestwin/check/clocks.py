"""Clocks that disagree: a sensor that moves before what drives it, or whose lag behind it grows along the record.

Told by cross-correlations of the innovations of pairs of columns; L. D. Haugh (1976), Checking the
independence of two covariance-stationary time series, J. Am. Stat. Assoc. 71, 378–385.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from bayestwin.check.finding import Finding, Thresholds
from bayestwin.check.signals import (
    ORDER,
    Even,
    Signal,
    SignalRecord,
    evenly,
    innovations,
    lasting,
    percentage,
    usual_step,
)

MOST_LAG = 60
"""Usual steps that two clocks may be apart."""

WINDOW = 60
"""Innovations that a window has at least; there are up to `MOST_WINDOWS`."""

MOST_WINDOWS = 8

SURE = 6.0
"""Standard errors, 1/√n, that a correlation must have to count: with `LIMIT`, three events of an input at least."""

SIGN = 3.0
"""From so many standard errors on a note says what the record seems to show."""

SURE_OF_CHANGE = 9.0
"""Likewise along a lag that changes: there are thousands of such lags to choose from."""

BETTER = 1.2
"""A lag that changes must gather so many times the correlation of one that does not."""

LIMIT = 4.0
"""Innovations beyond so many standard deviations count as that many: one jump is no evidence of a lag."""


MOST_TERMS = 12
"""Lags that may explain a response together."""

LEFT = 0.05
"""A lag at which less than this share of the drive is new is no lag of its own."""

FEEDBACK = 0.25
"""Where a response after its cause explains more than this share of what one before it does, there is feedback."""


class Pair(NamedTuple):
    """Cross-correlations of two signals.

    Attributes:
        first: What drives, or one of two observations.
        second: What responds.
        lags: Usual steps by which `second` comes later than `first`; shape (l,).
        windows: Correlation in each window; shape (w, l).
        centres: Middle of each window, as a share of the record's time; shape (w,).
        starts: The row that each window begins with; shape (w,).
        own: Autocorrelation of `first` at lags 0, 1, …; shape (l,).
        num: How many innovations of `second` are known.
    """

    first: Signal
    second: Signal
    lags: np.ndarray
    windows: np.ndarray
    centres: np.ndarray
    starts: np.ndarray
    own: np.ndarray
    num: int

    @property
    def whole(self) -> np.ndarray:
        """Correlation over all windows; shape (l,)."""
        return self.windows.mean(axis=0)

    @property
    def sure(self) -> float:
        """The size from which on a correlation over all windows counts."""
        return SURE / np.sqrt(self.num)

    @property
    def certainty(self) -> float:
        """The highest correlation over all windows, in standard errors."""
        return float(np.abs(self.whole).max() * np.sqrt(self.num))

    @property
    def lag(self) -> int:
        """Where that is, in usual steps."""
        return int(self.lags[int(np.abs(self.whole).argmax())])

    def explained(self) -> np.ndarray:
        """Shares of the variance of `second` that `first` explains at each lag, one lag after the other; shape (l,).

        The lag that explains most comes first, then the one that explains most of the rest, until none is sure.
        """
        shares, taken = np.zeros(self.lags.size), np.zeros(0, dtype=int)
        while taken.size < MOST_TERMS:
            # correlation with what is left of the drive at each lag, beside the lags that are taken
            among = self.own[np.abs(self.lags[taken][:, None] - self.lags[taken])]
            shared = self.own[np.abs(self.lags[taken][:, None] - self.lags)]
            weights = np.linalg.lstsq(among, np.column_stack([shared, self.whole[taken]]), rcond=1e-6)[0]
            left = 1.0 - np.sum(shared * weights[:, :-1], axis=0)
            rest = self.whole - shared.T @ weights[:, -1]
            gains = np.where(left > LEFT, rest**2 / np.maximum(left, LEFT), 0.0)
            best = int(gains.argmax())
            if gains[best] < self.sure**2:
                break
            shares[best] = gains[best]
            taken = np.append(taken, best)
        return shares


class MovingLag(NamedTuple):
    """A lag in usual steps that changes along the record, the mean correlation along it, and the window of a jump."""

    kind: str
    start: float
    change: float
    score: float
    window: int = 0


def clocks(record: SignalRecord, limits: Thresholds) -> list[Finding]:
    """The disagreement of each sensor that is the clearest; a note where the record cannot tell."""
    best: dict[str, tuple[float, Finding]] = {}
    pairs = list(_pairs(record))
    for pair in pairs:
        judged = _changing(pair, limits) or _constant(pair, limits)
        if judged is None:
            continue
        score, finding = judged
        if score > best.get(finding.column, (0.0, finding))[0]:
            best[finding.column] = (score, finding)
    found = [finding for _, finding in best.values()]
    untold = [one for one in record.observations if one.name not in best]
    return [*found, *(note for one in untold if (note := _untold(one, record, pairs, limits)))]


def _pairs(record: SignalRecord) -> Iterator[Pair]:
    even = evenly(record, MOST_LAG + ORDER + 1)
    if even is None:
        return
    news: dict[str, np.ndarray] = {}
    for signal in even.signals:
        found = innovations(signal)
        if found is not None and found.sd > 0:
            news[signal.name] = found.residual / found.sd
    inputs = [one for one in record.inputs if one.name in news]
    observed = [one for one in record.observations if one.name in news]
    pairs = [(drive, response) for drive in inputs for response in observed]
    pairs += list(combinations(observed, 2))
    for first, second in pairs:
        # what an input does is known, however rarely; an observation may have spikes
        drive = _centred(news[first.name], np.inf if first.role == "input" else LIMIT)
        pair = _correlated(first, second, drive, _centred(news[second.name], LIMIT), even)
        if pair is not None:
            yield pair


def _centred(news: np.ndarray, limit: float) -> np.ndarray:
    """Innovations without their tails and their mean; 0 where there are none."""
    limited = np.clip(news, -limit, limit)
    return np.where(np.isfinite(news), limited - np.nanmean(limited), 0.0)


def _correlated(first: Signal, second: Signal, drive: np.ndarray, response: np.ndarray, even: Even) -> Pair | None:
    known = np.flatnonzero(response)
    windows = min(MOST_WINDOWS, known.size // WINDOW)
    spread = float(np.sqrt(np.sum(drive**2) * np.sum(response**2)))
    if windows < 2 or not spread > 0:
        return None
    # as much is known in each window as in the others
    edges = np.r_[0, known[np.arange(1, windows) * known.size // windows], drive.size]
    most = min(MOST_LAG, known.size // windows // 2)
    lags = np.arange(-most, most + 1)
    padded = np.r_[np.zeros(most), response, np.zeros(most)]
    sums = [np.add.reduceat(drive * padded[most + lag : most + lag + drive.size], edges[:-1]) for lag in lags]
    middles = np.array([even.since[a:b].mean() for a, b in pairwise(edges)])
    own = np.array([float(np.sum(drive[: drive.size - lag] * drive[lag:])) for lag in range(2 * most + 1)])
    return Pair(
        first,
        second,
        lags,
        np.stack(sums, axis=1) * windows / spread,
        middles,
        even.rows[edges[:-1]],
        own / own[0],
        known.size,
    )


def _changing(pair: Pair, limits: Thresholds) -> tuple[float, Finding] | None:
    """A lag that grows, or jumps once, if along it there is much more correlation than along any constant one."""
    best = max((one for sign in (1, -1) for one in _paths(sign * pair.windows, pair)), key=lambda one: one.score)
    still = max(float(np.abs(pair.whole).max()), 1e-12)
    if abs(best.change) < limits.lag or best.score < max(pair.sure * SURE_OF_CHANGE / SURE, BETTER * still):
        return None
    step = usual_step(pair.first.clock)
    total = lasting(pair.first, abs(best.change) * step)
    other = pair.first.name
    rows = np.arange(pair.first.clock.size)
    if best.kind == "clock_drift":
        words = (
            f"runs {'late' if best.change > 0 else 'early'} against `{other}` by more and more, {total} from the "
            "beginning to the end"
        )
    else:
        rows = rows[pair.starts[best.window] :]
        words = (
            f"is {total} {'later' if best.change > 0 else 'earlier'} against `{other}` from some time on than before it"
        )
    advice = "One of the two clocks is wrong: correct its times before the columns are joined."
    evidence = {"other": other, "lag": best.change, "correlation": best.score, "of_constant_lag": still}
    return best.score, pair.second.finding(best.kind, "warn", rows, words, advice, **evidence)


def _paths(windows: np.ndarray, pair: Pair) -> Iterator[MovingLag]:
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
    yield MovingLag("clock_drift", float(steps[start]), float(slope - 2 * most), float(scores[start, slope]))
    for cut in range(1, count):
        before, after = windows[:cut].mean(axis=0), windows[cut:].mean(axis=0)
        one, other = int(before.argmax()), int(after.argmax())
        score = float(cut * before[one] + (count - cut) * after[other]) / count
        yield MovingLag("clock_skew", float(pair.lags[one]), float(other - one), score, cut)


def _constant(pair: Pair, limits: Thresholds) -> tuple[float, Finding] | None:
    """A response before its cause: with feedback there would be one after it too."""
    shares = pair.explained()
    peak = int(shares.argmax())
    lag, early = int(pair.lags[peak]), float(shares[pair.lags <= -limits.lag].sum())
    later = float(shares[pair.lags >= 0].sum())
    if pair.first.role != "input" or lag > -limits.lag or later > FEEDBACK * early:
        return None
    span = lasting(pair.first, -lag * usual_step(pair.first.clock))
    words = (
        f"moves {span} before `{pair.first.name}`, which drives it and explains {percentage(early)} of its innovations "
        f"there, {percentage(later)} at the same or later times"
    )
    advice = "Their clocks differ, or one of them is stamped at the end of what it averages: correct its times."
    if later > 0:
        advice = f"Their clocks differ, or a controller drives `{pair.first.name}` by it."
    evidence = {"other": pair.first.name, "lag": lag, "early": early, "later": later}
    rows = np.arange(pair.first.clock.size)
    # a response after the cause as well is what feedback does: no warning then
    severity = "note" if later > 0 else "warn"
    return float(np.sqrt(early)), pair.second.finding("clock_skew", severity, rows, words, advice, **evidence)


def _untold(signal: Signal, record: SignalRecord, pairs: list[Pair], limits: Thresholds) -> Finding | None:
    """A note where nothing moves that could tell, or where what moves is so slow that a skew looks like a delay."""
    others = [one.name for one in (*record.inputs, *record.observations) if one.name != signal.name]
    own = [pair for pair in pairs if signal.name in (pair.first.name, pair.second.name)]
    if not others:
        return None
    best = max(own, key=lambda pair: pair.certainty, default=None)
    if best is None or best.certainty < SURE:
        named = " or ".join(f"`{name}`" for name in others)
        sentence = f"Whether the clock of `{signal.name}` agrees with that of {named} cannot be told from this record: "
        sentence += "too few values are an ordinary step apart" if best is None else "too little moves at once in them"
        if best is not None and best.certainty > SIGN:
            span = lasting(signal, abs(best.lag) * usual_step(signal.clock))
            when = "with" if best.lag == 0 else f"{span} {'after' if best.lag > 0 else 'before'}"
            sentence += (
                f" (the best sign is that `{best.second.name}` moves {when} `{best.first.name}`, of "
                f"{best.certainty:.2g} standard errors where {SURE:g} count)"
            )
        evidence = {"others": others, "certainty": None if best is None else best.certainty}
        return Finding("clock_unknown", "note", signal.name, f"{sentence}. Make sure of it otherwise.", evidence)
    if best.first.role != "input" or best.lag < limits.lag:
        return None
    span = lasting(signal, best.lag * usual_step(signal.clock))
    sentence = (
        f"`{signal.name}` follows `{best.first.name}` after {span}: a clock that is wrong by less looks like another "
        "delay, and cannot be told from it."
    )
    evidence = {"others": [best.first.name], "certainty": best.certainty, "lag": best.lag}
    return Finding("clock_unknown", "note", signal.name, sentence, evidence)
