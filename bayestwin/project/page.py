"""One page about a batch: what became of each task, with links to the reports of the runs."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from bayestwin._base.wording import fixed, percent
from bayestwin.errors import CorruptArtifact
from bayestwin.project.batch import Outcome
from bayestwin.project.figures import coverage_words
from bayestwin.project.record import read_record
from bayestwin.project.run import REPORT
from bayestwin.project.tasks import Refused
from bayestwin.report.page import fill
from bayestwin.results.store import write_text_durably


def write_page(path: pathlib.Path, outcomes: Sequence[Outcome], refused: Sequence[Refused], words: str) -> pathlib.Path:
    """Write the page.

    Args:
        path: The file; links are counted from its folder.
        outcomes: What became of the tasks.
        refused: What could not be one.
        words: What became of all, in one phrase.
    """
    rows = [_row(outcome, path.parent) for outcome in outcomes]
    rows += [
        {"name": one.name, "status": "bad input", "why": one.words, "attempts": fixed(0, 0), "seconds": "–"}
        | dict.fromkeys(("coverage", "gates", "run", "link"), "")
        for one in refused
    ]
    page = fill("batch.html", {"tasks": rows, "words": words, "prob": percent(0.9)})
    return write_text_durably(path, page)


def _row(outcome: Outcome, folder: pathlib.Path) -> dict[str, Any]:
    run = pathlib.Path(outcome.run) if outcome.run else None
    record = _record(run)
    gates = record.get("gates") or ()
    report = run / REPORT if run is not None else None
    return {
        "name": outcome.task.name,
        "status": outcome.status,
        "why": outcome.words,
        "attempts": fixed(outcome.attempts, 0),
        "seconds": fixed(outcome.seconds, 0) if outcome.attempts else "–",
        "coverage": coverage_words((record.get("summary") or {}).get("coverage") or {}),
        "gates": ", ".join(gate["name"] for gate in gates if not gate["passed"] and gate["severity"] == "fail"),
        "run": "" if run is None else run.name,
        "link": os.path.relpath(report, folder) if report is not None and report.is_file() else "",
    }


def _record(run: pathlib.Path | None) -> dict[str, Any]:
    try:
        return {} if run is None else read_record(run)
    except (CorruptArtifact, json.JSONDecodeError):
        return {}
