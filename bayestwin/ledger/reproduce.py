"""A run made again from its own inputs, and whether it comes out the same."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from bayestwin.errors import InvalidInput, explain
from bayestwin.ledger.difference import Change, changed
from bayestwin.ledger.sameness import Sameness, compare_files
from bayestwin.progress import Progress
from bayestwin.runs.beside import BESIDE, calibrate_beside, models_beside
from bayestwin.runs.filing import calibrate_into
from bayestwin.runs.folder import ENDED
from bayestwin.runs.inputs import recorded_model
from bayestwin.runs.model import Model, load_telemetry
from bayestwin.runs.readiness import check_ready
from bayestwin.runs.record import circumstances, read_record
from bayestwin.source import source_sha256


class Reproduction(NamedTuple):
    """What came of making a run again.

    Attributes:
        run: Its id.
        same_host: Whether this host is of the kind that the run was made on: then the bits must be the same.
        changes: What is different about code, packages and environment; none of it need matter.
        files: Each result, recorded and made again.
    """

    run: str
    same_host: bool
    changes: tuple[Change, ...]
    files: tuple[Sameness, ...]

    @property
    def holds(self) -> bool:
        """Whether everything is the same: to the bit on a host of the same kind, elsewhere within chance."""
        enough = ("bits",) if self.same_host else ("bits", "mcse")
        return bool(self.files) and all(one.level in enough or _follows(one, self) for one in self.files)


def reproduce(run: pathlib.Path, *, device: str | None = None, progress: Progress | None = None) -> Reproduction:
    """Make a run again, here and with the code that is installed, from the inputs that it kept.

    Args:
        run: Its folder; nothing in it changes.
        device: As it was made with.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If there is no such run, it did not come to its end, or its inputs are not there as they were.
    """
    record = read_record(run)
    remake = REMAKE.get(str(record.get("command")))
    if remake is None or record.get("status") not in ENDED:
        message = explain(
            f"There is no run in `{run}` that can be made again.",
            expected=f"the folder of a run of {', '.join(f'`{name}`' for name in REMAKE)} that came to its end",
            received=f"`{record.get('command')}` with the status “{record.get('status')}”" if record else "no record",
            advice="`bayestwin runs` lists the runs.",
        )
        raise InvalidInput(message)
    model = recorded_model(run, record)
    with tempfile.TemporaryDirectory() as folder:
        again = pathlib.Path(folder)
        remake(model, again, record, device, progress or Progress())
        made = sorted(path.relative_to(again).as_posix() for path in again.rglob("*.nc"))
        there = [name for name in record.get("outputs", {}) if name.endswith(".nc")]
        names = [name for name in there if name in made]
        files = tuple(compare_files(name, run / name, again / name) for name in names)
    now = circumstances()
    differ = changed("environment", {name: record.get(name) for name in now}, now)
    differ += changed("inputs", {"code_sha256": record.get("code_sha256")}, {"code_sha256": source_sha256()})
    return Reproduction(run.name, record.get("host") == now["host"], tuple(differ), files)


def _follows(one: Sameness, whole: Reproduction) -> bool:
    """Elsewhere predictions follow the posterior: where that agrees, they need not be judged by themselves."""
    posterior = one.file.replace("predictions.nc", "posterior.nc")
    return (
        not whole.same_host
        and posterior != one.file
        and any(other.file == posterior and other.level == "mcse" for other in whole.files)
    )


def _calibrate(
    model: Model, folder: pathlib.Path, record: dict[str, Any], device: str | None, progress: Progress
) -> None:
    split = load_telemetry(model)
    check_ready(model, split, device)
    others = models_beside(model, split, device) if BESIDE in record else {}
    calibrate_into(folder, model, split, record["job"], device=device, progress=progress)
    calibrate_beside(others, split, folder, record["job"], device=device, progress=progress)


REMAKE: dict[str, Callable[[Model, pathlib.Path, dict[str, Any], str | None, Progress], None]] = {
    "calibrate": _calibrate
}
"""How each command's results are made again, into a folder."""
