"""What is taken for affine is affine, and its step is exact, also where it is stiff or singular."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from twins import bound_density, decay, driven, lynx_hare, tank, telemetry_of

import bayestwin as bt
from bayestwin.dynamics.affine import exact_step, has_held_matrix, is_affine

FIELDS = {
    "a matrix of parameters": (
        True,
        lambda t, x, p, u: {"level": jnp.array([p.rate, 1.0]) @ jnp.array([x.level, t])},
    ),
    "a function of parameters": (True, lambda t, x, p, u: {"level": jnp.exp(p.rate) * x.level / jnp.tanh(p.rate)}),
    "a choice by a parameter": (True, lambda t, x, p, u: {"level": jnp.where(p.rate > 1.0, x.level, -x.level)}),
    "an inner function": (True, lambda t, x, p, u: {"level": jax.jit(lambda a: 2.0 * a - t)(x.level)}),
    "parts of an array": (
        True,
        lambda t, x, p, u: {"level": jnp.stack([x.level, t])[1] - jnp.zeros(2).at[1].set(p.rate * x.level)[1]},
    ),
    "a place by the state": (False, lambda t, x, p, u: {"level": jnp.array([1.0, 2.0])[jnp.int32(x.level)]}),
    "a choice by the state": (False, lambda t, x, p, u: {"level": jnp.where(x.level > 1.0, x.level, 0.0)}),
    "a limit": (False, lambda t, x, p, u: {"level": jnp.maximum(x.level, 0.0)}),
    "a product": (False, lambda t, x, p, u: {"level": x.level * t}),
    "a quotient": (False, lambda t, x, p, u: {"level": p.rate / (1.0 + x.level)}),
    "a season": (False, lambda t, x, p, u: {"level": -x.level + jnp.sin(t)}),
    "rounding": (False, lambda t, x, p, u: {"level": -x.level + jnp.float64(jnp.int32(t))}),
}


@pytest.mark.parametrize("field", FIELDS)
def test_affine_vector_fields_are_told_from_others(field: str) -> None:
    affine, function = FIELDS[field]
    assert is_affine(decay(vector_field=function)) is affine


HELD = {
    "in the drive": (True, False, lambda t, x, p, u: {"level": p.gain * u.stepped**2 - p.rate * x.level + u.sloped}),
    "in the matrix": (True, True, lambda t, x, p, u: {"level": -p.rate * jnp.exp(u.stepped) * x.level + u.sloped}),
    "the other one": (False, True, lambda t, x, p, u: {"level": -p.rate * u.sloped * x.level}),
}


@pytest.mark.parametrize("where", HELD)
def test_held_inputs_are_constant_between_stops(where: str) -> None:
    affine, in_matrix, function = HELD[where]
    twin = driven(vector_field=function)
    assert (is_affine(twin), has_held_matrix(twin)) == (affine, in_matrix)


def test_the_shared_twins() -> None:
    assert [is_affine(twin) for twin in (decay(), driven(), tank(), lynx_hare())] == [True, True, True, False]


@pytest.mark.parametrize("apart", [False, True], ids=["arrays", "entries apart"])
@pytest.mark.parametrize("span", [0.0, 1e-3, 0.7, 40.0])
def test_a_step_is_that_of_the_matrix_exponential(span: float, apart: bool) -> None:
    matrix = np.array([[-3.0, 1.0, 0.0], [2.0, -50.0, 0.3], [0.0, 0.0, 0.0]])
    diffusion = np.array([0.5, 0.0, 2.0])
    zero, one = np.zeros((3, 3)), np.eye(3)
    forced = expm(np.block([[matrix, one, zero], [zero, zero, one], [zero, zero, zero]]) * span)[:3]
    step = jax.jit(functools.partial(exact_step, apart=apart))(
        jnp.asarray(matrix), jnp.asarray(diffusion), jnp.asarray(span)
    )
    for found, expected in zip(step[:3], np.split(forced, 3, axis=1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)

    def spreading(_: float, flat: np.ndarray) -> np.ndarray:
        half = matrix @ flat.reshape(3, 3)
        return (half + half.T + np.diag(diffusion)).ravel()

    solution = solve_ivp(spreading, (0.0, max(span, 1e-12)), np.zeros(9), "Radau", rtol=1e-10, atol=1e-13).y[:, -1]
    np.testing.assert_allclose(step.covariance, solution.reshape(3, 3), rtol=1e-7, atol=1e-11)


def test_a_very_stiff_step_forgets_where_it_began() -> None:
    step = exact_step(jnp.array([[-1e7]]), jnp.array([4.0]), jnp.asarray(100.0))
    np.testing.assert_allclose([s.item() for s in step], [0.0, 1e-7, 1e-5, 2e-7], rtol=1e-8, atol=1e-300)


@pytest.mark.thorough
@pytest.mark.parametrize("num", [3, 6], ids=["fewer parameters than entries", "more"])
def test_gradients_are_those_of_the_matrix_exponential(num: int) -> None:
    names = ("k1", "k2", "k3", "k4", "k5", "k6")
    known = {name: bt.Parameter(0.4 + 0.1 * place) for place, name in enumerate(names)}
    inferred = {name: bt.Parameter(dist.LogNormal(0.0, 0.5)) for name in names[:num]}

    def field(t, x, p, u):
        return {"a": p.k1 - p.k2 * x.a + p.k3 * x.b, "b": p.k4 * x.a - p.k5 * x.b - p.k6}

    twin = bt.Twin(
        name="leaks",
        vector_field=field,
        states={"a": bt.State(1.0), "b": bt.State(0.5)},
        parameters=known | inferred,
        observations={"b": bt.Observation(bt.Gaussian(0.1))},
        time_unit="h",
        solver=bt.Solver(method="exact"),
    )
    times, seen = np.array([0.0, 0.3, 1.5]), np.array([1.0, 0.8, 0.5])
    density = bound_density(twin, telemetry_of({"time": times, "b": seen}))

    def by_hand(z: jax.Array) -> jax.Array:
        k1, k2, k3, k4, k5, k6 = [*jnp.exp(z), *(0.4 + 0.1 * place for place in range(num, 6))]
        matrix = jnp.array([[-k2, k3, k1], [k4, -k5, -k6], [0.0, 0.0, 0.0]])
        states = jnp.stack([jax.scipy.linalg.expm(matrix * time) @ jnp.array([1.0, 0.5, 1.0]) for time in times])
        return (-0.5 * ((seen - states[:, 1]) / 0.1) ** 2).sum() - 0.5 * ((z / 0.5) ** 2).sum()

    z = jnp.linspace(-0.4, 0.3, num)
    expected = jax.jit(jax.grad(by_hand))(z)
    np.testing.assert_allclose(jax.jit(jax.grad(density))(z), expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(density))(z), expected, rtol=1e-9)
