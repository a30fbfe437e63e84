"""The job file of a model: which telemetry, what is held out, how to calibrate, which gates. Validated TOML."""

import datetime
import difflib
import pathlib
import re
import tomllib
import typing
from typing import Annotated, Any, Literal

import pydantic

from bayestwin.errors import InvalidJob, explain

type Moment = float | datetime.datetime | datetime.date | str

type Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]

WORDS = {
    "model_type": "a table with keys of its own",
    "dict_type": 'a table such as `{ column = "text" }`',
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
}
"""What pydantic expects, in the words of a job file."""

MOMENT = "a date such as 2026-03-21, text that reads as one, or a number, as the times of the telemetry are"


class Section(pydantic.BaseModel):
    """A table of the job file: unknown keys and wrong types are errors, nothing changes after reading."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TelemetrySection(Section):
    """Where the telemetry is and how its columns map to the twin.

    Attributes:
        file: CSV file, relative to the job file.
        dataset: Name for `bt.datasets.load`, instead of a file.
        time: Column with the times.
        units: Unit of each column.
        rename: Columns → names in the twin.
        t0: When the initial state holds; by default the first time.
    """

    file: str | None = None
    dataset: str | None = None
    time: str = "time"
    units: dict[str, str] = {}
    rename: dict[str, str] = {}
    t0: Moment | None = None

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> "TelemetrySection":
        if (self.file is None) == (self.dataset is None):
            message = "either `file` or `dataset`, and not both"
            raise ValueError(message)
        return self


class SplitSection(Section):
    """What is held out of the calibration.

    Attributes:
        start: Rows before it are not used at all.
        hold_out_from: Rows from here on are predicted, not calibrated; nothing is held out by default.
        end: Rows from here on are not used at all.
    """

    start: Moment | None = None
    hold_out_from: Moment | None = None
    end: Moment | None = None


class CalibrateSection(Section):
    """Arguments of `bt.calibrate`."""

    seed: Seed = 0
    method: Literal["nuts", "laplace", "pathfinder", "map", "smc"] = "nuts"
    loss: Literal["linear", "huber", "soft_l1", "cauchy"] = "linear"
    num_warmup: int = pydantic.Field(default=200, ge=1)
    num_samples: int = pydantic.Field(default=1000, ge=1)
    num_chains: int = pydantic.Field(default=4, ge=1)
    target_acceptance: float = pydantic.Field(default=0.8, gt=0, lt=1)
    predictive_draws: int = pydantic.Field(default=1000, ge=1)


class PredictSection(Section):
    """Arguments of `bt.predict`."""

    seed: Seed = 1
    draws: int = pydantic.Field(default=1000, ge=1)


class GatesSection(Section):
    """Limits of `bt.diagnose`."""

    max_rhat: float = pydantic.Field(default=1.01, gt=1)
    min_ess_per_chain: float = pydantic.Field(default=100.0, gt=0)
    max_divergences: int = pydantic.Field(default=0, ge=0)
    min_bfmi: float = pydantic.Field(default=0.3, gt=0)
    max_solver_failures: float = pydantic.Field(default=0.01, ge=0, le=1)


class SbcSection(Section):
    """Arguments of `bt.sbc`."""

    seed: Seed = 0
    num_simulations: int = pydantic.Field(default=200, ge=20)
    num_draws: int = pydantic.Field(default=63, ge=15)
    level: float = pydantic.Field(default=0.95, gt=0, lt=1)


class Job(Section):
    """A job file."""

    telemetry: TelemetrySection
    split: SplitSection = SplitSection()
    calibrate: CalibrateSection = CalibrateSection()
    predict: PredictSection = PredictSection()
    gates: GatesSection = GatesSection()
    sbc: SbcSection = SbcSection()


def read_job(path: pathlib.Path) -> Job:
    """Read and validate a job file.

    Raises:
        InvalidJob: If there is no such file, it is not TOML (with line and column), or a key is unknown or has the
            wrong type (naming the key, with a suggestion).
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = tomllib.loads(text + "\n")
    except OSError as reason:
        message = explain(
            f"There is no job file `{path}`.",
            expected="a TOML file with at least a `[telemetry]` table",
            received=f"{reason.strerror or reason}; in that folder: {_jobs_beside(path)}",
            advice="Write one, or name another with `--job`; the README shows one.",
        )
        raise InvalidJob(message) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        message = explain(
            f"Job file `{path}` is not valid TOML.",
            expected='lines like `key = "text"` or `key = 1.5` beneath `[tables]`, each key once',
            received=_with_line(str(reason), text),
            advice="Correct that line.",
        )
        raise InvalidJob(message) from reason
    try:
        return Job.model_validate(found)
    except pydantic.ValidationError as reason:
        raise InvalidJob(_explained(path, reason.errors())) from reason


def _with_line(reason: str, text: str) -> str:
    """What tomllib says, with the line that it means."""
    lines = text.splitlines()
    reason = reason.replace("end of document", f"line {len(lines)}, the end of the file")
    found = re.search(r"line (\d+)", reason)
    return f"{reason}: {lines[int(found[1]) - 1].strip()}" if found and lines else reason


def _jobs_beside(path: pathlib.Path) -> str:
    return ", ".join(f"`{found.name}`" for found in sorted(path.parent.glob("*.toml"))) or "none"


def _explained(path: pathlib.Path, found: list[Any]) -> str:
    """The message for the first error; a key that is not known comes first, since what is missing may be misspelt."""
    error = min(found, key=lambda one: one["type"] != "extra_forbidden")
    location, moment = _within_job(error["loc"])
    key = ".".join(location) or "telemetry"
    more = len({_within_job(one["loc"])[0] for one in found}) - 1
    also = f" ({more} more wrong after this)" if more else ""
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return explain(
            f"Job file `{path}` has the unknown key `{key}`{also}.",
            expected=", ".join(f"`{name}`" for name in known),
            received=f"`{location[-1]}`",
            advice=_suggestion(location[-1], known),
        )
    if error["type"] == "missing":
        return explain(
            f"Job file `{path}` lacks `{key}`{also}.",
            expected=f"a table `[{key}]`, with at least `file` or `dataset`",
            received=", ".join(f"`[{name}]`" for name in error["input"]) or "an empty file",
            advice="Add it; the README shows a whole job file.",
        )
    wanted = MOMENT if moment else str(WORDS.get(error["type"], error["msg"]))
    return explain(
        f"Job file `{path}` has a wrong value for `{key}`{also}.",
        expected=wanted.removeprefix("Value error, ").removeprefix("Input should be "),
        received=_received(error["input"]),
        advice="Correct the value.",
    )


def _within_job(location: tuple[Any, ...]) -> tuple[tuple[str, ...], bool]:
    """The keys of a job file that an error is about, without pydantic's own additions; whether a time belongs there."""
    section: Any = Job
    for depth, part in enumerate(location, start=1):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            return tuple(str(one) for one in location[:depth]), False
        section = fields[part].annotation
        if Moment in typing.get_args(section):
            return location[:depth], True
    return location, False


def _known_keys(location: tuple[str, ...]) -> list[str]:
    section: Any = Job
    for part in location:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


def _suggestion(name: str, known: list[str]) -> str:
    """What an unknown key may have meant: a key of this table, or one of another."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"Did you mean `{close[0]}`?"
    for table in Job.model_fields:
        if name in _known_keys((table,)):
            return f"`{name}` belongs beneath `[{table}]`."
    return "Remove it, or correct its name."


def _received(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{name}`" for name in value) or "an empty table"
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {str: "text", int: "whole number", float: "number", list: "list"}
    return f"the {kinds.get(type(value), type(value).__name__)} {value!r}"
