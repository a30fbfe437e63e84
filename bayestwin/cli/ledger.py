"""What is printed of runs: lists, one run, two held against each other, and one made again."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.cli.results import parameter_table
from bayestwin.cli.text import MARKS, number, show_files, show_line, show_path, table
from bayestwin.project.diff import Change, Difference
from bayestwin.project.figures import coverage_words
from bayestwin.project.index import Entry
from bayestwin.project.lock import is_locked
from bayestwin.project.reproduce import Reproduction

STATUS = {"finished": "green", "running": "cyan", "interrupted": "yellow"}
ABOUT = {
    "inputs": "Inputs",
    "twin": "Twin",
    "settings": "Settings",
    "environment": "Environment",
    "outcome": "Outcome",
    "gates": "Gates",
}


def show_runs(console: rich.console.Console, entries: Sequence[Entry], total: int) -> None:
    """One line a run."""
    if not entries:
        console.print("No such runs.", highlight=False)
        return
    made = table("run", "model", "command", "status", "seed", "90 % coverage")
    made.columns[0].no_wrap = True  # it is there to be copied
    for entry in entries:
        status = "killed" if entry.status == "running" and not is_locked(entry.path) else entry.status
        made.add_row(
            entry.run,
            entry.model or "–",
            entry.command or "–",
            f"[{STATUS.get(status, 'red')}]{status}[/]",
            "–" if entry.seed is None else str(entry.seed),
            coverage_words(entry.coverage) or "–",
        )
    console.print(made)
    if len(entries) < total:
        console.print(f"The newest {len(entries)} of {total}; `--most` shows more.", highlight=False)


def show_run(
    console: rich.console.Console, folder: pathlib.Path, record: Mapping[str, Any], posterior: xr.DataTree | None
) -> None:
    """What its record says, for people, and the posterior where there is one; `--json` prints all of the record."""
    console.print(
        f"[bold]{record.get('model')}[/bold] {record.get('command')}: {record.get('status')}", highlight=False
    )
    lines = {
        "began": record.get("began"),
        "ended": record.get("ended"),
        "error": record.get("error"),
        "twin": str(record.get("twin_sha256") or "")[:12],
        "telemetry": str((record.get("telemetry_sha256") or {}).get("calibration") or "")[:12],
        "code": str(record.get("code_sha256") or "")[:12],
        "settings": json.dumps((record.get("job") or {}).get("calibrate") or {}),
        "versions": ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()),
        "host": ", ".join(str(value) for value in (record.get("host") or {}).values()),
    }
    for name, value in lines.items():
        if value:
            show_line(console, f"{name:<9}", str(value))
    if posterior is not None:
        console.print("Posterior, with equal-tailed intervals:")
        console.print(parameter_table(posterior["posterior"].to_dataset()))
    covered = coverage_words((record.get("summary") or {}).get("coverage") or {})
    if covered:
        kind = "held-out observations" if record["summary"].get("held_out") else "the observations that were calibrated"
        console.print(f"Inside the 90 % interval, of {kind}: {covered}.", highlight=False)
    for gate in record.get("gates") or ():
        show_line(console, "[green]pass[/green]" if gate["passed"] else MARKS[gate["severity"]], str(gate["sentence"]))
    show_files(console, folder)


def show_difference(
    console: rich.console.Console, first: pathlib.Path, second: pathlib.Path, found: Difference
) -> None:
    """What differs, part by part, then how far posteriors agree."""
    console.print(f"From {first.name} to {second.name}:", highlight=False)
    for about, words in ABOUT.items():
        own = [change for change in found.changes if change.about == about]
        if not own:
            continue
        console.print(f"[bold]{words}[/bold]", highlight=False)
        for change in own:
            show_line(console, "", _changed(change))
    if not found.changes:
        console.print("  nothing differs: inputs, settings, environment and outcome are the same", highlight=False)
    if found.agreements:
        console.print("Posteriors, least overlap first (1: the same, 0: apart):", highlight=False)
        made = table("", first.name, second.name, "shift / sd", "overlap", "unit")
        for one in found.agreements:
            pairs = [f"{number(mean, spread)} ± {number(spread, spread)}" for mean, spread in (one.first, one.second)]
            made.add_row(one.name, *pairs, f"{one.shift:+.2f}", f"{one.overlap:.2f}", one.unit)
        console.print(made)
    for run, names in ((first, found.only_first), (second, found.only_second)):
        if names:
            show_line(console, "", f"only in {run.name}: {', '.join(names)}")


def show_kit(console: rich.console.Console, path: pathlib.Path) -> None:
    """The archive, and how it is used."""
    show_path(console, path)
    console.print("Unpacked anywhere, `sh rerun` in its folder makes the run again; so does", highlight=False)
    console.print(f"  bayestwin reproduce {path}", soft_wrap=True, highlight=False, markup=False)


def show_reproduction(console: rich.console.Console, found: Reproduction) -> None:
    """Whether a run came out the same, and what was different about making it."""
    for change in found.changes:
        show_line(console, "[dim]note[/dim]", _changed(change))
    for one in found.files:
        mark = "[green]same[/green]" if found.accepts(one) else "[red]DIFF[/red]"
        show_line(console, mark, one.sentence)
    host = "a host of the same kind" if found.same_host else "another kind of host"
    words = {True: "comes out the same", False: "[red]does not come out the same[/red]"}[found.holds]
    console.print(f"Run {found.run} {words}, on {host}: {count(len(found.files), 'result')} compared.", highlight=False)


def _changed(change: Change) -> str:
    first, second = ("nothing" if value is None else _short(value) for value in (change.first, change.second))
    return f"{change.name}: {first} → {second}"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 200 else f"{text[:200]}…"
