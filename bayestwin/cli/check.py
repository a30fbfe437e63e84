"""`check`: what is said of a model's telemetry and priors before anything is sampled."""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, JobName, ModelPath, ResultsPath, exit_by, explained, print_json


def check(
    model: ModelPath,
    job: JobName = "job.toml",
    held_out: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--held-out", help="File of telemetry that is held out, instead of what the job's split holds out."
        ),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Look at a model's telemetry and priors before anything is sampled.

    Example: bayestwin check models/room
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display import show_checked
        from bayestwin.project.check import check_model
        from bayestwin.project.model import load_model

        found = check_model(load_model(model, job), results, held_out, progress=Progress(began=began))
        if as_json:
            print_json([finding._asdict() for finding in found.found.findings])
        else:
            show_checked(console, found)
        exit_by(found.status)
