"""Ensembles of walkers that move along the differences between them: for log densities without derivatives.

Each chain of the result is an ensemble of its own. It begins as weighted draws from the prior, which tempering leads
through to the posterior, so that no walker is left behind where a prior is decades wide. NumPyro moves the walkers:
by differential evolution, C. J. F. ter Braak (2006), doi:10.1007/s11222-006-8769-1, with a step that leads from mode to
mode now and then, and by stretches, J. Goodman & J. Weare (2010), doi:10.2140/camcos.2010.5.65.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer import AIES

from bayestwin._base.compilation import Program, in_batches
from bayestwin._base.process import deferred_interrupts, key_for
from bayestwin._base.progress import Phase
from bayestwin.density.density import Density
from bayestwin.density.survey import evaluate
from bayestwin.inference.method import EXTENDED, LEAST_EXTENDED, Draws, Problem
from bayestwin.inference.nuts import more_would_help
from bayestwin.inference.starts import draw_starts

WALKERS, ROUNDS = 40, 10
"""Walkers of an ensemble, and how often each is kept at least, where it is asked for no more than that allows."""

FIRST = 8
"""Prior draws of an ensemble, for each walker."""

TARGET_ESS = 0.5
"""Share of the walkers that the weights of the next temperature are worth."""

MOST_TEMPERATURES = 200

EVOLVE, JUMP, STRETCH = 0.6, 0.1, 0.3
"""How often walkers move by differential evolution, by the whole difference of two others, and by stretches."""

IMPOSSIBLE = -1e10
"""Log likelihood of what cannot be solved: finite, since its zeroth power has to be one."""


def ensemble(problem: Problem) -> Draws:
    """Draw by one ensemble for each chain."""
    density, settings, seed, progress, _ = problem
    drawn = draw_starts(density, seed, progress)
    dim, num = drawn.best.shape[1], settings.num_samples
    walkers = 2 * math.ceil(max(min(WALKERS, num / ROUNDS), 2 * dim + 2) / 2)
    sweeps = 2 * dim + 1
    np.empty((settings.num_chains, num, dim))  # more than any memory holds is an error of NumPy's here
    settling = math.ceil(settings.num_warmup / walkers)
    ensembles = []
    with progress.phase("warmup", "tempering", settings.num_chains) as phase:
        for number in range(settings.num_chains):
            key = jax.random.fold_in(key_for(seed, "ensemble"), number)
            ensembles.append(_Ensemble(density, key, walkers, sweeps))
            ensembles[-1].settle(settling, phase)
            phase.advance(1)
    z, events, interrupted = _draw(ensembles, problem, walkers)
    told = {"walkers": walkers, "sweeps": sweeps, "ensembles": [one.summary for one in ensembles], "events": events}
    log_density = evaluate(density, z.reshape(-1, dim)).reshape(z.shape[:2])
    return Draws(z, {"lp": log_density}, {"starts": drawn.record, "sampling": told}, interrupted)


def _draw(
    ensembles: Sequence["_Ensemble"], problem: Problem, walkers: int
) -> tuple[np.ndarray, list[dict[str, Any]], bool]:
    """Draws, shape (c, n, d), as many as it takes; how often it went on for that, and whether Ctrl-C ended it."""
    settings, events, rounds = problem.settings, list[dict[str, Any]](), 0
    while True:
        total = (1 + len(events)) * settings.num_samples
        last = math.ceil(total / walkers)
        with problem.progress.phase("draws", "moving walkers", len(ensembles) * (last - rounds)) as phase:
            try:
                while rounds < last:
                    with deferred_interrupts():
                        rates = [one.keep() for one in ensembles]
                    rounds += 1
                    phase.advance(len(ensembles), f"acceptance {np.mean(rates):.2f}")
            except KeyboardInterrupt:
                done = min(len(one.kept) for one in ensembles)
                if not done:
                    raise
                return np.stack([one.in_order(min(total, done * walkers), done) for one in ensembles]), events, True
        z = np.stack([one.in_order(total, rounds) for one in ensembles])
        few = settings.num_samples < LEAST_EXTENDED
        if few or len(events) == settings.max_extensions or not more_would_help(z.swapaxes(0, 1)):
            return z, events, False
        events.append({"what": EXTENDED, "to": total + settings.num_samples})


class _Ensemble:
    """One ensemble: where its walkers are, where they were when they were kept, and how it came there."""

    def __init__(self, density: Density, key: Array, walkers: int, sweeps: int) -> None:
        """Temper from the prior to the posterior."""
        self._density, self._sweeps, self._walkers = density, np.asarray(sweeps), walkers
        self._keys = _keys_from(key)
        self.kept: list[np.ndarray] = []
        self._rates: list[float] = []
        self.temperatures = 0
        _, self.z = density.draw_prior(jax.random.split(next(self._keys), FIRST * walkers))

    def settle(self, rounds: int, phase: Phase) -> None:
        """Go from the prior to the posterior, and on from there by so many rounds."""
        power, rng = 0.0, np.random.default_rng(np.asarray(jax.random.key_data(next(self._keys))))
        while power < 1.0:
            likelihood = np.asarray(in_batches(lambda rows: _likelihood(self._density, rows), self.z))
            self.temperatures += 1
            last = self.temperatures == MOST_TEMPERATURES
            step = 1.0 - power if last else _next_step(likelihood, 1.0 - power, TARGET_ESS * self._walkers)
            self.z = self.z[_resampled(step * likelihood, self._walkers, rng)]
            power = 1.0 if step >= 1.0 - power else power + step
            self._move(power)
            phase.advance(0, f"temperature {power:.3g}, acceptance {self._rates[-1]:.2f}")
        for _ in range(rounds):
            self._move(1.0)
        self._rates.clear()

    def keep(self) -> float:
        """Move all walkers and keep where they are; the share of moves that was accepted."""
        self._move(1.0)
        self.kept.append(self.z)
        return self._rates[-1]

    def _move(self, power: float) -> None:
        z, rate = _sweep(self._density, next(self._keys), self.z, np.asarray(power), self._sweeps)
        self.z = np.asarray(z)
        self._rates.append(float(rate))

    def in_order(self, num: int, rounds: int) -> np.ndarray:
        """So many of the draws of the first rounds, shape (n, d).

        Those of each walker stand one after the other, which is how ESS sees that they are alike; and those of the
        first half of the rounds before those of the second, which is how R̂ sees that they drift.
        """
        kept = np.stack(self.kept[:rounds])
        halves = [own.swapaxes(0, 1).reshape(-1, kept.shape[-1]) for own in np.array_split(kept, 2)]
        return np.concatenate(halves)[-num:]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"temperatures": self.temperatures, "acceptance": float(np.mean(self._rates))}


def _keys_from(key: Array) -> Iterator[Array]:
    number = 0
    while True:
        yield jax.random.fold_in(key, number)
        number += 1


@Program
def _likelihood(density: Density, z: Array) -> Array:
    """Log likelihoods of n points, shape (n, d), `IMPOSSIBLE` at least; shape (n,)."""
    return jax.vmap(lambda one: _possible(density.parts(one)[1]))(z)


def _possible(likelihood: Array) -> Array:
    return jnp.where(jnp.isfinite(likelihood), jnp.maximum(likelihood, IMPOSSIBLE), IMPOSSIBLE)


@Program
def _sweep(density: Density, key: Array, z: Array, power: Array, sweeps: Array) -> tuple[Array, Array]:
    """Move each of n walkers so many times, where the likelihood has a power; where they are, and what was accepted."""

    def potential(one: Array) -> Array:
        prior, likelihood = density.parts(one)
        total = prior + power * _possible(likelihood)
        return jnp.where(jnp.isfinite(total), -total, jnp.inf)

    moves = {AIES.DEMove(sigma=1e-2): EVOLVE, AIES.DEMove(sigma=1e-2, g0=1.0): JUMP, AIES.StretchMove(): STRETCH}
    with jax.ensure_compile_time_eval():  # it looks at the probabilities, which are no more than numbers
        kernel = AIES(potential_fn=potential, randomize_split=True, moves=moves)
    state = kernel.init(jax.random.split(key, len(z)), 0, z)
    state = jax.lax.fori_loop(0, sweeps, lambda _, state: kernel.sample(state, (), {}), state)
    return state.z, state.inner_state.mean_accept_prob


def _next_step(likelihood: np.ndarray, most: float, worth: float) -> float:
    """How much the power of the likelihood may grow until weights are worth no more than so many draws."""

    def effective(step: float) -> float:
        weights = np.exp(step * (likelihood - likelihood.max()))
        return float(weights.sum() ** 2 / (weights**2).sum())

    if effective(most) >= worth:
        return most
    low, high = -40.0, math.log10(most)  # of a likelihood that differs by 1e10 the first step is tiny
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(10.0**middle) >= worth else (low, middle)
    return 10.0**low


def _resampled(log_weights: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of draws by systematic resampling."""
    weights = np.exp(log_weights - log_weights.max())
    ends = np.cumsum(weights / weights.sum())
    places = (rng.random() + np.arange(num)) / num
    return np.minimum(np.searchsorted(ends, places), len(weights) - 1)
