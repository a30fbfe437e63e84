"""Fixed steps, differentiated in reverse, give what adaptive steps give; where they do not, adaptive ones are taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import LYNX_HARE_VALUES, bound_density, lynx_hare, pelts, telemetry_of

import bayestwin as bt
from bayestwin.density.density import Density
from bayestwin.dynamics.solve import LEAST_WORK, MANY, plan_substeps, solve


def with_substeps(density: Density, substeps: np.ndarray) -> Density:
    return dataclasses.replace(density, grid=density.grid.with_substeps(substeps))


def driven() -> tuple[bt.Twin, bt.Telemetry]:
    """Two inputs, one of which jumps, at irregular times."""
    twin = bt.Twin(
        name="driven",
        vector_field=lambda t, x, p, u: {"level": u.stepped + u.sloped - p.rate * x.level},
        states={"level": bt.State(dist.Normal(1.0, 1.0))},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5))},
        inputs={"stepped": bt.Input(hold="previous"), "sloped": bt.Input(hold="linear")},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    times = np.array([0.0, 0.3, 1.0, 1.1, 2.5])
    columns = {"level": [1.0, np.nan, 1.5, 1.2, 0.7], "stepped": [0.0, 3.0, 1.0, 0.0, 0.0], "sloped": times**2}
    return twin, telemetry_of({"time": times} | columns)


@pytest.mark.parametrize("twin_and_telemetry", [(lynx_hare(), pelts()), driven()], ids=["lynx_hare", "driven"])
def test_value_and_gradient_are_those_of_adaptive_steps(twin_and_telemetry: tuple[bt.Twin, bt.Telemetry]) -> None:
    twin, telemetry = twin_and_telemetry
    precise = dataclasses.replace(twin, solver=bt.Solver("tsit5", rtol=1e-11, atol=1e-12))
    adaptive = bound_density(precise, telemetry)
    truth = LYNX_HARE_VALUES if twin.name == "lynx_hare" else {"rate": 0.8, "level_initial": 1.1}
    z = adaptive.unconstrain(truth)
    # uneven on purpose; a step of 0.025 has an error of about 0.025⁵
    substeps = np.ceil(np.diff(adaptive.grid.edges) / 0.025).astype(int) + np.arange(len(adaptive.grid.edges) - 1) % 3
    value, gradient = jax.jit(jax.value_and_grad(with_substeps(adaptive, substeps)))(z)
    expected, slope = jax.jit(jax.value_and_grad(adaptive))(z)
    np.testing.assert_allclose(value, expected, rtol=1e-8)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)


def test_steps_are_counted_by_interval() -> None:
    density = bound_density(lynx_hare(), pelts())
    counted = solve(density.twin, density.grid, LYNX_HARE_VALUES).by_interval
    assert counted.shape == (20,)
    assert int(counted.sum()) == int(density.predict(LYNX_HARE_VALUES).num_steps)
    assert int(counted.min()) >= 1


def test_the_rule() -> None:
    even = np.full((5, 1000), 2)
    substeps, record = plan_substeps(even, 6)
    np.testing.assert_array_equal(substeps, 2)
    assert (record["mode"], record["steps"]) == ("reverse", 2000)
    few = np.full((5, 10), 2)
    assert 20 * (MANY - 1) < LEAST_WORK
    assert plan_substeps(few, MANY - 1)[0] is None
    assert plan_substeps(few, MANY)[0] is not None
    # each solve needs its steps elsewhere: steps that are enough for all are too many for any
    uneven = 1 + 10 * np.eye(5, dtype=int).repeat(200, axis=1)
    assert plan_substeps(uneven, 50)[0] is None


def oscillator() -> tuple[bt.Twin, bt.Telemetry]:
    """Swings fast between its few observations, with as many quantities as make reverse mode pay."""
    names = [f"k{i}" for i in range(MANY)]
    twin = bt.Twin(
        name="oscillator",
        vector_field=lambda t, x, p, u: {"x": x.v, "v": -sum(getattr(p, n) for n in names) * x.x},
        states={"x": bt.State(1.0), "v": bt.State(0.0)},
        parameters={name: bt.Parameter(dist.LogNormal(np.log(9.0 / MANY), 0.1)) for name in names},
        observations={"x": bt.Observation(bt.Gaussian(0.05))},
        solver=bt.Solver("tsit5"),
    )
    times = np.linspace(0.0, 8.0, 9)
    return twin, telemetry_of({"time": times, "x": np.cos(3.0 * times)})


@pytest.mark.slow
def test_fixed_steps_that_are_not_exact_enough_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    twin, telemetry = oscillator()
    settings = {"seed": 0, "num_warmup": 60, "num_samples": 60, "num_chains": 2}
    fixed = bt.calibrate(twin, telemetry, **settings)
    assert fixed.attrs["sensitivities"]["mode"] == "reverse"
    assert fixed.attrs["tolerance_audit"]["largest_difference"] < 0.1

    def too_coarse(num_steps: np.ndarray, num_derivatives: int) -> tuple:
        return np.ones(num_steps.shape[1], dtype=int), {"mode": "reverse", "reason": "planted"}

    monkeypatch.setattr("bayestwin.inference.solver.plan_substeps", too_coarse)
    mended = bt.calibrate(twin, telemetry, **settings)
    assert mended.attrs["sensitivities"]["mode"] == "forward"
    assert mended.attrs["tolerance_audit"]["largest_difference"] < 0.1


def test_a_solve_that_blows_up_in_fixed_steps_is_a_failed_one() -> None:
    twin = bt.Twin(
        name="blow",
        vector_field=lambda t, x, p, u: {"x": p.rate * x.x**3},
        states={"x": bt.State(1.0)},
        parameters={"rate": bt.Parameter(dist.Normal(0.0, 1.0))},
        observations={"x": bt.Observation(bt.Gaussian(0.1))},
    )
    times = np.linspace(0.0, 30.0, 31)
    density = bound_density(twin, telemetry_of({"time": times, "x": np.ones(31)}))
    found = jax.vmap(with_substeps(density, np.full(30, 2)))(jnp.array([[-0.01], [5.0]]))
    assert np.isfinite(found[0])
    assert found[1] == -np.inf
