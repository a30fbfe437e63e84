"""A job of a fleet reads a long table, a folder of files or Parquet alike; what is wrong is told of every asset."""

import importlib.util
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from fleet_model import CAPACITIES, JOB, RATES, records, write_fleet

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidInput, InvalidJob, InvalidTelemetry
from bayestwin.project.calibrate import calibrate_model, notices_of
from bayestwin.project.model import Split, check_ready, load_model, load_telemetry, population_of
from bayestwin.project.record import read_record
from bayestwin.project.run import keep_inputs, recorded_model, sha256_of

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
LAYOUTS = [
    "table",
    "files",
    pytest.param("parquet", marks=pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is an optional extra")),
]
ORDER = ["001", "2", "10", "<i>5", "b 4"]


def split_of(folder: pathlib.Path) -> Split:
    model = load_model(folder)
    found = load_telemetry(model)
    check_ready(model, found)
    return found


@pytest.fixture(params=LAYOUTS)
def fleet(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    return write_fleet(tmp_path / "cells", request.param)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_fleet(tmp_path / "cells", "files")


@pytest.mark.thorough
def test_any_layout_gives_the_same_draws_to_the_bit(fleet: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found, table = (split_of(one) for one in (fleet, write_fleet(tmp_path / "plain")))
    assert list(found.calibration) == list(found.held_out) == ORDER
    for name, one in found.calibration.items():
        assert one.sha256 == table.calibration[name].sha256
        assert (one.table["capacity"] == CAPACITIES[name]).all()
        assert one.units["capacity"] == "A*h"
        assert one.table.index.max() < 6.0 <= found.held_out[name].table.index.min()
    twin = load_model(fleet).twin
    draws = [
        bt.calibrate(twin, one.calibration, seed=0, method="laplace", num_samples=20, num_chains=2)["posterior"]
        for one in (found, table)
    ]
    assert draws[0].to_dataset().identical(draws[1].to_dataset())


def test_a_run_keeps_what_the_fleet_was_made_of(fleet: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model, run = load_model(fleet), tmp_path / "results" / "cells" / "one"
    told = {"job_file": "job.toml", "job": model.job.model_dump(mode="json", exclude_none=True)}
    record = keep_inputs(run, model, told)
    expected = split_of(fleet)
    shutil.rmtree(fleet)
    found = load_telemetry(recorded_model(run, record))
    for again, before in ((found.calibration, expected.calibration), (found.held_out, expected.held_out)):
        assert {name: one.sha256 for name, one in again.items()} == {name: one.sha256 for name, one in before.items()}


def rewritten(folder: pathlib.Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the table of attributes."""
    path = folder / "data" / "assets.csv"
    change(pd.read_csv(path, dtype={"asset": str})).to_csv(path, index=False)


def test_what_has_no_rows_or_no_telemetry_is_set_aside_by_name(files: pathlib.Path) -> None:
    cells = files / "data" / "cells"
    (cells / "2.csv").write_text("day,charge\n", encoding="utf-8")
    (cells / "10.csv").write_text("", encoding="utf-8")
    table = pd.read_csv(cells / "b 4.csv")
    table[table["day"] >= 6.0].to_csv(cells / "b 4.csv", index=False)
    rewritten(files, lambda one: pd.concat([one, pd.DataFrame({"asset": ["spare"], "capacity": [5.0]})]))
    found = split_of(files)
    assert list(found.calibration) == list(found.held_out) == ["001", "<i>5"]
    assert found.set_aside == {
        "2": "Asset `2` has no rows.",
        "10": "Asset `10` has no rows.",
        "spare": "Asset `spare` has attributes, and no telemetry.",
        "b 4": "Asset `b 4` has no row in what is calibrated.",
    }
    assert notices_of(found)[:4] == list(found.set_aside.values())


def test_an_asset_that_ends_early_has_nothing_held_out(files: pathlib.Path) -> None:
    path = files / "data" / "cells" / "2.csv"
    table = pd.read_csv(path)
    table[table["day"] < 6.0].to_csv(path, index=False)
    found = split_of(files)
    assert list(found.calibration) == ORDER
    assert list(found.held_out) == ["001", "10", "<i>5", "b 4"]


def without(names: set[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table[~table["asset"].isin(names)]


def twice(names: set[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: pd.concat([table, table[table["asset"].isin(names)]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without({"2", "b 4"}),
            r"no attributes(?s:.*)Received: `2`, `b 4`; it has 3 others",
        ),
        (twice({"2", "10"}), r"several rows of one asset(?s:.*)Received: `2`, `10`"),
        (lambda one: one.replace({"2": "../2", "10": "CON"}), r"cannot be used(?s:.*)Received: `../2`, `CON`"),
        (lambda one: one.replace({"b 4": "B 4"}), r"differ by case(?s:.*)Received: `B 4`, `b 4`"),
        (
            lambda one: one.assign(charge=1.0),
            r"(?s)Of 5 assets \(`001`, `2`, `10`, `<i>5`, `b 4`\).*columns of one name.*`charge`",
        ),
        (lambda one: one.assign(capacity=np.where(one["asset"] == "2", np.nan, 5.0)), r"(?s)Of asset `2`.*`capacity`"),
        (lambda one: one.rename(columns={"asset": "cell"}), r"`attributes` in `\[fleet\]`(?s:.*)`asset`"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(
    files: pathlib.Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    rewritten(files, change)
    with pytest.raises(InvalidTelemetry, match=words):
        split_of(files)


def test_all_that_is_wrong_is_told_at_once(files: pathlib.Path) -> None:
    cells = files / "data" / "cells"
    text = (cells / "2.csv").read_text(encoding="utf-8")
    (cells / "2.csv").write_text(text.replace("\n1.0,", "\n0.5,"), encoding="utf-8")
    (cells / "10.csv").write_text("day,volts\n0,1\n", encoding="utf-8")
    (cells / "B 4.csv").write_text(text, encoding="utf-8")
    (cells / "001.csv").write_text("\n".join(f"{line}" for line in text.splitlines()[:3]) + "\nx,1\n", encoding="utf-8")
    rewritten(files, lambda table: twice({"10"})(without({"<i>5"})(table)))
    with pytest.raises(InvalidTelemetry) as refused:
        split_of(files)
    told = str(refused.value)
    for words in ("others", "`<i>5`", "`B 4`, `b 4`", "Received: `10`", "Of asset `2`", "Of asset `001`"):
        assert words in told


def test_all_assets_that_do_not_fit_the_twin_are_told_at_once(files: pathlib.Path) -> None:
    for name in ("2", "10"):
        path = files / "data" / "cells" / f"{name}.csv"
        path.write_text(path.read_text(encoding="utf-8").replace("charge", "volts"), encoding="utf-8")
    with pytest.raises(InvalidTelemetry, match=r"(?s)Of 2 assets \(`2`, `10`\).*`charge`"):
        split_of(files)


def test_a_unit_of_its_own_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    folder = write_fleet(tmp_path / "cells", "files")
    cells = folder / "data" / "cells"
    job = (folder / "job.toml").read_text(encoding="utf-8").replace(', charge = "A*h"', "")
    (folder / "job.toml").write_text(job, encoding="utf-8")
    for name in RATES:
        table = pd.read_csv(cells / f"{name}.csv").set_index("day").to_xarray()
        table["charge"].attrs["units"] = "mA*h" if name == "10" else "A*h"
        (cells / f"{name}.csv").unlink()
        table.to_netcdf(cells / f"{name}.nc", engine="h5netcdf")
    with pytest.raises(
        InvalidTelemetry, match=r"`charge` states a unit of its own(?s:.*)most have A\*h(?s:.*)`10`: mA"
    ):
        split_of(folder)


def test_two_files_of_one_asset_are_refused(files: pathlib.Path) -> None:
    shutil.copy(files / "data" / "cells" / "2.csv", files / "data" / "cells" / "2.CSV")
    with pytest.raises(InvalidTelemetry, match=r"several files of one asset(?s:.*)`2.CSV`, `2.csv`"):
        split_of(files)


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        (JOB.replace("by =", "bye ="), InvalidJob, r"`fleet.bye`(?s:.*)Did you mean `by`"),
        (JOB.replace('"data/assets.csv"', '"gone.csv"'), InvalidJob, r"`attributes` in `\[fleet\]`"),
        (JOB.replace('"{file}"', '"gone"'), InvalidJob, r"`gone`(?s:.*)or a folder of them"),
        (JOB + "\n[report]\nshares = true\n", InvalidJob, r"without `shares` in `\[report\]`"),
        (JOB.replace("hold_out_from = 6.0", "hold_out_from = -1.0"), InvalidTelemetry, "No asset(?s:.*)is left"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(files: pathlib.Path, job: str, error: type, words: str) -> None:
    (files / "job.toml").write_text(job.format(file="data/cells"), encoding="utf-8")
    with pytest.raises(error, match=words):
        split_of(files)


def test_a_verb_of_one_asset_says_so(files: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match=r"`bayestwin sbc` is of one asset(?s:.*)5 assets"):
        split_of(files).of_one("sbc")


@pytest.mark.thorough
def test_a_new_asset_starts_from_a_posterior_that_its_run_keeps(tmp_path: pathlib.Path) -> None:
    fleet, results = load_model(write_fleet(tmp_path / "cells")), tmp_path / "results"
    old = calibrate_model(fleet, results, progress=Progress(show=False))
    folder = tmp_path / "new"
    (folder / "data").mkdir(parents=True)
    shutil.copy(fleet.folder / "twin.py", folder)
    few = records({"001": 0.34})["001"].iloc[:3].assign(capacity=5.0)
    few.to_csv(folder / "data" / "cell.csv", index=False)
    before, _, after = JOB.format(file="data/cell.csv").partition("[fleet]")
    job = before + "[calibrate]" + after.partition("[calibrate]")[2]
    table = '[population]\nposterior = "{}"\n'
    (folder / "job.toml").write_text(job + table.format("gone.nc"))
    with pytest.raises(InvalidJob, match="names the posterior `gone"):
        calibrate_model(load_model(folder), results, progress=Progress(show=False))
    posterior = os.path.relpath(old.run / "posterior.nc", folder)
    (folder / "job.toml").write_text(job + table.format(posterior))
    found = calibrate_model(load_model(folder), results, progress=Progress(show=False))
    assert found.record["inputs"]["population/posterior.nc"] == sha256_of(old.run / "posterior.nc")
    told = found.posterior.attrs["population"]
    assert told["posterior_sha256"] == old.posterior.attrs["posterior_sha256"]
    shutil.rmtree(fleet.folder)
    shutil.rmtree(old.run)
    again = recorded_model(found.run, read_record(found.run))
    assert population_of(again)["posterior"].equals(old.posterior["posterior"])  # type: ignore[index]
