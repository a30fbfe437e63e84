"""A problem becomes a model folder whose twin is the one that `read_petab` returns, and which calibrates."""

import json
import pathlib

import numpy as np
import pytest
from problems import PARAMETERS, exchange, measured, write_problem
from tank_model import run_command

import bayestwin as bt
from bayestwin.model.describe import fingerprint
from bayestwin.petab.problem import import_petab, log_likelihood
from bayestwin.project.model import load_model, load_telemetry


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    rng = np.random.default_rng(0)
    rows = [
        measured(
            "y", t, 1.0 + 0.4 * np.exp(-0.9 * t) + 0.05 * rng.standard_normal(), c, noiseParameters=0.05 + 0.01 * t
        )
        for c in ("c0", "c1")
        for t in (0.0, 0.5, 1.0, 1.0, 2.0, 4.0)
    ]
    return write_problem(
        tmp_path_factory.mktemp("import") / "problem",
        exchange(),
        conditions=[{"conditionId": "c0", "k1": 0.3}, {"conditionId": "c1", "k1": 0.4}],
        observables=[{"observableId": "y", "observableFormula": "A", "noiseFormula": "noiseParameter1_y"}],
        measurements=rows,
        parameters=PARAMETERS,
    )


@pytest.fixture(scope="module")
def folder(problem: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    code, out, err = run_command("import", "petab", problem, tmp_path_factory.mktemp("models") / "exchange")
    assert (code, err) == (0, "")
    return pathlib.Path(out.split(" holds ")[0])


def test_the_folder_has_the_same_twin_and_the_same_likelihood(problem: pathlib.Path, folder: pathlib.Path) -> None:
    read = bt.read_petab(problem)
    model = load_model(folder)
    split = load_telemetry(model)
    assert fingerprint(model.twin) == fingerprint(read.twin)
    told = json.loads((folder / "data" / "petab.json").read_text())
    assert told["nominal"] == read.nominal
    assert set(told["files"]) == {one.name for one in problem.parent.iterdir()}
    ours = log_likelihood(model.twin, split.calibration, read.nominal)
    assert ours == told["log_likelihood"] == log_likelihood(read.twin, read.experiments, read.nominal)
    assert f"at the nominal values is {ours:.6f}" in (folder / "card.md").read_text()
    assert "Their bounds, which are for optimisers, are taken as a uniform prior" in (folder / "card.md").read_text()


def test_nothing_is_written_over(problem: pathlib.Path, folder: pathlib.Path) -> None:
    code, out, err = run_command("import", "petab", problem, folder)
    assert (code, out) == (2, "")
    assert "There is something under" in err
    code, out, err = run_command("import", "fmu", problem, folder.parent / "other")
    assert (code, out) == (2, "")
    assert "no import of `fmu`" in err


def test_it_calibrates_as_it_is(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, out, err = run_command("calibrate", folder, "--results", tmp_path / "results")
    assert code == 0, out + err


def test_a_problem_in_one_condition_needs_no_fleet(problem: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = write_problem(
        tmp_path / "problem",
        exchange(),
        observables=[{"observableId": "y", "observableFormula": "A", "noiseFormula": "0.1"}],
        measurements=[measured("y", 1.0, 1.1)],
    )
    made = import_petab(path, tmp_path / "single")
    model = load_model(made.folder)
    assert model.job.fleet is None
    assert log_likelihood(model.twin, {"c0": load_telemetry(model).calibration}, bt.read_petab(path).nominal) == (
        made.log_likelihood
    )
