"""`scenario`: what would be if something were changed, and whether it is as expected."""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, Device, JobName, ModelPath, ResultsPath, RunName, explained, print_json


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
        from bayestwin.cli.display_insight import show_scenarios
        from bayestwin.project.model import load_model
        from bayestwin.project.scenario import run_scenarios

        chosen = load_model(model, job)
        shown = Progress(began=began)
        outcome = run_scenarios(chosen, results, names or (), run=run, draws=draws, device=device, progress=shown)
        if as_json:
            print_json(outcome.record | {"files": [outcome.page, outcome.table]})
        else:
            show_scenarios(console, outcome)
        if outcome.missed:
            raise typer.Exit(1)
