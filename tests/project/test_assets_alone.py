"""Assets without a population are calibrated one by one, each to the bit as if it were the only one, wherever it is."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fleet_model import CAPACITIES, JOB, RATES, TWIN, write_fleet
from readable import faults
from tank_model import Ran, run_command

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess.each import seed_of_asset
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.project.batch import Limits
from bayestwin.project.each import calibrate_assets, gather_shards
from bayestwin.project.model import load_model, load_telemetry

QUIET = Progress(show=False)
ALONE = TWIN.replace(", pooled=dist.HalfNormal(0.5)", "")

UNSOLVED = """    vector_field=lambda t, x, p, u: {"charge": -p.rate * x.charge * jnp.sqrt(p.capacity - 3.0)},
    """
"""What cannot be solved for a cell of less than 3 A h."""

HANGS = """
import os, sys, time
if "worker" in sys.argv[0]:
    import bayestwin.project.each as each

    whole = each.calibrate_asset

    def hanging(twin, name, *given, **named):
        if name == "10":
            HOW
        return whole(twin, name, *given, **named)

    each.calibrate_asset = hanging
"""


def write_alone(folder: pathlib.Path, twin: str = ALONE, rates: dict[str, float] = RATES) -> pathlib.Path:
    write_fleet(folder, "files", rates)
    (folder / "twin.py").write_text(twin, encoding="utf-8")
    job = JOB.format(file="data/cells").replace('by = "asset"', 'by = "asset"\npool = false')
    (folder / "job.toml").write_text(job, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`bayestwin fleet` with a cell that cannot be solved: change nothing in it."""
    root = tmp_path_factory.mktemp("alone")
    twin = ALONE.replace("import numpyro.dist", "import jax.numpy as jnp\nimport numpyro.dist")
    line = '    vector_field=lambda t, x, p, u: {"charge": -p.rate * x.charge},\n    '
    assert line in twin
    known = '"capacity": bt.Parameter(bt.First("capacity"), unit="A*h"), "rate": '
    model = write_alone(root / "models" / "cells", twin.replace(line, UNSOLVED).replace('"rate": ', known, 1))
    table = pd.read_csv(model / "data" / "assets.csv", dtype={"asset": str}).set_index("asset")
    table.loc["2", "capacity"] = 2.0
    table.to_csv(model / "data" / "assets.csv")
    code, out, err = run_command("fleet", model, "--results", root / "results")
    assert code == 1, out + err
    return Ran(code, out, err, model, root / "results")


def draws_of(run: pathlib.Path) -> dict[str, xr.Dataset]:
    found = {}
    for path in sorted(run.glob("assets/*/asset.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["verdict"] != "failed":
            found[told["name"]] = bt.load(path.parent / "posterior.nc")["posterior"].to_dataset()
    return found


def check_same(ours: dict[str, xr.Dataset], theirs: dict[str, xr.Dataset]) -> None:
    assert list(ours) == list(theirs)
    for name, draws in ours.items():
        xr.testing.assert_identical(draws, theirs[name])


def test_one_asset_fails_alone_and_is_named(ran: Ran) -> None:
    (run,) = ran.runs
    assert "4 of 5 assets passed." in ran.out
    assert "2: NoValidStart" in " ".join(ran.out.split())
    told = json.loads((run / "fleet.json").read_text(encoding="utf-8"))
    assert {name: one["verdict"] for name, one in told["assets"].items()} == {
        name: "failed" if name == "2" else "passed" for name in sorted(RATES, key=list(told["assets"]).index)
    }
    table = pd.read_csv(run / "fleet.csv", dtype={"asset": str}).set_index("asset")
    assert table.loc["b 4", "rate_mean"] == pytest.approx(told["assets"]["b 4"]["quantities"]["rate"]["mean"])
    assert 0.0 <= table.loc["b 4", "charge_coverage_90"] <= 1.0
    page = (run / "fleet.html").read_text(encoding="utf-8")
    assert "4 of 5 assets passed" in page
    assert "&lt;i&gt;5" in page
    assert faults(page) == []


def test_each_is_what_it_would_be_by_itself(ran: Ran) -> None:
    (run,) = ran.runs
    model = load_model(ran.model)
    settings = model.job.calibrate.model_dump()
    one = load_telemetry(model).calibration["b 4"]  # type: ignore[index]
    alone = bt.calibrate(
        model.twin, one, **settings | {"seed": seed_of_asset(settings["seed"], "b 4"), "progress": QUIET}
    )
    xr.testing.assert_identical(alone["posterior"].to_dataset(), draws_of(run)["b 4"])


@pytest.mark.thorough
def test_a_second_call_does_what_is_not_done(ran: Ran, tmp_path: pathlib.Path) -> None:
    shutil.copytree(ran.results, results := tmp_path / "results")
    (run,) = (results / "cells").iterdir()
    whole = draws_of(run)
    done = {path: path.stat().st_mtime_ns for path in run.glob("assets/*/asset.json")}
    (lost,) = run.glob("assets/*-b-4")
    shutil.rmtree(lost)
    code, _, err = run_command("fleet", ran.model, "--results", results, "--json")
    assert (code, err) == (1, "")
    assert [path.name for path in (results / "cells").iterdir()] == [run.name]
    check_same(draws_of(run), whole)
    assert [path for path, then in done.items() if path.stat().st_mtime_ns != then] == [lost / "asset.json"]


@pytest.mark.thorough
def test_in_python_each_has_a_node(tmp_path: pathlib.Path) -> None:
    twin = load_model(write_alone(tmp_path / "cells")).twin
    telemetry = load_telemetry(load_model(tmp_path / "cells")).calibration
    assert isinstance(telemetry, dict)
    some = {name: telemetry[name] for name in ("10", "b 4")} | {"its sister": telemetry["b 4"]}
    some["unobserved"] = some["10"].with_table(some["10"].table.assign(charge=np.nan))
    found = bt.calibrate_each(twin, some, seed=3, method="laplace", progress=QUIET)
    summary = found["summary"].to_dataset()
    assert summary["verdict"].to_series().to_dict() == {
        **dict.fromkeys(("10", "b 4", "its sister"), "passed"),
        "unobserved": "failed",
    }
    assert "no observation" in str(summary["reasons"].sel(experiment="unobserved").item())
    bt.save(found, tmp_path / "each.nc")
    one = bt.load(tmp_path / "each.nc")["assets/b 4"]
    expected = bt.calibrate(twin, some["b 4"], seed=seed_of_asset(3, "b 4"), method="laplace", progress=QUIET)
    xr.testing.assert_identical(one["posterior"].to_dataset(), expected["posterior"].to_dataset())
    assert not one["posterior"]["rate"].equals(found["assets/its sister"]["posterior"]["rate"])
    assert float(summary["mean"].sel(experiment="b 4", quantity="rate")) == float(one["posterior"]["rate"].mean())
    ahead = bt.predict(twin, one, some["b 4"].with_table(some["b 4"].table.iloc[-3:]), seed=0, progress=QUIET)
    assert ahead["predictions"]["charge"].notnull().all()


def test_what_does_not_go_together_is_refused(tmp_path: pathlib.Path) -> None:
    alone, pooled = write_alone(tmp_path / "alone"), write_fleet(tmp_path / "pooled")
    with pytest.raises(bt.errors.InvalidTwin, match="pools `rate`"):
        bt.calibrate_each(load_model(pooled).twin, load_telemetry(load_model(pooled)).calibration, seed=0)  # type: ignore[arg-type]
    for model, options, words in (
        (pooled, ("--shard", "1/2"), "`--shard` does not go with this fleet"),
        (alone, ("--parquet",), "`--parquet` does not go with this fleet"),
        (alone, ("--shard", "half"), "`--shard half` cannot be read"),
        (alone, ("--shard", "3/2"), "There is no such shard"),
        (alone, ("--gather",), "shards of (?s:.*) are not complete"),
    ):
        code, _, err = run_command("fleet", model, *options, "--results", tmp_path / "results")
        assert code == 2
        assert re.search(words, " ".join(err.split()))
    code, _, err = run_command("calibrate", alone, "--results", tmp_path / "results")
    assert code == 2
    assert "calibrated one by one" in err


@pytest.mark.slow
def test_shards_put_together_are_the_whole(tmp_path: pathlib.Path) -> None:
    model = load_model(write_alone(tmp_path / "cells"))
    whole = calibrate_assets(model, tmp_path / "whole", progress=QUIET)
    for number in (3, 1, 4):
        calibrate_assets(model, tmp_path / "parts", shard=(number, 4), progress=QUIET)
    with pytest.raises(InvalidInput, match=r"of 4, without `2/4`"):
        gather_shards(model, tmp_path / "parts")
    calibrate_assets(model, tmp_path / "parts", shard=(2, 4), progress=QUIET)
    gathered = gather_shards(model, tmp_path / "parts")
    check_same(draws_of(gathered.run), draws_of(whole.run))
    assert len(draws_of(gathered.run)) == len(RATES)
    for name, one in whole.record["assets"].items():
        assert gathered.record["assets"][name] == one
    assert gathered.page is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("time.sleep(600)", "timed out: it took longer than 60 s"),
        ("os.kill(os.getpid(), 9)", "crashed: signal SIGKILL"),
        ("raise ArithmeticError('of our own making')", "of our own making"),
    ],
)
def test_an_asset_that_hangs_or_kills_its_process_is_the_only_one_lost(
    how: str, words: str, tmp_path: pathlib.Path
) -> None:
    model = load_model(write_alone(tmp_path / "cells", ALONE + HANGS.replace("HOW", how)))
    found = calibrate_assets(model, tmp_path / "results", limits=Limits(timeout=60.0, retries=0), progress=QUIET)
    assert found.status == "failed gates"
    verdicts = {name: one["verdict"] for name, one in found.record["assets"].items()}
    assert verdicts == {name: "failed" if name == "10" else "passed" for name in verdicts}
    assert words in found.record["assets"]["10"]["reasons"]


@pytest.mark.slow
def test_a_cluster_that_loses_workers_loses_no_asset(tmp_path: pathlib.Path) -> None:
    """Of two processes one is killed at random moments; the draws are those of a run without a cluster."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is an optional extra")
    rates = {f"{number}": 0.2 + 0.01 * number for number in range(12)}
    CAPACITIES.update(dict.fromkeys(rates, 5.0))
    model = load_model(write_alone(tmp_path / "cells", rates=rates))
    serial = calibrate_assets(model, tmp_path / "serial", workers=1, progress=QUIET)
    moments, stop, killed = random.Random(6), threading.Event(), []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        cluster.scheduler.allowed_failures = 20

        def kill() -> None:
            while not stop.wait(moments.uniform(2.0, 12.0)):
                known = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                if known and len(killed) < 4:
                    killed.append(moments.choice(known))
                    os.kill(killed[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            found = calibrate_assets(model, tmp_path / "cluster", dask=cluster.scheduler_address, progress=QUIET)
        finally:
            stop.set()
            killer.join()
    assert killed
    assert found.status == serial.status == "finished"
    check_same(draws_of(found.run), draws_of(serial.run))
    assert len(draws_of(found.run)) == len(rates)


def test_a_cluster_that_is_not_installed_is_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    model = load_model(write_alone(tmp_path / "cells"))
    with pytest.raises(InvalidSetting, match=r"pip install .bayestwin\[dask\]"):
        calibrate_assets(model, tmp_path / "results", dask="tcp://localhost:1", progress=QUIET)
