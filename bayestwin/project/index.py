"""An index of all runs in SQLite, beside the plain files, which are the truth: whatever is stale is read anew."""

import contextlib
import json
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from bayestwin.errors import CorruptArtifact, InvalidInput, StorageFailure, explain
from bayestwin.project.record import RECORD, read_record

INDEX = ".index.sqlite"

PATIENCE = 10.0
"""Seconds for which a locked index is asked again."""

TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, run TEXT, model TEXT, command TEXT, status TEXT, began TEXT, ended TEXT,
    seed INTEGER, twin_sha256 TEXT, telemetry_sha256 TEXT, code_sha256 TEXT, coverage TEXT
)
"""

HASHES = ("twin_sha256", "telemetry_sha256", "code_sha256")

COLUMNS = ("run", "model", "command", "status", "began", "ended", "seed", *HASHES)


class Entry(NamedTuple):
    """One run, as the index knows it; None where its record does not say.

    Attributes:
        path: Its folder.
        run: Its id.
        model: The model that it is about.
        command: What was asked for.
        status: What became of it: `running`, `finished`, `failed gates`, `failed`, `interrupted` or `damaged`.
        began: When, in UTC.
        ended: Likewise.
        seed: That of the calibration.
        twin_sha256: Hash of the twin.
        telemetry_sha256: Hash of the telemetry that was calibrated.
        code_sha256: Hash of the code.
        coverage: Coverage by observation and `prob`; empty where it is not known.
    """

    path: pathlib.Path
    run: str
    model: str | None
    command: str | None
    status: str
    began: str | None
    ended: str | None
    seed: int | None
    twin_sha256: str | None
    telemetry_sha256: str | None
    code_sha256: str | None
    coverage: dict[str, dict[str, float]]


def read_index(results: pathlib.Path) -> tuple[Entry, ...]:
    """All runs, oldest first; the index is brought up to date with their records first, or made anew.

    Args:
        results: Where runs are filed.

    Raises:
        InvalidInput: If there is no such folder.
        StorageFailure: If the index stays locked, or cannot be written.
    """
    if not results.is_dir():
        message = explain(
            f"There is no folder `{results}`.",
            expected="the folder in which runs are filed",
            received="a file" if results.exists() else "nothing under that path",
            advice="Make a run by `bayestwin calibrate MODEL`, or name the folder by `--results`.",
        )
        raise InvalidInput(message)
    with _open(results / INDEX) as index:
        _refresh(index, results)
        rows = index.execute(f"SELECT path, coverage, {', '.join(COLUMNS)} FROM runs ORDER BY run, path").fetchall()
    return tuple(
        Entry(path=results / path, coverage=json.loads(coverage), **dict(zip(COLUMNS, rest, strict=True)))
        for path, coverage, *rest in rows
    )


def find_any_run(results: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a run, from a path to it or from its id or the beginning of that.

    Raises:
        InvalidInput: If there is none, or several.
    """
    path = pathlib.Path(name)
    if (path / RECORD).is_file():
        return path
    known = read_index(results) if results.is_dir() else ()
    fitting = [entry for entry in known if entry.run.startswith(name) or name == f"{entry.model}/{entry.run}"]
    exact = [entry for entry in fitting if entry.run == name]
    if len(found := exact or fitting) == 1:
        return found[0].path
    message = explain(
        f"There is no run `{name}`." if not found else f"`{name}` may be any of {len(found)} runs.",
        expected=f"the id of a run in `{results}`, or the beginning of it, or the path of its folder",
        received=", ".join(f"`{entry.run}`" for entry in (found or known)[-5:]) or "no runs there",
        advice="`bayestwin runs` lists them.",
    )
    raise InvalidInput(message)


def rebuild(results: pathlib.Path) -> tuple[Entry, ...]:
    """Throw the index away and make it from the files."""
    for path in results.glob(f"{INDEX}*"):
        path.unlink()
    return read_index(results)


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The index; one that is no database is made anew, since nothing is lost with it."""
    try:
        with contextlib.closing(_connect(path)) as index, index:
            yield index
    except sqlite3.OperationalError as reason:
        message = explain(
            f"The index of runs `{path}` cannot be used.",
            expected=f"a local file that is free within {PATIENCE:g} s and can be written",
            received=str(reason),
            advice="End what holds it; or delete it: it is made anew from the runs.",
        )
        raise StorageFailure(message) from reason


def _connect(path: pathlib.Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, timeout=PATIENCE)
    try:
        index.execute(TABLE)
        index.execute("SELECT path, stamp, coverage FROM runs LIMIT 1")
    except sqlite3.OperationalError as reason:
        index.close()
        if "no such column" not in str(reason):
            raise
    except sqlite3.DatabaseError:
        index.close()
    else:
        return index
    path.unlink()
    index = sqlite3.connect(path, timeout=PATIENCE)
    index.execute(TABLE)
    return index


def _refresh(index: sqlite3.Connection, results: pathlib.Path) -> None:
    """Read what has changed since, and forget what is gone."""
    there = {path.parent.relative_to(results).as_posix(): _stamp(path) for path in results.glob(f"*/*/{RECORD}")}
    known = dict(index.execute("SELECT path, stamp FROM runs"))
    for path in known.keys() - there.keys():
        index.execute("DELETE FROM runs WHERE path = ?", (path,))
    for path, stamp in there.items():
        if known.get(path) != stamp:
            values = (path, stamp, *_row(results / path))
            marks = ", ".join("?" * len(values))
            index.execute(f"REPLACE INTO runs (path, stamp, {', '.join(COLUMNS)}, coverage) VALUES ({marks})", values)


def _stamp(path: pathlib.Path) -> str:
    """What changes when a record does; a file that is replaced is another inode."""
    found = path.stat()
    return f"{found.st_mtime_ns} {found.st_size} {found.st_ino}"


def _row(run: pathlib.Path) -> tuple[Any, ...]:
    record: dict[str, Any]
    try:
        record = read_record(run)
    except CorruptArtifact:
        record = {"status": "damaged"}
    flat = record | {
        "run": run.name,
        "seed": (record.get("job") or {}).get("calibrate", {}).get("seed"),
        "telemetry_sha256": (record.get("telemetry_sha256") or {}).get("calibration"),
    }
    coverage = (record.get("summary") or {}).get("coverage") or {}
    return (*(flat.get(name) for name in COLUMNS), json.dumps(coverage))
