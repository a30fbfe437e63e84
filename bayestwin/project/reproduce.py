"""A run made again from its own inputs, and whether it comes out the same: to the bit, to rounding, or by chance."""

import fnmatch
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import mcse

from bayestwin._base.files import source_sha256
from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidInput
from bayestwin.project.calibrate import BESIDE, FINDINGS, calibrate_model
from bayestwin.project.check import check_model
from bayestwin.project.compare import compare_model
from bayestwin.project.design import Planned, design_model
from bayestwin.project.diff import Change, changed
from bayestwin.project.insight import Asked, check_calibration, identify_model, run_sensitivity
from bayestwin.project.model import Model
from bayestwin.project.predict import LATER
from bayestwin.project.record import circumstances, read_record
from bayestwin.project.run import ENDED, INPUTS, POSTERIOR, recorded_file, recorded_model, used_runs
from bayestwin.project.selected import selections_now
from bayestwin.project.update import update_model
from bayestwin.project.validate import validate_model
from bayestwin.results.store import load

# How each verb's run is made again from what its record says: with the same job, options, files and earlier runs.


class Remake(NamedTuple):
    """What a run is made again with.

    Attributes:
        model: As the run kept it.
        results: Where the new run is filed; the earlier runs that it looks at lie there.
        run: The folder of the run that is made again.
        record: Its record.
        device: As it was made with.
        progress: Where progress is shown.
    """

    model: Model
    results: pathlib.Path
    run: pathlib.Path
    record: dict[str, Any]
    device: str | None
    progress: Progress

    @property
    def options(self) -> dict[str, Any]:
        """Of the verb, as recorded."""
        return self.record.get("options") or {}


def _calibrate(again: Remake) -> pathlib.Path:
    beside = BESIDE in again.record
    return calibrate_model(
        again.model, again.results, compare_model_errors=beside, device=again.device, progress=again.progress
    ).run


def _check(again: Remake) -> pathlib.Path:
    held_out = recorded_file(again.run, "held_out")
    return check_model(again.model, again.results, held_out, progress=again.progress).run


def _validate(again: Remake) -> pathlib.Path:
    run, backtest = again.options["run"], again.options["backtest"]
    settings = {"held_out": recorded_file(again.run, "held_out"), "initial": again.options.get("initial")}
    return validate_model(
        again.model, again.results, run, with_backtest=backtest, progress=again.progress, **settings
    ).run


def _sbc(again: Remake) -> pathlib.Path:
    return check_calibration(again.model, again.results, device=again.device, progress=again.progress).run


def _identify(again: Remake) -> pathlib.Path:
    told = again.options
    planned = recorded_file(again.run, "planned")
    asked = Asked(told["profile"], told["profile_prior"], planned, told["run"])
    return identify_model(again.model, again.results, asked, device=again.device, progress=again.progress).run


def _design(again: Remake) -> pathlib.Path:
    told = again.options
    kept = {name: recorded_file(again.run, f"candidate-{n}") for n, name in enumerate(told.get("candidates", []))}
    files = {name: path for name, path in kept.items() if path is not None}
    planned = Planned(files, told["run"], told["judged"], told["recorded"])
    return design_model(again.model, again.results, planned, device=again.device, progress=again.progress)[0].run


def _update(again: Remake) -> pathlib.Path:
    new = recorded_file(again.run, "telemetry")
    assert new is not None
    run = again.options["run"]
    return update_model(again.model, again.results, new, run, device=again.device, progress=again.progress).run


def _compare(again: Remake) -> pathlib.Path:
    return compare_model(again.model, again.results, **again.options, device=again.device, progress=again.progress).run


def _sensitivity(again: Remake) -> pathlib.Path:
    carried, _ = run_sensitivity(
        again.model, again.results, **again.options, device=again.device, progress=again.progress
    )
    return carried.run


REMAKE: dict[str, Callable[[Remake], pathlib.Path]] = {
    "calibrate": _calibrate,
    "check": _check,
    "validate": _validate,
    "sbc": _sbc,
    "identify": _identify,
    "compare": _compare,
    "design": _design,
    "sensitivity": _sensitivity,
    "update": _update,
}
"""By verb: makes its run again, and gives the new folder."""


# Is a result made again the same: bit for bit, to rounding, or within what the Monte Carlo error allows.

MAX_Z = 4.0
"""Largest difference of two means or standard deviations, in standard errors of both, that chance explains."""

ROUNDING = 1e-6
"""Largest difference, relative to the largest number of a variable, that another order of summing explains."""


class Sameness(NamedTuple):
    """One file, recorded and made again.

    Attributes:
        file: Its path in the run folder.
        level: `"bits"`: every number is the same; `"rounding"`: to six digits; `"mcse"`: means and standard deviations
            of the posterior are, within 4 Monte Carlo standard errors; `"different"` else.
        sentence: What was compared and found.
    """

    file: str
    level: Literal["bits", "rounding", "mcse", "different"]
    sentence: str


def compare_files(name: str, recorded: pathlib.Path, again: pathlib.Path) -> Sameness:
    """Hold a result file that was made again against the one of the run.

    Args:
        name: What it is called.
        recorded: The file of the run.
        again: The file made again.

    Raises:
        InvalidArtifact: If one of them is damaged.
    """
    if not again.is_file():
        return Sameness(name, "different", f"`{name}` was not made again.")
    if _sha256(recorded) == _sha256(again):
        return Sameness(name, "bits", f"`{name}` is the same file to the bit.")
    if not name.endswith(".nc"):
        return Sameness(name, "different", f"`{name}` is not the same file.")
    return compare_trees(name, load(recorded), load(again))


def compare_trees(name: str, recorded: xr.DataTree, again: xr.DataTree) -> Sameness:
    """Hold two results against each other; arguments and result as in `compare_files`."""
    ours, theirs = _variables(recorded), _variables(again)
    differ = [key for key in [*ours, *(key for key in theirs if key not in ours)] if not _same(ours, theirs, key)]
    if not differ:
        return Sameness(name, "bits", f"`{name}`: all {len(ours)} variables are the same to the bit.")
    words = f"`{name}`: {len(differ)} of {len(ours)} variables are not the same to the bit (`{differ[0]}` first)"
    if all(_close(ours, theirs, key) for key in differ):
        return Sameness(name, "rounding", f"{words}; all numbers agree to six digits.")
    if "posterior" not in recorded.children or "posterior" not in again.children:
        return Sameness(name, "different", f"{words}, and it holds no posterior, whose Monte Carlo error is known.")
    worst, quantity = _largest_z(recorded["posterior"].to_dataset(), again["posterior"].to_dataset())
    if worst <= MAX_Z:
        return Sameness(
            name,
            "mcse",
            f"{words}; all means and standard deviations agree within {worst:.1f} Monte Carlo standard errors.",
        )
    reason = f"those of `{quantity}` lie {worst:.1f} Monte Carlo standard errors apart" if quantity else "no draws"
    return Sameness(name, "different", f"{words}, and {reason} (limit {MAX_Z:g}).")


def _variables(tree: xr.DataTree) -> dict[str, np.ndarray]:
    return {f"{node.path}/{name}": v.to_numpy() for node in tree.subtree for name, v in node.dataset.variables.items()}


def _same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], key: str) -> bool:
    if key not in ours or key not in theirs:
        return False
    first, second = ours[key], theirs[key]
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return bool(np.array_equal(first, second)) if first.dtype == object else first.tobytes() == second.tobytes()


def _close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], key: str) -> bool:
    """Whether two variables are the same but for rounding."""
    if key not in ours or key not in theirs:
        return False
    first, second = ours[key], theirs[key]
    if first.shape != second.shape or first.dtype != second.dtype or first.dtype.kind != "f":
        return False
    scale = float(np.abs(first[np.isfinite(first)]).max(initial=0.0))
    return bool(np.allclose(first, second, rtol=0.0, atol=ROUNDING * scale, equal_nan=True))


def _largest_z(first: xr.Dataset, second: xr.Dataset) -> tuple[float, str]:
    """Largest difference of a mean or standard deviation in its standard errors, and whose; infinite where unknown."""
    found = {}
    for name in first.data_vars:
        if name not in second.data_vars or first[name].shape != second[name].shape:
            return float("inf"), str(name)
        pair = [values[name].transpose("chain", "draw", ...).to_numpy() for values in (first, second)]
        found[str(name)] = max(_z(pair, "mean", np.mean), _z(pair, "sd", np.std))
    worst = max(found, key=lambda name: found[name], default="")
    return found.get(worst, float("inf")), worst


def _z(pair: Sequence[np.ndarray], method: str, moment: Callable[..., np.ndarray]) -> float:
    """Difference of a moment of two sets of draws (chain, draw, …), in standard errors of both; the largest of all."""
    values = [moment(draws, axis=(0, 1)) for draws in pair]
    errors = [np.asarray(mcse(draws, chain_axis=0, draw_axis=1, method=method)) for draws in pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(values[0] == values[1], 0.0, np.abs(values[0] - values[1]) / np.hypot(*errors))
    return float(np.nan_to_num(z, nan=np.inf).max())


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        raise InvalidInput(
            f"There is no run in `{run}` that can be made again.",
            expected=f"the folder of a run of {', '.join(f'`{name}`' for name in REMAKE)} that came to its end",
            received=f"`{record.get('command')}` with the status “{record.get('status')}”" if record else "no record",
            advice="`bayestwin runs` lists the runs.",
        )
    model = recorded_model(run, record)
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder)
        for used in used_runs(run, record):
            shutil.copytree(used, results / model.name / used.name)
        again = remake(Remake(model, results, run, record, device, progress or Progress()))
        files = tuple(compare_files(name, run / name, again / name) for name in _results(record))
    now = circumstances()
    differ = changed("environment", {name: record.get(name) for name in now}, now)
    selected = {name: {key: told[key] for key in ("rows", "sha256")} for name, told in _queries(record).items()}
    differ += changed("inputs", {"selected": selected}, {"selected": selections_now(record)})
    differ += changed("inputs", {"code_sha256": record.get("code_sha256")}, {"code_sha256": source_sha256()})
    return Reproduction(str(record.get("run", run.name)), record.get("host") == now["host"], tuple(differ), files)


def _queries(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run asked of databases; it is made again from what came then, whatever they answer now."""
    return {name: told for name, told in (record.get("selected") or {}).items() if "database" in told}


def _results(record: Mapping[str, Any]) -> list[str]:
    """Paths of the results that the run's own verb wrote, counted from its folder."""
    names = [name for name in record.get("outputs", {}) if not name.startswith(f"{INPUTS}/")]
    names = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in RESULTS)]
    return [name for name in names if not fnmatch.fnmatch(name, LATER)]


def _is_posterior(one: Sameness) -> bool:
    return pathlib.PurePosixPath(one.file).name == POSTERIOR
