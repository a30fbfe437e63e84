"""A band for coverage whose errors depend on each other: as many independent observations as these are worth.

The dependence is that of the observations at hand, from one to the next or from one origin of a backtest to the next.
What all of them share (one calibration, one season) cannot be seen in them, and is not in the band.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.special
import scipy.stats

RATE = 0.3
SPECTRUM = 0.4
LEAST = 2
"""How many frequencies the long-run variance is read from, see `_frequencies`. Chosen by simulation, so that a sound
forecast with autoregressive errors stays in the band as often as it says (`tests/assess/test_dependence.py`)."""

SURE = 0.95
"""One side of the probability that independent neighbours are less correlated than what counts as dependence."""

MOST_CORRELATED = 0.99
"""Correlation of neighbours, as it is estimated, goes up to that."""

HALVINGS = 60
"""Ends of the band are found to 2 to the power of minus that."""


def num_effective(stretch: np.ndarray, block: np.ndarray, prob: float, level: float) -> float:
    """How many independent observations say as much about coverage as these do, at one `level`.

    That is what they are worth, see `worth_of`, times (z / t)²: the quantiles of the normal and of Student's t
    distribution at `level`, since it is estimated (Korn & Graubard 1998, Survey Methodology 24:193-201, who do so for
    samples of households).

    Args:
        stretch: As in `worth_of`.
        block: Likewise.
        prob: Nominal probability of the interval.
        level: Probability of the band.

    Returns:
        Between 0 and n; 0 where there are fewer than two blocks.
    """
    worth, freedom = worth_of(stretch, block, prob)
    return float(worth * shrinkage(freedom, level))


def shrinkage(freedom: np.ndarray | float, level: float) -> np.ndarray:
    """What a number of independent observations shrinks by at `level`, if it is known by so many degrees of freedom."""
    tail = (1 + level) / 2
    return (scipy.stats.norm.ppf(tail) / scipy.stats.t.ppf(tail, freedom)) ** 2


def worth_of(stretch: np.ndarray, block: np.ndarray, prob: float) -> tuple[float, int]:
    """How many independent observations would have the same variance, and the degrees of freedom of that.

    With D = 1 where an observation lies inside and 0 elsewhere, and V the variance of mean(D) that allows for
    dependence, that is n* = mean(D) (1 - mean(D)) / V, not more than there are. V comes from sums of D over blocks, and
    the squares of ν cosine transforms of these at the lowest frequencies, which are independent and have all one
    expectation where dependence does not reach further than n / ν: hence t with ν degrees of freedom, also of few
    blocks (Müller 2007, doi:10.1016/j.jeconom.2007.01.019; Lazarus, Lewis, Stock & Watson 2018,
    doi:10.1080/07350015.2018.1506926).

    "Inside" is here the interval stretched until `prob` of the observations are in it. Else there would be
    nothing to see of the dependence of intervals that hold all observations, and too little of too wide ones.

    Args:
        stretch: By what factor its interval must be stretched to hold each observation, shape (n,).
        block: Where each belongs, as numbers that increase with time: errors within a block may depend on each
            other in any way; shape (n,).
        prob: Nominal probability of the interval.

    Returns:
        Between 0 and n, and ν; 0 and 1 where there are fewer than two blocks.
    """
    _, place = np.unique(block, return_inverse=True)
    blocks, num = int(place.max(initial=-1)) + 1, stretch.size
    if blocks < 2:
        return 0.0, 1
    rank = np.clip(round(prob * num), 1, num - 1)
    inside = stretch <= np.partition(stretch, rank - 1)[rank - 1]
    share = inside.mean()
    sums = np.bincount(place, inside - share, blocks)
    freedom = _frequencies(stretch, place, blocks)
    # the type-II transform of SciPy is twice the sum with cos(π k (b + 1/2) / blocks)
    waves = np.asarray(scipy.fft.dct(sums))[1 : freedom + 1] / 2
    variance = 2.0 * np.mean(waves**2) / num**2
    # where all are equally far out nothing is seen of their dependence: a block is worth one
    worth = blocks if share == 1.0 else min(num, share * (1 - share) / variance) if variance > 0 else num
    return float(min(worth, num * _from_neighbours(stretch))), freedom


def dependent_band(num: np.ndarray, prob: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares that are not too small nor too large for `num` independent observations, which need not be a whole number.

    A share lies within where neither tail of Binomial(num, prob) from there on, continued between whole numbers by
    the incomplete beta function, has less than (1 - `level`) / 2: where its Clopper-Pearson interval holds `prob`.

    Args:
        num: As `num_effective`, of any shape; 0 gives the band from 0 to 1, which excludes nothing, and NaN gives NaN.
        prob: Nominal probability, of the same shape.
        level: Probability of the band.

    Returns:
        Its lower and upper ends.
    """
    upper = 1.0 - _lower_end(num, 1.0 - prob, level)
    return _lower_end(num, prob, level), upper


def _lower_end(num: np.ndarray, prob: np.ndarray, level: float) -> np.ndarray:
    """The smallest share x / num with P(X ≤ x) ≥ (1 - level) / 2."""
    low, high = np.zeros_like(num), np.ones_like(num)
    tail = (1 - level) / 2
    below = _at_most(low * num, num, prob) < tail
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rare = _at_most(middle * num, num, prob) < tail
        low, high = np.where(rare, middle, low), np.where(rare, high, middle)
    return np.where(np.isnan(num), np.nan, np.where(below, low, 0.0))


def _at_most(count: np.ndarray, num: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """P(X ≤ count) of Binomial(num, prob), also between whole numbers."""
    rest = np.maximum(num - count, np.finfo(float).tiny)
    return np.where(num > 0, scipy.special.betainc(rest, count + 1.0, 1.0 - prob), 1.0)


def _from_neighbours(stretch: np.ndarray) -> float:
    """What share of independent observations these are worth if they depend on each other as neighbours do.

    Few blocks say little about V, and may hide a dependence that neighbours show: where the rank correlation r of these
    is more than chance makes, that is (1 - r) / (1 + r), as of an autoregressive process; otherwise 1.
    """
    ranks = scipy.stats.rankdata(stretch)
    ranks -= ranks.mean()
    square = np.sum(ranks**2)
    correlation = np.sum(ranks[1:] * ranks[:-1]) / square if square > 0 else 0.0
    if not correlation > scipy.stats.norm.ppf(SURE) / np.sqrt(stretch.size):
        return 1.0
    return float((1 - correlation) / (1 + correlation))


def _frequencies(stretch: np.ndarray, place: np.ndarray, blocks: int) -> int:
    """Number ν of the cosine transforms that the variance is read from.

    The spectrum of what is correlated by φ from one block to the next is flat up to a frequency of about 1 - φ:
    more than RATE · blocks (1 - φ) / π would make the variance too small. It never takes more than
    SPECTRUM · blocks^(2/3), which is what Lazarus et al. recommend.
    """
    ranks = np.bincount(place, scipy.stats.rankdata(stretch), blocks) / np.bincount(place, minlength=blocks)
    ranks -= ranks.mean()
    square = np.sum(ranks**2)
    correlation = np.sum(ranks[1:] * ranks[:-1]) / square if square > 0 else 0.0
    # estimates from few blocks are too small (Kendall 1954, doi:10.1093/biomet/41.3-4.403)
    correlation = np.clip(correlation + (1 + 3 * correlation) / blocks, 0.0, MOST_CORRELATED)
    wanted = round(RATE * blocks * (1 - correlation) / np.pi)
    return int(np.clip(wanted, min(LEAST, blocks - 1), max(int(SPECTRUM * blocks ** (2 / 3)), LEAST)))
