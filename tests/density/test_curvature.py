"""The Hessian of several experiments is an arrow: the same matrix and the same steps as of all coordinates together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.curvature import Arrow, as_matrix, solve_positive, symmetric
from bayestwin.density.density import Density, build_density
from bayestwin.inference.climb import climb

NOTHING = jnp.zeros(())


def density_of(num: int = 4, **changes: object) -> Density:
    """Records of different lengths; `rate` is pooled, the first value each one's own, the noise shared."""
    rng = np.random.default_rng(2)
    settings = {
        "states": {"level": bt.State(dist.LogNormal(1.5, 0.5))},
        "parameters": {"rate": bt.Parameter(dist.LogNormal(-0.5, 0.5), pooled=dist.HalfNormal(0.5))},
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(1.0)))},
    }
    twin = decay(**settings | changes)
    records = {}
    for number in range(num):
        times = np.linspace(0.0, 3.0, 5 + number)
        level = 5.0 * np.exp(-0.4 * np.exp(0.3 * rng.normal()) * times) + 0.2 * rng.normal(size=len(times))
        records[f"asset {number}"] = telemetry_of({"time": times, "level": level})
    return build_density(twin, bind_all(twin, records))


def points(density: Density, num: int = 3) -> jax.Array:
    return jnp.asarray(density.draw_prior(jax.random.split(jax.random.key(1), num))[1])


ALONE = {
    "parameters": {"rate": bt.Parameter(dist.LogNormal(-0.5, 0.5), shared=False)},
    "observations": {"level": bt.Observation(bt.Gaussian(0.2))},
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("changes", "centring"),
    [({}, {}), ({}, {"rate": np.array([0.0, 0.3, 1.0, 0.7])}), (ALONE, {})],
    ids=["pooled", "centred", "nothing in common"],
)
def test_the_arrow_is_the_whole_hessian(changes: dict, centring: dict) -> None:
    density = density_of(**changes).centred(centring)
    for z in points(density):
        path, local = density.path_along(z), density.local(z)
        value, gradient = jax.value_and_grad(density)(z)
        whole = jax.jacfwd(jax.grad(lambda step, z=z, path=path: density.given(z + step, path(step))))(
            jnp.zeros_like(z)
        )
        assert isinstance(local.hessian, Arrow)
        size = float(jnp.abs(whole).max())
        np.testing.assert_allclose(local.log_density, value, rtol=1e-10)
        np.testing.assert_allclose(local.gradient, gradient, atol=1e-10 * float(jnp.abs(gradient).max()))
        np.testing.assert_allclose(local.hessian.dense(), whole, atol=1e-10 * size)


@pytest.mark.thorough
def test_of_the_most_probable_values_priors_count_once_without_jacobians() -> None:
    density = density_of()
    density = dataclasses.replace(density, of_values=True)
    z = points(density)[0]
    value, gradient = jax.value_and_grad(density)(z)
    local = density.local(z)
    np.testing.assert_allclose(local.log_density, value, rtol=1e-10)
    np.testing.assert_allclose(local.gradient, gradient, atol=1e-9 * float(jnp.abs(gradient).max()))


@pytest.mark.thorough
def test_steps_solve_the_system_where_it_is_negative_definite() -> None:
    density = density_of()
    z = points(density)[0]
    local = density.local(z)
    arrow: Arrow = local.hessian
    steep = arrow._replace(
        border=arrow.border - 1e4 * jnp.eye(len(arrow.shared)), blocks=arrow.blocks - 1e4 * jnp.eye(2)[None]
    )
    for damping in (0.0, 30.0):
        step = solve_positive(steep, jnp.asarray(damping), local.gradient)
        matrix = damping * np.eye(len(z)) - np.asarray(steep.dense())
        np.testing.assert_allclose(matrix @ step, local.gradient, rtol=1e-8)


@pytest.mark.thorough
def test_steps_go_up_wherever_they_begin() -> None:
    density = density_of()
    for z in points(density, 8):
        local = density.local(z)
        step = solve_positive(symmetric(local.hessian), NOTHING, local.gradient)
        assert float(step @ local.gradient) > 0.0


@pytest.mark.thorough
def test_arrows_and_whole_matrices_climb_to_the_same_mode() -> None:
    density = density_of(6)
    z = points(density)
    as_arrow = climb(density.local, z)
    whole = climb(lambda one: density.local(one)._replace(hessian=as_matrix(density.local(one).hessian)), z)
    assert float(as_arrow.decrement.max()) < 1e-5
    np.testing.assert_allclose(as_arrow.log_density, whole.log_density, atol=1e-4)


def test_what_is_not_finite_is_flat() -> None:
    density = density_of()
    arrow: Arrow = density.local(points(density)[0]).hessian
    broken = symmetric(arrow._replace(blocks=arrow.blocks.at[0, 0, 0].set(jnp.nan)))
    np.testing.assert_array_equal(broken.dense(), -np.eye(len(arrow.shared) + arrow.own.size))
