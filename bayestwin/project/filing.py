"""One calibration as files in a folder: the posterior, and predictions of what was held out."""

import pathlib
from typing import Any

import numpy as np
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.calibrate import calibrate
from bayestwin.insight.shares import uncertainty_shares
from bayestwin.predict import predict
from bayestwin.project.model import Model, Split
from bayestwin.project.run import CHECKPOINT, POSTERIOR, PREDICTIONS, SHARES
from bayestwin.results.store import load, save

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


def share_into(
    folder: pathlib.Path,
    model: Model,
    split: Split,
    posterior: xr.DataTree,
    *,
    device: str | None,
    progress: Progress,
) -> xr.Dataset | None:
    """Say where the uncertainty of what was held out comes from, and save that, if the job asks for it.

    Args:
        folder: Where the file goes.
        model: Gives the twin and the settings.
        split: The telemetry.
        posterior: What was calibrated.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    if split.held_out is None or not model.job.report.shares:
        return None
    settings = model.job.predict.model_dump()
    found = uncertainty_shares(model.twin, posterior, split.held_out, device=device, progress=progress, **settings)
    if np.isfinite(found["share"]).any():  # a file with nothing in it could not be told from a damaged one
        tree = xr.DataTree.from_dict({"uncertainty_shares": found})
        tree.attrs = found.attrs
        with progress.timed("save"):
            save(tree, folder / SHARES)
    return found


def read_shares(folder: pathlib.Path) -> xr.Dataset | None:
    """What `share_into` left in a folder; None where it left nothing."""
    path = folder / SHARES
    return load(path)["uncertainty_shares"].to_dataset() if path.is_file() else None
