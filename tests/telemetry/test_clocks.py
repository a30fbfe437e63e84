"""Dates become UTC; what a clock leaves open is an error that offers the choices, and each choice does what it says."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

BERLIN = "Europe/Berlin"
AUTUMN = ["2026-10-25T01:30", "2026-10-25T02:30", "2026-10-25T03:30"]


def of(times: object, **settings: object) -> bt.Telemetry:
    return telemetry_of({"time": times, "level": np.arange(len(times), dtype=float)}, **settings)


def refused(times: object, match: str, **settings: object) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s){match}") as raised:
        of(times, **settings)
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


def utc(telemetry: bt.Telemetry) -> list[str]:
    return [f"{stamp:%m-%dT%H:%M}" for stamp in telemetry.table.index]


# An hour that the clock shows twice, in autumn.


def test_an_hour_that_the_clock_showed_twice_is_an_error_that_offers_the_choices() -> None:
    refused(AUTUMN, "twice.*2026-10-25 02:30:00.*1 such.*row 2.*'earlier'.*'later'.*'infer'", timezone=BERLIN)


def test_each_choice_gives_its_instant() -> None:
    assert utc(of(AUTUMN, timezone=BERLIN, ambiguous="earlier")) == ["10-24T23:30", "10-25T00:30", "10-25T02:30"]
    assert utc(of(AUTUMN, timezone=BERLIN, ambiguous="later")) == ["10-24T23:30", "10-25T01:30", "10-25T02:30"]
    # in Ireland it is the winter that has an offset of its own
    assert utc(of(["2026-10-25T01:30"], timezone="Europe/Dublin", ambiguous="earlier")) == ["10-25T00:30"]


def test_a_record_with_both_hours_is_inferred_from_its_order() -> None:
    both = ["2026-10-25T01:30", "2026-10-25T02:30", "2026-10-25T02:30", "2026-10-25T03:30"]
    found = of(both, timezone=BERLIN, ambiguous="infer")
    assert utc(found) == ["10-24T23:30", "10-25T00:30", "10-25T01:30", "10-25T02:30"]
    assert found.table["level"].tolist() == [0.0, 1.0, 2.0, 3.0]
    refused(AUTUMN, "twice.*'earlier'", timezone=BERLIN, ambiguous="infer")


# An hour that the clock leaves out, in spring.


def test_an_hour_that_the_clock_never_showed_is_an_error() -> None:
    spring = ["2026-03-29T01:30", "2026-03-29T02:30", "2026-03-29T03:30"]
    refused(spring, r"never showed.*2026-03-29 02:30:00.*row 2.*timezone='\+01:00'", timezone=BERLIN)
    assert utc(of(spring, timezone="+01:00")) == ["03-29T00:30", "03-29T01:30", "03-29T02:30"]


# Offsets that differ, or that some dates lack.


def test_dates_with_and_without_offset_are_an_error() -> None:
    refused(["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00"], "some have none.*in row 2.*UTC")
    stamps = [pd.Timestamp("2026-03-29T01:30", tz="UTC"), pd.Timestamp("2026-03-29T03:30")]
    refused(pd.Series(stamps, dtype=object), "some have none.*UTC")


def test_different_offsets_are_an_error_unless_a_zone_is_named() -> None:
    mixed = ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+0200"]
    refused(mixed, r"offsets \+01:00, \+0200.*in row 2.*in UTC.*timezone='UTC'")
    for zone in ("UTC", BERLIN):
        assert utc(of(mixed, timezone=zone)) == ["03-29T00:30", "03-29T01:30"]
    wrong = ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+01:00"]
    refused(wrong, "not those of `Europe/Berlin`.*0 days 02:00:00 in row 2", timezone=BERLIN)


@pytest.mark.parametrize("times", [["2026-03-29T01:30+01:00"], pd.date_range("2026-03-29T01:30", periods=1, tz=BERLIN)])
def test_one_offset_needs_no_zone(times: object) -> None:
    assert utc(of(times)) == ["03-29T00:30"]
    assert of(times).notices == ()


def test_dates_without_offset_are_utc_and_that_is_said() -> None:
    found = of(["2026-03-29T01:30"])
    assert utc(found) == ["03-29T01:30"]
    assert "no UTC offset and were taken as UTC" in found.notices[0]
    assert of([1.5]).notices == ()


def test_dates_of_python_and_plain_days_are_dates() -> None:
    assert utc(of([dt.datetime(2026, 3, 29, 1, 30), dt.datetime(2026, 3, 30)])) == ["03-29T01:30", "03-30T00:00"]
    assert utc(of(["2026-03-29", "2026-03-30"], timezone=BERLIN)) == ["03-28T23:00", "03-29T22:00"]


# Dates whose day and month cannot be told apart.


def test_days_and_months_in_any_order_but_iso_are_an_error_that_names_the_format() -> None:
    refused(
        ["03/04/2026", "04/04/2026"],
        "do not read as dates.*Expected: ISO.*'%d/%m/%Y'` or `time_format='%m/%d/%Y'`.*2026-04-03 or 2026-03-04",
    )
    refused(["3.4.2026", "13.4.2026"], r"Pass `time_format='%d\.%m\.%Y'`")
    refused(["13/04/2026 10:00"], "Pass `time_format='%d/%m/%Y %H:%M'`")
    refused(["4 March"], "by `time_format`, such as")


def test_a_declared_format_reads_as_iso_does() -> None:
    iso = of(["2026-11-08T13:00", "2026-11-09T01:00"], timezone=BERLIN)
    found = of([" 8.11.2026 13:00", "09.11.2026 01:00"], timezone=BERLIN, time_format="%d.%m.%Y %H:%M")
    pd.testing.assert_frame_equal(found.table, iso.table)
    assert utc(of([20261108, 20261109], time_format="%Y%m%d")) == ["11-08T00:00", "11-09T00:00"]
    assert utc(of(["8.11.26 13:00 +0100"], time_format="%d.%m.%y %H:%M %z")) == ["11-08T12:00"]


def test_times_that_are_not_in_the_declared_format_are_an_error() -> None:
    german = {"time_format": "%d.%m.%Y %H:%M"}
    refused(
        ["08.11.2026 13:00", "08.11.2026 14:00:30"], "not all written.*`08.11.2026 14:00:30`.*1 such.*row 2", **german
    )
    refused(["08.11.2026 13:00"], "`time_format` is no format.*%d day", time_format="%d.%m.%Q")


# what else a zone touches


def test_t0_is_read_by_the_same_clock() -> None:
    assert of(AUTUMN[2:], timezone=BERLIN, t0="2026-10-25T01:00").t0 == pd.Timestamp("2026-10-24T23:00")
    assert of(AUTUMN[2:], timezone=BERLIN, t0="2026-10-25T01:00Z").t0 == pd.Timestamp("2026-10-25T01:00")
    assert of(AUTUMN[2:], t0="2026-10-25T01:00").t0 == pd.Timestamp("2026-10-25T01:00")


def test_a_zone_that_nobody_knows_is_an_error() -> None:
    refused(AUTUMN, "no time zone `Europe/Berlni`.*Did you mean `Europe/Berlin`", timezone="Europe/Berlni")
    refused([1.0, 2.0], "`timezone` is given, but the times in `time` are numbers", timezone=BERLIN)
    refused(AUTUMN, "`ambiguous` has no such choice.*'earlier', 'later'.*`later`", timezone=BERLIN, ambiguous="latter")


def test_the_fingerprint_covers_the_zone() -> None:
    assert of(AUTUMN[2:], timezone=BERLIN).sha256 != of(["2026-10-25T02:30Z"]).sha256
    assert of(AUTUMN[2:], timezone=BERLIN).settings == {"timezone": BERLIN}
