"""A job declares features, which drive its twin or tell regimes apart, and are refused where they would leak."""

import numpy as np
import pandas as pd
import pytest
from tank_model import JOB, TWIN, MakeModel, parse_strictly, run_command

import bayestwin as bt
from bayestwin.errors import InvalidJob, InvalidTelemetry
from bayestwin.project.model import load_model, load_telemetry, read_model_telemetry
from bayestwin.project.sections import ValidateSection
from bayestwin.project.validate import make_plan
from bayestwin.telemetry.features import Rolling
from bayestwin.telemetry.leakage import made_of

SMOOTH = """
[features.inflow]
kind = "rolling"
of = "pump"
window = 0.5

[features.busy]
kind = "switch"
of = "inflow"
above = 2.0

[features.double]
kind = "expression"
value = "2 * pump - '0 m/h'"
unit = "cm/h"
"""
DRIVEN = TWIN.replace("u.pump", "u.inflow").replace('"pump": bt.Input', '"inflow": bt.Input')
LATER = JOB.replace("[split]", "[split]\nstart = 0.5")


def test_they_are_those_of_python_and_the_held_out_part_goes_on(make_model: MakeModel) -> None:
    found = load_telemetry(load_model(make_model(job=JOB + SMOOTH)))
    assert found.held_out is not None
    whole = bt.read_telemetry(
        pd.concat([found.calibration.table, found.held_out.table])[["level", "pump"]], units={"pump": "m/h"}
    )
    expected = bt.add_features(whole, {"inflow": Rolling("pump", 0.5)}).table["inflow"]
    for part in (found.calibration, found.held_out):
        assert np.array_equal(part.table["inflow"], expected.loc[part.table.index], equal_nan=True)
        assert set(part.table["busy"].dropna()) <= {0.0, 1.0}
    assert found.held_out.table["inflow"].notna().all()
    np.testing.assert_allclose(found.calibration.in_unit("double", "m/h"), 2.0 * found.calibration.table["pump"])
    assert found.calibration.units["double"] == "cm/h"
    assert made_of(found.held_out)["busy"].of == {"pump": 0.0}
    assert any("`inflow` is not known in the first 2 of 41 rows" in said for said in found.calibration.notices)


def test_statistics_are_of_what_is_calibrated(make_model: MakeModel) -> None:
    job = JOB + '[features.scaled]\nkind = "standardized"\nof = "pump"\n'
    model = load_model(make_model(job=job))
    found = load_telemetry(model)
    pump = found.calibration.table["pump"]
    np.testing.assert_allclose(found.calibration.table["scaled"], (pump - pump.mean()) / pump.std())
    assert found.held_out is not None
    np.testing.assert_allclose(
        found.held_out.table["scaled"], (found.held_out.table["pump"] - pump.mean()) / pump.std()
    )
    assert made_of(found.calibration)["scaled"].until == 6.0
    everything = load_telemetry(model, type(model.job.split)()).calibration.table
    np.testing.assert_allclose(everything["scaled"].std(), 1.0)
    # a file to be predicted, too, is measured by what was calibrated
    path = model.folder / "ahead.csv"
    path.write_text("hour,pump\n11,3\n11.5,3.1\n", encoding="utf-8")
    ahead = read_model_telemetry(model, path, partly=True).table
    np.testing.assert_allclose(ahead["scaled"], (np.array([3.0, 3.1]) - pump.mean()) / pump.std())


def test_a_file_to_be_predicted_goes_on_from_what_was_recorded(make_model: MakeModel) -> None:
    model = load_model(make_model(job=JOB + SMOOTH))
    path = model.folder / "ahead.csv"
    path.write_text("hour,pump\n10.25,3.05\n10.5,3.1\n", encoding="utf-8")
    found = read_model_telemetry(model, path, partly=True).table
    np.testing.assert_allclose(found["inflow"], [(3.0 + 3.05) / 2.0, (3.05 + 3.1) / 2.0])


@pytest.mark.slow
def test_calibrated_predicted_validated_and_reproduced(make_model: MakeModel, tmp_path) -> None:
    job = LATER + SMOOTH + '[validate]\nby = ["busy"]\norigins = 2\nhorizon = 1.0\n'
    model, results = make_model(twin=DRIVEN, job=job), tmp_path / "results"
    code, out, err = run_command("calibrate", model, "--results", results)
    assert code == 0, out + err
    (run,) = (results / "tank").iterdir()
    (model / "ahead.csv").write_text("hour,pump\n6,2.2\n6.25,2.25\n6.5,2.3\n", encoding="utf-8")
    for options in ((), ("--telemetry", model / "ahead.csv")):
        code, out, err = run_command("predict", model, "--results", results, *options)
        assert code == 0, out + err
    code, out, err = run_command("validate", model, "--results", results, "--no-backtest", "--json")
    assert code in (0, 1), out + err
    assert "busy" in str(parse_strictly(out))
    code, out, err = run_command("reproduce", run.name, "--here", "--results", results)
    assert code == 0, out + err


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ('[features.f]\nkind = "lagg"', r"`features\.f\.kind`(?s:.*)Did you mean `lag`"),
        ('[features.f]\nof = "pump"', r"`features\.f\.kind`"),
        ('[features.f]\nkind = "lag"\nof = "pump"\nbuy = 1', r"unknown key `features\.f\.buy`(?s:.*)Did you mean `by`"),
        ('[features.f]\nkind = "lag"\nof = "pump"', r"lacks `features\.f\.by`"),
        ('[features.f]\nkind = "bins"\nof = "pump"\nedges = [1, "2"]', r"`features\.f\.edges`"),
        ('[features.f]\nkind = "rolling"\nof = "pump"\nwindow = 1\nstatistic = "median"', r"`features\.f\.statistic`"),
        ("[features]\nf = 3", r"`features\.f`"),
        ("features = 3\n", "`features`"),
    ],
)
def test_a_wrong_declaration_names_its_key(make_model: MakeModel, features: str, words: str) -> None:
    job = features + JOB if features.endswith("\n") else JOB + features
    with pytest.raises(InvalidJob, match=words):
        load_model(make_model(job=job))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ('[features.f]\nkind = "lag"\nof = "pump"\nby = -1', r"\[features\](?s:.*)Feature `f` looks ahead: its `by`"),
        (
            '[features.f]\nkind = "rolling"\nof = "pump"\nwindow = 1\nside = "center"',
            "Feature `f` looks ahead: its window",
        ),
        (
            '[features.f]\nkind = "expression"\nvalue = "open(pump)"',
            "Feature `f` has an expression that cannot be read",
        ),
        ('[features.f]\nkind = "lag"\nof = "pupm"\nby = 1', "`pupm`, which is no column"),
    ],
)
def test_a_leak_in_a_job_is_refused(make_model: MakeModel, features: str, words: str) -> None:
    with pytest.raises(InvalidTelemetry, match=words):
        load_telemetry(load_model(make_model(job=JOB + features)))


def test_an_input_that_is_not_known_at_first_says_where_to_begin(make_model: MakeModel) -> None:
    with pytest.raises(InvalidTelemetry, match=r"`inflow`(?s:.*)none before 0\.5(?s:.*)`start = 0\.5` in `\[split\]`"):
        load_telemetry(load_model(make_model(twin=DRIVEN, job=JOB + SMOOTH)))


def test_an_observation_fed_back_is_refused_in_what_is_held_out(make_model: MakeModel) -> None:
    job = LATER + '[features.inflow]\nkind = "lag"\nof = "level"\nby = 0.5\n'
    with pytest.raises(InvalidTelemetry, match=r"(?s)held out: The input `inflow`.*`level`.*at 6\.5 it needs"):
        load_telemetry(load_model(make_model(twin=DRIVEN, job=job)))


def test_standardised_inputs_say_when_a_backtest_would_know_too_much(make_model: MakeModel) -> None:
    scaled = '[features.inflow]\nkind = "standardized"\nof = "pump"\n'
    model = load_model(make_model(twin=DRIVEN.replace('unit="m/h"', 'unit=""'), job=JOB + scaled))
    split, asked = load_telemetry(model), ValidateSection(origins=2, horizon=1.0)
    assert split.held_out is not None
    with pytest.raises(InvalidTelemetry, match="Let `until` of `inflow` be earlier"):
        make_plan(model, split, split.held_out, asked, with_backtest=True)
