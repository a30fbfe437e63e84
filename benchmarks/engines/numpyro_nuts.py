"""NumPyro's NUTS with a dense metric, as its documentation shows; shared by the engines that differ in their model."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.distributions import biject_to
from numpyro.infer import MCMC, NUTS, init_to_median

from engines import Run, Settings
from engines.clock import Clock
from posteriors import Posterior

NUM_WARMUP = 1000


def sample(model: Callable[[], None], posterior: Posterior, settings: Settings, *, forward: bool = False) -> Run:
    """Warm up and sample, the chains vectorised.

    Args:
        model: Makes NumPyro's `sample` statements.
        posterior: Whose sites the model has.
        settings: As of every engine.
        forward: Whether to differentiate in forward mode.
    """
    clock = Clock()
    numpyro.set_platform(settings.device)
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
    sites = posterior.twin.sites()
    starts = {
        site.name: biject_to(site.prior.support).inv(jnp.asarray(settings.starts[site.name]))
        for site in (sites if settings.starts else ())
    }
    with clock.phase("warmup"):
        mcmc.warmup(key, init_params=starts or None)
        jax.block_until_ready(mcmc.post_warmup_state)
    with clock.phase("sampling"):
        mcmc.run(key, extra_fields=("diverging", "num_steps"))
        found = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    extra = mcmc.get_extra_fields()
    draws = {site.name: np.asarray(found[site.name]) for site in sites}
    return Run(draws, int(extra["diverging"].sum()), clock.seconds, float(extra["num_steps"].mean()))
