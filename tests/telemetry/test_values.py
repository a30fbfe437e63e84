"""A feature has the value that its definition gives, worked out here row by row, and the unit that follows from it."""

import numpy as np
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.features import (
    Bins,
    Calendar,
    Difference,
    Expression,
    Function,
    Lag,
    Rolling,
    Standardized,
    Switch,
)

HOUR = 3600.0


def irregular(num: int = 60, seed: int = 3) -> bt.Telemetry:
    """Times in hours that are unevenly far apart, a temperature with gaps, a flow."""
    rng = np.random.default_rng(seed)
    hours = np.cumsum(rng.uniform(0.2, 1.5, num))
    x = 20.0 + np.cumsum(rng.standard_normal(num))
    x[rng.random(num) < 0.15] = np.nan
    table = pd.DataFrame({"x": x, "flow": rng.uniform(0.0, 2.0, num)}, index=pd.Index(hours, name="time"))
    return bt.read_telemetry(table, units={"x": "degC", "flow": "kg/s", "time": "h"})


def regular() -> bt.Telemetry:
    index = pd.date_range("2026-03-28T20:00Z", periods=12, freq="h", name="time")
    table = pd.DataFrame({"x": np.arange(12.0) ** 2, "supply": 60.0, "back": 40.0 + np.arange(12)}, index=index)
    table["flow"] = 0.1
    return bt.read_telemetry(table, units={"x": "W", "supply": "degC", "back": "degC", "flow": "kg/s"})


def added(telemetry: bt.Telemetry, feature: object) -> tuple[np.ndarray, str | None]:
    found = bt.add_features(telemetry, {"new": feature})
    return found.table["new"].to_numpy(), found.units.get("new")


@pytest.mark.parametrize("max_age", [0.0, 0.5, 3.0])
def test_a_lag_is_the_last_value_recorded_then(max_age: float) -> None:
    telemetry = irregular()
    by = 2.0
    expected = []
    for t in telemetry.table.index:
        before = telemetry.table["x"].loc[: t - by + 1e-9].dropna()
        fresh = before.size and before.index[-1] >= t - by - max_age - 1e-9
        expected.append(before.iloc[-1] if fresh else np.nan)
    if max_age == 0.0:  # no two of these times lie exactly two hours apart
        with pytest.raises(InvalidTelemetry, match=r"no value at all(?s:.*)max_age"):
            added(telemetry, Lag("x", by, max_age))
        return
    found, unit = added(telemetry, Lag("x", by, max_age))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).sum() > 5
    assert unit == "degC"


def test_a_lag_of_dates_is_exact() -> None:
    found, unit = added(regular(), Lag("x", "3h"))
    np.testing.assert_array_equal(found, [np.nan] * 3 + list(np.arange(9.0) ** 2))
    assert unit == "W"


@pytest.mark.parametrize("missing", ["nan", "skip"])
@pytest.mark.parametrize("statistic", ["mean", "min", "max", "std", "sum"])
def test_a_rolling_statistic_is_that_of_its_window(statistic: str, missing: str) -> None:
    telemetry = irregular()
    x, window = telemetry.table["x"], 3.0
    expected = []
    for t in x.index:
        inside = x[(x.index > t - window) & (x.index <= t)]
        told = t - window >= x.index[0] and (missing == "skip" or inside.notna().all())
        inside = inside.dropna().to_numpy()
        least = 2 if statistic == "std" else 1
        ddof = {"ddof": 1} if statistic == "std" else {}
        expected.append(getattr(np, statistic)(inside, **ddof) if told and inside.size >= least else np.nan)
    found, unit = added(telemetry, Rolling("x", window, statistic, missing))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).sum() > 15
    assert unit == ("delta_degree_Celsius" if statistic == "std" else "degC")


def test_a_window_is_not_told_before_the_record_covers_it() -> None:
    found = bt.add_features(regular(), {"new": Rolling("x", "3h")})
    values = np.arange(12.0) ** 2
    np.testing.assert_array_equal(found.table["new"][:3], np.nan)
    np.testing.assert_allclose(found.table["new"][3:], [values[row - 2 : row + 1].mean() for row in range(3, 12)])
    assert "Feature `new` is not known in the first 3 of 12 rows, before 2026-03-28 23:00 UTC." in found.notices


def test_differences_and_rates_have_the_units_of_what_they_are() -> None:
    telemetry = regular()
    found, unit = added(telemetry, Difference("back", "2h"))
    np.testing.assert_allclose(found[2:], 2.0)
    assert unit == "delta_degree_Celsius"
    found, unit = added(telemetry, Difference("back", "2h", per="min"))
    np.testing.assert_allclose(found[2:], 2.0 / 120.0)
    assert bt.add_features(telemetry, {"r": Difference("back", "2h", per="min")}).in_unit("r", "K/h")[3] == 1.0
    found, unit = added(telemetry, Difference("x", "1h"))
    np.testing.assert_allclose(found[1:], np.diff(np.arange(12.0) ** 2))
    assert unit == "watt"


def test_a_rate_divides_by_the_time_that_has_passed() -> None:
    telemetry = irregular()
    times = telemetry.table.index.to_numpy()
    table = pd.DataFrame({"x": 5.0 * times}, index=telemetry.table.index)
    line = bt.read_telemetry(table, units={"x": "m", "time": "h"})
    found, unit = added(line, Difference("x", 1.0, max_age=2.0, per="h"))
    np.testing.assert_allclose(found[np.isfinite(found)], 5.0)
    assert unit == "meter / hour"
    with pytest.raises(InvalidTelemetry, match="unit of the times is not stated"):
        added(bt.read_telemetry(table), Difference("x", 1.0, max_age=2.0, per="h"))


def test_regimes_are_numbers() -> None:
    telemetry = regular()
    np.testing.assert_array_equal(added(telemetry, Bins("x", (1.0, 50.0)))[0], [0] + [1] * 7 + [2] * 4)
    np.testing.assert_array_equal(added(telemetry, Calendar("hour"))[0], [20, 21, 22, 23, *range(8)])
    # the clock goes from 2:00 to 3:00 in the night to Sunday, 29 March
    local = [21, 22, 23, 0, 1, 3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(added(telemetry, Calendar("hour", "Europe/Berlin"))[0], local)
    np.testing.assert_array_equal(added(telemetry, Calendar("weekday", "Europe/Berlin"))[0], [5] * 3 + [6] * 9)
    assert set(added(telemetry, Calendar("month"))[0]) == {3.0}


def test_a_switch_remembers_within_its_hysteresis() -> None:
    values = [0.5, 0.2, 0.5, 0.9, 0.5, np.nan, 0.5, 0.3, 0.5, 1.0]
    telemetry = bt.read_telemetry(pd.DataFrame({"p": values}, index=pd.Index(np.arange(10.0), name="time")))
    found, unit = added(telemetry, Switch("p", above=0.8, below=0.3))
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 1, 1, np.nan, 1, 0, 0, 1])
    assert unit == ""
    found, _ = added(telemetry, Switch("p", above=0.5))
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 0, np.nan, 0, 0, 0, 1])


def test_heating_power_from_a_flow_and_two_temperatures() -> None:
    telemetry = regular()
    expected = 4186.0 * 0.1 * (20.0 - np.arange(12))
    found, unit = added(telemetry, Expression("'4186 J/(kg K)' * flow * (supply - back)", unit="kW"))
    np.testing.assert_allclose(found, expected / 1000.0)
    assert unit == "kW"
    found, unit = added(telemetry, Expression("supply - back"))
    assert unit == "delta_degree_Celsius"
    found, unit = added(telemetry, Expression("flow * x"))
    assert unit == "kilogram * watt / second"
    with pytest.raises(InvalidTelemetry, match="wrong dimension"):
        added(telemetry, Expression("flow * (supply - back)", unit="W"))
    with pytest.raises(InvalidTelemetry, match="units that do not fit together"):
        added(telemetry, Expression("flow + supply"))
    function = Function(
        lambda table: 4.186 * table["flow"] * (table["supply"] - table["back"]), ("flow", "supply", "back"), "kW"
    )
    np.testing.assert_allclose(added(telemetry, function)[0], expected / 1000.0)


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [("-50", "degC", "'-50 degC'"), ("2 * 3", "kW", "'6 kW'"), ("-x + 5", "W", "'0.2 W/K'")],
)
def test_a_number_without_a_unit_is_told_how_it_has_one(value: str, unit: str, written: str) -> None:
    with pytest.raises(InvalidTelemetry, match=f"{written}"):
        added(regular(), Expression(value, unit=unit))


@pytest.mark.parametrize(
    ("value", "unit", "is_it"), [("'-50 degC'", "degC", -50.0), ("0.7", None, 0.7), ("1", "%", 100.0)]
)
def test_a_number_alone_is_a_column(value: str, unit: str | None, is_it: float) -> None:
    found, _ = added(regular(), Expression(value, unit=unit))
    np.testing.assert_allclose(found, is_it)


def test_an_expression_that_has_no_finite_value_is_missing_there() -> None:
    found = bt.add_features(regular(), {"new": Expression("'1 W**2' / x")})
    assert np.isnan(found.table["new"].iloc[0])
    assert "not known in the first 1 of 12 rows" in found.notices[-1]


def test_standardising_uses_the_part_that_is_said() -> None:
    telemetry = regular()
    part = np.arange(6.0) ** 2
    found, unit = added(telemetry, Standardized("x", until="2026-03-29T02:00"))
    np.testing.assert_allclose(found, (np.arange(12.0) ** 2 - part.mean()) / part.std(ddof=1))
    assert unit == ""


def test_features_are_made_of_features_and_shape_the_fingerprint() -> None:
    chain = {"mean": Rolling("x", "2h"), "before": Lag("mean", "1h"), "rise": Expression("x - before")}
    found = bt.add_features(regular(), chain)
    again = bt.add_features(
        bt.add_features(regular(), {"mean": chain["mean"]}), {k: chain[k] for k in ("before", "rise")}
    )
    assert found.table.equals(again.table)
    assert found.sha256 == again.sha256 != regular().sha256
    assert found.units["rise"] == "watt"


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Lag("absent", "1h"), "`absent`, which is no column"),
        (Lag("x", 3.0), "no length of time for `by`"),
        (Rolling("x", "0h"), "a `window` of nothing"),
        (Rolling("x", "3h", "median"), "no such statistic"),
        (Bins("x", (2.0, 1.0)), "no edges of bins"),
        (Calendar("hour", "Mars/Olympus"), "no such time zone"),
        (Switch("x", above=1.0, below=2.0), "goes off above"),
        (Difference("x", "1h", per="kg"), "no unit of time"),
        (Lag("x", "900h"), "no value at all"),
        (3, "is not declared"),
    ],
)
def test_what_cannot_be_made_names_the_feature(feature: object, words: str) -> None:
    with pytest.raises(InvalidTelemetry, match=words) as caught:
        added(regular(), feature)
    assert "Feature `new`" in str(caught.value)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(InvalidTelemetry, match="Feature `x` has the name of a column"):
        bt.add_features(regular(), {"x": Lag("x", "1h")})
