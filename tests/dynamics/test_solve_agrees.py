"""Trajectories agree with closed forms, with SciPy and with diffrax, to what the tolerances promise."""

import dataclasses
from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from twins import LYNX_HARE_VALUES, ROBERTSON_RATES, decay, driven, lag, lynx_hare, robertson

import bayestwin as bt
from bayestwin.dynamics import steppers as explicit
from bayestwin.dynamics.grid import build_grid
from bayestwin.dynamics.solve import Trajectory, solve

METHODS = ["tsit5", "rodas5p"]
PELT_TIMES = np.array([0.0, 0.3, 1.0, 1.01, 4.5, 5.0, 11.2, 20.0])


def solved(twin: bt.Twin, times: np.ndarray, values: dict[str, float], **knots: np.ndarray) -> Trajectory:
    """The trajectory at `times`, driven by inputs sampled at `times`."""
    grid = build_grid(twin, times, times, knots)
    return jax.tree.map(np.asarray, jax.jit(lambda v: solve(twin, grid, v))(values))


def allowed(twin: bt.Twin, trajectory: Trajectory, growth: float) -> float:
    """Each step errs by `atol + rtol |x|` in the mean over the s states; the flow magnifies it `growth` times."""
    states, solver = trajectory.states, twin.solver
    a_step = np.sqrt(states.shape[1]) * (solver.atol + solver.rtol * np.abs(states).max())
    return float(trajectory.num_steps * a_step * growth)


def independent(field: Callable, start: list[float], times: np.ndarray, **settings: object) -> np.ndarray:
    """SciPy's solution at `times`, as tight as it goes; shape (n, s)."""
    settings = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-13} | settings
    return solve_ivp(field, (0.0, times[-1]), start, t_eval=times, **settings).y.T


def pelts_field(t: float, y: np.ndarray) -> list[float]:
    v = LYNX_HARE_VALUES
    return [(v["alpha"] - v["beta"] * y[1]) * y[0], (-v["gamma"] + v["delta"] * y[0]) * y[1]]


def pelts_growth() -> float:
    """How much the flow of lynx and hares magnifies an error between any two of the times."""

    def with_tangents(t: float, y: np.ndarray) -> np.ndarray:
        v = LYNX_HARE_VALUES
        jacobian = [
            [v["alpha"] - v["beta"] * y[1], -v["beta"] * y[0]],
            [v["delta"] * y[1], -v["gamma"] + v["delta"] * y[0]],
        ]
        return np.concatenate([pelts_field(t, y[:2]), (np.array(jacobian) @ y[2:].reshape(2, 2)).ravel()])

    start = [LYNX_HARE_VALUES["hare_initial"], LYNX_HARE_VALUES["lynx_initial"], 1.0, 0.0, 0.0, 1.0]
    flows = independent(with_tangents, start, PELT_TIMES)[:, 2:].reshape(-1, 2, 2)
    return max(np.linalg.norm(late @ np.linalg.inv(early), 2) for i, early in enumerate(flows) for late in flows[i:])


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_lynx_and_hares_agree_with_scipy_and_diffrax(method: str, rtol: float) -> None:
    twin = dataclasses.replace(lynx_hare(), solver=bt.Solver(method, rtol=rtol, atol=rtol / 100, max_steps=10_000))
    start = [LYNX_HARE_VALUES["hare_initial"], LYNX_HARE_VALUES["lynx_initial"]]
    ours = solved(twin, PELT_TIMES, LYNX_HARE_VALUES)
    assert ours.solved
    bound = allowed(twin, ours, pelts_growth())
    assert np.abs(ours.states - independent(pelts_field, start, PELT_TIMES)).max() < bound
    theirs = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.stack(pelts_field(t, y))),
        diffrax.Tsit5() if method == "tsit5" else diffrax.Kvaerno5(),
        0.0,
        20.0,
        None,
        jnp.array(start),
        saveat=diffrax.SaveAt(ts=PELT_TIMES),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol / 100),
    )
    # what diffrax reads off between its steps is of lower order than the steps: it is allowed as much again
    assert np.abs(ours.states - np.asarray(theirs.ys)).max() < 3 * bound
    assert ours.num_steps < 1.5 * theirs.stats["num_steps"] + len(PELT_TIMES)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_a_stop_cuts_short_does_not_shorten_those_after_it(method: str) -> None:
    twin = decay(solver=bt.Solver(method))
    values = {"rate": 0.01, "level_initial": 1.0}
    stops = np.arange(1.0, 21.0)
    alone, pairs = (solved(twin, times, values).num_steps for times in (stops, np.sort([*stops, *(stops - 1e-6)])))
    assert pairs == alone + len(stops)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_held_and_interpolated_agree_with_the_closed_form(method: str) -> None:
    twin = driven(solver=bt.Solver(method, rtol=1e-9, atol=1e-11))
    rng = np.random.default_rng(1)
    times = np.concatenate([[0.0], np.cumsum(rng.choice([0.01, 0.3, 2.0], 25))])
    stepped, sloped = rng.normal(size=(2, times.size)) * 3.0
    ours = solved(twin, times, {"rate": 0.7, "gain": 1.3, "level_initial": 2.0}, stepped=stepped, sloped=sloped)
    exact = lag(times, stepped, sloped, 2.0, 0.7, 1.3)
    assert np.abs(ours.states[:, 0] - exact).max() < allowed(twin, ours, growth=1.0)


def plain_robertson(rates: dict[str, float]) -> Callable:
    def field(t: float, y: np.ndarray) -> list[float]:
        slow, fast, last = rates["k1"] * y[0], rates["k3"] * y[1] * y[2], rates["k2"] * y[1] ** 2
        return [-slow + fast, slow - fast - last, last]

    return field


REACTION_TIMES = np.array([0.0, 1e-5, 1e-3, 1.0, 40.0, 1e3, 1e5])
RADAU = {"method": "Radau", "rtol": 1e-12, "atol": 1e-16}


@pytest.mark.thorough
def test_rodas5p_solves_robertson_where_tsit5_gives_up() -> None:
    twin = robertson(solver=bt.Solver("rodas5p", rtol=1e-7, atol=1e-11))
    ours = solved(twin, REACTION_TIMES, ROBERTSON_RATES)
    exact = independent(plain_robertson(ROBERTSON_RATES), [1.0, 0.0, 0.0], REACTION_TIMES, **RADAU)
    # the sum is conserved and the rest decays, so that errors do not grow
    assert ours.solved
    assert np.abs(ours.states - exact).max() < allowed(twin, ours, growth=1.0)
    assert not solved(robertson(solver=bt.Solver("tsit5")), REACTION_TIMES, ROBERTSON_RATES).solved


@pytest.mark.thorough
def test_derivatives_on_a_stiff_twin_are_those_of_differences_of_scipys_solutions() -> None:
    twin = robertson(solver=bt.Solver("rodas5p", rtol=1e-8, atol=1e-12))
    grid = build_grid(twin, REACTION_TIMES, REACTION_TIMES, {})
    names, width = list(ROBERTSON_RATES), 1e-3

    def states(logs: jnp.ndarray) -> jnp.ndarray:
        return solve(twin, grid, dict(zip(names, jnp.exp(logs), strict=True))).states

    def theirs(logs: np.ndarray) -> np.ndarray:
        rates = dict(zip(names, np.exp(logs), strict=True))
        return independent(plain_robertson(rates), [1.0, 0.0, 0.0], REACTION_TIMES, **RADAU)

    logs = np.log(list(ROBERTSON_RATES.values()))
    ours = np.asarray(jax.jit(jax.jacfwd(states))(logs))
    by_differences = np.stack(
        [(theirs(logs + step) - theirs(logs - step)) / (2 * width) for step in width * np.eye(3)], axis=-1
    )
    # the differences err by about width² / 6 of a third derivative
    usual = np.abs(by_differences).max(axis=(0, 2))
    assert (np.abs(ours - by_differences).max(axis=(0, 2)) < 2e-6 * usual).all()


@pytest.mark.thorough
def test_rodas5p_follows_the_jumps_of_a_stiff_oscillator() -> None:
    def field(t, x, p, u):
        return {"y": x.speed, "speed": p.mu * (1.0 - x.y**2) * x.speed - x.y}

    def plain(t: float, y: np.ndarray) -> list[float]:
        return [y[1], 1000.0 * (1.0 - y[0] ** 2) * y[1] - y[0]]

    # the jumps are near 807 and 1615; between them the oscillator creeps
    times = np.array([0.0, 1.0, 400.0, 800.0, 820.0, 1600.0, 1700.0])
    twin = bt.Twin(
        name="van_der_pol",
        vector_field=field,
        states={"y": bt.State(2.0), "speed": bt.State(0.0)},
        parameters={"mu": bt.Parameter(1000.0)},
        observations={"y": bt.Observation(bt.Gaussian(0.1))},
        solver=bt.Solver("rodas5p", rtol=1e-7, atol=1e-9),
    )
    ours = solved(twin, times, {})
    exact = independent(plain, [2.0, 0.0], times, **RADAU)
    assert ours.solved
    # along the slow branches a jump that comes late by δ is an error of δ · |speed|, less than 0.01 δ
    assert np.abs(ours.states - exact).max() < allowed(twin, ours, growth=10.0)


@pytest.mark.parametrize("times", [[0.0], [0.0, 5.6e-17, 1.0], [0.3, 1e-9 + 0.3, 2.0], [1e-12, 3.0]])
def test_times_may_begin_anywhere_and_lie_arbitrarily_close(times: list[float]) -> None:
    at = np.array(times)
    ours = solved(decay(), at, {"rate": 0.8, "level_initial": 5.0})
    assert ours.solved
    assert np.abs(ours.states[:, 0] - 5.0 * np.exp(-0.8 * at)).max() < 1e-12 + allowed(decay(), ours, growth=1.0)


@pytest.mark.parametrize("method", METHODS)
def test_time_in_the_vector_field_counts_from_t0_in_the_unit_of_the_twin(method: str) -> None:
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * t}, solver=bt.Solver(method))
    times = np.array([0.0, 1.0, 3.5])
    ours = solved(twin, times, {"rate": 2.0, "level_initial": 1.0})
    assert np.abs(ours.states[:, 0] - (1.0 + times**2)).max() < allowed(twin, ours, growth=1.0)


def test_the_tableau_is_diffrax_s() -> None:
    tableau = diffrax.Tsit5.tableau
    assert tuple(tableau.c) == explicit.NODES
    assert tuple(tuple(row) for row in tableau.a_lower) == explicit.STAGES
    assert tuple(tableau.b_sol) == explicit.WEIGHTS
    assert tuple(tableau.b_error) == explicit.ERRORS
