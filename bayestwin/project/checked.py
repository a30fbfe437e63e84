"""What `bayestwin check` has left about telemetry: its newest run on the same data, and the findings in it."""

import json
import pathlib
from collections.abc import Mapping

from bayestwin.errors import InvalidArtifact
from bayestwin.project.record import RECORD, read_record
from bayestwin.project.run import ENDED
from bayestwin.report.findings import Checked

FINDINGS = "findings.json"
LARGEST = 20_000_000
"""Bytes of a file of findings that are read at most."""


def checked_telemetry(folder: pathlib.Path, telemetry_sha256: str) -> Checked | None:
    """The findings of the newest run of `check` on some telemetry; None where there is none.

    Args:
        folder: Where the runs of the model lie, `results/<model>`.
        telemetry_sha256: Of the telemetry that was calibrated.
    """
    for path in sorted(folder.glob(f"*/{RECORD}"), reverse=True):
        try:
            record = read_record(path.parent)
        except InvalidArtifact:
            continue
        told = record.get("telemetry_sha256")
        same = isinstance(told, Mapping) and told.get("calibration") == telemetry_sha256
        if record.get("command") == "check" and record.get("status") in ENDED and same:
            return _read(path.parent)
    return None


def _read(run: pathlib.Path) -> Checked:
    path = run / FINDINGS
    try:
        if path.stat().st_size > LARGEST:
            return Checked(run.name, trouble=f"`{FINDINGS}` is larger than any that `check` writes.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as reason:
        return Checked(run.name, trouble=f"`{FINDINGS}`: {reason}")
    items = told.get("findings") if isinstance(told, Mapping) else told
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return Checked(run.name, trouble=f"`{FINDINGS}` does not hold a list of findings.")
    return Checked(run.name, items)
