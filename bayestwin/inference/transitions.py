"""Transitions of NUTS, many a call: chains in lock-step within a team, teams side by side on the cores.

Chains in lock-step wait for the one with the longest trajectory, and on a CPU a wider batch costs nearly as much as
the chains one by one; so chains are dealt out to as many teams as there are cores. Each team has a step size.

M. D. Hoffman & A. Gelman (2014), jmlr.org/papers/v15/hoffman14a.html; kernel and step-size adaptation by blackjax.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation
from blackjax.mcmc.hmc import HMCState
from jax import Array, lax

from bayestwin.inference.whitening import Whitening

CHUNK = 100
"""Most transitions a call."""

SECONDS = 1.0
"""About how long a call takes: between two calls progress is shown and Ctrl-C is heard."""


class Team(NamedTuple):
    """Chains in lock-step: where they are, and their search for a step size."""

    states: HMCState
    averaging: DualAveragingAdaptationState

    @property
    def step_size(self) -> float:
        """The step size found so far."""
        return float(jnp.exp(self.averaging.log_step_size_avg))


class Engine:
    """Makes transitions of all chains; compiled once, for warm-up and draws alike."""

    def __init__(self, log_density: Callable[[Array], Array], num_chains: int, num_teams: int | None = None) -> None:
        """Prepare; nothing is compiled yet.

        Args:
            log_density: (d,) → scalar; −inf where it is not defined.
            num_chains: Number of chains.
            num_teams: A divisor of that; by default as many as there are cores.
        """
        self.num_teams = num_teams or _num_teams(num_chains)
        self.members = np.arange(num_chains).reshape(self.num_teams, -1)
        self._begin = jax.jit(_build_begin(log_density))
        self._jitted = jax.jit(_build_chunk(log_density))
        self._chunk: Any = None
        self._seconds_each = 0.0

    def begin(self, z: np.ndarray, whitening: Whitening, step_sizes: Sequence[float]) -> tuple[Team, ...]:
        """Teams at z, shape (c, d), with a fresh search for their step sizes."""
        return tuple(
            self._begin(jnp.asarray(z[members]), whitening, jnp.asarray(step_size, float))
            for members, step_size in zip(self.members, step_sizes, strict=True)
        )

    def length(self, most: int) -> int:
        """How many transitions to make in the next call: few at first, then as many as fit into `SECONDS`."""
        fitting = SECONDS / self._seconds_each if self._seconds_each else 5
        return int(np.clip(fitting, 1, min(CHUNK, most)))

    def run(
        self,
        teams: tuple[Team, ...],
        whitening: Whitening,
        key: Array,
        first: int,
        length: int,
        target: float | None,
    ) -> tuple[tuple[Team, ...], dict[str, np.ndarray]]:
        """Make transitions `first` to `first + length − 1` of all chains.

        What comes out does not depend on how transitions are divided into calls.

        Args:
            teams: Where they stand.
            whitening: The metric.
            key: Randomness, together with the number of the transition and of the chain.
            first: Number of the first transition.
            length: How many; at most `CHUNK`.
            target: Mean acceptance at which the adapting step size aims; None to leave it as it is.

        Returns:
            Where the teams stand then, and by name what was found; shape (length, c, …) each.
        """
        adapting = jnp.asarray(target is not None)
        numbers = (jnp.asarray(first), jnp.asarray(length), adapting, jnp.asarray(target or 0.5, float))
        jobs = [(team, whitening, key, jnp.asarray(m), *numbers) for team, m in zip(teams, self.members, strict=True)]
        if self._chunk is None:  # ahead of the threads, which would each compile it
            self._chunk = self._jitted.lower(*jobs[0]).compile()
        begun = time.perf_counter()
        device = jax.config.jax_default_device  # type: ignore[attr-defined]

        def work(job: tuple) -> tuple[Team, dict[str, np.ndarray]]:
            with jax.default_device(device):  # a setting of this thread, not of those it starts
                team, found = self._chunk(*job)
                return team, {name: np.asarray(values)[:length] for name, values in found.items()}

        with ThreadPoolExecutor(len(jobs)) as pool:
            results = list(pool.map(work, jobs))
        self._seconds_each = (time.perf_counter() - begun) / length
        found = {name: np.concatenate([f[name] for _, f in results], axis=1) for name in results[0][1]}
        return tuple(team for team, _ in results), found


def _num_teams(num_chains: int) -> int:
    """The largest divisor of the number of chains that is no more than the cores; one team where a GPU computes."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if getattr(device, "platform", jax.default_backend()) != "cpu":
        return 1
    return max(n for n in range(1, num_chains + 1) if num_chains % n == 0 and n <= num_cores())


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _build_begin(log_density: Callable[[Array], Array]) -> Callable[[Array, Whitening, Array], Team]:
    def begin(z: Array, whitening: Whitening, step_size: Array) -> Team:
        def start(z: Array) -> HMCState:
            return blackjax.nuts.init(whitening.whiten(z), lambda w: log_density(whitening.unwhiten(w)))

        init, _, _ = dual_averaging_adaptation(0.8)
        averaging = init(step_size)._replace(log_step_size_avg=jnp.log(step_size))
        return Team(jax.vmap(start)(z), jax.tree.map(lambda leaf: jnp.asarray(leaf, float), averaging))

    return begin


def _build_chunk(log_density: Callable[[Array], Array]) -> Callable[..., tuple[Team, dict[str, Array]]]:
    kernel = blackjax.nuts.build_kernel()

    def chunk(
        team: Team,
        whitening: Whitening,
        key: Array,
        members: Array,
        first: Array,
        length: Array,
        adapting: Array,
        target: Array,
    ) -> tuple[Team, dict[str, Array]]:
        _, update, _ = dual_averaging_adaptation(target)  # type: ignore[arg-type]
        unit = jnp.ones(whitening.centre.shape[0])

        def transition(team: Team, number: Array) -> tuple[Team, dict[str, Array]]:
            states, averaging = team
            step_size = jnp.exp(jnp.where(adapting, averaging.log_step_size, averaging.log_step_size_avg))

            def one(member: Array, state: HMCState) -> tuple:
                own = jax.random.fold_in(jax.random.fold_in(key, number), member)
                return kernel(own, state, lambda w: log_density(whitening.unwhiten(w)), step_size, unit)

            states, info = jax.vmap(one)(members, states)
            updated = update(averaging, jnp.nan_to_num(info.acceptance_rate).mean())
            averaging = jax.tree.map(lambda new, old: jnp.where(adapting, new, old), updated, averaging)
            return Team(states, averaging), _found(states, info, step_size, whitening)

        blank = jax.eval_shape(lambda: transition(team, first)[1])
        blank = jax.tree.map(lambda leaf: jnp.zeros((CHUNK, *leaf.shape), leaf.dtype), blank)

        def body(number: Array, loop: tuple[Team, dict[str, Array]]) -> tuple[Team, dict[str, Array]]:
            team, kept = loop
            team, found = transition(team, first + number)
            return team, jax.tree.map(lambda all_, new: all_.at[number].set(new), kept, found)

        return lax.fori_loop(0, length, body, (team, blank))

    return chunk


def _found(states: HMCState, info: Any, step_size: Array, whitening: Whitening) -> dict[str, Array]:
    """What is kept of one transition of each chain; shape (c, …) each."""
    # a trajectory ends at its first failed solve, so that one is at an edge of it
    edges = (info.trajectory_leftmost_state.logdensity, info.trajectory_rightmost_state.logdensity)
    failed = ~(jnp.isfinite(edges[0]) & jnp.isfinite(edges[1]))
    return {
        "z": jax.vmap(whitening.unwhiten)(jnp.asarray(states.position)),
        "lp": jnp.asarray(states.logdensity),
        "diverging": info.is_divergent & ~failed,
        "solver_failed": failed,
        "n_steps": info.num_integration_steps,
        "tree_depth": info.num_trajectory_expansions,
        "acceptance_rate": info.acceptance_rate,
        "step_size": jnp.full(failed.shape, step_size),
        "energy": info.energy,
    }
