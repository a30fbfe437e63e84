"""`sensitivity`: what predictions and posterior hang on."""

import pathlib
import time
from typing import Annotated, Literal

import typer

from bayestwin.cli.frame import (
    AsJson,
    Device,
    JobName,
    ModelPath,
    ResultsPath,
    explained,
    print_json,
    stop_unless_finished,
)


def sensitivity(
    model: ModelPath,
    job: JobName = "job.toml",
    run: Annotated[
        str | None, typer.Option(help="Name of the run whose posterior is looked at; by default the newest, if any.")
    ] = None,
    prior_only: Annotated[bool, typer.Option("--prior-only", help="Look at no posterior.")] = False,
    distribution: Annotated[
        Literal["prior", "posterior"] | None,
        typer.Option(help="What quantities are drawn from, instead of the job's: prior or posterior."),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Show which quantities decide predictions, whether prior or data decide parameters, and which observations do.

    Example: bayestwin sensitivity models/lynx_hare
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_sensitivity
        from bayestwin.project.model import changed, load_model
        from bayestwin.project.sensitivity import run_sensitivity

        chosen = changed(load_model(model, job), sensitivity={"distribution": distribution})
        carried, earlier = run_sensitivity(
            chosen, results, run=run, prior_only=prior_only, device=device, progress=Progress(began=began)
        )
        if as_json:
            print_json({"folder": carried.run} | carried.record)
        else:
            show_sensitivity(console, carried, None if earlier is None else earlier.run)
        if carried.status == "interrupted":
            raise typer.Exit(130)
        if earlier is not None:
            stop_unless_finished(earlier.run, earlier.status)
