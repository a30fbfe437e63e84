"""NumPyro's NUTS on a solve by diffrax, as their documentation shows."""

from typing import Any

import diffrax
import jax.numpy as jnp
import numpyro

from bayestwin.density.bind import bind
from engines import Run, Settings
from engines.diffrax_solve import build_solve, observed
from engines.numpyro_nuts import sample
from posteriors import Posterior

MOST_FORWARD = 10
"""Quantities up to which forward mode is the faster of diffrax's two ways to differentiate."""


def run(posterior: Posterior, settings: Settings) -> Run:
    """Warm up and sample."""
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

    return sample(model, posterior, settings, forward=forward)
