"""Telemetry is looked at before anything is sampled: each planted oddity is found, with its evidence."""

import json

import numpy as np
import pandas as pd
import pytest

from bayestwin.assess import check
from bayestwin.errors import InvalidTelemetry

DATES = pd.date_range("2024-01-01", periods=200, freq="15min").to_numpy()


@pytest.fixture
def columns():
    rng = np.random.default_rng(11)
    return {"indoor": 20 + rng.normal(size=200), "heating": rng.uniform(0, 1000, 200)}


def test_sound_telemetry_has_no_findings(make_telemetry, columns):
    assert check(make_telemetry(columns, DATES), ("indoor", "heating")) == ()


def test_a_constant_sensor_is_found(make_telemetry, columns):
    columns["indoor"] = np.where(np.arange(200) % 7 == 3, np.nan, 21.5)
    constant, missing = check(make_telemetry(columns, DATES), ("indoor", "heating"))
    assert constant.column == missing.column == "indoor"
    assert constant.severity == "warn"
    assert constant.sentence.startswith("`indoor` never changes: all 171 values are 21.5 degC.")
    assert constant.evidence == {"value": 21.5, "values": 171}


@pytest.mark.parametrize("absent", ["rows", "values"])
def test_a_gap_is_found_whether_rows_or_values_are_missing(make_telemetry, columns, absent):
    times = DATES
    if absent == "rows":
        kept = np.r_[0:50, 74:200]
        columns, times = {name: values[kept] for name, values in columns.items()}, DATES[kept]
    else:
        columns["indoor"][50:74] = np.nan
    (finding,) = check(make_telemetry(columns, times), ["indoor"])
    assert finding.severity == "warn"
    assert finding.evidence["share"] == pytest.approx(0.12 if absent == "values" else 0)
    assert finding.evidence["gap"] == "0 days 06:15:00"
    assert finding.evidence["start"] == "2024-01-01 12:15:00"
    assert finding.evidence["end"] == "2024-01-01 18:30:00"
    assert "6:15:00, from 2024-01-01 12:15:00 to 2024-01-01 18:30:00" in finding.sentence


def test_a_sensor_that_reports_more_rarely_has_no_gap(make_telemetry, columns):
    columns["indoor"][np.arange(200) % 8 != 0] = np.nan
    (finding,) = check(make_telemetry(columns, np.arange(200) / 4), ["indoor"])
    assert finding.severity == "note"
    assert finding.evidence["gap"] == "2"
    assert finding.evidence["share"] == pytest.approx(0.875)


def test_irregular_sampling_is_noted_and_jitter_is_not(make_telemetry, columns):
    rng = np.random.default_rng(12)
    steps = np.where(np.arange(200) % 10 == 0, 3.0, 1.0)
    (finding,) = check(make_telemetry(columns, np.cumsum(steps)), ["indoor"])
    assert (finding.severity, finding.column) == ("note", "")
    assert finding.evidence["usual"] == "1"
    assert finding.evidence["longest"] == "3"
    assert finding.evidence["share"] == pytest.approx(19 / 199)
    jittered = np.arange(200) + rng.uniform(-0.01, 0.01, 200)
    assert check(make_telemetry(columns, jittered), ["indoor"]) == ()


def test_times_given_twice_are_found_once_each(make_telemetry, columns):
    times = DATES.copy()
    times[[5, 6, 20]] = times[[4, 4, 19]]
    finding, *_ = check(make_telemetry(columns, times), ["indoor"])
    assert finding.severity == "fail"
    assert finding.evidence == {"times": 2, "first": "2024-01-01 01:00:00"}


@pytest.mark.parametrize(("values", "severity"), [(0, "fail"), (1, "warn"), (9, "warn")])
def test_few_or_no_values_are_found(make_telemetry, columns, values, severity):
    columns["indoor"][values:] = np.nan
    found = check(make_telemetry(columns, DATES), ["indoor"])
    assert found[0].severity == severity
    assert found[0].evidence == {"values": values, "rows": 200}


def test_evidence_is_plain_json(make_telemetry, columns):
    times = DATES.copy()
    times[3] = times[2]
    columns["indoor"] = np.where(np.arange(200) < 195, np.nan, 1.0)
    found = check(make_telemetry(columns, times), ["indoor", "heating"])
    assert json.loads(json.dumps([dict(finding.evidence) for finding in found])) == [
        dict(finding.evidence) for finding in found
    ]


def test_a_column_that_is_not_there_is_an_error(make_telemetry, columns):
    with pytest.raises(InvalidTelemetry, match="no column `outdoor`"):
        check(make_telemetry(columns, DATES), ["indoor", "outdoor"])


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows_are_survived(make_telemetry, rows):
    telemetry = make_telemetry({"indoor": np.arange(200.0)}, DATES)
    short = type(telemetry)(telemetry.table.iloc[:rows], telemetry.units, None, "test", "")
    assert check(short, ["indoor"])[0].evidence["values"] == rows
