"""What another verb has found about a twin: its run, and what a section on it shows.

`key_figures` serves where its result cannot be read.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import xarray as xr

from bayestwin.report.facts import flat_rows
from bayestwin.report.style import Picture

MOST_ROWS = 40

BOOKKEEPING = frozenset(
    {
        "run",
        "command",
        "status",
        "began",
        "ended",
        "options",
        "uses",
        "model",
        "twin",
        "twin_sha256",
        "job_file",
        "job",
        "job_sha256",
    }
    | {"telemetry_sha256", "telemetry_notices", "inputs", "code_sha256"}
    | {"versions", "environment", "host", "timings", "outputs"}
)
"""Keys of a record that say nothing about what was found."""


class Found(NamedTuple):
    """A run of another verb.

    Attributes:
        run: Its name.
        record: The content of its `run.json`.
        tree: What it found; None where its file cannot be read.
        trouble: Why not, in words; empty where it can.
        same_data: Whether it is about the telemetry that was calibrated; None where it does not depend on any.
    """

    run: str
    record: Mapping[str, Any]
    tree: xr.DataTree | None
    trouble: str = ""
    same_data: bool | None = None


class Content(NamedTuple):
    """What a section shows: sentences, facts by name, pictures."""

    words: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()


class Section(NamedTuple):
    """A section on what another verb finds.

    Attributes:
        command: The verb; its file is named after it.
        title: Heading.
        question: What the verb answers.
        build: Makes the content.
    """

    command: str
    title: str
    question: str
    build: Callable[[Found], Content]


def key_figures(found: Found) -> Content:
    """What the record of a run says beside its bookkeeping."""
    rows = flat_rows({key: value for key, value in found.record.items() if key not in BOOKKEEPING})
    more = len(rows) - MOST_ROWS
    words = (f"{more} more figures stand in its `run.json`.",) if more > 0 else ()
    return Content(words=words, rows=tuple(rows[:MOST_ROWS]))
