"""Which rows count is said: repeated times, rows out of order, late and revised rows, sentinels."""

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

TWICE = {"time": [0.0, 1.0, 1.0, 2.0], "level": [1.0, 2.0, np.nan, 5.0], "top": [1.0, 4.0, 8.0, 9.0]}


# Several rows of one time.


@pytest.mark.parametrize(("policy", "level", "top"), [("first", 2.0, 4.0), ("last", np.nan, 8.0), ("mean", 2.0, 6.0)])
def test_rows_of_one_time_follow_the_declared_policy(policy: str, level: float, top: float) -> None:
    found = telemetry_of(TWICE, duplicates=policy)
    np.testing.assert_array_equal(found.table.index, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(found.table["level"], [1.0, level, 5.0])
    np.testing.assert_array_equal(found.table["top"], [1.0, top, 9.0])
    assert "1 rows repeat a time in `time`" in found.notices[0]
    assert "row 3" in found.notices[0]
    assert found.settings == {"duplicates": policy}


def test_rows_of_one_time_are_an_error_where_nothing_is_declared() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)occurs twice.*row 3.*duplicates='first'"):
        telemetry_of(TWICE)
    with pytest.raises(InvalidTelemetry, match=r"(?s)`duplicates` has no such choice.*'mean'.*'average'"):
        telemetry_of(TWICE, duplicates="average")


# Rows out of order.


@pytest.mark.parametrize("time", [[0.0, 2.0, 1.0, 3.0], ["2026-01-01", "2026-01-03", "2026-01-02", "2026-01-04"]])
def test_rows_out_of_order_are_sorted_with_a_notice(time: list) -> None:
    found = telemetry_of({"time": time, "level": [0.0, 2.0, 1.0, 3.0]})
    assert found.table.index.is_monotonic_increasing
    assert found.table["level"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.notices[-1] == "`time` runs backwards 1 time and was sorted (row 3)."


def test_rows_of_one_time_far_apart_are_found_after_sorting() -> None:
    columns = {"time": [3.0, 1.0, 3.0], "level": [0.0, 1.0, 2.0]}
    with pytest.raises(InvalidTelemetry, match=r"(?s)occurs twice.*1 such row: row 3"):
        telemetry_of(columns)
    assert telemetry_of(columns, duplicates="first").table["level"].tolist() == [1.0, 0.0]
    assert telemetry_of(columns, duplicates="last").table["level"].tolist() == [1.0, 2.0]


def test_dates_that_go_back_by_an_hour_are_told_from_a_shuffled_file() -> None:
    autumn = ["2026-10-25T02:00", "2026-10-25T02:40", "2026-10-25T02:20", "2026-10-25T03:00"]
    assert "as a clock does in autumn" in telemetry_of({"time": autumn, "level": range(4)}).notices[-1]
    with pytest.raises(InvalidTelemetry, match="as a clock does in autumn"):
        telemetry_of({"time": [*autumn[:2], "2026-10-25T02:00"], "level": range(3)})
    shuffled = ["2026-10-25", "2026-10-27", "2026-10-26"]
    assert "autumn" not in telemetry_of({"time": shuffled, "level": range(3)}).notices[-1]


# late and revised rows

REVISED = {
    "time": [0.0, 1.0, 2.0, 1.0, 3.0],
    "level": [10.0, 11.0, 12.0, 11.5, 13.0],
    "received": ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"],
}


@pytest.mark.parametrize(
    ("as_of", "times", "level", "late", "replaced"),
    [
        (None, [0, 1, 2, 3], [10.0, 11.5, 12.0, 13.0], 0, 1),
        ("2026-01-04", [0, 1, 2], [10.0, 11.5, 12.0], 1, 1),
        ("2026-01-03T23:59", [0, 1, 2], [10.0, 11.0, 12.0], 2, 0),
        ("2026-01-01", [0], [10.0], 4, 0),
    ],
)
def test_as_of_shows_what_was_known_then(
    as_of: str | None, times: list[float], level: list[float], late: int, replaced: int
) -> None:
    found = telemetry_of(REVISED, known_at="received", as_of=as_of)
    np.testing.assert_array_equal(found.table.index, times)
    np.testing.assert_array_equal(found.table["level"], level)
    assert list(found.table) == ["level"]
    assert any(f"{late} of 5 rows became known" in said for said in found.notices) == bool(late)
    assert any(f"{replaced} rows gave way" in said for said in found.notices) == bool(replaced)


def test_a_value_that_was_withdrawn_is_missing_and_not_what_it_was_before() -> None:
    withdrawn = REVISED | {"level": [10.0, 11.0, 12.0, np.nan, 13.0]}
    found = telemetry_of(withdrawn, known_at="received")
    np.testing.assert_array_equal(found.table["level"], [10.0, np.nan, 12.0, 13.0])


def test_as_of_needs_to_know_when_rows_became_known() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)`as_of` is given, but not when.*known_at"):
        telemetry_of(REVISED, as_of="2026-01-04")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`known_at` names the column `arrived`.*`received`"):
        telemetry_of(REVISED, known_at="arrived")
    with pytest.raises(InvalidTelemetry, match=r"(?s)Nothing was known as of.*2026-01-01"):
        telemetry_of(REVISED, known_at="received", as_of="2025-12-31")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`received` is missing.*row 1"):
        telemetry_of(REVISED | {"received": [None, *REVISED["received"][1:]]}, known_at="received")


def test_rows_known_at_the_same_moment_are_duplicates_still() -> None:
    same = REVISED | {"received": [0.0] * 5}
    with pytest.raises(InvalidTelemetry, match="occurs twice"):
        telemetry_of(same, known_at="received")
    assert telemetry_of(same, known_at="received", duplicates="mean").table["level"].tolist()[1] == 11.25


# Numbers or words that stand for a missing value.


def test_a_sentinel_among_numbers_is_an_error_that_names_the_cells() -> None:
    columns = {"time": range(5), "level": [1.0, -999.0, 3.0, -999.0, 2.0]}
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level` holds -999,.*2 cells of.*row 2, 4.*sentinels=\(-999,\)"):
        telemetry_of(columns)
    found = telemetry_of(columns, sentinels=(-999,))
    np.testing.assert_array_equal(found.table["level"], [1.0, np.nan, 3.0, np.nan, 2.0])
    assert found.notices == ("`level`: 2 cells held -999.0 and were taken as missing (row 2, 4).",)
    np.testing.assert_array_equal(telemetry_of(columns, sentinels=()).table["level"], columns["level"])
    assert len({telemetry_of(columns, sentinels=s).sha256 for s in [(), (-999,), (-999, "x")]}) == 3


def test_a_value_that_is_not_far_from_the_others_is_no_sentinel() -> None:
    values = [-1500.0, -999.0, 800.0, 20.0]
    np.testing.assert_array_equal(telemetry_of({"time": range(4), "power": values}).table["power"], values)


def test_words_that_mean_missing_are_taken_as_such_where_declared() -> None:
    columns = {"time": range(4), "level": ["1.5", "OVERFLOW", " overflow", "2.5"]}
    with pytest.raises(
        InvalidTelemetry, match=r"(?s)'OVERFLOW' in row 2.* in row 3, and 2 such.*sentinels=\('OVERFLOW'"
    ):
        telemetry_of(columns)
    found = telemetry_of(columns, sentinels=("OVERFLOW", -1))
    np.testing.assert_array_equal(found.table["level"], [1.5, np.nan, np.nan, 2.5])
    assert "2 cells held OVERFLOW,  overflow" in found.notices[0]


def test_a_column_without_numbers_is_left_out_with_a_notice() -> None:
    stamps = pd.to_datetime(["2026-01-01", "2026-01-02"])
    found = telemetry_of({"time": [0, 1], "level": [1.0, 2.0], "mode": ["REST", "CHRG"], "written": stamps})
    assert list(found.table) == ["level"]
    assert found.notices == (
        "`mode` holds no numbers and was left out.",
        "`written` holds no numbers and was left out.",
    )


def test_what_was_noticed_goes_with_a_part_of_the_record() -> None:
    found = telemetry_of(TWICE, duplicates="first")
    part = found.between(1.0)
    assert (part.notices, part.settings) == (found.notices, found.settings)
    assert part.sha256 != found.sha256
    assert isinstance(part, bt.Telemetry)
