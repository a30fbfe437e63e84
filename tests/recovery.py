"""Data sets drawn from priors and twin, many at once, and how often the truth lies in the intervals of its posterior.

The posterior is exact but for Monte Carlo error: draws from a Student-t around the mode, weighted by the density.
The band is that of a binomial count at 99.9 %.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import stats

from bayestwin.density.curvature import positive
from bayestwin.density.density import Density
from bayestwin.inference.climb import climb

NUM, DRAWS, DF, PROB = 200, 2000, 5.0, 0.9


def check_recovery(density: Density, seed: int) -> None:
    """Fail unless 90 % intervals hold 90 % of the truths, for each site."""
    keys = jax.random.split(jax.random.key(seed), NUM)
    below, worth = jax.jit(lambda keys: jax.lax.map(lambda key: weighted(density, key), keys, batch_size=25))(keys)
    assert np.median(worth) > 0.1 * DRAWS
    inside = (np.abs(np.asarray(below) - 0.5) < PROB / 2.0).sum(axis=0)
    low, high = stats.binom.interval(0.999, NUM, PROB)
    shares = dict(zip((site.name for site in density.sites), inside.tolist(), strict=True))
    assert all(low <= count <= high for count in shares.values()), shares


def weighted(density: Density, key: Array) -> tuple[Array, Array]:
    """Share of the posterior below the truth in each coordinate, shape (d,), and what the weighted draws are worth."""
    truth, observed = simulated(density, key)
    density = dataclasses.replace(density, bound=density.bound._replace(observations=observed))
    top = climb(density.local, truth[None])
    curvature, vectors = positive(top.hessian[0], jnp.zeros(()))
    scale = vectors / jnp.sqrt(jnp.maximum(curvature, 0.04))[None, :]
    normal, chi = jax.random.split(jax.random.fold_in(key, 1))
    dim = truth.size
    spread = jnp.sqrt(DF / (2.0 * jax.random.gamma(chi, DF / 2.0, (DRAWS, 1))))
    unit = jax.random.normal(normal, (DRAWS, dim)) * spread
    z = top.z + unit @ scale.T
    proposal = -0.5 * (DF + dim) * jnp.log1p((unit**2).sum(axis=1) / DF)
    log_weight = jax.lax.map(density, z, batch_size=500) - proposal
    weight = jax.nn.softmax(log_weight)
    return weight @ (z < truth[None]), 1.0 / (weight**2).sum()


def simulated(density: Density, key: Array) -> tuple[Array, dict[str, Array]]:
    """The truth as z, and observations of it, missing where those of the density are."""
    drawn, noisy = jax.random.split(key)
    values = density.sample_prior(drawn)
    found = density.draw(noisy, values, density.predict(values))
    present = {name: np.isfinite(observed) for name, observed in density.bound.observations.items()}
    return density.unconstrain(values), {n: jnp.where(there, found[n], jnp.nan) for n, there in present.items()}
