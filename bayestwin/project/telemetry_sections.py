"""The tables of a job file about telemetry and its features, and what every table is."""

import datetime
import re
from typing import Annotated, Any, Literal

import pydantic

from bayestwin._base.postgres import check_address, is_database
from bayestwin.errors import InvalidInput, InvalidJob
from bayestwin.telemetry import datasets
from bayestwin.telemetry.aligning import ResampleHow, Side
from bayestwin.telemetry.derived import Feature
from bayestwin.telemetry.features import Bins, Calendar, Difference, Expression, Lag, Rolling, Standardized, Switch
from bayestwin.telemetry.mending import FillHow
from bayestwin.telemetry.reading import USUAL, DecimalSign, TableLayout
from bayestwin.telemetry.times import Ambiguous, Duplicates, Order

# What every table of a job file is: a model of pydantic that refuses what it does not know.

type Moment = float | datetime.datetime | datetime.date | str

type Scalar = bool | int | float | str | datetime.datetime | datetime.date

type Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


class Section(pydantic.BaseModel):
    """A table of the job file: unknown keys and wrong types are errors, nothing changes after reading."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )


# The tables of a job file about telemetry: one source, or several and how they become one.


class DropSection(Section):
    """A stretch whose values become missing, both ends included.

    Attributes:
        column: By its name in the file; without it all columns.
        start: Its first time; by default that of the record.
        end: Its last time; by default that of the record.
    """

    column: str | None = None
    start: Moment | None = None
    end: Moment | None = None


class FillSection(Section):
    """How missing cells between known ones are filled; `"previous"` is short for `{ how = "previous" }`.

    Attributes:
        how: By the value before, or on the line between the values around.
        within: How far apart these may lie.
    """

    how: FillHow
    within: float | str | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _how_alone(cls, found: object) -> object:
        return {"how": found} if isinstance(found, str) else found


class ReadingSection(Section):
    """How a source is read: by a file, a database or a dataset, and the arguments of `bt.read_telemetry`.

    Attributes:
        file: CSV, Parquet or netCDF file, or a folder of Parquet files, relative to the job file; with `[fleet]` also a
            folder of files of any kind.
        dataset: Name for `bt.datasets.load`, instead of a file; what is not said here is read as that reads it.
        database: Address of a PostgreSQL database, which `query` belongs to, instead of a file.
    """

    file: str | None = None
    dataset: str | None = None
    database: str | None = None
    query: str | None = USUAL["query"]
    parameters: dict[str, Scalar] = {}
    filters: list[list[Scalar | list[Scalar]]] = []
    columns: list[str] | None = USUAL["columns"]
    _kept: dict[str, Any] = pydantic.PrivateAttr(default_factory=dict)
    time: str = USUAL["time"]
    units: dict[str, str] = {}
    rename: dict[str, str] = {}
    timezone: str | None = USUAL["timezone"]
    ambiguous: Ambiguous | None = USUAL["ambiguous"]
    duplicates: Duplicates = USUAL["duplicates"]
    order: Order = USUAL["order"]
    sentinels: list[float | str] | None = USUAL["sentinels"]
    separator: str = USUAL["separator"]
    decimal: DecimalSign = USUAL["decimal"]
    known_at: str | None = USUAL["known_at"]
    as_of: Moment | None = USUAL["as_of"]
    layout: TableLayout = USUAL["layout"]
    variable: str = USUAL["variable"]
    value: str = USUAL["value"]
    time_format: str | None = USUAL["time_format"]
    skip_rows: Annotated[int, pydantic.Field(ge=0)] | list[Annotated[int, pydantic.Field(ge=1)]] = USUAL["skip_rows"]
    drop: list[DropSection] = []
    fill: dict[str, FillSection] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_published(cls, found: object) -> object:
        """What is known of a dataset need not be said again: its column of times, its units, its separator."""
        if not isinstance(found, dict):
            return found
        told: dict[str, Any] = dict(found)
        record, units, rename = datasets.read_as(told.get("dataset")), told.get("units", {}), told.get("rename", {})
        if not record or not isinstance(units, dict) or not isinstance(rename, dict):
            return told
        columns = {new: name for name, new in rename.items()}
        said = {columns.get(name, name) for name in units}
        known = {name: unit for name, unit in record.get("units", {}).items() if name not in said}
        return {**record, **told, "units": {**known, **units}}

    @pydantic.field_validator("database")
    @classmethod
    def _without_password(cls, database: str | None) -> str | None:
        """Refused here, and not as other values are: those are repeated in what is said about them."""
        if database is None:
            return None
        if not is_database(database):
            message = "an address such as `postgresql://ann@host/plant`, without a password"
            raise ValueError(message)
        try:
            check_address(database)
        except InvalidInput as reason:
            raise InvalidJob(
                reason.problem, expected=reason.expected, received=reason.received, advice=reason.advice
            ) from None
        return database

    @property
    def kept(self) -> dict[str, Any]:
        """What was chosen of a database or of Parquet files, once it was: every reading of this table sees the same."""
        return self._kept


class SourceSection(ReadingSection):
    """One of several sources."""

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> "SourceSection":
        _check_origin(self)
        return self


class AlignSection(Section):
    """How several sources become one: arguments of `bt.align`.

    Attributes:
        every: Step of the grid.
        side: At which end of its window a time lies.
        how: For each column, by its name in the twin, what stands in its place.
        window: Length of windows; by default `every`.
        fill: How cells that are still missing then are filled, by column.
    """

    every: float | str
    side: Side | None = None
    how: dict[str, ResampleHow]
    window: float | str | None = None
    fill: dict[str, FillSection] = {}


class TelemetrySection(ReadingSection):
    """Where the telemetry is and how its columns map to the twin: one source, or several.

    Attributes:
        t0: When the initial state holds; by default the first time.
        sources: Several sources by name, each with the keys of one; beside them only `t0` and `align` are said.
        align: How they are resampled; without it all must have the very same times.
    """

    t0: Moment | None = None
    sources: dict[str, SourceSection] = {}
    align: AlignSection | None = None

    @pydantic.field_validator("sources")
    @classmethod
    def _names_of_sources(cls, sources: dict[str, SourceSection]) -> dict[str, SourceSection]:
        """Files are kept in folders of these names, also where case does not tell folders apart."""
        if all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in sources) and len(sources) == len(
            {name.casefold() for name in sources}
        ):
            return sources
        message = "names of letters without accents, digits, `_` and `-`, that differ by more than case"
        raise ValueError(message)

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> "TelemetrySection":
        if not self.sources:
            if self.align is not None:
                message = "`sources` with `align`, or neither"
                raise ValueError(message)
            _check_origin(self)
            return self
        # a job that was recorded has every key, with its default
        usual = {name: field.default for name, field in ReadingSection.model_fields.items()}
        stray = [name for name, default in usual.items() if getattr(self, name) != default]
        if stray:
            message = f"only `t0` and `align` beside `sources`; `{stray[0]}` belongs beneath `[telemetry.sources.NAME]`"
            raise ValueError(message)
        return self


class FleetSection(Section):
    """Many assets in place of one, calibrated together; telemetry is then that of each.

    Attributes:
        by: What names an asset: a column of a long table, the folders `asset=…` of a Parquet dataset, and a column of
            `attributes`. Of a folder of files, one an asset, their names do, without what follows the last dot.
        attributes: CSV, Parquet or netCDF file with a row an asset, relative to the job file. Its other columns become
            constant columns of the telemetry, with `units` and `rename` as `[telemetry]` has them.
        pool: Whether assets are calibrated together; if not, each by itself, by `bayestwin fleet`.
    """

    by: str = "asset"
    attributes: str | None = None
    pool: bool = True


class PopulationSection(Section):
    """What other assets are known to be, where this one starts.

    Attributes:
        posterior: Their posterior, by the same twin: a file that `bayestwin calibrate` left, relative to the job file.
    """

    posterior: str


WHOLE_FILE = {"dataset": None, "database": None, "query": None, "parameters": {}, "filters": [], "columns": None}
"""What a table says that reads all of one file."""


def _check_origin(section: ReadingSection) -> None:
    message = ""
    if [section.file, section.dataset, section.database].count(None) != 2:
        message = "one of `file`, `dataset` and `database`"
    elif (section.database is None) != (section.query is None):
        message = "`query` with `database`, and with nothing else"
    elif section.parameters and section.query is None:
        message = "`parameters` with `query`, and with nothing else"
    elif section.file is None and (section.filters or section.columns is not None):
        message = "`filters` and `columns` with a `file` of Parquet, and with nothing else"
    if message:
        raise ValueError(message)


# The tables of a job file about features: `[features.NAME]`, with a `kind` that its other keys depend on.


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
