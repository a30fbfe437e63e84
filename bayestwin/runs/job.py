"""The job file of a model: which telemetry, what is held out, how to calibrate, which gates. Validated TOML."""

import datetime
import difflib
import pathlib
import re
import tomllib
import typing
from typing import Annotated, Any, Literal

import pydantic

from bayestwin.assess.gates import WARN
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

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )


class TelemetrySection(Section):
    """Where the telemetry is and how its columns map to the twin; all but the first two as in `bt.read_telemetry`.

    Attributes:
        file: CSV, Parquet or netCDF file, relative to the job file.
        dataset: Name for `bt.datasets.load`, instead of a file.
        time: Column with the times.
        units: Unit of each column.
        rename: Columns → names in the twin.
        t0: When the initial state holds; by default the first time.
        timezone: Zone of dates without a UTC offset.
        ambiguous: Which instant is meant where the clock went back.
        duplicates: What to do with rows of one time.
        order: What to do with rows out of order.
        sentinels: Numbers or text that mean “missing”.
        separator: Between the columns of a CSV file.
        decimal: Decimal sign.
        known_at: Column that says when a row became known.
        as_of: Rows that became known later are left out.
        layout: One column a signal, or one row a value.
        variable: Column of a long table with the name of the signal.
        value: Column of a long table with the value.
    """

    file: str | None = None
    dataset: str | None = None
    time: str = "time"
    units: dict[str, str] = {}
    rename: dict[str, str] = {}
    t0: Moment | None = None
    timezone: str | None = None
    ambiguous: Literal["earlier", "later", "infer"] | None = None
    duplicates: Literal["error", "first", "last", "mean"] = "error"
    order: Literal["sort", "error"] = "sort"
    sentinels: list[float | str] | None = None
    separator: str = ","
    decimal: Literal[".", ","] = "."
    known_at: str | None = None
    as_of: Moment | None = None
    layout: Literal["wide", "long"] = "wide"
    variable: str = "variable"
    value: str = "value"

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


class ReportSection(Section):
    """What the report holds that costs solving the twin again.

    Attributes:
        shares: Whether to split the uncertainty of what was held out by its sources: see `bt.uncertainty_shares`.
    """

    shares: bool = False


class GatesSection(Section):
    """Arguments of `bt.diagnose`: limits, which warnings fail, and whether coverage is a gate."""

    max_rhat: float = pydantic.Field(default=1.01, gt=1)
    min_ess_per_chain: float = pydantic.Field(default=100.0, gt=0)
    min_chains: int = pydantic.Field(default=2, ge=1)
    min_chain_spread: float = pydantic.Field(default=0.1, gt=0, lt=1)
    max_divergences: int = pydantic.Field(default=0, ge=0)
    min_bfmi: float = pydantic.Field(default=0.3, gt=0)
    max_solver_failures: float = pydantic.Field(default=0.01, ge=0, le=1)
    max_solver_error: float = pydantic.Field(default=0.1, gt=0)
    max_pareto_k: float = pydantic.Field(default=0.7, gt=0, le=1)
    max_modes: int = pydantic.Field(default=1, ge=1)
    max_at_prior_edge: float = pydantic.Field(default=0.1, gt=0, le=1)
    max_prior_width: float = pydantic.Field(default=0.8, gt=0)
    strict: bool | list[str] = False
    coverage: Literal["report", "warn", "fail"] = "report"
    max_coverage_misses: int = pydantic.Field(default=0, ge=0)

    @pydantic.field_validator("strict", mode="before")
    @classmethod
    def _names_of_gates(cls, strict: object) -> object:
        if isinstance(strict, bool) or (isinstance(strict, list) and all(name in WARN for name in strict)):
            return strict
        message = f"true, false, or a list of {', '.join(f'`{name}`' for name in WARN)}"
        raise ValueError(message)


class SensitivitySection(Section):
    """Arguments of `bt.sensitivity`."""

    seed: Seed = 2
    distribution: Literal["prior", "posterior"] = "prior"
    num_samples: int = pydantic.Field(default=1024, ge=2)
    max_times: int = pydantic.Field(default=200, ge=1)
    prob: float = pydantic.Field(default=0.9, gt=0, lt=1)


class CompareSection(Section):
    """How `bayestwin compare` leaves the future out: arguments of `bt.leave_future_out`.

    Attributes:
        horizon: How far ahead to predict; without it the future is not left out.
        origins: How many.
        exact: Whether to calibrate at each.
    """

    horizon: float | None = pydantic.Field(default=None, gt=0)
    origins: int = pydantic.Field(default=10, ge=2)
    exact: bool = False


class ValidateSection(Section):
    """Settings of `bayestwin validate`.

    Attributes:
        prob: Nominal probability of the interval that the verdict is about.
        by: Columns of the telemetry that tell regimes apart.
        bins: Edges of bins, or how many of them, by column; also for `horizon`.
        origins: Number of origins of the backtest, or their times.
        horizon: How far ahead, in the twin's unit of time; by default as far as what is held out, and at most a quarter
            of what was calibrated.
        window: As in `bt.backtest`, like those that follow.
        recalibrate: Whether to calibrate at each origin.
        gap: Time before each origin that is not calibrated.
        method: How to calibrate at each origin.
        conformal: How intervals are corrected, see `bt.conformalize`.
        period: Time after which observations repeat themselves, for a baseline; by default a day where two were
            calibrated and observed four times a day; 0 for none.
        seed: Determines everything random.
    """

    prob: float = pydantic.Field(default=0.9, gt=0, lt=1)
    by: list[str] = []
    bins: dict[str, int | list[float]] = {}
    origins: int | list[Moment] = 8
    horizon: float | None = pydantic.Field(default=None, gt=0)
    window: Literal["expanding", "sliding"] = "expanding"
    recalibrate: bool = True
    gap: float = pydantic.Field(default=0.0, ge=0)
    method: Literal["nuts", "laplace", "pathfinder", "smc"] = "laplace"
    conformal: Literal["split", "adaptive"] = "split"
    period: float | None = pydantic.Field(default=None, ge=0)
    seed: Seed = 2


class Job(Section):
    """A job file; a table is named as its attribute, but `[validate]`, which is a name of pydantic's own."""

    telemetry: TelemetrySection
    split: SplitSection = SplitSection()
    calibrate: CalibrateSection = CalibrateSection()
    predict: PredictSection = PredictSection()
    gates: GatesSection = GatesSection()
    report: ReportSection = ReportSection()
    sensitivity: SensitivitySection = SensitivitySection()
    compare: CompareSection = CompareSection()
    validation: ValidateSection = pydantic.Field(default=ValidateSection(), alias="validate")


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
        fields = _fields(section)
        if part not in fields:
            return tuple(str(one) for one in location[:depth]), False
        section = fields[part].annotation
        if Moment in typing.get_args(section):
            return location[:depth], True
    return location, False


def _fields(section: Any) -> dict[str, Any]:
    """What a table of a job file may hold, by key; nothing for what is no table."""
    return {field.alias or name: field for name, field in getattr(section, "model_fields", {}).items()}


def _known_keys(location: tuple[str, ...]) -> list[str]:
    section: Any = Job
    for part in location:
        section = _fields(section)[part].annotation
    return list(_fields(section))


def _suggestion(name: str, known: list[str]) -> str:
    """What an unknown key may have meant: a key of this table, or one of another."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"Did you mean `{close[0]}`?"
    for table in _fields(Job):
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
