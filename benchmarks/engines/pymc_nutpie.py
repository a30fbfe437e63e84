"""PyMC's model of a solve by diffrax, sampled by nutpie with its defaults: JAX backend, its own warm-up and metric."""

from collections.abc import Callable
from typing import Any

import diffrax
import numpy as np
import numpyro.distributions as dist
import nutpie
import pymc as pm
from pytensor import wrap_jax  # pyright: ignore

import bayestwin as bt
from engines import Run, Settings
from engines.clock import Clock
from engines.diffrax_solve import build_solve, observed
from posteriors import Posterior

PRIORS: dict[type, Callable[..., Any]] = {
    dist.Normal: lambda name, d: pm.Normal(name, d.loc, d.scale),
    dist.LogNormal: lambda name, d: pm.LogNormal(name, d.loc, d.scale),
    dist.HalfNormal: lambda name, d: pm.HalfNormal(name, d.scale),
    # NumPyro makes this of `TruncatedNormal(loc, scale, low=0)`
    dist.LeftTruncatedDistribution: lambda name, d: pm.TruncatedNormal(
        name, d.base_dist.loc, d.base_dist.scale, lower=0.0
    ),
}


def run(posterior: Posterior, settings: Settings) -> Run:
    """Compile and sample, the chains in threads."""
    clock = Clock()
    with clock.phase("build"):
        compiled = nutpie.compile_pymc_model(_model(posterior), backend="jax", gradient_backend="jax")
    with clock.phase("sampling"):
        tree = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.warmup,
            chains=settings.chains,
            seed=settings.seed,
            progress_bar=False,
        )
    # one call makes warm-up and draws: its time is shared out by the gradients that each took
    steps, before = (np.asarray(tree[group]["n_steps"]) for group in ("sample_stats", "warmup_sample_stats"))
    seconds = dict(clock.seconds)
    seconds["warmup"] = seconds["sampling"] * float(before.sum() / (before.sum() + steps.sum()))
    seconds["sampling"] -= seconds["warmup"]
    draws = {site.name: np.asarray(tree["posterior"][site.name]) for site in posterior.twin.sites()}
    return Run(draws, int(np.asarray(tree["sample_stats"]["diverging"]).sum()), seconds, float(steps.mean()))


def _model(posterior: Posterior) -> pm.Model:
    twin = posterior.twin
    solve: Any = wrap_jax(build_solve(posterior, diffrax.RecursiveCheckpointAdjoint()))
    with pm.Model() as model:
        values = {site.name: PRIORS[type(site.prior)](site.name, site.prior) for site in twin.sites()}
        predicted = solve(values)
        for name, (rows, seen) in observed(posterior).items():
            noise = twin.observations[name].noise
            scale = values.get(f"{name}_scale", noise.parameters["scale"])
            at = predicted[name][rows]
            if isinstance(noise, bt.LogNormal):
                pm.LogNormal(name, pm.math.log(at), scale, observed=seen)
            else:
                pm.Normal(name, at, scale, observed=seen)
    return model
