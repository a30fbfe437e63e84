"""Is everything in order: the environment, and the files of all runs against their records."""

import hashlib
import importlib.metadata
import pathlib
import sqlite3
import sys

from packaging.requirements import Requirement

from bayestwin._base.cache import cache_folder, make_private
from bayestwin._base.process import require_float64
from bayestwin.check import Finding
from bayestwin.errors import BayestwinError, CorruptArtifact
from bayestwin.project.index import INDEX, read_index, rebuild
from bayestwin.project.lock import is_locked
from bayestwin.project.record import RECORD, files_of, read_record
from bayestwin.results.store import check_writable, sweep_orphans


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
    found = [
        Finding("run_files", "note", name, f"Removed {path.name}, which a dead process left.", {})
        for path in sweep_orphans(run)
    ]
    if not (run / RECORD).is_file():
        if files := files_of(run):
            words = f"Results ({_listed(files[:3])}) without `{RECORD}`: what they were made of is not known."
            found.append(Finding("run_files", "warn", name, words, {"files": files}))
        return found
    try:
        record = read_record(run)
    except CorruptArtifact as reason:
        return [*found, Finding("run_files", "fail", name, str(reason).splitlines()[0], {})]
    if record.get("status") == "running":
        advice = f" Go on by `bayestwin resume {run}`." if record.get("command") == "calibrate" else ""
        return [*found, Finding("run_files", "warn", name, f"The process that wrote this run has died.{advice}", {})]
    return found + _files(run, name, record.get("outputs") or {})


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
    found = [
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
        found.append(Finding("environment", "fail", "packages", words, {"packages": old}))
    else:
        found.append(Finding("environment", "note", "packages", "All packages have the versions that are needed.", {}))
    try:
        require_float64()
    except BayestwinError as reason:
        found.append(Finding("environment", "fail", "float64", str(reason).splitlines()[0], {}))
    return found


def _met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return True  # an extra, or another system's
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _storage(results: pathlib.Path) -> list[Finding]:
    found = []
    try:
        make_private(cache_folder())
    except BayestwinError as reason:
        found.append(Finding("environment", "warn", "cache", str(reason).splitlines()[0], {}))
    if not results.is_dir():
        return [*found, Finding("results", "note", "results", f"There is no folder `{results}` yet.", {})]
    try:
        check_writable(results)
        before = _indexed(results)
        kept, anew = read_index(results), rebuild(results)
    except BayestwinError as reason:
        return [*found, Finding("results", "fail", "results", str(reason).splitlines()[0], {})]
    if before is None or kept != anew:
        found.append(
            Finding("results", "note", "index", f"The index of {len(anew)} runs was made anew.", {"runs": len(anew)})
        )
    return found


def _indexed(results: pathlib.Path) -> int | None:
    """How many runs the index holds; None where there is none that can be read."""
    if not (results / INDEX).is_file():
        return None
    try:
        index = sqlite3.connect(results / INDEX)
        return int(index.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return None
    finally:
        index.close()
