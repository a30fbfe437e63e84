"""What is done with an earlier run is done with that run as it was: its twin, its telemetry, its split."""

import hashlib
import json
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from tank_model import TWIN, Ran, parse_strictly, run_command, telemetry_text

import bayestwin as bt
from bayestwin.errors import CorruptArtifact, InvalidInput
from bayestwin.project.model import load_model
from bayestwin.project.record import read_record, write_record
from bayestwin.project.run import find_run


@pytest.fixture
def copied(ran: Ran, tmp_path: pathlib.Path) -> Ran:
    """The run of the tank, to be changed."""
    shutil.copytree(ran.model.parent, tmp_path / "models")
    shutil.copytree(ran.results, tmp_path / "results")
    return ran._replace(model=tmp_path / "models" / "tank", results=tmp_path / "results")


def run_on(copied: Ran, verb: str, *arguments: object) -> tuple[int, str, str]:
    return run_command(verb, copied.model, "--results", copied.results, *arguments)


def check_hashes(run: pathlib.Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    hashes = {p.relative_to(run).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert read_record(run)["outputs"] == hashes


def test_coverage_is_that_of_the_run(copied: Ran) -> None:
    code, out, err = run_on(copied, "coverage", "--json")
    assert (code, err) == (0, "")
    found, record = parse_strictly(out), read_record(copied.runs[0])
    assert {key: found[key] for key in record["summary"]} == record["summary"]
    assert (found["run"], found["status"]) == (copied.runs[0].name, "finished")
    code, out, _ = run_on(copied, "coverage")
    assert code == 0
    assert "held-out" in out
    assert "RMSE" in out


def test_predictions_of_what_was_held_out_are_made_again_to_the_bit(copied: Ran) -> None:
    path = copied.runs[0] / "predictions.nc"
    before = path.read_bytes()
    path.unlink()
    code, out, _ = run_on(copied, "predict")
    assert code == 0
    assert "equal-tailed" in out
    assert str(path) in out
    assert path.read_bytes() == before
    check_hashes(copied.runs[0])


def test_new_inputs_need_no_observations(copied: Ran, tmp_path: pathlib.Path) -> None:
    future = tmp_path / "plan.csv"
    future.write_text("hour,pump\n" + "".join(f"{t},0.0\n" for t in np.arange(6.0, 9.0, 0.25)))
    code, out, err = run_on(copied, "predict", "--telemetry", future, "--json")
    assert (code, err) == (0, "")
    found = parse_strictly(out)
    level = found["observations"]["level"]
    assert found["time"] == np.arange(6.0, 9.0, 0.25).tolist()
    assert (found["kind"], level["unit"]) == ("equal-tailed interval", "m")
    assert set(level["intervals"]) == {"0.5", "0.8", "0.9", "0.95"}
    for ends in level["intervals"].values():
        assert np.all(np.array(ends["lower"]) <= level["median"])
        assert np.all(np.array(ends["upper"]) >= level["median"])
    # without the pump the tank empties
    assert level["median"][-1] < 0.5 * level["median"][0]
    assert pathlib.Path(found["file"]) == copied.runs[0] / "predictions-plan.nc"
    check_hashes(copied.runs[0])


def test_a_week_at_any_time_starts_from_states_that_are_given(copied: Ran, tmp_path: pathlib.Path) -> None:
    future = tmp_path / "week.csv"
    future.write_text("hour,pump\n" + "".join(f"{t},0.0\n" for t in np.arange(1000.0, 1003.0, 0.25)))
    code, _, err = run_on(copied, "predict", "--telemetry", future)
    assert code == 2
    assert "`initial=`" in err
    code, out, err = run_on(copied, "predict", "--telemetry", future, "--initial", "level=2.5", "--json")
    assert (code, err) == (0, "")
    assert parse_strictly(out)["observations"]["level"]["median"][0] == pytest.approx(
        2.5, abs=0.065
    )  # 4 standard errors of a median


def test_predictions_go_where_they_are_asked_to(copied: Ran, tmp_path: pathlib.Path) -> None:
    before = sorted(copied.runs[0].iterdir())
    code, _, _ = run_on(copied, "predict", "--out", tmp_path / "mine" / "forecast.nc")
    assert code == 0
    assert "predictions" in bt.load(tmp_path / "mine" / "forecast.nc").children
    assert sorted(copied.runs[0].iterdir()) == before


def test_predictions_as_a_table(copied: Ran, tmp_path: pathlib.Path) -> None:
    code, _, _ = run_on(copied, "predict", "--out", tmp_path / "mine" / "forecast.csv")
    assert code == 0
    table = pd.read_csv(tmp_path / "mine" / "forecast.csv")
    assert list(table.columns) == [
        "time", "observation", "units", "median", "lower_50", "upper_50", "lower_90", "upper_90", "extrapolation"
    ]  # fmt: skip
    assert (table["lower_90"] <= table["lower_50"]).all()
    assert (table["upper_50"] <= table["upper_90"]).all()
    assert set(table["units"]) == {"m"}
    code, _, err = run_on(copied, "predict", "--out", tmp_path / "forecast.xlsx")
    assert code == 2
    assert "Expected: a file that ends in `.nc` (all draws) or `.csv`" in err
    assert "Received: `.xlsx`" in err


def test_an_input_that_is_missing_is_named(copied: Ran, tmp_path: pathlib.Path) -> None:
    future = tmp_path / "plan.csv"
    future.write_text("hour,level\n6.0,1.0\n7.0,1.0\n")
    code, out, err = run_on(copied, "predict", "--telemetry", future)
    assert (code, out) == (2, "")
    assert "no column for the input `pump`" in err


def test_the_report_is_written_again(copied: Ran) -> None:
    path = copied.runs[0] / "report.html"
    path.unlink()
    code, out, _ = run_on(copied, "report", "--json")
    assert code == 0
    assert parse_strictly(out) == {"run": copied.runs[0].name, "status": "finished", "file": str(path)}
    assert "It leaks, and a pump fills it." in path.read_text(encoding="utf-8")
    check_hashes(copied.runs[0])


def test_check_says_that_all_is_well(copied: Ran) -> None:
    code, out, _ = run_command("check", copied.model, "--results", copied.model.parent / "checks")
    assert code == 0
    assert "200 of 200 draws from the prior can be solved" in out


@pytest.mark.parametrize("verb", ["predict", "coverage", "report"])
def test_a_twin_that_was_changed_is_refused(copied: Ran, verb: str) -> None:
    (copied.model / "twin.py").write_text(TWIN.replace("dist.LogNormal(0.0, 0.5)", "dist.LogNormal(0.0, 0.6)"))
    code, out, err = run_on(copied, verb)
    assert (code, out) == (2, "")
    assert err.startswith("error: This posterior does not belong to twin `tank` as it is now.")
    (changed,) = set(re.findall(r"differs in (.*)", err))
    assert re.fullmatch(r"parameter `\w+`", changed)
    kept = copied.runs[0] / "inputs" / "twin.py"
    assert f"Run `{copied.runs[0].name}` keeps the twin that it was made with, `{kept}`." in err
    shutil.copy(kept, copied.model / "twin.py")
    assert run_on(copied, verb)[0] == 0


@pytest.mark.parametrize("verb", ["predict", "coverage", "report"])
def test_telemetry_that_was_changed_is_refused(copied: Ran, verb: str) -> None:
    changed = telemetry_text().replace("\n0.25,", "\n0.26,")
    (copied.model / "data" / "tank.csv").write_text(changed)
    code, out, err = run_on(copied, verb)
    assert (code, out) == (2, "")
    assert "was not calibrated on the telemetry" in err
    assert "Its data or units have changed." in err


@pytest.mark.parametrize("verb", ["predict", "coverage", "report"])
def test_another_job_than_the_run_s_is_refused_and_the_right_one_named(copied: Ran, verb: str) -> None:
    shutil.copy(copied.model / "data" / "tank.csv", copied.model / "data" / "other.csv")
    other = (copied.model / "job.toml").read_text().replace('gauge = "m"', 'gauge = "cm"')
    (copied.model / "other.toml").write_text(other)
    code, out, err = run_on(copied, verb, "--job", "other.toml")
    assert (code, out) == (2, "")
    assert "That run was made with `--job job.toml`." in err


def test_what_a_run_has_seen_never_passes_for_held_out(copied: Ran) -> None:
    """The split in the job file is moved after the run: the run keeps the one that it was made with."""
    job = copied.model / "job.toml"
    job.write_text(job.read_text().replace("hold_out_from = 6.0", "hold_out_from = 2.0"))
    code, out, _ = run_on(copied, "coverage", "--json")
    assert code == 0
    assert parse_strictly(out)["scores"]["level"]["num"] == 17
    code, out, _ = run_on(copied, "predict", "--json")
    assert min(parse_strictly(out)["time"]) == 6.0


@pytest.mark.parametrize(("verb", "code"), [("predict", 1), ("coverage", 1), ("report", 0)])
def test_a_run_that_fails_its_gates_is_not_relied_on(copied: Ran, verb: str, code: int) -> None:
    job = copied.model / "job.toml"
    job.write_text(job.read_text().replace("max_rhat = 1.2", "max_rhat = 1.000001"))
    found, out, err = run_on(copied, verb, "--json")
    assert found == code
    assert parse_strictly(out)["status"] == "failed gates"
    assert ("Do not rely on this" in err) == (code == 1)


def test_the_newest_run_that_came_to_its_end_is_taken(copied: Ran) -> None:
    (run,) = copied.runs
    model = load_model(copied.model)
    for name, status in [("20270101-000000-aaaa", "interrupted"), ("20270102-000000-bbbb", "running")]:
        shutil.copytree(run, run.with_name(name))
        write_record(run.with_name(name), read_record(run) | {"status": status})
    assert find_run(copied.results, model) == run
    newer = shutil.copytree(run, run.with_name("20270103-000000-cccc"))
    write_record(newer, read_record(run) | {"status": "failed gates"})
    assert find_run(copied.results, model) == newer
    assert find_run(copied.results, model, "20270101-000000-aaaa").name == "20270101-000000-aaaa"


def test_runs_that_cannot_be_used_are_listed_with_their_fate(copied: Ran) -> None:
    (run,) = copied.runs
    model = load_model(copied.model)
    write_record(run, read_record(run) | {"status": "interrupted"})
    damaged = run.with_name("20270101-000000-aaaa")
    damaged.mkdir()
    (damaged / "run.json").write_text('{"status": "fin')
    with pytest.raises(InvalidInput) as caught:
        find_run(copied.results, model)
    assert f"`{run.name}` (interrupted)" in str(caught.value)
    assert "`20270101-000000-aaaa` (damaged, no posterior)" in str(caught.value)
    assert "--run" in str(caught.value)
    with pytest.raises(InvalidInput, match=f"a run named `nope`.*(?s:.*){run.name}"):
        find_run(copied.results, model, "nope")
    with pytest.raises(InvalidInput, match=r"(?s)no runs there.*bayestwin calibrate .*--results"):
        find_run(copied.results / "elsewhere", model)


@pytest.mark.parametrize("text", ["", '{"run": ', "[1, 2]", "null"])
def test_a_damaged_record_is_an_error(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CorruptArtifact, match=r"run.json` is damaged"):
        read_record(tmp_path)


def test_nothing_held_out_leaves_nothing_to_predict(copied: Ran) -> None:
    """The posterior says what was held out, not the job file of today."""
    (run,) = copied.runs
    posterior = bt.load(run / "posterior.nc")
    held_in = load_model(copied.model).job.model_dump(mode="json", exclude_none=True) | {"split": {"end": 6.0}}
    posterior.attrs["job"] = json.dumps(held_in)
    bt.save(posterior, run / "posterior.nc")
    code, out, err = run_on(copied, "predict")
    assert (code, out) == (2, "")
    assert "held nothing out" in err
    assert "--telemetry FILE" in err
