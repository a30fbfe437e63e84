"""Algebraic states are solved for at each stage: the same as the reduced equations, to which SciPy finds the root."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.dynamics.solve import observe, solve

TIMES = np.linspace(0.0, 4.0, 9)


def charging(t: Any, x: Any, p: Any, u: Any) -> dict:
    """A capacitor behind a resistor and a diode, whose voltages the current follows from."""
    return {"volts": current(t, x, p, u) / p.capacity}


def current(t: Any, x: Any, p: Any, u: Any) -> jax.Array:
    supply = 1.0 + jnp.sin(t)
    return bt.solve_for(lambda i: i * p.ohms + 0.1 * jnp.arcsinh(i / 0.01) + x.volts - supply, 0.0)


def twin_of(field: Any, names: tuple[str, ...], of: Any = None, **states: float) -> bt.Twin:
    return bt.Twin(
        name="algebraic",
        vector_field=field,
        states={name: bt.State(value) for name, value in states.items()},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in names},
        observations={next(iter(states)): bt.Observation(bt.Gaussian(0.1), of=of)},
        solver=bt.Solver("tsit5", rtol=1e-10, atol=1e-12),
    )


def reduced(ohms: float, capacity: float) -> np.ndarray:
    """By an independent solver and an independent root."""

    def root(t: float, volts: float) -> float:
        def left(i: float) -> float:
            return i * ohms + 0.1 * np.arcsinh(i / 0.01) + volts - 1.0 - np.sin(t)

        return brentq(left, -9.0, 9.0, xtol=1e-15, rtol=1e-14)

    found = solve_ivp(
        lambda t, x: [root(t, x[0]) / capacity], (0.0, 4.0), [0.2], "DOP853", TIMES, rtol=1e-12, atol=1e-13
    )
    return np.stack([found.y[0], [root(t, v) for t, v in zip(TIMES, found.y[0], strict=True)]])


@pytest.mark.thorough
def test_states_unknowns_and_derivatives_are_those_of_the_reduced_equations() -> None:
    twin = twin_of(charging, ("ohms", "capacity"), current, volts=0.2)
    grid = build_density(twin, bind(twin, bt.read_telemetry(pd.DataFrame({"time": TIMES, "volts": 0.0})))).grid

    def both(values: dict) -> tuple[jax.Array, jax.Array]:
        found = solve(twin, grid, values)
        seen = observe(twin, grid.times, found.states, grid.inputs, values)
        both = jnp.stack([found.states[:, 0], seen["volts"]])
        return both, both

    values = {"ohms": 0.7, "capacity": 0.5}
    slopes, found = jax.jit(jax.jacfwd(both, has_aux=True))(values)
    assert np.allclose(found, reduced(**values), rtol=1e-8, atol=1e-8)
    for name, value in values.items():
        difference = (reduced(**values | {name: value + 3e-4}) - reduced(**values | {name: value - 3e-4})) / 6e-4
        assert np.allclose(slopes[name], difference, rtol=1e-5, atol=1e-6)


def test_several_unknowns_in_forward_and_reverse_mode() -> None:
    """`a² + b² = 25, a b = 12`: near (4, 2) it is 4 and 3, near (2, 4) the other way round."""

    def roots(square: jax.Array, product: jax.Array, guess: dict) -> dict:
        return bt.solve_for(lambda z: [z["a"] ** 2 + z["b"] ** 2 - square, z["a"] * z["b"] - product], guess)

    guesses = {"a": jnp.array([4.0, 2.0]), "b": jnp.array([2.0, 4.0])}
    found = jax.jit(jax.vmap(roots, in_axes=(None, None, 0)))(25.0, 12.0, guesses)
    assert np.allclose([found["a"], found["b"]], [[4.0, 3.0], [3.0, 4.0]], rtol=1e-14)
    # (2a 2b; b a) d(a, b) = d(square, product)
    exact = np.linalg.inv([[8.0, 6.0], [3.0, 4.0]])
    for derivative in (jax.jacfwd, jax.jacrev):
        slopes = derivative(lambda given: jnp.stack([*roots(*given, {"a": 4.0, "b": 2.0}).values()]))
        assert np.allclose(jax.jit(slopes)(jnp.array([25.0, 12.0])), exact, rtol=1e-12)


def test_second_derivatives_which_stiff_methods_take() -> None:
    """`z² = c`, so `z'' = −c^(−3/2) / 4`."""

    def root(c: jax.Array) -> jax.Array:
        return bt.solve_for(lambda z: z**2 - c, 1.0)

    for twice in (jax.jacfwd(jax.jacfwd(root)), jax.jacrev(jax.jacfwd(root))):
        assert np.isclose(jax.jit(twice)(4.0), -1.0 / 32.0, rtol=1e-12)


@pytest.mark.parametrize("root", [0.0, 1e-9, 3e8])
def test_a_root_of_any_size_also_where_rounding_hides_the_last_digits(root: float) -> None:
    found = jax.jit(lambda root: bt.solve_for(lambda z: (z - root) * (1.0 + 1e-3 * z / (1.0 + jnp.abs(root))), 1.0))(
        root
    )
    assert np.isclose(found, root, rtol=1e-12, atol=1e-14)


@pytest.mark.thorough
def test_where_there_is_no_root_the_solve_fails() -> None:
    without = jax.vmap(lambda start: bt.solve_for(lambda z: 1.0 + z**2, start))(jnp.linspace(-3.0, 3.0, 61))
    assert np.isnan(without).all()
    twin = twin_of(lambda t, x, p, u: {"a": bt.solve_for(lambda z: p.k * x.a - 1.0 + z**2, 0.3)}, ("k",), a=0.5)
    grid = build_density(twin, bind(twin, bt.read_telemetry(pd.DataFrame({"time": TIMES, "a": 0.0})))).grid
    # until a = 1 / k there is one
    ends = jax.jit(jax.vmap(lambda k: solve(twin, grid, {"k": k}).solved))(jnp.array([0.05, 3.0]))
    assert ends.tolist() == [True, False]


def test_as_many_residuals_as_unknowns() -> None:
    with pytest.raises(bt.errors.InvalidTwin, match="2 unknowns and 1 residuals"):
        twin_of(lambda t, x, p, u: {"a": bt.solve_for(lambda z: z[0] - x.a, (0.0, 0.0))[0]}, (), a=1.0)
