"""Equilibria: where the derivative of some states vanishes, as a function of everything it depends on.

Found by pseudo-transient continuation, which follows the dynamics at first and ends as Newton's method, and so leads
to stable equilibria. Its derivative comes from the implicit function theorem, not from the search.

C. T. Kelley & D. E. Keyes (1998), doi:10.1137/S0036142996304796.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin.dynamics.adaptive import Slope

MOST_STEPS, SETTLED = 200, 1e-12
"""Steps of the search, and the last one's size, relative to the state, at which it ends."""


def find_equilibrium(slope: Slope, state: Array, steady: np.ndarray) -> tuple[Array, Array]:
    """Solve for the states that are to be steady.

    Args:
        slope: The vector field; taken at time 0.
        state: Where the search begins, and the values of the states that are not steady; shape (s,).
        steady: Numbers of the states to be solved for; shape (k,).

    Returns:
        The state, shape (s,), and whether it was found.
    """

    def residual(part: Array, state: Array) -> Array:
        return slope(jnp.zeros(()), state.at[steady].set(part))[steady]

    def newton_step(part: Array, pace: Array) -> Array:
        at = lax.stop_gradient(state)
        matrix = jax.jacfwd(residual)(part, at)
        return jnp.linalg.solve(jnp.eye(len(steady)) / pace - matrix, residual(part, at))

    def unfinished(loop: tuple[Array, ...]) -> Array:
        _, _, moved, number = loop
        return (moved > SETTLED) & (number < MOST_STEPS)

    def body(loop: tuple[Array, ...]) -> tuple[Array, ...]:
        part, pace, _, number = loop
        step = lax.stop_gradient(newton_step(part, pace))
        ratio = jnp.linalg.norm(residual(part, state)) / jnp.linalg.norm(residual(part + step, state))
        ratio = lax.stop_gradient(jnp.where(jnp.isfinite(ratio), ratio, 2.0))
        moved = jnp.max(jnp.abs(step) / (1e-8 + jnp.abs(part)))
        return part + step, pace * jnp.clip(2.0 * ratio, 0.2, 1e3), moved, number + 1

    start = lax.stop_gradient(state[steady])
    # a first step no longer than the fastest of the dynamics, so that the search does not leave its basin at once
    pace = 1.0 / (1e-300 + jnp.linalg.norm(jax.jacfwd(residual)(start, lax.stop_gradient(state))))
    beginning = (start, lax.stop_gradient(pace), jnp.asarray(jnp.inf), jnp.zeros((), int))
    part, _, moved, _ = lax.while_loop(unfinished, body, beginning)
    matrix = lax.stop_gradient(jax.jacfwd(residual)(part, state))
    left = residual(lax.stop_gradient(part), state)
    # of length next to zero; its derivative is that of the equilibrium
    part = lax.stop_gradient(part) - jnp.linalg.solve(matrix, left)
    return state.at[steady].set(part), (moved <= SETTLED) & jnp.isfinite(part).all()
