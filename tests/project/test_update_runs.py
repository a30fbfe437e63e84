"""`bayestwin update`: new rows are added to the posterior of a run as a new run, whatever happens meanwhile."""

import json
import pathlib
import sys

import pytest
from tank_model import JOB, run_command, telemetry_text, write_model

import bayestwin as bt
from bayestwin.project.record import read_record

LINES = telemetry_text().splitlines()[1:]
# draws enough for the weights to be trusted
ENOUGH = JOB.replace("num_samples = 75", "num_samples = 300")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the model of a tank of which six of ten hours are calibrated, and files with later rows."""
    root = tmp_path_factory.mktemp("updates")
    model = write_model(root / "models" / "tank", job=ENOUGH)
    for name, rows in (("day", LINES[25:31]), ("next", LINES[29:35])):
        (root / f"{name}.csv").write_text("\n".join([LINES[0], *rows]) + "\n", encoding="utf-8")
    code, out, err = run_command("calibrate", model, "--results", root / "results")
    assert code == 0, out + err
    return root


def runs(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted((root / "results" / "tank").iterdir())


def update(root: pathlib.Path, name: str, *options: object) -> tuple[int, str, str]:
    return run_command(
        "update", root / "models" / "tank", "--telemetry", root / f"{name}.csv", "--results", root / "results", *options
    )


@pytest.mark.thorough
def test_it_is_a_new_run_that_goes_on(calibrated: pathlib.Path) -> None:
    (first,) = runs(calibrated)
    before = (first / "posterior.nc").read_bytes()
    code, out, err = update(calibrated, "day", "--json")
    assert code == 0, out + err
    told = json.loads(out)["update"]
    assert (told["how"], told["readings"], told["revised"]) == ("weighted", 6, 0)
    second = runs(calibrated)[1]
    assert (first / "posterior.nc").read_bytes() == before
    assert bt.load(second / "posterior.nc")["observed_data"].sizes["time"] == 30
    assert read_record(second)["uses"].keys() == {first.name}

    code, out, _ = update(calibrated, "next")
    assert code == 0
    assert f"Run {second.name} with 4 new readings" in out
    third = runs(calibrated)[2]
    posterior = bt.load(third / "posterior.nc")
    assert [one["readings"] for one in posterior.attrs["updates"]] == [6, 4]
    assert posterior["observed_data"].sizes["time"] == 34

    # what is done with a run is done with the newest; what the job holds out is what was not counted since
    model = calibrated / "models" / "tank"
    code, out, err = run_command("predict", model, "--results", calibrated / "results", "--json")
    assert code == 0, err
    assert json.loads(out)["run"] == third.name
    assert bt.load(third / "predictions.nc")["predictions"].sizes["time"] == 7
    for verb in ("coverage", "report"):
        code, out, err = run_command(verb, model, "--results", calibrated / "results")
        assert code == 0, err

    code, out, err = update(calibrated, "day")
    assert (code, len(runs(calibrated))) == (2, 3)
    assert "6 readings, all of them counted already" in err


def test_interrupted_it_leaves_the_run_before_whole(calibrated: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = runs(calibrated)[0]
    before, number = (first / "posterior.nc").read_bytes(), len(runs(calibrated))
    module = sys.modules["bayestwin.project.update"]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save", stopped)
    code, _, _ = update(calibrated, "day", "--run", first.name)
    assert code == 130
    assert (first / "posterior.nc").read_bytes() == before
    (left,) = runs(calibrated)[number:]
    assert read_record(left)["status"] == "interrupted"
    assert not (left / "posterior.nc").exists()


def test_a_job_may_ask_for_chains_to_go_on(calibrated: pathlib.Path) -> None:
    code, out, err = update(calibrated, "day", "--run", runs(calibrated)[0].name, "--max-k", "-1")
    assert code == 0, err
    assert "chains went on over the whole record" in out


@pytest.mark.thorough
def test_a_command_may_ask_to_forget(calibrated: pathlib.Path) -> None:
    first = runs(calibrated)[0].name
    code, out, err = update(calibrated, "day", "--run", first, "--forget", "2 h")
    assert code == 0, out + err
    assert "Rows count half after 2 h: all together as" in " ".join(out.split())
    found = runs(calibrated)[-1]
    assert bt.load(found / "posterior.nc").attrs["forget"]["half_life"] == 2.0
    assert read_record(found)["job"]["update"]["forget"] == "2 h"
    number = len(runs(calibrated))
    code, _, err = update(calibrated, "day", "--run", first, "--forget", "a while")
    assert (code, len(runs(calibrated))) == (2, number)
    assert "`forget` is no length of time" in err
