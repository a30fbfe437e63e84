"""Algebraic states: what equations without a derivative determine, solved for wherever the vector field is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

MOST_STEPS, SETTLED, STEADY = 100, 1e-13, 1e-9
"""Steps of the search; the size of the last one, relative to the unknowns, at which it ends; and relative to the
largest that there were on the way, at which it has found a root where rounding lets it come no nearer."""


def solve_for[T](residual: Callable[[T], Any], guess: T, *, atol: float = 1e-14) -> T:
    """The unknowns for which residuals vanish, for use in `vector_field` and in `of=` of observations.

    With it differential-algebraic equations of index 1, `x' = f(x, z), 0 = g(x, z)`, are written as they are: `z` is
    solved for at each stage of each step, to rounding, so that the method keeps its order. Derivatives follow from the
    implicit function theorem. Newton's method with shortened steps leads to one root near the guess; where there are
    several, the guess says which.

        def vector_field(t, x, p, u):
            current = bt.solve_for(lambda i: i * p.R + p.a * jnp.arcsinh(i / p.i0) - x.voltage, 0.0)
            return {"voltage": (u.supply - current) / p.C}

    Args:
        residual: The unknowns → as many residuals, of the same structure or as a list; what else it depends on it takes
            from outside.
        guess: Where the search begins: a number, an array, or a tuple or dict of these. It may depend on states.
        atol: How exact unknowns near zero have to be, in their unit.

    Returns:
        The unknowns, like the guess; NaN where none are found, so that the solve fails there.

    Raises:
        TypeError: If there are not as many residuals as unknowns.

    See E. Hairer & G. Wanner (1996), Solving Ordinary Differential Equations II, chapter VI.1,
    doi:10.1007/978-3-642-05221-7.
    """
    start, restore = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), guess))

    def left(z: Array) -> Array:
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), residual(restore(z))))[0]

    num = jax.eval_shape(left, start).size
    if num != start.size:
        message = f"`solve_for` has {start.size} unknowns and {num} residuals: give as many of these."
        raise TypeError(message)
    found = lax.custom_root(
        left,
        lax.stop_gradient(start),
        lambda left, start: _search(left, start, atol),
        lambda linear, right: _solved(jax.jacfwd(linear)(jnp.zeros_like(right)), right),
    )
    return restore(found)


def _search(left: Callable[[Array], Array], start: Array, atol: float) -> Array:
    """A root, without derivatives; NaN if none was found."""

    def unfinished(loop: tuple[Array, ...]) -> Array:
        _, _, _, settled, _, number = loop
        return ~settled & (number < MOST_STEPS)

    def body(loop: tuple[Array, ...]) -> tuple[Array, ...]:
        z, part, largest, _, _, number = loop
        residuals, matrix = left(z), jax.jacfwd(left)(z)
        step = _solved(matrix, residuals)
        tried = z - part * step
        # measured by the same matrix, so that the scales of residuals do not matter
        nearer = jnp.linalg.norm(_solved(matrix, left(tried))) <= (1.0 - 0.1 * part) * jnp.linalg.norm(step)
        length = jnp.abs(step)
        largest = jnp.maximum(largest, jnp.abs(z))
        found = (length <= STEADY * largest + atol).all()
        settled = (length <= SETTLED * jnp.abs(z) + atol).all() | (found & ~nearer)  # rounding lets it come no nearer
        part = jnp.where(nearer, jnp.minimum(2.0 * part, 1.0), 0.5 * part)
        return jnp.where(nearer | found, tried, z), part, largest, settled, found, number + 1

    no = jnp.asarray(False)
    first = (start, jnp.ones(()), jnp.abs(start), no, no, jnp.zeros((), int))
    z, _, _, _, found, _ = lax.while_loop(unfinished, body, first)
    return jnp.where(found, z, jnp.nan)  # in here, where it is no switch of the field whose moment is looked for


def _solved(matrix: Array, right: Array) -> Array:
    """The x of `matrix @ x = right`; a single unknown needs no factorisation."""
    return right / matrix[0] if right.size == 1 else jnp.linalg.solve(matrix, right)
