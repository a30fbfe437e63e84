"""Reverse mode, forward mode and central differences of the log density are one gradient, and one Hessian."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from twins import (
    LYNX_HARE_VALUES,
    NOISES,
    bound_density,
    counted,
    counted_telemetry,
    decay,
    decay_telemetry,
    lynx_hare,
    pelts,
)

import bayestwin as bt
from bayestwin.density.density import Density

TIGHT = bt.Solver(rtol=1e-11, atol=1e-13, max_steps=10_000)
STEP = 1e-3


def tight(twin: bt.Twin, telemetry: bt.Telemetry) -> Density:
    """Solved so tightly that differences show the density and not the steps of the solver."""
    return bound_density(dataclasses.replace(twin, solver=TIGHT), telemetry)


def differences(function: Callable[[np.ndarray], np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences along each axis, and how far each may be off.

    The error is `h² f‴/6` and, from noise ε in f, `ε/h`. The first is seen by halving the step (the difference is
    3/4 of the coarser's error, and Richardson's combination is far better than either); the second by evaluating
    f along a straight line of points so close that only noise can bend it.
    """

    def central(axis: np.ndarray, h: float) -> np.ndarray:
        return (np.asarray(function(z + h * axis)) - np.asarray(function(z - h * axis))) / (2 * h)

    values, allowed = [], []
    for axis in np.eye(z.size):
        coarse, fine = central(axis, STEP), central(axis, STEP / 2)
        near = np.stack([np.asarray(function(z + k * 1e-8 * axis)) for k in range(-4, 5)])
        noise = np.abs(np.diff(near, n=2, axis=0)).max(axis=0)
        values.append((4 * fine - coarse) / 3)
        allowed.append(np.abs(coarse - fine) + 4 * noise / STEP)
    return np.stack(values), np.stack(allowed)


def check(density: Density, points: np.ndarray) -> None:
    """Gradients of all three kinds agree at each point."""
    evaluate = jax.jit(density)
    forward, reverse = jax.jit(jax.jacfwd(density)), jax.jit(jax.grad(density))
    for z in points:
        assert np.isfinite(evaluate(z))
        np.testing.assert_allclose(forward(z), reverse(z), rtol=1e-9, atol=1e-9)
        expected, allowed = differences(evaluate, z)
        assert (np.abs(reverse(z) - expected) <= allowed).all()
        # a bound that admits everything would show nothing
        assert (allowed <= 1e-3 * (1.0 + np.abs(expected))).all()


@pytest.mark.parametrize("noise", NOISES)
def test_gradients_with_inputs_and_missing_observations(noise: str) -> None:
    density = tight(counted(NOISES[noise]), counted_telemetry())
    rng = np.random.default_rng(5)
    check(density, 0.5 * rng.normal(size=(3, len(density.sites))))


@pytest.mark.thorough
def test_gradients_of_lynx_and_hares() -> None:
    density = tight(lynx_hare(), pelts())
    mode = np.asarray(density.unconstrain(LYNX_HARE_VALUES))
    check(density, mode + 0.05 * np.random.default_rng(6).normal(size=(2, mode.size)))


def test_gradients_through_the_implicit_solver() -> None:
    twin = dataclasses.replace(decay(), solver=bt.Solver("rodas5p", rtol=1e-9, atol=1e-11, max_steps=10_000))
    check(bound_density(twin, decay_telemetry()), np.array([[0.1, 4.0, -1.0], [-0.5, 6.0, 0.0]]))


@pytest.mark.thorough
def test_the_hessian_is_symmetric_and_that_of_the_gradient() -> None:
    density = tight(counted(NOISES["student"]), counted_telemetry())
    gradient, hessian = jax.jit(jax.grad(density)), jax.jit(jax.jacfwd(jax.grad(density)))
    z = 0.5 * np.random.default_rng(7).normal(size=len(density.sites))
    found = np.asarray(hessian(z))
    np.testing.assert_allclose(found, found.T, rtol=1e-8, atol=1e-8)
    expected, allowed = differences(gradient, z)
    assert (np.abs(found - expected) <= allowed).all()
    assert (allowed <= 1e-3 * (1.0 + np.abs(expected))).all()


def test_the_local_model_has_the_value_and_gradient_of_the_density() -> None:
    density = bound_density(counted(NOISES["lognormal"]), counted_telemetry())
    local, both = jax.jit(density.local), jax.jit(jax.value_and_grad(density))
    for z in 0.5 * np.random.default_rng(9).normal(size=(3, len(density.sites))):
        value, gradient = both(z)
        there = local(z)
        np.testing.assert_allclose(there.log_density, value, rtol=1e-10)
        np.testing.assert_allclose(there.gradient, gradient, rtol=1e-9, atol=1e-9)


def test_the_local_hessian_is_exact_where_the_trajectory_is_linear_in_the_unknowns() -> None:
    twin = decay(parameters={"rate": bt.Parameter(0.8)})
    density = bound_density(twin, decay_telemetry())
    z = jnp.array([4.0, -1.0])
    np.testing.assert_allclose(
        jax.jit(density.local)(z).hessian, jax.jit(jax.jacfwd(jax.grad(density)))(z), rtol=1e-8, atol=1e-8
    )


def test_the_local_model_is_finite_where_the_solve_fails() -> None:
    def blows_up(t, x: Array, p, u) -> dict:
        return {"level": p.rate * x.level**2}

    density = bound_density(decay(vector_field=blows_up), decay_telemetry())
    there = jax.jit(density.local)(jnp.array([1.0, 5.0, 0.0]))
    assert there.log_density == -np.inf
    assert np.isfinite(there.gradient).all()


def test_a_trajectory_without_a_derivative_leaves_a_gradient_of_numbers() -> None:
    # the slope of a square root at 0 is infinite, and 0 · ∞ is not a number
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * jnp.sqrt(x.level)}, states={"level": bt.State(0.0)})
    density = bound_density(twin, decay_telemetry())
    value, gradient = jax.jit(jax.value_and_grad(density))(jnp.array([0.1, 0.2]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
