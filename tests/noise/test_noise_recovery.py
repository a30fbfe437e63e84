"""Slow: parameters drawn from their priors lie in their 90 % intervals in 90 % of 200 simulated data sets.

The posterior is exact but for Monte Carlo error: draws from a Student-t around the mode, weighted by the density.
The band is that of a binomial count at 99.9 %.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from noise_models import CASES, SMALL, Case
from scipy import stats
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.density import Density
from bayestwin.inference.newton import climb, positive

NUM, DRAWS, DF, PROB = 200, 2000, 5.0, 0.9
TIMES = np.concatenate([[0.0], np.sort(np.random.default_rng(1).uniform(0.0, 3.0, 29))])

MODELS = CASES | {
    "autocorrelated": CASES["gaussian"]._replace(noise=bt.Autocorrelated(SMALL, dist.LogNormal(-0.5, 0.4))),
    "autocorrelated, with a nugget": CASES["gaussian"]._replace(
        noise=bt.Autocorrelated(SMALL, dist.LogNormal(-0.5, 0.4), dist.LogNormal(-2.5, 0.3))
    ),
    "shared scale": CASES["gaussian"]._replace(noise=bt.Gaussian("sigma")),
}


def leaking(case: Case) -> Density:
    """A decaying tank, seen under a noise model, by two sensors if they share `sigma`."""
    shared = "sigma" in case.noise.parameters.values()
    seen = {"seen": bt.Observation(case.noise, of=lambda t, x, p, u: case.scale(x.level))}
    twin = bt.Twin(
        name="leaking",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.LogNormal(np.log(5.0), 0.2))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.3))}
        | ({"sigma": bt.Parameter(SMALL)} if shared else {}),
        observations=seen | ({"again": bt.Observation(case.noise, of=lambda t, x, p, u: -x.level)} if shared else {}),
        solver=bt.Solver("tsit5", rtol=1e-5, atol=1e-7),
    )
    columns = {name: np.ones(TIMES.size) for name in twin.observations}
    return bound_density(twin, telemetry_of({"time": TIMES} | columns))


def simulated(density: Density, key: Array) -> tuple[Array, dict[str, Array]]:
    """The truth as z, and observations of it; every fifth is missing."""
    drawn, noisy = jax.random.split(key)
    values = density.sample_prior(drawn)
    found = density.draw(noisy, values, density.predict(values))
    gap = jnp.arange(TIMES.size) % 5 == 4
    return density.unconstrain(values), {
        name: jnp.where(gap, jnp.nan, found[name]) for name in density.bound.observations
    }


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


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    density = leaking(MODELS[name])
    keys = jax.random.split(jax.random.key(5), NUM)
    below, worth = jax.jit(lambda keys: jax.lax.map(lambda key: weighted(density, key), keys, batch_size=25))(keys)
    assert np.median(worth) > 0.1 * DRAWS
    inside = (np.abs(np.asarray(below) - 0.5) < PROB / 2.0).sum(axis=0)
    low, high = stats.binom.interval(0.999, NUM, PROB)
    shares = dict(zip((site.name for site in density.sites), inside.tolist(), strict=True))
    assert all(low <= count <= high for count in shares.values()), shares
