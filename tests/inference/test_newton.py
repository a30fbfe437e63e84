"""Points climb to the modes of a log density: from far away, past saddles, along ridges, and around holes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from bayestwin.density.curvature import Local
from bayestwin.inference.climb import CONVERGED, Climb, climb


def climbed(log_density: Callable[[Array], Array], starts: list[list[float]], **settings: int) -> Climb:
    """The points reached from `starts` by exact derivatives."""

    def local(z: Array) -> Local:
        return Local(log_density(z), jax.grad(log_density)(z), jax.hessian(log_density)(z))

    return jax.tree.map(np.asarray, jax.jit(lambda z: climb(local, z, **settings))(jnp.array(starts)))


def correlated(z: Array) -> Array:
    """Normal around (1, −2) with correlation 0.99 and scales 1 and 10."""
    scale = jnp.array([1.0, 10.0])
    covariance = jnp.outer(scale, scale) * jnp.array([[1.0, 0.99], [0.99, 1.0]])
    off = z - jnp.array([1.0, -2.0])
    return -0.5 * off @ jnp.linalg.solve(covariance, off)


def two_hills(z: Array) -> Array:
    """Modes at (±2, 0), a saddle at the origin."""
    return -((z[0] ** 2 - 4.0) ** 2) / 8.0 - z[1] ** 2


def bent(z: Array) -> Array:
    """Rosenbrock's valley upside down, with its mode at (1, 1)."""
    return -((1.0 - z[0]) ** 2) - 100.0 * (z[1] - z[0] ** 2) ** 2


def walled(z: Array) -> Array:
    """Normal around 0.5, impossible beyond 1: Newton's first step from 0.99 ends outside."""
    return jnp.where(z[0] < 1.0, -0.5 * ((z[0] - 0.5) / 0.3) ** 2 - 0.1 * z[0] ** 4, -jnp.inf)


@pytest.mark.thorough
def test_a_quadratic_is_climbed_from_anywhere() -> None:
    found = climbed(correlated, [[0.0, 0.0], [500.0, -9000.0], [-30.0, 4.0]])
    assert (found.decrement < CONVERGED).all()
    # the top is 0, and the decrement of a quadratic is what is still to gain
    assert (found.log_density > -1.01 * CONVERGED).all()
    np.testing.assert_allclose(found.decrement, -found.log_density, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.hessian[0], jax.hessian(correlated)(jnp.zeros(2)), rtol=1e-6)


def test_a_saddle_is_left_behind() -> None:
    found = climbed(two_hills, [[0.01, 3.0], [-0.01, -3.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.z[:2], [[2.0, 0.0], [-2.0, 0.0]], atol=1e-2)
    # on the ridge itself the gradient leads nowhere else: it says so by its Hessian, which is not negative definite
    np.testing.assert_allclose(found.z[2], [0.0, 0.0], atol=1e-2)
    assert np.linalg.eigvalsh(found.hessian[2]).max() > 0.0


def test_a_bent_ridge_is_followed() -> None:
    found = climbed(bent, [[-1.2, 1.0], [3.0, -4.0]])
    np.testing.assert_allclose(found.z, [[1.0, 1.0]] * 2, atol=1e-2)


def test_steps_that_end_outside_are_not_taken() -> None:
    found = climbed(walled, [[0.99], [-20.0]])
    assert (found.decrement < CONVERGED).all()
    assert np.isfinite(found.log_density).all()
    np.testing.assert_allclose(found.z[0], found.z[1], atol=1e-3)


@pytest.mark.thorough
def test_no_step_goes_down() -> None:
    starts = [[-1.2, 1.0], [3.0, -4.0], [0.0, 30.0]]
    values = [climbed(bent, starts, max_steps=n).log_density for n in (1, 2, 4, 8, 16)]
    assert (np.diff(values, axis=0) >= 0.0).all()
    np.testing.assert_allclose(values[0], jax.vmap(bent)(jnp.array(starts)))


@pytest.mark.parametrize("flat", [0.0, 1e-9])
def test_a_flat_direction_does_no_harm(flat: float) -> None:
    found = climbed(lambda z: -0.5 * z[0] ** 2 - 0.5 * flat * z[1] ** 2, [[3.0, 7.0]])
    assert abs(found.z[0, 0]) < 1e-2
    assert np.isfinite(found.z).all()
