"""What is printed of a validation: the verdict, its reasons, and coverage of both kinds of forecasts."""

import rich.console
import rich.markup

from bayestwin.assess.validated import Validated
from bayestwin.cli.results import coverage_table
from bayestwin.cli.text import show_files, show_judged, show_line
from bayestwin.project.carrying import Carried


def show_validation(console: rich.console.Console, found: Carried[Validated]) -> None:
    """The verdict first, then what it rests on."""
    verdict = found.found.trust
    show_judged(console, found.found.run, found.found.job)
    colour = {"pass": "green", "warn": "yellow", "fail": "red"}[verdict.status]
    console.print(f"[{colour}]{rich.markup.escape(verdict.headline)}[/{colour}]", soft_wrap=not console.is_terminal)
    for words, mark, sentences in (
        ("What holds:", "[green]+[/green]", verdict.holds),
        ("Where intervals cannot be trusted, and what speaks against them:", "[yellow]![/yellow]", verdict.limits),
        ("What this rests on:", "", verdict.basis),
        ("What was not checked:", "[dim]?[/dim]", verdict.unchecked),
    ):
        if sentences:
            console.print(words)
            for sentence in sentences:
                show_line(console, mark, sentence)
    for part, evidence in found.found.evidence.items():
        console.print(f"Coverage, {part} (* outside what chance allows):")
        console.print(coverage_table(evidence.whole))
    show_files(console, found.run)
