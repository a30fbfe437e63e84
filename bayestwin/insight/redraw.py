"""Draws of some quantities given others: what a posterior says of initial states if parameters are known, and so on.

In unconstrained coordinates each is a linear function of the others, and a residual that is independent of them. That
is exact for a normal posterior; residuals are those of the draws, so that these need not be normal.
"""

from typing import NamedTuple

import numpy as np


class Redraw(NamedTuple):
    """Draws of all coordinates, of which some can be drawn anew given the others.

    Attributes:
        draws: Shape (n, d).
        groups: Positions of the coordinates of each group, by its name.
    """

    draws: np.ndarray
    groups: dict[str, np.ndarray]

    def given(self, kept: frozenset[str], rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws that agree with those of `rows` in the groups that are kept, and are new in the others.

        Args:
            kept: Names of groups.
            rows: Numbers of draws; shape (k,).
            rng: Randomness.

        Returns:
            Shape (k, d).
        """
        fixed = self._positions(kept)
        new = np.setdiff1d(np.arange(self.draws.shape[1]), fixed)
        found = self.draws[rows].copy()
        others = rng.permutation(len(self.draws))[np.arange(len(rows)) % len(self.draws)]
        if not fixed.size:
            return self.draws[others]
        if new.size:
            design = np.column_stack([np.ones(len(self.draws)), self.draws[:, fixed]])
            slopes = np.linalg.lstsq(design, self.draws[:, new], rcond=None)[0]
            residuals = self.draws[:, new] - design @ slopes
            found[:, new] = design[rows] @ slopes + residuals[others]
        return found

    def _positions(self, names: frozenset[str]) -> np.ndarray:
        parts = [positions for name, positions in self.groups.items() if name in names]
        return np.sort(np.concatenate(parts)).astype(int) if parts else np.empty(0, int)
