"""Sources are joined at exactly equal times, or resampled as declared; nothing is joined or dropped silently."""

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

# Times of two records that differ by rounding alone.


def of(step: float, num: int, name: str, **settings: object) -> bt.Telemetry:
    return telemetry_of({"time": np.arange(num) * step, name: np.arange(num) * 1.0}, **settings)


def refused(match: str, sources: object, **settings: object) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s){match}") as raised:
        bt.align(sources, **settings)
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


def test_times_that_differ_by_rounding_are_an_error_and_do_not_shrink() -> None:
    tenths = telemetry_of({"time": [0.0, 0.1, 0.1 + 0.2], "level": [1.0, 2.0, 3.0]})
    typed = telemetry_of({"time": [0.0, 0.1, 0.3], "top": [1.0, 2.0, 3.0]})
    only = r"1 times only in `a`, 1 only in `b`; the closest of these differ by 5\.55e-17"
    refused(f"`a` and `b` have different times.*{only}", {"a": tenths, "b": typed})
    # on a declared grid they are the same times
    found = bt.align({"a": tenths, "b": typed}, every=0.1, how={"level": "last", "top": "last"}, side="left").table
    np.testing.assert_array_equal(found["level"], [1.0, 2.0, np.nan, 3.0])
    np.testing.assert_array_equal(found["top"], found["level"])


def test_equal_times_join_to_the_last_bit() -> None:
    one, other = of(0.1, 5, "level", units={"level": "m"}), of(0.1, 5, "top", units={"top": "K"})
    found = bt.align({"a": one, "b": other})
    pd.testing.assert_frame_equal(found.table, one.table.assign(top=other.table["top"]))
    assert found.units == {"level": "m", "top": "K"}
    assert found.settings["sources"] == [("a", one.sha256), ("b", other.sha256)]
    assert bt.align({"a": one, "b": other}).sha256 == found.sha256
    assert bt.align({"b": other, "c": one}).sha256 != found.sha256


# resampling, against a loop


def naive(times: np.ndarray, values: np.ndarray, at: np.ndarray, window: float, how: str, side: str) -> list[float]:
    found = []
    for t in at:
        inside = (times >= t) & (times < t + window) if side == "left" else (times > t - window) & (times <= t)
        kept = values[inside & np.isfinite(values)]
        found.append(np.nan if kept.size == 0 else kept.mean() if how == "mean" else kept[-1])
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize("window", [None, "25min", "2h"])
def test_windows_hold_what_they_say(side: str, how: str, window: str | None) -> None:
    rng = np.random.default_rng(3)
    minutes = np.sort(rng.choice(60 * 30, 400, replace=False)) + 1.0
    values = np.where(rng.random(400) < 0.2, np.nan, rng.normal(size=400))
    stamps = pd.Timestamp("2026-03-01") + pd.to_timedelta(minutes, unit="min")
    source = telemetry_of({"time": stamps, "level": values})
    found = bt.align({"meter": source}, every="15min", how={"level": how}, side=side, window=window)
    at = (found.table.index - pd.Timestamp("2026-03-01")).total_seconds().to_numpy() / 60
    assert (at % 15 == 0).all()
    length = 15 if window is None else pd.Timedelta(window).total_seconds() / 60
    np.testing.assert_allclose(found.table["level"], naive(minutes, values, at, length, how, side), rtol=1e-12)
    # only windows that the record covers: a sample stands for one usual step
    usual = np.median(np.diff(minutes))
    start, end = (at[0], at[-1] + length) if side == "left" else (at[0] - length, at[-1])
    assert start >= minutes[0] - (0 if side == "left" else usual)
    assert end <= minutes[-1] + (usual if side == "left" else 0)


def test_hourly_weather_and_a_quarter_hourly_meter() -> None:
    day = pd.date_range("2026-03-01", periods=25, freq="h")
    weather = telemetry_of({"time": day, "outdoor": np.arange(25.0)}, units={"outdoor": "degC"})
    quarters = pd.date_range("2026-02-28T23:45", periods=100, freq="15min")
    meter = telemetry_of({"time": quarters, "heating": np.arange(100.0)})
    found = bt.align(
        {"weather": weather, "meter": meter},
        every="15min",
        how={"outdoor": "interpolate", "heating": "last"},
        side="right",
    )
    assert (found.table.index[0], found.table.index[-1]) == (day[0], day[-1])
    np.testing.assert_allclose(found.table["outdoor"], np.arange(97) / 4)
    np.testing.assert_array_equal(found.table["heating"], np.arange(1.0, 98.0))
    # by the hour, what was known then: (t - 1 h, t]
    hourly = bt.align(
        {"weather": weather, "meter": meter}, every="1h", how={"outdoor": "last", "heating": "mean"}, side="right"
    )
    np.testing.assert_array_equal(hourly.table["heating"], 4 * np.arange(1, 25) - 0.5)


def test_nothing_is_interpolated_over_a_gap_or_beyond_the_ends() -> None:
    source = telemetry_of({"time": [0.0, 1.0, 2.0, 6.0, 7.0], "level": [0.0, 1.0, 2.0, 6.0, 7.0]})
    found = bt.align({"a": source}, every=0.5, how={"level": "interpolate"})
    index = found.table.index.to_numpy()
    inside = (index <= 2) | (index >= 6)
    np.testing.assert_allclose(found.table["level"], np.where(inside, index, np.nan))
    assert (index[0], index[-1]) == (0.0, 7.0)
    assert found.notices == ("`level` has no value at 7 of 15 times (interpolate).",)
    wide = bt.align({"a": source}, every=0.5, how={"level": "interpolate"}, window=4.0)
    np.testing.assert_allclose(wide.table["level"], index)


def test_what_lies_outside_the_shared_time_is_said() -> None:
    early, late = of(1.0, 10, "level"), telemetry_of({"time": np.arange(5.0, 20.0), "top": np.arange(15.0)})
    found = bt.align({"a": early, "b": late}, every=1.0, how={"level": "last", "top": "last"}, side="right")
    assert (found.table.index[0], found.table.index[-1]) == (5.0, 9.0)
    assert any("4 of 10 rows of a lie outside" in said for said in found.notices)
    assert any("of 15 rows of b lie outside" in said for said in found.notices)


def test_dates_keep_every_nanosecond() -> None:
    stamps = pd.date_range("2026-03-01T00:00:00.000000123", periods=5, freq="7ns")
    source = telemetry_of({"time": stamps, "level": np.arange(5.0)})
    found = bt.align({"a": source}, every="7ns", how={"level": "interpolate"})
    assert (found.table.index.to_numpy().astype(np.int64) % 7 == 0).all()
    shift = (found.table.index - stamps[0]).to_numpy().astype(np.int64) / 7
    np.testing.assert_allclose(found.table["level"], shift, atol=1e-12)


# what is not declared


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            {"every": 1.0, "how": {"level": "mean"}, "side": "left"},
            "How `top` is to be resampled is not said.*nothing for it",
        ),
        ({"every": 1.0, "how": {"level": "mean", "top": "median"}, "side": "left"}, "`top`.*'median'"),
        ({"every": 1.0, "how": {"level": "mean", "top": "last", "tpo": "last"}, "side": "left"}, "`how` names `tpo`"),
        ({"every": 1.0, "how": {"level": "mean", "top": "last"}}, r"which end.*side='right'"),
        ({"every": "15min", "how": {"level": "mean", "top": "last"}, "side": "left"}, "`every` is no length.*'15min'"),
        ({"every": -1.0, "how": {"level": "mean", "top": "last"}, "side": "left"}, r"`every` is no length.*-1\.0"),
        ({"side": "left"}, "given without `every`"),
    ],
)
def test_what_is_left_open_is_an_error(settings: dict, match: str) -> None:
    refused(match, {"a": of(1.0, 5, "level"), "b": of(1.0, 5, "top")}, **settings)


def test_sources_that_do_not_go_together_are_an_error() -> None:
    dated = telemetry_of({"time": pd.date_range("2026-01-01", periods=5), "top": np.arange(5.0)})
    refused("dates and with numbers", {"a": of(1.0, 5, "level"), "b": dated})
    refused("column of one name.*`level` in `a` and in `b`", {"a": of(1.0, 5, "level"), "b": of(1.0, 5, "level")})
    refused("nothing to align.*no source", {})
    refused("nothing to align.*no telemetry in `a`", {"a": "meter.csv"})
    minutes = of(1.0, 5, "top", units={"time": "min"})
    refused("different units.*`a` in the twin's unit, `b` in min", {"a": of(1.0, 5, "level"), "b": minutes})
    far = telemetry_of({"time": [100.0, 101.0], "top": [1.0, 2.0]})
    how = {"level": "last", "top": "last"}
    refused(
        "no time in common.*`a` from 0.0 to 4.0", {"a": of(1.0, 5, "level"), "b": far}, every=1.0, how=how, side="left"
    )
    refused("`every` is no length.*'fortnight'", {"b": dated}, every="fortnight", how={"top": "interpolate"})
    refused("`every` is no length.*15", {"b": dated}, every=15, how={"top": "interpolate"})


def test_t0_and_notices_come_along() -> None:
    sorted_ = telemetry_of({"time": [0.0, 2.0, 1.0], "level": [1.0, 2.0, 3.0]})
    found = bt.align({"a": sorted_}, t0=-1.0)
    assert found.t0 == -1.0
    assert found.notices == ("a: `time` runs backwards 1 time and was sorted (row 3).",)
    assert found.source == "a: pandas table"


# What resampling leaves missing is filled as declared.


def test_what_resampling_leaves_missing_is_filled_as_declared() -> None:
    coarse = telemetry_of({"time": [0.0, 1.0, 4.0, 5.0], "ambient": [0.0, 1.0, 4.0, 5.0]}, units={"ambient": "degC"})
    fine = of(0.5, 11, "current")
    how = {"ambient": "last", "current": "mean"}
    plain = bt.align({"a": coarse, "b": fine}, every=1.0, how=how, side="left")
    assert np.isnan(plain.table["ambient"]).tolist() == [False, False, True, True, False]
    filled = bt.align({"a": coarse, "b": fine}, every=1.0, how=how, side="left", fill={"ambient": "linear"})
    np.testing.assert_allclose(filled.table["ambient"], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert "2 missing cells were filled, as declared" in filled.notices[-1]
    assert filled.sha256 != plain.sha256
    short = {"ambient": {"how": "linear", "within": 2.0}}
    assert bt.align({"a": coarse, "b": fine}, every=1.0, how=how, side="left", fill=short).table.equals(plain.table)
    refused("`fill`", {"a": coarse, "b": fine}, every=1.0, how=how, side="left", fill={"wind": "linear"})
