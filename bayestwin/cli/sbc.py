"""`sbc`: is calibration itself right for a model?"""

import pathlib
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, Device, JobName, ModelPath, ResultsPath, exit_by, explained, show_run


def sbc(
    model: ModelPath,
    job: JobName = "job.toml",
    num_simulations: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Check on simulated telemetry that calibration of a twin is right: simulation-based calibration.

    Example: bayestwin sbc models/lynx_hare --num-simulations 100
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_ranks
        from bayestwin.project.model import changed, load_model
        from bayestwin.project.sbc import check_calibration

        chosen = changed(load_model(model, job), sbc={"num_simulations": num_simulations, "seed": seed})
        found = check_calibration(chosen, results, device=device, progress=Progress(began=began))
        show_run(console, found, show_ranks, as_json)
        exit_by(found.status)
