"""A run of a fleet can be predicted with, made again, resumed and told apart, and has a page, figures and a table."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fleet_model import CAPACITIES, RATES, records, write_fleet
from tank_model import Ran, parse_strictly, run_command
from test_resumed_runs import WAITING

import bayestwin as bt
from bayestwin.project.record import read_record

ORDER = ["001", "2", "10", "<i>5", "b 4"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`bayestwin fleet`, where nothing has been calibrated yet: change nothing in it."""
    root = tmp_path_factory.mktemp("fleet")
    model, results = write_fleet(root / "models" / "cells", "files"), root / "results"
    (model / "data" / "cells" / "empty.csv").write_text("day,charge\n", encoding="utf-8")
    code, out, err = run_command("fleet", model, "--results", results)
    assert code == 0, out + err
    return Ran(code, out, err, model, results)


def told_by(ran: Ran, *command: object) -> dict:
    code, out, err = run_command(*command, "--results", ran.results, "--json")
    assert code == 0, err
    return parse_strictly(out)


def test_the_fleet_is_calibrated_once_and_then_looked_at(ran: Ran) -> None:
    (run,) = ran.runs
    assert "Set aside: Asset `empty` has no rows." in ran.out
    assert "5 of 5 assets passed." in ran.out
    there = {path.name for path in run.iterdir()}
    assert {"fleet.html", "fleet.json", "fleet.csv", "report.html", "assets", "posterior.nc"} <= there
    assert (run / "assets" / "005-b-4.html").is_file()
    told = told_by(ran, "fleet", ran.model)
    assert ran.runs == [run]
    assert told["set_aside"] == {"empty": "Asset `empty` has no rows."}
    assert read_record(run)["outputs"].keys() >= {"fleet.html", "fleet.json", "fleet.csv"}
    assert run_command("doctor", "--results", ran.results)[0] == 0


def test_figures_table_and_draws_say_the_same(ran: Ran) -> None:
    (run,) = ran.runs
    draws = bt.load(run / "posterior.nc")["posterior"]["rate"]
    told = json.loads((run / "fleet.json").read_text(encoding="utf-8"))
    table = pd.read_csv(run / "fleet.csv", dtype={"asset": str}).set_index("asset")
    assert list(told["assets"]) == list(table.index) == ORDER
    for name, rate in RATES.items():
        own = told["assets"][name]["quantities"]["rate"]
        assert own["mean"] == pytest.approx(float(draws.sel(experiment=name).mean()))
        assert table.loc[name, "rate_mean"] == pytest.approx(own["mean"])
        assert table.loc[name, "capacity"] == CAPACITIES[name]
        assert table.loc[name, "charge_coverage_90"] == told["assets"][name]["coverage"]["charge"]["0.9"]
        assert abs(own["mean"] - rate) < 4 * own["sd"]
    (population,) = told["populations"]
    assert population["typical"][1] < 0.31 < population["typical"][2]


@pytest.mark.thorough
def test_another_state_is_calibrated_anew(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.model.parent, tmp_path / "models")
    shutil.copytree(ran.results, tmp_path / "results")
    model, results = tmp_path / "models" / "cells", tmp_path / "results"
    job = (model / "job.toml").read_text(encoding="utf-8")
    (model / "job.toml").write_text(job.replace("[calibrate]\n", "[calibrate]\nseed = 3\n"), encoding="utf-8")
    assert run_command("fleet", model, "--results", results)[0] == 0
    assert len(list((results / "cells").iterdir())) == 2


@pytest.mark.thorough
def test_predictions_are_by_asset(ran: Ran, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "all.csv"
    assert run_command("predict", ran.model, "--results", ran.results, "--out", out)[0] == 0
    table = pd.read_csv(out, dtype={"asset": str})
    assert list(table["asset"].unique()) == ORDER
    assert list(table[table["asset"] == "2"]["time"]) == list(np.arange(6.0, 10.5, 0.5))
    (tmp_path / "later.csv").write_text("asset,day\n2,11\n2,12\nb 4,11\n", encoding="utf-8")
    told = told_by(ran, "predict", ran.model, "--telemetry", tmp_path / "later.csv")
    assert {name: one["time"] for name, one in told["assets"].items()} == {"2": [11.0, 12.0], "b 4": [11.0]}
    (tmp_path / "new.csv").write_text("asset,day,capacity\nnew,0,5.0\nnew,1,\n", encoding="utf-8")
    told = told_by(ran, "predict", ran.model, "--telemetry", tmp_path / "new.csv")
    assert told["assets"]["new"]["observations"]["charge"]["median"][0] == pytest.approx(5.0, abs=0.05)


@pytest.mark.thorough
def test_times_that_are_dates_come_back_as_dates(tmp_path: pathlib.Path) -> None:
    model = write_fleet(tmp_path / "models" / "cells", "files", {name: RATES[name] for name in ("2", "10")})
    for place, (name, one) in enumerate(records({"2": 0.3, "10": 0.3}).items()):
        days = pd.Timestamp("2026-03-01") + pd.to_timedelta(one["day"] + 10 * place, unit="D")
        one.assign(day=days).to_csv(model / "data" / "cells" / f"{name}.csv", index=False)
    job = (model / "job.toml").read_text(encoding="utf-8")
    job = job.replace("hold_out_from = 6.0", 'hold_out_from = "2026-03-20"')
    (model / "job.toml").write_text(job, encoding="utf-8")
    out = tmp_path / "all.csv"
    assert run_command("calibrate", model, "--results", tmp_path / "results", "--method", "laplace")[0] in (0, 1)
    run_command("predict", model, "--results", tmp_path / "results", "--out", out)
    table = pd.read_csv(out, dtype={"asset": str})
    assert set(table["asset"]) == {"10"}
    assert table["time"].iloc[0] == "2026-03-20 00:00:00"
    assert table["time"].iloc[-1] == "2026-03-21 00:00:00"


@pytest.mark.thorough
def test_a_run_is_made_again_to_the_bit(ran: Ran) -> None:
    (run,) = ran.runs
    told = told_by(ran, "reproduce", run, "--here")
    assert told["holds"]
    assert {one["file"]: one["level"] for one in told["files"]} == {"posterior.nc": "bits", "predictions.nc": "bits"}


def test_what_differs_between_fleets_is_told_by_asset(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.results, tmp_path / "results")
    (run,) = (tmp_path / "results" / "cells").iterdir()
    other = run.with_name("20990101-000000-0000")
    shutil.copytree(run, other)
    record = read_record(other)
    record["assets_sha256"]["2"] = "another"
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    code, out, _ = run_command("diff", run, other, "--results", tmp_path / "results", "--json")
    told = parse_strictly(out)
    assert code == 0
    assert [one["name"] for one in told["changes"]] == ["assets_sha256.2"]
    assert {one["name"] for one in told["posteriors"]} >= {"rate_typical", *(f"rate[{name}]" for name in ORDER)}
    code, out, _ = run_command("runs", "--results", tmp_path / "results")
    assert (code, out.count("charge")) == (0, 2)


@pytest.mark.thorough
def test_a_run_that_was_killed_is_gone_on_with_to_the_same_bits(tmp_path: pathlib.Path) -> None:
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        model = write_fleet(folder / "models" / "cells", "files", {name: RATES[name] for name in ("2", "10")})
        job = (model / "job.toml").read_text(encoding="utf-8")
        (model / "job.toml").write_text(job.replace("num_samples = 100", "num_samples = 300"), encoding="utf-8")
    command = [sys.executable, "-u", "-c", WAITING, "draws", "calibrate", str(folders[1] / "models" / "cells")]
    command += ["--results", str(folders[1] / "results")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGKILL)
            process.wait(120)
        finally:
            process.kill()
    (run,) = (folders[1] / "results" / "cells").iterdir()
    assert read_record(run)["status"] == "running"
    assert run_command("resume", run)[0] == 0
    code, _, err = run_command("calibrate", folders[0] / "models" / "cells", "--results", folders[0] / "results")
    assert code == 0, err
    (whole,) = (folders[0] / "results" / "cells").iterdir()
    for name in ("posterior.nc", "predictions.nc"):
        assert bt.load(run / name).identical(bt.load(whole / name))


@pytest.mark.thorough
def test_intervals_are_validated_over_all_assets(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.results, tmp_path / "results")
    code, out, err = run_command("validate", ran.model, "--results", tmp_path / "results", "--json")
    assert code == 0, err
    run = pathlib.Path(parse_strictly(out)["folder"])
    found = bt.load(run / "validation.nc")
    assert found["coverage"]["num"].sel(observation="charge", prob=0.9).item() == 5 * 9
    by = found["coverage_by_asset"]["num"].sel(observation="charge", prob=0.9)
    assert dict(zip(map(str, by["asset"].to_numpy()), by.to_numpy(), strict=True)) == dict.fromkeys(ORDER, 9)
    assert "there was no backtest" in (run / "validation.html").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_each_asset_is_checked(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.model.parent, tmp_path / "models")
    model = tmp_path / "models" / "cells"
    path = model / "data" / "cells" / "2.csv"
    table = pd.read_csv(path)
    table.loc[3:14, "charge"] = 2.5  # stuck
    table.to_csv(path, index=False)
    code, out, _ = run_command("check", model, "--results", tmp_path / "results")
    assert code in (0, 1)
    assert "In experiment `2`: " in out
    (run,) = (tmp_path / "results" / "cells").iterdir()
    page = (run / "check.html").read_text(encoding="utf-8")
    assert "2: charge" in page
    assert "rows of 5 assets" in page


def test_a_job_of_one_asset_has_no_fleet(make_model) -> None:
    code, _, err = run_command("fleet", make_model())
    assert code == 2
    assert "is of one asset" in err
