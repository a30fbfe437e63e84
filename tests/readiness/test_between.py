"""Clocks that disagree and rows that repeat are told from the columns together."""

import numpy as np
import pytest


@pytest.fixture
def driven():
    """A drive and a response one row later, 800 rows."""
    rng = np.random.default_rng(9)
    drive, response = np.zeros(900), np.zeros(900)
    for row in range(1, 900):
        drive[row] = 0.8 * drive[row - 1] + rng.standard_normal()
        response[row] = 0.7 * response[row - 1] + drive[row - 1] + 0.5 * rng.standard_normal()
    return {"y": response[50:850], "u": drive[50:850]}


def clock(found):
    return [one for one in found if one.kind.startswith("clock")]


def test_an_honest_delay_is_no_skew(look, driven):
    assert clock(look(driven, inputs=["u"])) == []
    late = {"y": np.roll(driven["y"], 5)[20:], "u": driven["u"][20:]}
    assert clock(look(late, inputs=["u"])) == []


def test_a_response_before_its_cause_is_a_skew(look, driven):
    early = {"y": np.roll(driven["y"], -6)[:-20], "u": driven["u"][:-20]}
    (finding,) = clock(look(early, inputs=["u"]))
    assert (finding.kind, finding.column, finding.evidence["lag"]) == ("clock_skew", "y", -5)
    # one row is a matter of how averages are stamped
    stamped = {"y": np.roll(driven["y"], -2)[:-20], "u": driven["u"][:-20]}
    assert clock(look(stamped, inputs=["u"])) == []
    assert finding.evidence["rows"] == [[1, 780]]


def test_a_clock_that_was_set_is_found_from_there_on(look, driven):
    values = driven["y"].copy()
    values[400:] = driven["y"][392:-8]
    (finding,) = clock(look({"y": values, "u": driven["u"]}, inputs=["u"]))
    assert (finding.kind, finding.evidence["lag"]) == ("clock_skew", 8.0)
    # told to one of eight windows
    assert finding.evidence["rows"] == [[401, 800]]


def test_a_clock_that_runs_slow_is_found(look, driven):
    rows = np.arange(800.0)
    slow = np.interp(rows - 16 * rows / 800, rows, driven["y"])
    (finding,) = clock(look({"y": slow, "u": driven["u"]}, inputs=["u"]))
    assert (finding.kind, finding.evidence["rows"]) == ("clock_drift", [[1, 800]])
    assert finding.evidence["lag"] == pytest.approx(16, abs=2)
    assert "16 h" in finding.sentence or "15 h" in finding.sentence or "17 h" in finding.sentence


def test_columns_that_have_nothing_to_do_with_each_other_have_no_clock(look, sensor):
    for seed in range(10):
        columns = {"y": sensor(800, seed), "z": sensor(800, 50 + seed), "u": sensor(800, 100 + seed)}
        assert clock(look(columns, inputs=["u"])) == []


def test_rows_that_are_there_again_are_found(look, driven):
    columns = {name: values.copy() for name, values in driven.items()}
    for values in columns.values():
        values[500:530] = values[200:230]
    (finding,) = [one for one in look(columns, inputs=["u"]) if one.kind == "repeated"]
    assert finding.evidence["rows"] == [[501, 530]]
    assert finding.evidence["copied_from"] == [[201, 230]]


def test_a_cycle_that_repeats_itself_is_no_repetition(look):
    cycle = np.sin(np.arange(50) / 8.0)
    assert [one for one in look({"y": np.tile(cycle, 8)}) if one.kind == "repeated"] == []
