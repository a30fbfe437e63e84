"""The NumPyro model has the log density that `calibrate` uses, and NumPyro's own NUTS samples it as it is."""

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density
from twins import NOISES, bound_density, counted, counted_telemetry, decay, decay_telemetry, lynx_hare, pelts

import bayestwin as bt

CASES = {name: (counted(noise), counted_telemetry()) for name, noise in NOISES.items()}
CASES["lynx_hare"] = (lynx_hare(), pelts())


QUICK = ("lynx_hare", "gaussian")


@pytest.mark.thorough
@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in QUICK else [pytest.mark.slow]) for c in CASES])
def test_its_log_density_is_ours_without_the_jacobian(case: str) -> None:
    twin, telemetry = CASES[case]
    density, model = bound_density(twin, telemetry), bt.numpyro_model(twin, telemetry)

    @jax.jit
    def both(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, correction = density.constrain_with_log_det(z)
        return density(z) - correction, log_density(model, (), {}, values)[0]

    keys = jax.random.split(jax.random.key(3), 20)
    points = jax.vmap(lambda key: density.unconstrain(density.sample_prior(key)))(keys)
    ours, theirs = jax.jit(jax.vmap(both))(points)
    assert np.isfinite(ours).sum() >= 10
    np.testing.assert_allclose(theirs, ours, rtol=1e-9)


def test_a_failed_solve_is_impossible_and_not_an_error() -> None:
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * x.level**2})
    model = bt.numpyro_model(twin, decay_telemetry())
    values = {"rate": jnp.array(5.0), "level_initial": jnp.array(5.0), "level_scale": jnp.array(1.0)}
    assert jax.jit(lambda v: log_density(model, (), {}, v)[0])(values) == -np.inf


def test_its_sites_are_named_as_in_the_posterior() -> None:
    twin, telemetry = CASES["student"]
    trace = numpyro.handlers.trace(numpyro.handlers.seed(bt.numpyro_model(twin, telemetry), 0)).get_trace()
    free = [name for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]]
    assert free == [site.name for site in twin.sites()]
    assert trace["seen"]["value"].shape == (9,)


@pytest.mark.thorough
def test_numpyro_samples_it_with_its_defaults() -> None:
    # known rate and noise: the posterior of the initial level is normal, and known
    twin = decay(parameters={"rate": bt.Parameter(0.8)}, observations={"level": bt.Observation(bt.Gaussian(0.1))})
    telemetry = decay_telemetry()
    sampler = MCMC(NUTS(bt.numpyro_model(twin, telemetry)), num_warmup=200, num_samples=500, progress_bar=False)
    sampler.run(jax.random.key(1))
    draws = np.asarray(sampler.get_samples(group_by_chain=True)["level_initial"])
    faded = np.exp(-0.8 * telemetry.table.index.to_numpy())
    precision = 1.0 + (faded**2).sum() / 0.01
    mean = (5.0 + (faded * telemetry.table["level"].to_numpy()).sum() / 0.01) / precision
    assert abs(draws.mean() - mean) < 4 * float(az.mcse(draws, method="mean"))
    assert abs(draws.std() - precision**-0.5) < 4 * float(az.mcse(draws, method="sd"))
