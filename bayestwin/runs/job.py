"""The job file of a model: which telemetry, what is held out, how to calibrate, which gates. Validated TOML."""

import datetime
import difflib
import pathlib
import tomllib
from typing import Any

import pydantic

from bayestwin.errors import InvalidJob, explain

type Moment = float | datetime.datetime | datetime.date | str


class Section(pydantic.BaseModel):
    """A table of the job file: unknown keys and wrong types are errors, nothing changes after reading."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


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
            message = "give either `file` or `dataset`"
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

    seed: int = 0
    num_warmup: int = pydantic.Field(default=300, ge=1)
    num_samples: int = pydantic.Field(default=1000, ge=1)
    num_chains: int = pydantic.Field(default=4, ge=1)
    target_acceptance: float = pydantic.Field(default=0.9, gt=0, lt=1)
    predictive_draws: int = pydantic.Field(default=1000, ge=1)


class PredictSection(Section):
    """Arguments of `bt.predict`."""

    seed: int = 1
    draws: int = pydantic.Field(default=1000, ge=1)


class GatesSection(Section):
    """Limits of `bt.diagnose`."""

    max_rhat: float = pydantic.Field(default=1.01, gt=1)
    min_ess_per_chain: float = pydantic.Field(default=100.0, gt=0)
    max_divergences: int = pydantic.Field(default=0, ge=0)
    min_bfmi: float = pydantic.Field(default=0.3, gt=0)
    max_solver_failures: float = pydantic.Field(default=0.01, ge=0, le=1)


class Job(Section):
    """A job file."""

    telemetry: TelemetrySection
    split: SplitSection = SplitSection()
    calibrate: CalibrateSection = CalibrateSection()
    predict: PredictSection = PredictSection()
    gates: GatesSection = GatesSection()


def read_job(path: pathlib.Path) -> Job:
    """Read and validate a job file.

    Raises:
        InvalidJob: If there is no such file, it is not TOML (with line and column), or a key is unknown or has the
            wrong type (naming the key, with a suggestion).
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        message = explain(
            f"There is no job file `{path}`.",
            expected="a TOML file with at least a `[telemetry]` table",
            received=reason.strerror or str(reason),
            advice="Write one; the README shows the shortest.",
        )
        raise InvalidJob(message) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        message = explain(
            f"Job file `{path}` is not valid TOML.",
            expected='lines like `key = "text"` or `key = 1.5` beneath `[tables]`, each key once',
            received=str(reason),
            advice="Correct the line that is named.",
        )
        raise InvalidJob(message) from reason
    try:
        return Job.model_validate(found)
    except pydantic.ValidationError as reason:
        raise InvalidJob(_explained(path, reason.errors()[0], len(reason.errors()))) from reason


def _explained(path: pathlib.Path, error: Any, num: int) -> str:
    key = ".".join(str(part) for part in error["loc"])
    more = f" ({num - 1} more after this)" if num > 1 else ""
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return explain(
            f"Job file `{path}` has the unknown key `{key}`{more}.",
            expected=", ".join(f"`{name}`" for name in known),
            received=f"`{error['loc'][-1]}`",
            advice=f"Did you mean `{close[0]}`?" if close else "Remove it, or correct its name.",
        )
    if error["type"] == "missing":
        return explain(
            f"Job file `{path}` lacks `{key}`{more}.",
            expected=f"`{key}`",
            received="nothing",
            advice="Add it.",
        )
    return explain(
        f"Job file `{path}` has a wrong value for `{key or 'the file'}`{more}.",
        expected=error["msg"].removeprefix("Value error, "),
        received=f"{error['input']!r} ({type(error['input']).__name__})",
        advice="Correct the value.",
    )


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    section: Any = Job
    for part in location:
        section = section.model_fields[part].annotation
    return list(section.model_fields)
