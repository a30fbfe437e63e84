"""The tolerance audit passes where the solver's error is negligible, and fails where it shapes the posterior."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import LYNX_HARE_VALUES, bound_density, lynx_hare, pelts, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess.gates import Gate
from bayestwin.assess.recorded import tolerance_gate
from bayestwin.density.survey import evaluate
from bayestwin.inference.method import MAX_PARETO_K, NEGLIGIBLE, Draws
from bayestwin.inference.solver import NUM_AUDITED, TIGHTER, audit_tolerance


def judged(twin: bt.Twin, telemetry: bt.Telemetry, tolerance: float | None) -> tuple[dict, Gate]:
    """The audit of a calibration by Laplace's approximation, and its gate."""
    solver = bt.Solver(method="tsit5")
    if tolerance is not None:
        solver = dataclasses.replace(solver, rtol=tolerance, atol=tolerance)
    twin = dataclasses.replace(twin, solver=solver)
    posterior = bt.calibrate(twin, telemetry, seed=0, method="laplace", num_samples=100, predictive_draws=20)
    (gate,) = [gate for gate in bt.diagnose(posterior) if gate.name == "tolerance"]
    return posterior.attrs["tolerance_audit"], gate


def spring() -> bt.Twin:
    """Six oscillations seen five times: many steps of the solver from one observation to the next."""
    return bt.Twin(
        name="spring",
        vector_field=lambda t, x, p, u: {"position": x.speed, "speed": -p.stiffness * x.position},
        states={"position": bt.State(1.0), "speed": bt.State(0.0)},
        parameters={"stiffness": bt.Parameter(dist.Normal(1.0, 0.02))},
        observations={"position": bt.Observation(bt.Gaussian(0.1))},
    )


TIMES = np.linspace(0.0, 40.0, 5)
SWUNG = telemetry_of({"time": TIMES, "position": np.cos(TIMES)})


@pytest.mark.thorough
def test_the_default_tolerances_pass_with_their_figures() -> None:
    audit, gate = judged(spring(), SWUNG, None)
    assert gate.passed
    assert set(audit) == {"draws", "tighter", "failed", "largest_difference", "pareto_k"}
    assert (audit["draws"], audit["tighter"], audit["failed"]) == (NUM_AUDITED, TIGHTER, 0)
    assert 0.0 < audit["largest_difference"] < 1e-2
    assert (gate.value, gate.limit) == (audit["largest_difference"], NEGLIGIBLE)
    assert f"{NUM_AUDITED} draws were solved again 100 times more precisely" in gate.sentence
    assert "shapes the posterior" not in gate.sentence


def test_absurd_tolerances_fail_and_the_sentence_says_what_to_lower() -> None:
    audit, gate = judged(spring(), SWUNG, 0.3)
    assert not gate.passed
    assert audit["largest_difference"] > 1.0
    # climbs find the mode of the equations, where this solver is off by so much that no shape can be told
    assert audit["pareto_k"] is None or audit["pareto_k"] > MAX_PARETO_K
    assert gate.severity == "fail"
    assert "the error of the solver shapes the posterior. Lower `rtol` and `atol` of `bt.Solver`" in gate.sentence


def test_an_error_that_is_the_same_at_a_hundredth_of_the_tolerance_is_seen() -> None:
    """From pelt to pelt one step passes at 0.3 as at 0.003: only what is precise tells how wrong it is."""
    density = bound_density(dataclasses.replace(lynx_hare(), solver=bt.Solver("tsit5", rtol=0.3, atol=0.3)), pelts())
    z = np.asarray(density.unconstrain(LYNX_HARE_VALUES)) + 0.05 * np.random.default_rng(0).standard_normal((1, 20, 8))
    drawn = Draws(z, {"lp": evaluate(density, z[0])[None]}, {})
    found = audit_tolerance(density, drawn, Progress(show=False))
    assert found["largest_difference"] > 0.5
    assert found["tighter"] == pytest.approx(3e5)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_figures_are_those_of_a_second_solve(shift: float) -> None:
    """A constant added to all log densities changes no posterior, and is not counted."""
    rng = np.random.default_rng(0)
    twin = dataclasses.replace(lynx_hare(), solver=bt.Solver(method="tsit5", rtol=1e-2, atol=1e-2))
    density = bound_density(twin, pelts())
    z = np.asarray(density.unconstrain(LYNX_HARE_VALUES)) + 0.02 * rng.standard_normal((2, 10, 8))
    coarse = evaluate(density, z.reshape(20, 8))
    drawn = Draws(z, {"lp": coarse.reshape(2, 10) + shift}, {})
    found = audit_tolerance(density, drawn, Progress(show=False))
    precise = bt.Solver(method="tsit5", rtol=1e-6, atol=1e-6, max_steps=10 * twin.solver.max_steps)
    fine = evaluate(bound_density(dataclasses.replace(twin, solver=precise), pelts()), z.reshape(20, 8))
    change = fine - coarse
    np.testing.assert_allclose(found["largest_difference"], np.abs(change - change.mean()).max(), rtol=1e-9)
    assert found["draws"] == 20
    assert found["failed"] == 0


def test_draws_that_cannot_be_solved_more_precisely_are_counted_and_fail() -> None:
    audit = {"draws": 192, "tighter": 100.0, "failed": 1, "largest_difference": 0.0, "pareto_k": 0.0}
    tree = xr.DataTree()
    tree.attrs = {"tolerance_audit": audit}
    gate = tolerance_gate(tree)
    assert not gate.passed
    assert "1 could not be solved" in gate.sentence
