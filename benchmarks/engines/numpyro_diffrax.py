"""NumPyro's NUTS on a solve by diffrax, as their documentation shows: dense metric, 1,000 warm-up transitions."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.distributions import biject_to
from numpyro.infer import MCMC, NUTS, init_to_median

from bayestwin.bind import bind
from engines import Run, Settings
from engines.clock import Clock
from engines.diffrax_solve import build_solve, observed
from posteriors import Posterior

NUM_WARMUP = 1000
MOST_FORWARD = 10
"""Quantities up to which forward mode is the faster of diffrax's two ways to differentiate."""


def run(posterior: Posterior, settings: Settings) -> Run:
    """Warm up and sample, the chains vectorised."""
    clock = Clock()
    numpyro.set_platform(settings.device)
    twin = posterior.twin
    forward = len(twin.sites()) <= MOST_FORWARD
    solve = build_solve(posterior, diffrax.ForwardMode() if forward else diffrax.RecursiveCheckpointAdjoint())
    data, times = observed(posterior), jnp.asarray(bind(twin, posterior.telemetry).times)

    def model() -> None:
        values: dict[str, Any] = {site.name: numpyro.sample(site.name, site.prior) for site in twin.sites()}
        predicted = solve(values)
        for name, (rows, seen) in data.items():
            noise = twin.observations[name].noise
            given = {key: values.get(f"{name}_{key}", prior) for key, prior in noise.parameters.items()}
            at = jnp.asarray(rows)
            numpyro.sample(name, noise.distribution(predicted[name][at], times[at], **given), obs=seen)

    own = {} if settings.target is None else {"target_accept_prob": settings.target}
    mcmc = MCMC(
        NUTS(model, dense_mass=True, forward_mode_differentiation=forward, init_strategy=init_to_median(), **own),
        num_warmup=settings.warmup or NUM_WARMUP,
        num_samples=settings.draws,
        num_chains=settings.chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    key = jax.random.key(settings.seed)
    sites = twin.sites() if settings.starts else ()
    starts = {site.name: biject_to(site.prior.support).inv(jnp.asarray(settings.starts[site.name])) for site in sites}
    with clock.phase("warmup"):
        mcmc.warmup(key, init_params=starts or None)
        jax.block_until_ready(mcmc.post_warmup_state)
    with clock.phase("sampling"):
        mcmc.run(key, extra_fields=("diverging", "num_steps"))
        found = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    extra = mcmc.get_extra_fields()
    draws = {name: np.asarray(values) for name, values in found.items()}
    return Run(draws, int(extra["diverging"].sum()), clock.seconds, float(extra["num_steps"].mean()))
