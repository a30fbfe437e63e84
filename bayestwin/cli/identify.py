"""`identify`: what telemetry can tell, before anything is sampled."""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, Device, JobName, ModelPath, ResultsPath, exit_by, explained, show_run


def identify(
    model: ModelPath,
    job: JobName = "job.toml",
    profile: Annotated[
        list[str] | None, typer.Option(help="Follow the profile likelihood of this quantity; may be given repeatedly.")
    ] = None,
    profile_prior: Annotated[
        bool, typer.Option("--profile-prior", help="Let the prior count in profiles, as it does in the posterior.")
    ] = False,
    planned: Annotated[
        pathlib.Path | None,
        typer.Option(help="CSV file with times and inputs of telemetry to come: how much it would tell."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Calibration whose posterior is held against what is expected.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say which quantities the telemetry can tell, before anything is sampled.

    Example: bayestwin identify models/room --profile C_env
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_identified
        from bayestwin.project.identify import Asked, identify_model
        from bayestwin.project.model import load_model

        asked = Asked(tuple(profile or ()), profile_prior, planned, run)
        chosen = load_model(model, job)
        found = identify_model(chosen, results, asked, device=device, progress=Progress(began=began))
        show_run(console, found, show_identified, as_json)
        exit_by(found.status)
