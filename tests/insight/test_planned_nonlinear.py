"""What planned data are expected to tell is what calibrations of simulated data then tell, for a non-linear twin."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from twins import bound_density, decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.inference.climb import climb

NUM = 200
LATER = np.linspace(4.1, 5.0, 20)


@pytest.mark.slow
def test_the_expected_spread_is_the_mean_over_simulated_data() -> None:
    twin, telemetry = decay(), decay_telemetry()
    posterior = bt.calibrate(twin, telemetry, seed=0, num_samples=500)
    planned = telemetry_of({"time": LATER, "level": np.full(len(LATER), np.nan)})
    found = bt.identify(twin, telemetry, seed=0, posterior=posterior, planned=planned)["planned"].to_dataset()

    times = np.concatenate([telemetry.table.index, LATER])
    past = telemetry.table["level"].to_numpy()
    density = bound_density(twin, telemetry_of({"time": times, "level": np.resize(past, len(times))}))
    names = [site.name for site in density.sites]
    group = posterior["posterior"].to_dataset()
    rows = np.random.default_rng(3).choice(group.sizes["chain"] * group.sizes["draw"], NUM, replace=False)
    truths = {name: jnp.asarray(group[name].values.ravel()[rows]) for name in names}

    def calibrated(truth: dict[str, Array], key: Array) -> Array:
        """Laplace's variances, given what is there already and new observations that one draw makes."""
        new = density.draw(key, truth, density.predict(truth))["level"]
        seen = {"level": jnp.concatenate([jnp.asarray(past), new[len(past) :]])}
        given = dataclasses.replace(density, bound=density.bound._replace(observations=seen))
        reached = climb(given.local, density.unconstrain(truth)[None])
        return jnp.diagonal(jnp.linalg.inv(-reached.hessian[0]))

    variances = np.asarray(jax.jit(jax.vmap(calibrated))(truths, jax.random.split(jax.random.key(1), NUM)))
    expected = found["sd_with"].sel(quantity=names).values ** 2
    error = variances.std(axis=0, ddof=1) / np.sqrt(NUM)
    # information is averaged over 16 points of a posterior that is itself only nearly normal: a tenth beside chance
    assert (abs(variances.mean(axis=0) - expected) < 4 * error + 0.1 * expected).all()
