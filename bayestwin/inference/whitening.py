"""The metric of the sampler, as the coordinates in which the posterior looks like a unit normal.

`z = centre + deviation · (w + U ((stretch − 1) · Uᵀ w))`: standard deviations, and the directions U in which their
correlations stretch the posterior. All directions make a dense metric, few a low-rank one, none a diagonal one.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

DENSE_UP_TO, LOW_RANK_UP_TO, RANK = 200, 1000, 50
"""Dimensions up to which the metric is dense, then of low rank, then diagonal; and that rank. A dense metric costs d²
multiplications a leapfrog step, which up to here is little beside any ODE solve with d parameters."""

PRIOR_DRAWS = 5.0
"""Draws for each dimension that the old metric counts as when draws correct it."""


class Whitening(NamedTuple):
    """Coordinates of the sampler, for d dimensions and r directions.

    Attributes:
        centre: Shape (d,).
        deviation: Shape (d,).
        directions: Orthonormal columns U; shape (d, r).
        stretch: Shape (r,).
    """

    centre: Array
    deviation: Array
    directions: Array
    stretch: Array

    def unwhiten(self, w: Array) -> Array:
        """Z of w; shape (d,)."""
        return self.centre + self.deviation * (w + self.directions @ ((self.stretch - 1.0) * (self.directions.T @ w)))

    def whiten(self, z: Array) -> Array:
        """W of z; shape (d,)."""
        w = (z - self.centre) / self.deviation
        return w + self.directions @ ((1.0 / self.stretch - 1.0) * (self.directions.T @ w))

    @property
    def kind(self) -> str:
        """`"dense"`, `"low-rank"` or `"diagonal"`."""
        dim, rank = self.directions.shape
        return "dense" if rank == dim else "low-rank" if rank else "diagonal"


def whitening_of(centre: np.ndarray, covariance: np.ndarray) -> Whitening:
    """The coordinates in which a normal with this mean and covariance is a unit normal, or nearly so.

    Args:
        centre: Shape (d,).
        covariance: Shape (d, d).
    """
    dim = centre.size
    deviation = np.sqrt(np.diag(covariance))
    if dim > LOW_RANK_UP_TO:
        return Whitening(jnp.asarray(centre), jnp.asarray(deviation), jnp.zeros((dim, 0)), jnp.zeros(0))
    values, directions = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    stretch = np.sqrt(np.maximum(values, 1e-12))
    if dim > DENSE_UP_TO:
        most = np.argsort(-np.abs(np.log(stretch)))[:RANK]
        directions, stretch = directions[:, most], stretch[most]
    return Whitening(jnp.asarray(centre), jnp.asarray(deviation), jnp.asarray(directions), jnp.asarray(stretch))


def rescale(whitening: Whitening, z: np.ndarray) -> Whitening:
    """Correct the whitening by draws: their mean, and their covariance within chains shrunk towards the old metric.

    Args:
        whitening: The old one.
        z: Draws; shape (s, c, d).
    """
    dim = z.shape[-1]
    within = (z - z.mean(axis=0)).reshape(-1, dim)
    deviation, directions, stretch = (np.asarray(leaf) for leaf in whitening[1:])
    correlation = np.eye(dim) + (directions * (stretch**2 - 1.0)) @ directions.T
    prior = PRIOR_DRAWS * dim
    covariance = within.T @ within + prior * np.outer(deviation, deviation) * correlation
    return whitening_of(z.reshape(-1, dim).mean(axis=0), covariance / (within.shape[0] + prior))
