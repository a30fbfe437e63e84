"""The tank's model folder, one run of it that many tests look at, and two under different seeds."""

import pathlib
import shutil
from collections.abc import Callable

import pytest
from tank_model import JOB, SECRET, MakeModel, Ran, Runs, run_command, write_model


@pytest.fixture
def make_model(tmp_path: pathlib.Path) -> MakeModel:
    """Writes the tank's model folder, or a changed one: `make_model(twin=…, job=…)`."""

    def make(name: str = "tank", **parts: str) -> pathlib.Path:
        return write_model(tmp_path / "models" / name, **parts)

    return make


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`bayestwin calibrate` on the tank: calibrated once, with a secret in the environment; change nothing in it."""
    root = tmp_path_factory.mktemp("ran")
    model, results = write_model(root / "models" / "tank"), root / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOY_TOKEN", SECRET)
        patch.setenv("JAX_PLATFORMS_PASSWORD", SECRET)
        code, out, err = run_command("calibrate", model, "--results", results)
    return Ran(code, out, err, model, results)


@pytest.fixture(scope="session")
def calibrated_for_watching(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the tank and a run of it, of draws enough for weights to be trusted; copy it before you watch."""
    root = tmp_path_factory.mktemp("watched")
    model = write_model(root / "models" / "tank", job=JOB.replace("num_samples = 75", "num_samples = 300"))
    code, out, err = run_command("calibrate", model, "--results", root / "results")
    assert code == 0, out + err
    return root


def runs_in(results: pathlib.Path) -> Runs:
    return Runs(results, sorted((results / "tank").iterdir()))


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Calibrated once; change nothing in it."""
    root = tmp_path_factory.mktemp("ledger")
    model, results = write_model(root / "models" / "tank"), root / "results"
    for seed in (0, 1):
        code, out, err = run_command("calibrate", model, "--results", results, "--seed", seed)
        assert code == 0, out + err
    return runs_in(results)


@pytest.fixture
def copied(two_runs: Runs, tmp_path: pathlib.Path) -> Callable[[], Runs]:
    """A copy of the runs that a test may change."""

    def copy() -> Runs:
        shutil.copytree(two_runs.results, tmp_path / "results")
        return runs_in(tmp_path / "results")

    return copy
