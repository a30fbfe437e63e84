"""`scenario`: what would be if something were changed, and whether it is as expected."""

from __future__ import annotations

import pathlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from bayestwin.cli.frame import AsJson, Device, JobName, ModelPath, ResultsPath, RunName, explained, print_json

if TYPE_CHECKING:
    import rich.console

    from bayestwin.project.scenario import ScenarioOutcome


def scenario(
    model: ModelPath,
    names: Annotated[
        list[str] | None, typer.Argument(help="Scenarios, by the names of their files; all by default.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="About how many posterior draws, instead of the job's.")] = None,
    job: JobName = "job.toml",
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Compare scenarios with the baseline, and say whether they are as expected; exit 1 where one is not.

    Example: bayestwin scenario models/room insulated
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.project.model import load_model
        from bayestwin.project.scenario import run_scenarios

        chosen = load_model(model, job)
        shown = Progress(began=began)
        outcome = run_scenarios(chosen, results, names or (), run=run, draws=draws, device=device, progress=shown)
        if as_json:
            print_json(outcome.record | {"files": [outcome.page, outcome.table]})
        else:
            _show(console, outcome)
        if outcome.missed:
            raise typer.Exit(1)


def _show(console: rich.console.Console, outcome: ScenarioOutcome) -> None:
    """A table for each quantity, the expectations, what flipped, and the files."""
    from bayestwin.cli.display import number, show_line, show_path, table
    from bayestwin.project.scenario import headline

    def told(value: float | None, spread: float) -> str:
        return "later" if value is None or value == float("inf") else number(value, spread)

    record, scenarios = outcome.record, outcome.record["scenarios"]
    for quantity, first in next(iter(scenarios.values()))["quantities"].items():
        unit = f" ({first['unit']})" if first["unit"] else ""
        console.print(f"{quantity}{unit}, with 90 % intervals, and the difference from the baseline:", highlight=False)
        made = table("", "median", "interval", "difference", "interval", "less")
        for name, one in scenarios.items():
            own = one["quantities"][quantity]
            wide, apart = own["upper"] - own["lower"], own["difference_upper"] - own["difference_lower"]
            ends = [told(own["median"], wide / 3.3), *(told(own[key], wide / 3.3) for key in ("lower", "upper"))]
            row = [ends[0], f"{ends[1]} – {ends[2]}"]
            if name != "baseline":
                keys = ("difference", "difference_lower", "difference_upper")
                ends = [told(own[key], apart / 3.3) for key in keys]
                row += [ends[0], f"{ends[1]} – {ends[2]}", f"{100 * own['less']:.0f} %"]
            made.add_row(name, *row, *[""] * (5 - len(row)))
        console.print(made)
    if any("best" in one for one in scenarios.values()):
        best = ", ".join(f"{name} {100 * one['best']:.0f} %" for name, one in scenarios.items())
        show_line(console, "", f"Probability of being the best: {best}.")
    console.print(headline(record), highlight=False)
    marks = {"met": "[green]met [/green]", "missed": "[red]MISS[/red]", "undecided": "[yellow]?   [/yellow]"}
    for one in record["expectations"]:
        show_line(console, marks[one["verdict"]], f"{one['scenario']}: {one['text']}: {one['words']}")
    for one in record["flipped"]:
        show_line(console, "[yellow]![/yellow]", f"{one['scenario']}: {one['text']} was {one['before']} before")
    for path in (outcome.page, outcome.table):
        show_path(console, path)
