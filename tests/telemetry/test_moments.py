"""Moments that the user gives are ISO 8601, on the declared clock if without an offset; all say which they are in."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry import said
from bayestwin.telemetry.features import Standardized

BERLIN = "Europe/Berlin"
NOON = pd.Timestamp("2026-07-01T12:00")


def of(zone: str | None = None, start: str = "2026-07-01T00:00", periods: int = 48) -> bt.Telemetry:
    """Hours on the clock of a zone."""
    times = pd.date_range(start, periods=periods, freq="h").strftime("%Y-%m-%dT%H:%M")
    return telemetry_of({"time": times, "level": np.arange(periods, dtype=float)}, timezone=zone)


@pytest.mark.parametrize(
    "value", ["2026-07-01 12:00", " 2026-07-01T12:00:00 ", dt.datetime(2026, 7, 1, 12), "2026-07-01T12"]
)
def test_without_an_offset_the_declared_zone_counts_and_else_utc(value: object) -> None:
    assert of(BERLIN).moment(value) == pd.Timestamp("2026-07-01T10:00")
    assert of().moment(value) == NOON
    assert of(BERLIN).between(start=value).table.index[0] == pd.Timestamp("2026-07-01T10:00")
    assert of(BERLIN).between(end=value).table["level"].iloc[-1] == 11.0


def test_a_day_begins_where_the_clock_says() -> None:
    assert of(BERLIN).moment(dt.date(2026, 7, 2)) == pd.Timestamp("2026-07-01T22:00")
    assert of(BERLIN).between(start="2026-07-02").table["level"].tolist() == list(range(24, 48))


@pytest.mark.parametrize("value", ["2026-07-01T14:00+02:00", "2026-07-01 12:00Z", "2026-07-01 12:00 UTC"])
def test_an_offset_counts_wherever_the_data_are_from(value: str) -> None:
    assert of(BERLIN).moment(value) == of().moment(value) == NOON


def test_a_time_of_the_table_is_itself() -> None:
    found = of(BERLIN)
    assert found.between(start=found.table.index[5]).table["level"].iloc[0] == 5.0
    assert found.between(start=found.table.index.to_numpy()[5]).table["level"].iloc[0] == 5.0


def test_what_is_printed_reads_back_as_the_same() -> None:
    times = pd.date_range("2026-10-24T23:00Z", periods=6, freq="30min", name="time")
    autumn = bt.read_telemetry(pd.DataFrame({"level": np.zeros(6)}, index=times), timezone=BERLIN)
    for telemetry in (autumn, of()):
        for time in telemetry.table.index[:6]:
            assert telemetry.moment(telemetry.shown(time)) == time
    assert said(NOON) == "2026-07-01 12:00 UTC"
    assert said(NOON, BERLIN) == "2026-07-01 14:00+02:00"
    assert said(NOON + pd.Timedelta("1.5s"), "UTC") == "2026-07-01 12:00:01.500000 UTC"
    assert said(NOON.to_datetime64(), ["Asia/Tokyo", "UTC"]) == "2026-07-01 12:00 UTC"
    assert said(2.5) == "2.5"


def test_a_moment_that_the_clock_showed_twice_or_never_needs_an_offset() -> None:
    with pytest.raises(
        InvalidTelemetry, match=r"(?s)showed twice.*2026-10-25 02:30\+02:00` or `2026-10-25 02:30\+01:00"
    ):
        of(BERLIN).moment("2026-10-25 02:30")
    with pytest.raises(InvalidTelemetry, match=r"(?s)never showed `2026-03-29 02:30`.*offset: `2026-03-29 02:30Z`"):
        of(BERLIN).moment("2026-03-29 02:30")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("08.11.2026", "It could be two days: write `2026-11-08` if the day comes first in it, `2026-08-11` if the"),
        ("28.10.2026", "Write `2026-10-28`."),
        ("10/28/2026 7:15", "Write `2026-10-28 07:15`."),
        ("now", "Write year, month and day"),
        ("2026 Oct 8", "Write year, month and day"),
        ("28 Oct 2026", "Write year, month and day"),
        ("31.31.2026", "Write year, month and day"),
    ],
)
def test_what_is_not_iso_is_an_error_that_says_how_it_is_written(text: str, advice: str) -> None:
    with pytest.raises(InvalidTelemetry) as raised:
        of().between(end=text)
    assert "moment in `end` is not written as ISO 8601" in str(raised.value)
    assert advice in str(raised.value)


def test_sources_of_one_zone_keep_it_and_of_several_ask_for_an_offset() -> None:
    how = {"every": "1h", "how": {"level": "last", "flow": "last"}, "side": "right"}

    def both(zone: str | None, other: str | None, **settings: object) -> bt.Telemetry:
        second = of(other).table.rename(columns={"level": "flow"}).tz_localize("UTC")
        flow = bt.read_telemetry(second, timezone=other)
        return bt.align({"one": of(zone), "two": flow}, **how, **settings)

    assert both(BERLIN, BERLIN).moment("2026-07-01 14:00") == NOON
    assert both(BERLIN, BERLIN, t0="2026-07-01 01:00").t0 == pd.Timestamp("2026-06-30T23:00")
    assert both(None, None).moment("2026-07-01 12:00") == NOON
    mixed = both(BERLIN, "Asia/Tokyo")
    with pytest.raises(
        InvalidTelemetry, match=r"(?s)no UTC offset.*different time zones.*`Asia/Tokyo`, `Europe/Berlin`"
    ):
        mixed.moment("2026-07-01 14:00")
    assert mixed.moment("2026-07-01 14:00+02:00") == NOON
    with pytest.raises(InvalidTelemetry, match="different time zones"):
        both(BERLIN, None).between(start="2026-07-01 14:00")


def test_messages_show_the_clock_that_was_declared() -> None:
    with pytest.raises(InvalidTelemetry, match=r"between 2026-07-01 00:00\+02:00 and 2026-07-02 23:00\+02:00"):
        of(BERLIN).between(start="2027-01-01")
    with pytest.raises(InvalidTelemetry, match="between 2026-07-01 00:00 UTC and 2026-07-02 23:00 UTC"):
        of().between(start="2027-01-01")
    with pytest.raises(InvalidTelemetry, match="does not fit"):
        of().between(start=5)
    with pytest.raises(InvalidTelemetry, match="does not fit"):
        of().between(start=pd.NaT)


def test_telemetry_prints_in_short() -> None:
    columns = {"time": ["2026-07-01T00:00", "2026-07-01T00:15", "2026-07-01T00:30"], "T_top": [1.0, np.nan, 2.0]}
    found = telemetry_of(columns, rename={"T_top": "upper"}, units={"T_top": "degC"}, timezone=BERLIN, t0="2026-06-30")
    assert repr(found) == (
        "Telemetry (pandas table): 3 rows, 2026-07-01 00:00+02:00 to 2026-07-01 00:30+02:00, usually 15 min apart\n"
        "  `T_top` (`upper`): 2 values, degC\n"
        "  t0: 2026-06-30 00:00+02:00"
    )
    assert repr(telemetry_of({"time": [0.5], "n": [1.0]}, units={"n": ""})) == (
        "Telemetry (pandas table): 1 row, 0.5 to 0.5\n  `n`: 1 value, no unit"
    )
    assert "no UTC offset" in repr(of())


def test_where_statistics_of_a_feature_end_is_on_the_same_clock() -> None:
    made = {"how": Standardized("level", until="2026-07-02")}
    part = np.arange(24.0)  # the first of July in Berlin
    expected = (np.arange(48.0) - part.mean()) / part.std(ddof=1)
    np.testing.assert_allclose(bt.add_features(of(BERLIN), made).table["how"], expected)
