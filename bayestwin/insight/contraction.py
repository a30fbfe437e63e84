"""How much narrower than the prior a posterior is, or is expected to be: `1 − var_post / var_prior` in z.

In z, positive quantities stand as their logarithms. Expected, the posterior of each mode is normal with the precision
`I(mode) + 1 / var_prior`: exact for twins linear in their unknowns, with normal priors and known Gaussian noise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from bayestwin.density.density import Density
from bayestwin.inference.modes import Mode
from bayestwin.inference.starts import in_batches

POINTS = 16
"""Draws of what is known so far over which the information of planned observations is averaged."""


def expected_covariance(
    modes: tuple[Mode, ...], information: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the mixture of normals around the modes.

    Args:
        modes: The modes, with their weights.
        information: Fisher information at each; shape (m, d, d).
        spread: Standard deviation of z under the prior; shape (d,).

    Returns:
        Shapes (d,) and (d, d); NaN where information is.
    """
    weights = np.array([mode.weight for mode in modes])
    weights /= weights.sum()
    at = np.stack([mode.z for mode in modes])
    mean = weights @ at
    within = np.einsum("m,mij->ij", weights, np.stack([_posterior(one, spread) for one in information]))
    return mean, within + np.einsum("m,mi,mj->ij", weights, at - mean, at - mean)


def _posterior(information: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """`(I + 1 / var_prior)⁻¹`, in units of the prior so that nothing is lost to unequal scales."""
    scaled = information * spread[:, None] * spread[None]
    return scaled_inverse(np.eye(len(spread)) + scaled) * spread[:, None] * spread[None]


def scaled_inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive matrix; its eigenvalues count as 1e-12 of the largest at least."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(values, 1e-12 * values[-1])
    return (vectors / values) @ vectors.T


def with_more(covariance: np.ndarray, added: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Covariance after more observations: mean over n points of `(C⁻¹ + added)⁻¹`.

    Args:
        covariance: What is known so far; shape (d, d).
        added: Information of the further observations at each point; shape (n, d, d).
        spread: Scale of z, for the arithmetic alone; shape (d,).
    """
    unit = spread[:, None] * spread[None]
    before = scaled_inverse(covariance / unit)
    return np.mean([scaled_inverse(before + one * unit) for one in added], axis=0) * unit


def draws_in_z(density: Density, posterior: xr.DataTree) -> np.ndarray:
    """Draws of a posterior in the coordinates z; shape (n, d)."""
    group = posterior["posterior"].to_dataset()
    values = {site.name: group[site.name].values for site in density.sites}
    flat = {name: jnp.asarray(v.reshape(-1, *v.shape[2:])) for name, v in values.items()}
    return np.asarray(jax.jit(jax.vmap(density.unconstrain))(flat))


def points_of(
    density: Density, mean: np.ndarray, covariance: np.ndarray, drawn: np.ndarray | None, seed: int
) -> np.ndarray:
    """Points at which the twin can be solved, from what is known so far; shape (n, d), n at most `POINTS`.

    Args:
        density: The log density.
        mean: Of the expected posterior.
        covariance: Of the expected posterior.
        drawn: Draws of the posterior, taken instead where there are some.
        seed: Determines the points.
    """
    rng = np.random.default_rng([seed, 5])
    if drawn is not None:
        return drawn[rng.choice(len(drawn), size=min(POINTS, len(drawn)), replace=False)]
    points = rng.multivariate_normal(mean, covariance, size=4 * POINTS, method="eigh")
    return points[np.isfinite(in_batches(density)(points))][:POINTS]
