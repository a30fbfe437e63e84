"""Sobol indices from a Saltelli design: distributions of the quantities, the design, the estimators, their bootstrap.

Saltelli et al. (2010), doi:10.1016/j.cpc.2009.09.018: two independent matrices A and B of points, and for each
quantity A with that quantity's column from B. SALib 1.6 gives the same indices, but takes outputs one at a time: here
all times share one product of matrices, which does without another dependency.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from scipy.stats import qmc

from bayestwin._base.process import key_for
from bayestwin.density.density import Density
from bayestwin.model.twin import Site

NUM_BOOTSTRAP = 500

FLAT = 1e-9
"""A prediction whose standard deviation is below this share of its size does not vary: what is left is rounding."""


class Indices(NamedTuple):
    """First-order and total indices, in this order along the first axis, of d quantities.

    Attributes:
        each: Of each output; shape (2, d, M), NaN where the output does not vary.
        overall: Of all outputs together, weighted by their variances; shape (2, d).
        sd: Standard deviation of each output; shape (M,).
    """

    each: np.ndarray
    overall: np.ndarray
    sd: np.ndarray


def saltelli(num: int, dim: int, seed: int) -> np.ndarray:
    """Probabilities at which quantities are taken: A, B, and A with each column from B in turn.

    Args:
        num: Points of the scrambled Sobol sequence, a power of two.
        dim: Number of quantities.
        seed: Determines the scrambling.

    Returns:
        Shape (num, dim + 2, dim), within (0, 1); any first rows are such a design as well.
    """
    points = qmc.Sobol(2 * dim, scramble=True, rng=np.random.default_rng(seed)).random(num)
    points += 2.0**-31  # they are multiples of 2⁻³⁰, and 0 has no quantile
    a, b = points[:, :dim], points[:, dim:]
    mixed = np.where(np.eye(dim, dtype=bool), b[:, None, :], a[:, None, :])
    return np.concatenate([a[:, None], b[:, None], mixed], axis=1)


def sobol_indices(
    outputs: np.ndarray, seed: int, prob: float, counts: np.ndarray | None = None
) -> tuple[Indices, Indices, Indices]:
    """Indices with bootstrap intervals.

    First order `Vᵢ = E[f(B) (f(Aᵢ) − f(A))]` (Saltelli 2010), total `Tᵢ = ½ E[(f(A) − f(Aᵢ))²]` (Jansen 1999), both
    over the variance of f, which is centred first. The bootstrap takes rows as independent; as points of a Sobol
    sequence they cover the space more evenly than that, so intervals are rather too wide.

    Args:
        outputs: At each point of the design; shape (n, d + 2, M).
        seed: Determines the bootstrap.
        prob: Of the intervals, between 0 and 1.
        counts: How often each bootstrap sample has each row, shape (R, n); drawn from `seed` by default.

    Returns:
        The indices, and the lower and the upper ends of their equal-tailed intervals.
    """
    num = len(outputs)
    if num < 2:
        nothing = Indices(*(np.full(shape, np.nan) for shape in _shapes(outputs)))
        return nothing, nothing, nothing
    if counts is None:
        counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1.0 / num), size=NUM_BOOTSTRAP)
    centred = outputs - outputs[:, :2].mean(axis=(0, 1))
    size = np.abs(outputs[:, :2]).max(axis=(0, 1))
    whole = _estimate(centred, np.full((1, num), 1.0 / num), size)
    resampled = _estimate(centred, counts / num, size)
    ends = ((1.0 - prob) / 2.0, (1.0 + prob) / 2.0)
    lower, upper = (Indices(*(np.quantile(part, end, axis=0) for part in resampled)) for end in ends)
    return Indices(*(part[0] for part in whole)), lower, upper


def _estimate(centred: np.ndarray, weights: np.ndarray, size: np.ndarray) -> Indices:
    """Indices under each of R weightings of the rows, shape (R, n); the axis R comes first in all parts."""
    a, b, mixed = centred[:, 0], centred[:, 1], centred[:, 2:]
    mean = weights @ (a + b) / 2.0
    variance = np.maximum(weights @ (a**2 + b**2) / 2.0 - mean**2, 0.0)
    variance = np.where(np.sqrt(variance) > FLAT * size, variance, 0.0)
    parts = np.empty((len(weights), 2, mixed.shape[1], a.shape[1]))
    for number in range(mixed.shape[1]):
        moved = mixed[:, number] - a
        parts[:, 0, number] = weights @ (b * moved)
        parts[:, 1, number] = weights @ moved**2 / 2.0
    varies = variance > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(varies[:, None, None], parts / variance[:, None, None], np.nan)
        total = variance.sum(axis=-1)[:, None, None]
        overall = np.where(total > 0.0, np.where(varies[:, None, None], parts, 0.0).sum(axis=-1) / total, np.nan)
    return Indices(each, overall, np.sqrt(variance))


def _shapes(outputs: np.ndarray) -> tuple[tuple[int, ...], ...]:
    dim, num_outputs = outputs.shape[1] - 2, outputs.shape[2]
    return (2, dim, num_outputs), (2, dim), (num_outputs,)


# The distribution of each quantity by itself: its quantiles, a value in its middle and how widely it spreads.

NUM_PRIOR = 2**16
"""Draws in place of quantiles that NumPyro does not have: at most 0.5 % of probability off, but for chance."""

ONE_SD = 0.8413447460685429
"""Probability that a normal variable lies below its mean plus one standard deviation."""


class Marginal(NamedTuple):
    """One quantity's distribution; of several experiments, that of each where it is not shared.

    Attributes:
        quantile: Probabilities, shape (n,) → values, shape (n,) or (n, E).
        centre: A value in the middle, shape () or (E,).
        spread: One standard deviation, shape () or (E,).
    """

    quantile: Callable[[np.ndarray], np.ndarray]
    centre: np.ndarray
    spread: np.ndarray


def varied(density: Density) -> tuple[Site, ...]:
    """The sites that a noise-free prediction depends on: parameters and initial states."""
    return tuple(site for site in density.sites if site.kind in ("parameter", "initial"))


def prior_marginal(density: Density, site: Site, seed: int) -> Marginal:
    """The prior of a site: its median, and half the width of its central 68 %, since not every prior has a variance."""
    shape = density.shape_of(site)
    if site.dependent:
        return _drawn_marginal(density, site, seed)
    quantile = _prior_quantile(site.prior, seed, site.name)

    def spread_out(probs: np.ndarray) -> np.ndarray:
        return np.broadcast_to(quantile(probs).reshape(-1, *[1] * len(shape)), (len(probs), *shape))

    low, middle, high = spread_out(np.array([1.0 - ONE_SD, 0.5, ONE_SD]))
    return Marginal(spread_out, middle, (high - low) / 2.0)


def _drawn_marginal(density: Density, site: Site, seed: int) -> Marginal:
    """That of a prior that depends on other quantities, over all of these: from draws."""
    keys = jax.random.split(key_for(seed, f"quantiles of {site.name}"), NUM_PRIOR)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: density.sample_prior(key)[site.name]))(keys))

    def quantile(probs: np.ndarray) -> np.ndarray:
        return np.quantile(draws, probs, axis=0)

    low, middle, high = quantile(np.array([1.0 - ONE_SD, 0.5, ONE_SD]))
    return Marginal(quantile, middle, (high - low) / 2.0)


def posterior_marginal(posterior: xr.Dataset, site: Site) -> Marginal:
    """The draws of a site by themselves: quantiles between draws, mean and standard deviation."""
    values = posterior[site.name].transpose("chain", "draw", ...).to_numpy()
    draws = values.reshape(-1, *values.shape[2:])
    return Marginal(lambda probs: np.quantile(draws, probs, axis=0), draws.mean(axis=0), draws.std(axis=0, ddof=1))


def _prior_quantile(prior: dist.Distribution, seed: int, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The quantile function of a prior, or that of many draws where NumPyro has none (Gamma, Beta, Student's t, …)."""
    try:
        prior.icdf(jnp.asarray([0.5]))
    except (NotImplementedError, ImportError):
        drawn = prior.sample(key_for(seed, f"quantiles of {name}"), (NUM_PRIOR,))
        draws = np.sort(np.asarray(drawn))
        return lambda probs: np.quantile(draws, probs)
    return lambda probs: np.asarray(jax.jit(prior.icdf)(jnp.asarray(probs)))
