"""The tables of a job file about all but telemetry, each a section of settings with defaults, and the job itself."""

import datetime
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core

from bayestwin.assess.gates import WARN
from bayestwin.check import Thresholds, wrong_kinds
from bayestwin.inference.method import SETTINGS, Setting, names_with_draws
from bayestwin.project.telemetry_sections import (
    FeatureSection,
    FleetSection,
    Moment,
    PopulationSection,
    Scalar,
    Section,
    Seed,
    TelemetrySection,
)


class SplitSection(Section):
    """What is held out of the calibration.

    Attributes:
        start: Rows before it are not used, but by features, which may look back to them.
        hold_out_from: Rows from here on are predicted, not calibrated; nothing is held out by default.
        end: Rows from here on are not used at all.
    """

    start: Moment | None = None
    hold_out_from: Moment | None = None
    end: Moment | None = None


def one_of(words: Callable[[], Sequence[str]]) -> pydantic.AfterValidator:
    """Refuses what is none of these words; they are asked for then, since `twin.py` may have registered some."""

    def known(word: str | None) -> str | None:
        if word is None or word in words():
            return word
        *others, last = (f"'{one}'" for one in words())
        kind, message, expected = "literal_error", "Input should be {expected}", f"{', '.join(others)} or {last}"
        raise pydantic_core.PydanticCustomError(kind, message, {"expected": expected})

    return pydantic.AfterValidator(known)


def _field(setting: Setting) -> tuple[Any, Any]:
    """A setting of `calibrate` as pydantic takes it."""
    kind: Any = setting.kind if setting.default is not None else setting.kind | None
    bounds: dict[str, Any] = dict(setting.bounds)
    return kind if setting.choices is None else Annotated[kind, one_of(setting.choices)], pydantic.Field(
        default=setting.default, **bounds
    )


FIELDS: dict[str, Any] = {setting.name: _field(setting) for setting in SETTINGS}


class Seeded(Section):
    """What is random in a calibration."""

    seed: Seed = 0


class CalibrateSection(pydantic.create_model("Settings", __base__=Seeded, **FIELDS)):
    """Arguments of `bt.calibrate`."""


class PredictSection(Section):
    """Arguments of `bt.predict`."""

    seed: Seed = 1
    draws: int | None = pydantic.Field(default=None, ge=1)


class UpdateSection(Section):
    """Arguments of `bt.update`, for `bayestwin update`."""

    seed: Seed = 1
    max_k: float = pydantic.Field(default=0.7, allow_inf_nan=True)
    forget: float | str | None = None


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
    max_residual_correlation: float = pydantic.Field(default=0.38, ge=0, le=1)
    strict: bool | list[str] = False
    coverage: Literal["report", "warn", "fail"] = "report"
    max_coverage_misses: int = pydantic.Field(default=0, ge=0)
    max_failed_paths: float = pydantic.Field(default=0.05, ge=0, le=1)

    @pydantic.field_validator("strict", mode="before")
    @classmethod
    def _names_of_gates(cls, strict: object) -> object:
        if isinstance(strict, bool) or (isinstance(strict, list) and all(name in WARN for name in strict)):
            return strict
        message = f"true, false, or a list of {', '.join(f'`{name}`' for name in WARN)}"
        raise ValueError(message)


USUAL = Thresholds()


class CheckSection(Section):
    """Settings of `bayestwin check`: thresholds as in `bayestwin.check.Thresholds`, and what findings do.

    Attributes:
        fail_on: Kinds of findings that fail, whatever they are by themselves.
        ignore: Kinds that are not reported.
        seed: Determines the draws from the prior.
    """

    gap: float = pydantic.Field(default=USUAL.gap, gt=1)
    few: int = pydantic.Field(default=USUAL.few, ge=1)
    missing: float = pydantic.Field(default=USUAL.missing, gt=0, le=1)
    stuck: int = pydantic.Field(default=USUAL.stuck, ge=3)
    spike: float = pydantic.Field(default=USUAL.spike, gt=0)
    level_shift: float = pydantic.Field(default=USUAL.level_shift, gt=0)
    drift: float = pydantic.Field(default=USUAL.drift, gt=0)
    saturation: float = pydantic.Field(default=USUAL.saturation, gt=0, le=1)
    levels: int = pydantic.Field(default=USUAL.levels, ge=2)
    lag: float = pydantic.Field(default=USUAL.lag, gt=0)
    prior: float = pydantic.Field(default=USUAL.prior, gt=0, le=1)
    coverage: float = pydantic.Field(default=USUAL.coverage, gt=0, le=1)
    outside: float = pydantic.Field(default=USUAL.outside, gt=0, le=1)
    fail_on: list[str] = []
    ignore: list[str] = []
    seed: Seed = 0

    @pydantic.field_validator("fail_on", "ignore")
    @classmethod
    def _kinds(cls, kinds: list[str]) -> list[str]:
        if expected := wrong_kinds(kinds):
            message = f"a list of {expected}"
            raise ValueError(message)
        return kinds

    def thresholds(self) -> dict[str, float]:
        """The thresholds alone."""
        return {name: getattr(self, name) for name in Thresholds._fields}


class SbcSection(Section):
    """Arguments of `bt.sbc`."""

    seed: Seed = 0
    num_simulations: int = pydantic.Field(default=200, ge=20)
    num_draws: int = pydantic.Field(default=63, ge=15)
    level: float = pydantic.Field(default=0.95, gt=0, lt=1)


class SensitivitySection(Section):
    """Arguments of `bt.sensitivity`."""

    seed: Seed = 2
    distribution: Literal["prior", "posterior"] = "prior"
    num_samples: int = pydantic.Field(default=1024, ge=2)
    max_times: int = pydantic.Field(default=200, ge=1)
    prob: float = pydantic.Field(default=0.9, gt=0, lt=1)


class CandidateSection(Section):
    """Something that could be recorded next: arguments of `bt.Candidate`.

    Attributes:
        planned: File with the times and inputs of telemetry to come, relative to the job file.
        times: By observation, when it is read.
        observations: Which are read; by default those in `times`, or all.
        cost: In any unit that all have in common.
        each: Whether everything or nothing is recorded, or each time is a candidate by itself.
        experiment: Of a fleet, the asset that goes on, or a new name.
    """

    planned: str | None = None
    times: dict[str, list[Moment]] | None = None
    observations: list[str] | None = None
    cost: float = pydantic.Field(default=1.0, gt=0)
    each: Literal["whole", "time"] = "whole"
    experiment: str | None = None


class DesignSection(Section):
    """Settings of `bayestwin design`: arguments of `bt.design`.

    Attributes:
        candidates: What could be recorded next, by name.
        of: Names of quantities that are to be narrowed; by default all parameters.
    """

    candidates: dict[str, CandidateSection] = {}
    of: list[str] | None = None
    criterion: Literal["A", "D", "E"] = "A"
    relative: bool = True
    budget: float | None = pydantic.Field(default=None, gt=0)
    prob: float = pydantic.Field(default=0.9, gt=0, lt=1)
    draws: int = pydantic.Field(default=64, ge=2)
    best: int = pydantic.Field(default=3, ge=0)
    simulations: int = pydantic.Field(default=200, ge=2)
    seed: Seed = 3


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
        method: How to calibrate at each origin; by default `laplace`, where there are derivatives.
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
    method: Annotated[str | None, one_of(names_with_draws)] = None
    conformal: Literal["split", "adaptive"] = "split"
    period: float | None = pydantic.Field(default=None, ge=0)
    seed: Seed = 2


type Days = Annotated[
    datetime.timedelta,
    pydantic.Field(strict=False, gt=datetime.timedelta()),
    pydantic.BeforeValidator(lambda n: datetime.timedelta(n) if type(n) in (int, float) and abs(n) < 1e6 else str(n)),
]


class StageSection(Section):
    """What must speak for a run before it comes into a stage.

    Attributes:
        requires: Gates that must pass; `"diagnostics"` must whether it is named or not.
        approvals: How many people must have approved of this very posterior.
        shadow_for: How many days of telemetry it must have been compared with production on; or text such as `"P7D"`.
    """

    requires: list[Literal["diagnostics", "validation", "sbc", "scenarios", "identifiability", "drift"]]
    approvals: int = pydantic.Field(default=0, ge=0)
    shadow_for: Days | None = None


class PromoteSection(Section):
    """What `bayestwin promote` asks for, by the stage that a run is to come into."""

    staging: StageSection = StageSection(requires=["diagnostics"])
    prod: StageSection = StageSection(requires=["diagnostics", "validation"])


class WatchSection(Section):
    """How `bayestwin watch` follows a source.

    Attributes:
        every: How long it waits between two looks at the source: days, or text such as `"PT1M"`.
        settle: For how long a file must have stayed the same before it counts as whole.
        update_on: With which verdicts of the monitor what has arrived is taken in.
        alpha: Probability of a false alarm, ever; all looks together spend it.
        query: Of a database that is followed: one SELECT, without an end, with the columns that `[telemetry]` reads.
        parameters: Values that are bound to the names in it.
        late: For how long rows before the last one may still come, or be corrected.
    """

    every: Days = datetime.timedelta(minutes=1)
    settle: Days = datetime.timedelta(seconds=2)
    update_on: list[Literal["ok", "watch", "insufficient data", "act"]] = ["ok", "watch", "insufficient data"]
    alpha: float = pydantic.Field(default=0.05, gt=0, lt=1)
    query: str | None = None
    parameters: dict[str, Scalar] = {}
    late: Days = datetime.timedelta(hours=1)


class Job(Section):
    """A job file; a table is named as its attribute, but `[validate]`, which is a name of pydantic's own."""

    telemetry: TelemetrySection
    fleet: FleetSection | None = None
    population: PopulationSection | None = None
    features: dict[str, FeatureSection] = {}
    split: SplitSection = SplitSection()
    calibrate: CalibrateSection = CalibrateSection()
    predict: PredictSection = PredictSection()
    update: UpdateSection = UpdateSection()
    gates: GatesSection = GatesSection()
    report: ReportSection = ReportSection()
    check: CheckSection = CheckSection()
    sbc: SbcSection = SbcSection()
    sensitivity: SensitivitySection = SensitivitySection()
    design: DesignSection = DesignSection()
    compare: CompareSection = CompareSection()
    promote: PromoteSection = PromoteSection()
    watch: WatchSection = WatchSection()
    validation: ValidateSection = pydantic.Field(default=ValidateSection(), alias="validate")

    @pydantic.model_validator(mode="after")
    def _one_source_of_a_fleet(self) -> "Job":
        stray = "`[telemetry.sources]`" if self.telemetry.sources else "`shares` in `[report]`"
        if self.fleet is not None and (self.telemetry.sources or self.report.shares):
            message = f"`[fleet]` without {stray}, which is of one asset"
            raise ValueError(message)
        return self
