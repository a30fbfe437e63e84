"""The style of what commands print: one kind of table, marked lines, numbers with as many digits as they are worth."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import rich.box
import rich.console
import rich.markup
import rich.padding
import rich.table

from bayestwin.assess import Gate, failed
from bayestwin.project.inputs import results_of
from bayestwin.telemetry import said

RELY = "[red]Do not rely on this result[/red] before the failed gates are understood."

MARKS = {"fail": "[red]FAIL[/red]", "warn": "[yellow]warn[/yellow]", "note": "[dim]note[/dim]"}
"""By severity."""


def table(*columns: str) -> rich.table.Table:
    """An empty table in the one style used: text, then numbers. What is too wide is wrapped, never cut off."""
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return made


def show_path(console: rich.console.Console, path: pathlib.Path) -> None:
    """A file on a line of its own, whole, so that it can be copied."""
    console.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def show_judged(console: rich.console.Console, run: str, job: str) -> None:
    """Which run what follows is about, and by which job it was made, if not by the usual one."""
    of_job = f" of job {job}" if job not in ("", "job.toml") else ""
    console.print(f"Judged is run {run}{of_job}.", soft_wrap=True, highlight=False, markup=False)


def show_files(console: rich.console.Console, run: pathlib.Path) -> None:
    """The results of a run, a file a line."""
    for name in results_of(run):
        show_path(console, run / name)


def show_timings(console: rich.console.Console, record: Mapping[str, Any]) -> None:
    """What a run took, in all and by phase."""
    timings = record.get("timings", {})
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timings.items())
    show_line(console, "", f"{sum(timings.values()):.0f} s: {parts}")


def show_gates(console: rich.console.Console, gates: Sequence[Gate], bad: str = RELY) -> None:
    """Every gate's sentence, the failed ones marked; then `bad`, in rich's markup, where some failed."""
    for gate in gates:
        mark = "[green]pass[/green]" if gate.passed else MARKS[gate.severity]
        show_line(console, mark, gate.sentence)
    if failed(gates):
        console.print(bad)


def show_line(console: rich.console.Console, mark: str, words: str) -> None:
    """A mark and a sentence: with a hanging indent on a terminal, elsewhere as one line, for logs and `grep`."""
    words = rich.markup.escape(words)
    if not console.is_terminal:
        console.print(f"  {mark}  {words}" if mark else f"  {words}", highlight=False, soft_wrap=True)
        return
    grid = rich.table.Table.grid(padding=(0, 2))
    grid.add_row(*([mark, words] if mark else [words]))
    console.print(rich.padding.Padding(grid, (0, 0, 0, 2)), highlight=False)


def moment(value: Any) -> str:
    """A time of the user's, without digits that say nothing."""
    if isinstance(value, np.datetime64):
        return said(pd.Timestamp(value).floor("s"))
    return f"{float(value):.12g}"


def number(value: float, spread: float) -> str:
    """A number with two significant digits of its spread."""
    if not (np.isfinite(value) and np.isfinite(spread)) or spread <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(spread)))
    value = round(value, digits) + 0.0  # no negative zero
    if value and (abs(value) >= 1e5 or spread < 1e-6):
        size = int(np.floor(np.log10(abs(value))))
        return f"{value:.{max(size + digits, 1)}e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.{min(max(digits, 0), 7)}f}"
