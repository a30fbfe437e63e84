"""A twin and its telemetry as a NumPyro model, with the priors, sites and log density that `calibrate` uses."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from bayestwin.bind import bind
from bayestwin.density import build_density
from bayestwin.setting import require_float64
from bayestwin.telemetry import Telemetry
from bayestwin.twin import Twin


def numpyro_model(twin: Twin, telemetry: Telemetry) -> Callable[[], None]:
    """The model of a twin given telemetry, ready for `numpyro.infer`.

    Sites are named as in the posterior; each observation is an observed site under its own name, without the times
    at which it is missing; autocorrelated ones, which are no distribution of NumPyro, are one term of the log density
    under that name. Works in forward and in reverse mode, so with `NUTS`, `SVI` and the rest unchanged.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs.

    Returns:
        A function without arguments that makes NumPyro's `sample` statements.

    Raises:
        InvalidTelemetry: If the telemetry does not fit the twin.
    """
    require_float64()
    density = build_density(twin, bind(twin, telemetry))
    present = {name: np.flatnonzero(np.isfinite(values)) for name, values in density.bound.observations.items()}

    def model() -> None:
        values = {site.name: numpyro.sample(site.name, site.prior) for site in density.sites}
        predicted = density.predict(values)
        # a failed solve is impossible, not an error
        _term("solved", jnp.where(predicted.solved, 0.0, -jnp.inf))
        for name, rows in present.items():
            noise, given = density.noise(name, values, predicted, rows)
            observed, times = density.bound.observations[name][rows], density.bound.times[rows]
            value = predicted.noise_free[name][rows]
            if noise.independent:
                numpyro.sample(name, noise.distribution(value, times, **given), obs=observed)
            else:
                _term(name, noise.log_likelihood(observed, value, times, **given).sum())

    return model


def _term(name: str, log_factor: Array) -> None:
    """Add to the log density.

    Not by `numpyro.factor`: where ArviZ was imported first, its lazy loading hides a module that `factor` looks up.
    """
    unit = dist.Unit(log_factor)
    numpyro.sample(name, unit, obs=unit.sample(None), infer={"is_auxiliary": True})
