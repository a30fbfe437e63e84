"""The solver is chosen by what it takes to solve draws of the twin's quantities."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from twins import ROBERTSON_RATES, decay, lynx_hare, robertson, telemetry_of

import bayestwin as bt
from bayestwin.dynamics.choice import SolverTrial, choose_solver, judge
from bayestwin.dynamics.grid import Grid, build_grid

YEARS = np.arange(21.0)
REACTION_TIMES = np.concatenate([[0.0], np.geomspace(4e-5, 4e4, 12)])


def grid_of(twin: bt.Twin, times: np.ndarray) -> Grid:
    return build_grid(twin, times, times, {})


def prior_draws(twin: bt.Twin, num: int) -> dict[str, np.ndarray]:
    keys = jax.random.split(jax.random.key(0), len(twin.sites()))
    return {s.name: np.asarray(s.prior.sample(k, (num,))) for s, k in zip(twin.sites(), keys, strict=True)}


def trial(num: int, num_steps: int, num_failed: int = 0) -> SolverTrial:
    return SolverTrial(np.arange(num) >= num_failed, np.full(num, num_steps))


@pytest.mark.thorough
def test_an_ordinary_twin_gets_the_explicit_solver_and_the_stiff_one_is_not_tried() -> None:
    twin, choice = choose_solver(lynx_hare(), grid_of(lynx_hare(), YEARS), prior_draws(lynx_hare(), 64))
    assert twin.solver == dataclasses.replace(lynx_hare().solver, method="tsit5")
    assert choice.method == "tsit5"
    assert choice.reason.startswith("explicit: 64 of 64 draws solved in at most ")
    assert not any(name.startswith("stiff") for name in choice.evidence)
    assert json.loads(json.dumps(choice.evidence)) == choice.evidence


def test_a_stiff_twin_gets_the_stiff_solver() -> None:
    twin, choice = choose_solver(robertson(), grid_of(robertson(), REACTION_TIMES), prior_draws(robertson(), 16))
    assert twin.solver.method == choice.method == "rodas5p"
    assert choice.reason.startswith("stiff: it solves more of the draws (the explicit solver: none of 16")
    assert choice.evidence["stiff_solved"] == 16
    assert json.loads(json.dumps(choice.evidence)) == choice.evidence


def test_a_twin_that_the_explicit_solver_solves_with_much_more_work_gets_the_stiff_one() -> None:
    slowing = lambda t, x, p, u: {"level": -p.rate * x.level / (1.0 + 1e-6 * x.level**2)}  # noqa: E731
    twin = decay(vector_field=slowing, solver=bt.Solver())
    draws = {"rate": np.full(4, 900.0), "level_initial": np.ones(4)}
    chosen, choice = choose_solver(twin, grid_of(twin, np.array([0.0, 1.0, 2.0, 3.0])), draws)
    assert chosen.solver.method == "rodas5p"
    assert choice.reason.startswith("stiff: less work")
    assert choice.evidence["explicit_solved"] == choice.evidence["stiff_solved"] == 4


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_a_method_that_the_twin_names_is_kept(method: str) -> None:
    twin = robertson(solver=bt.Solver(method))
    found, choice = choose_solver(twin, grid_of(twin, REACTION_TIMES), prior_draws(twin, 4))
    assert found is twin
    assert (choice.method, choice.evidence) == (method, {})


@pytest.mark.parametrize(
    ("explicit", "stiff", "method"),
    [
        (trial(40, 1000), trial(40, 400), "tsit5"),
        (trial(40, 1000), trial(40, 99), "rodas5p"),
        (trial(40, 1000), trial(40, 101), "tsit5"),
        (trial(40, 300, num_failed=3), trial(40, 300), "rodas5p"),
        (trial(40, 300, num_failed=2), trial(40, 300), "tsit5"),
        (trial(40, 9000), trial(40, 90, num_failed=3), "tsit5"),
        (trial(40, 9000, num_failed=40), trial(40, 90, num_failed=40), "tsit5"),
    ],
)
def test_failures_decide_and_then_work_and_what_is_nearly_equal_is_explicit(
    explicit: SolverTrial, stiff: SolverTrial, method: str
) -> None:
    assert judge(explicit, stiff, ratio=5.0).method == method


def test_a_twin_without_unknowns_is_probed_as_it_is() -> None:
    known = robertson(
        parameters={name: bt.Parameter(rate) for name, rate in ROBERTSON_RATES.items()},
        observations={"a": bt.Observation(bt.Gaussian(0.1))},
    )
    assert choose_solver(known, grid_of(known, REACTION_TIMES), {})[1].method == "rodas5p"


@pytest.mark.thorough
def test_a_stiff_twin_is_simulated_without_a_word_about_solvers() -> None:
    values = ROBERTSON_RATES | {"a_scale": 0.01, "c_scale": 0.01}
    found = bt.simulate(robertson(), values, telemetry_of({"time": REACTION_TIMES}), seed=0)
    total = sum(found[f"{name}_state"].values for name in "abc")
    np.testing.assert_allclose(total, 1.0, atol=1e-9)
    assert 0.0 < float(found["a_state"][-1]) < 0.1
