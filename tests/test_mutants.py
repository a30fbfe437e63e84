"""No planted bug lives: neither those that tests let live before, nor any small change of the interval score."""

import ast
import importlib
import pathlib
import sys
from types import ModuleType
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow

ASSESS, DENSITY, DYNAMICS = "bayestwin/assess/", "bayestwin/density/", "bayestwin/dynamics/"
INSIDE = "(low <= values) & (values <= high), axis"
NOISE_KEY = "own_key, observed = jax.random.fold_in(key, number),"
R_HAT = "found = {name: _computed(chains, name, 2, rhat)"

PLANTED = {
    "observations on an end of an interval lie outside": (
        ASSESS + "coverage.py",
        INSIDE,
        INSIDE.replace("<=", "<"),
        "tests/assess/test_coverage_counts.py",
    ),
    "all observations of a draw have one noise": (
        DENSITY + "density.py",
        NOISE_KEY,
        "own_key, observed = key,",
        "tests/density/test_density_values.py",
    ),
    "all draws have one noise": (
        DENSITY + "predictor.py",
        "(functools.partial(jax.random.fold_in, key))(rows)",
        "(functools.partial(jax.random.fold_in, key))(0 * rows)",
        "tests/density/test_density_values.py",
    ),
    "R-hat is that of whole chains": (
        ASSESS + "gates.py",
        R_HAT,
        R_HAT.replace("rhat)", "lambda draws: rhat(draws, method='identity'))"),
        "tests/assess/test_gates_faults.py",
    ),
    "R-hat is not that of ranks": (
        ASSESS + "gates.py",
        R_HAT,
        R_HAT.replace("rhat)", "lambda draws: rhat(draws, method='split'))"),
        "tests/assess/test_gates_faults.py",
    ),
    "what was never observed has no draws": (
        ASSESS + "coverage.py",
        "float(worst[draws.FAILED]) > 0",
        "float(worst[draws.FAILED]) >= 0",
        "tests/assess/test_coverage_counts.py",
    ),
    "intervals that hold all are infinitely too wide": (
        ASSESS + "coverage.py",
        "most = 1 - 1 / (2 *",
        "most = 1 - 0 / (2 *",
        "tests/assess/test_width.py",
    ),
    "what is noticed of too few is not known": (
        ASSESS + "coverage.py",
        "(lower.to_numpy() > 0) & (own > 0)",
        "(lower.to_numpy() > 0) | (own > 0)",
        "tests/assess/test_coverage_told.py",
    ),
    "neighbours that are alike are worth as much as others": (
        ASSESS + "coverage.py",
        "float((1 - correlation) / (1 + correlation))",
        "float((1 - correlation) / (1 - correlation))",
        "tests/assess/test_dependence.py",
    ),
    "ranks on an end of their band lie outside": (
        ASSESS + "evidence.py",
        'dataset["ecdf"] >= dataset["band_lower"]',
        'dataset["ecdf"] > dataset["band_lower"]',
        "tests/assess/test_evidence.py",
    ),
    "of one inside none is possible": (
        ASSESS + "evidence.py",
        "lower = np.where(inside > 0,",
        "lower = np.where(inside > 1,",
        "tests/assess/test_evidence.py",
    ),
    "the energy score is that of all other forecasts": (
        ASSESS + "scores.py",
        "[judged.paths == path for",
        "[judged.paths != path for",
        "tests/assess/test_rules.py",
    ),
    "an input with gaps explains observations": (
        ASSESS + "scores.py",
        "notna().to_numpy().all()",
        "notna().to_numpy().any()",
        "tests/assess/test_baselines.py",
    ),
    "what is left of a record grows with its length": (
        ASSESS + "residuals.py",
        "np.sqrt(np.mean((draws - seen[there]) ** 2, axis=1))",
        "np.sqrt(np.sum((draws - seen[there]) ** 2, axis=1))",
        "tests/assess/test_gates_noise.py",
    ),
    "time jumps back after the end of an experiment": (
        DENSITY + "bind.py",
        "_padded(grid.edges, stops, grid.edges[-1])",
        "_padded(grid.edges, stops, grid.edges[1])",
        "tests/density/test_experiments_density.py",
    ),
    "an input of a short period stops to repeat itself": (
        DYNAMICS + "signals.py",
        "max(end - times[-1], 0.0) / spec.period",
        "max(end - times[-1], 0.0) * spec.period",
        "tests/dynamics/test_starts_and_inputs.py",
    ),
    "a step that a stop cuts short shortens those after it": (
        DYNAMICS + "steppers.py",
        "accepted & last, jnp.maximum(now.step, suggested)",
        "accepted & last, jnp.minimum(now.step, suggested)",
        "tests/dynamics/test_solve_agrees.py",
    ),
}
"""By what it does: the file of a bug, what stands there, what it makes of that, and the tests that notice it."""


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("mutants")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def workshop(mutants: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return mutants.Workshop(tmp_path_factory.mktemp("mutants"))


def test_without_a_bug_the_tests_that_notice_them_pass(mutants: ModuleType, workshop: Any) -> None:
    tests = sorted({test for *_, test in PLANTED.values()})
    code, _, words = workshop.run(*mutants.FAST, *tests, limit=900)
    assert code == 0, words


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_noticed(mutants: ModuleType, workshop: Any, bug: str) -> None:
    path, old, new, test = PLANTED[bug]
    assert workshop.judge(mutants.planted(path, old, new), test).outcome == mutants.KILLED


def test_no_change_of_the_interval_score_lives(mutants: ModuleType, workshop: Any) -> None:
    path = ASSESS + "scores.py"
    found = [one for one in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(one, ast.FunctionDef)]
    rule = next(one for one in found if one.name == "interval_score")
    changes = [one for one in mutants.mutants_of(path) if rule.lineno <= one.line <= (rule.end_lineno or 0)]
    assert len(changes) > 10
    judged = [workshop.judge(one, "tests/assess/test_rules.py") for one in changes]
    assert [one.mutant.diff() for one in judged if one.outcome != mutants.KILLED] == []
