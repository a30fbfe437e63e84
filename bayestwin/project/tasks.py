"""What a batch consists of: one task for each job, or for each telemetry file of a job, known by what goes into it."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from bayestwin.errors import InvalidInput, explain
from bayestwin.project.model import Model, changed, load_model, load_telemetry
from bayestwin.project.readiness import check_ready
from bayestwin.project.telemetry import files_of


class Task(NamedTuple):
    """One calibration of a batch; plain values, so that it can be sent elsewhere.

    Attributes:
        name: What people call it: the model, and the job and telemetry file where these tell it apart.
        model: Folder of the model.
        job: Name of the job file in it.
        telemetry: Telemetry file instead of the job's; empty for the job's own.
        results: Where runs are filed.
        key: Hash of twin, job and telemetry: the name of its run ends with it. The same inputs are the same task.
    """

    name: str
    model: str
    job: str
    telemetry: str
    results: str
    key: str


class Refused(NamedTuple):
    """What cannot be a task: its name, and why."""

    name: str
    words: str


def plan(
    jobs: Sequence[pathlib.Path], telemetry: Sequence[pathlib.Path], results: pathlib.Path
) -> tuple[tuple[Task, ...], tuple[Refused, ...]]:
    """The tasks of a batch, each looked at before any is begun.

    Args:
        jobs: Job files in model folders, or model folders, whose job is then `job.toml`.
        telemetry: Telemetry files, each of which every job is done with instead of its own; none for their own.
        results: Where runs are filed.

    Returns:
        What can be done, and what cannot.

    Raises:
        InvalidInput: If nothing can be done, or the same is to be done twice.
    """
    found: list[Task] = []
    refused: list[Refused] = []
    for path in jobs:
        folder, job = (path.parent, path.name) if path.suffix == ".toml" else (path, "job.toml")
        for file in telemetry or [None]:
            try:
                found.append(_task(folder, job, file, results))
            except InvalidInput as reason:
                refused.append(Refused(f"{path} with {file}" if file else str(path), str(reason)))
    keys = [task.key for task in found]
    twice = [task.name for task in found if keys.count(task.key) > 1]
    if twice or not (found or refused):
        message = explain(
            "The batch has the same task twice." if twice else "The batch has no tasks.",
            expected="job files such as `models/room/job.toml`, each pair of job and telemetry once",
            received=", ".join(f"`{name}`" for name in twice) or "none",
            advice="Name each once.",
        )
        raise InvalidInput(message)
    if not found:
        raise InvalidInput("\n".join(one.words for one in refused))
    return tuple(found), tuple(refused)


def model_of(task: Task) -> Model:
    """The model of a task, with its telemetry."""
    model = load_model(pathlib.Path(task.model), task.job)
    return changed(model, telemetry=pathlib.Path(task.telemetry)) if task.telemetry else model


def run_of(task: Task) -> pathlib.Path | None:
    """The run folder of a task, from this call or an earlier one; None where it was never begun."""
    folder = pathlib.Path(task.results) / pathlib.Path(task.model).absolute().name
    return max(folder.glob(f"*-{task.key}"), default=None)


def _task(folder: pathlib.Path, job: str, file: pathlib.Path | None, results: pathlib.Path) -> Task:
    model = load_model(folder, job)
    if file is not None:
        model = changed(model, telemetry=file)
    check_ready(model, load_telemetry(model))
    sources = files_of(model.job.telemetry, model.folder, model.job_path).values()
    digest = hashlib.sha256()
    for path in (folder / "twin.py", folder / job, *sources):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    parts = [model.name, *([pathlib.Path(job).stem] if job != "job.toml" else []), *([file.stem] if file else [])]
    return Task(
        name="/".join(parts),
        model=str(folder.absolute()),
        job=job,
        telemetry=str(file.absolute()) if file else "",
        results=str(results.absolute()),
        key=digest.hexdigest()[:8],
    )
