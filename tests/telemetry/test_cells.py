"""Telemetry as it is: words for on and off, units and grouped digits in cells, whole numbers, text in place of them."""

from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.check.check import PRIOR_KINDS
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.features import Difference, Lag, Rolling

T = [0.0, 1.0, 2.0, 3.0]


def driven_by_pump() -> bt.Twin:
    return bt.Twin(
        name="basin",
        vector_field=lambda t, x, p, u: [p.rate * u.pump],
        states={"level": bt.State(1.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        inputs={"pump": bt.Input(hold="previous")},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["ON", "OFF", "OFF", "ON"], [1, 0, 0, 1]),
        (["on", " Off ", "OFF", "On"], [1, 0, 0, 1]),
        (["True", "False", None, "TRUE"], [1, 0, np.nan, 1]),
        ([True, None, False, True], [1, np.nan, 0, 1]),
        (["yes", "no", "no", ""], [1, 0, 0, np.nan]),
        (["open", "closed", "closed", "Open"], [1, 0, 0, 1]),
        (["OFF", "OFF", "OFF", "OFF"], [0, 0, 0, 0]),
        (["ON", "OFF", 1, 0], [1, 0, 1, 0]),
        (pd.Categorical(["enabled", "disabled", "disabled", "disabled"]), [1, 0, 0, 0]),
        (pd.array([True, None, False, True], dtype="boolean"), [1, np.nan, 0, 1]),
    ],
)
def test_words_for_on_and_off_are_one_and_zero(cells: object, values: list[float]) -> None:
    missing = ("",) if isinstance(cells, list) and "" in cells else None
    found = telemetry_of({"time": T, "pump": cells}, sentinels=missing)
    np.testing.assert_array_equal(found.table["pump"], values)


def test_what_was_done_to_words_is_said_and_binds(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("time,level,Pump\n0,1.0,ON\n1,2.1,OFF\n2,2.0,OFF\n3,2.0,ON\n", "utf-8")
    found = bt.read_telemetry(file, rename={"Pump": "pump"})
    said = "`Pump` (`pump`): 2 cells held `ON`, taken as 1; 2 cells held `OFF`, taken as 0."
    assert found.notices == (said,)
    assert said in repr(found)
    np.testing.assert_array_equal(bind(driven_by_pump(), found).inputs["pump"], [1, 0, 0, 1])
    findings = bt.check(driven_by_pump(), found, seed=0, ignore=sorted(PRIOR_KINDS))
    assert [(one.severity, one.column) for one in findings if one.sentence == said] == [("note", "pump")]


@pytest.mark.parametrize(
    "cells", [["ON", "OFF", "AUTO", "ON"], ["low", "high", "low", "low"], ["open", "no", "no", "no"]]
)
def test_categories_are_refused_by_name_where_a_twin_asks_for_them(cells: list[str]) -> None:
    found = telemetry_of({"time": T, "level": T, "Mode": cells}, rename={"Mode": "pump"})
    assert "pump" not in found.table
    words = rf"(?s)`Mode` \(`pump`\) holds text.*ON and OFF.*'{cells[1]}' \(\d\).*get_dummies"
    for ask in (
        lambda: bind(driven_by_pump(), found),
        lambda: bind(driven_by_pump(), found.between(1.0), observed=False),
        lambda: bt.check(driven_by_pump(), found, seed=0),
        lambda: bt.add_features(found, {"mean": Rolling("pump", 2.0)}),
    ):
        with pytest.raises(InvalidTelemetry, match=words):
            ask()


def test_an_observation_of_text_is_no_missing_observation() -> None:
    """A forecast whose observation is there as text is not judged as if nothing had been observed."""
    found = telemetry_of({"time": T, "pump": 1.0, "level": ["low", "low", "high", "low"]})
    with pytest.raises(InvalidTelemetry, match=r"`level` holds text"):
        bind(driven_by_pump(), found, observed=False)


def test_units_in_cells_are_converted_to_one() -> None:
    cells = ["3 bar", "200 kPa", "2.5bar", "1e5 Pa"]
    found = telemetry_of({"time": T, "p": cells})
    np.testing.assert_allclose(found.table["p"], [3.0, 2.0, 2.5, 1.0], rtol=1e-12)
    assert found.units["p"] == "bar"
    assert found.notices == (
        "`p`: 4 cells state a unit and were read in `bar`: 2 cells in `bar`; 1 cell in `kPa`, converted (row 2); "
        "1 cell in `Pa`, converted (row 4).",
    )
    declared = telemetry_of({"time": T, "p": cells}, units={"p": "kPa"})
    np.testing.assert_allclose(declared.table["p"], [300.0, 200.0, 250.0, 100.0], rtol=1e-12)
    warm = telemetry_of({"time": T, "T": ["20 C", "68 °F", None, "293.15 K"]})
    np.testing.assert_allclose(warm.table["T"], [20.0, 20.0, np.nan, 20.0], rtol=1e-12)
    plain = telemetry_of({"time": T, "p": ["3 bar", 200, "250", None]}, units={"p": "kPa"})
    np.testing.assert_allclose(plain.table["p"], [300.0, 200.0, 250.0, np.nan], rtol=1e-12)
    comma = telemetry_of({"time": T, "p": ["3,5 bar", "350,0 kPa", "1 bar", "1 bar"]}, decimal=",")
    np.testing.assert_allclose(comma.table["p"], [3.5, 3.5, 1.0, 1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["3 bar", "20 L/min", "2.5 bar", None], r"(?s)`p` mixes units.*`bar`.*`20 L/min`, and 1 cell.*row 2"),
        (["3 bar", 2.0, "2.5 bar", 7.0], r"(?s)`p` states a unit in some cells.*2 cells without one: row 2, 4.*units="),
        (
            ["3 bar", "fault", "2.5 bar", None],
            r"(?s)`p` holds something that is not a number.*'fault' in row 2, and 1 such",
        ),
        (["3 barg", "3 bar", "2 barg", None], r"(?s)`p` mixes units.*`bar_gauge`|`barg`.*row 2"),
    ],
)
def test_units_that_do_not_fit_are_refused_by_row(cells: list, words: str) -> None:
    with pytest.raises(InvalidTelemetry, match=words):
        telemetry_of({"time": T, "p": cells})


def test_digits_in_groups_are_one_number_where_that_is_clear() -> None:
    found = telemetry_of({"time": T, "x": ["1.234,5", "12,25", "1.000", "-2.000.000,0"]}, decimal=",")
    np.testing.assert_array_equal(found.table["x"], [1234.5, 12.25, 1000.0, -2e6])
    points = telemetry_of({"time": T, "x": ["1.234", "0.5", "1.000", "2"]}, decimal=",")
    np.testing.assert_array_equal(points.table["x"], [1.234, 0.5, 1.0, 2.0])
    for cells in (["1.234", "12.250", "1.000", "2.000"], ["1.234", "0,5", "0.75", "2"]):
        with pytest.raises(InvalidTelemetry, match=r"(?s)'1\.234' in row 1.*thousands, or fractions"):
            telemetry_of({"time": T, "x": cells}, decimal=",")


def test_whole_numbers_of_few_bits_do_not_overflow() -> None:
    small = telemetry_of(
        {
            "time": np.array([5, 3, 0, 9], dtype=np.uint8),
            "x": np.array([250, 3, 1, 7], dtype=np.uint8),
            "y": np.array([2**31 - 1] * 4, dtype=np.int32),
        }
    )
    np.testing.assert_array_equal(small.table.index, [0.0, 3.0, 5.0, 9.0])
    np.testing.assert_array_equal(small.table["x"], [1.0, 3.0, 250.0, 7.0])
    made = bt.add_features(small, {"d": Difference("x", 4.0), "s": Rolling("y", 5.0, "sum")}).table
    assert made["d"].iloc[3] == -243.0
    assert made["s"].iloc[2] == 2.0 * (2**31 - 1)
    large = telemetry_of({"time": T, "x": np.array([2**53 + 1, 2**60, 0, 0], dtype=np.int64)})
    assert large.notices == ("`x`: whole numbers above 2^53 were rounded to the nearest that float64 holds.",)


def test_times_that_are_whole_numbers_are_what_they_say() -> None:
    days = np.array([20261129, 20261130, 20261201, 20261202])
    with pytest.raises(InvalidTelemetry, match=r"(?s)read as dates.*time_format='%Y%m%d'"):
        telemetry_of({"time": days, "x": T})
    with pytest.raises(InvalidTelemetry, match=r"(?s)read as dates.*time_format='%Y%m%d%H%M'"):
        telemetry_of({"time": days * 10000 + 1230, "x": T})
    assert telemetry_of({"time": days, "x": T}, time_format="%Y%m%d").dated
    assert not telemetry_of({"time": days, "x": T}, units={"time": "s"}).dated
    assert not telemetry_of({"time": 20261129 + np.arange(40), "x": 1.0}).dated  # the 32nd is no day
    nanoseconds = np.int64(1_700_000_000) * 10**9
    with pytest.raises(InvalidTelemetry, match=r"(?s)more digits than a float64.*1700000000000000001.*row 2"):
        telemetry_of({"time": nanoseconds + np.arange(4), "x": T})
    assert len(telemetry_of({"time": nanoseconds + 10**9 * np.arange(4), "x": T}).table) == 4


def test_a_column_of_one_value_says_so() -> None:
    found = telemetry_of({"time": T, "x": 3.25, "y": [3.25, 3.25, 3.25, 3.5]}, units={"x": "bar", "y": "bar"})
    assert "`x`: 4 values, all 3.25, bar" in repr(found)
    assert "`y`: 4 values, bar" in repr(found)


def dosed() -> bt.Twin:
    return bt.Twin(
        name="body",
        vector_field=lambda t, x, p, u: {"drug": -p.rate * x.drug},
        states={"drug": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={"drug": bt.Observation(bt.Gaussian(0.1))},
        events={"late": bt.Event(lambda t, x, p, u: {"drug": x.drug + u.late})},
    )


@pytest.mark.parametrize(
    ("times", "lag", "given"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], Lag("dose", 1.0), 2),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 4.5], Lag("dose", 1.0), 1),  # the second would come after the end
        ([0.0, 0.5, 2.0, 3.0, 4.0, 5.0], Lag("dose", 1.0), None),  # no row for the first one
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], Lag("dose", 1.0, max_age=1.0), None),  # each would be given twice
    ],
)
def test_a_dose_that_is_lagged_is_given_once_or_refused(times: list[float], lag: Lag, given: int | None) -> None:
    doses = [10.0, np.nan, np.nan, np.nan, 20.0, np.nan]
    found = bt.add_features(telemetry_of({"time": times, "drug": 1.0, "dose": doses}), {"late": lag})
    if given is None:
        with pytest.raises(InvalidTelemetry, match=r"(?s)event `late` is a lag of `dose`.*Shift the times"):
            bind(dosed(), found)
    else:
        assert np.isfinite(bind(dosed(), found).events["late"]).sum() == given
        part = found.with_table(found.table.iloc[1:], t0=0.5)  # the first dose was recorded before, and is given in it
        assert np.isfinite(bind(dosed(), part).events["late"]).sum() == given
