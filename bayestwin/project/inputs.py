"""What a run is made from, kept beside its results: a model folder of its own, with the bytes that were read."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from bayestwin.errors import InvalidInput, explain
from bayestwin.project.code import keep_code
from bayestwin.project.given import NONE, sha256_of
from bayestwin.project.model import Model, load_model
from bayestwin.project.record import files_of, write_record
from bayestwin.project.sections import Job
from bayestwin.project.telemetry import files_of as telemetry_files
from bayestwin.project.telemetry import kept_at
from bayestwin.results.store import write_bytes_durably

INPUTS, TELEMETRY, OPTIONS = "inputs", "telemetry", "options"


def keep_inputs(
    run: pathlib.Path, model: Model, record: dict[str, Any], files: Mapping[str, pathlib.Path] = NONE
) -> dict[str, Any]:
    """Copy twin, job, card and telemetry into the folder of a run, and the code beside all runs; once for a run.

    Args:
        run: Its folder.
        model: What it is about.
        record: Its record.
        files: What options of the verb name, by option.

    Returns:
        The record, already on disk, with the hash of each file by its path within `inputs`, and that of the code.
    """
    if "inputs" in record:
        return record
    wanted = {
        "twin.py": model.folder / "twin.py",
        model.job_path.name: model.job_path,
        "card.md": model.folder / "card.md",
    }
    for source, path in telemetry_files(model.job.telemetry, model.folder, model.job_path).items():
        wanted["/".join(filter(None, (TELEMETRY, source, path.name)))] = path
    wanted |= {f"{OPTIONS}/{option}/{path.name}": path for option, path in files.items()}
    hashes = {}
    for name, path in wanted.items():
        if path.is_file():
            content = path.read_bytes()
            write_bytes_durably(run / INPUTS / name, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
    complete = record | {"inputs": hashes, "code_sha256": keep_code(run.parents[1])}
    write_record(run, complete)
    return complete


def recorded_model(run: pathlib.Path, record: dict[str, Any]) -> Model:
    """The model that a run was made from, as it was then, with the job that was carried out.

    Args:
        run: Its folder.
        record: Its record.

    Raises:
        InvalidInput: If the run kept no inputs, or they have changed since.
    """
    kept = record.get("inputs") or {}
    telemetry = {"/".join(name.split("/")[1:-1]): name for name in kept if name.startswith(f"{TELEMETRY}/")}
    changed = [name for name, sha256 in kept.items() if sha256_of(run / INPUTS / name) != sha256]
    if not telemetry or changed:
        message = explain(
            f"Run `{run.name}` cannot be made again from its own inputs.",
            expected=f"the files that it was made from, unchanged, in `{run / INPUTS}`",
            received="changed or missing: " + ", ".join(f"`{name}`" for name in changed) if changed else "none kept",
            advice="Calibrate anew by `bayestwin calibrate`: runs keep their inputs.",
        )
        raise InvalidInput(message)
    found = load_model(run / INPUTS, str(record["job_file"]))
    job = Job.model_validate(record["job"])
    return found._replace(job=job.model_copy(update={"telemetry": kept_at(job.telemetry, telemetry)}))


def recorded_file(run: pathlib.Path, option: str) -> pathlib.Path | None:
    """The file that an option named, as the run kept it; None where it was not given."""
    return next((run / INPUTS / OPTIONS / option).glob("*"), None)


def results_of(run: pathlib.Path) -> list[str]:
    """Paths of the files of a run that are not its inputs, counted from its folder."""
    return [name for name in files_of(run) if not name.startswith(f"{INPUTS}/")]
