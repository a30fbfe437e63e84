"""One log for several hosts: a table of PostgreSQL that takes each event once, and a whole log on every host.

`BAYESTWIN_REGISTRY` has the address. An event is claimed there before it is written here, by its number: of two hosts
one gets it, and the other is told. Every host has all lines in files of its own, which it verifies, and which are all
that reading needs.
"""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from bayestwin.errors import CorruptArtifact, RunLocked, StorageFailure
from bayestwin.registry import log as own
from bayestwin.registry.log import Head, RegistryEvent, RegistryLog, line_of, read_log, take_over

REGISTRY = "BAYESTWIN_REGISTRY"
"""Variable of the environment with the address of the database; without it a log is that of this host alone."""

TABLE = """
CREATE TABLE IF NOT EXISTS bayestwin_registry (
    model text NOT NULL, seq bigint NOT NULL, sha256 text NOT NULL, line text NOT NULL, PRIMARY KEY (model, seq)
)
"""


def current_log(folder: pathlib.Path) -> RegistryLog:
    """The log of a model, with what other hosts have added to it since.

    Args:
        folder: Where the runs of the model are filed.

    Raises:
        CorruptArtifact: The log is not whole, or the shared one goes on otherwise.
        InvalidInput: The address holds a password, or is none.
        InvalidSetting: psycopg is not installed.
        RunLocked: Someone holds the lock.
        Unreachable: The database does not answer.
    """
    if (address := os.environ.get(REGISTRY)) is None:
        return read_log(folder)
    here = read_log(folder)
    lines = _exchanged(address, folder.name, here)
    return take_over(folder, lines) if lines else here


def append(folder: pathlib.Path, expected: Head | None, **told: Any) -> RegistryEvent:
    """Add an event to the log of a model, as `log.append` does, and on no host beside another one.

    Raises:
        RunLocked: Someone else added an event since, here or on another host.
        Unreachable: The database does not answer. The log is then as it was.
    """
    if (address := os.environ.get(REGISTRY)) is None:
        return own.append(folder, expected, **told)
    current_log(folder)
    try:
        return own.append(folder, expected, claim=functools.partial(_claim, address, folder.name), **told)
    except StorageFailure as reason:
        reason.add_note("If the database has taken the event, it holds, and is written here by the next command.")
        raise


def _exchanged(address: str, model: str, here: RegistryLog) -> list[bytes]:
    """Lines that are in the table and not here; those that are here and not in the table are added to it."""
    with _opened(address) as connection:
        known = "SELECT seq, sha256, line FROM bayestwin_registry WHERE model = %s ORDER BY seq"
        found = connection.execute(known, [model]).fetchall()
        for event, (seq, sha256, _) in zip(here.events, found, strict=False):
            if (event.seq, event.sha256) != (seq, sha256):
                raise CorruptArtifact(
                    f"The log of `{model}` here and the one that hosts share are not the same.",
                    expected=f"event {seq} with the sha256 {sha256[:12]}, as the shared one has it",
                    received=f"event {event.seq} with the sha256 {event.sha256[:12]}",
                    advice=f"Something was promoted without `{REGISTRY}`. Look at `registry.jsonl` on both hosts, move "
                    "the wrong one away with its pointer, and promote again what is missing.",
                )
        for event in here.events[len(found) :]:
            _insert(connection, model, event, line_of(event))
    return [line.encode() for _, _, line in found[len(here.events) :]]


def _claim(address: str, model: str, event: RegistryEvent, line: bytes) -> None:
    """Have an event in the table, which takes none of that number again: once this returns, it is there for all."""
    with _opened(address) as connection:
        _insert(connection, model, event, line)


@contextlib.contextmanager
def _opened(address: str) -> Iterator[Any]:
    """A connection to a database that has the table.

    Raises:
        StorageFailure: If the database does not let this user do what is asked.
    """
    from bayestwin._base.postgres import connected, in_a_line, shown  # pandas comes with it, which a log does not need

    with connected(address, read_only=False) as connection:
        import psycopg  # pyright: ignore[reportMissingImports]

        try:
            if connection.execute("SELECT to_regclass('bayestwin_registry')").fetchone() == (None,):
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('bayestwin_registry'))")
                connection.execute(TABLE)
            yield connection
        except psycopg.OperationalError:
            raise
        except psycopg.Error as reason:
            raise StorageFailure(
                f"The log that hosts share in `{shown(address)}` cannot be read or written.",
                expected="a user who may create the table `bayestwin_registry`, and read it and add to it",
                received=in_a_line(reason),
                advice="Nothing was changed. Ask whoever keeps the database.",
            ) from reason


def _insert(connection: Any, model: str, event: RegistryEvent, line: bytes) -> None:
    """Add an event to the table.

    Raises:
        RunLocked: If it has another one of that number.
    """
    import psycopg  # pyright: ignore[reportMissingImports]

    values = [model, event.seq, event.sha256, line.decode()]
    try:
        connection.execute("INSERT INTO bayestwin_registry VALUES (%s, %s, %s, %s)", values)
    except psycopg.errors.UniqueViolation as reason:
        raise RunLocked(
            f"`{model}` was changed on another host meanwhile.",
            expected=f"event {event.seq} to be the next one",
            received=f"an event {event.seq} of another host",
            advice=f"Nothing was done. Look at `bayestwin history {model}`, and decide again.",
        ) from reason
