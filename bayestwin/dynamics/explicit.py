"""One interval of the grid by an adaptive explicit Runge–Kutta method.

The tableau is Tsit5's; the loop is ours. A loop that ends at the next stop needs no buffer for saved times
and no search for the next kink, which under `vmap` over chains and tangents is where the time goes: see
`benchmarks/solve.py`.

C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.twin import Solver

SAFETY, SHRINK_LEAST, GROW_MOST = 0.9, 0.2, 10.0


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


def advance(slope: Callable[[Array, Array], Array], start: Array, end: Array, at: Position, solver: Solver) -> Position:
    """Solve from `start` to `end`.

    The step size carries no derivative: the result is differentiated as the sequence of steps that was taken.

    Args:
        slope: `(t, state)` → derivative; shapes (), (s,) → (s,).
        start: Time of `at`.
        end: Time to reach.
        at: Where the solver stands; it is left there once an interval has failed.
        solver: Tolerances and the most steps for this interval.

    Returns:
        Where the solver stands then; `solved` is False where it did not reach `end`.
    """
    smallest = 1e-12 * (end - start)
    # a step that suited an interval a million times shorter says nothing about this one
    at = at._replace(step=jnp.maximum(at.step, 1e-6 * (end - start)))

    def unfinished(loop: tuple[Array, Position, Array]) -> Array:
        t, now, taken = loop
        return now.solved & (t < end) & (taken < solver.max_steps) & (now.step > smallest)

    def body(loop: tuple[Array, Position, Array]) -> tuple[Array, Position, Array]:
        t, now, taken = loop
        last = now.step >= end - t
        step = jnp.where(last, end - t, now.step)
        proposed, error = _step(slope, t, now.state, step)
        scale = solver.atol + solver.rtol * jnp.maximum(jnp.abs(now.state), jnp.abs(proposed))
        size = jnp.sqrt(jnp.mean(lax.stop_gradient(error / scale) ** 2))
        accepted = size <= 1.0
        factor = jnp.clip(SAFETY * jnp.maximum(size, 1e-10) ** -0.2, SHRINK_LEAST, GROW_MOST)
        suggested = step * jnp.where(jnp.isfinite(size), factor, SHRINK_LEAST)
        # a step cut short by `end` says little about the step that fits: do not shrink because of it
        following = jnp.where(accepted & last, jnp.maximum(now.step, suggested), suggested)
        t = jnp.where(accepted, jnp.where(last, end, t + step), t)
        state = jnp.where(accepted, proposed, now.state)
        return t, Position(state, following, now.solved, now.num_steps + 1), taken + 1

    t, at, _ = lax.while_loop(unfinished, body, (start, at, jnp.zeros((), int)))
    return at._replace(solved=at.solved & (t >= end))


# Tsit5's tableau, as diffrax has it to the bit; diffrax itself, which only stiff twins need, takes a second to import.
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


def _step(slope: Callable[[Array, Array], Array], t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    step = jax.lax.stop_gradient(step)
    slopes = [slope(t, state)]
    for node, stage in zip(NODES, STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * _weighted(stage, slopes)))
    return state + step * _weighted(WEIGHTS, slopes), step * _weighted(ERRORS, slopes)


def _weighted(weights: Sequence[float], slopes: list[Array]) -> Array:
    terms = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight != 0.0]
    return sum(terms[1:], start=terms[0])
