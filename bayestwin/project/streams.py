"""Sources that a watch follows beside folders: a query of PostgreSQL or TimescaleDB, and a topic of an MQTT broker.

Each passes on what is new as a file of rows, with a mark of where it then stands. `watch.json` takes both in one step,
so that rows come again where something dies before it, and not where something dies after it.
"""

import contextlib
import datetime as dt
import hashlib
import importlib.util
import json
import os
import pathlib
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from bayestwin._base.files import local_path
from bayestwin._base.postgres import PATIENCE, check_address, column_of, is_database, shown, table_of
from bayestwin._base.units import convert
from bayestwin.errors import InvalidInput, InvalidSetting, InvalidTelemetry, Unreachable
from bayestwin.project.model import Model
from bayestwin.project.watch import NUMBER, WATCH, Arrival, FolderSource, SourceMark, TelemetrySource
from bayestwin.telemetry.selecting import answer_of, written

MOST = 50_000
"""Rows after which what has come is passed on, and the rest is the next arrival; rows of one time stay together."""

MESSAGES = "messages"
"""Folder in that of a watch, with the messages that were not passed on yet."""

LAST, SEEN = "last", "seen"
"""Keys of the mark of a query: the last time of what was passed on, and how often each row that is not older than
`late` before it was."""


class QuerySource:
    """The rows of a query, in the order of their times.

    Rows are known by all that they hold. Those that come, or are corrected, up to `late` before the last time are
    passed on too; rows that come later than that are not looked for.
    """

    def __init__(self, address: str, model: Model) -> None:
        """A database, and the model whose job has the query in `[watch]` and says in `[telemetry]` how it reads.

        Raises:
            InvalidInput: If the job has no query, or the address holds a password.
        """
        check_address(address)
        job = model.job
        if job.watch.query is None:
            raise InvalidInput(
                f"`{model.job_path}` does not say which rows of `{shown(address)}` are followed.",
                expected="`query` in `[watch]`: one SELECT, without an end, with the columns that `[telemetry]` reads",
                received="none",
                advice='For example `query = "SELECT time, flow FROM readings WHERE asset = %(asset)s"`, and '
                '`parameters = { asset = "pump-7" }`.',
            )
        if job.telemetry.sources:
            raise InvalidInput(
                f"`{model.job_path}` has several sources, and a watch of a query follows one.",
                expected="one `[telemetry]`, whose columns the query has",
                received=", ".join(f"`{name}`" for name in job.telemetry.sources),
                advice="Watch a folder, or let a view of the database join them.",
            )
        self._address, self._section, self._settings = address, job.telemetry, job.watch
        self._time_unit = model.twin.time_unit

    @property
    def place(self) -> str:
        """Database, query and what is bound to it."""
        bound = self._settings.model_dump(mode="json", include={"parameters"})["parameters"]
        return " ".join([shown(self._address), str(self._settings.query), *([json.dumps(bound)] if bound else [])])

    def arrivals(self, mark: SourceMark, last: Callable[[], Any]) -> Iterator[Arrival]:
        """The rows that were not passed on yet, at most one arrival of them."""
        begun = LAST in mark
        reached = _moment(mark[LAST]) if begun else _first(last())
        seen, passed = Counter(mark.get(SEEN, {})), Counter[str]()
        columns: tuple[list[str], list[int]] = ([], [])
        rows: list[tuple[Any, ...]] = []
        times: dict[str, Any] = {}
        cut = False
        for row, columns in self._rows_after(self._before(reached)):
            moment = self._time_of(row, columns[0])
            cut = len(rows) >= MOST and moment != self._time_of(rows[-1], columns[0])
            if cut:
                break
            known = _identity(row)
            passed[known] += 1
            times[known] = moment
            if passed[known] > seen[known]:
                rows.append(row)
        if not rows:
            return
        moments = [self._time_of(row, columns[0]) for row in rows]
        late = [moment for moment in moments if begun and moment <= reached]
        reached = max([*moments, *([reached] if begun else [])])
        oldest = self._before(reached)
        # where all were looked at, a row that is no more among them was taken out or corrected
        kept = seen | passed if cut else passed
        kept = {known: num for known, num in kept.items() if known not in times or times[known] > oldest}
        number = int(mark.get(NUMBER, 0)) + 1
        batch = [column_of([row[at] for row in rows], kind) for at, kind in enumerate(columns[1])]
        content = written(table_of([batch], *columns))
        yield Arrival(_name(number), content, {NUMBER: number, LAST: _plain(reached), SEEN: kept}, _said(late))

    def _time_of(self, row: tuple[Any, ...], names: list[str]) -> Any:
        found = row[names.index(self._section.time)]  # there, since the server has compared it
        if isinstance(found, dt.date):
            return found if isinstance(found, dt.datetime) else dt.datetime(found.year, found.month, found.day)
        return float(found)

    def _rows_after(self, after: Any) -> Iterator[tuple[tuple[Any, ...], tuple[list[str], list[int]]]]:
        """Rows later than a moment, in the order of their times, each with the names and types of all columns."""

        def later(query: str) -> Any:
            from psycopg import sql  # pyright: ignore[reportMissingImports]

            # what is asked for is the user's own SELECT as it stands; the name is quoted, and the moment is bound
            parts = "SELECT * FROM ({query}\n) AS followed WHERE {time} > %(bayestwin_after)s ORDER BY {time}"
            return sql.SQL(parts).format(query=sql.SQL(query), time=sql.Identifier("followed", self._section.time))

        parameters: dict[str, Any] = {**self._settings.parameters, "bayestwin_after": after}
        query, zone = str(self._settings.query), self._section.timezone
        with contextlib.closing(answer_of(self._address, query, parameters, zone, more=later)) as answer:
            for described, rows in answer:
                columns = ([one.name for one in described], [one.type_code for one in described])
                for row in rows:
                    yield row, columns

    def _before(self, moment: Any) -> Any:
        """A moment less the time in which rows may come late."""
        if isinstance(moment, dt.date):
            return moment - self._settings.late
        unit = self._section.units.get(self._section.time, self._section.units.get("time", self._time_unit))
        seconds = np.asarray(self._settings.late.total_seconds())
        return float(moment) - float(convert(seconds, "s", unit, "`late` in `[watch]`", InvalidTelemetry))


def _first(last: Any) -> Any:
    """The last time that a posterior knows, as it is bound to a query."""
    return pd.Timestamp(last).tz_localize("UTC").to_pydatetime() if isinstance(last, pd.Timestamp) else float(last)


def _plain(moment: Any) -> Any:
    """A time that a database gave, for a mark."""
    return moment.isoformat() if isinstance(moment, dt.date) else float(moment)


def _moment(text: Any) -> Any:
    return dt.datetime.fromisoformat(text) if isinstance(text, str) else text


def _identity(row: tuple[Any, ...]) -> str:
    """What tells a row from all others: all that it holds."""
    told = json.dumps([None if cell is None else _utc(cell) for cell in row])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _utc(cell: Any) -> str:
    zoned = isinstance(cell, dt.datetime) and cell.tzinfo is not None
    return str(cell.astimezone(dt.UTC) if zoned else cell)


def _said(late: list[Any]) -> str:
    if not late:
        return ""
    return f"{len(late)} row{'s' if len(late) > 1 else ''} came late, or corrected, the first of {min(late)}."


def _name(number: int) -> str:
    return f"rows-{number:06d}.nc"


# A topic of a broker: each message is on the disk here before the broker may forget it.


class TopicSource:
    """The messages of an MQTT topic: JSON objects with a time and values by column, or lists of them.

    The broker keeps them while nobody listens (a durable session, QoS 1), and sends again what was not acknowledged,
    which is done once a message is in a file here. What comes twice for that counts once, as all rows known do.
    """

    def __init__(self, address: str, model: Model, folder: pathlib.Path) -> None:
        """A topic, as in `mqtt://ann@host:1883/plant/exchanger/#`; a password is taken from `MQTT_PASSWORD`.

        Args:
            address: Of broker and topic.
            model: Whose telemetry it is.
            folder: Where messages are kept until they were passed on.

        Raises:
            InvalidInput: If the address holds a password, or names no topic.
            InvalidSetting: If paho-mqtt is not installed.
        """
        check_address(address)
        if importlib.util.find_spec("paho") is None:
            raise InvalidSetting(
                f"`{shown(address)}` is a topic of an MQTT broker, and nothing that is installed can listen to one.",
                expected="paho-mqtt, an optional extra",
                received="no `paho`",
                advice='Install it: `pip install "bayestwin[mqtt]"`.',
            )
        scheme, _, rest = address.partition("://")
        server, _, self._topic = rest.partition("/")
        parts = urllib.parse.urlsplit(f"//{server}")
        if not self._topic or not parts.hostname:
            raise InvalidInput(
                f"`{shown(address)}` names no topic of a broker.",
                expected="an address such as `mqtt://host:1883/plant/exchanger/#`",
                received="no topic" if parts.hostname else "no host",
                advice="Correct `--source`.",
            )
        self._address, self._time, self._settle = address, model.job.telemetry.time, model.job.watch.settle
        self._server = (parts.hostname, parts.port or (8883 if scheme.lower() == "mqtts" else 1883))
        self._user, self._safe = parts.username, scheme.lower() == "mqtts"
        self._folder, self._lock, self._client = folder, threading.Lock(), None
        self._number, self._num, self._heard = 0, 0, 0.0
        self._refused = ""

    @property
    def place(self) -> str:
        """Broker and topic."""
        return shown(self._address)

    def arrivals(self, mark: SourceMark, last: Callable[[], Any]) -> Iterator[Arrival]:  # noqa: ARG002 (rows are known by the posterior)
        """The messages of one file, the oldest that was not passed on."""
        passed = int(mark.get(NUMBER, 0))
        for number, path in self._files():
            if number <= passed:
                path.unlink()
        self._listen(passed)
        give_up = time.monotonic() + 10.0 * self._settle.total_seconds()
        while time.monotonic() < min(self._heard + self._settle.total_seconds(), give_up):
            time.sleep(0.02)
        with self._lock:
            if self._num:
                self._number, self._num = self._number + 1, 0
            closed = [(number, path) for number, path in self._files() if number < self._number]
        if closed:
            number, path = closed[0]
            content, said, mendable = path.read_bytes(), "", False
            table, unread = _rows_in(content, self._time)
            if unread:
                said = f"{len(unread)} message{'s' * (len(unread) > 1)} could not be read: {unread[0][:120]}."
            content = content if table.empty else written(table)
            name = _name(number) if len(table) else f"messages-{number:06d}.csv"
            yield Arrival(name, content, {NUMBER: number}, said, mendable)

    def close(self) -> None:
        """Stop listening; the broker keeps what comes from now on."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _files(self) -> list[tuple[int, pathlib.Path]]:
        """Files of messages that are there, by their numbers."""
        return sorted((int(path.stem), path) for path in self._folder.glob("*.jsonl"))

    def _listen(self, passed: int) -> None:
        """Make sure that messages come.

        Raises:
            Unreachable: If the broker does not answer, or does not let this user in.
        """
        if self._client is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for _, path in self._files():
                _cut_torn(path)
            self._number = max([passed, *(number for number, _ in self._files())]) + 1
            self._num, self._refused = 0, ""
            client = self._made()
            try:
                client.connect(*self._server, keepalive=30)
            except OSError as reason:
                raise self._away(str(reason)) from reason
            client.loop_start()
            self._client = client
        give_up = time.monotonic() + PATIENCE
        while not (self._client.is_connected() and self._heard):
            if self._refused or time.monotonic() > give_up:
                told = self._refused or "no answer"
                self.close()
                raise self._away(told)
            time.sleep(0.02)

    def _away(self, received: str) -> Unreachable:
        return Unreachable(
            f"The broker of `{shown(self._address)}` does not answer.",
            expected="one that lets this user in, with `MQTT_PASSWORD` from the environment where it asks for one, "
            "and read the topic",
            received=received,
            advice="Check host, port, user and topic.",
        )

    def _made(self) -> Any:
        """A client whose session lasts."""
        import paho.mqtt.client as mqtt  # pyright: ignore[reportMissingImports]
        from paho.mqtt.enums import CallbackAPIVersion  # pyright: ignore[reportMissingImports]

        own = hashlib.sha256(f"{shown(self._address)} {self._folder.absolute()}".encode()).hexdigest()[:12]
        client = mqtt.Client(CallbackAPIVersion.VERSION2, f"bayestwin-{own}", clean_session=False, manual_ack=True)
        if self._user:
            client.username_pw_set(urllib.parse.unquote(self._user), os.environ.get("MQTT_PASSWORD"))
        if self._safe:
            client.tls_set()

        def connected(client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            if code.is_failure:
                self._refused = str(code)
            else:
                client.subscribe(self._topic, qos=1)

        def subscribed(_client: Any, _data: Any, _mid: Any, codes: Any, _properties: Any) -> None:
            self._refused = next((str(code) for code in codes if code.is_failure), "")
            self._heard = 0.0 if self._refused else time.monotonic()

        def came(client: Any, _data: Any, message: Any) -> None:
            self._keep(message.topic, message.payload)
            client.ack(message.mid, message.qos)

        client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, came
        return client

    def _keep(self, topic: str, payload: bytes) -> None:
        """Bring a message to the disk."""
        line = json.dumps({"topic": topic, "payload": payload.decode("utf-8", "replace")}) + "\n"
        with self._lock:
            path = self._folder / f"{self._number:06d}.jsonl"
            with path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self._num += 1
            if self._num >= MOST:
                self._number, self._num = self._number + 1, 0
            self._heard = time.monotonic()


def _cut_torn(path: pathlib.Path) -> None:
    """Cut off a line that a dead process did not finish: it was not acknowledged, and comes again."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))


def _rows_in(content: bytes, time_name: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows from messages, those of one time in one row as far as they have different columns; and what has none."""
    rows: dict[Any, list[dict[str, Any]]] = {}
    unread = []
    for line in dict.fromkeys(content.decode().splitlines()):  # a message that was sent again is the same line
        message = json.loads(line)
        try:
            found = json.loads(message["payload"])
            every = found if isinstance(found, list) else [found]
            told = [{str(name): value for name, value in one.items()} for one in every]
            moments = [one[time_name] for one in told]
            hash(tuple(moments))
        except (ValueError, AttributeError, KeyError, TypeError):
            unread.append(f"{message['payload'][:60]!r} of `{message['topic']}`, which is no object with `{time_name}`")
            continue
        for moment, one in zip(moments, told, strict=True):
            there = rows.setdefault(moment, [])
            row = next((row for row in there if not (row.keys() & one.keys()) - {time_name}), None)
            if row is None:
                there.append(dict(one))
            else:
                row |= one
    return pd.DataFrame([row for own in rows.values() for row in own]), unread


# Which source an address means.


@contextlib.contextmanager
def opened_source(address: str, model: Model, results: pathlib.Path) -> Iterator[TelemetrySource]:
    """The source that a user names: a folder, a database or a topic.

    Args:
        address: Of a database (`postgresql://…`) or a topic (`mqtt://…`), else the path of a folder.
        model: The model.
        results: Where runs are filed.

    Raises:
        InvalidInput: If there is no such folder, or the job does not say what is followed.
    """
    if is_database(address):
        yield QuerySource(address, model)
    elif address.lower().startswith(("mqtt://", "mqtts://")):
        source = TopicSource(address, model, results / model.name / WATCH / MESSAGES)
        try:
            yield source
        finally:
            source.close()
    else:
        yield FolderSource(local_path(address), model.job.watch.settle.total_seconds())
