"""One calibration as files in a folder: the posterior, and predictions of what was held out."""

import pathlib
from typing import Any

import xarray as xr

from bayestwin.calibration import calibrate
from bayestwin.prediction import predict
from bayestwin.progress import Progress
from bayestwin.runs.folder import CHECKPOINT, POSTERIOR, PREDICTIONS
from bayestwin.runs.model import Model, Split
from bayestwin.store import load, save

type Calibrated = tuple[xr.DataTree, xr.DataTree | None]
"""A posterior, and predictions with it; None where nothing is held out."""


def calibrate_into(
    folder: pathlib.Path, model: Model, split: Split, job: dict[str, Any], *, device: str | None, progress: Progress
) -> Calibrated:
    """Calibrate a model, predict what was held out, and save both.

    Args:
        folder: Where the files go, and the checkpoint meanwhile.
        model: Gives the twin and the settings.
        split: The telemetry.
        job: Recorded with the posterior.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    posterior = calibrate(
        model.twin,
        split.calibration,
        device=device,
        progress=progress,
        job=job,
        checkpoint=folder / CHECKPOINT,
        **model.job.calibrate.model_dump(),
    )
    with progress.timed("save"):
        save(posterior, folder / POSTERIOR)
    if split.held_out is None:
        return posterior, None
    settings = model.job.predict.model_dump()
    predictions = predict(model.twin, posterior, split.held_out, device=device, progress=progress, **settings)
    with progress.timed("save"):
        save(predictions, folder / PREDICTIONS)
    return posterior, predictions


def read_calibrated(folder: pathlib.Path) -> Calibrated:
    """What `calibrate_into` left in a folder."""
    path = folder / PREDICTIONS
    return load(folder / POSTERIOR), load(path) if path.is_file() else None
