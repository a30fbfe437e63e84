"""Priors that depend on others, and derived parameters, are the same in PyMC; what it cannot say is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytest
from twins import bound_density, decay, decay_telemetry

import bayestwin as bt


def dependent(**parameters: bt.Parameter) -> bt.Twin:
    """Decay whose half-life lies around a typical one, and whose start around the first observation."""
    own = {
        "typical": bt.Parameter(dist.LogNormal(0.3, 0.4)),
        "half_life": bt.Parameter(lambda p: dist.LogNormal(jnp.log(p.typical), 0.3)),
        "rate": bt.Parameter(lambda p: jnp.log(2.0) / p.half_life),
    }
    start = bt.First("level", lambda first: dist.Normal(first, 0.2))
    return decay(
        states={"level": bt.State(start)},
        parameters=own | parameters,
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_pymc_has_the_same_density_and_gradient() -> None:
    twin, telemetry = dependent(), decay_telemetry()
    density, model = bound_density(twin, telemetry), bt.pymc_model(twin, telemetry, start=False)
    values = {"typical": 1.3, "half_life": 1.1, "level_initial": 5.0}
    z = density.unconstrain(values)
    point = {f"{name}_interval__": np.log(values[name]) for name in ("typical", "half_life")}
    point |= {"level_initial": np.array(5.0)}
    assert {v.name for v in model.value_vars} == set(point)
    np.testing.assert_allclose(model.compile_logp()(point), float(density(z)), rtol=1e-9)
    np.testing.assert_allclose(model.compile_dlogp()(point), jax.grad(density)(z), rtol=1e-6)
    with model:
        drawn = pm.sample_prior_predictive(draws=400, random_seed=1)["prior"]
    np.testing.assert_allclose(drawn["rate"], np.log(2.0) / drawn["half_life"], rtol=1e-12)
    apart = np.log(drawn["half_life"] / drawn["typical"]).to_numpy()
    assert abs(apart.mean()) < 4 * 0.3 / np.sqrt(400)
    assert abs(apart.std() / 0.3 - 1.0) < 4 / np.sqrt(800)


def test_a_prior_with_moving_ends_is_refused() -> None:
    twin = dependent(share=bt.Parameter(lambda p: dist.Uniform(0.0, p.rate)))
    with pytest.raises(bt.errors.InvalidTwin, match="begins or ends where another parameter says"):
        bt.pymc_model(twin, decay_telemetry(), start=False)
