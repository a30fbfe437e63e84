"""Model folders: `twin.py`, `job.toml`, `card.md` and data, side by side.

`twin.py` is the user's own code: it runs because the user typed the folder that it is in. Nothing here takes a path
from a result.
"""

import importlib.util
import pathlib
import sys
import traceback
from typing import NamedTuple

from bayestwin import datasets
from bayestwin.errors import BayestwinError, InvalidInput, InvalidTwin, explain
from bayestwin.runs.job import Job, read_job
from bayestwin.telemetry import Telemetry, read_telemetry
from bayestwin.twin import Twin


class Model(NamedTuple):
    """A model folder, read.

    Attributes:
        folder: Where it is.
        twin: What its `twin.py` defines.
        job: Its job file.
        job_path: Where that is.
    """

    folder: pathlib.Path
    twin: Twin
    job: Job
    job_path: pathlib.Path


class Split(NamedTuple):
    """Telemetry to calibrate on, and what is held out, if anything."""

    calibration: Telemetry
    held_out: Telemetry | None


def load_model(folder: pathlib.Path, job_name: str = "job.toml") -> Model:
    """Import the twin of a model folder and read its job.

    Args:
        folder: The folder, as the user typed it.
        job_name: Job file inside the folder.

    Raises:
        InvalidInput: If the folder or one of its files is missing or wrong.
    """
    if not folder.is_dir():
        message = explain(
            f"There is no model folder `{folder}`.",
            expected="a folder with `twin.py` and `job.toml`",
            received="a file" if folder.exists() else "nothing under that path",
            advice="`bayestwin models` lists the folders in `models/`.",
        )
        raise InvalidInput(message)
    job_path = folder / job_name
    return Model(folder, _import_twin(folder / "twin.py"), read_job(job_path), job_path)


def load_telemetry(model: Model) -> Split:
    """Read a model's telemetry and split it as the job says.

    Raises:
        InvalidTelemetry: If it cannot be read or the split leaves nothing.
    """
    source, split = model.job.telemetry, model.job.split
    path = model.folder / source.file if source.file is not None else datasets.find(source.dataset or "")
    telemetry = read_model_telemetry(model, path)
    if split.start is not None or split.end is not None:
        telemetry = telemetry.between(split.start, split.end)
    if split.hold_out_from is None:
        return Split(telemetry, None)
    return Split(telemetry.between(end=split.hold_out_from), telemetry.between(start=split.hold_out_from))


def read_model_telemetry(model: Model, path: pathlib.Path) -> Telemetry:
    """Read a CSV file whose columns are those of the model's own telemetry."""
    source = model.job.telemetry
    return read_telemetry(path, time=source.time, units=source.units, rename=source.rename, t0=source.t0)


def changed(model: Model, *, seed: int | None = None, hold_out_from: str | None = None) -> Model:
    """The model with parts of its job replaced, as options of the command line ask."""
    job = model.job
    if seed is not None:
        job = job.model_copy(update={"calibrate": job.calibrate.model_copy(update={"seed": seed})})
    if hold_out_from is not None:
        job = job.model_copy(update={"split": job.split.model_copy(update={"hold_out_from": hold_out_from})})
    return model._replace(job=job)


def _import_twin(path: pathlib.Path) -> Twin:
    if not path.is_file():
        message = explain(
            f"Model folder `{path.parent}` has no `twin.py`.",
            expected="a file that assigns `twin = bt.Twin(…)`",
            received=", ".join(f"`{p.name}`" for p in sorted(path.parent.iterdir())) or "an empty folder",
            advice="The README shows one.",
        )
        raise InvalidTwin(message)
    spec = importlib.util.spec_from_file_location(f"bayestwin_model_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and inspect look modules up by name
    try:
        spec.loader.exec_module(module)
    except BayestwinError:
        raise
    except Exception as reason:
        lines = [f.lineno for f in traceback.extract_tb(reason.__traceback__) if f.filename == str(path)]
        line = getattr(reason, "lineno", None) or (lines[-1] if lines else "?")
        message = explain(
            f"`{path}` does not run.",
            expected="Python that assigns `twin = bt.Twin(…)`",
            received=f"{type(reason).__name__} in line {line}: {reason}",
            advice="Correct that line.",
        )
        raise InvalidTwin(message) from reason
    twin = getattr(module, "twin", None)
    if not isinstance(twin, Twin):
        message = explain(
            f"`{path}` defines no twin.",
            expected="`twin = bt.Twin(…)` at the top level",
            received="no variable `twin`" if twin is None else f"`twin` is a {type(twin).__name__}",
            advice="Assign the twin to the variable `twin`.",
        )
        raise InvalidTwin(message)
    return twin
