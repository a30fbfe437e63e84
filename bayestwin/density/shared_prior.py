"""What a posterior says of all that assets share, as the joint prior of the next ones.

Each quantity, on the scale on which it can have any value, becomes a standard normal by the sinh–arcsinh
transformation, which takes skewness and tails out, and these normals are correlated: a Gaussian copula.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.stats
from jax import Array

FEWEST_DRAWS = 100
"""With fewer draws of a posterior its tails are not known."""

TRIED = 2000
"""Draws by which margins are found; more of them change nothing that can be seen."""


class SharedPrior(NamedTuple):
    """The joint prior of k shared quantities, in unconstrained coordinates `z`; a pytree of arrays.

    The normal scores `sinh(tail · arcsinh((z − loc) / scale) − skew)` of all quantities are jointly normal.

    M. C. Jones & A. Pewsey (2009), doi:10.1093/biomet/asp053.

    Attributes:
        loc: Shape (k,), as the next three.
        scale: How wide.
        skew: How far the right tail is longer than the left one; 0 where they are alike.
        tail: How light both are; 1 of a normal, less where they are heavy.
        triangle: Cholesky factor of the correlation of the scores, shape (k, k).
    """

    loc: Array
    scale: Array
    skew: Array
    tail: Array
    triangle: Array

    def scores(self, z: Array) -> tuple[Array, Array]:
        """Normal scores of z, and the logarithms of their derivatives; shape (…, k) each."""
        return _scores(z, *self[:4])

    def log_density(self, z: Array) -> Array:
        """Log density of z, shape (k,)."""
        scores, stretch = self.scores(z)
        white = jax.scipy.linalg.solve_triangular(self.triangle, scores, lower=True)
        normal = -0.5 * (white @ white) - 0.5 * len(self.loc) * jnp.log(2.0 * jnp.pi)
        return normal - jnp.log(jnp.diagonal(self.triangle)).sum() + stretch.sum()

    def from_normal(self, drawn: Array) -> Array:
        """A draw of z, made of k independent draws of a standard normal."""
        scores = self.triangle @ drawn
        return self.loc + self.scale * jnp.sinh((jnp.arcsinh(scores) + self.skew) / self.tail)

    def recorded(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain numbers by name, ready for JSON."""
        return {"names": list(names)} | {name: np.asarray(own).tolist() for name, own in self._asdict().items()}


def read_shared_prior(recorded: Mapping[str, Any]) -> SharedPrior:
    """The prior again, of what `recorded` gave."""
    return SharedPrior(*(np.asarray(recorded[name], float) for name in SharedPrior._fields))  # type: ignore[arg-type]


def fit_shared_prior(z: np.ndarray) -> SharedPrior:
    """The prior of draws in unconstrained coordinates, shape (n, k): margins by maximum likelihood, then ties."""
    margins = np.array([_margin(own) for own in z[:: max(1, len(z) // TRIED)].T]).T
    scores = np.asarray(_scores(z, *margins, lib=np)[0])
    correlation = np.atleast_2d(np.corrcoef(scores, rowvar=False))
    loc, scale, skew, tail = margins
    return SharedPrior(loc, scale, skew, tail, np.linalg.cholesky(correlation))  # type: ignore[arg-type]


def misfit(prior: SharedPrior, z: np.ndarray) -> np.ndarray:
    """How far draws, shape (n, k), lie from a prior: largest difference of probability, of each quantity and of all.

    Of all it is that of their squared distance from the middle, which is chi-squared if their ties are those of a
    normal: two modes, a bend or a wedge make it something else.

    Returns:
        Kolmogorov's distances, from 0 to 1; shape (k + 1,).
    """
    scores = np.asarray(_scores(z, *map(np.asarray, prior[:4]), lib=np)[0])
    white = np.linalg.solve(np.asarray(prior.triangle), scores.T).T
    squared = (white**2).sum(axis=1)
    own = [scipy.stats.kstest(column, "norm").statistic for column in scores.T]
    return np.array([*own, scipy.stats.kstest(squared, "chi2", args=(z.shape[1],)).statistic])


def _scores(z: Any, loc: Any, scale: Any, skew: Any, tail: Any, lib: Any = jnp) -> tuple[Any, Any]:
    away = (z - loc) / scale
    scores = lib.sinh(tail * lib.arcsinh(away) - skew)
    return scores, lib.log(tail / scale) + 0.5 * (lib.log1p(scores**2) - lib.log1p(away**2))


def _margin(draws: np.ndarray) -> np.ndarray:
    """Location, scale, skewness and tail of one quantity; bounded, so that few draws make no wild tails."""
    middle, width = float(np.median(draws)), float(draws.std())
    own = (draws - middle) / width

    def lost(free: np.ndarray) -> float:
        scores, stretch = _scores(own, free[0], np.exp(free[1]), free[2], np.exp(free[3]), lib=np)
        return float(np.mean(0.5 * scores**2 - stretch))

    bounds = [(-3.0, 3.0), (-3.0, 3.0), (-2.0, 2.0), (np.log(0.4), np.log(2.5))]
    found = scipy.optimize.minimize(lost, np.zeros(4), method="L-BFGS-B", bounds=bounds).x
    return np.array([middle + width * found[0], width * np.exp(found[1]), found[2], np.exp(found[3])])
