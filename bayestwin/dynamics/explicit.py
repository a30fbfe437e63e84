"""One interval of the grid by an adaptive explicit Runge–Kutta method.

The tableau is diffrax's Tsit5; the loop is ours. A loop that ends at the next stop needs no buffer for saved times
and no search for the next kink, which under `vmap` over chains and tangents is where the time goes: see
`benchmarks/solve.py`.

C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.
"""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
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


_TABLEAU = diffrax.Tsit5.tableau
_NODES = [float(c) for c in _TABLEAU.c]
_STAGES = [[float(a) for a in row] for row in _TABLEAU.a_lower]
_WEIGHTS = [float(b) for b in _TABLEAU.b_sol]
_ERRORS = [float(b) for b in _TABLEAU.b_error]


def _step(slope: Callable[[Array, Array], Array], t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    step = jax.lax.stop_gradient(step)
    slopes = [slope(t, state)]
    for node, stage in zip(_NODES, _STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * _weighted(stage, slopes)))
    return state + step * _weighted(_WEIGHTS, slopes), step * _weighted(_ERRORS, slopes)


def _weighted(weights: list[float], slopes: list[Array]) -> Array:
    terms = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight != 0.0]
    return sum(terms[1:], start=terms[0])
