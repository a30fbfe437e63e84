"""An index of all runs in SQLite, beside the plain files, which are the truth: whatever is stale is read anew.

Also `doctor`: whether the environment and the files of all runs are in order.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from bayestwin._base.process import cache_folder, make_private, require_float64
from bayestwin.check import Finding
from bayestwin.errors import BayestwinError, CorruptArtifact, InvalidInput, StorageFailure
from bayestwin.project.record import RECORD, files_of, is_locked, read_record
from bayestwin.results.store import check_writable, sweep_orphans

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
        status: What became of it: `running`, `killed`, `finished`, `failed gates`, `failed`, `interrupted`, `damaged`.
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
        raise InvalidInput(
            f"There is no folder `{results}`.",
            expected="the folder in which runs are filed",
            received="a file" if results.exists() else "nothing under that path",
            advice="Make a run by `bayestwin calibrate MODEL`, or name the folder by `--results`.",
        )
    with _open(results / INDEX) as index:
        _refresh(index, results)
        rows = index.execute(f"SELECT path, coverage, {', '.join(COLUMNS)} FROM runs ORDER BY run, path").fetchall()
    entries = (
        Entry(path=results / path, coverage=json.loads(coverage), **dict(zip(COLUMNS, rest, strict=True)))
        for path, coverage, *rest in rows
    )
    return tuple(one._replace(status=status_now(one.path, one.status)) for one in entries)


def status_now(run: pathlib.Path, recorded: str) -> str:
    """What became of a run by now: one that is recorded as running, and that no process writes, was killed."""
    return "killed" if recorded == "running" and not is_locked(run) else recorded


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
    raise InvalidInput(
        f"There is no run `{name}`." if not found else f"`{name}` may be any of {len(found)} runs.",
        expected=f"the id of a run in `{results}`, or the beginning of it, or the path of its folder",
        received=", ".join(f"`{entry.run}`" for entry in (found or known)[-5:]) or "no runs there",
        advice="`bayestwin runs` lists them.",
    )


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
        raise StorageFailure(
            f"The index of runs `{path}` cannot be used.",
            expected=f"a local file that is free within {PATIENCE:g} s and can be written",
            received=str(reason),
            advice="End what holds it; or delete it: it is made anew from the runs.",
        ) from reason


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


# Is everything in order: the environment, and the files of all runs against their records.


def examine(results: pathlib.Path) -> tuple[Finding, ...]:
    """Look at the environment and at every run; temporary files of dead processes are removed, nothing else changes.

    Args:
        results: Where runs are filed; it need not be there yet.
    """
    findings = [*_environment(), *_storage(results)]
    if not results.is_dir():
        return tuple(findings)
    folders = sorted(path for path in results.glob("*/*") if path.is_dir() and not path.name.startswith("."))
    folders = [path for path in folders if not path.parent.name.startswith(".")]
    wrong = [finding for folder in folders for finding in examine_run(folder)]
    if not wrong:
        words = f"All files of {len(folders)} runs are there and as they were recorded."
        wrong = [Finding("run_files", "note", "runs", words, {"runs": len(folders)})]
    return (*findings, *wrong)


def examine_run(run: pathlib.Path) -> list[Finding]:
    """What is wrong with the files of one run; nothing where it is whole, or still being written."""
    name = f"{run.parent.name}/{run.name}"
    if is_locked(run):
        return []
    findings = [
        Finding("run_files", "note", name, f"Removed {path.name}, which a dead process left.", {})
        for path in sweep_orphans(run)
    ]
    if not (run / RECORD).is_file():
        if files := files_of(run):
            words = f"Results ({_listed(files[:3])}) without `{RECORD}`: what they were made of is not known."
            findings.append(Finding("run_files", "warn", name, words, {"files": files}))
        return findings
    try:
        record = read_record(run)
    except CorruptArtifact as reason:
        return [*findings, Finding("run_files", "fail", name, reason.summary, {})]
    if record.get("status") == "running":
        advice = f" Go on by `bayestwin resume {run}`." if record.get("command") == "calibrate" else ""
        return [*findings, Finding("run_files", "warn", name, f"The process that wrote this run has died.{advice}", {})]
    return findings + _files(run, name, record.get("outputs") or {})


def _files(run: pathlib.Path, name: str, recorded: dict[str, str]) -> list[Finding]:
    """What is missing, changed or unknown to the record."""
    there = {path: hashlib.sha256((run / path).read_bytes()).hexdigest() for path in files_of(run) if path != RECORD}
    missing = [path for path in recorded if path not in there]
    changed = [path for path, sha256 in recorded.items() if there.get(path, sha256) != sha256]
    unknown = [path for path in there if path not in recorded]
    found = [
        Finding(
            "run_files", "fail", name, f"The record names {_listed(missing)}, which is not there.", {"files": missing}
        ),
        Finding("run_files", "fail", name, f"Changed since it was recorded: {_listed(changed)}.", {"files": changed}),
        Finding("run_files", "warn", name, f"Not in the record: {_listed(unknown)}.", {"files": unknown}),
    ]
    return [finding for finding in found if finding.evidence["files"]]


def _listed(paths: list[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths)


def _environment() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    findings = [
        Finding(
            "environment",
            "note",
            "python",
            f"Python {version}, bayestwin {importlib.metadata.version('bayestwin')}.",
            {},
        )
    ]
    old = [str(one) for one in map(Requirement, importlib.metadata.requires("bayestwin") or ()) if not _met(one)]
    if old:
        words = f"Packages are missing or of another version than is needed: {', '.join(old)}."
        findings.append(Finding("environment", "fail", "packages", words, {"packages": old}))
    else:
        findings.append(
            Finding("environment", "note", "packages", "All packages have the versions that are needed.", {})
        )
    try:
        require_float64()
    except BayestwinError as reason:
        findings.append(Finding("environment", "fail", "float64", reason.summary, {}))
    return findings


def _met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return True  # an extra, or another system's
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _storage(results: pathlib.Path) -> list[Finding]:
    findings = []
    try:
        make_private(cache_folder())
    except BayestwinError as reason:
        findings.append(Finding("environment", "warn", "cache", reason.summary, {}))
    if not results.is_dir():
        return [*findings, Finding("results", "note", "results", f"There is no folder `{results}` yet.", {})]
    try:
        check_writable(results)
        before = _indexed(results)
        kept, anew = read_index(results), rebuild(results)
    except BayestwinError as reason:
        return [*findings, Finding("results", "fail", "results", reason.summary, {})]
    if before is None or kept != anew:
        findings.append(
            Finding("results", "note", "index", f"The index of {len(anew)} runs was made anew.", {"runs": len(anew)})
        )
    return findings


def _indexed(results: pathlib.Path) -> int | None:
    """How many runs the index holds; None where there is none that can be read."""
    if not (results / INDEX).is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(results / INDEX)) as index:
            return int(index.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return None
