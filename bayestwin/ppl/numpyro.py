"""A twin and its telemetry as a NumPyro model, with the priors, sites and log density that `calibrate` uses."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayestwin.bind import bind
from bayestwin.density import build_density
from bayestwin.setting import require_float64
from bayestwin.telemetry import Telemetry
from bayestwin.twin import Twin


def numpyro_model(twin: Twin, telemetry: Telemetry) -> Callable[[], None]:
    """The model of a twin given telemetry, ready for `numpyro.infer`.

    Sites are named as in the posterior; each observation is an observed site under its own name, without the times
    at which it is missing. Works in forward and in reverse mode, so with `NUTS`, `SVI` and the rest unchanged.

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
        # (not `numpyro.factor`: where ArviZ was imported first, its lazy loading hides a module that `factor` looks up)
        solved = dist.Unit(jnp.where(predicted.solved, 0.0, -jnp.inf))
        numpyro.sample("solved", solved, obs=solved.sample(None), infer={"is_auxiliary": True})
        for name, rows in present.items():
            noise = density.noise_around(name, predicted.noise_free[name][rows], values, predicted, rows)
            numpyro.sample(name, noise, obs=density.bound.observations[name][rows])

    return model
