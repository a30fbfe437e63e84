"""Model folders: `twin.py`, `job.toml`, `card.md` and data, side by side.

Nothing here takes a path from a result.
"""

import difflib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pydantic

from bayestwin.errors import InvalidInput, InvalidJob, InvalidTelemetry, explain
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.project.importing import import_model
from bayestwin.project.job import read_job
from bayestwin.project.made import check_driven, continued, with_features
from bayestwin.project.sections import Job, SplitSection
from bayestwin.project.telemetry import in_place, read_file, read_sources
from bayestwin.project.wording import about_job
from bayestwin.telemetry import Telemetry


class Model(NamedTuple):
    """A model folder, read.

    Attributes:
        folder: Where it is.
        twin: What its `twin.py` defines.
        job: Its job file.
        job_path: Where that is.
        model_errors: What its `twin.py` names to compare the twin under; may be empty.
        ablations: What its `twin.py` names to switch off, and compare the twin without; may be empty.
    """

    folder: pathlib.Path
    twin: Twin
    job: Job
    job_path: pathlib.Path
    model_errors: Mapping[str, ModelError | None]
    ablations: Mapping[str, Mapping[str, float]]

    @property
    def name(self) -> str:
        """The folder's own name, also where it was typed as `.`; runs are filed under it."""
        return pathlib.Path(os.path.abspath(self.folder)).name


class Split(NamedTuple):
    """Telemetry to calibrate on, and what is held out, if anything.

    Attributes:
        calibration: What is calibrated.
        held_out: What follows it.
        first_row: What the first row of `calibration` is counted as in what was read.
    """

    calibration: Telemetry
    held_out: Telemetry | None
    first_row: int = 1


def load_model(folder: pathlib.Path, job_name: str = "job.toml") -> Model:
    """Import the twin of a model folder, and what it may be compared under, and read its job.

    Args:
        folder: The folder, as the user typed it; or a job file in it.
        job_name: Job file inside the folder.

    Raises:
        InvalidInput: If the folder or one of its files is missing or wrong.
    """
    if folder.is_file() and folder.suffix == ".toml":
        folder, job_name = folder.parent, folder.name
    if not folder.is_dir():
        message = explain(
            f"There is no model folder `{folder}`.",
            expected="a folder with `twin.py` and `job.toml`",
            received="a file" if folder.exists() else "nothing under that path",
            advice=_meant(folder),
        )
        raise InvalidInput(message)
    job_path = folder / job_name
    defined = import_model(folder / "twin.py")
    return Model(folder, defined.twin, read_job(job_path), job_path, defined.model_errors, defined.ablations)


def load_telemetry(model: Model, split: SplitSection | None = None) -> Split:
    """Read a model's telemetry and split it.

    Args:
        model: The model.
        split: What is held out; by default what the model's job says.

    Raises:
        InvalidJob: If a file that the job names is not there.
        InvalidTelemetry: If one cannot be read, several cannot be aligned, a feature cannot be made or would not be
            known where it is needed, or the split leaves nothing.
    """
    split = split or model.job.split
    telemetry = read_sources(model.job.telemetry, model.folder, model.job_path)
    with about_job(f"`[split]` of `{model.job_path}`"):
        told = {name: value for name, value in split.model_dump().items() if value is not None}
        at = {name: telemetry.moment(value, name) for name, value in told.items()}
        telemetry = telemetry.between(end=at.get("end"))
    # made of the whole record, where each value knows its past alone: so the held-out part goes on from the calibration
    telemetry = with_features(telemetry, model.job, model.job_path, split)
    num = len(telemetry.table)
    with about_job(f"`[split]` of `{model.job_path}`"):
        telemetry = telemetry.between(start=at.get("start"))
    if split.start is not None and model.job.telemetry.t0 is None:
        # else the twin would be solved from where nothing is looked at
        telemetry = telemetry.with_table(telemetry.table, t0=telemetry.table.index[0])
    found = _split_at(telemetry, at.get("hold_out_from"), model)._replace(first_row=1 + num - len(telemetry.table))
    check_driven(model.twin, found.calibration, found.held_out, model.job_path)
    return found


def _split_at(telemetry: Telemetry, moment: Any, model: Model) -> Split:
    if moment is None:
        return Split(telemetry, None)
    try:
        return Split(telemetry.between(end=moment), telemetry.between(start=moment))
    except InvalidTelemetry as reason:
        times = telemetry.table.index
        message = explain(
            f"The telemetry of `{model.folder}` cannot be split where the held-out part is to begin.",
            expected=f"a time after {telemetry.shown(times[0])} and not after {telemetry.shown(times[-1])}, so that "
            "both parts have rows",
            received=telemetry.shown(moment),
            advice="Correct `hold_out_from` in `[split]`, or `--hold-out-from`.",
        )
        raise InvalidTelemetry(message) from reason


def read_model_telemetry(
    model: Model, path: pathlib.Path, *, partly: bool = False, split: SplitSection | None = None
) -> Telemetry:
    """Read a file whose columns are those of the model's own telemetry, which features know if it lies before.

    Args:
        model: The model.
        path: The file; where the job has several sources, with their columns by their names in the twin.
        partly: Whether columns may be absent, as observations are where the future is predicted.
        split: Says which part features may have statistics of; by default as the model's job does.
    """
    with about_job(f"`[telemetry]` of `{model.job_path}`"):
        found = read_file(in_place(model.job.telemetry, path), path, partly=partly)
    if not model.job.features:
        return found
    whole = continued(read_sources(model.job.telemetry, model.folder, model.job_path), found)
    made = with_features(whole, model.job, model.job_path, split or model.job.split, partly=partly)
    return made.between(start=found.table.index[0])


def changed(model: Model, *, telemetry: pathlib.Path | None = None, **tables: Mapping[str, Any]) -> Model:
    """The model with settings of its job replaced, as options of the command line ask.

    Args:
        model: The model.
        telemetry: File instead of the job's telemetry.
        **tables: Settings by table of the job, such as `calibrate={"seed": 1}`; None leaves one as it is.

    Raises:
        InvalidJob: If a value makes no sense, naming the option.
    """
    job = model.job
    if telemetry is not None:
        job = job.model_copy(update={"telemetry": in_place(job.telemetry, telemetry.absolute())})
    for table, asked in tables.items():
        section = getattr(job, table)
        told = {name: value for name, value in asked.items() if value is not None}
        try:
            replaced = type(section).model_validate(section.model_dump() | told)
        except pydantic.ValidationError as reason:
            (error, *_) = reason.errors()
            message = explain(
                f"`--{str(error['loc'][0]).replace('_', '-')}` makes no sense.",
                expected=str(error["msg"]).removeprefix("Input should be "),
                received=f"{error['input']!r}",
                advice="Leave it out for what the job says.",
            )
            raise InvalidJob(message) from reason
        job = job.model_copy(update={table: replaced})
    return model._replace(job=job)


def _meant(folder: pathlib.Path) -> str:
    """Which model folder a mistyped one may have been."""
    if folder.is_file():
        return f"Name the folder that it is in: `{folder.parent}`."
    if re.fullmatch(r"\d{8}-\d{6}(-.*)?", folder.name):
        return f"That is the name of a run: name its model's folder, and the run by `--run {folder.name}`."
    roots = (folder.parent, pathlib.Path("models"))
    known = {path.parent.name: path.parent for root in roots for path in sorted(root.glob("*/twin.py"))}
    if close := difflib.get_close_matches(folder.name, known, n=1):
        return f"Did you mean `{known[close[0]]}`?"
    return "`bayestwin models` lists the folders in `models/`; `bayestwin models FOLDER` those elsewhere."
