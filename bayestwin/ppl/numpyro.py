"""A twin and its telemetry as a NumPyro model, with the priors, sites and log density that `calibrate` uses."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike

from bayestwin._base.process import require_float64
from bayestwin.density.bind import Experiments, bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.model.twin import Site, Twin
from bayestwin.telemetry import Telemetry


def numpyro_model(twin: Twin, telemetry: Telemetry | Experiments) -> Callable[[], None]:
    """The model of a twin given telemetry, ready for `numpyro.infer`.

    Sites are named as in the posterior, and what is derived from them is deterministic; each observation is an
    observed site under its own name, without the times at which it is missing; with a discrepancy, which is integrated
    out, all of them are one draw of a multivariate normal; autocorrelated ones, which are no distribution of NumPyro,
    are one term of the log density under that name. Works in forward and in reverse mode, so with `NUTS`, `SVI` and
    the rest unchanged.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs; or those of each experiment, by its name. What is each experiment's
            own is then a site within the plate `experiment`.

    Returns:
        A function without arguments that makes NumPyro's `sample` statements.

    Raises:
        InvalidTelemetry: If the telemetry does not fit the twin.
    """
    require_float64()
    density = build_density(twin, bind_all(twin, telemetry))
    present = {name: np.nonzero(np.isfinite(values)) for name, values in density.bound.observations.items()}

    def model() -> None:
        values: dict[str, ArrayLike] = {}
        for site in density.sites:
            values[site.name] = _sampled(density, site, values)
        for name, value in density.priors.derive(values).items():
            numpyro.deterministic(name, value)
        predicted = density.predict(values)
        # a failed solve is impossible, not an error
        _term("solved", jnp.where(predicted.solved.all(), 0.0, -jnp.inf))
        for name, terms in density.correlations(values, predicted).items():
            together = terms.sum()
            _term(f"{name}_correlation", jnp.where(jnp.isnan(together), -jnp.inf, together))
        for name, rows in present.items():
            noise, given = density.noise(name, values, predicted)
            observed, times = density.bound.observations[name][rows], density.bound.times[rows]
            value = predicted.noise_free[name][rows]
            if density.discrepancies is not None and name in density.discrepancies.processes:
                factor = density.discrepancies.factor(name, values)[rows]
                variance = jnp.full(len(observed), given["scale"] ** 2)
                numpyro.sample(name, dist.LowRankMultivariateNormal(value, factor, variance), obs=observed)
            elif noise.independent:
                # of each experiment, of each time, or of each time of each experiment
                given = {key: jnp.asarray(v)[rows[: jnp.ndim(v)]] if jnp.ndim(v) else v for key, v in given.items()}
                numpyro.sample(name, noise.distribution(value, times, **given), obs=observed)
            elif density.experiments:
                _term(name, density.log_likelihood(values, predicted)[name].sum())
            else:
                given = {key: jnp.asarray(v)[rows] if jnp.ndim(v) else v for key, v in given.items()}
                _term(name, noise.log_likelihood(observed, value, times, **given).sum())

    return model


def _sampled(density: Density, site: Site, values: Mapping[str, ArrayLike]) -> ArrayLike:
    """The value of a site, or that of each experiment, given those before it."""
    shape, prior = density.shape_of(site), density.priors.prior(site, values)
    if not shape:
        return numpyro.sample(site.name, prior)
    with numpyro.plate("experiment", *shape):
        return numpyro.sample(site.name, prior)


def _term(name: str, log_factor: Array) -> None:
    """Add to the log density.

    Not by `numpyro.factor`: where ArviZ was imported first, its lazy loading hides a module that `factor` looks up.
    """
    unit = dist.Unit(log_factor)
    numpyro.sample(name, unit, obs=unit.sample(None), infer={"is_auxiliary": True})
