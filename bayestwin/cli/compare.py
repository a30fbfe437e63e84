"""`compare`: which terms of a twin earn their keep."""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import (
    AsJson,
    Device,
    JobName,
    ModelPath,
    ResultsPath,
    explained,
    show_run,
    stop_unless_finished,
)


def compare(
    model: ModelPath,
    off: Annotated[
        list[str] | None,
        typer.Option(
            "--off", help="A parameter and its value, name=value, that switch a term off; by default `ablations`."
        ),
    ] = None,
    model_errors: Annotated[
        bool, typer.Option("--model-errors", help="Compare with each of the `model_errors` of `twin.py` as well.")
    ] = False,
    horizon: Annotated[
        float | None,
        typer.Option(help="Leave the future out this far ahead, in the twin's unit; else as the job says."),
    ] = None,
    origins: Annotated[int | None, typer.Option(help="How often to leave it out, instead of the job's.")] = None,
    job: JobName = "job.toml",
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate a twin with and without some of its terms, and compare how well it predicts.

    Example: bayestwin compare models/motor
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_comparison
        from bayestwin.project.compare import compare_model
        from bayestwin.project.model import changed, load_model

        chosen = changed(load_model(model, job), compare={"horizon": horizon, "origins": origins})
        found = compare_model(
            chosen,
            results,
            off=off or (),
            model_errors=model_errors,
            device=device,
            progress=Progress(began=began),
        )
        show_run(console, found, show_comparison, as_json)
        stop_unless_finished(found.run.name, found.status)
