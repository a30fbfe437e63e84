"""A run that was killed, or stopped by Ctrl-C, is gone on with to the bits of one that nobody disturbed."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from tank_model import JOB, TWIN, run_command, write_model

import bayestwin as bt

LONG = JOB.replace("num_samples = 75", "num_samples = 300")  # in calls of at most 100

# The command line, with a checkpoint after each call of the sampler; it waits once it has left one in a given phase.
WAITING = """
import sys, time
from bayestwin.results.checkpoint import FileCheckpoint
from bayestwin.cli import app

leave, wanted, waited = FileCheckpoint.leave, sys.argv.pop(1), []

def leave_and_wait(self, state, draws):
    leave(self, state, draws)
    if not waited and wanted == ("warm-up" if draws is None else "draws"):
        waited.append(wanted)
        print("waiting", flush=True)
        time.sleep(600)

FileCheckpoint.due = lambda self: True
FileCheckpoint.leave = leave_and_wait
app()
"""


def strike(folder: pathlib.Path, phase: str, blow: signal.Signals) -> tuple[pathlib.Path, int, str]:
    """Calibrate the tank, and send a signal once a checkpoint of a phase is left: the run, exit code, errors."""
    command = [sys.executable, "-u", "-c", WAITING, phase, "calibrate", str(folder / "models" / "tank")]
    command += ["--results", str(folder / "results")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            (run,) = (folder / "results" / "tank").iterdir()
            opened = bt.load(run / "checkpoint.nc")  # while the process lives
            assert ("posterior" in opened.children) == (phase == "draws")
            process.send_signal(blow)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    return run, process.returncode, err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a run that nobody disturbed."""
    root = tmp_path_factory.mktemp("whole")
    code, _, err = run_command(
        "calibrate", write_model(root / "models" / "tank", job=LONG), "--results", root / "results"
    )
    assert code == 0, err
    (run,) = (root / "results" / "tank").iterdir()
    return run


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the tank's model and a run of it that was killed while it drew: change nothing in it."""
    root = tmp_path_factory.mktemp("killed")
    write_model(root / "models" / "tank", job=LONG)
    _, code, _ = strike(root, "draws", signal.SIGKILL)
    assert code == -signal.SIGKILL
    return root


@pytest.fixture
def left(killed: pathlib.Path, tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A copy of it to do with as a test likes: the model and the run."""
    shutil.copytree(killed, tmp_path / "copy")
    (run,) = (tmp_path / "copy" / "results" / "tank").iterdir()
    return tmp_path / "copy" / "models" / "tank", run


def record_of(run: pathlib.Path) -> dict:
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


def check_resumes(model: pathlib.Path | None, run: pathlib.Path, whole: pathlib.Path, times: int = 1) -> None:
    code, _, err = run_command("resume", run, *(() if model is None else ("--model", model)))
    assert code == 0, err
    for name in ("posterior.nc", "predictions.nc"):
        ours, theirs = bt.load(run / name), bt.load(whole / name)
        assert ours.attrs == theirs.attrs
        assert ours.identical(theirs)
        for node in theirs.subtree:  # to the bit, signs of zeros and all
            for variable, array in node.data_vars.items():
                assert ours[node.path][variable].values.tobytes() == array.values.tobytes(), (node.path, variable)
    record = record_of(run)
    assert (record["status"], record["resumed"]) == ("finished", times)
    assert "error" not in record
    assert not (run / "checkpoint.nc").exists()
    results = {name for name in record["outputs"] if not name.startswith("inputs/")}
    assert results == {"posterior.nc", "predictions.nc", "report.html"}


@pytest.mark.thorough
def test_killed_while_it_draws(left: tuple[pathlib.Path, pathlib.Path], whole: pathlib.Path) -> None:
    model, run = left
    assert record_of(run)["status"] == "running"
    assert not (run / "posterior.nc").exists()
    begun = bt.load(run / "checkpoint.nc")
    made = begun["posterior"].sizes["draw"]
    assert 0 < made < 300
    assert begun.attrs["interrupted"] is True
    np.testing.assert_array_equal(begun["posterior/rate"], bt.load(whole / "posterior.nc")["posterior/rate"][:, :made])
    check_resumes(model, run, whole)


@pytest.mark.parametrize(("phase", "resumable"), [("warm-up", "run.json"), ("draws", "posterior.nc")])
def test_stopped_by_ctrl_c(tmp_path: pathlib.Path, whole: pathlib.Path, phase: str, resumable: str) -> None:
    model = write_model(tmp_path / "models" / "tank", job=LONG)
    run, code, err = strike(tmp_path, phase, signal.SIGINT)
    shutil.rmtree(model)  # the run kept what it needs
    assert code == 130, err
    assert "Traceback" not in err
    assert record_of(run)["status"] == "interrupted"
    assert {"checkpoint.nc", resumable} <= {path.name for path in run.iterdir()}
    if phase == "warm-up":
        assert f"Go on with it by `bayestwin resume {run}`" in err
    check_resumes(None, run, whole)


def refused(run: pathlib.Path, model: pathlib.Path) -> str:
    """The error with which a run is not resumed."""
    code, out, err = run_command("resume", run, "--model", model)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    for part in ("\n  Expected: ", "\n  Received: "):
        assert part in err
    return err


def test_another_twin_or_other_telemetry_is_refused(left: tuple[pathlib.Path, pathlib.Path]) -> None:
    model, run = left
    before = (run / "run.json").read_bytes()
    (model / "twin.py").write_text(TWIN.replace("dist.LogNormal(0.0, 0.5)", "dist.LogNormal(0.1, 0.5)"))
    assert "twin_sha256" in refused(run, model)
    (model / "twin.py").write_text(TWIN)
    data = model / "data" / "tank.csv"
    data.write_text(data.read_text().replace("\n0,", "\n0,1", 1))
    message = refused(run, model)
    assert "telemetry_sha256" in message
    assert "twin_sha256" not in message
    assert (run / "run.json").read_bytes() == before


def test_a_checkpoint_of_another_seed_or_version_is_refused_by_name(left: tuple[pathlib.Path, pathlib.Path]) -> None:
    model, run = left
    record = record_of(run)
    other = record | {"job": record["job"] | {"calibrate": record["job"]["calibrate"] | {"seed": 41}}}
    (run / "run.json").write_text(json.dumps(other))
    message = refused(run, model)
    assert "belongs to another calibration" in message
    assert "Expected: seed 41\n" in message
    (run / "run.json").write_text(json.dumps(record))
    tree = bt.load(run / "checkpoint.nc")
    tree.attrs["checkpoint_of"] |= {"jax": "0.0.1"}
    bt.save(tree, run / "checkpoint.nc")
    assert "Received: jax 0.0.1\n" in refused(run, model)
    assert (run / "checkpoint.nc").is_file()


def test_a_damaged_checkpoint_is_refused_and_without_it_the_run_begins_anew(
    left: tuple[pathlib.Path, pathlib.Path], whole: pathlib.Path
) -> None:
    model, run = left
    content = bytearray((run / "checkpoint.nc").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "checkpoint.nc").write_bytes(content)
    assert f"{run / 'checkpoint.nc'}" in refused(run, model)
    assert record_of(run)["status"] == "failed"
    (run / "checkpoint.nc").unlink()
    check_resumes(model, run, whole, times=2)


def test_what_is_no_run_to_go_on_with_is_refused(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = whole.parents[2] / "models" / "tank"
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert "a run with the status “finished”" in refused(whole, model)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before
    assert "no run: there is no record in it" in refused(tmp_path, model)
    assert "no run: there is no record in it" in refused(tmp_path / "nowhere", model)
