"""A watch of a table or of a topic counts each row once, whatever dies when, and says which rows came late."""

import importlib.util
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from servers import PASSWORD, Broker, Database, running_broker
from tank_model import run_command, telemetry_text, write_model
from test_watch import Died, Site, check_once, die_at, made_site

from bayestwin.errors import InvalidInput, InvalidSetting, Unreachable
from bayestwin.project import streams
from bayestwin.project.model import load_model
from bayestwin.project.streams import QuerySource, TopicSource, _rows_in, opened_source
from bayestwin.project.watch import watch_model

ROWS = telemetry_text().splitlines()[2:]
LATER = ROWS[24:]
WATCH = """
[watch]
settle = "PT0.2S"
query = "SELECT hour, gauge, pump FROM watched WHERE asset = %(asset)s"
parameters = { asset = "north" }
"""


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Site:
    if not any(importlib.util.find_spec(module) for module in ("psycopg", "paho")):
        pytest.skip("psycopg and paho are optional extras")
    return made_site(request.getfixturevalue("calibrated_for_watching"), tmp_path / "site", WATCH)


@pytest.fixture
def watched(database: Database) -> Database:
    database.execute(
        "DROP TABLE IF EXISTS watched", "CREATE TABLE watched (asset text, hour float8, gauge float8, pump float8)"
    )
    return database


def insert(database: Database, rows: list[str], asset: str = "north") -> None:
    database.copy("watched", [(asset, *map(float, row.split(","))) for row in rows])


def follow(site: Site, address: str, **settings: Any) -> list[Any]:
    """Look once at all that is there; what became of it."""
    told: list[Any] = []
    model = load_model(site.model)
    with opened_source(address, model, site.results) as source:
        watch_model(model, site.results, source, once=True, told=told.append, **settings)
    return told


def test_rows_of_a_table_are_taken_in_as_they_come(site: Site, watched: Database) -> None:
    insert(watched, ROWS[:24])
    insert(watched, LATER[:4])
    insert(watched, LATER[4:12], asset="south")
    command = ["watch", site.model, "--source", watched.address, "--once", "--results", site.results]
    code, out, err = run_command(*command, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["name"], told["fate"]) == ("rows-000001.nc", "counted")
    check_once(site, LATER[:4])
    runs = site.runs
    assert run_command(*command) == (0, "", "")
    assert site.runs == runs
    insert(watched, LATER[4:8])
    assert [one.fate for one in follow(site, watched.address)] == ["counted"]
    check_once(site, LATER[:8])
    place = site.place()
    assert place.mark["last"] == float(LATER[7].split(",")[0])
    assert place.source.startswith("postgresql://127.0.0.1:")
    assert '{"asset": "north"}' in place.source
    assert PASSWORD not in (site.folder / "watch" / "watch.json").read_text(encoding="utf-8")


def test_rows_that_come_late_count_once_and_are_said(site: Site, watched: Database) -> None:
    insert(watched, [*LATER[:4], LATER[5]])
    assert [one.fate for one in follow(site, watched.address)] == ["counted"]
    insert(watched, LATER[4:5])
    (told,) = follow(site, watched.address)
    assert told.fate == "counted"
    assert told.reason.startswith(f"1 row came late, or corrected, the first of {float(LATER[4].split(',')[0])}. ")
    check_once(site, LATER[:6])
    assert follow(site, watched.address) == []
    # so late that it is not looked for
    insert(watched, ["0.1,3.0,1.0"])
    assert follow(site, watched.address) == []


def test_rows_that_are_corrected_take_the_place_of_those_before(site: Site, watched: Database) -> None:
    insert(watched, LATER[:4])
    follow(site, watched.address)
    hour, gauge, _ = map(float, LATER[3].split(","))
    watched.execute(f"UPDATE watched SET gauge = gauge + 0.05 WHERE hour = {hour}")
    (told,) = follow(site, watched.address)
    assert told.fate == "counted"
    newest = site.newest()
    assert [one["revised"] for one in newest.attrs["updates"]] == [0, 1]
    assert newest["observed_data"]["level"].values[-1] == pytest.approx(gauge + 0.05)
    assert follow(site, watched.address) == []


def test_rows_that_cannot_be_read_come_again_until_they_are_mended(site: Site, watched: Database) -> None:
    insert(watched, [*LATER[:4], LATER[3]])
    assert [one.fate for one in follow(site, watched.address)] == ["refused"]
    assert follow(site, watched.address) == []
    insert(watched, LATER[4:6])
    assert [one.fate for one in follow(site, watched.address)] == ["refused"]
    watched.execute(
        "DELETE FROM watched AS one USING watched AS other WHERE one.ctid < other.ctid AND one.hour = other.hour"
    )
    assert [one.fate for one in follow(site, watched.address)] == ["counted"]
    check_once(site, LATER[:6])


def test_many_rows_come_in_parts_and_none_is_left_out(
    site: Site, watched: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST", 3)
    insert(watched, LATER[::-1])
    assert [one.fate for one in follow(site, watched.address)] == ["counted"] * 6
    check_once(site, LATER)


@pytest.mark.parametrize("deaths", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_whatever_it_dies_of_each_row_of_a_table_counts_once(
    site: Site, watched: Database, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    insert(watched, LATER[:4])
    pristine = shutil.copytree(site.results, site.results.with_name("pristine"))
    with monkeypatch.context() as patched:
        count = die_at(patched, site.results, sys.maxsize)
        follow(site, watched.address)
    undisturbed = site.newest()["posterior"].to_dataset()
    places = [*sorted(random.Random(0).sample(range(count[0] - 1), deaths - 1)), count[0] - 1]
    for place in places:
        shutil.rmtree(site.results)
        shutil.copytree(pristine, site.results)
        with monkeypatch.context() as patched:
            die_at(patched, site.results, place)
            with pytest.raises(Died):
                follow(site, watched.address)
        follow(site, watched.address)
        check_once(site, LATER[:4])
        assert len(site.chain()) == 2
        xr.testing.assert_identical(site.newest()["posterior"].to_dataset(), undisturbed)


KILLED = """
import pathlib, sys
from bayestwin.project.model import load_model
from bayestwin.project.streams import opened_source
from bayestwin.project.watch import watch_model
model, results = map(pathlib.Path, sys.argv[1:3])
print("begun", flush=True)
loaded = load_model(model)
with opened_source(sys.argv[3], loaded, results) as source:
    watch_model(loaded, results, source, once=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments_while_rows_come_it_counts_each_once(site: Site, watched: Database) -> None:
    rng, kills, given = random.Random(1), 0, 0
    arguments = [sys.executable, "-c", KILLED, str(site.model), str(site.results), watched.address]
    while given < 12 or kills < 3:
        if given < 12:
            insert(watched, LATER[given : given + 3])
            given += 3
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(rng.uniform(1.0, 14.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
        assert kills < 40
    follow(site, watched.address)
    check_once(site, LATER[:12])


def test_a_server_that_is_away_is_waited_for(site: Site, watched: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    insert(watched, LATER[:4])
    watched.stop()
    with pytest.raises(Unreachable):
        follow(site, watched.address)
    model, source, reasons, told = load_model(site.model), QuerySource(watched.address, load_model(site.model)), [], []
    looks = 0

    def passed(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            watched.start()
        if told:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", passed)
    with pytest.raises(KeyboardInterrupt):
        watch_model(model, site.results, source, told=told.append, away=reasons.append)
    assert len(reasons) == 1
    assert [one.fate for one in told] == ["counted"]
    check_once(site, LATER[:4])


def test_what_is_followed_must_be_said_and_stays_the_same(site: Site, watched: Database) -> None:
    insert(watched, LATER[:4])
    follow(site, watched.address)
    job = site.model / "job.toml"
    whole = job.read_text(encoding="utf-8")
    job.write_text(whole.replace('asset = "north"', 'asset = "south"'), encoding="utf-8")
    with pytest.raises(InvalidInput, match="follows another source"):
        follow(site, watched.address)
    job.write_text(whole.replace("query =", "# query ="), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"(?s)does not say which rows.*`query` in `\[watch\]`"):
        follow(site, watched.address)
    code, out, err = run_command(
        "watch", site.model, "--source", f"postgresql://ann:{PASSWORD}@host/plant", "--once", "--results", site.results
    )
    assert (code, PASSWORD in out + err) == (2, False)


def test_dates_are_followed_too(database: Database, tmp_path: pathlib.Path) -> None:
    """Moments with a zone, moments without on the clock of a zone, and days: the source alone."""
    database.execute(
        "DROP TABLE IF EXISTS dated",
        "CREATE TABLE dated (zoned timestamptz, local timestamp, day date, level float8)",
        "INSERT INTO dated SELECT t AT TIME ZONE 'Europe/Berlin', t, t, 1.5 FROM "
        "generate_series(timestamp '2026-07-01', '2026-07-10', '1 day') AS t",
    )
    for column, zone in (("zoned", None), ("local", "Europe/Berlin"), ("day", "Europe/Berlin")):
        text = f'[telemetry]\nfile = "a.csv"\ntime = "{column}"\n'
        text += f'timezone = "{zone}"\n' if zone else ""
        text += f'[watch]\nquery = "SELECT {column}, level FROM dated"\n'
        source = QuerySource(database.address, load_model(write_model(tmp_path / column / "tank", job=text)))
        first = list(source.arrivals({}, lambda: pd.Timestamp("2026-07-05T21:59")))
        assert len(first) == 1
        assert set(first[0].mark["seen"].values()) == {1}
        assert first[0].mark["last"].startswith("2026-07-10" if column != "zoned" else "2026-07-09T22")
        assert list(source.arrivals(first[0].mark, float)) == []
        if column == "local":
            database.execute("INSERT INTO dated VALUES (NULL, '2026-07-09 23:30', NULL, 2.0)")
            (late,) = source.arrivals(first[0].mark, float)
            assert "1 row came late" in late.said
            database.execute("DELETE FROM dated WHERE level = 2.0")
            assert list(source.arrivals(late.mark, float)) == []


# MQTT.


@pytest.fixture
def broker(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    monkeypatch.setenv("MQTT_PASSWORD", PASSWORD)
    (tmp_path / "broker").mkdir()
    with running_broker(tmp_path / "broker") as one:
        yield one


def messages(rows: list[str]) -> list[str]:
    every = [dict(zip(("hour", "gauge", "pump"), map(float, row.split(",")), strict=True)) for row in rows]
    return [json.dumps(one) for one in every]


def test_messages_of_a_topic_are_taken_in_also_those_that_came_while_nobody_listened(
    site: Site, broker: Broker
) -> None:
    assert follow(site, broker.address) == []  # from now on the broker keeps what comes
    broker.publish(*messages(LATER[:4]))
    assert [one.fate for one in follow(site, broker.address)] == ["counted"]
    check_once(site, LATER[:4])
    broker.publish(*messages(LATER[4:8]), *messages(LATER[2:6]))
    broker.publish(json.dumps([json.loads(one) for one in messages(LATER[8:10])]), "21.5", topic="plant/tank/other")
    broker.publish(*messages(LATER[10:]), topic="plant/pump")
    (told,) = follow(site, broker.address)
    assert told.fate == "counted"
    assert told.reason.startswith("1 message could not be read: '21.5' of `plant/tank/other`, which is no object")
    check_once(site, LATER[:10])
    assert follow(site, broker.address) == []
    assert PASSWORD not in "".join(path.read_text() for path in (site.folder / "watch").rglob("*.json*"))


def test_messages_are_not_lost_whatever_dies(site: Site, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(site, broker.address)
    broker.publish(*messages(LATER[:4]))
    with monkeypatch.context() as patched:
        count = die_at(patched, site.results, sys.maxsize)
        follow(site, broker.address)
    for number, place in enumerate([0, count[0] // 2, count[0] - 1]):
        broker.publish(*messages(LATER[4 + 2 * number : 6 + 2 * number]))
        with monkeypatch.context() as patched:
            die_at(patched, site.results, place)
            with pytest.raises(Died):
                follow(site, broker.address)
        follow(site, broker.address)
        check_once(site, LATER[: 6 + 2 * number])


LISTENING = """
import os, pathlib, sys
from bayestwin.project.model import load_model
from bayestwin.project.streams import TopicSource
keep = TopicSource._keep

def killed(self, topic, payload):
    if sys.argv[4] == "before":
        os._exit(9)
    keep(self, topic, payload)
    os._exit(9)

TopicSource._keep = killed
source = TopicSource(sys.argv[3], load_model(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
list(source.arrivals({}, float))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_it_acknowledged_a_message_comes_again_and_counts_once(
    site: Site, broker: Broker, when: str
) -> None:
    follow(site, broker.address)
    broker.publish(*messages(LATER[:4]))
    folder = site.folder / "watch" / "messages"
    arguments = [sys.executable, "-c", LISTENING, str(site.model), str(folder), broker.address, when]
    assert subprocess.run(arguments, timeout=300, check=False, env=os.environ).returncode == 9
    follow(site, broker.address)
    check_once(site, LATER[:4])


def test_a_line_that_a_dead_process_did_not_finish_is_cut_off(site: Site, broker: Broker) -> None:
    follow(site, broker.address)
    folder = site.folder / "watch" / "messages"
    (torn,) = messages(LATER[:1])
    line = json.dumps({"topic": "plant/tank/level", "payload": torn})
    (folder / "000007.jsonl").write_text(f"{line}\n{line[:20]}", encoding="utf-8")
    assert [one.name for one in follow(site, broker.address)] == ["rows-000007.nc"]
    check_once(site, LATER[:1])


def test_a_broker_that_is_away_or_lets_nobody_in_is_said(
    site: Site, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "wrong-one")
    with pytest.raises(Unreachable, match=r"(?s)does not answer.*[Nn]ot authori[sz]ed|Bad user"):
        follow(site, broker.address)
    monkeypatch.setenv("MQTT_PASSWORD", PASSWORD)
    model = load_model(site.model)
    elsewhere = TopicSource(broker.address.replace(str(broker.port), "1"), model, site.folder / "messages")
    with pytest.raises(Unreachable, match="does not answer"):
        list(elsewhere.arrivals({}, float))
    for address in ("mqtt://127.0.0.1", "mqtt:///plant", f"mqtt://ann:{PASSWORD}@host/plant"):
        with pytest.raises(InvalidInput) as raised:
            TopicSource(address, model, site.folder)
        assert PASSWORD not in str(raised.value)


def test_values_of_one_time_become_one_row_as_far_as_they_have_different_columns() -> None:
    told = [{"t": 1, "a": 2.0}, {"t": 1, "b": 3.0}, {"t": 1, "a": 4.0}, {"t": 2, "a": 5.0}, {"t": 1, "a": 2.0}]
    lines = [json.dumps({"topic": "x", "payload": json.dumps(one)}) for one in told]
    lines.append(json.dumps({"topic": "x", "payload": '{"a": 1}'}))
    table, unread = _rows_in("\n".join(lines).encode(), "t")
    assert table["t"].tolist() == [1, 1, 2]
    np.testing.assert_array_equal(table["a"], [2.0, 4.0, 5.0])
    np.testing.assert_array_equal(table["b"], [3.0, np.nan, np.nan])
    assert len(unread) == 1


@pytest.mark.skipif(importlib.util.find_spec("paho") is not None, reason="paho-mqtt is there")
def test_without_paho_it_says_what_to_install(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidSetting, match=r"pip install .bayestwin\[mqtt\]"):
        TopicSource("mqtt://host/plant", load_model(write_model(tmp_path / "tank")), tmp_path)
