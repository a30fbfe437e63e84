"""Tempered sequential Monte Carlo: populations that go from the prior to the posterior, through every mode on the way.

Each population is one chain of the result, so that R̂ between populations says whether they agree on the weights of the
modes. Particles are moved by HMC with their own covariance as metric; blackjax tempers and resamples.

P. Del Moral, A. Doucet & A. Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x.
"""

from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import adaptive_tempered, resampling
from blackjax.smc.base import extend_params
from blackjax.smc.tempered import TemperedSMCState
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.process import key_for
from bayestwin._base.progress import Phase
from bayestwin.density.density import Density
from bayestwin.density.survey import evaluate
from bayestwin.inference.method import Draws, Problem
from bayestwin.inference.starts import draw_starts

TARGET_ESS, MOVES, LEAPFROGS, ACCEPTANCE = 0.5, 3, 5, 0.8
IMPOSSIBLE = -1e10
"""Log likelihood of what cannot be solved: finite, since its zeroth power has to be one."""

MOST_TEMPERATURES = 200
SETTLING = 3
"""Rounds of moves at the last temperature."""


def smc(problem: Problem) -> Draws:
    """Draw by one population for each chain."""
    density, settings, seed, progress, _ = problem
    drawn = draw_starts(density, seed, progress)
    populations = []
    with progress.phase("draws", "tempering", settings.num_chains) as phase:
        for number in range(settings.num_chains):
            key = jax.random.fold_in(key_for(seed, "smc"), number)
            populations.append(_temper(density, key, settings.num_samples, phase))
            phase.advance(1)
    z = np.stack([population[0] for population in populations])
    log_density = evaluate(density, z.reshape(-1, z.shape[-1])).reshape(z.shape[:2])
    summaries = [population[1] for population in populations]
    record = {"starts": drawn.record, "populations": summaries}
    return Draws(z, {"lp": log_density}, record)


@Program
def _step(
    density: Density, key: Array, state: TemperedSMCState, step_size: Array
) -> tuple[TemperedSMCState, Array, Array]:
    """Go on to the next temperature; shapes of particles (n, d)."""
    kernel = adaptive_tempered.build_kernel(
        lambda z: density.parts(z)[0],
        lambda z: jnp.maximum(density.parts(z)[1], IMPOSSIBLE),
        blackjax.hmc.build_kernel(),
        blackjax.hmc.init,
        resampling.systematic,
        TARGET_ESS,
    )

    particles = jnp.asarray(state.particles)
    centred = particles - jnp.sum(state.weights[:, None] * particles, axis=0)[None]
    covariance = (state.weights[:, None] * centred).T @ centred + 1e-9 * jnp.eye(centred.shape[1])
    parameters = {"step_size": step_size, "inverse_mass_matrix": covariance, "num_integration_steps": LEAPFROGS}
    parameters = {name: extend_params(jnp.asarray(value)) for name, value in parameters.items()}
    state, info = kernel(key, state, MOVES, parameters)
    acceptance = jnp.nan_to_num(info.update_info.acceptance_rate).mean()
    return state, info.log_likelihood_increment, acceptance


def _temper(density: Density, key: Array, num: int, phase: Phase) -> tuple[np.ndarray, dict[str, Any]]:
    """One population from the prior to the posterior: particles (n, d), and its summary."""
    np.empty(num)  # more than any memory holds is an error of NumPy's here, and the end of the process in XLA
    _, begun = density.draw_prior(jax.random.split(jax.random.fold_in(key, 0), num))
    state = blackjax.smc.tempered.init(jnp.asarray(begun))
    state = state._replace(tempering_param=jnp.zeros(()))
    step_size, log_evidence, acceptance, settled, taken = 0.5, 0.0, 0.0, 0, 0
    while settled < SETTLING and taken < MOST_TEMPERATURES:
        settled += float(state.tempering_param) >= 1.0
        taken += 1
        state, increment, acceptance = _step(density, jax.random.fold_in(key, taken), state, jnp.asarray(step_size))
        log_evidence += float(increment)
        step_size *= float(np.exp(float(acceptance) - ACCEPTANCE))
        phase.advance(0, f"temperature {float(state.tempering_param):.3g}, acceptance {float(acceptance):.2f}")
    order = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(num)
    summary = {"temperatures": taken, "log_evidence": log_evidence, "acceptance": float(acceptance)}
    return np.asarray(state.particles)[order], summary
