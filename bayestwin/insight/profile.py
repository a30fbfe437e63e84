"""Profile likelihoods, and how much narrower than the prior a posterior is expected to be.

One quantity is held at value after value, and all others are optimised again at each. A profile that stays above the
threshold on a side leaves the quantity without a bound there. A. Raue et al. (2009), doi:10.1093/bioinformatics/btp358.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from scipy.stats import chi2

from bayestwin.density.curvature import Local, as_matrix
from bayestwin.density.density import Density
from bayestwin.density.survey import evaluate
from bayestwin.inference.climb import Mode, climb
from bayestwin.insight.ties import Coordinates

SIDE = 12
"""Values on each side of the best one."""

REACH = 5.0
"""How far a profile is followed from the prior's mean at most, in standard deviations of the prior, in z."""

FIRST = 4.0
"""How far it is followed at first, in standard deviations that the curvature at the best point says."""

ROUNDS = 3
"""How often it is followed three times as far where it has not yet come down."""

INSIDE = 10.0
"""How far the other quantities may go, in standard deviations of the prior, in z; they need a bound where they are
without one."""


class Profile(NamedTuple):
    """The profile of one quantity.

    Attributes:
        z: Values held, increasing; shape (g,).
        drop: Best log density anywhere minus the best with the value held; ∞ where there is none. Shape (g,).
        optimum: Best point with each value held; shape (g, d).
        lower: In z: where the interval ends below; −∞ where the profile does not come down.
        upper: Likewise above.
    """

    z: np.ndarray
    drop: np.ndarray
    optimum: np.ndarray
    lower: float
    upper: float


type HeldOptimum = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Points (n, d), and 1 where z is held, (d,) → points reached, (n, d), and their log densities, (n,)."""


def follow(
    density: Density,
    coordinates: Coordinates,
    numbers: list[int],
    start: np.ndarray,
    information: np.ndarray,
    prob: float,
    with_prior: bool,
) -> dict[int, Profile]:
    """Profiles of some quantities.

    Args:
        density: The log density.
        coordinates: Its coordinates.
        numbers: Which of them.
        start: A mode; shape (d,).
        information: Fisher information there; shape (d, d).
        prob: Of the interval, by the χ² distribution with one degree of freedom.
        with_prior: Whether the prior counts, as it does in the posterior, or the likelihood alone.
    """
    held = _climber(density, coordinates, with_prior)
    nothing = np.zeros(len(start))
    points, heights = held(np.tile(start, (2 * SIDE + 1, 1)), nothing)
    best, height = points[int(np.argmax(heights))], float(heights.max())
    level = float(chi2.ppf(prob, 1)) / 2
    added = 1.0 / coordinates.spread**2 if with_prior else 1e-6 / coordinates.spread**2
    covariance = np.linalg.inv(information + np.diag(added))
    return {n: _one(held, coordinates, n, best, height, covariance, level) for n in numbers}


def _climber(density: Density, coordinates: Coordinates, with_prior: bool) -> HeldOptimum:
    centre, width = jnp.asarray(coordinates.centre), jnp.asarray(INSIDE * coordinates.spread)

    def prior(z: Array) -> Array:
        values, correction = density.constrain_with_log_det(z)
        return density.priors.log_density(values) + correction

    def local(z: Array, holds: Array) -> Local:
        value, gradient, hessian = density.local(z)
        hessian = as_matrix(hessian)
        if not with_prior:
            value, gradient = value - prior(z), gradient - jax.grad(prior)(z)
            hessian = hessian - jax.hessian(prior)(z)
        moves = 1.0 - holds
        hessian = hessian * moves[:, None] * moves[None] - jnp.diag(holds)
        inside = (jnp.abs(z - centre) < width).all()
        return Local(jnp.where(inside, value, -jnp.inf), gradient * moves, hessian)

    climbed = jax.jit(lambda z, holds: climb(lambda one: local(one, holds), z))

    def held(z: np.ndarray, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = climbed(jnp.asarray(z), jnp.asarray(holds))
        heights = np.asarray(found.log_density)
        return np.asarray(found.z), np.where(np.isnan(heights), -np.inf, heights)

    return held


def _one(
    held: HeldOptimum,
    coordinates: Coordinates,
    number: int,
    best: np.ndarray,
    height: float,
    covariance: np.ndarray,
    level: float,
) -> Profile:
    """Follow one quantity until its profile has come down on both sides, or the prior holds nothing more."""
    holds = np.zeros(len(best))
    holds[number] = 1.0
    ends = coordinates.centre[number] + np.array([-REACH, REACH]) * coordinates.spread[number]
    room = np.maximum(np.abs(ends - best[number]), 1e-9)
    width = np.minimum(FIRST * np.sqrt(covariance[number, number]), room)
    slope = covariance[:, number] / covariance[number, number]
    optimum, heights = best[None], np.array([height])
    for _ in range(ROUNDS):
        steps = np.concatenate([-width[0] * np.linspace(1, 0, SIDE, endpoint=False), [0.0]])
        steps = np.concatenate([steps, width[1] * np.linspace(0, 1, SIDE + 1)[1:]])
        new, high = _solve(held, best[None] + steps[:, None] * slope, best, number, best[number] + steps, holds)
        optimum, heights = np.concatenate([optimum, new]), np.concatenate([heights, high])
        far = heights.max() - high[[0, -1]] < 1.5 * level
        if not (far & (width < room)).any():
            break
        width = np.where(far, np.minimum(3.0 * width, room), width)
    order = np.argsort(optimum[:, number], kind="stable")
    z, first = np.unique(optimum[order, number], return_index=True)
    ranges = np.split(order, first[1:])
    top = np.array([rows[int(np.argmax(heights[rows]))] for rows in ranges])
    drop = heights.max() - heights[top]
    return Profile(z, drop, optimum[top], *_interval(z, drop, level))


def _solve(
    held: HeldOptimum, guesses: np.ndarray, best: np.ndarray, number: int, values: np.ndarray, holds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Optimise the others at each value: from a straight line, from the best point, then each from its neighbours."""
    found, heights = held(guesses, holds)
    plain = np.tile(best, (len(values), 1))
    plain[:, number] = values
    trials = [plain, *(np.roll(found, shift, axis=0) for shift in (1, -1))]
    for trial in trials:
        start = trial.copy()
        start[:, number] = values
        other, high = held(start, holds)
        better = high > heights
        found, heights = np.where(better[:, None], other, found), np.where(better, high, heights)
    return found, heights


def _interval(z: np.ndarray, drop: np.ndarray, level: float) -> tuple[float, float]:
    """Where the profile comes down for the first time on each side of its best point, linear in √drop."""
    centre = int(np.argmin(drop))
    root, limit = np.sqrt(np.maximum(drop, 0.0)), np.sqrt(level)
    ends = []
    for side in (range(centre, -1, -1), range(centre, len(z))):
        rows = list(side)
        after = next((i for i in range(1, len(rows)) if drop[rows[i]] > level), None)
        if after is None:
            ends.append(np.inf)
            continue
        inner, outer = rows[after - 1], rows[after]
        share = (limit - root[inner]) / (root[outer] - root[inner]) if np.isfinite(root[outer]) else 0.5
        ends.append(float(z[inner] + share * (z[outer] - z[inner])))
    return (-np.inf if np.isinf(ends[0]) else ends[0]), ends[1]


# How much narrower than the prior a posterior is, or is expected to be: `1 − var_post / var_prior` in z.
#
# In z, positive quantities stand as their logarithms. Expected, the posterior of each mode is normal with the
# precision `I(mode) + 1 / var_prior`: exact for twins linear in their unknowns, with normal priors and known Gaussian
# noise.

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
    """Inverses of symmetric positive matrices, shape (…, d, d); eigenvalues count as 1e-12 of the largest at least.

    NaN where a matrix is not finite.
    """
    good = np.isfinite(matrix).all(axis=(-2, -1), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(good, (matrix + np.swapaxes(matrix, -2, -1)) / 2, 0.0))
    values = np.maximum(values, np.maximum(1e-12 * values[..., -1:], np.finfo(float).tiny))
    return np.where(good, (vectors / values[..., None, :]) @ np.swapaxes(vectors, -2, -1), np.nan)


def with_more(covariance: np.ndarray, added: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Covariance after more observations: mean over n points of `(C⁻¹ + added)⁻¹`.

    Args:
        covariance: What is known so far; shape (d, d).
        added: Information of the further observations at each point; shape (n, d, d).
        spread: Scale of z, for the arithmetic alone; shape (d,).
    """
    unit = spread[:, None] * spread[None]
    return scaled_inverse(scaled_inverse(covariance / unit) + added * unit).mean(axis=0) * unit


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
    return points[np.isfinite(evaluate(density, points))][:POINTS]
