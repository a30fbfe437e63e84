"""Rodas5P is of order 5 with an estimate of order 4, damps what is infinitely stiff, and solves its linear systems."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayestwin.dynamics.steppers import COUPLINGS, GAMMA, RATES, invert
from bayestwin.dynamics.steppers import STIFF_NODES as NODES
from bayestwin.dynamics.steppers import STIFF_STAGES as STAGES
from bayestwin.dynamics.steppers import STIFF_WEIGHTS as WEIGHTS
from bayestwin.dynamics.steppers import take_rodas5p_step as take_step

type Tree = tuple["Tree", ...]


def full(rows: tuple[tuple[float, ...], ...]) -> np.ndarray:
    return np.array([[*row, *[0.0] * (8 - len(row))] for row in rows])


# The coefficients as the theory writes them: α of stages, β = α + Γ of stages and Jacobian, b of the result.
SPREAD = np.linalg.inv(np.eye(8) / GAMMA - full(COUPLINGS))
ALPHA = full(STAGES) @ SPREAD
BETA = ALPHA + SPREAD
RESULT = np.array(WEIGHTS) @ SPREAD
EMBEDDED = (np.array(WEIGHTS) - np.eye(8)[7]) @ SPREAD


@functools.cache
def trees(num: int) -> list[Tree]:
    """All rooted trees of `num` vertices."""

    def forests(num: int, most: int) -> list[Tree]:
        if num == 0:
            return [()]
        return [
            (tree, *rest) for k in range(min(num, most), 0, -1) for tree in trees(k) for rest in forests(num - k, k)
        ]

    return sorted({tuple(sorted(forest)) for forest in forests(num - 1, num - 1)})


def size(tree: Tree) -> int:
    return 1 + sum(size(branch) for branch in tree)


def density(tree: Tree) -> int:
    return size(tree) * int(np.prod([density(branch) for branch in tree]))


def stages(tree: Tree) -> np.ndarray:
    """What each stage makes of an elementary differential: one branch goes through β, several through α each."""
    matrix = BETA if len(tree) == 1 else ALPHA
    return np.prod([matrix @ stages(branch) for branch in tree], axis=0) if tree else np.ones(8)


def residual(weights: np.ndarray, order: int) -> float:
    """By how much the conditions of one order fail (Hairer and Wanner, Solving ODEs II, section IV.7)."""
    return max(abs(weights @ stages(tree) - 1.0 / density(tree)) for tree in trees(order))


def test_the_conditions_of_order_hold() -> None:
    assert [len(trees(order)) for order in range(1, 6)] == [1, 1, 2, 4, 9]
    assert max(residual(RESULT, order) for order in range(1, 6)) < 1e-13
    assert max(residual(EMBEDDED, order) for order in range(1, 5)) < 1e-13
    # no better than it says, or the estimate would be of nothing
    assert residual(EMBEDDED, 5) > 1e-3
    np.testing.assert_allclose(ALPHA.sum(axis=1), NODES, atol=1e-13)
    np.testing.assert_allclose(SPREAD.sum(axis=1), RATES, atol=1e-13)


def test_halving_the_step_divides_error_and_estimate_as_their_orders_say() -> None:
    def slope(t: jax.Array, y: jax.Array) -> jax.Array:
        """Nonlinear, with time in it; its solution is (1 / (1 + t²), sin t)."""
        wave = y[1] - jnp.sin(t)
        return jnp.stack([-2.0 * t * y[0] ** 2 * (1.0 + wave), jnp.cos(t) - 3.0 * wave + y[0] * wave**2])

    def exact(t: float) -> np.ndarray:
        return np.array([1.0 / (1.0 + t**2), np.sin(t)])

    @jax.jit
    def along(step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """From 0.3 to 1.1 in equal steps: the state there; and the estimate for one step from (1, 1)."""
        first = take_step(slope, jnp.asarray(0.3), jnp.ones(2), step)[1]

        def one(i: jax.Array, y: jax.Array) -> jax.Array:
            return take_step(slope, 0.3 + i * step, y, step)[0]

        num = jnp.round(0.8 / step).astype(int)
        return jax.lax.fori_loop(0, num, one, jnp.asarray(exact(0.3))), first

    found = [along(jnp.asarray(0.8 / num)) for num in (16, 32, 64)]
    errors = np.array([np.abs(state - exact(1.1)).max() for state, _ in found])
    estimates = np.array([np.abs(first).max() for _, first in found])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 5.0, atol=0.4)
    np.testing.assert_allclose(np.log2(estimates[:-1] / estimates[1:]), 5.0, atol=0.4)


@pytest.mark.parametrize("rate", [1e8, 1e14])
def test_what_is_infinitely_stiff_is_damped_in_one_step(rate: float) -> None:
    proposed, _ = take_step(lambda t, y: -rate * y, jnp.asarray(0.0), jnp.ones(1), jnp.asarray(1.0))
    assert abs(float(proposed[0])) < 1e3 / rate


@pytest.mark.parametrize("size", [1, 2, 3, 8, 17, 40])
def test_matrices_are_inverted_whatever_the_order_of_their_rows(size: int) -> None:
    rng = np.random.default_rng(size)
    # zeros on the diagonal, and rows of very different length
    matrices = rng.normal(size=(5, size, size)) * 10.0 ** rng.integers(-6, 6, (5, size, 1))
    matrices = np.where(np.eye(size, dtype=bool) & (size > 1), 0.0, matrices)
    found = np.asarray(jax.jit(jax.vmap(invert))(matrices))
    expected = np.linalg.inv(matrices)
    # relative to the condition of the matrix with its rows made equally long, which does not enter
    equal = matrices / np.linalg.norm(matrices, axis=2, keepdims=True)
    bound = 1e-14 * size * np.linalg.cond(equal)[:, None, None] * np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(found - expected) <= bound).all()


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[np.nan, 1.0], [1.0, 2.0]]])
def test_a_matrix_without_an_inverse_gives_what_is_not_finite(matrix: list) -> None:
    assert not np.isfinite(invert(jnp.array(matrix))).all()
