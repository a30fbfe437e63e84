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
    # told to one of eight windows, each of as many innovations
    ((first, last),) = finding.evidence["rows"]
    assert (abs(first - 401) <= 2, last) == (True, 800)


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


@pytest.fixture
def uneven():
    """Rows of `driven` as a logger keeps them that misses one in ten."""
    return np.flatnonzero(np.random.default_rng(2).uniform(size=800) > 0.1)


def test_lags_are_times_where_steps_are_uneven(look, driven, uneven):
    late = {"y": np.roll(driven["y"], 4)[uneven], "u": driven["u"][uneven]}
    assert clock(look(late, uneven, inputs=["u"])) == []
    early = {"y": np.roll(driven["y"], -20)[uneven], "u": driven["u"][uneven]}
    (finding,) = clock(look(early, uneven, inputs=["u"]))
    assert finding.severity == "warn"
    assert (finding.kind, finding.evidence["lag"]) == ("clock_skew", -19)
    assert "moves 19 h before `u`" in finding.sentence
    # in rows the lag would be smeared, and explain half as much
    assert finding.evidence["early"] > 0.3
    slow = np.interp(np.arange(800.0) * (1 - 16 / 800), np.arange(800.0), driven["y"])
    (finding,) = clock(look({"y": slow[uneven], "u": driven["u"][uneven]}, uneven, inputs=["u"]))
    assert finding.kind == "clock_drift"
    assert finding.evidence["lag"] == pytest.approx(16, abs=3)


def test_what_is_switched_now_and_then_tells_clocks_apart(look, sensor):
    switched = np.zeros(1000)
    for start in range(60, 1000, 170):
        switched[start : start + 70] = 5.0
    for lag, kinds in ((-6, ["clock_skew"]), (1, [])):
        answer = np.convolve(np.roll(switched, lag), 0.2 * 0.8 ** np.arange(40))[:1000]
        found = clock(look({"y": sensor(1000) + answer, "u": switched}, inputs=["u"]))
        assert [one.kind for one in found] == kinds


def test_two_switchings_are_too_few_and_that_is_said(look, sensor):
    switched = np.where((np.arange(400) > 100) & (np.arange(400) < 250), 5.0, 0.0)
    answer = np.convolve(np.roll(switched, -6), 0.2 * 0.8 ** np.arange(40))[:400]
    found = look({"y": sensor() + answer, "u": switched}, inputs=["u"], untold=True)
    (finding,) = clock(found)
    assert (finding.kind, finding.severity, finding.column) == ("clock_unknown", "note", "y")
    assert "cannot be told from this record" in finding.sentence
    assert "moves 6 h before `u`" in finding.sentence


def test_a_delay_is_said_to_hide_a_skew(look, driven):
    late = {"y": np.roll(driven["y"], 5)[20:], "u": driven["u"][20:]}
    (finding,) = clock(look(late, inputs=["u"], untold=True))
    assert (finding.kind, finding.evidence["lag"]) == ("clock_unknown", 6)
    assert clock(look(driven, inputs=["u"], untold=True)) == []


def test_feedback_is_no_warning(look):
    rng = np.random.default_rng(4)
    drive, response = np.zeros(1000), np.zeros(1000)
    for row in range(8, 1000):
        drive[row] = -0.7 * response[row - 5] + 0.7 * rng.standard_normal()  # a slow controller
        response[row] = 0.2 * response[row - 1] + 0.6 * drive[row - 1] + rng.standard_normal()
    (finding,) = clock(look({"y": response, "u": drive}, inputs=["u"]))
    assert (finding.severity, finding.evidence["lag"]) == ("note", -5)
    assert "or a controller drives `u` by it" in finding.sentence


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
