"""Rows of PostgreSQL and of Parquet files are chosen where they lie, and read as the same rows from a table do."""

import datetime as dt
import importlib.util
import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from servers import PASSWORD, Database

import bayestwin as bt
from bayestwin.errors import BayestwinError, InvalidInput, InvalidTelemetry, Unreachable
from bayestwin.telemetry import selecting
from bayestwin.telemetry.selecting import Selection, parquet_rows, query_rows, rows_sha256, written

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is an optional extra")

TIMES = pd.date_range("2026-03-28T22:00Z", periods=6, freq="h")
"""Over the night in which the clock of Berlin goes forward."""

READINGS = """
CREATE TABLE readings (
    time timestamptz NOT NULL, local timestamp, asset text, flow double precision, pressure numeric(8, 3), steps bigint,
    running boolean, state text, day date
)
"""


@pytest.fixture(scope="module")
def filled(database: Database) -> Database:
    database.execute("DROP TABLE IF EXISTS readings", READINGS)
    rows = [
        (
            time,
            time.tz_localize(None),
            asset,
            0.1 * number,
            f"{number}.125",
            number,
            number % 2 == 0,
            f"{number}.5",
            time.date(),
        )
        for asset in ("pump-7", "pump-8", "o'clock")
        for number, time in enumerate(TIMES)
    ]
    database.copy("readings", rows)
    return database


def read(database: Database, query: str, parameters: dict | None = None, **settings: object) -> bt.Telemetry:
    return bt.read_telemetry(database.address, query=query, parameters=parameters, **settings)


def refused(match: str, error: type[BayestwinError], *told: object, **settings: object) -> str:
    with pytest.raises(error, match=f"(?s){match}") as raised:
        bt.read_telemetry(*told, **settings)
    assert PASSWORD not in str(raised.value)
    assert "Expected: " in str(raised.value)
    return str(raised.value)


ONE = "SELECT time, flow, pressure, steps, running FROM readings WHERE asset = %(asset)s"


def test_rows_of_a_query_read_as_the_same_table_does(filled: Database) -> None:
    found = read(filled, ONE, {"asset": "pump-7"}, units={"flow": "L/s"})
    numbers = np.arange(6.0)
    table = pd.DataFrame(
        {
            "time": TIMES,
            "flow": 0.1 * numbers,
            "pressure": numbers + 0.125,
            "steps": numbers,
            "running": (numbers + 1) % 2,
        }
    )
    expected = bt.read_telemetry(table, units={"flow": "L/s"})
    assert found.sha256 == expected.sha256
    assert found.source == f"query of postgresql://127.0.0.1:{filled.port}/plant"


def test_values_are_bound_and_never_a_part_of_the_query(filled: Database) -> None:
    assert len(read(filled, ONE, {"asset": "o'clock"}).table) == 6
    refused("no rows", InvalidTelemetry, filled.address, query=ONE, parameters={"asset": "x' OR '1'='1"})
    refused("no rows", InvalidTelemetry, filled.address, query=ONE, parameters={"asset": "'; DROP TABLE readings; --"})
    assert len(read(filled, ONE, {"asset": "pump-8"}).table) == 6


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM readings",
        "SELECT 1 AS time; DELETE FROM readings",
        "WITH gone AS (DELETE FROM readings RETURNING time) SELECT time FROM gone",
        "DROP TABLE readings",
        "COPY readings TO PROGRAM 'true'",
        "COMMIT; DELETE FROM readings",
        "SELECT time, flow INTO other FROM readings",
        "SELECT emptied() AS time",
    ],
)
def test_a_query_changes_nothing(filled: Database, query: str) -> None:
    filled.execute(
        "CREATE OR REPLACE FUNCTION emptied() RETURNS bigint LANGUAGE sql AS "
        "'DELETE FROM readings; SELECT count(*) FROM readings'"
    )
    refused("does not answer the query", InvalidTelemetry, filled.address, query=query)
    refused("does not answer the query", InvalidTelemetry, filled.address, query=query, parameters={"unused": 1})
    assert len(read(filled, ONE, {"asset": "pump-8"}).table) == 6


def test_moments_without_an_offset_are_on_the_clock_of_the_telemetry(filled: Database) -> None:
    query = "SELECT time, flow FROM readings WHERE asset = 'pump-7' AND time >= %(start)s"
    for start in ("2026-03-29 01:00", dt.datetime(2026, 3, 29, 1, 0)):
        assert read(filled, query, {"start": start}).table.index[0] == pd.Timestamp("2026-03-29T01:00")
        berlin = read(filled, query, {"start": start}, timezone="Europe/Berlin")
        assert berlin.table.index[0] == pd.Timestamp("2026-03-29T00:00")
        fixed = read(filled, query, {"start": start}, timezone="+02:00")
        assert fixed.table.index[0] == pd.Timestamp("2026-03-28T23:00")
    aware = dt.datetime(2026, 3, 29, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=-1)))
    assert read(filled, query, {"start": aware}, timezone="Europe/Berlin").table.index[0] == pd.Timestamp(
        "2026-03-29T02:00"
    )
    assert read(filled, query, {"start": dt.date(2026, 3, 29)}).table.index[0] == pd.Timestamp("2026-03-29T00:00")


def test_times_without_zone_are_those_of_the_declared_one(filled: Database) -> None:
    query = "SELECT local AS time, flow FROM readings WHERE asset = 'pump-7'"
    assert "carry no UTC offset" in " ".join(read(filled, query).notices)
    refused("never showed", InvalidTelemetry, filled.address, query=query, timezone="Europe/Berlin")
    later = query + " AND local >= %(start)s"
    found = read(filled, later, {"start": "2026-03-29 03:00"}, timezone="Europe/Berlin")
    assert found.table.index[0] == pd.Timestamp("2026-03-29T01:00")


def test_what_is_null_is_missing_and_text_is_as_in_a_file(filled: Database) -> None:
    filled.execute(
        "DROP TABLE IF EXISTS gaps",
        "CREATE TABLE gaps (time int, flow numeric, steps int, level text, note text)",
        "INSERT INTO gaps VALUES (0, 1.5, 3, '2.5', 'good'), (1, NULL, NULL, NULL, NULL), (2, 'NaN', 4, '3.5', '')",
    )
    found = read(filled, "SELECT * FROM gaps")
    np.testing.assert_array_equal(found.table["flow"], [1.5, np.nan, np.nan])
    np.testing.assert_array_equal(found.table["steps"], [3.0, np.nan, 4.0])
    np.testing.assert_array_equal(found.table["level"], [2.5, np.nan, 3.5])
    assert "`note` holds no numbers and was left out." in found.notices
    filled.execute("INSERT INTO gaps VALUES (2, 7, 8, '9', '')", "INSERT INTO gaps VALUES (NULL, 7, 8, '9', '')")
    refused("is missing", InvalidTelemetry, filled.address, query="SELECT * FROM gaps")
    refused(
        "same time|more than once|twice", InvalidTelemetry, filled.address, query="SELECT * FROM gaps WHERE time >= 0"
    )
    filled.execute("INSERT INTO gaps VALUES (3, 7, 8, 'OVERFLOW', '')", "DELETE FROM gaps WHERE steps = 8 AND time = 2")
    refused("`level` holds something", InvalidTelemetry, filled.address, query="SELECT * FROM gaps WHERE time >= 0")
    refused("infinite", InvalidTelemetry, filled.address, query="SELECT 1 AS time, 'Infinity'::float8 AS flow")
    refused(
        "does not answer", InvalidTelemetry, filled.address, query="SELECT 'infinity'::timestamptz AS time, 1 AS flow"
    )


def test_settings_that_go_by_the_order_of_rows_need_one(filled: Database) -> None:
    query = "SELECT time, flow FROM readings"
    refused("ORDER BY", InvalidTelemetry, filled.address, query=query, duplicates="last")
    refused("ORDER BY", InvalidTelemetry, filled.address, query=query, ambiguous="infer", timezone="Europe/Berlin")
    found = read(filled, f"{query} ORDER BY asset, time", duplicates="last")
    assert len(found.table) == 6


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT nothing FROM readings", 'column "nothing" does not exist'),
        ("SELEC time", "syntax error"),
        ("SELECT time FROM readings WHERE asset = %(asset)s", "asset"),
        ("SELECT time FROM readings WHERE asset LIKE 'pump%' AND flow > %(low)s", "placeholder"),
    ],
)
def test_a_query_that_is_wrong_is_refused_in_the_words_of_the_server(filled: Database, query: str, words: str) -> None:
    refused(words, InvalidTelemetry, filled.address, query=query, parameters={"low": 0.0})


def test_what_cannot_be_asked_is_said(filled: Database) -> None:
    refused("no query says", InvalidTelemetry, filled.address)
    refused("cannot be bound", InvalidTelemetry, filled.address, query=ONE, parameters={"asset": ["pump-7"]})
    refused("`query` does not go", InvalidTelemetry, pd.DataFrame({"time": [0], "x": [1]}), query=ONE)
    refused("two columns called", InvalidTelemetry, filled.address, query="SELECT time, flow, flow FROM readings")
    assert "no rows" in refused("no rows", InvalidTelemetry, filled.address, query=ONE, parameters={"asset": "none"})


def test_a_server_that_is_away_is_said_and_no_password_is(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = filled.address.replace(str(filled.port), "1")
    refused("does not answer.*refused", Unreachable, elsewhere, query=ONE)
    refused("does not exist", Unreachable, filled.address.replace("/plant", "/other"), query=ONE)
    refused("not exist|does not answer", Unreachable, filled.address + "?options=-c%20statement_timeout%3D1",
            query="SELECT 1 AS time, pg_sleep(1)")  # fmt: skip
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    assert "wrong-one" not in refused("authentication failed", Unreachable, filled.address, query=ONE)
    monkeypatch.delenv("PGPASSWORD")
    refused("no password", Unreachable, filled.address, query=ONE)


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://ann:{PASSWORD}@host/plant",
        f"postgres://ann:{PASSWORD}@host/plant",
        f"postgresql://host/plant?password={PASSWORD}",
        f"postgresql://host/plant?sslmode=require&PassWord={PASSWORD}",
        f"postgresql://ann:se/{PASSWORD}@host/plant",
        f"postgresql://ann:{PASSWORD}@[bad/plant",
        f"postgresql+psycopg://ann:{PASSWORD}@host/plant",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    refused("password|remote", InvalidInput, address, query="SELECT 1")


def test_the_answer_is_bounded(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "MAX_CELLS", 20_000)
    endless = "SELECT generate_series(1, 1000000000) AS time, 1.0 AS flow"
    refused("more than is read into memory", InvalidTelemetry, filled.address, query=endless)


def test_rows_that_were_written_down_read_as_they_came(filled: Database, tmp_path: pathlib.Path) -> None:
    query = (
        "SELECT * FROM readings WHERE asset = 'pump-7' UNION ALL "
        "SELECT time, local, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM readings "
        "WHERE asset = 'pump-8' AND steps = 0"
    )
    table, _ = query_rows(filled.address, Selection(query))
    path = tmp_path / "rows.nc"
    path.write_bytes(written(table))
    assert path.read_bytes() == written(table)
    again = bt.telemetry.read_source(path).table
    assert rows_sha256(again) == rows_sha256(table)
    settings = {"duplicates": "mean", "timezone": "UTC"}
    direct = read(filled, query, **settings)
    assert bt.read_telemetry(path, **settings).sha256 == direct.sha256
    assert direct.table["flow"].iloc[0] == 0.0


def test_the_hash_of_rows_knows_every_value_and_no_order() -> None:
    table = pd.DataFrame({"time": TIMES, "flow": np.arange(6.0), "state": [*"abcde", None]})
    same = [
        table.iloc[::-1],
        table[["state", "flow", "time"]],
        table.assign(time=table["time"].dt.tz_convert("Asia/Tokyo")),
    ]
    assert {rows_sha256(one) for one in same} == {rows_sha256(table)}
    other = [
        table.iloc[:-1],
        pd.concat([table, table.iloc[:1]]),
        table.assign(flow=table["flow"].where(table["flow"] != 3.0, np.nextafter(3.0, 4.0))),
        table.assign(flow=[1.0, 0.0, 2.0, 3.0, 4.0, 5.0]),
        table.assign(state=[*"abcdf", None]),
        table.assign(time=table["time"].dt.tz_localize(None)),
        table.rename(columns={"flow": "Flow"}),
    ]
    assert len({rows_sha256(one) for one in [table, *other]}) == len(other) + 1


# Parquet.


@pytest.fixture
def lake(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three assets of 1,000 rows in folders, of which no more than a week is read; and a file that is no Parquet."""
    times = pd.date_range("2026-03-01T00:00Z", periods=1000, freq="h")
    parts = [
        pd.DataFrame({"time": times, "flow": np.arange(1000.0) + 1000 * n, "other": 1.0, "asset": f"pump-{n}"})
        for n in range(3)
    ]
    pd.concat(parts).to_parquet(tmp_path / "lake", partition_cols=["asset"])
    (tmp_path / "lake" / "_SUCCESS").write_text("")
    return tmp_path / "lake"


WEEK = [("asset", "==", "pump-1"), ("time", ">=", "2026-03-08"), ("time", "<", dt.date(2026, 3, 15))]


@needs_pyarrow
def test_what_fits_in_a_lake_is_read_and_nothing_else(lake: pathlib.Path) -> None:
    found = bt.read_telemetry(lake, filters=WEEK, columns=["time", "flow"])
    assert list(found.table) == ["flow"]
    np.testing.assert_array_equal(found.table["flow"], 1000.0 + np.arange(168, 336))
    (broken,) = (lake / "asset=pump-2").iterdir()
    broken.write_bytes(broken.read_bytes()[:-4] + b"gone")
    assert bt.read_telemetry(lake, filters=WEEK, columns=["time", "flow"]).sha256 == found.sha256
    refused("does not read as Parquet", InvalidTelemetry, lake)
    several = bt.read_telemetry(lake, filters=[("asset", "in", ["pump-1"]), *WEEK[1:]], columns=["time", "flow"])
    assert several.sha256 == found.sha256
    for filters in (
        [("asset", "not in", ["pump-0", "pump-2"]), *WEEK[1:]],
        [("flow", ">=", 1168.0), ("flow", "<=", 1335.0), WEEK[0]],
    ):
        assert bt.read_telemetry(lake, filters=filters, columns=["time", "flow"]).sha256 == found.sha256


@needs_pyarrow
def test_moments_of_filters_are_on_the_clock_of_the_telemetry(tmp_path: pathlib.Path) -> None:
    local = pd.date_range("2026-03-28", periods=72, freq="h")
    zoned = local.tz_localize("UTC")
    for times in (local[local.hour > 4], zoned):
        pd.DataFrame({"time": times, "flow": np.arange(float(len(times)))}).to_parquet(tmp_path / "flow.parquet")
        asked = {"filters": [("time", ">=", "2026-03-29 06:00")], "timezone": "Europe/Berlin"}
        found = bt.read_telemetry(tmp_path / "flow.parquet", **asked)
        assert found.table.index[0] == pd.Timestamp("2026-03-29T04:00")
        offset = {"filters": [("time", ">=", "2026-03-29 06:00+02:00")], "timezone": "Europe/Berlin"}
        assert bt.read_telemetry(tmp_path / "flow.parquet", **offset).sha256 == found.sha256


@needs_pyarrow
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"filters": [("nothing", "==", 1)]}, "a column of `time`, `flow`, `other`, `asset`"),
        ({"filters": [("flow", "=", 1)]}, "one of == != <"),
        ({"filters": ["flow > 1"]}, "no comparison"),
        ({"filters": [("flow", "in", 1)]}, "no comparison"),
        ({"filters": [("flow", "<", "many")]}, "does not read as Parquet"),
        ({"filters": [("time", "<", 5)]}, "compares times with something else"),
        ({"filters": [("time", "<", "yesterday")]}, "not written as ISO 8601"),
        ({"columns": ["time", "flo"]}, "`columns` names `flo`"),
        ({"filters": [("flow", "<", -1.0)]}, "no rows"),
    ],
)
def test_filters_that_make_no_sense_are_refused(lake: pathlib.Path, settings: dict, match: str) -> None:
    refused(match, InvalidTelemetry, lake, **settings)


@needs_pyarrow
def test_filters_and_folders_are_of_parquet(lake: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "flow.csv").write_text("time,flow\n0,1\n")
    refused("`filters` does not go", InvalidTelemetry, tmp_path / "flow.csv", filters=[("flow", "<", 2)])
    refused("`columns` does not go", InvalidTelemetry, pd.DataFrame({"time": [0.0], "x": [0.0]}), columns=["x"])
    (tmp_path / "empty").mkdir()
    refused("has no Parquet file", InvalidTelemetry, tmp_path / "empty")


@needs_pyarrow
def test_what_fits_is_bounded(lake: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "MAX_CELLS", 5_000)
    refused("more than is read into memory", InvalidTelemetry, lake)
    table, name = parquet_rows(lake, Selection(filters=WEEK))
    assert (len(table), name) == (168, "lake")


WITHOUT = """
import sys
sys.modules["psycopg"] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "psycopg" else real(name, *rest)
import bayestwin as bt
try:
    bt.read_telemetry("postgresql://host/plant", query="SELECT 1")
except bt.errors.InvalidSetting as reason:
    print(reason)
"""


def test_without_psycopg_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=300, check=True)
    assert re.search(r"pip install .bayestwin\[postgres\]", done.stdout)
