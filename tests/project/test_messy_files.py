"""A logger's messy file reads by its job file alone: what is wrong is said in TOML, and what TOML says is done."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from tank_model import MakeModel, run_command

from bayestwin.errors import InvalidInput, InvalidTelemetry
from bayestwin.project.job import as_toml
from bayestwin.project.model import load_model, load_telemetry, read_model_telemetry
from bayestwin.project.sections import Job
from bayestwin.project.telemetry import in_place
from bayestwin.project.telemetry_sections import TelemetrySection

BERLIN = "Europe/Berlin"

BARE = """
[telemetry]
file = "data/tank.csv"
separator = ";"
decimal = ","
"""

JOB = """
[telemetry]
file = "data/tank.csv"
time = "Zeit"
time_format = "%d.%m.%Y %H:%M"
timezone = "Europe/Berlin"
ambiguous = "infer"
separator = ";"
decimal = ","
sentinels = [-999, "OVERFLOW"]
units = { Pegel = "cm", Zulauf = "cm/h" }
rename = { Pegel = "level", Zulauf = "pump" }
drop = [{ column = "Pegel", start = "2026-10-25 05:00", end = 2026-10-25T05:30:00 }]
fill = { Zulauf = { how = "linear", within = "2h" } }

[split]
hold_out_from = "2026-10-25 08:00"
"""


def logger_file() -> str:
    """Half hours on the clock of Berlin over the night in which it goes back; a cell without a value here and there."""
    clock = pd.date_range("2026-10-24T22:00Z", periods=24, freq="30min").tz_convert(BERLIN)
    level, pump = 100.0 + np.arange(24.0), 10.0 + np.arange(24.0)
    rows = [
        f"{moment:%d.%m.%Y %H:%M};{one:.1f};{other:.2f}".replace(".", ",").replace(",", ".", 2)
        for moment, one, other in zip(clock, level, pump, strict=True)
    ]
    time, one, other = rows[3].split(";")
    rows[3] = f"{time};-999,0;{other}"
    time, one, other = rows[8].split(";")
    rows[8] = f"{time};{one};-999,0"
    time, one, other = rows[9].split(";")
    rows[9] = f"{time};OVERFLOW;{other}"
    return "\n".join(["Zeit;Pegel;Zulauf", *rows]) + "\n"


def messy(make_model: MakeModel, job: str = JOB) -> pathlib.Path:
    folder = make_model(job=job)
    (folder / "data" / "tank.csv").write_text(logger_file())
    return folder


def said(folder: pathlib.Path) -> str:
    with pytest.raises(InvalidInput) as raised:
        load_telemetry(load_model(folder))
    return str(raised.value)


def test_the_file_reads_by_its_job(make_model: MakeModel) -> None:
    split = load_telemetry(load_model(messy(make_model)))
    table = pd.concat([split.calibration.table, split.held_out.table])
    np.testing.assert_array_equal(np.flatnonzero(table["level"].isna()), [3, 9, 12, 13])
    np.testing.assert_allclose(table["pump"], 10.0 + np.arange(24.0))
    assert table.index[[0, -1]].tolist() == [pd.Timestamp("2026-10-24T22:00"), pd.Timestamp("2026-10-25T09:30")]
    assert split.held_out.table.index[0] == pd.Timestamp("2026-10-25T07:00")  # 08:00 in winter


def test_what_was_done_is_told_by_the_names_of_the_file_on_its_own_clock(make_model: MakeModel) -> None:
    told = " ".join(load_telemetry(load_model(messy(make_model))).calibration.notices)
    assert "`Pegel` (`level`): 2 cells held -999.0, OVERFLOW and were taken as missing (row 4, 10)." in told.replace(
        "-999,0", "-999.0"
    )
    assert "`Pegel` (`level`): 2 values were dropped, as declared: 2026-10-25 05:00+01:00 to 2026-10-25 05:30" in told
    assert "`Zulauf` (`pump`): 1 missing cell was filled, as declared, by a straight line" in told


def test_step_by_step_the_messages_name_lines_of_the_job(make_model: MakeModel) -> None:
    folder, lines = messy(make_model, BARE), BARE
    steps = [
        ('`time = "<the column with the times>"`', 'time = "Zeit"'),
        ('`time_format = "%d.%m.%Y %H:%M"`', 'time_format = "%d.%m.%Y %H:%M"'),
        ("`timezone = …`", 'timezone = "Europe/Berlin"'),
        ('`ambiguous = "earlier"` (summer time), `"later"` (winter time), or `"infer"`', 'ambiguous = "infer"'),
        ("`sentinels = [-999]`", 'sentinels = [-999, "OVERFLOW"]'),
    ]
    for words, line in steps:
        found = said(folder)
        assert words in found
        assert found.startswith(f"In `[telemetry]` of `{folder / 'job.toml'}`: ")
        lines += f"{line}\n"
        (folder / "job.toml").write_text(lines)
    assert load_telemetry(load_model(folder)).calibration.table.shape == (24, 2)


def test_all_that_is_wrong_with_the_rows_is_said_at_once(make_model: MakeModel) -> None:
    job = JOB.replace('ambiguous = "infer"\n', "").replace('sentinels = [-999, "OVERFLOW"]\n', "")
    found = said(messy(make_model, job.replace('"cm/h"', '"cm3/h"')))
    assert "3 things are wrong" in found or "4 things are wrong" in found
    for words in ('ambiguous = "earlier"', "OVERFLOW", "-999 in 1 cell of `Zulauf` (`pump`): row 9", "cm^3/h"):
        assert words in found


def test_a_gap_in_an_input_names_the_line_that_fills_it(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    folder = messy(make_model, JOB.replace('fill = { Zulauf = { how = "linear", within = "2h" } }\n', ""))
    code, _, err = run_command("check", folder, "--results", tmp_path / "results")
    assert code == 2
    assert "Input `Zulauf` (`pump`) has a gap" in err
    assert "from 2026-10-25 03:00+01:00 to 2026-10-25 03:00+01:00" in err
    assert '`fill = { pump = "previous" }`' in err


def test_another_file_is_mended_alike_where_it_has_the_columns(make_model: MakeModel) -> None:
    model = load_model(messy(make_model))
    rows = [line.split(";") for line in logger_file().splitlines()]
    (model.folder / "ahead.csv").write_text("\n".join(f"{time};{pump}" for time, _, pump in rows))
    found = read_model_telemetry(model, model.folder / "ahead.csv", partly=True)
    np.testing.assert_allclose(found.table["pump"], 10.0 + np.arange(24.0))
    (model.folder / "seen.csv").write_text("\n".join(f"{time};{level}" for time, level, _ in rows))
    found = read_model_telemetry(model, model.folder / "seen.csv", partly=True)
    np.testing.assert_array_equal(np.flatnonzero(found.table["level"].isna()), [3, 9, 12, 13])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('fill = { Zulauf = { how = "linear"', 'fill = { Zulauf = { how = "nearest"'),
            ["fill.Zulauf.how", "'linear'"],
        ),
        (("drop = [{ column", "drop = [{ colum"), ["unknown key `telemetry.drop.0.colum`", "Did you mean `column`?"]),
        (('hold_out_from = "2026-10-25 08:00"', 'hold_out_from = "08.11.2026"'), ["`hold_out_from`", "two days"]),
    ],
)
def test_mistakes_in_these_keys_are_named(make_model: MakeModel, change: tuple[str, str], words: list[str]) -> None:
    assert change[0] in JOB
    found = said(messy(make_model, JOB.replace(*change)))
    for word in words:
        assert word in found


@pytest.mark.parametrize(
    ("python", "as_written"),
    [
        ("`sentinels=(-999, 'x y')`", '`sentinels = [-999, "x y"]`'),
        ("`sentinels=()`", "`sentinels = []`"),
        ("`units={…}` or `rename={'<column>': 'a'}`", '`units = { … }` or `rename = { "<column>" = "a" }`'),
        ("`fill={'a': {'how': 'linear', 'within': 0.5}}`", '`fill = { a = { how = "linear", within = 0.5 } }`'),
        ("`separator='\\t'`", '`separator = "\\t"`'),
        ("`timezone=` or `'15min'`", '`timezone = …` or `"15min"`'),
        ("`telemetry.between(end=…)` of `a` == `x=y`", "`telemetry.between(end=…)` of `a` == `x=y`"),
    ],
)
def test_arguments_of_python_become_lines_of_toml(python: str, as_written: str) -> None:
    assert as_toml(python) == as_written


def test_a_file_that_is_wrong_in_the_same_way_is_refused_by_type(make_model: MakeModel) -> None:
    with pytest.raises(InvalidTelemetry):
        load_telemetry(load_model(messy(make_model, BARE)))


def test_a_recorded_job_reads_the_same_telemetry(make_model: MakeModel) -> None:
    model = load_model(messy(make_model))
    recorded = Job.model_validate(json.loads(model.job.model_dump_json(exclude_none=True)))
    first, again = load_telemetry(model), load_telemetry(model._replace(job=recorded))
    assert again.calibration.sha256 == first.calibration.sha256
    assert again.held_out.sha256 == first.held_out.sha256


def test_one_file_in_place_of_several_has_the_same_t0() -> None:
    source = {"file": "a.csv", "timezone": BERLIN}
    section = TelemetrySection.model_validate({"t0": "2026-07-01 12:00", "sources": {"a": source, "b": source}})
    assert in_place(section, pathlib.Path("new.csv")).t0 == "2026-07-01 10:00:00Z"
    plain = TelemetrySection.model_validate({"t0": 3.0, "sources": {"a": {"file": "a.csv"}}})
    assert in_place(plain, pathlib.Path("new.csv")).t0 == 3.0
