"""Two runs of the tank under different seeds, which many tests look at."""

import pathlib
import shutil
from collections.abc import Callable

import pytest
from tank_model import Runs, run_command, write_model


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
