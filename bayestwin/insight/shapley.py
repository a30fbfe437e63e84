"""Shares of a variance by source, from pairs of evaluations that have some sources in common.

Shapley effects are well defined where sources depend on each other, are not negative, and add up to the variance:
E. Song, B. L. Nelson, J. Staum (2016), doi:10.1137/15M1048070; A. B. Owen, C. Prieur (2017), doi:10.1137/16M1097717.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

type Coalition = frozenset[str]


def coalitions(players: Sequence[str]) -> list[Coalition]:
    """All groups of players but the empty one, the smallest first."""
    sizes = range(1, len(players) + 1)
    return [frozenset(group) for size in sizes for group in itertools.combinations(players, size)]


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The share of a variance that two evaluations have in common, shape (times,), within 0 and 1.

    Both have the same distribution, so that both means and variances are pooled, which makes the estimate efficient:
    A. Janon et al. (2014), doi:10.1051/ps/2013040.

    Args:
        first: Shape (n, times).
        second: Likewise, from the same values of what they have in common.
    """
    middle = 0.5 * (first.mean(axis=0) + second.mean(axis=0))
    first, second = first - middle, second - middle
    variance = 0.5 * ((first**2).mean(axis=0) + (second**2).mean(axis=0))
    shared = (first * second).mean(axis=0)
    return np.clip(np.divide(shared, variance, out=np.zeros_like(shared), where=variance > 0), 0.0, 1.0)


def shapley(players: Sequence[str], explained: Mapping[Coalition, np.ndarray]) -> dict[str, np.ndarray]:
    """What each player adds to a group on average over all orders in which they can join.

    Args:
        players: Names.
        explained: Variance explained by each group, shape (times,); that of the empty one is 0.

    Returns:
        By player, shape (times,); not negative, and together the variance that all explain. Where the Monte Carlo
        error makes one negative it is 0, at the expense of the others.
    """
    everyone = explained[frozenset(players)]
    found = {player: np.zeros_like(everyone) for player in players}
    for player in players:
        others = [one for one in players if one != player]
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(players))
            for group in itertools.combinations(others, size):
                before = explained[frozenset(group)] if group else 0.0
                found[player] = found[player] + weight * (explained[frozenset((*group, player))] - before)
    found = {player: np.maximum(value, 0.0) for player, value in found.items()}
    total = sum(found.values())
    factor = np.divide(everyone, total, out=np.zeros_like(everyone), where=np.asarray(total) > 0)
    return {player: value * factor for player, value in found.items()}
