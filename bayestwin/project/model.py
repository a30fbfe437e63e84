"""Model folders: `twin.py`, `job.toml`, `card.md` and data, side by side; which there are, and a new one to start from.

`twin.py` is the user's own code, run because the user typed its folder. Nothing here takes a path from a result.
"""

import contextlib
import difflib
import importlib.util
import os
import pathlib
import re
import string
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pydantic
import xarray as xr

from bayestwin._base.process import check_seed, on_device, require_float64
from bayestwin.calibrate import check_population, check_settings
from bayestwin.check import read_limits
from bayestwin.density.bind import Bound, Experiments, bind
from bayestwin.errors import BayestwinError, InvalidInput, InvalidJob, InvalidTelemetry, InvalidTwin
from bayestwin.model.checks import check_name
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.project.job import about_job, read_job
from bayestwin.project.sections import Job, SplitSection
from bayestwin.project.telemetry import (
    check_driven,
    continued,
    in_place,
    known_attributes,
    of_assets,
    population_at,
    read_assets,
    read_file,
    read_fleet,
    read_sources,
    with_features,
)
from bayestwin.results.durable import check_free, write_model_folder
from bayestwin.results.store import load
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

    @property
    def code(self) -> dict[str, pathlib.Path]:
        """`twin.py` and the file of the model that it takes in place of equations, by their paths in the folder.

        A file elsewhere is under its whole path.
        """
        found = {"twin.py": self.folder / "twin.py"}
        if self.twin.black_box:
            path = pathlib.Path(os.path.abspath(self.twin.black_box.file))
            whole = pathlib.Path(os.path.abspath(self.folder))
            found[str(path.relative_to(whole) if path.is_relative_to(whole) else path)] = path
        return found


class Split(NamedTuple):
    """Telemetry to calibrate on, and what is held out, if anything; of a fleet that of each asset, by its name.

    Attributes:
        calibration: What is calibrated.
        held_out: What follows it; of a fleet, of those assets that have rows there.
        first_row: What the first row of `calibration` is counted as in what was read.
        set_aside: Why assets that were named are left out, by their names.
    """

    calibration: Telemetry | Experiments
    held_out: Telemetry | Experiments | None
    first_row: int = 1
    set_aside: Mapping[str, str] = types.MappingProxyType({})

    def of_one(self, verb: str) -> tuple[Telemetry, Telemetry | None]:
        """What is calibrated and what is held out, for a verb that knows one asset alone.

        Raises:
            InvalidInput: If there is a fleet.
        """
        if isinstance(self.calibration, Telemetry) and not isinstance(self.held_out, Mapping):
            return self.calibration, self.held_out
        raise InvalidInput(
            f"`bayestwin {verb}` is of one asset, and this job is of a fleet.",
            expected="a job without `[fleet]`",
            received=f"{len(self.calibration)} assets" if isinstance(self.calibration, Mapping) else "several assets",
            advice="Write a job of one of them beside this one, and name it by `--job`.",
        )


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
        raise InvalidInput(
            f"There is no model folder `{folder}`.",
            expected="a folder with `twin.py` and `job.toml`",
            received="a file" if folder.exists() else "nothing under that path",
            advice=_meant(folder),
        )
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
    if model.job.fleet is None:
        return _split(model, read_sources(model.job, model.folder, model.job_path), split)
    fleet = read_fleet(model.job, model.folder, model.job_path)
    return _split_fleet(model, fleet.assets, split, fleet.set_aside)


def _split_fleet(
    model: Model, assets: Mapping[str, Telemetry], split: SplitSection, set_aside: Mapping[str, str]
) -> Split:
    """Each asset split by itself; one that has no row to be calibrated is set aside."""
    left_out, wrong = dict(set_aside), []
    parts: dict[str, Split] = {}
    for name, one in assets.items():
        try:
            calibrated, held_out = _rows_of(one, split, model.job_path)
            if calibrated:
                own = split if held_out else split.model_copy(update={"hold_out_from": None})
                parts[name] = _split(model, one, own)
            else:
                left_out[name] = f"Asset `{name}` has no row in what is calibrated."
        except InvalidTelemetry as reason:
            wrong.append((name, reason))
    if wrong:
        raise InvalidTelemetry.all_of(of_assets(wrong))
    if not parts:
        raise InvalidTelemetry(
            f"No asset of `{model.folder}` is left to be calibrated.",
            expected="rows of at least one asset between `start` and `hold_out_from` or `end` in `[split]`",
            received=" ".join(left_out.values()),
            advice="Correct `[split]`, or `--hold-out-from`.",
        )
    past = {name: part.of_one("calibrate") for name, part in parts.items()}
    held = {name: future for name, (_, future) in past.items() if future is not None}
    return Split({name: one for name, (one, _) in past.items()}, held or None, 1, left_out)


def _rows_of(one: Telemetry, split: SplitSection, job_path: pathlib.Path) -> tuple[bool, bool]:
    """Whether an asset has rows to be calibrated, and rows that are held out."""
    with about_job(f"`[split]` of `{job_path}`"):
        told = (split.start, split.hold_out_from, split.end)
        start, until, end = (None if at is None else one.moment(at) for at in told)
    times = one.table.index
    inside = np.ones(len(times), bool)
    for at, kept in ((start, np.greater_equal), (end, np.less)):
        inside &= True if at is None else kept(times, at)
    later = np.zeros(len(times), bool) if until is None else np.asarray(times >= until)
    return bool((inside & ~later).any()), bool((inside & later).any())


def _split(model: Model, telemetry: Telemetry, split: SplitSection) -> Split:
    """The telemetry of one asset, with its features, split."""
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
    calibrated, held_out = _split_at(telemetry, at.get("hold_out_from"), model)
    check_driven(model.twin, calibrated, held_out, model.job_path)
    return Split(calibrated, held_out, first_row=1 + num - len(telemetry.table))


def _split_at(telemetry: Telemetry, moment: Any, model: Model) -> tuple[Telemetry, Telemetry | None]:
    if moment is None:
        return telemetry, None
    try:
        return telemetry.between(end=moment), telemetry.between(start=moment)
    except InvalidTelemetry as reason:
        times = telemetry.table.index
        raise InvalidTelemetry(
            f"The telemetry of `{model.folder}` cannot be split where the held-out part is to begin.",
            expected=f"a time after {telemetry.shown(times[0])} and not after {telemetry.shown(times[-1])}, so that "
            "both parts have rows",
            received=telemetry.shown(moment),
            advice="Correct `hold_out_from` in `[split]`, or `--hold-out-from`.",
        ) from reason


def read_model_telemetry(
    model: Model, path: pathlib.Path, *, partly: bool = False, split: SplitSection | None = None
) -> Telemetry | dict[str, Telemetry]:
    """Read a file whose columns are those of the model's own telemetry, which features know if it lies before.

    Args:
        model: The model.
        path: The file; where the job has several sources, with their columns by their names in the twin; of a fleet
            also a folder, and what is read is that of each asset by its name.
        partly: Whether columns may be absent, as observations are where the future is predicted.
        split: Says which part features may have statistics of; by default as the model's job does.
    """
    job, split = model.job, split or model.job.split
    _check_there(path)
    if job.fleet is None:
        with about_job(f"`[telemetry]` of `{model.job_path}`"):
            telemetry = read_file(in_place(job.telemetry, path), path, partly=partly)
        earlier = read_sources(job, model.folder, model.job_path) if job.features else None
        return _following(model, telemetry, earlier, split, partly=partly)
    known = known_attributes(job, model.folder, model.job_path)
    with about_job(f"`[telemetry]` of `{model.job_path}`"):
        assets = read_assets(job, path, known, partly=partly).assets
    earlier = read_fleet(job, model.folder, model.job_path).assets if job.features else {}
    return {name: _following(model, one, earlier.get(name), split, partly=partly) for name, one in assets.items()}


def _check_there(path: pathlib.Path) -> None:
    """Refuse a file that is asked for in place of the job's, and is not there: the job is not to blame."""
    if path.exists():
        return
    raise InvalidInput(
        f"There is no telemetry file `{path}`.",
        expected="the path of a file, counted from the current folder",
        received="nothing under that path",
        advice="Check the path; it was given in place of the telemetry that the job names.",
    )


def _following(
    model: Model, telemetry: Telemetry, earlier: Telemetry | None, split: SplitSection, *, partly: bool
) -> Telemetry:
    """Telemetry with the features of the job, which know what was recorded before."""
    if not model.job.features:
        return telemetry
    whole = telemetry if earlier is None else continued(earlier, telemetry)
    made = with_features(whole, model.job, model.job_path, split, partly=partly)
    return made.between(start=telemetry.table.index[0])


def changed(model: Model, *, telemetry: pathlib.Path | None = None, **tables: Mapping[str, Any]) -> Model:
    """The model with settings of its job replaced, as options of the command line ask.

    Args:
        model: The model.
        telemetry: File instead of the job's telemetry.
        **tables: Settings by table of the job, such as `calibrate={"seed": 1}`; None leaves one as it is.

    Raises:
        InvalidInput: If that file is not there.
        InvalidJob: If a value makes no sense, naming the option.
    """
    job = model.job
    if telemetry is not None:
        _check_there(telemetry)
        job = job.model_copy(update={"telemetry": in_place(job.telemetry, telemetry.absolute())})
    for table, asked in tables.items():
        section = getattr(job, table)
        told = {name: value for name, value in asked.items() if value is not None}
        try:
            replaced = type(section).model_validate(section.model_dump() | told)
        except pydantic.ValidationError as reason:
            (error, *_) = reason.errors()
            raise InvalidJob(
                f"`--{str(error['loc'][0]).replace('_', '-')}` makes no sense.",
                expected=str(error["msg"]).removeprefix("Input should be "),
                received=f"{error['input']!r}",
                advice="Leave it out for what the job says.",
            ) from reason
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
    return (
        "`bayestwin models` lists the folders in `models/`, `bayestwin models FOLDER` those elsewhere; "
        "`bayestwin new NAME` makes one."
    )


# `twin.py` of a model folder: the user's own code, run because the user typed the folder that it is in.

SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names that are folders everywhere."""

SPOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]*")
"""Names that are, with spaces for which `_` stands."""


class Defined(NamedTuple):
    """What a `twin.py` defines.

    Attributes:
        twin: Its variable `twin`.
        model_errors: Its variable `model_errors`, what the twin is to be compared under; empty without one.
        ablations: Its variable `ablations`, what is to be switched off for a comparison; empty without one.
    """

    twin: Twin
    model_errors: Mapping[str, ModelError | None]
    ablations: Mapping[str, Mapping[str, float]]


def import_model(path: pathlib.Path) -> Defined:
    """Run a `twin.py` and take its variables `twin`, `model_errors` and `ablations`.

    What it prints goes to standard error: standard output belongs to the command, and may be JSON.

    Raises:
        InvalidTwin: If there is no such file, it does not run (naming the line), it defines no twin, or `model_errors`
            or `ablations` is no mapping of simple names to what they should be.
    """
    if not path.is_file():
        raise _absent(path)
    name = f"bayestwin_model_{pathlib.Path(os.path.abspath(path)).parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look modules up by name
    try:
        with contextlib.redirect_stdout(sys.stderr):
            # Compiled here: no byte code is left in the user's folder, and none older than the source is taken.
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BayestwinError:
        raise
    except (Exception, SystemExit) as reason:
        raise InvalidTwin(
            f"`{path}` does not run.",
            expected="Python that assigns `twin = bt.Twin(…)`",
            received=_failure(reason, path),
            advice="Correct that line.",
        ) from reason
    twin = getattr(module, "twin", None)
    if not isinstance(twin, Twin):
        raise InvalidTwin(
            f"`{path}` defines no twin.",
            expected="`twin = bt.Twin(…)` at the top level",
            received="no variable `twin`" if twin is None else f"`twin` is a {type(twin).__name__}",
            advice="Assign the twin to the variable `twin`.",
        )
    return Defined(twin, _model_errors(module, path), _ablations(module, path))


def _model_errors(module: types.ModuleType, path: pathlib.Path) -> Mapping[str, ModelError | None]:
    found = getattr(module, "model_errors", {})
    fault = _fault(found, SIMPLE, lambda error: error is None or isinstance(error, ModelError))
    if not fault:
        return found
    raise InvalidTwin(
        f"`model_errors` of `{path}` cannot be used.",
        expected="a mapping of names, of letters, digits, `-` and `_`, to model errors or None",
        received=fault,
        advice='For example `model_errors = {"none": None, "discrepancy": bt.Discrepancy(…)}`.',
    )


def _ablations(module: types.ModuleType, path: pathlib.Path) -> Mapping[str, Mapping[str, float]]:
    found = getattr(module, "ablations", {})
    fault = _fault(found, SPOKEN, lambda off: isinstance(off, Mapping) and bool(off))
    if not fault:
        return found
    raise InvalidTwin(
        f"`ablations` of `{path}` cannot be used.",
        expected="a mapping of names, of letters, digits, spaces, `-` and `_`, to parameters and their values",
        received=fault,
        advice='For example `ablations = {"no sun": {"aperture": 0.0}}`.',
    )


def _fault(found: object, named: re.Pattern[str], fits: Callable[[object], bool]) -> str:
    """What is wrong with a mapping of names to something that fits; empty where nothing is."""
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    if unfit := [name for name in found if not (isinstance(name, str) and named.fullmatch(name))]:
        return f"the name {unfit[0]!r}"
    if unfit := [name for name, one in found.items() if not fits(one)]:
        return f"`{unfit[0]}` is {found[unfit[0]]!r}, a {type(found[unfit[0]]).__name__}"
    if len({name.lower() for name in found}) < len(found):
        return f"names that differ only in capitals: {', '.join(found)}"
    return ""


def _absent(path: pathlib.Path) -> InvalidTwin:
    there = sorted(found.name for found in path.parent.iterdir())
    run = "This is the folder of a run: name that of its model, and the run by `--run`."
    return InvalidTwin(
        f"Model folder `{path.parent}` has no `{path.name}`.",
        expected="a file that assigns `twin = bt.Twin(…)`",
        received=", ".join(f"`{name}`" for name in there) or "an empty folder",
        advice=run
        if "run.json" in there
        else "Write one; `bayestwin new NAME` makes a whole model folder to start from.",
    )


def _failure(reason: BaseException, path: pathlib.Path) -> str:
    """What went wrong, and in which line of the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(reason.__traceback__) if frame.filename == str(path)]
    line = lines[-1] if lines else getattr(reason, "lineno", "?")
    what = reason.msg if isinstance(reason, SyntaxError) else reason
    return f"{type(reason).__name__} in line {line}: {what}"


# Which models there are, without running their code.


def list_models(root: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Model folders beneath `root`, each with the first line of words on its card.

    Raises:
        InvalidInput: If there is no such folder.
    """
    if not root.is_dir():
        raise InvalidInput(
            f"There is no folder `{root}`.",
            expected="a folder that holds model folders",
            received="a file" if root.exists() else "nothing under that path",
            advice="Start where `models/` is, or name the folder: `bayestwin models FOLDER`. "
            "`bayestwin new NAME` makes a first one.",
        )
    found = sorted(path.parent for path in root.glob("*/twin.py"))
    return [(folder, _first_words(folder / "card.md")) for folder in found]


def _first_words(card: pathlib.Path) -> str:
    if not card.is_file():
        return "(no card.md)"
    lines = [line.strip() for line in card.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), "(empty card.md)")


# A new model folder, which calibrates as it is: a heated tank, with telemetry that was simulated from it.

TEMPLATE = pathlib.Path(__file__).with_name("templates") / "new_model"
"""Its files, each with `.txt` after its name and `$name` for that of the model."""


def new_model(name: str, root: pathlib.Path = pathlib.Path("models")) -> pathlib.Path:
    """Make a model folder to start from: twin, job, card, simulated telemetry, and a place for scenarios.

    Args:
        name: Name of the folder and of the twin.
        root: Folder that holds model folders, made if it is missing.

    Returns:
        The new folder, which is there whole or not at all.

    Raises:
        InvalidInput: If the name is no plain identifier, or something lies under it.
        StorageFailure: If the folder cannot be written.
    """
    check_name(name, "the model")
    folder = root / name
    check_free(folder, "Choose another name, or `--in FOLDER` for another place.")
    elsewhere = "Go to a folder of your own, or name one by `--in FOLDER`."
    write_model_folder(folder, _template(name), elsewhere)
    return folder


def _template(name: str) -> dict[str | pathlib.Path, str]:
    """Texts of the files of a new model, by their paths in its folder."""
    sources = sorted(TEMPLATE.rglob("*.txt"))
    texts = {path.relative_to(TEMPLATE).with_suffix(""): path.read_text(encoding="utf-8") for path in sources}
    return {path: string.Template(text).substitute(name=name) for path, text in texts.items()}


def population_of(model: Model) -> xr.DataTree | None:
    """The posterior of other assets that a job starts from; None if it names none. Errors are those of `load`, too."""
    path = population_at(model.job, model.folder, model.job_path)
    return None if path is None else load(path)


# Would a calibration of a model be refused: asked before it begins.


def check_ready(model: Model, split: Split, device: str | None = None) -> None:
    """Refuse what would be refused in the middle of a calibration.

    Raises:
        InvalidInput: If the telemetry, its held-out part included, or the card does not fit the twin.
        InvalidSetting: If float64 is off, the device is absent, or a seed makes no sense.
    """
    require_float64()
    on_device(device)
    for seed in (model.job.calibrate.seed, model.job.predict.seed):
        check_seed(seed)
    check_settings(model.twin, model.job.calibrate.model_dump(exclude={"seed"}))
    if (others := population_of(model)) is not None:
        check_population(model.twin, others, split.calibration)
    with about_job():
        known = {name: one.known for name, one in _bound(model.twin, split.calibration).items()}
    if split.held_out is None:
        return
    read_limits(model.folder / "card.md", model.twin)  # which predictions are held against
    with about_job("the part that is held out"):
        _bound(model.twin, split.held_out, known)


def _bound(
    twin: Twin, telemetry: Telemetry | Experiments, known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Bound]:
    """Telemetry bound to a twin, by asset; of one alone by an empty name.

    Raises:
        InvalidTelemetry: If it does not fit: all assets of which it does not.
    """
    known = known or {}
    if isinstance(telemetry, Telemetry):
        return {"": bind(twin, telemetry, known=known.get(""))}
    found, wrong = {}, []
    for name, one in telemetry.items():
        try:
            found[name] = bind(twin, one, known=known.get(name), experiment=name)
        except InvalidTelemetry as reason:
            wrong.append((name, reason))
    if wrong:
        raise InvalidTelemetry.all_of(of_assets(wrong))
    return found
