"""The distribution of each quantity by itself: its quantiles, a value in its middle and how widely it spreads."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr

from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density
from bayestwin.model.twin import Site

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
    quantile = _prior_quantile(site.prior, seed, site.name)
    shape = density.shape_of(site)

    def spread_out(probs: np.ndarray) -> np.ndarray:
        return np.broadcast_to(quantile(probs).reshape(-1, *[1] * len(shape)), (len(probs), *shape))

    low, middle, high = spread_out(np.array([1.0 - ONE_SD, 0.5, ONE_SD]))
    return Marginal(spread_out, middle, (high - low) / 2.0)


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
