"""How far a value lies from the predictive median, in units of the spread on its side; and values from that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.stats


class Scale(NamedTuple):
    """Centre and spread of predictive draws, each of shape (n,).

    Attributes:
        centre: Their median.
        below: From there down to the quantile that lies one standard deviation below in a normal distribution.
        above: Likewise upwards.
    """

    centre: np.ndarray
    below: np.ndarray
    above: np.ndarray

    def at(self, positions: np.ndarray) -> Scale:
        """That of some of the points."""
        return Scale(self.centre[positions], self.below[positions], self.above[positions])

    def score(self, values: np.ndarray) -> np.ndarray:
        """Signed distance of values, shape (n,), from the centre; infinite where draws have no spread."""
        error = values - self.centre
        spread = np.where(error < 0, self.below, self.above)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(error == 0, 0.0, error / spread)

    def value(self, scores: np.ndarray) -> np.ndarray:
        """Values that have these scores, shape (…, n)."""
        spread = np.where(scores < 0, self.below, self.above)
        with np.errstate(invalid="ignore"):
            # an infinite score is an infinite end, also of draws without spread
            return self.centre + np.where(np.isinf(scores), scores, scores * spread)


def scale_of(table: np.ndarray) -> Scale:
    """The scale of draws (n, samples); NaN where one is not finite."""
    one = float(scipy.stats.norm.cdf(1.0))
    low, centre, high = np.quantile(table, [1 - one, 0.5, one], axis=-1)
    return Scale(centre, centre - low, high - centre)
