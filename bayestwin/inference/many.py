"""Posteriors of many data sets: for each one short chain of NUTS around its mode, made longer where it must be.

What is compiled once takes observations as an argument, so that a data set costs its transitions and nothing else.
Chains go one by one, side by side on the cores: in lock-step each would wait for the longest trajectory of all, and
for the solve with the most steps in it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc.hmc import HMCState
from jax import Array, lax

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin._base.process import num_cores, on_same_device
from bayestwin._base.progress import Phase
from bayestwin.density.curvature import as_matrix, positive, symmetric
from bayestwin.density.density import Density
from bayestwin.inference.centring import shares_at
from bayestwin.inference.climb import WIDEST, climb
from bayestwin.inference.metric import Whitening, rescale

CLIMBING = 30
"""Most steps from a point of the posterior to its mode."""


class Lengths(NamedTuple):
    """How long the chain of a data set is, and how it is made longer.

    Attributes:
        num_warmup: Transitions that find a step size.
        num_draws: Draws kept.
        thin: Transitions from one of them to the next.
        targets: Mean acceptance aimed at; the next one, where transitions diverged.
        doublings: Most doublings of a trajectory: 2⁷ steps are enough for any posterior that the metric fits, and a
            chain in another one is not worth a thousand.
        longer: Times as many transitions between draws, where these were not nearly independent.
        most: Lag-one autocorrelation of the draws, of every coordinate and the log density, up to which they are
            nearly independent: the effective number of draws is then 43 % of theirs at least. (Effective numbers
            that allow for more lags scatter too widely for so few draws to be of use here.)
    """

    num_warmup: int = 60
    num_draws: int = 63
    thin: int = 3
    targets: tuple[float, ...] = (0.8, 0.9, 0.98)
    doublings: int = 7
    longer: int = 3
    most: float = 0.4


class Many(NamedTuple):
    """Draws of n data sets, in the order in which these were given; fewer after Ctrl-C.

    Attributes:
        z: Shape (n, s, d).
        autocorrelation: The largest lag-one autocorrelation of draws, over coordinates and the log density; 1 where it
            cannot be computed. Shape (n,).
        diverging: Share of the transitions that diverged; shape (n,).
        rounds: How often the chain was made; shape (n,).
        interrupted: Whether some data sets are missing.
    """

    z: np.ndarray
    autocorrelation: np.ndarray
    diverging: np.ndarray
    rounds: np.ndarray
    interrupted: bool


class _One(NamedTuple):
    """What `Many` holds, of one data set."""

    z: np.ndarray
    autocorrelation: float
    diverging: float
    rounds: int


def draw_many(
    density: Density,
    observations: Mapping[str, np.ndarray],
    z: np.ndarray,
    *,
    key: Array,
    lengths: Lengths,
    phase: Phase,
) -> Many:
    """Draw from the posterior of each of n data sets.

    Args:
        density: The log density; what it was bound to observe gives way to the data sets.
        observations: By name, missing where the density misses them; shape (n, times) each.
        z: A point of each posterior, from which the climb to its mode begins: that of the truth, for instance, which is
            itself a draw; shape (n, d).
        key: Randomness; the draws of a data set depend on this and its number alone.
        lengths: Of the chains.
        phase: Told of each data set.
    """
    keys = [jax.random.fold_in(key, number) for number in range(len(z))]

    @on_same_device
    def work(number: int) -> _One:
        own = {name: jnp.asarray(values[number]) for name, values in observations.items()}
        return _draw_one(density, own, jnp.asarray(z[number]), keys[number], lengths)

    first = work(0)  # ahead of the threads, which would each compile it
    phase.advance(1)
    found, interrupted = _side_by_side(work, range(1, len(z)), phase)
    z, remembered, diverging, rounds = (np.stack(part) for part in zip(first, *found, strict=True))
    return Many(z, remembered, diverging, rounds, interrupted)


def given(density: Density, observations: Mapping[str, Any]) -> Density:
    """The density given other observations, missing where its own are, or given none; these may be traced."""
    found = dataclasses.replace(density, bound=density.bound._replace(observations=observations))
    if observations and density.discrepancies is not None:
        # they know which observations are missing, which a traced array does not
        own = dataclasses.replace(density.discrepancies, observations=observations)
        vars(found)["discrepancies"] = own
    return found


def _side_by_side(work: Callable[[int], _One], numbers: range, phase: Phase) -> tuple[list[_One], bool]:
    """Do work on all cores; after Ctrl-C what was done from the first number on without a gap, and True."""
    with ThreadPoolExecutor(num_cores()) as pool:
        jobs: list[Future[_One]] = [pool.submit(work, number) for number in numbers]
        waiting, interrupted = set(jobs), False
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                phase.advance(len(done))
        except KeyboardInterrupt:
            interrupted = True
            pool.shutdown(wait=True, cancel_futures=True)
    return list(_results(jobs)), interrupted


def _results(jobs: list[Future[_One]]) -> Iterator[_One]:
    for job in jobs:
        if job.cancelled():
            return
        yield job.result()


def _draw_one(density: Density, observed: Mapping[str, Array], z: Array, key: Array, lengths: Lengths) -> _One:
    """The chain of one data set, begun anew with more transitions or smaller steps where that is needed."""
    beginning, *keys = jax.random.split(key, 1 + 2 * len(lengths.targets))
    whitening, position, centring = _begin(density, observed, z, beginning)
    moved = density.centred(centring)
    march = functools.partial(_march, moved, Keyed(lengths, key_of(lengths)), observed)
    thin, target = lengths.thin, 0
    number = 0
    while True:
        step = jnp.asarray(1.0 / z.size**0.25, float)  # as what comes back: else all is compiled twice
        warming, drawing = keys[2 * number : 2 * number + 2]
        aim = jnp.asarray(lengths.targets[target], float)
        position, step, _ = march(whitening, position, step, warming, lengths.num_warmup, 1, True, aim)
        position, _, found = march(whitening, position, step, drawing, lengths.num_draws, thin, False, aim)
        drawn, diverging = np.asarray(found["z"]), float(found["diverging"]) / (lengths.num_draws * thin)
        remembered = float(autocorrelation(np.column_stack([drawn, np.asarray(found["lp"])])).max())
        apart = remembered <= lengths.most
        if (apart and not diverging) or number == len(lengths.targets) - 1:
            return _One(_as_in(density, moved, drawn), remembered, diverging, number + 1)
        number += 1
        thin, target = thin * (1 if apart else lengths.longer), target + (diverging > 0.0)
        metric = rescale(whitening, drawn[:, None])
        position, whitening = metric.whiten(whitening.unwhiten(position)), metric


def autocorrelation(columns: np.ndarray) -> np.ndarray:
    """Lag-one autocorrelation along the first axis of columns, shape (s, …); 1 where it cannot be computed."""
    centred = columns - columns.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (centred[1:] * centred[:-1]).sum(axis=0) / (centred**2).sum(axis=0)
    return np.where(np.isfinite(found), found, 1.0)


def _as_in(density: Density, moved: Density, z: np.ndarray) -> np.ndarray:
    """Draws in the coordinates of a density, from those of one that is centred otherwise."""
    return z if moved is density else np.asarray(_recentred(density, moved, z))


@Program
def _recentred(density: Density, moved: Density, z: Array) -> Array:
    return jax.vmap(lambda z: density.unconstrain(moved.constrain(z)))(z)


@Program
def _begin(
    density: Density, observed: Mapping[str, Array], z: Array, key: Array
) -> tuple[Whitening, Array, dict[str, Array]]:
    """The metric at the mode above z, a start around it, and how far the coordinates of both are centred."""
    own = given(density, observed)
    centring = shares_at(own, z)
    if centring:  # what is pooled has no mode worth the name, and z is a draw of the posterior
        moved = own.centred(centring)
        centre = moved.unconstrain(own.constrain(z))
        own, hessian = moved, symmetric(moved.local(centre).hessian)
    else:
        top = jax.tree.map(lambda leaf: leaf[0], climb(own.local, z[None], CLIMBING))
        centre, hessian = top.z, top.hessian
    values, vectors = positive(as_matrix(hessian), jnp.zeros(()))
    stretch = jnp.maximum(values, WIDEST**-2) ** -0.5
    whitening = Whitening(centre, jnp.ones_like(z), vectors, stretch)
    start = jax.random.normal(key, z.shape)
    start = jnp.where(jnp.isfinite(own(whitening.unwhiten(start))), start, 0.0)
    return whitening, start, centring


@Program
def _march(
    density: Density,
    lengths: Keyed[Lengths],
    observed: Mapping[str, Array],
    whitening: Whitening,
    position: Array,
    step_size: Array,
    key: Array,
    num: Array,
    thin: Array,
    adapting: Array,
    target: Array,
) -> tuple[Array, Array, dict[str, Array]]:
    """Transitions, `thin` for each of `num`: where they lead, the step size, and what was found on the way."""
    kernel, num_draws = blackjax.nuts.build_kernel(), lengths.value.num_draws
    own = given(density, observed)
    init, update, final = dual_averaging_adaptation(target)  # type: ignore[arg-type]

    def log_density(w: Array) -> Array:
        return own(whitening.unwhiten(w))

    def body(number: Array, loop: tuple[HMCState, Any, dict[str, Array]]) -> tuple[HMCState, Any, dict[str, Array]]:
        state, averaging, found = loop
        step = jnp.where(adapting, jnp.exp(averaging.log_step_size), step_size)
        own_key, unit = jax.random.fold_in(key, number), jnp.ones_like(position)
        state, info = kernel(own_key, state, log_density, step, unit, lengths.value.doublings)
        averaging = update(averaging, jnp.nan_to_num(info.acceptance_rate))
        # each place is written `thin` times, and the last one stays
        place = (number // thin) % num_draws
        found = {
            "z": found["z"].at[place].set(whitening.unwhiten(state.position)),
            "lp": found["lp"].at[place].set(state.logdensity),
            "diverging": found["diverging"] + info.is_divergent,
        }
        return state, averaging, found

    begun = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), init(step_size))
    nothing = {
        "z": jnp.zeros((num_draws, position.size)),
        "lp": jnp.zeros(num_draws),
        "diverging": jnp.zeros((), int),
    }
    loop = (blackjax.nuts.init(position, log_density), begun, nothing)
    state, averaging, found = lax.fori_loop(0, num * thin, body, loop)
    return state.position, jnp.where(adapting, final(averaging), step_size), found
