"""`bayestwin sensitivity` looks at the newest posterior or at the prior alone, and leaves a run that says so."""

import pathlib
import shutil

import numpy as np
import pytest
from tank_model import JOB, MakeModel, Ran, parse_strictly, run_command

import bayestwin as bt

FEW = JOB + "\n[sensitivity]\nnum_samples = 64\n"


def newest(results: pathlib.Path, name: str = "tank") -> pathlib.Path:
    return max((path for path in (results / name).iterdir() if (path / "sensitivity.nc").is_file()), key=str)


@pytest.mark.thorough
def test_with_a_run_it_tells_of_its_posterior(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.results, tmp_path / "results")
    code, out, err = run_command("sensitivity", ran.model, "--results", tmp_path / "results")
    assert (code, err) == (0, "")
    assert "rate" in out
    assert "data decide" in out
    assert "bt.backtest" in out
    found = bt.load(newest(tmp_path / "results") / "sensitivity.nc")
    assert set(found.children) == {"sobol", "local", "power_scaling", "influence"}
    assert found.attrs["twin"] == "tank"
    # the run that it made is none to predict with: the posterior stays that of the calibration
    assert run_command("coverage", ran.model, "--results", tmp_path / "results")[0] == 0
    earlier = bt.load(ran.runs[0] / "posterior.nc")
    assert found.attrs["posterior_telemetry_sha256"] == earlier.attrs["telemetry_sha256"]
    assert found["influence"].sizes["point"] == earlier["log_likelihood"].sizes["time"]


@pytest.mark.thorough
def test_without_a_run_it_tells_of_the_prior(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    model, results = make_model(job=FEW), tmp_path / "results"
    code, out, err = run_command("sensitivity", model, "--results", results, "--json")
    assert (code, err) == (0, "")
    said = parse_strictly(out)
    assert (said["command"], said["status"], said["options"]["run"]) == ("sensitivity", "finished", None)
    # it has one quantity, which makes all of the variance
    first, lower, upper = said["summary"]["sobol"]["level"]["rate"]["first"]
    assert first == pytest.approx(1.0, abs=0.15)
    assert lower <= first <= upper
    found = bt.load(newest(results) / "sensitivity.nc")
    assert set(found.children) == {"sobol", "local"}
    assert found["sobol"].attrs["num_rows"] == 64
    assert np.isnan(found["sobol"]["sobol"].sel(time=0.0)).all()  # the start is known


def test_the_posterior_as_a_distribution_needs_a_posterior(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    model, results = make_model(job=FEW), tmp_path / "results"
    code, _, err = run_command("sensitivity", model, "--results", results, "--distribution", "posterior")
    assert code == 2
    assert "no posterior" in err


def test_a_run_that_is_not_there_is_refused(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    code, _, err = run_command("sensitivity", make_model(), "--results", tmp_path / "results", "--run", "20200101")
    assert code == 2
    assert "20200101" in err
    assert not (tmp_path / "results").exists()
