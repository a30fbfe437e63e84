"""Betting against a forecast: test martingales of its PITs, whose value is evidence whenever one looks at it.

A bet is a density of the next PIT that is chosen before it is seen. If PITs are independent and uniform, what a bet has
grown to is a martingale, and by Ville's inequality it reaches 1/α with probability α at most, ever. G. Shafer (2021),
doi:10.1111/rssa.12647; S. Arnold, A. Henzi & J. Ziegel (2023), doi:10.1214/22-AOAS1697 (PITs); V. Vovk & R. Wang
(2021), doi:10.1214/20-AOS2020 (means of e-values); A. Ramdas and others (2023), doi:10.1214/23-STS894 (all of it).
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtri_exp

FURTHEST = 8.0
"""Standard deviations beyond which a reading counts as just as far off."""

LEVELS = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations by which readings may lie higher or lower than forecast."""

SPREADS = (0.5, 0.7, 1.4, 2.0)
"""Times as far from what is forecast as they should be."""

CORRELATIONS = (0.2, 0.4, 0.7)
"""Of a reading's score with the one before it, of either sign."""


def _level(size: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda z, _: size * z - size**2 / 2.0


def _spread(times: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda z, _: -math.log(times) + z**2 / 2.0 * (1.0 - 1.0 / times**2)


def _serial(size: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    left = 1.0 - size**2
    return lambda z, before: -0.5 * math.log(left) - (z - size * before) ** 2 / (2.0 * left) + z**2 / 2.0


BETS: Mapping[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...]] = {
    "level": tuple(_level(sign * size) for size in LEVELS for sign in (1.0, -1.0)),
    "spread": tuple(map(_spread, SPREADS)),
    "serial": tuple(_serial(sign * size) for size in CORRELATIONS for sign in (1.0, -1.0)),
}
"""By kind, bets on scores: (score, the one before it) → log density of the score over that of a standard normal."""


def scores(log_below: np.ndarray, log_above: np.ndarray) -> np.ndarray:
    """Standard normal scores of PITs, from the logs of both tails, of which the smaller has the digits; shape (n,)."""
    low = log_below < log_above
    found = np.where(low, ndtri_exp(np.minimum(log_below, 0.0)), -ndtri_exp(np.minimum(log_above, 0.0)))
    return np.clip(found, -FURTHEST, FURTHEST)


class Grown(NamedTuple):
    """What bets have grown to after each of n readings.

    Attributes:
        log_e: Their mean, which started at 0; shape (n,).
        by_kind: By kind of bets, likewise.
    """

    log_e: np.ndarray
    by_kind: Mapping[str, np.ndarray]


def bet(z: np.ndarray) -> Grown:
    """Bet on scores, shape (n,), one after the other.

    Each bet is placed from each reading on: what starts at reading s has the share `g(s) − g(s + 1)` of the stake, with
    `g(s) = 1 / (1 + log₂ s)`, so that a change costs little whenever it comes, and no number of readings is planned.
    """
    before = np.concatenate([[0.0], z[:-1]]) if len(z) else z
    by_kind = {}
    for kind, bets in BETS.items():
        growth = np.stack([one(z, before) for one in bets])
        if kind == "serial":  # the first reading has none before it, and nothing is bet on its dependence
            growth[:, :1] = 0.0
        by_kind[kind] = _grown(growth)
    return Grown(mean_of(list(by_kind.values())), by_kind)


def mean_of(parts: list[np.ndarray]) -> np.ndarray:
    """The mean of e-values, which is one, as logs; shapes (n,)."""
    return np.asarray(logsumexp(np.stack(parts), axis=0)) - math.log(len(parts))


def _share(start: np.ndarray) -> np.ndarray:
    """What is left of the stake before a bet is placed that starts at this reading, the first one being 1."""
    return 1.0 / (1.0 + np.log2(start))


def _grown(growth: np.ndarray) -> np.ndarray:
    """Log of what the bets of one kind have grown to, from log growth by bet and reading, shape (k, n); shape (n,)."""
    num = growth.shape[1]
    at = np.arange(1.0, num + 2.0)
    placed = np.log(_share(at[:-1]) - _share(at[1:])) - math.log(len(growth))
    left = np.log(_share(at[1:]))
    running, found = np.full(len(growth), -np.inf), np.empty(num)
    for number in range(num):
        running = np.logaddexp(running, placed[number]) + growth[:, number]
        found[number] = np.logaddexp(np.logaddexp.reduce(running), left[number])
    return found


def began(z: np.ndarray, prob: float = 0.9) -> tuple[int, int, int]:
    """When scores began to be off, by the bet that has grown most: most probable reading, and a central interval.

    Before the change scores are standard normal, from it on they are as the bet says; every reading may be the first.
    """
    before = np.concatenate([[0.0], z[:-1]])
    growths = [one(z, before) for bets in BETS.values() for one in bets]
    since = [np.cumsum(own[::-1])[::-1] for own in growths]
    found = max(since, key=lambda own: float(np.asarray(logsumexp(own))))
    probability = np.exp(found - np.asarray(logsumexp(found)))
    passed = np.cumsum(probability)
    low, high = np.searchsorted(passed, [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0])
    return int(np.argmax(probability)), int(low), int(min(high, len(z) - 1))


REACH = 3.0
"""Standard deviations: readings that are all so far off must be able to raise an alarm, else there are too few."""


def fewest(alpha: float, num: int = 1) -> int:
    """Readings of one observation, of `num` that are averaged, that can raise an alarm at all."""
    grown = bet(np.full(100, REACH)).log_e - math.log(num)
    return int(np.argmax(grown >= -math.log(alpha))) + 1 if grown[-1] >= -math.log(alpha) else 100
