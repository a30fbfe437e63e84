"""The tables of a job file about telemetry: one source, or several and how they become one."""

import re
from typing import Literal

import pydantic

from bayestwin.project.section import Moment, Section


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

    how: Literal["previous", "linear"]
    within: float | str | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _how_alone(cls, found: object) -> object:
        return {"how": found} if isinstance(found, str) else found


class ReadingSection(Section):
    """How a source is read; all but the first two as in `bt.read_telemetry`.

    Attributes:
        file: CSV, Parquet or netCDF file, relative to the job file.
        dataset: Name for `bt.datasets.load`, instead of a file.
        time: Column with the times.
        units: Unit of each column.
        rename: Columns → names in the twin.
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
        time_format: How dates are written, in the codes of `strptime`.
        drop: Stretches whose values become missing.
        fill: How missing cells are filled, by column.
    """

    file: str | None = None
    dataset: str | None = None
    time: str = "time"
    units: dict[str, str] = {}
    rename: dict[str, str] = {}
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
    time_format: str | None = None
    drop: list[DropSection] = []
    fill: dict[str, FillSection] = {}


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
    """

    every: float | str
    side: Literal["left", "right"] | None = None
    how: dict[str, Literal["mean", "last", "interpolate"]]
    window: float | str | None = None


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


def _check_origin(section: ReadingSection) -> None:
    if (section.file is None) == (section.dataset is None):
        message = "either `file` or `dataset`, and not both"
        raise ValueError(message)
