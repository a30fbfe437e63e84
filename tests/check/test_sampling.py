"""What is wrong with the times of a record, or with the number of its values, is found with its rows."""

import json

import numpy as np
import pandas as pd
import pytest

DATES = pd.date_range("2024-01-01", periods=200, freq="15min")


@pytest.fixture
def columns():
    rng = np.random.default_rng(11)
    return {"indoor": 20 + rng.normal(size=200), "heating": rng.uniform(0, 1000, 200)}


def test_sound_telemetry_has_no_findings(look, columns):
    assert look(columns, DATES, ["heating"]) == ()


def test_times_given_twice_are_found(look, columns):
    times = DATES.to_numpy().copy()
    times[[5, 6, 20]] = times[[4, 4, 19]]
    finding, *_ = look(columns, times)
    assert (finding.kind, finding.severity, finding.column) == ("duplicate", "fail", "")
    assert finding.evidence["rows"] == [[6, 7], [21, 21]]
    assert finding.evidence["times"] == ["2024-01-01 01:00 UTC", "2024-01-01 04:45 UTC"]
    assert "rows 6 to 7, 21 repeat a time" in finding.sentence


def test_times_that_run_backwards_are_found(look, columns):
    times = DATES.to_numpy().copy()
    times[[30, 31]] = times[[31, 30]]
    (finding,) = look(columns, times)
    assert (finding.kind, finding.severity, finding.evidence["rows"]) == ("out_of_order", "fail", [[32, 32]])


def test_irregular_sampling_is_noted_and_jitter_is_not(look, columns):
    rng = np.random.default_rng(12)
    steps = np.where(np.arange(200) % 10 == 0, 3.0, 1.0)
    (finding,) = look(columns, np.cumsum(steps))
    assert (finding.kind, finding.severity, finding.column) == ("irregular", "note", "")
    assert (finding.evidence["usual"], finding.evidence["longest"]) == ("1 h", "3 h")
    assert finding.evidence["share"] == pytest.approx(19 / 199)
    assert look(columns, np.arange(200) + rng.uniform(-0.01, 0.01, 200)) == ()


def test_a_gap_of_rows_is_found_between_its_neighbours(look, columns):
    kept = np.r_[0:50, 74:200]
    (finding,) = look({name: values[kept] for name, values in columns.items()}, DATES[kept])
    assert (finding.kind, finding.severity, finding.column) == ("gap", "warn", "")
    assert finding.evidence["rows"] == [[50, 51]]
    assert finding.evidence["times"] == ["2024-01-01 12:15 UTC", "2024-01-01 18:30 UTC"]
    assert finding.evidence["gap"] == "6 h 15 min"
    assert look({name: values[kept] for name, values in columns.items()}, DATES[kept], gap=30.0) == ()


def test_a_block_of_missing_values_is_found(look, columns):
    columns["indoor"][50:74] = np.nan
    (finding,) = look(columns, DATES)
    assert (finding.kind, finding.severity, finding.column) == ("gap", "warn", "indoor")
    assert (finding.evidence["rows"], finding.evidence["num_rows"]) == ([[51, 74]], 24)
    assert finding.evidence["share"] == pytest.approx(0.12)
    assert "6 h 15 min, from 2024-01-01 12:15 UTC to 2024-01-01 18:30 UTC" in finding.sentence


def test_steps_that_grow_by_design_are_no_gaps(look):
    times = np.geomspace(1e-3, 1e5, 120)
    found = look({"A": np.random.default_rng(1).normal(size=120)}, times)
    assert [one.kind for one in found] == ["irregular"]


def test_a_sampling_that_slows_down_at_the_end_has_no_gap(look, columns):
    times = np.r_[np.arange(198.0), 212.0, 240.0]
    assert [one.kind for one in look(columns, times) if one.severity != "note"] == []


def test_what_is_usual_is_so_around_a_gap(look):
    """Once in a second while something happens, once in a minute at rest."""
    steps = np.tile(np.repeat([1.0, 60.0], [60, 30]), 4)
    times = np.cumsum(steps)
    values = np.random.default_rng(2).normal(size=times.size)
    assert [one.kind for one in look({"y": values}, times)] == ["irregular"]
    kept = np.r_[0:120, 140 : times.size]  # 20 s
    (finding,) = [one for one in look({"y": values[kept]}, times[kept]) if one.kind == "gap"]
    assert (finding.evidence["rows"], finding.evidence["gap"]) == ([[120, 121]], "21 h")
    assert finding.evidence["usual"] == "1 h"
    kept = np.r_[0:65, 79 : times.size]  # fourteen minutes
    (finding,) = [one for one in look({"y": values[kept]}, times[kept]) if one.kind == "gap"]
    assert (finding.evidence["rows"], finding.evidence["usual"]) == ([[65, 66]], "60 h")
    gone = values.copy()
    gone[120:140] = np.nan
    (finding,) = [one for one in look({"y": gone}, times) if one.kind == "gap"]
    assert (finding.column, finding.evidence["rows"]) == ("y", [[121, 140]])
    gone = values.copy()
    gone[-3:] = np.nan  # two minutes and a bit
    assert [one.kind for one in look({"y": gone}, times) if one.severity != "note"] == []


def test_a_sensor_that_reports_more_rarely_has_no_gap(look, columns):
    columns["indoor"][np.arange(200) % 8 != 0] = np.nan
    (finding,) = look(columns, np.arange(200) / 4)
    assert (finding.kind, finding.severity) == ("missing", "note")
    assert finding.evidence["usual"] == "2 h"
    assert finding.evidence["share"] == pytest.approx(0.875)


def test_many_values_missing_here_and_there_are_a_warning(look, columns):
    gone = np.random.default_rng(3).permutation(200)[:60]
    columns["indoor"][gone] = np.nan
    (finding,) = look(columns, DATES)
    assert (finding.kind, finding.severity, finding.evidence["num_rows"]) == ("missing", "warn", 60)
    assert finding.evidence["rows"][0][0] == gone.min() + 1


def test_values_that_are_missing_in_one_regime_are_found(look, columns):
    rng = np.random.default_rng(4)
    hot = columns["heating"] > 700
    columns["indoor"][hot & (rng.uniform(size=200) < 0.6)] = np.nan
    (finding,) = [one for one in look(columns, DATES, ["heating"]) if one.kind == "missing_regime"]
    assert (finding.column, finding.evidence["by"]) == ("indoor", "`heating`")
    assert "mostly where `heating` is high" in finding.sentence
    columns["indoor"] = np.where(rng.uniform(size=200) < 0.15, np.nan, 20 + rng.normal(size=200))
    assert "missing_regime" not in {one.kind for one in look(columns, DATES, ["heating"])}


@pytest.mark.parametrize(("values", "severity"), [(0, "fail"), (1, "warn"), (9, "warn")])
def test_few_or_no_values_are_found(look, columns, values, severity):
    columns["indoor"][values:] = np.nan
    found = look(columns, DATES)
    assert (found[0].kind, found[0].severity) == ("few", severity)
    assert found[0].evidence == {"values": values, "rows_in_all": 200}


@pytest.mark.parametrize("rows", [1, 2, 3, 30])
def test_hardly_any_rows_are_survived(look, rows):
    found = look({"indoor": np.arange(float(rows)), "heating": np.zeros(rows)}, inputs=["heating"])
    assert all(one.kind in ("few", "constant") for one in found)


def test_evidence_is_plain_json(look, columns):
    times = DATES.to_numpy().copy()
    times[3] = times[2]
    columns["indoor"] = np.where(np.arange(200) < 195, np.nan, 1.0)
    columns["heating"][50] = 1e6
    found = look(columns, times)
    assert len(found) >= 3
    for one in found:
        assert json.loads(json.dumps(one.evidence)) == one.evidence
