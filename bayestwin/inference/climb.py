"""Climbing to modes from many points at once, and the modes that were reached.

By damped Newton or Gauss–Newton steps `(|H| + μI)⁻¹ g`, with the eigenvalues of the Hessian H made positive, so that
saddles are left behind; μ falls when a step climbs and rises when it does not (Levenberg–Marquardt). Or by quasi-Newton
paths, which need gradients alone. D. W. Marquardt (1963), doi:10.1137/0111030. Y. Dauphin et al. (2014),
arXiv:1406.2572 (saddle-free Newton).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.vi.pathfinder import PathfinderState, approximate, sample
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin._base.compilation import Program
from bayestwin.density.curvature import FLATTEST, Local, as_matrix, solve_positive, symmetric
from bayestwin.density.survey import as_pytree, evaluate

CONVERGED = 1e-6
"""Newton decrement `gᵀ|H|⁻¹g / 2` below which a point counts as a mode: that much log density is still to gain."""


class Climb(NamedTuple):
    """Points on their way up: JAX's arrays within a program, NumPy's outside.

    Attributes:
        z: Shape (d,).
        log_density: At z.
        gradient: Shape (d,).
        hessian: Shape (d, d), or of several experiments an arrow.
        damping: μ.
        decrement: About how much log density is still to gain.
    """

    z: Any
    log_density: Any
    gradient: Any
    hessian: Any
    damping: Any
    decrement: Any


def climb(local: Callable[[Array], Local], z: Array, max_steps: ArrayLike = 60) -> Climb:
    """Climb from each of n points.

    Args:
        local: Log density, gradient and Hessian at a point of shape (d,); −inf where it is not defined.
        z: Starting points with finite log density; shape (n, d).
        max_steps: Most steps of each.

    Returns:
        The points reached; leading axis n in each field.
    """
    num = len(z)
    below = jnp.full(num, -jnp.inf)  # the first "step" is to the starting point itself
    hessian = jax.eval_shape(local, z[0]).hessian
    flat = jax.tree.map(lambda leaf: jnp.zeros((num, *leaf.shape), leaf.dtype), hessian)
    at = Climb(z, below, jnp.zeros_like(z), flat, jnp.full(num, 10.0), jnp.full(num, jnp.inf))

    def unfinished(loop: tuple[Climb, Array]) -> Array:
        now, taken = loop
        return (taken < max_steps) & jnp.any(_active(now))

    def body(loop: tuple[Climb, Array]) -> tuple[Climb, Array]:
        now, taken = loop
        return jax.vmap(lambda one: _step(local, one))(now), taken + 1

    return lax.while_loop(unfinished, body, (at, jnp.zeros((), int)))[0]


def _active(now: Climb) -> Array:
    return ~(now.decrement < CONVERGED) & (now.damping < 1e8)


def _step(local: Callable[[Array], Local], now: Climb) -> Climb:
    z = now.z + solve_positive(now.hessian, now.damping, now.gradient)
    there = local(z)
    hessian = symmetric(there.hessian)
    decrement = there.gradient @ solve_positive(hessian, jnp.zeros(()), there.gradient) / 2
    trial = Climb(z, there.log_density, there.gradient, hessian, now.damping / 10.0, decrement)
    climbed = (there.log_density > now.log_density) & _active(now)
    stayed = now._replace(damping=jnp.where(_active(now), now.damping * 5.0, now.damping))
    return jax.tree.map(lambda new, old: jnp.where(climbed, new, old), trial, stayed)


# Quasi-Newton paths and the best normal along each: needs gradients alone.
#
# L. Zhang, B. Carpenter, A. Gelman & A. Vehtari (2022), jmlr.org/papers/v23/21-0889.html; the path is blackjax's.

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


@Program
def _approximate_along(log_density: Callable[[Array], Array], key: Array, z: Array) -> PathfinderState:
    return approximate_along(key, log_density, z)


def draw_from(key: Array, normal: PathfinderState, num: int) -> tuple[Array, Array]:
    """Draws from a normal, shape (n, d), and their log densities under it, shape (n,)."""
    with jax.numpy_rank_promotion("allow"):
        draws, log_density = sample(key, normal, num)
    return jnp.asarray(draws), jnp.asarray(log_density)


def follow_path(log_density: Callable[[Array], Array], z: np.ndarray, key: Array) -> PathNormal | None:
    """Follow the path from z, shape (d,); None where no normal along it covers anything of the posterior."""
    found = _approximate_along(as_pytree(log_density), key, z)
    covariance = np.diag(np.asarray(found.alpha)) + np.asarray(found.beta @ found.gamma @ found.beta.T)
    centre = np.asarray(found.position)
    value = float(evaluate(log_density, centre[None])[0])
    eigenvalues, vectors = np.linalg.eigh(np.nan_to_num((covariance + covariance.T) / 2.0))
    if not (np.isfinite(value) and np.isfinite(float(found.elbo)) and eigenvalues.min() > 0):
        return None
    return PathNormal(centre, vectors * np.sqrt(eigenvalues), value)


# Modes of a log density: points that have climbed, grouped and weighed by their Laplace approximations.

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


def group_modes(z: np.ndarray, log_density: np.ndarray, hessian: Any) -> tuple[Mode, ...]:
    """Group points that have climbed into distinct modes, and weigh them by their Laplace evidence.

    Two points are one mode when they are nearer than three standard deviations of the higher one's Laplace
    approximation.

    Args:
        z: Points; shape (n, d).
        log_density: Shape (n,).
        hessian: Shape (n, d, d), or arrows with a leading axis n.

    Returns:
        Modes, heaviest first.
    """
    found: list[tuple[np.ndarray, float, np.ndarray, float]] = []
    inverses: list[np.ndarray] = []  # of the scales, which are a rotation and lengths
    near = 3.0 * np.sqrt(z.shape[1])
    for i in np.argsort(-log_density):
        if any(np.linalg.norm(own @ (z[i] - mode[0])) < near for own, mode in zip(inverses, found, strict=True)):
            continue
        values, vectors = np.linalg.eigh(-as_matrix(jax.tree.map(lambda leaf, i=i: leaf[i], hessian)))
        values = np.maximum(np.abs(values), max(FLATTEST, WIDEST**-2))
        scale = vectors / np.sqrt(values)
        inverses.append(vectors.T * np.sqrt(values)[:, None])
        found.append((z[i], float(log_density[i]), scale, float(log_density[i] - 0.5 * np.log(values).sum())))
    evidence = np.array([mode[3] for mode in found])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    modes = [Mode(at, value, scale, float(w)) for (at, value, scale, _), w in zip(found, weights, strict=True)]
    return tuple(sorted((mode for mode in modes if mode.weight > LIGHTEST), key=lambda mode: -mode.weight))


def shares_of(modes: tuple[Mode, ...], z: np.ndarray) -> list[float]:
    """The share of draws, shape (n, d), that lie around each mode: where its Laplace approximation is the densest."""
    far = []
    for mode in modes:
        unit = np.linalg.solve(mode.scale, (z - mode.z).T)
        far.append(0.5 * np.sum(unit**2, axis=0) + np.linalg.slogdet(mode.scale)[1])
    return (np.bincount(np.argmin(far, axis=0), minlength=len(modes)) / len(z)).tolist()


VALLEY, STEPS_BETWEEN = 1.0, 8
"""By how much the log density may fall between two modes that are parts of one ridge, and where it is looked at."""


def ridges(log_density: Callable[[Array], Array], modes: tuple[Mode, ...]) -> list[list[int]]:
    """Numbers of the modes in groups: between those of one group the log density hardly falls.

    So it is where the data leave a direction open, as where a quantity that they do not tell goes to a bound of its
    prior: climbs end anywhere along it. Chains cross what is no valley.

    Args:
        log_density: (d,) → scalar.
        modes: Shape (d,) each.
    """
    pairs = [(first, second) for second in range(len(modes)) for first in range(second)]
    share = np.linspace(0.0, 1.0, STEPS_BETWEEN + 1)[1:-1, None]
    group = list(range(len(modes)))
    if pairs:
        between = np.concatenate([modes[a].z + share * (modes[b].z - modes[a].z) for a, b in pairs])
        lowest = evaluate(log_density, between).reshape(len(pairs), -1).min(axis=1)
        for (a, b), low in zip(pairs, lowest, strict=True):
            if low >= min(modes[a].log_density, modes[b].log_density) - VALLEY:
                group = [group[a] if one == group[b] else one for one in group]
    return [[number for number, one in enumerate(group) if one == own] for own in dict.fromkeys(group)]


def draw_around(modes: tuple[Mode, ...], rng: np.random.Generator, num: int) -> np.ndarray:
    """Draws from the mixture of the modes' Laplace approximations, by their weights; shape (num, d)."""
    weights = np.array([mode.weight for mode in modes])
    owners = rng.choice(len(modes), size=num, p=weights / weights.sum())
    unit = rng.standard_normal((num, modes[0].z.size))
    return np.stack([modes[m].z + modes[m].scale @ w for m, w in zip(owners, unit, strict=True)])
