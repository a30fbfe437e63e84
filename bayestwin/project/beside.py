"""Calibrations beside the one of a run: the same telemetry under other model errors, each in a folder of its own."""

import pathlib
from collections.abc import Mapping
from typing import Any

from bayestwin._base.progress import Progress
from bayestwin.calibrate import with_model_error
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.density.discrepancies import build_discrepancies
from bayestwin.errors import InvalidInput, InvalidTwin, explain
from bayestwin.model.describe import fingerprint
from bayestwin.project.filing import Calibrated, calibrate_into, read_calibrated
from bayestwin.project.model import Model, Split
from bayestwin.project.readiness import check_ready
from bayestwin.project.record import read_record
from bayestwin.project.run import POSTERIOR

BESIDE = "beside"
"""Folder within that of the run, and what its record calls them."""


def models_beside(model: Model, split: Split, device: str | None = None) -> dict[str, Model]:
    """The model under each of its `model_errors`, by name; the one that its twin has already is left out.

    Raises:
        InvalidInput: If there is none, or one does not fit the twin.
    """
    found = {}
    for name, error in model.model_errors.items():
        try:
            other = model._replace(twin=with_model_error(model.twin, error))
            check_ready(other, split, device)
            density = build_density(other.twin, bind(other.twin, split.calibration))
            build_discrepancies(density.twin, density.bound, density.grid)
        except InvalidTwin as reason:
            message = f"Model error `{name}` of `{model.folder / 'twin.py'}`: {reason}"
            raise InvalidTwin(message) from reason
        if fingerprint(other.twin) != fingerprint(model.twin):
            found[name] = other
    if found:
        return found
    message = explain(
        f"`{model.folder / 'twin.py'}` names no model errors to compare.",
        expected="a mapping of names to model errors that the twin does not have already",
        received="only the twin's own" if model.model_errors else "no variable `model_errors`, or an empty one",
        advice='Write beneath the twin, say, `model_errors = {"none": None, "discrepancy": bt.Discrepancy(…)}`.',
    )
    raise InvalidInput(message)


def calibrate_beside(
    models: Mapping[str, Model],
    split: Split,
    run: pathlib.Path,
    job: dict[str, Any],
    *,
    device: str | None,
    progress: Progress,
) -> dict[str, Calibrated]:
    """Calibrate each model into a folder of its own, one after the other.

    Raises:
        KeyboardInterrupt: If one was interrupted; what it left can be gone on with.
    """
    found = {}
    for name, model in models.items():
        with progress.part(f"{BESIDE}/{name}") as shown:
            made = calibrate_into(run / BESIDE / name, model, split, job, device=device, progress=shown)
        if made[0].attrs["interrupted"]:
            raise KeyboardInterrupt
        found[name] = made
    return found


def read_beside(run: pathlib.Path) -> dict[str, Calibrated]:
    """What an earlier run calibrated beside its own, in the order of its record."""
    there = {path.parent.name: path.parent for path in sorted((run / BESIDE).glob(f"*/{POSTERIOR}"))}
    order = [name for name in read_record(run).get(BESIDE, {}) if name in there]
    return {name: read_calibrated(there[name]) for name in dict.fromkeys([*order, *there])}
