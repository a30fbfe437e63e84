"""Values are dropped and cells are filled as declared, in one order, and no further; what was done is told."""

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

BERLIN = "Europe/Berlin"
NAN = np.nan
HOURS = [f"2026-03-01T{hour:02}:00Z" for hour in range(8)]


def of(level: list[float], time: object = None, **settings: object) -> bt.Telemetry:
    return telemetry_of({"time": HOURS[: len(level)] if time is None else time, "level": level}, **settings)


def refused(match: str, **settings: object) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s){match}"):
        of([1.0, NAN, 3.0], **settings)


def test_both_ends_of_a_dropped_stretch_are_dropped_and_nothing_else() -> None:
    found = of([1.0, 2.0, 3.0, 4.0], drop=[{"start": "2026-03-01T01:00Z", "end": "2026-03-01T02:00Z"}])
    np.testing.assert_array_equal(found.table["level"], [1.0, NAN, NAN, 4.0])
    assert "2 values were dropped, as declared: 2026-03-01 01:00 UTC to 2026-03-01 02:00 UTC." in found.notices[0]
    np.testing.assert_array_equal(of([1.0, 2.0, 3.0], drop=[{"end": HOURS[0]}]).table["level"], [NAN, 2.0, 3.0])
    np.testing.assert_array_equal(of([1.0, 2.0, 3.0], drop=[{"start": HOURS[2]}]).table["level"], [1.0, 2.0, NAN])


def test_a_column_is_named_as_in_the_file_or_the_twin_and_others_keep_their_values() -> None:
    columns = {"time": [0.0, 1.0, 2.0], "T_top": [1.0, 2.0, 3.0], "flow": [4.0, 5.0, 6.0]}
    for name in ("T_top", "t_top", "upper"):
        found = telemetry_of(columns, rename={"T_top": "upper"}, drop=[{"column": name, "start": 1.0, "end": 1.0}])
        np.testing.assert_array_equal(found.table["upper"], [1.0, NAN, 3.0])
        np.testing.assert_array_equal(found.table["flow"], columns["flow"])
        assert found.notices == ("`T_top` (`upper`): 1 value was dropped, as declared: at 1.0.",)
    with pytest.raises(InvalidTelemetry, match=r"(?s)`drop.column` names.*`T_top` \(`upper`\), `flow`.*mean `flow`"):
        telemetry_of(columns, rename={"T_top": "upper"}, drop=[{"column": "flo", "start": 1.0}])


def test_ends_without_offset_are_on_the_clock_of_the_data() -> None:
    times = ["2026-07-01T10:00", "2026-07-01T11:00", "2026-07-01T12:00"]
    found = of([1.0, 2.0, 3.0], times, timezone=BERLIN, drop=[{"start": "2026-07-01 12:00"}])
    np.testing.assert_array_equal(found.table["level"], [1.0, 2.0, NAN])
    assert "at 2026-07-01 12:00+02:00." in found.notices[0]


def test_cells_between_known_ones_are_filled_by_the_value_before_or_on_a_line() -> None:
    level, time = [NAN, 1.0, NAN, NAN, 4.0, NAN], [0.0, 1.0, 2.0, 2.5, 4.0, 5.0]
    held = of(level, time, fill={"level": "previous"})
    np.testing.assert_array_equal(held.table["level"], [NAN, 1.0, 1.0, 1.0, 4.0, NAN])
    line = of(level, time, fill={"level": {"how": "linear"}})
    np.testing.assert_allclose(line.table["level"], [NAN, 1.0, 2.0, 2.5, 4.0, NAN], rtol=1e-15)
    assert held.notices == ("`level`: 2 missing cells were filled, as declared, by the value before: 2.0 to 2.5.",)
    assert "straight line" in line.notices[0]


def test_dates_are_filled_exactly() -> None:
    times = pd.Timestamp("2026-03-01") + pd.to_timedelta([0, 1, 4], unit="ns")
    found = of([0.0, NAN, 4.0], times, fill={"level": "linear"})
    np.testing.assert_allclose(found.table["level"], [0.0, 1.0, 4.0], rtol=1e-15)


@pytest.mark.parametrize(("within", "filled"), [("2h", [1.0, 1.0, 3.0]), ("119min", [1.0, NAN, 3.0])])
def test_nothing_is_filled_where_known_values_lie_further_apart_than_said(within: str, filled: list[float]) -> None:
    found = of([1.0, NAN, 3.0, NAN, NAN, 6.0], fill={"level": {"how": "previous", "within": within}})
    np.testing.assert_array_equal(found.table["level"], [*filled, NAN, NAN, 6.0])
    assert "stay missing: longer than `within`" in found.notices[-1]


def test_sentinels_then_drop_then_fill() -> None:
    found = of(
        [1.0, -999.0, 50.0, 4.0],
        sentinels=(-999,),
        drop=[{"start": HOURS[2], "end": HOURS[2]}],
        fill={"level": "linear"},
    )
    np.testing.assert_allclose(found.table["level"], [1.0, 2.0, 3.0, 4.0], rtol=1e-15)
    assert ["held -999" in found.notices[0], "dropped" in found.notices[1], "filled" in found.notices[2]] == [True] * 3


def test_the_fingerprint_changes_and_the_settings_say_why() -> None:
    plain, filled = of([1.0, NAN, 3.0]), of([1.0, NAN, 3.0], fill={"level": "linear"})
    dropped = of([1.0, NAN, 3.0], drop=[{"column": "level", "start": HOURS[2]}])
    assert len({one.sha256 for one in (plain, filled, dropped, of([1.0, 2.0, 3.0]))}) == 4
    assert filled.settings == {"fill": [("level", "linear", None)]}
    assert dropped.settings == {"drop": [("level", "2026-03-01 02:00:00", None)]}
    # the same stretch said in another way is the same
    assert of([1.0, NAN, 3.0], drop=[{"column": "Level", "start": "2026-03-01 02:00"}]).sha256 == dropped.sha256


def test_a_long_table_is_mended_by_its_signals() -> None:
    rows = {
        "time": [0.0, 0.0, 1.0, 2.0, 2.0],
        "variable": ["a", "b", "a", "a", "b"],
        "value": [1.0, 2.0, 3.0, 4.0, 6.0],
    }
    found = telemetry_of(rows, layout="long", fill={"b": "linear"}, drop=[{"column": "a", "start": 2.0}])
    np.testing.assert_array_equal(found.table["a"], [1.0, 3.0, NAN])
    np.testing.assert_array_equal(found.table["b"], [2.0, 4.0, 6.0])


@pytest.mark.parametrize(
    ("match", "settings"),
    [
        ("`drop` does not say.*Expected: `start`, `end`.*Received: `column`", {"drop": [{"column": "level"}]}),
        ("`drop` does not say.*Received: `from`", {"drop": [{"from": "2026-03-01"}]}),
        (r"`drop\[2\]` ends before it starts", {"drop": [{"start": HOURS[0]}, {"start": HOURS[1], "end": HOURS[0]}]}),
        ("moment in `drop.start` is not written as ISO 8601.*two days", {"drop": [{"start": "08.11.2026"}]}),
        ("`fill` names the column `flow`.*Expected: `level`", {"fill": {"flow": "linear"}}),
        ("How `level` is to be filled makes no sense.*Received: 'nearest'", {"fill": {"level": "nearest"}}),
        ("How `level`.*Received: .*most", {"fill": {"level": {"how": "linear", "most": 3}}}),
        ("`within` of `fill` is no length.*Received: 15", {"fill": {"level": {"how": "linear", "within": 15}}}),
    ],
)
def test_what_cannot_be_done_is_an_error(match: str, settings: dict[str, object]) -> None:
    refused(match, **settings)
