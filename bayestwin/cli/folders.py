"""`check` and `models`: what is said of model folders before anything is sampled."""

import pathlib
from typing import Annotated

import rich.markup
import typer

from bayestwin.cli.frame import AsJson, JobName, ModelPath, explained, print_json


def check(model: ModelPath, job: JobName = "job.toml", as_json: AsJson = False) -> None:
    """Look at a model's telemetry and priors before anything is sampled.

    Example: bayestwin check models/room
    """
    with explained() as console:
        from bayestwin.runs.model import load_model
        from bayestwin.runs.readiness import check_model
        from bayestwin.show.results import show_findings

        findings = check_model(load_model(model, job))
        if as_json:
            print_json([finding._asdict() for finding in findings])
        else:
            show_findings(console, findings)
        if any(finding.severity == "fail" for finding in findings):
            raise typer.Exit(1)


def models(
    root: Annotated[pathlib.Path, typer.Argument(help="Folder that holds model folders.")] = pathlib.Path("models"),
    as_json: AsJson = False,
) -> None:
    """List the model folders, with one line about each.

    Example: bayestwin models
    """
    with explained() as console:
        from bayestwin.runs.listing import list_models

        found = list_models(root)
        if as_json:
            print_json([{"model": folder, "about": words} for folder, words in found])
            return
        width = max((len(str(folder)) for folder, _ in found), default=0)
        for folder, words in found:
            name = rich.markup.escape(str(folder)) + " " * (width - len(str(folder)))
            console.print(f"[bold]{name}[/bold]  {rich.markup.escape(words)}", highlight=False, soft_wrap=True)
        if not found:
            console.print(
                f"No model folders in {root}: a model is a folder with a `twin.py`.", markup=False, soft_wrap=True
            )
