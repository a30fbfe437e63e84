"""NUTS in whitened coordinates `z = centre + scale @ w`, all chains in lock-step with one step size and one metric.

Starts and scale come from the Laplace approximation, so warm-up is short: step size; draws that correct the scale
(their covariance within chains, shrunk towards the Laplace one); step size again. Draws leave the device in small
chunks, which is where progress is shown and where Ctrl-C is heard.

M. D. Hoffman & A. Gelman (2014), jmlr.org/papers/v15/hoffman14a.html; kernel by blackjax.
"""

from collections.abc import Callable
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation
from blackjax.mcmc.hmc import HMCState
from jax import Array, lax

from bayestwin.inference.starts import Starts
from bayestwin.progress import Phase, Progress
from bayestwin.seeds import key_for

CHUNK = 25
"""Transitions between two looks at the keyboard."""


class Draws(NamedTuple):
    """Draws of c chains, s each.

    Attributes:
        z: Shape (c, s, d).
        stats: Sampler statistics by name; shape (c, s) each.
        interrupted: Whether Ctrl-C ended sampling before all draws were made.
    """

    z: np.ndarray
    stats: dict[str, np.ndarray]
    interrupted: bool


class Whitening(NamedTuple):
    """`z = centre + scale @ w`; shapes (d,), (d, d)."""

    centre: Array
    scale: Array

    def unwhiten(self, w: Array) -> Array:
        """Z of w; shape (d,)."""
        return self.centre + w @ self.scale.T


type Chunk = Callable[..., tuple[HMCState, DualAveragingAdaptationState, dict[str, Array]]]


def sample_nuts(
    log_density: Callable[[Array], Array],
    starts: Starts,
    *,
    num_warmup: int,
    num_samples: int,
    seed: int,
    target_acceptance: float,
    progress: Progress,
) -> Draws:
    """Draw from a log density.

    Args:
        log_density: (d,) → scalar; −inf where it is not defined.
        starts: Starts and modes; the heaviest mode's Laplace approximation is the first metric.
        num_warmup: Transitions of each chain that adapt and are thrown away, rounded up to whole chunks.
        num_samples: Draws kept of each chain.
        seed: Determines every draw.
        target_acceptance: Mean acceptance that the step size aims at.
        progress: Shows the phases "warmup" and "draws".
    """
    chunk = jax.jit(_build_chunk(log_density, target_acceptance))
    mode = starts.modes[0]
    whitening = Whitening(jnp.asarray(mode.z), jnp.asarray(mode.scale))
    adapt = _Adapter(jax.jit(_build_states(log_density)), chunk, target_acceptance)
    with progress.phase("warmup", "warming up", num_warmup) as phase:
        position, whitening, step_size = adapt.warm_up(jnp.asarray(starts.z), whitening, num_warmup, seed, phase)
    with progress.phase("draws", "drawing", num_samples) as phase:
        return _draw(adapt, position, whitening, step_size, num_samples, seed, phase)


def _draw(
    adapt: "_Adapter",
    z: Array,
    whitening: Whitening,
    step_size: Array,
    num_samples: int,
    seed: int,
    phase: Phase,
) -> Draws:
    states, averaging = adapt.begin(z, whitening, step_size)
    kept: list[dict[str, np.ndarray]] = []
    interrupted = False
    divergent = failed = 0
    try:
        for first in range(0, num_samples, CHUNK):
            states, averaging, found = adapt.chunk(
                states, averaging, whitening, key_for(seed, "draws"), first, jnp.asarray(False)
            )
            kept.append({name: np.asarray(value) for name, value in found.items()})
            divergent += int(kept[-1]["diverging"].sum())
            failed += int(kept[-1]["solver_failed"].sum())
            phase.advance(min(CHUNK, num_samples - first), f"{divergent} divergences, {failed} failed solves")
    except KeyboardInterrupt:
        if not kept:
            raise
        interrupted = True
    stats = {name: np.concatenate([k[name] for k in kept])[:num_samples].swapaxes(0, 1) for name in kept[0]}
    return Draws(stats.pop("z"), stats, interrupted)


class _Adapter(NamedTuple):
    """Warm-up: what the chunk needs to be started, and the schedule."""

    states_at: Callable[[Array, Whitening], HMCState]
    chunk: Chunk
    target_acceptance: float

    def begin(self, z: Array, whitening: Whitening, step_size: Array) -> tuple[HMCState, DualAveragingAdaptationState]:
        """Sampler states at z, and a fresh search for the step size."""
        init, _, _ = dual_averaging_adaptation(self.target_acceptance)
        averaging = init(step_size)._replace(log_step_size_avg=jnp.log(step_size))
        return self.states_at(z, whitening), jax.tree.map(lambda leaf: jnp.asarray(leaf, float), averaging)

    def warm_up(
        self, z: Array, whitening: Whitening, num_warmup: int, seed: int, phase: Phase
    ) -> tuple[Array, Whitening, Array]:
        """Adapt step size, scale, step size again; returns positions, whitening and step size."""
        chunks = max(3, -(-num_warmup // CHUNK))
        windows = [chunks // 4 or 1, chunks // 2 or 1]
        windows.append(chunks - sum(windows))
        step_size = jnp.asarray(1.0 / z.shape[1] ** 0.25)
        first = 0
        for number, length in enumerate(windows):
            states, averaging = self.begin(z, whitening, step_size)
            drawn = []
            for _ in range(length):
                key = key_for(seed, "warmup")
                states, averaging, found = self.chunk(states, averaging, whitening, key, first, jnp.asarray(True))
                drawn.append(np.asarray(found["z"]))
                first += CHUNK
                phase.advance(CHUNK, f"step size {float(jnp.exp(averaging.log_step_size_avg)):.3g}")
            z = jnp.asarray(drawn[-1][-1])
            step_size = jnp.exp(averaging.log_step_size_avg)
            if number == 1:
                whitening = rescale(whitening, np.concatenate(drawn))
        return z, whitening, step_size


def rescale(whitening: Whitening, z: np.ndarray) -> Whitening:
    """Correct the whitening by draws: their mean, and their covariance within chains shrunk towards the old scale.

    Args:
        whitening: The old one.
        z: Draws; shape (s, c, d).
    """
    draws, chains, dim = z.shape
    w = np.linalg.solve(np.asarray(whitening.scale), (z - np.asarray(whitening.centre)).reshape(-1, dim).T).T
    w = w.reshape(draws, chains, dim)
    within = (w - w.mean(axis=0)).reshape(-1, dim)
    num, prior = within.shape[0], 5.0 * dim
    covariance = (within.T @ within + prior * np.eye(dim)) / (num + prior)
    scale = np.asarray(whitening.scale) @ np.linalg.cholesky(covariance)
    return Whitening(jnp.asarray(z.reshape(-1, dim).mean(axis=0)), jnp.asarray(scale))


def _build_states(log_density: Callable[[Array], Array]) -> Callable[[Array, Whitening], HMCState]:
    """A function that gives the sampler's states at z, shape (c, d)."""

    def states_at(z: Array, whitening: Whitening) -> HMCState:
        w = jnp.linalg.solve(whitening.scale, (z - whitening.centre[None]).T).T
        return jax.vmap(lambda w: blackjax.nuts.init(w, lambda w: log_density(whitening.unwhiten(w))))(w)

    return states_at


def _build_chunk(log_density: Callable[[Array], Array], target_acceptance: float) -> Chunk:
    """A function that makes `CHUNK` transitions of all chains; one compilation serves warm-up and draws."""
    kernel = blackjax.nuts.build_kernel()
    _, update, _ = dual_averaging_adaptation(target_acceptance)

    def chunk(
        states: HMCState,
        averaging: DualAveragingAdaptationState,
        whitening: Whitening,
        key: Array,
        first: int,
        adapting: Array,
    ) -> tuple[HMCState, DualAveragingAdaptationState, dict[str, Array]]:
        chains, dim = jnp.asarray(states.position).shape

        def transition(carry: tuple[HMCState, DualAveragingAdaptationState], number: Array) -> tuple:
            states, averaging = carry
            step_size = jnp.exp(jnp.where(adapting, averaging.log_step_size, averaging.log_step_size_avg))
            keys = jax.random.split(jax.random.fold_in(key, number), chains)

            def one(key: Array, state: HMCState) -> tuple:
                return kernel(key, state, lambda w: log_density(whitening.unwhiten(w)), step_size, jnp.ones(dim))

            states, info = jax.vmap(one)(keys, states)
            updated = update(averaging, jnp.nan_to_num(info.acceptance_rate).mean())
            averaging = jax.tree.map(lambda new, old: jnp.where(adapting, new, old), updated, averaging)
            # a trajectory ends at its first failed solve, so that one is at an edge of it
            edges = (info.trajectory_leftmost_state.logdensity, info.trajectory_rightmost_state.logdensity)
            failed = ~(jnp.isfinite(edges[0]) & jnp.isfinite(edges[1]))
            found = {
                "z": jax.vmap(whitening.unwhiten)(states.position),
                "lp": states.logdensity,
                "diverging": info.is_divergent & ~failed,
                "solver_failed": failed,
                "n_steps": info.num_integration_steps,
                "tree_depth": info.num_trajectory_expansions,
                "acceptance_rate": info.acceptance_rate,
                "step_size": jnp.full(chains, step_size),
                "energy": info.energy,
            }
            return (states, averaging), found

        (states, averaging), found = lax.scan(transition, (states, averaging), first + jnp.arange(CHUNK))
        return states, averaging, found

    return chunk
