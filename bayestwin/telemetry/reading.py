"""Reading telemetry: the one function for files, tables and datasets, and which signals a file holds."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.telemetry.mending import Drop, Fill, How
from bayestwin.telemetry.ordering import Duplicates, Order
from bayestwin.telemetry.record import Telemetry
from bayestwin.telemetry.rows import read_rows, signals, time_apart
from bayestwin.telemetry.settings import Layout, Settings
from bayestwin.telemetry.sources import read_source
from bayestwin.telemetry.times import Ambiguous


def read_telemetry(
    data: str | pathlib.Path | pd.DataFrame | xr.Dataset,
    *,
    time: str = "time",
    units: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    t0: Any = None,
    timezone: str | None = None,
    ambiguous: Ambiguous | None = None,
    duplicates: Duplicates = "error",
    order: Order = "sort",
    sentinels: Sequence[float | str] | None = None,
    separator: str = ",",
    decimal: str = ".",
    known_at: str | None = None,
    as_of: Any = None,
    layout: Layout = "wide",
    variable: str = "variable",
    value: str = "value",
    time_format: str | None = None,
    drop: Sequence[Drop] | None = None,
    fill: Mapping[str, How | Fill] | None = None,
) -> Telemetry:
    """Read telemetry from a CSV, Parquet or netCDF file, a pandas table or an xarray dataset.

    What is done to the data is said in `notices` of the result, in this order: revisions (`known_at`), `sentinels`,
    `order` and `duplicates`, `drop`, `fill`. Names of columns may differ in case and in blanks around them.

    Args:
        data: Path of a file, or the table itself.
        time: Column (or index, or coordinate) with the times: ISO dates, or numbers in the twin's `time_unit` unless
            `units` says otherwise.
        units: Unit of each column, under its name in the data or its new name; those that xarray variables or pint
            quantities state are known already.
        rename: Names in the data → names in the twin.
        t0: When the initial state holds, ISO 8601 text, a date or a number as all moments; by default the first time.
        timezone: Zone of dates, and of moments given here and later, without a UTC offset; by default UTC. It also
            says that dates with different offsets are meant: those of this zone, or any with `"UTC"`.
        ambiguous: Where the clock went back, `"earlier"` or `"later"` of the two instants, or `"infer"` it from the
            order of the rows; an error by default.
        duplicates: What to do with rows of one time: keep the `"first"` or `"last"`, or take the `"mean"` of each
            column; an error by default.
        order: Whether rows out of order are sorted (`"sort"`) or an error (`"error"`).
        sentinels: Numbers or text that mean “missing”, such as `(-999, "OVERFLOW")`. By default none do, and numbers
            that usually do and lie apart from all others are an error; with `()` every number is a value.
        separator: Between the columns of a CSV file.
        decimal: Decimal sign, `"."` or `","`.
        known_at: Column that says when a row became known; of several rows of one time the newest counts.
        as_of: Rows that became known later are left out, as if it were then.
        layout: `"wide"` with one column a signal, or `"long"` with one row a value.
        variable: Column of a long table with the name of the signal.
        value: Column of a long table with the value.
        time_format: How `time` and `known_at` are written, such as `"%d.%m.%Y %H:%M"`; by default as ISO 8601 has it.
        drop: Stretches whose values become missing, such as `[{"column": "flow", "start": "2026-03-01"}]`: from
            `start` to `end`, both included; of all columns where none is named.
        fill: How cells between known values are filled, by column: `"previous"`, the value before, or `"linear"`, on
            the line between both; `{"how": "linear", "within": "15min"}` where these lie no further apart than that.

    Returns:
        The telemetry, one column a signal.

    Raises:
        InvalidTelemetry: If there is no such file or column, no row, a value that is not a number, a time that is
            missing, duplicate or ambiguous, or a unit that contradicts that of the data.
        UnsafeArtifact: If `data` is the address of something remote, or a netCDF file that reaches out of itself.
        InvalidSetting: If a Parquet file is given and pyarrow is not installed.
    """
    rows = read_source(data, separator, decimal)
    return read_rows(
        rows,
        time=time,
        units=units,
        rename=rename,
        t0=t0,
        timezone=timezone,
        ambiguous=ambiguous,
        duplicates=duplicates,
        order=order,
        sentinels=sentinels,
        decimal=decimal,
        known_at=known_at,
        as_of=as_of,
        layout=layout,
        variable=variable,
        value=value,
        time_format=time_format,
        drop=drop,
        fill=fill,
    )


def signals_of(path: pathlib.Path, **settings: Unpack[Settings]) -> set[str]:
    """The signals that a file holds, and its time; none where it does not read, which `read_telemetry` explains."""
    try:
        rows = read_source(path, settings.get("separator", ","), settings.get("decimal", "."))
        table, _, time = time_apart(rows.table, settings.get("time", "time"))
        if settings.get("layout") == "long":
            _, names, _ = signals(table, settings)
            return {time, *map(str, names)}
    except (InvalidTelemetry, InvalidSetting):
        return set()
    return {time, *map(str, table.columns)}
