"""A batch does every task, each in a process of its own, and loses no more than what dies."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import xarray as xr
from readable import faults
from tank_model import TWIN, parse_strictly, run_command, telemetry_text, write_model

from bayestwin.project.batch import Limits, Task, Worker, attempt, carry_out, plan, run_of, side_by_side, summary
from bayestwin.results.store import load

# in the process of a task alone: here the twin must be readable
DEATHS = {
    "crashed": "os.kill(os.getpid(), 9)",
    "timed out": "time.sleep(600)",
    "out of memory": "hog = bytearray(3 * 2**30); time.sleep(600)",
}


def dying(how: str) -> str:
    words = f'import os, sys, time\nif "worker" in sys.argv[0]:\n    {DEATHS[how]}\n'
    return TWIN.replace("import numpyro", f"{words}\nimport numpyro", 1)


@pytest.fixture
def two_files(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Telemetry of two days: the second has fewer rows."""
    files = [tmp_path / "monday.csv", tmp_path / "tuesday.csv"]
    for file, num in zip(files, (41, 36), strict=True):
        file.write_text(telemetry_text(num), encoding="utf-8")
    return files


@pytest.mark.thorough
def test_one_job_on_many_files_and_what_cannot_be_read_is_said(
    tmp_path: pathlib.Path, two_files: list[pathlib.Path]
) -> None:
    model, results = write_model(tmp_path / "tank"), tmp_path / "results"
    (tmp_path / "wednesday.csv").write_text("hour,gauge\n0,1\n", encoding="utf-8")
    call = ["batch", model, "--telemetry", tmp_path / "*day.csv", "--results", results, "--json"]
    code, out, err = run_command(*call)
    assert (code, err) == (1, "")
    found = parse_strictly(out)
    assert found["summary"] == {"finished": 2, "bad input": 1}
    assert "wednesday.csv" in found["refused"][0]["name"]
    assert "`pump`" in found["refused"][0]["words"]
    runs = [pathlib.Path(one["run"]) for one in found["tasks"]]
    for run, file in zip(runs, two_files, strict=True):
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        assert record["status"] == "finished"
        assert record["job"]["telemetry"]["file"] == str(file)
    page = pathlib.Path(found["page"]).read_text(encoding="utf-8")
    assert all(f"tank/{run.name}/report.html" in page for run in runs)
    assert faults(page) == []
    # the same call again has nothing left to do
    again = parse_strictly(run_command(*call)[1])
    assert [one["attempts"] for one in again["tasks"]] == [0, 0]
    assert [one["run"] for one in again["tasks"]] == [str(run) for run in runs]


@pytest.mark.thorough
def test_one_process_does_one_task_after_the_other(
    tmp_path: pathlib.Path, two_files: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, _ = plan([write_model(tmp_path / "tank")], two_files, tmp_path / "results")
    begun: list[Worker] = []

    class Counted(Worker):
        def __init__(self, log: pathlib.Path) -> None:
            super().__init__(log)
            begun.append(self)

    monkeypatch.setattr("bayestwin.project.batch.Worker", Counted)
    outcomes = carry_out(tasks, Limits(), workers=1)
    assert summary(outcomes) == {"finished": 2}
    (worker,) = begun
    assert worker.process.poll() == 0
    # each is what it is in a process of its own, to the bit
    alone = attempt(tasks[1]._replace(results=str(tmp_path / "alone")), Limits())
    found = [load(pathlib.Path(run) / "posterior.nc")["posterior"] for run in (outcomes[1].run, alone.run)]
    xr.testing.assert_identical(found[0].to_dataset(), found[1].to_dataset())


@pytest.mark.thorough
@pytest.mark.parametrize("how", [pytest.param(h, marks=[pytest.mark.slow] * (h != "crashed")) for h in sorted(DEATHS)])
def test_a_process_that_dies_hangs_or_grows_loses_its_own_task_alone(how: str, tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank", twin=dying(how))
    tasks, _ = plan([model], [], tmp_path / "results")
    limits = Limits(timeout=12.0 if how == "timed out" else 100.0, memory=2 * 2**30, retries=1)
    (outcome,) = carry_out(tasks, limits)
    assert (outcome.status, outcome.attempts, outcome.run) == (how, 2, "")
    assert summary([outcome]) == {how: 1}
    assert outcome.words


def test_a_task_whose_process_was_killed_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank")
    (task,), _ = plan([model], [], tmp_path / "results")
    command = [sys.executable, "-m", "bayestwin.project.worker", json.dumps(task._asdict()), str(os.getpid())]
    process = subprocess.Popen(command)
    while run_of(task) is None or not (run_of(task) / "run.json").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = run_of(task)
    outcome = attempt(task, Limits())
    assert (outcome.status, pathlib.Path(outcome.run)) == ("finished", begun)
    assert json.loads((begun / "run.json").read_text(encoding="utf-8"))["resumed"] == 1


def test_a_worker_ends_with_its_parent(tmp_path: pathlib.Path) -> None:
    task = Task("tank", str(tmp_path), "job.toml", "", str(tmp_path), "0" * 8)
    command = [sys.executable, "-m", "bayestwin.project.worker", json.dumps(task._asdict()), "1"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_the_same_task_twice_is_refused(tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank")
    code, out, err = run_command("batch", model, model / "job.toml", "--results", tmp_path / "results")
    assert (code, out) == (2, "")
    assert "the same task twice" in err


def test_quantities_of_tasks_are_drawn_side_by_side() -> None:
    def figures(mean: float | None, unit: str = "1/h") -> dict:
        ends = {"lower": None, "upper": None} if mean is None else {"lower": mean - 0.1, "upper": mean + 0.1}
        return {"mean": mean, "sd": 0.05, "unit": unit} | ends

    tasks = {
        "first": {"rate": figures(1.0), "own": figures(2.0), "mixed": figures(1.0, "m")},
        "<b>second": {"rate": figures(1.5), "mixed": figures(1.0, "ft")},
        "third": {"rate": figures(None)},
        "none": {},
    }
    drawn = side_by_side(tasks)
    assert "rate (1/h): first 0.900 to 1.10, &lt;b&gt;second 1.40 to 1.60" in drawn.svg
    assert "third NaN to NaN" in drawn.svg
    assert "own" not in drawn.svg
    assert "mixed" not in drawn.svg
    assert ">none<" not in drawn.svg
    assert side_by_side({"first": tasks["first"]}) is None
