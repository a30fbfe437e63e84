"""A batch that is killed at any moment loses no run that was finished, and the same call again does the rest."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tank_model import telemetry_text, write_model

import bayestwin as bt

KILLS, TASKS, LATEST = 50, 40, 12.0
"""A call takes a few seconds to begin its first tasks, and a task as long again: most moments lie within tasks."""


def command(model: pathlib.Path, results: pathlib.Path) -> list[str]:
    files = str(model.parent / "day-*.csv")
    program = [sys.executable, "-c", "from bayestwin.cli import app; app()"]
    return [*program, "batch", str(model), "--telemetry", files, "--results", str(results), "--json"]


def finished(results: pathlib.Path) -> dict[str, str]:
    """Runs whose record says that they are finished, each with the hash of its posterior, which is whole."""
    found = {}
    for path in results.glob("tank/*/run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))  # the old one or the new one, at any moment
        if record["status"] == "finished":
            posterior = path.parent / "posterior.nc"
            assert bt.load(posterior)["posterior"].sizes["draw"] == 75
            found[path.parent.name] = hashlib.sha256(posterior.read_bytes()).hexdigest()
    return found


@pytest.mark.slow
def test_it_loses_nothing_that_was_finished(tmp_path: pathlib.Path) -> None:
    model, results = write_model(tmp_path / "tank"), tmp_path / "results"
    for number in range(TASKS):
        # another task for its bytes, and quickly compiled since its numbers are the same
        (tmp_path / f"day-{number:02}.csv").write_text(f"# day {number}\n{telemetry_text()}", encoding="utf-8")
    rng = np.random.default_rng(0)
    before: dict[str, str] = {}
    for _ in range(KILLS):
        batch = subprocess.Popen(
            command(model, results), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(0.0, LATEST))
        # all processes at once, as when the machine goes down, or the one that watches over the others
        (os.killpg if rng.random() < 0.5 else os.kill)(batch.pid, signal.SIGKILL)
        batch.wait()
        now = finished(results)
        assert now.items() >= before.items()
        before = now
    done = subprocess.run(command(model, results), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["summary"] == {"finished": TASKS}
    now = finished(results)
    assert now.items() >= before.items()
    assert len(now) == TASKS
