"""`validate`: how far the intervals of a calibrated twin can be trusted."""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, JobName, ModelPath, ResultsPath, exit_by, explained, show_run
from bayestwin.inference.method import names_with_draws


def validate(
    model: ModelPath,
    job: JobName = "job.toml",
    run: Annotated[
        str | None, typer.Option(help="Name of the calibrated run; by default the newest that held something out.")
    ] = None,
    origins: Annotated[
        int | None, typer.Option(help="Number of origins of the backtest, instead of the job's.")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="How far ahead the backtest looks, in the twin's unit of time.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How the backtest calibrates, instead of the job's.",
            metavar=f"[{'|'.join(names_with_draws())}]",
        ),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Column that tells regimes apart, instead of the job's; may be repeated.")
    ] = None,
    no_backtest: Annotated[
        bool, typer.Option("--no-backtest", help="Judge what was held out alone, in seconds.")
    ] = False,
    held_out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="CSV file to judge by instead of what the run held out: what follows its telemetry, or another "
            "recording, on whatever clock."
        ),
    ] = None,
    initial: Annotated[
        list[str] | None,
        typer.Option(help="A state and its value, name=value, at the first time of that file; may be repeated."),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Say how far the intervals of a calibrated twin can be trusted, and write a page about it.

    Example: bayestwin validate models/room
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display import show_validation
        from bayestwin.project.model import changed, load_model
        from bayestwin.project.run import start_of
        from bayestwin.project.validate import validate_model

        settings = {"origins": origins, "horizon": horizon, "method": method, "by": by or None}
        chosen = changed(load_model(model, job), validation=settings)
        found = validate_model(
            chosen,
            results,
            run,
            with_backtest=not no_backtest,
            held_out=held_out,
            initial=start_of(initial),
            progress=Progress(began=began),
        )
        show_run(console, found, show_validation, as_json)
        exit_by(found.status)
