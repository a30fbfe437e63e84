"""Run folders, `results/<model>/<run>/`: what a run is given, the inputs it keeps, and how any verb carries one out."""

import contextlib
import datetime
import hashlib
import pathlib
import secrets
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bayestwin._base.progress import Progress
from bayestwin.errors import BayestwinError, InvalidArtifact, InvalidInput
from bayestwin.project.model import Model, load_model
from bayestwin.project.record import (
    RECORD,
    begin_record,
    end_record,
    files_of,
    keep_code,
    locked,
    read_record,
    timings_of,
    write_record,
)
from bayestwin.project.sections import Job
from bayestwin.project.selected import selections
from bayestwin.project.telemetry import TELEMETRY, kept_at
from bayestwin.project.telemetry import files_of as telemetry_files
from bayestwin.results.store import check_writable, write_bytes_durably

POSTERIOR, PREDICTIONS, REPORT, CHECKPOINT = "posterior.nc", "predictions.nc", "report.html", "checkpoint.nc"
SHARES, ASSETS = "uncertainty_shares.nc", "assets"

ENDED = ("finished", "failed gates")
"""What the record of a run says that came to its end."""


def new_run(results: pathlib.Path, model: Model, suffix: str | None = None) -> pathlib.Path:
    """Make the folder of a new run, and make sure that it can be written before anything is computed.

    Args:
        results: Where runs are filed.
        model: The model that it is about.
        suffix: What its name ends with; by default something random.

    Raises:
        StorageFailure: If it cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC)
    return check_writable(results / model.name / f"{now:%Y%m%d-%H%M%S}-{suffix or secrets.token_hex(2)}")


def find_run(results: pathlib.Path, model: Model, run: str | None = None) -> pathlib.Path:
    """The run that a user means.

    Args:
        results: Where runs are filed.
        model: The model.
        run: Name of a run with a posterior; by default the newest that came to its end.

    Raises:
        InvalidInput: If there is none.
    """
    folder = results / model.name
    found = {path.parent.name: _status(path.parent) for path in sorted(folder.glob(f"*/{RECORD}"))}
    stored = {name for name in found if (folder / name / POSTERIOR).is_file()}
    fitting = [name for name in found if name in stored and (found[name] in ENDED if run is None else name == run)]
    if fitting:
        return folder / fitting[-1]
    wanted = "a run that came to its end" if run is None else f"a run named `{run}`, with a posterior"
    listed = [
        f"`{name}` ({status}{'' if name in stored else ', no posterior'})"
        for name, status in found.items()
        if name in stored or _command(folder / name) in ("calibrate", None)
    ]
    raise InvalidInput(
        f"There is no such run of `{model.folder}`.",
        expected=f"{wanted}, in `{folder}`",
        received=", ".join(listed[-5:]) or "no runs there",
        advice=f"Run `bayestwin calibrate {model.folder}` first"
        + (", or name one of these by `--run`." if stored else ", or say by `--results` where runs are filed."),
    )


def newest(results: pathlib.Path, model: Model, command: str, twin_sha256: str) -> pathlib.Path | None:
    """The newest run of a command that came to its end with a twin; None where there is none."""
    for path in sorted((results / model.name).glob(f"*/{RECORD}"), reverse=True):
        if _status(path.parent) in ENDED:
            record = read_record(path.parent)
            if (record.get("command"), record.get("twin_sha256")) == (command, twin_sha256):
                return path.parent
    return None


def _command(run: pathlib.Path) -> str | None:
    try:
        return read_record(run).get("command")
    except InvalidArtifact:
        return None


def _status(run: pathlib.Path) -> str:
    try:
        return str(read_record(run).get("status", "unknown"))
    except InvalidArtifact:
        return "damaged"


# What a verb is given beside a model and its job: options, files that these name, earlier runs that it looks at.

NONE: Mapping[str, Any] = types.MappingProxyType({})


class Given(NamedTuple):
    """What a run depends on that neither the model folder nor the job says.

    Attributes:
        options: Of the verb, as plain values.
        files: What options name, by option; the run keeps copies.
        runs: Folders of earlier runs of the model; the run keeps their names and the hashes of their results.
    """

    options: Mapping[str, Any] = NONE
    files: Mapping[str, pathlib.Path] = NONE
    runs: Sequence[pathlib.Path] = ()


NOTHING = Given()


def hashes_of(runs: Iterable[pathlib.Path]) -> dict[str, dict[str, str]]:
    """By the name of each run, the hashes of its results by their paths in its folder."""
    return {run.name: {name: sha256_of(run / name) for name in files_of(run) if name.endswith(".nc")} for run in runs}


def used_runs(run: pathlib.Path, record: Mapping[str, Any]) -> list[pathlib.Path]:
    """The folders of the runs that a run looked at: they lie beside it.

    Args:
        run: Its folder.
        record: Its record.

    Raises:
        InvalidInput: If one is not there, or its results have changed since.
    """
    folders = []
    for name, recorded in (record.get("uses") or {}).items():
        folder = run.parent / name
        changed = [file for file, sha256 in recorded.items() if sha256_of(folder / file) != sha256]
        if changed or not folder.is_dir():
            listed = ", ".join(f"`{file}`" for file in changed)
            raise InvalidInput(
                f"Run `{run.name}` cannot be made again: it looked at run `{name}`, which is not as it was.",
                expected=f"that run in `{folder}`, with the results that it had then",
                received=f"changed or missing: {listed}" if listed else "no such folder",
                advice=f"Restore it, or do `bayestwin {record.get('command')}` anew.",
            )
        folders.append(folder)
    return folders


def named_value(option: str, word: str) -> dict[str, float]:
    """`aperture=0` as `{"aperture": 0.0}`.

    Args:
        option: Which it was given by, without its dashes.
        word: What was typed.

    Raises:
        InvalidInput: If it is something else.
    """
    name, _, value = word.partition("=")
    try:
        return {name.strip(): float(value)}
    except ValueError as reason:
        raise InvalidInput(
            f"`--{option} {word}` cannot be read.",
            expected=f"a name and a number: `--{option} {name.strip() or 'name'}=0`",
            received=f"`{word}`",
            advice="Give the option once for each name.",
        ) from reason


def start_of(words: Sequence[str] | None) -> dict[str, float] | None:
    """What `--initial name=value` says, by state; None where it was not given."""
    return {name: value for word in words or () for name, value in named_value("initial", word).items()} or None


def sha256_of(path: pathlib.Path) -> str:
    """Hash of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


# What a run is made from, kept beside its results: a model folder of its own, with the bytes that were read.

INPUTS, OPTIONS = "inputs", "options"


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
        **{name: path for name, path in model.code.items() if not pathlib.Path(name).is_absolute()},
        model.job_path.name: model.job_path,
        "card.md": model.folder / "card.md",
    }
    wanted |= telemetry_files(model.job, model.folder, model.job_path)
    wanted |= {f"{OPTIONS}/{option}/{path.name}": path for option, path in files.items()}
    hashes = {}
    for name, path in wanted.items():
        if path.is_file():
            content = path.read_bytes()
            write_bytes_durably(run / INPUTS / name, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
    complete = record | {"inputs": hashes, "code_sha256": keep_code(run.parents[1])}
    if chosen := selections(model.job.telemetry):
        complete["selected"] = chosen
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
    telemetry = [name for name in kept if name.startswith(f"{TELEMETRY}/")]
    changed = [name for name, sha256 in kept.items() if sha256_of(run / INPUTS / name) != sha256]
    if not telemetry or changed:
        raise InvalidInput(
            f"Run `{run.name}` cannot be made again from its own inputs.",
            expected=f"the files that it was made from, unchanged, in `{run / INPUTS}`",
            received="changed or missing: " + ", ".join(f"`{name}`" for name in changed) if changed else "none kept",
            advice="Calibrate anew by `bayestwin calibrate`: runs keep their inputs.",
        )
    model = load_model(run / INPUTS, str(record["job_file"]))
    return model._replace(job=kept_at(Job.model_validate(record["job"]), list(kept)))


def recorded_file(run: pathlib.Path, option: str) -> pathlib.Path | None:
    """The file that an option named, as the run kept it; None where it was not given."""
    return next((run / INPUTS / OPTIONS / option).glob("*"), None)


def results_of(run: pathlib.Path) -> list[str]:
    """Paths of the files of a run that are not its inputs, counted from its folder."""
    return [name for name in files_of(run) if not name.startswith(f"{INPUTS}/")]


# A run of any verb that computes: a folder, a record that is there whatever happens, and what the verb left in it.


class VerbOutcome[T](NamedTuple):
    """What a verb found.

    Attributes:
        found: Its result.
        status: `"finished"`, `"failed gates"` or `"interrupted"`; only the first is to be relied on.
        figures: What its record says beside: key figures, as plain values.
    """

    found: T
    status: str
    figures: Mapping[str, Any]


class Carried[T](NamedTuple):
    """A run that came to its end.

    Attributes:
        run: Its folder.
        found: The result of the verb.
        status: As in `Outcome`.
        record: The content of `run.json`.
    """

    run: pathlib.Path
    found: T
    status: str
    record: dict[str, Any]


def carry_out[T](
    model: Model,
    results: pathlib.Path,
    command: str,
    inputs: Mapping[str, Any],
    work: Callable[[pathlib.Path, Progress], VerbOutcome[T]],
    progress: Progress | None = None,
    given: Given = NOTHING,
) -> Carried[T]:
    """Do a verb's work in the folder of a new run, and record it.

    Args:
        model: The model that it is about.
        results: Where runs are filed.
        command: The verb.
        inputs: What it is made of: see `inputs_of`.
        work: Computes, writes its files into the folder that it is given, and says what it found.
        progress: Where progress is shown.
        given: What the verb was given beside the model and its job.

    Raises:
        StorageFailure: If the folder cannot be written; this comes before anything is computed.
    """
    shown = progress or Progress()
    run = new_run(results, model)
    with locked(run):
        known = {"options": dict(given.options), "uses": hashes_of(given.runs)}
        record = begin_record(run, command, {**inputs, **known})
        with recorded(run, shown):
            record = keep_inputs(run, model, record, given.files)
            found, status, figures = work(run, shown)
        record = end_record(run, record, status, timings=timings_of(shown), **figures)
    return Carried(run, found, status, record)


@contextlib.contextmanager
def recorded(run: pathlib.Path, shown: Progress) -> Iterator[None]:
    """Work on a run that has begun; where it fails or Ctrl-C ends it, its record says so, and the error where it lies.

    Args:
        run: Its folder.
        shown: Has timed what was done.
    """
    try:
        yield
    except BaseException as reason:
        ended = "interrupted" if isinstance(reason, KeyboardInterrupt) else "failed"
        what = str(reason) if isinstance(reason, BayestwinError) else repr(reason)
        record = read_record(run)
        reason.add_note(f"What is left of this run lies in `{run}`.")
        resumable = record["command"] == "calibrate" and (run / CHECKPOINT).is_file()
        if resumable and not isinstance(reason, InvalidArtifact):
            reason.add_note(f"Go on with it by `bayestwin resume {run}`.")
        end_record(run, record, ended, error=what, timings=timings_of(shown))
        raise
