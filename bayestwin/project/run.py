"""Run folders: `results/<model>/<run>/`, one for each run, named by the time it began."""

import datetime
import pathlib
import secrets

from bayestwin.errors import InvalidArtifact, InvalidInput, explain
from bayestwin.project.model import Model
from bayestwin.project.record import RECORD, read_record
from bayestwin.results.store import check_writable

POSTERIOR, PREDICTIONS, REPORT, CHECKPOINT = "posterior.nc", "predictions.nc", "report.html", "checkpoint.nc"
SHARES = "uncertainty_shares.nc"

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
    message = explain(
        f"There is no such run of `{model.folder}`.",
        expected=f"{wanted}, in `{folder}`",
        received=", ".join(listed[-5:]) or "no runs there",
        advice=f"Run `bayestwin calibrate {model.folder}` first"
        + (", or name one of these by `--run`." if stored else ", or say by `--results` where runs are filed."),
    )
    raise InvalidInput(message)


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
