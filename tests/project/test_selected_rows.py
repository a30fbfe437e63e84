"""A job's rows of a database or of Parquet files are asked for once, and a run of them is made again without either."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from servers import PASSWORD, Database
from tank_model import JOB, parse_strictly, run_command, telemetry_text, write_model

import bayestwin as bt
from bayestwin.errors import InvalidJob
from bayestwin.project.job import read_job
from bayestwin.project.model import load_model, load_telemetry

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is an optional extra")

ROWS = [[*map(float, line.split(","))] for line in telemetry_text().splitlines()[2:]]

QUERY = """database = "{address}"
query = "SELECT hour, gauge, pump FROM tanks WHERE asset = %(asset)s AND hour < %(end)s"
parameters = {{ asset = "north", end = 20.0 }}"""


def queried(address: str) -> str:
    return JOB.replace('file = "data/tank.csv"', QUERY.format(address=address))


@pytest.fixture
def tanks(database: Database) -> Database:
    database.execute(
        "DROP TABLE IF EXISTS tanks", "CREATE TABLE tanks (asset text, hour float8, gauge float8, pump float8)"
    )
    database.copy("tanks", [("north", *row) for row in ROWS] + [("south", *row[:1], 0.0, 0.0) for row in ROWS])
    return database


def texts_in(folder: pathlib.Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_a_run_keeps_what_came_and_is_made_again_from_it(tanks: Database, tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank", job=queried(tanks.address))
    results = tmp_path / "results"
    code, out, err = run_command("calibrate", model, "--results", results)
    assert code == 0, out + err
    (run,) = (results / "tank").iterdir()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    told = record["selected"]["telemetry"]
    assert told["database"] == tanks.address
    assert told["query"].startswith("SELECT hour, gauge, pump FROM tanks")
    assert told["parameters"] == {"asset": "north", "end": 20.0}
    assert told["rows"] == len(ROWS)
    assert re.fullmatch("[0-9a-f]{64}", told["sha256"])
    assert "telemetry/plant.nc" in record["inputs"]
    assert PASSWORD not in texts_in(results)

    # the same as from the file of the tank, to the bit
    code, out, err = run_command(
        "calibrate", write_model(tmp_path / "filed" / "tank"), "--results", tmp_path / "others"
    )
    assert code == 0, out + err
    (filed,) = (tmp_path / "others" / "tank").iterdir()
    ours, theirs = (bt.load(one / "posterior.nc") for one in (run, filed))
    xr.testing.assert_identical(ours["posterior"].to_dataset(), theirs["posterior"].to_dataset())
    assert ours.attrs["telemetry_sha256"] == theirs.attrs["telemetry_sha256"]

    code, out, err = run_command("reproduce", run, "--here", "--json")
    assert code == 0, out + err
    again = parse_strictly(out)
    assert [one["level"] for one in again["files"]] == ["bits"] * len(again["files"])
    assert not any("selected" in one["name"] for one in again["changes"])

    tanks.execute("UPDATE tanks SET gauge = gauge + 1 WHERE asset = 'north' AND hour = 2")
    code, out, err = run_command("reproduce", run, "--here")
    assert code == 0, out + err
    assert "selected.telemetry.sha256" in out
    assert "selected.telemetry.rows" not in out
    tanks.execute("DELETE FROM tanks WHERE asset = 'north' AND hour > 9")
    assert "selected.telemetry.rows" in run_command("reproduce", run, "--here")[1]
    tanks.stop()
    try:
        code, out, err = run_command("reproduce", run, "--here")
        assert code == 0, out + err
        assert "not asked: The database" in out
        assert run_command("calibrate", model, "--results", results)[0] == 1
    finally:
        tanks.start()


def test_a_job_is_answered_once_however_often_it_is_read(tanks: Database, tmp_path: pathlib.Path) -> None:
    model = load_model(write_model(tmp_path / "tank", job=queried(tanks.address)))
    first = load_telemetry(model).of_one("check")[0]
    tanks.execute("DELETE FROM tanks WHERE hour < 1")
    assert load_telemetry(model).of_one("check")[0].sha256 == first.sha256
    assert load_telemetry(load_model(model.folder)).of_one("check")[0].sha256 != first.sha256


def test_assets_of_a_fleet_are_a_column_of_the_answer(tanks: Database, tmp_path: pathlib.Path) -> None:
    job = queried(tanks.address).replace("SELECT hour", "SELECT asset, hour").replace("asset = %(asset)s AND ", "")
    job = job.replace('asset = "north", ', "") + "\n[fleet]\n"
    found = load_telemetry(load_model(write_model(tmp_path / "tank", job=job))).calibration
    assert list(found) == ["north", "south"]


@needs_pyarrow
def test_of_a_lake_a_run_keeps_the_rows_that_fit(tmp_path: pathlib.Path) -> None:
    job = JOB.replace(
        'file = "data/tank.csv"',
        'file = "data/lake"\nfilters = [["asset", "==", "north"], ["hour", "<", 20]]\n'
        'columns = ["hour", "gauge", "pump"]',
    )
    model = write_model(tmp_path / "tank", job=job)
    table = pd.DataFrame(ROWS, columns=["hour", "gauge", "pump"])
    both = pd.concat([table.assign(asset="north"), (table * np.array([1.0, 0.0, 0.0])).assign(asset="south")])
    both.to_parquet(model / "data" / "lake", partition_cols=["asset"])
    results = tmp_path / "results"
    code, out, err = run_command("calibrate", model, "--results", results)
    assert code == 0, out + err
    (run,) = (results / "tank").iterdir()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    told = record["selected"]["telemetry"]
    assert (told["file"], told["rows"], told["filters"][0]) == ("data/lake", len(ROWS), ["asset", "==", "north"])
    assert [name for name in record["inputs"] if name.startswith("telemetry/")] == ["telemetry/lake.nc"]
    for path in (model / "data" / "lake").rglob("*.parquet"):
        path.unlink()
    code, out, err = run_command("reproduce", run, "--here")
    assert code == 0, out + err


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ('database = "postgresql://host/plant"', "`query` with `database`"),
        ('file = "a.csv"\nquery = "SELECT 1"', "`query` with `database`"),
        ('file = "a.csv"\ndatabase = "postgresql://host/plant"\nquery = "SELECT 1"', "one of `file`, `dataset` and"),
        ('file = "a.csv"\nparameters = { a = 1 }', "`parameters` with `query`"),
        ('dataset = "armadillo"\ncolumns = ["a"]', "`filters` and `columns` with a `file`"),
        ('database = "mysql://host/plant"\nquery = "SELECT 1"', "an address such as"),
        ('database = "postgresql://host/plant"\nquery = "SELECT 1"\nparameters = { a = [1] }', "parameters.a"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path: pathlib.Path, lines: str, match: str) -> None:
    (tmp_path / "job.toml").write_text(f"[telemetry]\n{lines}\n", encoding="utf-8")
    with pytest.raises(InvalidJob, match=match):
        read_job(tmp_path / "job.toml")


@pytest.mark.parametrize(
    "line",
    [
        f'database = "postgresql://ann:{PASSWORD}@host/plant"',
        f'database = "postgresql://host/plant?password={PASSWORD}"',
        f'database = "postgresql://ann:{PASSWORD}@host/plant',  # no TOML
        f'database = "mysql://ann:{PASSWORD}@host/plant"',
        f'file = "postgresql://ann:{PASSWORD}@host/plant"',
    ],
)
def test_a_password_in_a_job_is_refused_and_not_repeated(tmp_path: pathlib.Path, line: str) -> None:
    model = write_model(tmp_path / "tank", job=f'[telemetry]\n{line}\nquery = "SELECT 1"\n')
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results")
    assert code == 2
    assert PASSWORD not in out + err
    assert not (tmp_path / "results").exists()
