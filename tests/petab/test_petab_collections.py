"""PEtab's own test suite, and published problems, where a variable says where they are."""

import os
import pathlib

import pytest
import yaml
from shared_data import SHARED, needs

import bayestwin as bt
from bayestwin.petab.problem import log_likelihood

SUITE = os.environ.get("PETAB_TEST_SUITE", "")
PUBLISHED = {
    "Boehm_JProteomeRes2014": -138.221998,
    "Crauste_CellSystems2017": -190.963978,
    "Bruno_JExpBot2016": 46.688181,
    "Elowitz_Nature2000": 63.202750,
}
"""Log likelihoods at the nominal values, re-solved by SciPy to 1e-12."""


@pytest.mark.slow
@pytest.mark.skipif(not SUITE, reason="PETAB_TEST_SUITE is not the folder `cases/v1.0.0/sbml` of PEtab's test suite")
@pytest.mark.parametrize("number", range(1, 21))
def test_a_case_of_the_suite(number: int) -> None:
    case = pathlib.Path(SUITE) / f"{number:04}"
    solution = yaml.safe_load((case / f"_{number:04}_solution.yaml").read_text())
    problem = bt.read_petab(case / f"_{number:04}.yaml")
    found = log_likelihood(problem.twin, problem.experiments, problem.nominal)
    assert found == pytest.approx(solution["llh"], abs=solution["tol_llh"])


@pytest.mark.slow
@needs("petab")
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_problem(name: str) -> None:
    problem = bt.read_petab(SHARED / "petab" / name / f"{name}.yaml")
    found = log_likelihood(problem.twin, problem.experiments, problem.nominal)
    assert found == pytest.approx(PUBLISHED[name], abs=1e-3)
