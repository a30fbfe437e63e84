"""Climbing to modes: damped Newton or Gauss–Newton steps, from many points at once.

Each point takes steps `(|H| + μI)⁻¹ g`, with the eigenvalues of the Hessian H made positive, so that saddles and
flat directions are left behind; μ falls when a step climbs and rises when it does not (Levenberg–Marquardt).

D. W. Marquardt (1963), doi:10.1137/0111030. Y. Dauphin et al. (2014), arXiv:1406.2572 (saddle-free Newton).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.density.density import Local

FLATTEST = 1e-3
"""Least curvature used in a step; a unit of z is about a prior standard deviation."""

CONVERGED = 1e-6
"""Newton decrement `gᵀ|H|⁻¹g / 2` below which a point counts as a mode: that much log density is still to gain."""


class Climb(NamedTuple):
    """Points on their way up.

    Attributes:
        z: Shape (d,).
        log_density: At z.
        gradient: Shape (d,).
        hessian: Shape (d, d).
        damping: μ.
        decrement: About how much log density is still to gain.
    """

    z: Array
    log_density: Array
    gradient: Array
    hessian: Array
    damping: Array
    decrement: Array


def climb(local: Callable[[Array], Local], z: Array, max_steps: int = 60) -> Climb:
    """Climb from each of n points.

    Args:
        local: Log density, gradient and Hessian at a point of shape (d,); −inf where it is not defined.
        z: Starting points with finite log density; shape (n, d).
        max_steps: Most steps of each.

    Returns:
        The points reached; leading axis n in each field.
    """
    num, dim = z.shape
    below = jnp.full(num, -jnp.inf)  # the first "step" is to the starting point itself
    flat = jnp.tile(-jnp.eye(dim), (num, 1, 1))
    at = Climb(z, below, jnp.zeros_like(z), flat, jnp.full(num, 10.0), jnp.full(num, jnp.inf))

    def unfinished(loop: tuple[Climb, Array]) -> Array:
        now, taken = loop
        return (taken < max_steps) & jnp.any(_active(now))

    def body(loop: tuple[Climb, Array]) -> tuple[Climb, Array]:
        now, taken = loop
        return jax.vmap(lambda one: _step(local, one))(now), taken + 1

    return lax.while_loop(unfinished, body, (at, jnp.zeros((), int)))[0]


def positive(hessian: Array, damping: Array) -> tuple[Array, Array]:
    """Eigenvalues `|λ| + μ` (not below `FLATTEST`) and eigenvectors of the negative Hessian."""
    values, vectors = jnp.linalg.eigh(-hessian)
    return jnp.maximum(jnp.abs(values), FLATTEST) + damping, vectors


def _active(now: Climb) -> Array:
    return ~(now.decrement < CONVERGED) & (now.damping < 1e8)


def _step(local: Callable[[Array], Local], now: Climb) -> Climb:
    values, vectors = positive(now.hessian, now.damping)
    z = now.z + vectors @ ((vectors.T @ now.gradient) / values)
    there = local(z)
    hessian = (there.hessian + there.hessian.T) / 2
    hessian = jnp.where(jnp.isfinite(hessian).all(), hessian, -jnp.eye(z.shape[0]))
    values, vectors = positive(hessian, jnp.zeros(()))
    decrement = jnp.sum((vectors.T @ there.gradient) ** 2 / values) / 2
    trial = Climb(z, there.log_density, there.gradient, hessian, now.damping / 10.0, decrement)
    climbed = (there.log_density > now.log_density) & _active(now)
    stayed = now._replace(damping=jnp.where(_active(now), now.damping * 5.0, now.damping))
    return jax.tree.map(lambda new, old: jnp.where(climbed, new, old), trial, stayed)
