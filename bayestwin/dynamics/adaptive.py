"""The loop over adaptive steps from one stop to the next, whatever the method of a step is, and an explicit method.

A loop that ends at the next stop needs no buffer for saved times and no search for the next kink, which under `vmap`
over chains and tangents is where the time goes: see `benchmarks/solve.py`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

SAFETY, SHRINK_LEAST, GROW_MOST = 0.9, 0.2, 10.0

type Slope = Callable[[Array, Array], Array]
"""`(t, state)` → derivative; shapes (), (s,) → (s,)."""

type AdaptiveStep = Callable[[Slope, Array, Array, Array], tuple[Array, Array]]
"""`(slope, t, state, step)` → the proposed state, and an estimate of its error of order `step ** 5`."""


type Size = Callable[[Array, Array], Array]
"""The state before and after a step → what an error of it is relative to; shape (s,) each."""


def larger(before: Array, after: Array) -> Array:
    """The larger of the absolute values: what an error usually is relative to."""
    return jnp.maximum(jnp.abs(before), jnp.abs(after))


type Interrupt = Callable[..., tuple[Array, Array, Array]]
"""As `crossings.build_interrupt` makes it."""


class Precision(NamedTuple):
    """How exactly to solve; numbers, or arrays where a compiled program takes them as arguments.

    Attributes:
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, of all entries of the solver's array or of each.
        max_steps: Most steps of one interval.
    """

    rtol: ArrayLike
    atol: ArrayLike
    max_steps: ArrayLike


class Position(NamedTuple):
    """Where the solver stands.

    Attributes:
        state: The state; shape (s,).
        step: The step it would take next, in the twin's time unit.
        solved: Whether every interval so far was solved.
        num_steps: Steps taken so far, rejected ones included.
    """

    state: Array
    step: Array
    solved: Array
    num_steps: Array


def march(
    take_step: AdaptiveStep,
    slope: Slope,
    start: Array,
    end: Array,
    at: Position,
    precision: Precision,
    size: Size = larger,
    interrupt: Interrupt | None = None,
) -> Position:
    """Solve from `start` to `end`.

    The step size carries no derivative: the result is differentiated as the sequence of steps that was taken. Only
    the time of an event that the state triggers has a derivative, and so has the step that leads on from it.

    Args:
        take_step: One step of the method.
        slope: The right-hand side.
        start: Time of `at`.
        end: Time to reach.
        at: Where the solver stands; it is left there once an interval has failed.
        precision: Tolerances and the most steps for this interval.
        size: What the relative tolerance is relative to.
        interrupt: Ends a step early where the state triggers an event.

    Returns:
        Where the solver stands then; `solved` is False where it did not reach `end`.
    """
    smallest = 1e-12 * (end - start)
    # a step that suited an interval a million times shorter says nothing about this one
    at = at._replace(step=jnp.maximum(at.step, 1e-6 * (end - start)))

    def unfinished(loop: tuple[Array, Position, Array]) -> Array:
        t, now, taken = loop
        return now.solved & (t < end) & (taken < precision.max_steps) & (now.step > smallest)

    def body(loop: tuple[Array, Position, Array]) -> tuple[Array, Position, Array]:
        t, now, taken = loop
        t, now = _attempt(take_step, slope, t, end, now, precision, size, interrupt)
        return t, now, taken + 1

    t, at, _ = lax.while_loop(unfinished, body, (start, at, jnp.zeros((), int)))
    return at._replace(solved=at.solved & (t >= end))


def trace(
    take_step: AdaptiveStep, slope: Slope, end: Array, at: Position, precision: Precision, size: Size, most: int
) -> tuple[Array, Array]:
    """The steps that fit the solution from 0 to `end`, with no stop between.

    Args:
        take_step: One step of the method.
        slope: The right-hand side.
        end: Time to reach.
        at: Where the solver stands at time 0.
        precision: Its tolerances.
        size: What the relative tolerance is relative to.
        most: Steps after which to give up.

    Returns:
        The time after each step, `end` where there was none any more, shape (most,); and whether `end` was reached.
    """

    def unfinished(loop: tuple[Array, Position, Array, Array]) -> Array:
        t, now, _, num = loop
        return now.solved & (t < end) & (num < most) & (now.num_steps < 2 * most) & (now.step > 1e-12 * end)

    def body(loop: tuple[Array, Position, Array, Array]) -> tuple[Array, Position, Array, Array]:
        t, now, times, num = loop
        after, now = _attempt(take_step, slope, t, end, now, precision, size, None)
        return after, now, times.at[num].set(after), num + (after > t)

    start = (jnp.zeros_like(end), at, jnp.full(most, end), jnp.zeros((), int))
    t, at, times, _ = lax.while_loop(unfinished, body, start)
    return times, at.solved & (t >= end)


def _attempt(
    take_step: AdaptiveStep,
    slope: Slope,
    t: Array,
    end: Array,
    now: Position,
    precision: Precision,
    size: Size,
    interrupt: Interrupt | None,
) -> tuple[Array, Position]:
    """Try one step: where the solver stands afterwards, at the same time if the step was rejected."""
    last = now.step >= end - t
    step = jnp.where(last, end - t, lax.stop_gradient(now.step))
    proposed, error = take_step(slope, t, now.state, step)
    scale = precision.atol + precision.rtol * size(now.state, proposed)
    norm = jnp.sqrt(jnp.mean(lax.stop_gradient(error / scale) ** 2))
    accepted = norm <= 1.0
    factor = jnp.clip(SAFETY * jnp.maximum(norm, 1e-10) ** -0.2, SHRINK_LEAST, GROW_MOST)
    suggested = lax.stop_gradient(step) * jnp.where(jnp.isfinite(norm), factor, SHRINK_LEAST)
    # a step cut short by `end` says little about the step that fits: do not shrink because of it
    following = jnp.where(accepted & last, jnp.maximum(now.step, suggested), suggested)
    if interrupt is not None:
        step, proposed, stopped = interrupt(take_step, slope, t, now.state, step, proposed, accepted)
        last &= ~stopped
    t = jnp.where(accepted, jnp.where(last, end, t + step), t)
    state = jnp.where(accepted, proposed, now.state)
    return t, Position(state, following, now.solved, now.num_steps + 1)


def weighted(weights: Sequence[float], vectors: Sequence[Array]) -> Array:
    """The sum of vectors, each times its weight; those of weight 0 are left out."""
    terms = [weight * vector for weight, vector in zip(weights, vectors, strict=True) if weight != 0.0]
    return sum(terms[1:], start=terms[0])


# One explicit Runge–Kutta step, Tsit5.
#
# C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.

# As diffrax has them to the bit; diffrax itself takes a second to import.
NODES = (0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
WEIGHTS = (*STAGES[-1], 0.0)
ERRORS = (
    0.0017800110522257773,
    0.0008164344596567463,
    -0.007880878010261994,
    0.1447110071732629,
    -0.5823571654525552,
    0.45808210592918686,
    -0.015151515151515152,
)


def take_step(slope: Slope, t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    slopes = [slope(t, state)]
    for node, stage in zip(NODES, STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * weighted(stage, slopes)))
    return state + step * weighted(WEIGHTS, slopes), step * weighted(ERRORS, slopes)


advance = functools.partial(march, take_step)


# Derivatives of a solve with respect to few quantities: all tangents in one batched forward pass.
#
# An adaptive solver is a loop whose length depends on its data, which reverse mode cannot go through. Its Jacobian by
# forward mode is cheap for few quantities; wrapped here it serves forward and reverse mode alike.

type WithRecord = Callable[..., tuple[Array, Any]]
"""(k,) → a result to differentiate, and a record of integers and flags that has no derivative; what else it takes has
none either."""


def through_jacobian(function: WithRecord) -> WithRecord:
    """Make `function` differentiable in both modes, by forming its Jacobian in forward mode.

    Args:
        function: Differentiable in forward mode.

    Returns:
        The same function; `jax.grad`, `jax.jvp` and their compositions work on its result.
    """

    @jax.custom_jvp
    def wrapped(theta: Array, *given: Any) -> tuple[Array, Any]:
        return function(theta, *given)

    @wrapped.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
        (theta, *given), (direction, *_) = primals, tangents

        def along(basis: Array) -> tuple[Array, Array, Any]:
            return jax.jvp(lambda theta: function(theta, *given), (theta,), (basis,), has_aux=True)

        basis = jnp.eye(theta.shape[0], dtype=theta.dtype)
        value, jacobian, record = jax.vmap(along, out_axes=(None, 0, None))(basis)
        # a failed solve has no derivative; zero keeps NaN out of everything that is masked out later
        jacobian = jnp.where(jnp.isfinite(jacobian), jacobian, 0.0)
        no_tangent = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), record)
        return (value, record), (jnp.tensordot(direction, jacobian, axes=1), no_tangent)

    return wrapped
