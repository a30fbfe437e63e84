"""Where observations are denser than steps, stopping on a mesh and interpolating gives what stopping at each gives."""

import dataclasses

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
from twins import LYNX_HARE_VALUES, bound_density, decay, driven, known_decay, lynx_hare, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.density.density import Density
from bayestwin.dynamics.grid import (
    LEAST_SAVING,
    LEAST_STOPS,
    Grid,
    build_grid,
    interpolate,
    locate,
    most_nodes,
    plan_mesh,
)
from bayestwin.dynamics.solve import solve, trace_steps
from bayestwin.inference.solver import choose_sensitivities
from bayestwin.inference.starts import agree, find_starts, on_mesh

NUM = 2_000
TIMES = np.sort(np.random.default_rng(0).uniform(0.0, 20.0, NUM))
POLYNOMIAL = np.array([0.3, -1.0, 0.5, 2.0, -1.5, 0.7])


@pytest.fixture(scope="module")
def hares() -> Density:
    """The log density of lynx and hares, seen 2,000 times in 20 years."""
    columns = {name: np.random.default_rng(1).uniform(5.0, 60.0, NUM) for name in ("hare", "lynx")}
    twin = dataclasses.replace(lynx_hare(), solver=bt.Solver("tsit5"))
    return bound_density(twin, telemetry_of({"time": TIMES, **columns}, t0=0.0))


@pytest.fixture(scope="module")
def z(hares: Density) -> np.ndarray:
    """Points about the truth."""
    truth = np.asarray(hares.unconstrain(LYNX_HARE_VALUES))
    return truth + 0.02 * np.random.default_rng(2).standard_normal((4, truth.size))


@pytest.fixture(scope="module", params=["fixed", "adaptive"])
def meshed(hares: Density, z: np.ndarray, request: pytest.FixtureRequest) -> Density:
    """The same on a mesh; between its stops one fixed step, or adaptive ones."""
    found = on_mesh(hares, z)
    assert found is not None
    assert len(found.grid.edges) < NUM / LEAST_SAVING
    if request.param == "fixed":
        return found
    return dataclasses.replace(found, grid=found.grid._replace(fixed=None))


@pytest.fixture(scope="module")
def expected(hares: Density, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and gradients with all stops, adaptive steps and forward mode."""
    return jax.jit(jax.vmap(jax.value_and_grad(hares)))(z)


def test_a_quintic_is_found_again_to_the_last_bit_but_few() -> None:
    edges = np.array([0.0, 0.3, 1.0, 1.1, 2.0])
    times = np.concatenate([[0.0], np.sort(np.random.default_rng(0).uniform(0.0, 2.0, 40)), [1.1, 2.0]])
    times.sort()
    slope = np.polyder(POLYNOMIAL)
    states = jnp.asarray(np.outer(np.polyval(POLYNOMIAL, edges), [1.0, -2.0]))
    scales = jnp.array([1.0, -2.0])
    found = interpolate(lambda t, x: jnp.polyval(slope, t) * scales, edges, states, locate(edges, times))
    np.testing.assert_allclose(found[:, 0], np.polyval(POLYNOMIAL, times), atol=1e-12)
    np.testing.assert_allclose(found[:, 1], -2.0 * np.polyval(POLYNOMIAL, times), atol=1e-12)


@pytest.mark.parametrize("edges", [[0.0, 9.0], [0.0, 0.1, 0.2, 9.0], list(np.linspace(0.0, 9.0, 500))])
def test_each_time_is_found_in_its_interval(edges: list[float]) -> None:
    edges, times = np.array(edges), np.sort(np.append(np.random.default_rng(0).uniform(0.0, 9.0, 98), [0.0, 9.0]))
    interval, within, place = locate(edges, times)
    row = place // within.shape[1]
    found = edges[interval[row]] + within.ravel()[place] * np.diff(edges)[interval[row]]
    np.testing.assert_allclose(found, times, atol=1e-12)
    assert within.min() >= 0.0
    assert within.max() <= 1.0
    assert within.size <= 3 * len(times) + len(edges)


def test_states_are_those_of_scipy(meshed: Density) -> None:
    v = LYNX_HARE_VALUES

    def field(_: float, x: np.ndarray) -> list[float]:
        hare, lynx = x
        return [(v["alpha"] - v["beta"] * lynx) * hare, (v["delta"] * hare - v["gamma"]) * lynx]

    start = [v["hare_initial"], v["lynx_initial"]]
    exact = scipy.integrate.solve_ivp(field, (0.0, 20.0), start, "DOP853", TIMES, rtol=1e-12, atol=1e-12).y.T
    found = meshed.predict(v)
    assert bool(found.solved)
    np.testing.assert_allclose(found.states, exact, rtol=5e-5)


@pytest.mark.thorough
def test_value_and_gradient_are_those_of_all_stops(meshed: Density, z: np.ndarray, expected: tuple) -> None:
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(meshed)))(z)
    expected, slope = expected
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5 * np.abs(slope).max())


def test_the_mesh_is_as_fine_as_the_finest_solve_everywhere() -> None:
    early = np.append(np.arange(0.1, 1.0, 0.1), [1.0, 5.0, 10.0])
    late = np.append([5.0], np.arange(5.5, 10.1, 0.5))
    padded = [np.append(times, np.full(12 - len(times), 10.0)) for times in (early, late)]
    mesh = plan_mesh(np.array(padded))
    assert (mesh[0], mesh[-1]) == (0.0, 10.0)
    steps = np.diff(mesh)
    for start, end, finest in ((0.0, 1.0, 0.1), (1.0, 5.0, 4.0), (5.0, 10.0, 0.5)):
        inside = (mesh[:-1] >= start) & (mesh[1:] <= end)
        assert steps[inside].max(initial=0.0) <= finest + 1e-9
    assert len(mesh) - 1 == pytest.approx(10 + 1 + 10, abs=1)


def test_traced_steps_are_those_of_a_solve_without_stops(hares: Density) -> None:
    end = build_grid(hares.twin, np.array([20.0]), np.empty(0), {})
    times, reached = trace_steps(hares.twin, end, 500, LYNX_HARE_VALUES)
    assert bool(reached)
    taken = np.unique(np.asarray(times))
    whole = solve(hares.twin, end, LYNX_HARE_VALUES)
    assert len(taken) == pytest.approx(int(whole.num_steps), rel=0.2)  # that one counts rejected steps as well
    assert len(taken) < int(whole.num_steps)
    # rejected steps take no room, and fewer than those taken are not enough
    assert bool(trace_steps(hares.twin, end, len(taken), LYNX_HARE_VALUES)[1])
    assert not bool(trace_steps(hares.twin, end, len(taken) - 5, LYNX_HARE_VALUES)[1])


def dense(twin: bt.Twin, num: int) -> Grid:
    times = np.linspace(0.0, 1.0, num + 1)
    return build_grid(twin, times, times, {name: np.zeros(num + 1) for name in twin.inputs})


def test_where_a_mesh_may_pay() -> None:
    assert most_nodes(decay(), dense(decay(), LEAST_STOPS)) == LEAST_STOPS // LEAST_SAVING
    assert most_nodes(decay(), dense(decay(), LEAST_STOPS - 1)) == 0
    assert most_nodes(driven(), dense(driven(), LEAST_STOPS)) == 0  # its inputs kink at every sample
    stiff = decay(solver=bt.Solver("rodas5p"))
    assert most_nodes(stiff, dense(stiff, LEAST_STOPS)) == 0


def test_solutions_that_move_as_fast_as_they_are_observed_get_no_mesh() -> None:
    twin = bt.Twin(
        name="fast",
        vector_field=lambda t, x, p, u: {"x": x.v, "v": -p.k * x.x},
        states={"x": bt.State(1.0), "v": bt.State(0.0)},
        parameters={"k": bt.Parameter(dist.LogNormal(12.0, 0.1))},
        observations={"x": bt.Observation(bt.Gaussian(0.05))},
        solver=bt.Solver("tsit5"),
    )
    density = bound_density(twin, telemetry_of({"time": TIMES, "x": np.zeros(NUM)}, t0=0.0))
    assert on_mesh(density, np.asarray(density.unconstrain({"k": np.exp(12.0)}))[None]) is None


def test_log_densities_agree_within_what_moves_no_posterior() -> None:
    exact = np.array([0.0, -1.0, -1e4])
    assert agree(exact + np.array([0.05, -0.05, 5.0]), exact)
    assert not agree(exact + np.array([0.0, 0.2, 0.0]), exact)
    assert not agree(exact + np.array([0.0, 0.0, 20.0]), exact)
    assert not agree(np.array([0.0, -np.inf]), np.array([0.0, -1.0]))
    assert not agree(np.array([0.0, np.nan]), np.array([0.0, -1.0]))


@pytest.mark.slow
def test_a_mesh_that_is_too_coarse_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """First in the climb, then in the choice of derivatives: what is left is what stops at each observation."""
    times = np.linspace(0.0, 4.0, LEAST_STOPS + 1)
    level = 5.0 * np.exp(-0.8 * times) + 0.1 * np.random.default_rng(0).standard_normal(times.size)
    twin = decay(solver=bt.Solver("tsit5"))
    density = bound_density(twin, telemetry_of({"time": times, "level": level}))
    show = Progress(show=False)
    fine = find_starts(density, 2, 0, show)
    assert fine.record["stops"] < LEAST_STOPS / LEAST_SAVING
    assert choose_sensitivities(density, fine, 0, show)[1]["steps"] < LEAST_STOPS / LEAST_SAVING
    monkeypatch.setattr("bayestwin.inference.starts.plan_mesh", lambda traced: np.array([0.0, traced[0, -1]]))
    starts = find_starts(density, 2, 0, show)
    assert starts.record["stops"] == LEAST_STOPS
    np.testing.assert_allclose(starts.modes[0].z, fine.modes[0].z, atol=1e-4)
    np.testing.assert_allclose(starts.modes[0].log_density, fine.modes[0].log_density, atol=1e-4)
    assert choose_sensitivities(density, starts, 0, show)[1]["steps"] >= LEAST_STOPS


@pytest.mark.slow
def test_a_posterior_drawn_on_a_mesh_is_the_exact_one() -> None:
    times = np.linspace(0.0, 4.0, LEAST_STOPS + 1)
    faded = np.exp(-0.8 * times)
    level = 5.3 * faded + 0.3 * np.random.default_rng(0).standard_normal(times.size)
    found = bt.calibrate(known_decay(), telemetry_of({"time": times, "level": level}), seed=0, predictive_draws=20)
    assert found.attrs["sensitivities"]["reason"] == "fewer steps than observations"
    assert found.attrs["tolerance_audit"]["largest_difference"] < 1e-3
    assert found["sample_stats"]["solver_steps"].values.min() >= LEAST_STOPS  # predictions and audit stop everywhere
    precision = 1.0 + faded @ faded / 0.3**2
    draws = found["posterior/level_initial"].values
    mean = (5.0 + faded @ level / 0.3**2) / precision
    assert abs(draws.mean() - mean) < 4 * float(az.mcse(draws))
    assert abs(draws.std() - precision**-0.5) < 4 * float(az.mcse(draws, method="sd"))
