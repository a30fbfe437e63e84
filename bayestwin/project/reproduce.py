"""A run made again from its own inputs, and whether it comes out the same."""

import fnmatch
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from bayestwin._base.progress import Progress
from bayestwin._base.source import source_sha256
from bayestwin.errors import InvalidInput, explain
from bayestwin.project.checked import FINDINGS
from bayestwin.project.diff import Change, changed
from bayestwin.project.given import used_runs
from bayestwin.project.inputs import INPUTS, recorded_model
from bayestwin.project.predict import LATER
from bayestwin.project.record import circumstances, read_record
from bayestwin.project.remaking import REMAKE, Remake
from bayestwin.project.run import ENDED, POSTERIOR
from bayestwin.project.sameness import Sameness, compare_files

RESULTS = ("*.nc", FINDINGS)
"""Names of files that hold results; pages and pictures are made from these."""


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
        return bool(self.files) and all(map(self.accepts, self.files))

    def accepts(self, one: Sameness) -> bool:
        """Whether one of the results is as much the same as it must be."""
        return self._agrees(one) or self._follows(one)

    def _agrees(self, one: Sameness) -> bool:
        return one.level in (("bits",) if self.same_host else ("bits", "rounding", "mcse"))

    def _follows(self, one: Sameness) -> bool:
        """Elsewhere what is made from posteriors follows them: where all agree, it need not be judged by itself."""
        posteriors = [other for other in self.files if _is_posterior(other)]
        return not (self.same_host or _is_posterior(one)) and bool(posteriors) and all(map(self._agrees, posteriors))


def reproduce(run: pathlib.Path, *, device: str | None = None, progress: Progress | None = None) -> Reproduction:
    """Make a run again, here and with the code that is installed, from the inputs that it kept.

    Args:
        run: Its folder; nothing in it changes.
        device: As it was made with.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If there is no such run, it did not come to its end, or what it was made from is not there as it
            was.
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
        results = pathlib.Path(folder)
        for used in used_runs(run, record):
            shutil.copytree(used, results / model.name / used.name)
        again = remake(Remake(model, results, run, record, device, progress or Progress()))
        files = tuple(compare_files(name, run / name, again / name) for name in _results(record))
    now = circumstances()
    differ = changed("environment", {name: record.get(name) for name in now}, now)
    differ += changed("inputs", {"code_sha256": record.get("code_sha256")}, {"code_sha256": source_sha256()})
    return Reproduction(run.name, record.get("host") == now["host"], tuple(differ), files)


def _results(record: Mapping[str, Any]) -> list[str]:
    """Paths of the results that the run's own verb wrote, counted from its folder."""
    names = [name for name in record.get("outputs", {}) if not name.startswith(f"{INPUTS}/")]
    names = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in RESULTS)]
    return [name for name in names if not fnmatch.fnmatch(name, LATER)]


def _is_posterior(one: Sameness) -> bool:
    return pathlib.PurePosixPath(one.file).name == POSTERIOR
