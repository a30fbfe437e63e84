"""Modes of a log density: points that have climbed, grouped and weighed by their Laplace approximations."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from bayestwin.inference.climb import positive

WIDEST = 5.0
"""Largest standard deviation of a Laplace approximation along any direction, in units of z: where the data say nothing
the posterior is the prior, and a unit of z is about a prior standard deviation."""

LIGHTEST = 1e-4
"""Modes of less weight are dropped."""


class Mode(NamedTuple):
    """One mode and its Laplace approximation `N(z, scale scaleᵀ)`.

    Attributes:
        z: Shape (d,).
        log_density: At z.
        scale: Shape (d, d).
        weight: Share of the posterior mass that the approximation gives it.
    """

    z: np.ndarray
    log_density: float
    scale: np.ndarray
    weight: float


def group_modes(z: np.ndarray, log_density: np.ndarray, hessian: np.ndarray) -> tuple[Mode, ...]:
    """Group points that have climbed into distinct modes, and weigh them by their Laplace evidence.

    Two points are one mode when they are nearer than three standard deviations of the higher one's Laplace
    approximation.

    Args:
        z: Points; shape (n, d).
        log_density: Shape (n,).
        hessian: Shape (n, d, d).

    Returns:
        Modes, heaviest first.
    """
    found: list[tuple[np.ndarray, float, np.ndarray, float]] = []
    near = 3.0 * np.sqrt(z.shape[1])
    for i in np.argsort(-log_density):
        if any(np.linalg.norm(np.linalg.solve(scale, z[i] - at)) < near for at, _, scale, _ in found):
            continue
        values, vectors = (np.asarray(a) for a in positive(jnp.asarray(hessian[i]), jnp.zeros(())))
        values = np.maximum(values, WIDEST**-2)
        scale = vectors / np.sqrt(values)
        found.append((z[i], float(log_density[i]), scale, float(log_density[i] - 0.5 * np.log(values).sum())))
    evidence = np.array([mode[3] for mode in found])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    modes = [Mode(at, value, scale, float(w)) for (at, value, scale, _), w in zip(found, weights, strict=True)]
    return tuple(sorted((mode for mode in modes if mode.weight > LIGHTEST), key=lambda mode: -mode.weight))


def draw_around(modes: tuple[Mode, ...], rng: np.random.Generator, num: int) -> np.ndarray:
    """Draws from the mixture of the modes' Laplace approximations, by their weights; shape (num, d)."""
    weights = np.array([mode.weight for mode in modes])
    owners = rng.choice(len(modes), size=num, p=weights / weights.sum())
    unit = rng.standard_normal((num, modes[0].z.size))
    return np.stack([modes[m].z + modes[m].scale @ w for m, w in zip(owners, unit, strict=True)])
