"""Quasi-Newton paths and the best normal along each: needs gradients alone.

L. Zhang, B. Carpenter, A. Gelman & A. Vehtari (2022), jmlr.org/papers/v23/21-0889.html; the path is blackjax's.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.vi.pathfinder import PathfinderState, approximate, sample
from jax import Array

NUM_DRAWN, MOST_STEPS, MOST_TRIALS = 15, 60, 20
"""Draws that judge each normal along a path, steps of a path, and trials of a step's length."""


class PathNormal(NamedTuple):
    """`N(centre, scale scaleᵀ)`, and the log density at its centre; shapes (d,), (d, d)."""

    centre: np.ndarray
    scale: np.ndarray
    log_density: float


def approximate_along(key: Array, log_density: Callable[[Array], Array], z: Array) -> PathfinderState:
    """The normal of the highest evidence lower bound along the path from z, shape (d,)."""
    with jax.numpy_rank_promotion("allow"):  # blackjax counts on it, whatever the user has set
        return approximate(key, log_density, z, NUM_DRAWN, maxiter=MOST_STEPS, maxls=MOST_TRIALS)[0]


def draw_from(key: Array, normal: PathfinderState, num: int) -> tuple[Array, Array]:
    """Draws from a normal, shape (n, d), and their log densities under it, shape (n,)."""
    with jax.numpy_rank_promotion("allow"):
        draws, log_density = sample(key, normal, num)
    return jnp.asarray(draws), jnp.asarray(log_density)


def follow_path(log_density: Callable[[Array], Array], z: np.ndarray, key: Array) -> PathNormal | None:
    """Follow the path from z, shape (d,); None where no normal along it covers anything of the posterior."""
    found = jax.jit(lambda z: approximate_along(key, log_density, z))(jnp.asarray(z))
    covariance = np.diag(np.asarray(found.alpha)) + np.asarray(found.beta @ found.gamma @ found.beta.T)
    centre = np.asarray(found.position)
    value = float(jax.jit(log_density)(jnp.asarray(centre)))
    eigenvalues, vectors = np.linalg.eigh(np.nan_to_num((covariance + covariance.T) / 2.0))
    if not (np.isfinite(value) and np.isfinite(float(found.elbo)) and eigenvalues.min() > 0):
        return None
    return PathNormal(centre, vectors * np.sqrt(eigenvalues), value)
