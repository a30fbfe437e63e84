"""Real servers for tests, each in a folder of its own and on a free port: PostgreSQL, and an MQTT broker."""

import contextlib
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

PASSWORD = "hunter2-of-the-database"

USUAL = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/sbin")
"""Folders beside those of `PATH` in which servers lie."""


class Database(NamedTuple):
    """A PostgreSQL server that runs; `PGPASSWORD` lets one in."""

    port: int
    data: pathlib.Path
    programs: pathlib.Path
    owner: str | None

    @property
    def address(self) -> str:
        return f"postgresql://bayestwin@127.0.0.1:{self.port}/plant"

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.address, password=PASSWORD, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def copy(self, table: str, rows: Any) -> None:
        import psycopg

        with (
            psycopg.connect(self.address, password=PASSWORD) as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-w", "-D", self.data, "-l", self.data / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-D", self.data, "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            user=self.owner, check=True, stdout=subprocess.DEVNULL, cwd=self.data,
        )  # fmt: skip


def found(program: str) -> pathlib.Path:
    """A program of a server; without it the test is skipped."""
    if there := shutil.which(program):
        return pathlib.Path(there).resolve()
    usual = [path for pattern in USUAL for path in sorted(pathlib.Path("/").glob(f"{pattern[1:]}/{program}"))]
    if not usual:
        pytest.skip(f"there is no `{program}` on this machine")
    return usual[-1]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is an optional extra")


@contextlib.contextmanager
def running_postgres() -> Iterator[Database]:
    """A server with an empty database `plant`; it never runs as root, which it refuses."""
    needs("psycopg")
    initdb = found("initdb")
    owner = None
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("a server does not run as root, and there is no user `postgres`")
    with tempfile.TemporaryDirectory(prefix="bayestwin-postgres-") as root:
        folder = pathlib.Path(root)
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        (folder / "data").mkdir(mode=0o700)
        if owner is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, owner)
        server = Database(free_port(), folder / "data", initdb.parent, owner)
        told = ["-A", "scram-sha-256", "-U", "bayestwin", "-E", "UTF8", "--no-locale", "--no-sync"]
        server._run("initdb", "-D", server.data, *told, f"--pwfile={folder / 'password'}")
        server.start()
        try:
            import psycopg

            every = server.address.replace("/plant", "/postgres")
            with psycopg.connect(every, password=PASSWORD, autocommit=True) as connection:
                connection.execute("CREATE DATABASE plant")
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
                server.stop()


class Broker(NamedTuple):
    """An MQTT broker that runs, and keeps what it has for those that are away."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"mqtt://ann@127.0.0.1:{self.port}/plant/tank/#"

    def publish(self, *payloads: str, topic: str = "plant/tank/level") -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("ann", PASSWORD)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for payload in payloads:
            client.publish(topic, payload, qos=1).wait_for_publish(20.0)
        client.disconnect()
        client.loop_stop()


@contextlib.contextmanager
def running_broker(root: pathlib.Path) -> Iterator[Broker]:
    """A broker that asks `ann` for a password."""
    needs("paho")
    program, port = found("mosquitto"), free_port()
    words = f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {root}/users\nmax_queued_messages 0\n"
    words += "user root\n" if os.geteuid() == 0 else ""  # else it becomes another user, who cannot read these files
    (root / "broker.conf").write_text(words, encoding="utf-8")
    (root / "users").write_text(f"ann:{PASSWORD}\n", encoding="utf-8")
    subprocess.run([found("mosquitto_passwd"), "-U", root / "users"], check=True)
    with subprocess.Popen([program, "-c", root / "broker.conf"], stderr=subprocess.DEVNULL) as process:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.02)
        try:
            yield Broker(port, process)
        finally:
            process.send_signal(signal.SIGTERM)
