"""A model folder with an FMU is calibrated by the command line; its run keeps the FMU, and is made from it again."""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import typer.testing
from fmus import build_fmu
from test_solve_fmu import solved

from bayestwin.cli import app

TWIN = """\
import pathlib

import numpyro.distributions as dist

import bayestwin as bt

fmu = bt.Fmu(
    pathlib.Path(__file__).with_name("van_der_pol.fmu"),
    parameters={"mu": bt.Parameter(dist.LogNormal(0.0, 1.0))},
    outputs=["x0"],
)
twin = fmu.twin({"x0": bt.Observation(bt.Gaussian(0.1))}, name="oscillator")
"""

JOB = """\
[telemetry]
file = "data/telemetry.csv"
time = "time"
units = { x0 = "m" }

[split]
hold_out_from = 7.6

[calibrate]
num_samples = 200
num_chains = 2
"""


def command(*words: object) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder `oscillator` with twin, job, FMU and telemetry."""
    made = tmp_path_factory.mktemp("models") / "oscillator"
    (made / "data").mkdir(parents=True)
    build_fmu(made / "van_der_pol.fmu")
    (made / "twin.py").write_text(TWIN, encoding="utf-8")
    (made / "job.toml").write_text(JOB, encoding="utf-8")
    times = np.linspace(0.0, 10.0, 51)
    x0 = solved(1.3, times=times)[0] + 0.1 * np.random.default_rng(0).standard_normal(51)
    pd.DataFrame({"time": times, "x0": x0}).to_csv(made / "data" / "telemetry.csv", index=False)
    return made


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> pathlib.Path:
    """The folder of its run."""
    done = command("calibrate", folder, "--results", folder.parent / "results", "--json")
    assert done.exit_code == 0, done.output
    return next((folder.parent / "results" / "oscillator").iterdir())


@pytest.mark.thorough
def test_a_run_keeps_the_fmu_and_says_what_it_did(folder: pathlib.Path, run: pathlib.Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (run / "inputs" / "van_der_pol.fmu").read_bytes() == (folder / "van_der_pol.fmu").read_bytes()
    assert "van_der_pol.fmu" in record["inputs"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "FMU Van der Pol, FMI 2.0" in page
    assert "The model solved itself" in page
    assert "none failed" in page


@pytest.mark.thorough
def test_a_run_is_made_again_from_the_fmu_that_it_kept(folder: pathlib.Path, run: pathlib.Path) -> None:
    moved = folder.parent / "moved.fmu"
    shutil.move(folder / "van_der_pol.fmu", moved)
    try:
        done = command("reproduce", run, "--results", folder.parent / "results", "--here")
        assert done.exit_code == 0, done.output
        assert "same" in done.output
    finally:
        shutil.move(moved, folder / "van_der_pol.fmu")


@pytest.mark.thorough
def test_a_forecast_and_its_coverage_follow(folder: pathlib.Path, run: pathlib.Path) -> None:
    for verb in ("predict", "validate"):
        done = command(verb, folder, "--results", folder.parent / "results")
        assert done.exit_code in (0, 1), done.output
        assert "\nerror: " not in f"\n{done.output}"


@pytest.mark.thorough
def test_an_fmu_that_has_changed_since_is_another_twin(folder: pathlib.Path, run: pathlib.Path) -> None:
    kept = (folder / "van_der_pol.fmu").read_bytes()
    build_fmu(folder / "van_der_pol.fmu", more={"resources/table.txt": "2"})
    try:
        done = command("predict", folder, "--results", folder.parent / "results", "--run", run.name)
        assert done.exit_code == 2, done.output
        assert "does not belong to twin `oscillator` as it is now" in done.output
    finally:
        (folder / "van_der_pol.fmu").write_bytes(kept)
