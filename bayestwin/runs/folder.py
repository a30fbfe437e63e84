"""Run folders: `results/<model>/<run>/`, one for each run, named by the time it began."""

import datetime
import pathlib
import secrets

from bayestwin.errors import InvalidInput, explain
from bayestwin.store import check_writable

RECORD, POSTERIOR, PREDICTIONS, REPORT = "run.json", "posterior.nc", "predictions.nc", "report.html"


def new_run(results: pathlib.Path, model: str) -> pathlib.Path:
    """Make the folder of a new run, and make sure that it can be written before anything is computed.

    Raises:
        StorageFailure: If it cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC)
    return check_writable(results / model / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")


def find_run(target: pathlib.Path, results: pathlib.Path, run: str | None = None) -> pathlib.Path:
    """The run that a user means.

    Args:
        target: A run folder itself, or a model folder.
        results: Where runs are filed.
        run: Name of a run of that model; by default the newest that has a posterior.

    Raises:
        InvalidInput: If there is none.
    """
    if (target / RECORD).is_file():
        return target
    folder = results / target.name
    runs = sorted(path.parent for path in folder.glob(f"*/{POSTERIOR}")) if folder.is_dir() else []
    if run is not None:
        runs = [path for path in runs if path.name == run]
    if not runs:
        message = explain(
            f"There is no finished run of `{target}`" + (f" named `{run}`." if run else "."),
            expected=f"a run folder, or a model with runs under `{folder}`",
            received="none with a posterior",
            advice=f"Run `bayestwin calibrate {target}` first.",
        )
        raise InvalidInput(message)
    return runs[-1]
