"""A long table, one row a value, reads as the wide one that it came from."""

import numpy as np
import pandas as pd
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

WIDE = pd.DataFrame({"time": [0.0, 0.1, 0.3], "level": [1.0, np.nan, 3.0], "top": [4.0, 5.0, np.nan]})
LONG = WIDE.melt("time").dropna()


def test_long_and_wide_are_the_same_telemetry() -> None:
    wide, long = bt.read_telemetry(WIDE), bt.read_telemetry(LONG, layout="long")
    pd.testing.assert_frame_equal(long.table, wide.table)
    assert long.sha256 == wide.sha256


def test_columns_of_any_name_units_and_new_names_by_signal() -> None:
    table = LONG.rename(columns={"time": "Time", "variable": "Sensor", "value": "Reading"}).assign(site="north")
    found = bt.read_telemetry(
        table,
        time="Time",
        layout="long",
        variable="sensor",
        value="reading",
        rename={"level": "water"},
        units={"level": "cm", "top": "m", "Time": "h"},
    )
    assert sorted(found.table) == ["top", "water"]
    assert found.units == {"water": "cm", "top": "m", "time": "h"}
    assert found.notices == ("Columns that the long layout does not use were left out: site.",)


def test_times_are_joined_exactly_and_each_signal_has_its_own() -> None:
    found = telemetry_of({"time": [0.3, 0.1 + 0.2], "variable": ["level", "top"], "value": [1.0, 2.0]}, layout="long")
    assert len(found.table) == 2
    assert int(found.table.notna().to_numpy().sum()) == 2


def test_what_is_wrong_names_signal_and_row() -> None:
    again = pd.concat([LONG, LONG.iloc[[-1]]])
    with pytest.raises(InvalidTelemetry, match=r"(?s)occurs twice.*row 5"):
        bt.read_telemetry(again, layout="long")
    kept = bt.read_telemetry(again, layout="long", duplicates="first")
    assert kept.notices[0].startswith("`top`: 1 rows repeat a time")
    words = LONG.assign(value=["1.5", "OVERFLOW", "2.5", "3.5"])
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level` holds something.*'OVERFLOW' in row 2"):
        bt.read_telemetry(words, layout="long")
    with pytest.raises(InvalidTelemetry, match=r"(?s)no name in `variable`.*1 rows.*row 2"):
        bt.read_telemetry(LONG.assign(variable=["level", None, "top", "top"]), layout="long")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`layout='long'` names the column `value`.*`variable`"):
        bt.read_telemetry(LONG.drop(columns="value"), layout="long")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`units` names the column `levle`"):
        bt.read_telemetry(LONG, layout="long", units={"levle": "m"})


def test_a_revision_replaces_the_value_of_its_own_signal_alone() -> None:
    table = pd.DataFrame(
        {
            "time": [0.0, 0.0, 0.0],
            "variable": ["level", "top", "level"],
            "value": [1.0, 2.0, 1.5],
            "received": [10.0, 10.0, 20.0],
        }
    )
    found = bt.read_telemetry(table, layout="long", known_at="received")
    assert found.table.to_dict("list") == {"top": [2.0], "level": [1.5]}
    early = bt.read_telemetry(table, layout="long", known_at="received", as_of=15.0)
    assert early.table.to_dict("list") == {"level": [1.0], "top": [2.0]}


def test_experiments_of_a_long_table() -> None:
    table = pd.concat([LONG.assign(Run=name) for name in ("first", "second")])
    found = bt.read_experiments(table, by="run", layout="long", units={"level": "m"})
    assert list(found) == ["first", "second"]
    for one in found.values():
        pd.testing.assert_frame_equal(one.table, bt.read_telemetry(WIDE).table)
        assert one.units == {"level": "m"}
