"""Ends of conformal intervals, in scores: what is made at an origin from scores that were known by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

LATEST = 100
"""As many scores, or more where a tail is thin, are the latest ones that adaptive ends go by."""

type Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(scores in the order in which they became known, shape (k,); lower and upper ends that there were for these, shape
(prob, k), NaN for none; share that each has in its origin, shape (k,)) → lower and upper ends for what comes next,
shape (prob,), NaN where there is too little."""


class Made(NamedTuple):
    """Ends for n points, in G groups.

    Attributes:
        lower: Shape (prob, n).
        upper: Shape (prob, n).
        known: Number of scores behind them, shape (n,).
        last: Lower and upper ends made from all scores, shape (G, prob) each, and the number of these, shape (G,).
    """

    lower: np.ndarray
    upper: np.ndarray
    known: np.ndarray
    last: tuple[np.ndarray, np.ndarray, np.ndarray]


def make_ends(
    scores: np.ndarray,
    place: np.ndarray,
    origin: np.ndarray,
    when: np.ndarray,
    *,
    groups: int,
    levels: int,
    rule: Rule,
) -> Made:
    """Make ends origin by origin, from scores of times up to the origin alone.

    Args:
        scores: Of each point; NaN where nothing was observed; shape (n,).
        place: Number of the group of each point, -1 for none; shape (n,).
        origin: The last time that was known when each point was predicted; shape (n,).
        when: The time of each point; shape (n,).
        groups: Number of groups.
        levels: Number of probabilities.
        rule: Makes ends from the scores of a group.
    """
    order = np.argsort(when, kind="stable")
    scored = order[~np.isnan(scores[order])]
    lower, upper = np.full((2, levels, len(scores)), np.nan)
    known = np.zeros(len(scores), dtype=int)
    # that is settled when predictions are made, and does not wait for what will be observed
    part = 1.0 / pd.Series(origin).groupby([origin, place]).transform("size").to_numpy()
    for start in np.unique(origin):
        for group in range(groups):
            now = (origin == start) & (place == group)
            past = scored[(when[scored] <= start) & (place[scored] == group)]
            low, high = rule(scores[past], lower[:, past], upper[:, past], part[past])
            lower[:, now], upper[:, now], known[now] = low[:, None], high[:, None], past.size
    pasts = [scored[place[scored] == group] for group in range(groups)]
    last = [rule(scores[past], lower[:, past], upper[:, past], part[past]) for past in pasts]
    low, high = (np.stack(part) for part in zip(*last, strict=True))
    return Made(lower, upper, known, (low, high, np.array([past.size for past in pasts])))


def conformal_quantile(scores: np.ndarray, tail: float) -> float:
    """The ⌈(k + 1) (1 - tail)⌉-th smallest of k scores: one more exceeds it with probability `tail` at most.

    NaN where k is too small for that, which is where k < 1 / tail - 1.
    """
    rank = int(np.ceil((scores.size + 1) * (1 - tail) - 1e-9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if 0 < rank <= scores.size else float("nan")


def split(tails: np.ndarray) -> Rule:
    """Quantiles of all scores; tails (prob,) are the probabilities beyond each end."""

    def rule(scores: np.ndarray, *_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        upper = np.array([conformal_quantile(scores, tail) for tail in tails])
        lower = np.array([-conformal_quantile(-scores, tail) for tail in tails])
        return lower, upper

    return rule


def adaptive(tails: np.ndarray, rate: float) -> Rule:
    """Quantiles of the latest scores, corrected by what the ends made before have missed.

    `end = quantile of the latest scores + Σ η w (missed - tail)`, each end for itself: quantile tracking around a
    forecast of the quantile (Angelopoulos et al. 2023, arXiv:2307.16895), with η = rate · (width of the latest scores)
    and w = 1 / (number of points of the same origin). Errors along one path come together: an origin has one vote,
    however many points it predicts, or a single bad path would throw the ends far out, and a good one far in.

    **What holds for any scores** within ±b, also those that an adversary chooses: the sum is at most 2 b plus the votes
    that are not known yet, since an end beyond b is not missed. So the share of misses beyond each end, weighted by
    η w, exceeds its tail by at most (2 b + max η · (1 + votes under way)) / Σ η. It may fall short of it where ends are
    held apart: an interval always holds the middle of the latest scores and those of lower probability.
    """
    outwards = np.argsort(-tails)

    def rule(
        scores: np.ndarray, lower: np.ndarray, upper: np.ndarray, part: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        high = np.array([_tracked(scores, ends, part, tail, rate) for ends, tail in zip(upper, tails, strict=True)])
        low = np.array([_tracked(-scores, -ends, part, tail, rate) for ends, tail in zip(lower, tails, strict=True)])
        middle = np.median(scores[-LATEST:]) if scores.size else np.nan
        # an end that is not known is further out than any other, and leaves those within as they are
        high[outwards] = np.maximum.accumulate(np.maximum(high[outwards], middle))
        low[outwards] = np.maximum.accumulate(np.maximum(low[outwards], -middle))
        return -low, high

    return rule


def step_sizes(scores: np.ndarray, tail: float, rate: float) -> np.ndarray:
    """η of each score: `rate` times the distance between both tails of the latest scores up to it; shape (k,)."""
    finite = pd.Series(np.where(np.isfinite(scores), scores, np.nan))
    window = finite.rolling(_latest(tail), min_periods=1)
    return rate * (window.quantile(1.0 - tail) - window.quantile(tail)).fillna(0.0).to_numpy()


def _latest(tail: float) -> int:
    # enough for the quantile to be one of them, and some more
    return max(LATEST, int(np.ceil(4.0 / tail)))


def _tracked(scores: np.ndarray, ends: np.ndarray, part: np.ndarray, tail: float, rate: float) -> float:
    """The upper end after all scores, given the ends that there were for these, NaN for none; shape (k,) each."""
    end = conformal_quantile(scores[-_latest(tail) :], tail)
    judged = ~np.isnan(ends)
    if np.isnan(end) or not judged.any():
        return end
    votes = step_sizes(scores, tail, rate)[judged] * part[judged]
    return end + float(np.sum(votes * ((scores[judged] > ends[judged]) - tail)))
