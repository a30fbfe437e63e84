"""A finished run is logged in an MLflow store once, as its record says; without MLflow it says what to install."""

import importlib.util
import json
import pathlib
from collections.abc import Callable

import pytest
from tank_model import Runs, parse_strictly, run_command

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidSetting, StorageFailure
from bayestwin.project import track as tracking
from bayestwin.project.track import track

needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is an optional extra")
# of MLflow and what it brings, whose warnings are not ours to mend
theirs = pytest.mark.filterwarnings("ignore::Warning")


def client_of(results: pathlib.Path):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{results / 'mlflow.db'}")


@needs_mlflow
@theirs
def test_a_run_is_logged_once_with_what_its_record_says(copied: Callable[[], Runs]) -> None:
    runs = copied()
    first = runs.folders[0]
    names = [folder.name for folder in runs.folders]
    code, out, err = run_command("track", *names, "--results", runs.results, "--json")
    assert (code, err) == (0, "")
    logged = parse_strictly(out)
    assert [one["new"] for one in logged] == [True, True]
    again = parse_strictly(run_command("track", *names, "--results", runs.results, "--json")[1])
    assert [(one["id"], one["new"]) for one in again] == [(one["id"], False) for one in logged]

    client = client_of(runs.results)
    experiment = client.get_experiment_by_name("tank")
    assert len(client.search_runs([experiment.experiment_id])) == 2
    record = json.loads((first / "run.json").read_text(encoding="utf-8"))
    found = client.get_run(logged[0]["id"])
    assert found.info.run_name == first.name
    assert found.info.status == "FINISHED"
    assert found.data.params["job.calibrate.seed"] == "0"
    assert found.data.params["job.telemetry.units.gauge"] == "m"
    assert found.data.tags["bayestwin.twin_sha256"] == record["twin_sha256"]
    assert found.data.tags["bayestwin.telemetry_sha256.calibration"] == record["telemetry_sha256"]["calibration"]
    assert found.data.tags["bayestwin.versions.jax"] == record["versions"]["jax"]
    assert found.data.tags["bayestwin.status"] == "finished"
    rate = bt.load(first / "posterior.nc")["posterior"]["rate"]
    assert found.data.metrics["posterior.rate.mean"] == rate.mean().item()
    assert found.data.metrics["posterior.rate.sd"] == rate.std().item()
    gates = {gate["name"]: gate for gate in record["gates"]}
    assert found.data.metrics["gate.rhat"] == gates["rhat"]["value"]
    assert found.data.metrics["gate.rhat.passed"] == 1.0
    assert any(key.startswith("summary.coverage") for key in found.data.metrics)
    files = {one.path for one in client.list_artifacts(logged[0]["id"])}
    assert {"posterior.nc", "predictions.nc", "report.html", "run.json", "inputs"} <= files
    assert found.info.artifact_uri.startswith((runs.results / ".mlflow").as_uri())
    # no file of a run was touched, and the index knows of nothing new
    assert len(parse_strictly(run_command("runs", "--results", runs.results, "--json")[1])) == 2
    assert run_command("doctor", "--results", runs.results)[0] == 0


@needs_mlflow
@theirs
def test_a_run_that_changed_or_was_cut_off_takes_the_place_of_what_is_there(
    copied: Callable[[], Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = copied()
    run = runs.folders[0]
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "files_of", lambda folder: ["gone.nc"])
        with pytest.raises(Exception, match=r"gone\.nc"):
            track(runs.results, run)
    whole = track(runs.results, run)
    assert whole.new
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(record | {"status": "failed gates"}), encoding="utf-8")
    changed = track(runs.results, run)
    assert changed.new
    client = client_of(runs.results)
    (only,) = client.search_runs([client.get_experiment_by_name("tank").experiment_id])
    assert (only.info.run_id, only.info.status) == (changed.id, "FAILED")


@needs_mlflow
@theirs
def test_a_store_that_cannot_be_used_is_an_error(two_runs: Runs) -> None:
    with pytest.raises(StorageFailure, match="store"):
        track(two_runs.results, two_runs.folders[0], "gopher://nowhere")


def test_without_mlflow_it_says_what_to_install(two_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidSetting, match=r"MLflow is not installed(?s:.*)bayestwin\[mlflow\]"):
        track(two_runs.results, two_runs.folders[0])


def test_a_run_that_has_not_ended_is_refused(copied: Callable[[], Runs]) -> None:
    runs = copied()
    path = runs.folders[0] / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"status": "running"}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="a run that has ended"):
        track(runs.results, runs.folders[0])
