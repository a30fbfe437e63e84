"""Affine twins are solved without a solver, to rounding, with the derivatives that a precise solver has."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from twins import decay, driven, lag, lynx_hare, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.dynamics.affine import WIDE, in_turn, needs_no_solver, recur
from bayestwin.dynamics.choice import choose_solver
from bayestwin.dynamics.grid import Grid, build_grid, precision_of
from bayestwin.dynamics.solve import Trajectory, solve
from bayestwin.errors import InvalidTwin

EXACT = bt.Solver("exact")
PRECISE = bt.Solver("tsit5", rtol=1e-11, atol=1e-13, max_steps=100_000)
VALUES = {"rate": 0.7, "gain": 1.3, "level_initial": 2.0}
IRREGULAR = np.concatenate([[0.0], np.cumsum(np.random.default_rng(1).choice([0.01, 0.3, 2.0], 25))])
REGULAR = np.arange(60) * 0.1


def coupled(t, x, p, u):
    """Two states, one fast; a held input stands in the matrix, and time in the drive."""
    fast = 40.0 * (p.gain * u.stepped**2 + x.second - x.level) - x.level * jnp.exp(u.stepped)
    return {"level": fast, "second": p.rate * (x.level - x.second) + u.sloped - 0.1 * t}


def two_states(**changes: object) -> bt.Twin:
    states = {"level": bt.State(1.0), "second": bt.State(driven().states["level"].initial)}
    return driven(vector_field=coupled, states=states, **changes)


def grid_at(twin: bt.Twin, times: np.ndarray, stride: int = 1) -> Grid:
    """Inputs at all of the times, saved at every `stride`th."""
    stepped, sloped = np.random.default_rng(2).normal(size=(2, times.size))
    return build_grid(twin, times[stride - 1 :: stride], times, {"stepped": stepped, "sloped": sloped})


def solved(twin: bt.Twin, grid: Grid, solver: bt.Solver, beside: int = 1, **values: float) -> Trajectory:
    values = VALUES | {"second_initial": -1.0} | values
    twin = dataclasses.replace(twin, solver=solver)
    return jax.jit(lambda v: solve(twin, grid._replace(precision=precision_of(twin)), v, beside=beside))(values)


@pytest.mark.parametrize("times", [IRREGULAR, REGULAR, REGULAR[:2]], ids=["irregular", "regular", "one interval"])
def test_a_lag_of_two_inputs_is_its_closed_form(times: np.ndarray) -> None:
    stepped, sloped = np.random.default_rng(1).normal(size=(2, times.size)) * 3.0
    grid = build_grid(driven(), times, times, {"stepped": stepped, "sloped": sloped})
    found = solved(driven(), grid, EXACT)
    assert found.solved
    assert found.num_steps == 0
    closed = lag(times, stepped, sloped, 2.0, 0.7, 1.3)
    np.testing.assert_allclose(found.states[:, 0], closed, rtol=0, atol=1e-13 * times.size * np.abs(closed).max())


@pytest.mark.thorough
@pytest.mark.parametrize("times", [IRREGULAR, REGULAR], ids=["irregular", "regular"])
@pytest.mark.parametrize(("stride", "beside"), [(1, 1), (3, 1), (3, WIDE)])
def test_states_and_derivatives_are_those_of_a_precise_solver(times: np.ndarray, stride: int, beside: int) -> None:
    twin = two_states()
    grid = grid_at(twin, times, stride)
    exact, precise = (solved(twin, grid, solver, beside) for solver in (EXACT, PRECISE))
    np.testing.assert_allclose(exact.states, precise.states, rtol=1e-8, atol=1e-9)

    def squares(solver: bt.Solver, rate: float) -> jax.Array:
        return (solved(twin, grid, solver, beside, rate=rate).states ** 2).sum()

    slopes = [jax.grad(lambda rate, s=solver: squares(s, rate))(0.7) for solver in (EXACT, PRECISE)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-7)
    forward = jax.jvp(lambda rate: squares(EXACT, rate), (0.7,), (1.0,))[1]
    np.testing.assert_allclose(forward, slopes[0], rtol=1e-10)


@pytest.mark.thorough
def test_log_density_gradient_and_hessian_are_those_of_a_precise_solver() -> None:
    stepped, sloped, level = np.random.default_rng(3).normal(size=(3, REGULAR.size))
    telemetry = telemetry_of({"time": REGULAR, "level": level, "stepped": stepped, "sloped": sloped})
    density = build_density(driven(), bind(driven(), telemetry))
    exact, precise = (density.solved_as(driven(solver=solver)) for solver in (EXACT, PRECISE))
    z = 0.1 * jnp.arange(len(density.sites))
    for ours, theirs in zip(exact.local(z), precise.local(z), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(jax.grad(exact)(z), exact.local(z).gradient, rtol=1e-10)


@pytest.mark.parametrize("num", [1, 2, 15, 16, 17, 30])
@pytest.mark.parametrize("shared", [True, False])
def test_the_recurrence_is_the_loop(num: int, shared: bool) -> None:
    rng = np.random.default_rng(num)
    transition = rng.normal(size=(3, 3, 1 if shared else num)) / 2.0
    constant, state = rng.normal(size=(3, num)), rng.normal(size=3)
    arrays = [jnp.asarray(array) for array in (transition, constant, state)]
    found, in_lists = recur(*arrays), jnp.stack(in_turn(arrays[0], [*arrays[1]], [*arrays[2]]))
    for number in range(num):
        state = transition[..., 0 if shared else number] @ state + constant[:, number]
        np.testing.assert_allclose(found[:, number], state, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(in_lists[:, number], state, rtol=1e-11, atol=1e-12)


UNSUITED = {
    "not affine": lynx_hare(),
    "an event": decay(events={"drain": bt.Event(lambda t, x, p, u: {"level": 0.5 * x.level}, at=(1.0,))}),
    "a positive state": decay(states={"level": bt.State(decay().states["level"].initial, positive=True)}),
    "a cubic input": driven(
        inputs={"stepped": bt.Input(hold="previous"), "sloped": bt.Input(hold="cubic")},
    ),
}


@pytest.mark.parametrize("why", UNSUITED)
def test_other_twins_need_a_solver_and_say_so(why: str) -> None:
    twin = UNSUITED[why]
    assert not needs_no_solver(twin)
    times = np.arange(4.0)
    grid = build_grid(twin, times, times, dict.fromkeys(twin.inputs, times))
    values = {site.name: 1.0 for site in twin.sites()}
    with pytest.raises(InvalidTwin, match=r"(?s)cannot be solved by `bt.Solver\(.exact.\)`.*Expected: .*affine"):
        solve(dataclasses.replace(twin, solver=EXACT), grid, values)


def test_it_is_chosen_where_it_can_be() -> None:
    chosen, choice = choose_solver(driven(solver=bt.Solver()), grid_at(driven(), REGULAR), {})
    assert chosen.solver.method == choice.method == "exact"
    assert choice.reason == "none needed: steps of an affine twin are exact"


def test_what_grows_beyond_all_numbers_is_not_solved() -> None:
    grid = grid_at(driven(), 100.0 * REGULAR)
    assert not solved(driven(), grid, EXACT, rate=-50.0).solved
