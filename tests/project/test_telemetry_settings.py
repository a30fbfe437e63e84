"""A job file says how telemetry reads, as Python does, and `check` prints what was done to it."""

import pathlib

import numpy as np
from tank_model import JOB, MakeModel, parse_strictly, run_command, telemetry_text

from bayestwin.project.model import load_model, load_telemetry, read_model_telemetry

SETTINGS = """separator = ";"
decimal = ","
duplicates = "first"
sentinels = [-999, "OVERFLOW"]
"""


def european(text: str) -> str:
    """As a logger writes it that repeats a row, swaps two and has no value in one."""
    comment, header, *rows = text.strip().splitlines()
    rows = [row.replace(",", ";").replace(".", ",") for row in rows]
    rows[3], rows[4] = rows[4], rows[3]
    time, _, *others = rows[6].split(";")
    rows[6] = ";".join([time, "-999", *others])
    return "\n".join([comment, header.replace(",", ";"), *rows, rows[-1]]) + "\n"


def model_of(make_model: MakeModel) -> pathlib.Path:
    model = make_model(job=JOB.replace("[telemetry]\n", f"[telemetry]\n{SETTINGS}"))
    (model / "data" / "tank.csv").write_text(european(telemetry_text()))
    return model


def test_the_keys_of_the_job_are_those_of_python(make_model: MakeModel) -> None:
    plain, other = load_telemetry(load_model(make_model("plain"))), load_telemetry(load_model(model_of(make_model)))
    expected, found = plain.calibration.table.copy(), other.calibration.table
    expected.iloc[6, 0] = np.nan
    assert found.equals(expected)
    assert other.calibration.settings == {"duplicates": "first", "sentinels": ["-999.0", "OVERFLOW"]}


def test_check_prints_what_was_done(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    code, out, _ = run_command("check", model_of(make_model), "--results", tmp_path / "results", "--json")
    assert code == 0
    said = " ".join(row["sentence"] for row in parse_strictly(out) if row["severity"] == "note")
    for words in ("runs backwards 1 time and was sorted", "rows repeat a time", "held -999"):
        assert words in said


def test_a_part_of_the_columns_may_be_read_with_the_same_settings(make_model: MakeModel) -> None:
    model = load_model(model_of(make_model))
    lines = (model.folder / "data" / "tank.csv").read_text().splitlines()[1:]
    (model.folder / "ahead.csv").write_text("\n".join(";".join(np.delete(line.split(";"), 1)) for line in lines))
    found = read_model_telemetry(model, model.folder / "ahead.csv", partly=True)
    assert len(found.table.columns) == len(load_telemetry(model).calibration.table.columns) - 1
