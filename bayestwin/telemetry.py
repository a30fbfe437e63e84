"""Telemetry: what was recorded, with its own times and units. Reading it; binding it to a twin is `bind.py`.

A table has one row a time and one column a signal; NaN is a missing value. Times are dates (kept in UTC) or numbers.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.units import check_unit, convert


@dataclasses.dataclass(frozen=True)
class Telemetry:
    """Recorded signals of one asset.

    Attributes:
        table: One column a signal; the index `time` holds dates (UTC, without zone) or numbers, increasing.
        units: Unit of each column where it is known; otherwise the unit of the twin is taken.
        t0: When the initial state holds; not after the first row.
        source: Where the table came from.
        sha256: Fingerprint of times, values, units and `t0`.
    """

    table: pd.DataFrame
    units: Mapping[str, str]
    t0: Any
    source: str
    sha256: str

    @property
    def dated(self) -> bool:
        """Whether times are dates rather than numbers."""
        return isinstance(self.table.index, pd.DatetimeIndex)

    def between(self, start: Any = None, end: Any = None) -> "Telemetry":
        """The rows with `start <= time < end`; `t0` stays where it is.

        Args:
            start: First time kept; the beginning by default.
            end: First time dropped; nothing is dropped by default.

        Raises:
            InvalidTelemetry: If no row is left.
        """
        times = self.table.index
        keep = np.ones(len(times), dtype=bool)
        if start is not None:
            keep &= np.asarray(times >= time_in(start, times))
        if end is not None:
            keep &= np.asarray(times < time_in(end, times))
        if not keep.any():
            message = explain(
                "No telemetry is left between the given times.",
                expected=f"times between {times[0]} and {times[-1]}",
                received=f"start {start}, end {end}",
                advice="Choose limits inside the record.",
            )
            raise InvalidTelemetry(message)
        return _sealed(self.table.loc[keep], self.units, self.t0, self.source)

    def in_unit(self, column: str, unit: str) -> np.ndarray:
        """The values of a column in a unit; where the telemetry states none, they are taken to be in it already.

        Raises:
            InvalidTelemetry: If the units have different dimensions.
        """
        values = self.table[column].to_numpy(np.float64)
        return convert(values, self.units.get(column, unit), unit, f"telemetry column `{column}`", InvalidTelemetry)


def read_telemetry(
    data: str | pathlib.Path | pd.DataFrame | xr.Dataset,
    *,
    time: str = "time",
    units: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    t0: Any = None,
) -> Telemetry:
    """Read telemetry from a CSV file, a pandas table or an xarray dataset.

    Args:
        data: Path of a CSV file, or the table itself.
        time: Column (or index, or coordinate) that holds the times: ISO dates or numbers. Numbers count in the
            twin's `time_unit` unless `units` says otherwise.
        units: Unit of each column, under its name in the data or its new name.
        rename: Names in the data → names in the twin.
        t0: When the initial state holds; by default the first time.

    Returns:
        The telemetry, one column a signal.

    Raises:
        InvalidTelemetry: If there is no such file or column, no row, a value that is not a number, or a time that is
            missing, duplicate, unsorted or ambiguous.
    """
    table, source = read_table(data)
    _check_flat(table)
    if time in table.columns:
        table = table.set_index(time)
    elif table.index.name != time and isinstance(table.index, pd.RangeIndex):
        message = explain(
            f"Telemetry has no time column `{time}`.",
            expected=f"one of {', '.join(f'`{c}`' for c in table.columns)} named as the time",
            received=f"`time='{time}'`",
            advice="Pass `time='<the column with the times>'`.",
        )
        raise InvalidTelemetry(message)
    rename = dict(rename or {})
    _check_known(rename, table.columns, "rename")
    named = {rename.get(c, c): u for c, u in (units or {}).items()}
    table = table.rename(columns=rename)
    _check_unique(table.columns)
    _check_known(named, [*table.columns, time], "units")
    for column, unit in named.items():
        check_unit(unit, f"telemetry column `{column}`", InvalidTelemetry)
    table = _numbers(table)
    table.index = _times(table.index, time)
    table.index.name = "time"
    if "time" not in named and time in named:
        named["time"] = named.pop(time)
    return _sealed(table, named, table.index[0] if t0 is None else time_in(t0, table.index), source)


def _sealed(table: pd.DataFrame, units: Mapping[str, str], t0: Any, source: str) -> Telemetry:
    """Telemetry with its fingerprint, which depends on content alone and not on the file's name or layout."""
    digest = hashlib.sha256()
    digest.update(np.asarray(table.index).tobytes())
    for column in sorted(table.columns):
        digest.update(column.encode() + table[column].to_numpy(np.float64).tobytes())
    digest.update(repr((sorted(units.items()), str(t0))).encode())
    return Telemetry(table, dict(units), t0, source, digest.hexdigest())


def read_table(data: Any) -> tuple[pd.DataFrame, str]:
    """A file, a table or a dataset as a table of one's own, and where it came from."""
    if isinstance(data, pd.DataFrame):
        return data.copy(), "pandas table"
    if isinstance(data, xr.Dataset):
        return data.to_dataframe(), "xarray dataset"
    path = pathlib.Path(data) if isinstance(data, str | os.PathLike) else None
    if path is None or not path.is_file():
        message = explain(
            f"There is no telemetry file `{path}`." if path else "Telemetry comes from something else.",
            expected="the path of a CSV file, a pandas table or an xarray dataset",
            received=f"`{path}`" if path else type(data).__name__,
            advice="Check the path; it is taken from the current folder.",
        )
        raise InvalidTelemetry(message)
    try:
        return pd.read_csv(path, comment="#", skipinitialspace=True, encoding="utf-8-sig"), path.name
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as reason:
        message = explain(
            f"`{path}` does not read as a CSV file.",
            expected="comma-separated UTF-8 text with one header line",
            received=str(reason),
            advice="For other layouts read it with pandas and pass the table.",
        )
        raise InvalidTelemetry(message) from reason


def _check_known(mapping: Mapping[str, str], columns: Any, argument: str) -> None:
    for name in mapping:
        if name not in columns:
            message = explain(
                f"`{argument}` names the column `{name}`, which the telemetry does not have.",
                expected=", ".join(f"`{c}`" for c in columns),
                received=f"`{name}`",
                advice="Correct the name.",
            )
            raise InvalidTelemetry(message)


def _check_flat(table: pd.DataFrame) -> None:
    """Levels of columns, or of rows as a two-dimensional variable gives them, have no place in a record of signals."""
    for what, index in (("column", table.columns), ("row", table.index)):
        if isinstance(index, pd.MultiIndex):
            message = explain(
                f"Telemetry has {what}s in {index.nlevels} levels.",
                expected="one row a time and one column a signal, each value a plain number",
                received=f"levels {', '.join(f'`{n}`' for n in index.names)}",
                advice="Select one entry of the further dimension, or give each a column of its own.",
            )
            raise InvalidTelemetry(message)


def _check_unique(columns: pd.Index) -> None:
    twice = columns[columns.duplicated()]
    if twice.size:
        message = explain(
            f"Telemetry has two columns called `{twice[0]}`.",
            expected="each name once, also after `rename`",
            received=", ".join(f"`{c}`" for c in columns),
            advice="Drop one of them, or rename it.",
        )
        raise InvalidTelemetry(message)


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """All columns as float64; columns that are no numbers at all are dropped, mixed ones are an error."""
    if len(table) == 0:
        message = explain(
            "Telemetry has no rows.",
            expected="at least one time",
            received="an empty table",
            advice="Check the file, and any filter in front of it.",
        )
        raise InvalidTelemetry(message)
    columns = {}
    for name in table.columns:
        numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=np.float64)
        bad = np.isnan(numbers) & table[name].notna().to_numpy()
        if bad.all():
            continue
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            message = explain(
                f"Telemetry column `{name}` holds something that is not a number.",
                expected="numbers, and nothing or NaN where a value is missing",
                received=f"{table[name].iloc[row]!r} in row {row + 1}, and {int(bad.sum())} such cells in all",
                advice="Replace them with NaN if they mean “missing”.",
            )
            raise InvalidTelemetry(message)
        if np.isinf(numbers).any():
            message = explain(
                f"Telemetry column `{name}` holds an infinite value.",
                expected="finite numbers, or NaN for missing",
                received=f"{int(np.isinf(numbers).sum())} infinite cells",
                advice="Replace them with NaN if they mean “missing”.",
            )
            raise InvalidTelemetry(message)
        columns[name] = numbers
    return pd.DataFrame(columns, index=table.index)


def _times(index: pd.Index, name: str) -> pd.Index:
    """Times as UTC dates or float64 numbers, checked to be there, unique and increasing."""
    if not pd.api.types.is_numeric_dtype(index.dtype) and not isinstance(index, pd.DatetimeIndex):
        index = _dates(index, name)
    if isinstance(index, pd.DatetimeIndex):
        index = (index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index).as_unit("ns")
    else:
        index = pd.Index(index.to_numpy(np.float64))
    missing = np.flatnonzero(index.isna() | ~np.isfinite(index.to_numpy().astype(np.float64)))
    if missing.size:
        raise InvalidTelemetry(_time_message(name, "is missing", missing, "Drop these rows or fill in their times."))
    steps = np.diff(index.to_numpy()).astype(np.float64)
    if (steps < 0).any():
        rows = np.flatnonzero(steps < 0) + 1
        raise InvalidTelemetry(
            _time_message(name, "runs backwards", rows, f"Sort it first: `table.sort_values('{name}')`.")
        )
    if (steps == 0).any():
        rows = np.flatnonzero(steps == 0) + 1
        raise InvalidTelemetry(
            _time_message(name, "occurs twice", rows, f"Keep one: `table.drop_duplicates('{name}')`.")
        )
    return index


def _dates(index: pd.Index, name: str) -> pd.DatetimeIndex:
    try:
        zoned = index.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
        if zoned.any() and not zoned.all():
            reason = "some times have a UTC offset and some have none"
            raise ValueError(reason)
        return pd.DatetimeIndex(pd.to_datetime(index, format="ISO8601", utc=bool(zoned.any())))
    except ValueError as reason:
        message = explain(
            f"The times in `{name}` do not read as dates.",
            expected="ISO dates such as 2026-03-29T13:00:00 or 2026-03-29 13:00+01:00 throughout, or numbers",
            received=f"{index[0]!r}, … ({reason})",
            advice="03/04/2026 is ambiguous: convert with `pandas.to_datetime(..., format=...)` first.",
        )
        raise InvalidTelemetry(message) from reason


def _time_message(name: str, what: str, rows: np.ndarray, advice: str) -> str:
    shown = ", ".join(str(row + 1) for row in rows[:5]) + (", …" if rows.size > 5 else "")
    return explain(
        f"The time in `{name}` {what}.",
        expected="one time a row, each after the one before",
        received=f"{rows.size} such row{'s' if rows.size > 1 else ''}: row {shown}",
        advice=advice,
    )


def time_in(value: Any, index: pd.Index) -> Any:
    """A time given by the user, in the terms of the telemetry's own times."""
    try:
        if isinstance(index, pd.DatetimeIndex):
            if isinstance(value, int | float):
                reason = "a number where the telemetry has dates"
                raise TypeError(reason)
            stamp = pd.Timestamp(value)
            return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo is not None else stamp
        return float(value)
    except (TypeError, ValueError) as reason:
        message = explain(
            "A time does not fit the times of the telemetry.",
            expected="a date" if isinstance(index, pd.DatetimeIndex) else "a number",
            received=f"{value!r}",
            advice=f"The telemetry runs from {index[0]} to {index[-1]}.",
        )
        raise InvalidTelemetry(message) from reason
