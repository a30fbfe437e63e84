"""The run of every verb that computes is made again to the bit, with its options, files and the runs it looked at."""

import functools
import json
import pathlib
import shutil
from collections.abc import Callable

import pytest
from tank_model import JOB, TWIN, run_command, write_model

from bayestwin.project.kit import export, unpack
from bayestwin.project.record import read_record
from bayestwin.project.reproduce import REMAKE, reproduce

QUICK = """
[validate]
origins = 2
horizon = 2.0
method = "laplace"

[sbc]
num_simulations = 20
num_draws = 15

[sensitivity]
num_samples = 64
"""

NOISE = "Gaussian(dist.HalfNormal(0.2))"

FUTURE = "hour,gauge,pump\n6.5,2.0,3.0\n7.0,2.0,3.0\n8.0,2.5,3.0\n"


CASES = ("calibrate", "check", "validate", "backtest", "sbc", "identify", "compare", "sensitivity", "design", "update")
SLOW = ("backtest", "sbc", "identify", "compare", "sensitivity", "design")

type RunOf = Callable[[str], pathlib.Path]


def command_of(case: str, root: pathlib.Path, run: str) -> list[str]:
    """A verb with options whose loss would be seen in its results."""
    future = str(root / "future.csv")
    return {
        "calibrate": ["calibrate"],
        "check": ["check", "--held-out", future],
        "validate": ["validate", "--run", run, "--no-backtest"],
        "backtest": ["validate", "--run", run],
        "sbc": ["sbc", "--seed", "9"],
        "identify": ["identify", "--profile", "rate", "--planned", future, "--run", run],
        "compare": ["compare", "--off", "rate=0.7"],
        "sensitivity": ["sensitivity", "--run", run],
        "update": ["update", "--telemetry", future, "--max-k", "-1", "--run", run],
        "design": ["design", "--planned", future, "--criterion", "D", "--run", run],
    }[case]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """Makes the run of a case, once, and lays what it was made from elsewhere."""
    root = tmp_path_factory.mktemp("verbs")
    results = root / "results"

    @functools.cache
    def make(case: str) -> pathlib.Path:
        before = set((results / "tank").iterdir()) if case != "calibrate" else set()
        command = command_of(case, root, "" if case == "calibrate" else make("calibrate").name)
        model = write_model(root / "models" / "tank", twin=TWIN.replace("Gaussian(0.1)", NOISE), job=JOB + QUICK)
        (root / "future.csv").write_text(FUTURE, encoding="utf-8")
        code, out, err = run_command(command[0], model, "--results", results, *command[1:])
        assert code in (0, 1), out + err
        shutil.rmtree(root / "models")
        (root / "future.csv").unlink()
        (run,) = set((results / "tank").iterdir()) - before
        return run

    make("calibrate")
    return make


def test_there_is_a_case_for_each_verb(tmp_path: pathlib.Path) -> None:
    assert {command_of(case, tmp_path, "")[0] for case in CASES} == set(REMAKE)


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in CASES])
def test_here_it_is_the_same_to_the_bit(run_of: RunOf, case: str) -> None:
    again = reproduce(run_of(case))
    assert again.files
    assert {one.level for one in again.files} == {"bits"}, [one.sentence for one in again.files]
    assert again.holds


@pytest.mark.thorough
def test_a_kit_holds_the_runs_that_were_looked_at(run_of: RunOf, tmp_path: pathlib.Path) -> None:
    run = run_of("validate")
    kit = unpack(export(run.parents[1], run, tmp_path / "kit.zip"), tmp_path / "kit")
    assert run_of("calibrate").name in read_record(run)["uses"]
    again = reproduce(kit / "run")
    assert {one.file for one in again.files} == {"validation.nc"}
    assert again.holds


@pytest.mark.parametrize("fault", ["changed", "lost"])
def test_without_the_run_that_it_looked_at_it_says_so(run_of: RunOf, tmp_path: pathlib.Path, fault: str) -> None:
    root = run_of("validate").parent
    shutil.copytree(root, tmp_path / "tank")
    earlier = tmp_path / "tank" / run_of("calibrate").name
    if fault == "lost":
        shutil.rmtree(earlier)
    else:
        (earlier / "posterior.nc").write_bytes(b"something else")
    code, _, err = run_command("reproduce", tmp_path / "tank" / run_of("validate").name, "--here")
    assert code == 2
    assert f"it looked at run `{earlier.name}`, which is not as it was" in err


def test_a_result_that_is_not_made_again_does_not_pass(run_of: RunOf, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "tank" / "run"
    shutil.copytree(run_of("check"), run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["outputs"]["more.nc"] = "0" * 64
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    again = reproduce(run)
    assert [one.level for one in again.files] == ["bits", "different"]
    assert not again.holds
