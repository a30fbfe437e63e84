"""The tables of a job file about features: `[features.NAME]`, with a `kind` that its other keys depend on."""

from typing import Annotated, Literal

import pydantic

from bayestwin.project.section import Moment, Section
from bayestwin.telemetry.derived import Feature
from bayestwin.telemetry.features import Difference, Lag, Rolling
from bayestwin.telemetry.features_derived import Expression, Standardized
from bayestwin.telemetry.regimes import Bins, Calendar, Switch


class LagSection(Section):
    """Attributes of `features.Lag`."""

    kind: Literal["lag"]
    of: str
    by: str | float
    max_age: str | float | None = None


class DifferenceSection(Section):
    """Attributes of `features.Difference`."""

    kind: Literal["difference"]
    of: str
    over: str | float
    max_age: str | float | None = None
    per: str | None = None


class RollingSection(Section):
    """Attributes of `features.Rolling`; with another `side` than the right one it is refused there."""

    kind: Literal["rolling"]
    of: str
    window: str | float
    statistic: Literal["mean", "min", "max", "std", "sum"] = "mean"
    missing: Literal["nan", "skip"] = "nan"
    side: str = "right"


class BinsSection(Section):
    """Attributes of `features.Bins`."""

    kind: Literal["bins"]
    of: str
    edges: list[float]


class CalendarSection(Section):
    """Attributes of `features.Calendar`."""

    kind: Literal["calendar"]
    part: Literal["hour", "weekday", "month"]
    timezone: str = "UTC"


class SwitchSection(Section):
    """Attributes of `features.Switch`."""

    kind: Literal["switch"]
    of: str
    above: float
    below: float | None = None


class ExpressionSection(Section):
    """Attributes of `features.Expression`."""

    kind: Literal["expression"]
    value: str
    unit: str | None = None


class StandardizedSection(Section):
    """Attributes of `features.Standardized`; `until` is by default where the held-out part begins."""

    kind: Literal["standardized"]
    of: str
    until: Moment | None = None


type FeatureSection = Annotated[
    LagSection
    | DifferenceSection
    | RollingSection
    | BinsSection
    | CalendarSection
    | SwitchSection
    | ExpressionSection
    | StandardizedSection,
    pydantic.Field(discriminator="kind"),
]

KINDS: dict[str, type[Feature]] = {
    "lag": Lag,
    "difference": Difference,
    "rolling": Rolling,
    "bins": Bins,
    "calendar": Calendar,
    "switch": Switch,
    "expression": Expression,
    "standardized": Standardized,
}
"""What each kind declares."""
