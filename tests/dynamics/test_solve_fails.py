"""A solve that fails is a flag, in one lane of a batch only: no exception, no NaN, and no word against the others."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from twins import decay

import bayestwin as bt
from bayestwin.dynamics.grid import build_grid, locate
from bayestwin.dynamics.solve import Trajectory, solve

METHODS = ["tsit5", "rodas5p"]
TIMES = np.array([0.0, 0.4, 0.9, 1.7, 3.0])


def stiff(t, x, p, u):
    return {"level": -p.rate * (x.level - jnp.cos(t))}


def squared(t, x, p, u):
    return {"level": p.rate * x.level**2}


def leaves_its_domain(t, x, p, u):
    return {"level": p.rate * jnp.log(0.5 - t)}


@functools.cache
def solver(field: Callable, method: str) -> Callable[[Array, Array], Trajectory]:
    """Trajectories for a batch of four rates and initial levels."""
    twin = decay(vector_field=field, solver=bt.Solver(method))
    grid = build_grid(twin, TIMES, TIMES, {})
    one = jax.vmap(lambda rate, start: solve(twin, grid, {"rate": rate, "level_initial": start}))
    return jax.jit(one)


def solved(field: Callable, method: str, rates: list[float], starts: list[float] | None = None) -> Trajectory:
    """One trajectory for each rate, in one batch; leading axis 4."""
    batch = jnp.array(rates), jnp.array(starts or [1.0] * 4)
    return jax.tree.map(np.asarray, solver(field, method)(*batch))


def test_a_stiff_twin_runs_out_of_steps_in_an_explicit_solver_alone() -> None:
    found = solved(stiff, "tsit5", [1e6, 1.0, 1.0, 1.0])
    assert found.solved.tolist() == [False, True, True, True]
    assert np.isfinite(found.states).all()
    # the first interval is given up at its limit, and none is begun after it
    assert found.num_steps[0] == bt.Solver().max_steps
    assert solved(stiff, "rodas5p", [1e6, 1.0, 1.0, 1.0]).solved.all()


@pytest.mark.parametrize("method", METHODS)
def test_a_blow_up_in_finite_time_is_flagged(method: str) -> None:
    found = solved(squared, method, [1.0, 0.1, 5.0, 0.2])
    assert found.solved.tolist() == [False, True, False, True]
    assert np.isfinite(found.states).all()
    for lane, rate in ((1, 0.1), (3, 0.2)):
        np.testing.assert_allclose(found.states[lane, :, 0], 1.0 / (1.0 - rate * TIMES), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_leaves_the_rest_of_its_batch_as_it_is_without_it(method: str) -> None:
    with_failures = solved(squared, method, [1.0, 0.1, 5.0, 0.2])
    without = solved(squared, method, [0.2, 0.1, 0.1, 0.2])
    # XLA may round a lane differently beside other lanes
    np.testing.assert_allclose(with_failures.states[[1, 3]], without.states[[1, 3]], rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_of_a_failed_solve_are_zero_and_the_others_are_there(method: str) -> None:
    def levels(rates: Array) -> Array:
        return solver(squared, method)(rates, jnp.ones(4)).states[:, -1, 0]

    slopes = np.asarray(jax.jacrev(levels)(jnp.array([1.0, 0.1, 5.0, 0.2])))
    # 1 / (1 - rate t) changes by t / (1 - rate t)² with the rate
    expected = np.array([0.0, *(3.0 / (1.0 - np.array([0.1, 5.0, 0.2]) * 3.0) ** 2)]) * [0.0, 1.0, 0.0, 1.0]
    np.testing.assert_allclose(slopes, np.diag(expected), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_initial_state_that_is_not_finite_is_flagged(method: str) -> None:
    found = solved(squared, method, [0.1] * 4, [1.0, np.nan, np.inf, -np.inf])
    assert found.solved.tolist() == [True, False, False, False]
    assert np.isfinite(found.states).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_right_hand_side_that_is_not_finite_is_flagged(method: str) -> None:
    found = solved(leaves_its_domain, method, [1.0, 0.0, -1.0, 2.0])
    # 0 · log of a negative number is not a number either
    assert not found.solved.any()
    assert np.isfinite(found.states).all()


@functools.cache
def partly(field: Callable, method: str, between: bool) -> Callable[[Array, Array], Trajectory]:
    """As `solver`, but what there is before a failure is kept; perhaps on a mesh of stops that are not saved."""
    twin = decay(vector_field=field, solver=bt.Solver(method))
    grid = build_grid(twin, TIMES, TIMES, {})
    if between:
        edges = np.array([0.0, 0.3, 0.7, 1.4, 3.0])
        grid = build_grid(twin, edges, edges, {})._replace(
            between=locate(edges, TIMES), save=np.zeros(len(TIMES), int), inputs=np.zeros((len(TIMES), 0))
        )
    return jax.jit(jax.vmap(lambda rate, start: solve(twin, grid, {"rate": rate, "level_initial": start}, partly=True)))


@pytest.mark.parametrize(("method", "between"), [("tsit5", False), ("rodas5p", False), ("tsit5", True)])
def test_what_was_reached_before_a_failure_is_kept(method: str, between: bool) -> None:
    rates = np.array([1.0, 0.1, 5.0, 0.2])
    found = jax.tree.map(np.asarray, partly(squared, method, between)(jnp.array(rates), jnp.ones(4)))
    assert found.solved.tolist() == [False, True, False, True]
    # 1 / (1 - rate t) is there until t = 1 / rate; between stops, until the last stop before that
    last = np.array([[0.7, 3.0, 0.0, 3.0]] if between else [[1.0, np.inf, 0.2, np.inf]]).T
    np.testing.assert_array_equal(found.reached, last >= TIMES)
    with np.errstate(divide="ignore"):
        exact = np.where(found.reached, 1.0 / (1.0 - rates[:, None] * TIMES), 1.0)
    np.testing.assert_allclose(found.states[..., 0], exact, rtol=2e-2 if between else 1e-5)


@pytest.mark.thorough
def test_what_fails_once_is_not_there_again() -> None:
    def of(field: Callable, **settings: object) -> Trajectory:
        twin = decay(vector_field=field, solver=bt.Solver("tsit5", **settings))
        grid = build_grid(twin, TIMES, TIMES, {})
        return solve(twin, grid, {"rate": 1e6, "level_initial": 2.0}, partly=True)

    # too many steps are needed in the second interval alone
    found = of(lambda t, x, p, u: {"level": -jnp.where((t > 0.4) & (t < 0.8), p.rate, 1.0) * (x.level - 1.0)})
    assert found.reached.tolist() == [True, True, False, False, False]
    assert of(leaves_its_domain).reached.tolist() == [True, True, False, False, False]
