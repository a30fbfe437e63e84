"""A run leaves posterior, predictions, report and a record that says what they were made of, and no secrets."""

import hashlib
import importlib.metadata
import json

import numpy as np
import xarray as xr
from tank_model import JOB, SECRET, Ran, parse_strictly

import bayestwin as bt
from bayestwin.assess import failed
from bayestwin.model.describe import fingerprint
from bayestwin.project.model import load_model, load_telemetry
from bayestwin.project.record import ENVIRONMENT
from bayestwin.project.sections import Job


def record_of(ran: Ran) -> dict:
    return parse_strictly((ran.runs[0] / "run.json").read_text(encoding="utf-8"))


def test_it_leaves_these_files(ran: Ran) -> None:
    assert ran.code == 0, ran.out + ran.err
    (run,) = ran.runs
    names = sorted(path.name for path in run.iterdir())
    assert names == ["inputs", "posterior.nc", "predictions.nc", "report.html", "run.json"]
    for name in names[1:]:
        assert f"  {run / name}\n" in ran.out


def test_the_record_has_the_hashes_of_the_files(ran: Ran) -> None:
    (run,) = ran.runs
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    hashes = {p.relative_to(run).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert record_of(ran)["outputs"] == hashes


def test_the_record_says_what_went_in(ran: Ran) -> None:
    record, model = record_of(ran), load_model(ran.model)
    split = load_telemetry(model)
    assert (record["command"], record["status"], record["run"]) == ("calibrate", "finished", ran.runs[0].name)
    assert (record["model"], record["twin"], record["job_file"]) == ("tank", "tank", "job.toml")
    assert record["twin_sha256"] == fingerprint(model.twin)
    assert record["job_sha256"] == hashlib.sha256(JOB.encode()).hexdigest()
    assert record["telemetry_sha256"] == {"calibration": split.calibration.sha256, "held_out": split.held_out.sha256}
    assert Job.model_validate(record["job"]) == model.job
    assert record["versions"]["jax"] == importlib.metadata.version("jax")
    assert record["began"] <= record["ended"]


def test_the_posterior_belongs_to_the_record(ran: Ran) -> None:
    posterior, record = bt.load(ran.runs[0] / "posterior.nc"), record_of(ran)
    assert posterior.attrs["twin_sha256"] == record["twin_sha256"]
    assert posterior.attrs["telemetry_sha256"] == record["telemetry_sha256"]["calibration"]
    assert json.loads(posterior.attrs["job"]) == record["job"]
    assert posterior["posterior"].sizes == {"chain": 2, "draw": 75}
    # level' = pump − 0.8 level made the data
    rate = posterior["posterior/rate"]
    assert abs(float(rate.mean()) - 0.8) < 4.0 * float(rate.std())


def test_the_predictions_are_of_what_was_held_out(ran: Ran) -> None:
    predictions = bt.load(ran.runs[0] / "predictions.nc")
    held_out = load_telemetry(load_model(ran.model)).held_out
    np.testing.assert_array_equal(predictions["predictions"]["time"], held_out.table.index)
    assert predictions["predictions"].sizes["chain"] * predictions["predictions"].sizes["draw"] == 60


def test_the_record_says_what_came_out(ran: Ran) -> None:
    (run,) = ran.runs
    record, model = record_of(ran), load_model(ran.model)
    posterior, predictions = bt.load(run / "posterior.nc"), bt.load(run / "predictions.nc")
    held_out = load_telemetry(model).held_out
    covered = bt.coverage(predictions, held_out)["coverage"].sel(observation="level")
    scored = bt.scores(predictions, held_out).sel(observation="level")
    found = record["summary"]
    assert found["held_out"] is True
    assert found["coverage"]["level"] == {f"{p:g}": float(covered.sel(prob=p)) for p in covered["prob"].values}
    assert found["scores"]["level"] == {name: float(scored[name]) for name in scored.data_vars}
    gates = bt.diagnose(posterior, **model.job.gates.model_dump())
    assert [(g["name"], g["passed"], g["sentence"]) for g in record["gates"]] == [(g[0], g[1], g[4]) for g in gates]
    assert not failed(gates)
    phases = ["import", "compile", "ladder", "warmup", "draws", "predictive", "predict", "save", "report"]
    assert list(record["timings"]) == phases
    assert all(seconds >= 0.0 for seconds in record["timings"].values())


def test_the_summary_says_where_the_time_went(ran: Ran) -> None:
    (line,) = [line.strip() for line in ran.out.splitlines() if "warmup" in line]
    timings = record_of(ran)["timings"]
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timings.items())
    assert line == f"{sum(timings.values()):.0f} s: {parts}"


def test_the_summary_says_what_a_person_asks(ran: Ran) -> None:
    for words in ("1 quantity calibrated on 24 times from 0 to 5.75", "R̂", "ESS", "diverged", "held-out", "RMSE"):
        assert words in ran.out
    assert ran.err == ""


def test_the_report_is_of_this_run(ran: Ran) -> None:
    page = (ran.runs[0] / "report.html").read_text(encoding="utf-8")
    for words in (ran.runs[0].name, "It leaks, and a pump fills it.", "finished", record_of(ran)["twin_sha256"]):
        assert words in page
    assert "running" not in page


def test_secrets_of_the_environment_are_in_no_file(ran: Ran) -> None:
    assert set(record_of(ran)["environment"]) <= set(ENVIRONMENT)
    for path in (path for path in ran.runs[0].rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path.name
        if path.suffix == ".nc":  # compressed: look behind that too
            with xr.open_datatree(path) as tree:
                assert SECRET not in repr([node.attrs for node in tree.subtree])
