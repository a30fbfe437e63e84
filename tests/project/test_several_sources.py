"""A job may name several sources; its runs keep all of them, and can be resumed, told apart, exported and repeated."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tank_model import JOB, MakeModel, run_command, telemetry_text, write_model

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidJob, InvalidTelemetry
from bayestwin.project.batch import plan
from bayestwin.project.diff import difference
from bayestwin.project.job import read_job
from bayestwin.project.kit import export, unpack
from bayestwin.project.model import changed, load_model, load_telemetry, read_model_telemetry
from bayestwin.project.record import read_record
from bayestwin.project.reproduce import reproduce
from bayestwin.project.run import keep_inputs, recorded_model

SOURCES = """
[telemetry.sources.gauge]
file = "data/gauge.csv"
time = "hour"
units = { cm = "cm" }
rename = { cm = "level" }

[telemetry.sources.pump]
file = "data/pump/gauge.csv"
time = "h"
units = { pump = "m/h" }
"""
ALIGNED = """
[telemetry.align]
every = 0.5
side = "right"
how = { level = "last", pump = "mean" }
"""
REST = JOB[JOB.index("[split]") :]


def write_sources(model: pathlib.Path) -> pathlib.Path:
    """The tank's level in centimetres, and its pump in a file of the same name in another folder."""
    rows = [line.split(",") for line in telemetry_text().splitlines()[2:]]
    (model / "data" / "pump").mkdir()
    level = "".join(f"{hour},{100 * float(gauge):.2f}\n" for hour, gauge, _ in rows)
    (model / "data" / "gauge.csv").write_text("hour,cm\n" + level, encoding="utf-8")
    pump = "".join(f"{hour},{value}\n" for hour, _, value in rows)
    (model / "data" / "pump" / "gauge.csv").write_text("h,pump\n" + pump, encoding="utf-8")
    return model


@pytest.fixture
def model(make_model: MakeModel) -> pathlib.Path:
    return write_sources(make_model(job=SOURCES + REST))


def test_exactly_equal_times_give_what_one_file_gives(model: pathlib.Path, make_model: MakeModel) -> None:
    one = load_telemetry(load_model(make_model("plain"))).calibration
    both = load_telemetry(load_model(model)).calibration
    assert np.array_equal(both.table.index, one.table.index)
    assert np.allclose(both.in_unit("level", "m"), one.in_unit("level", "m"), rtol=0, atol=1e-4)
    assert np.array_equal(both.in_unit("pump", "m/h"), one.in_unit("pump", "m/h"))
    assert [name for name, _ in both.settings["sources"]] == ["gauge", "pump"]


def test_the_declared_resampling_is_that_of_align(model: pathlib.Path) -> None:
    (model / "job.toml").write_text(SOURCES + ALIGNED + REST, encoding="utf-8")
    found = load_telemetry(load_model(model))
    sources = {
        "gauge": bt.read_telemetry(model / "data/gauge.csv", time="hour", units={"cm": "cm"}, rename={"cm": "level"}),
        "pump": bt.read_telemetry(model / "data/pump/gauge.csv", time="h", units={"pump": "m/h"}),
    }
    expected = bt.align(sources, every=0.5, side="right", how={"level": "last", "pump": "mean"})
    assert found.calibration.table.equals(expected.between(end=6.0).table)
    assert found.calibration.sha256 == expected.between(end=6.0).sha256


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        (SOURCES.replace('"data/gauge.csv"', '"gone.csv"'), InvalidJob, r"\[telemetry.sources.gauge\]"),
        (SOURCES.replace('h"\nunits', 'hours"\nunits'), InvalidTelemetry, r"\[telemetry.sources.pump\].*`hours`"),
        (SOURCES + ALIGNED.replace("level", "levle"), InvalidTelemetry, r"\[telemetry.align\].*How `level`"),
        (
            SOURCES + ALIGNED.replace('side = "right"\n', ""),
            InvalidTelemetry,
            "align.*end of its window",
        ),
        (SOURCES + ALIGNED.replace("every", "evry"), InvalidJob, r"`telemetry.align.evry`(?s:.*)Did you mean `every`"),
        (SOURCES + ALIGNED.replace("every = 0.5\n", ""), InvalidJob, "lacks `telemetry.align.every`"),
        (SOURCES + ALIGNED.replace('"mean"', '"median"'), InvalidJob, "`telemetry.align.how.pump`"),
        (SOURCES.replace("rename", "rname"), InvalidJob, "`telemetry.sources.gauge.rname`(?s:.*)`rename`"),
        (
            SOURCES + 'dataset = "armadillo"\n',
            InvalidJob,
            "`telemetry.sources.pump`(?s:.*)one of `file`, `dataset` and `database`",
        ),
        (
            SOURCES.replace("sources.pump", 'sources."../pump"'),
            InvalidJob,
            "`telemetry.sources`(?s:.*)names of",
        ),
        ('[telemetry]\ntime = "hour"\n' + SOURCES, InvalidJob, r"`time` belongs beneath `\[telemetry.sources.NAME\]`"),
        ("[telemetry]\nfile = 'a.csv'\n" + ALIGNED, InvalidJob, "`sources` with `align`, or neither"),
        ("[telemetry]\nsources = {}\n", InvalidJob, "one of `file`, `dataset` and `database`"),
    ],
)
def test_what_is_wrong_names_its_table(model: pathlib.Path, job: str, error: type, words: str) -> None:
    (model / "job.toml").write_text(job + REST, encoding="utf-8")
    with pytest.raises(error, match=words):
        load_telemetry(load_model(model))


def test_sources_that_differ_in_time_need_a_resampling(model: pathlib.Path) -> None:
    path = model / "data" / "gauge.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("\n0.25,", "\n0.26,"), encoding="utf-8")
    with pytest.raises(InvalidTelemetry, match=r"\[telemetry.sources\](?s:.*)different times(?s:.*)telemetry.align"):
        load_telemetry(load_model(model))


def test_one_file_in_their_place_has_the_columns_of_the_twin(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole = tmp_path / "day.csv"
    load_telemetry(load_model(model)).calibration.table.to_csv(whole)
    found = load_telemetry(changed(load_model(model), telemetry=whole, split={"hold_out_from": "5.0"}))
    assert np.allclose(found.calibration.in_unit("level", "m")[0], 5.0, atol=0.5)
    ahead = tmp_path / "ahead.csv"
    ahead.write_text("time,pump\n0,1\n1,2\n", encoding="utf-8")
    assert read_model_telemetry(load_model(model), ahead, partly=True).units == {"pump": "m/h"}


def test_a_batch_knows_its_task_by_the_bytes_of_every_source(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ((first,), _) = plan([model], [], tmp_path / "results")
    path = model / "data" / "pump" / "gauge.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",1.0500\n", ",1.0600\n"), encoding="utf-8")
    ((second,), _) = plan([model], [], tmp_path / "results")
    assert first.key != second.key


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the model and one run of it: change nothing in it."""
    root = tmp_path_factory.mktemp("several")
    model = write_sources(write_model(root / "models" / "tank", job=SOURCES + ALIGNED + REST))
    code, out, err = run_command("calibrate", model, "--results", root / "results")
    assert code == 0, out + err
    return root


@pytest.fixture
def round_trip(calibrated: pathlib.Path, tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A copy of the model, and of its run."""
    shutil.copytree(calibrated, tmp_path / "copy")
    (run,) = (tmp_path / "copy" / "results" / "tank").iterdir()
    return tmp_path / "copy" / "models" / "tank", run


def test_a_run_is_made_again_from_nothing_but_itself(round_trip: tuple[pathlib.Path, pathlib.Path]) -> None:
    model, run = round_trip
    record = read_record(run)
    kept = {name for name in record["inputs"] if name.startswith("telemetry/")}
    assert kept == {"telemetry/gauge/gauge.csv", "telemetry/pump/gauge.csv"}
    shutil.rmtree(model)
    assert load_telemetry(recorded_model(run, record)).calibration.sha256 == record["telemetry_sha256"]["calibration"]
    again = reproduce(run)
    assert again.holds
    assert {one.level for one in again.files} == {"bits"}


@pytest.mark.slow
def test_its_kit_makes_it_again(round_trip: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path) -> None:
    _, run = round_trip
    kit = unpack(export(run.parents[1], run, tmp_path / "kit.zip"), tmp_path / "unpacked")
    assert (kit / "run/inputs/telemetry/pump/gauge.csv").is_file()
    done = subprocess.run(
        [sys.executable, "-c", "from bayestwin.cli import app; app()", "reproduce", "run", "--here"],
        cwd=kit,
        env=os.environ | {"PYTHONPATH": str(kit / "code")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def change_the_pump(model: pathlib.Path) -> None:
    path = model / "data" / "pump" / "gauge.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",1.1000\n", ",1.2000\n"), encoding="utf-8")


def test_a_changed_source_is_what_differs(round_trip: tuple[pathlib.Path, pathlib.Path]) -> None:
    model, run = round_trip
    change_the_pump(model)
    code, out, err = run_command("calibrate", model, "--results", run.parents[1])
    assert code == 0, out + err
    (other,) = (one for one in run.parent.iterdir() if one != run)
    names = {change.name for change in difference(run, other).changes}
    assert "inputs.telemetry/pump/gauge.csv" in names
    assert "inputs.telemetry/gauge/gauge.csv" not in names


def test_an_interrupted_run_is_resumed_with_all_sources(round_trip: tuple[pathlib.Path, pathlib.Path]) -> None:
    model, run = round_trip
    record = run / "run.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"finished"', '"interrupted"'), encoding="utf-8")
    before = (run / "posterior.nc").read_bytes()
    shutil.copytree(model, model.parent / "changed")
    change_the_pump(model.parent / "changed")
    code, _, err = run_command("resume", run, "--model", model.parent / "changed")
    assert code == 2
    assert "has changed since it was begun" in err
    code, out, err = run_command("resume", run, "--model", model)
    assert code == 0, out + err
    assert (run / "posterior.nc").read_bytes() == before


def test_a_changed_source_of_a_run_is_named(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "results" / "tank" / "1"
    run.mkdir(parents=True)
    found = load_model(model)
    record = keep_inputs(run, found, {"job_file": "job.toml", "job": found.job.model_dump(mode="json")})
    assert recorded_model(run, record).job.telemetry.sources["gauge"].file == "telemetry/gauge/gauge.csv"
    (run / "inputs/telemetry/pump/gauge.csv").write_text("h,pump\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"`telemetry/pump/gauge\.csv`"):
        recorded_model(run, record)


def test_a_job_with_one_source_reads_as_before(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    section = read_job(path).telemetry
    assert (section.file, section.sources, section.align) == ("data/tank.csv", {}, None)
