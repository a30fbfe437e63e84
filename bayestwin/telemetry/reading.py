"""Reading telemetry: from rows as they stand to one row a time and one column a signal, each step said."""

import difflib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidSetting, InvalidTelemetry, explain
from bayestwin.telemetry.carried_units import joined
from bayestwin.telemetry.columns import check_unique, find, found_names, numbers, tidy
from bayestwin.telemetry.ordering import Duplicates, Order, in_order, revisions
from bayestwin.telemetry.record import Telemetry, sealed
from bayestwin.telemetry.sources import Rows, read_source
from bayestwin.telemetry.times import Ambiguous, Clock, given_time, parse_times

type Layout = Literal["wide", "long"]

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "ambiguous": (None, "earlier", "later", "infer"),
    "duplicates": ("error", "first", "last", "mean"),
    "order": ("sort", "error"),
    "layout": ("wide", "long"),
    "decimal": (".", ","),
}

_SHAPING = {
    "timezone": None,
    "ambiguous": None,
    "duplicates": "error",
    "sentinels": None,
    "known_at": None,
    "as_of": None,
}
"""Settings that change values or choose among them, with their defaults."""


class Settings(TypedDict, total=False):
    """Arguments of `read_telemetry` by name, for what hands them on."""

    time: str
    units: Mapping[str, str] | None
    rename: Mapping[str, str] | None
    t0: Any
    timezone: str | None
    ambiguous: Ambiguous | None
    duplicates: Duplicates
    order: Order
    sentinels: Sequence[float | str] | None
    separator: str
    decimal: str
    known_at: str | None
    as_of: Any
    layout: Layout
    variable: str
    value: str


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
) -> Telemetry:
    """Read telemetry from a CSV, Parquet or netCDF file, a pandas table or an xarray dataset.

    What is done to the data on the way (sorted, left out, taken as missing) is said in `notices` of the result. Names
    of columns may differ from those given here in case and in blanks around them.

    Args:
        data: Path of a file, or the table itself.
        time: Column (or index, or coordinate) that holds the times: ISO dates or numbers. Numbers count in the
            twin's `time_unit` unless `units` says otherwise.
        units: Unit of each column, under its name in the data or its new name. Those that xarray variables state in
            their attributes, or pint quantities, are known already.
        rename: Names in the data → names in the twin.
        t0: When the initial state holds; by default the first time.
        timezone: Zone of dates without a UTC offset, `t0` and `as_of` included; by default they are UTC. It also
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
    )


def signals_of(path: pathlib.Path, **settings: Unpack[Settings]) -> set[str]:
    """The signals that a file holds, and its time; none where it does not read, which `read_telemetry` explains."""
    try:
        rows = read_source(path, settings.get("separator", ","), settings.get("decimal", "."))
        table, _, time = _time_apart(rows.table, settings.get("time", "time"))
        if settings.get("layout") == "long":
            _, names, _ = _signals(table, settings)
            return {time, *map(str, names)}
    except (InvalidTelemetry, InvalidSetting):
        return set()
    return {time, *map(str, table.columns)}


def read_rows(rows: Rows, **settings: Unpack[Settings]) -> Telemetry:
    """Telemetry from rows that have been read; settings and errors are those of `read_telemetry`."""
    _check_choices(settings)
    clock = Clock(settings.get("timezone"), settings.get("ambiguous"))
    table, raw_times, time = _time_apart(rows.table, settings.get("time", "time"))
    if len(table) == 0:
        message = explain(
            "Telemetry has no rows.",
            expected="at least one time",
            received="an empty table",
            advice="Check the file, and any filter in front of it.",
        )
        raise InvalidTelemetry(message)
    times, notices = parse_times(raw_times, time, clock)
    table, names, said = _signals(table, settings)
    kept, more = _in_force(table, times, names, settings, clock)
    table = table.drop(columns=find(settings.get("known_at") or "", table.columns), errors="ignore")
    blocks, told = _blocks(table, times, names, kept, settings, time)
    wide = pd.concat(blocks, axis="columns", join="outer").sort_index() if len(blocks) > 1 else blocks[0]
    wide.index.name = "time"
    columns = [str(name) for name in (pd.unique(names) if settings.get("layout") == "long" else table.columns)]
    rename = found_names(settings.get("rename") or {}, columns, "rename")
    check_unique(pd.Index([rename.get(column, column) for column in columns]))
    units = joined(*_units(rows.units, settings.get("units") or {}, rename, columns, time))
    wide = wide.rename(columns=rename)
    if isinstance(wide.index, pd.DatetimeIndex):
        units.pop("time", None)
    t0 = settings.get("t0")
    t0 = wide.index[0] if t0 is None else given_time(t0, wide.index, clock)
    shaping = {
        name: _plain(settings.get(name)) for name, usual in _SHAPING.items() if settings.get(name, usual) != usual
    }
    notices = (*rows.notices, *notices, *said, *more, *told)
    return sealed(wide, units, t0, rows.source, notices, shaping)


def _time_apart(table: pd.DataFrame, time: str) -> tuple[pd.DataFrame, pd.Index, str]:
    """Columns, the times as they stand, and the name that their column really has."""
    table = tidy(table)
    time = find(time, table.columns)
    if time in table.columns:
        return table.drop(columns=time).reset_index(drop=True), pd.Index(table[time]), time
    if table.index.name == time or not isinstance(table.index, pd.RangeIndex):
        return table.reset_index(drop=True), table.index, time
    message = explain(
        f"Telemetry has no time column `{time}`.",
        expected=f"one of {', '.join(f'`{c}`' for c in table.columns)} named as the time",
        received=f"`time='{time}'`",
        advice="Pass `time='<the column with the times>'`.",
    )
    raise InvalidTelemetry(message)


def _signals(table: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """The columns that matter, the signal of each row where the layout is long, and notices."""
    if settings.get("layout", "wide") == "wide":
        return table, np.zeros(len(table), dtype=np.int64), ()
    wanted = [settings.get("variable", "variable"), settings.get("value", "value")]
    wanted = list(found_names(dict.fromkeys(wanted), table.columns, "layout='long'"))
    variable = wanted[0]
    wanted += [find(known, table.columns)] if (known := settings.get("known_at")) else []
    others = [column for column in table.columns if column not in wanted]
    said = (f"Columns that the long layout does not use were left out: {', '.join(others)}.",) if others else ()
    nameless = np.flatnonzero(table[variable].isna())
    if nameless.size:
        message = explain(
            f"Rows of the long table have no name in `{variable}`.",
            expected="the name of a signal in each row",
            received=f"{nameless.size} rows without one, the first is row {nameless[0] + 1}",
            advice="Drop these rows, or name them.",
        )
        raise InvalidTelemetry(message)
    names = table[variable].astype(str).str.strip().to_numpy(dtype=object)
    return table.loc[:, [name for name in wanted if name in table.columns and name != variable]], names, said


def _in_force(
    table: pd.DataFrame, times: pd.Index, names: np.ndarray, settings: Settings, clock: Clock
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which rows count: all, or those in force at a moment."""
    known_at, as_of = settings.get("known_at"), settings.get("as_of")
    if known_at is None and as_of is None:
        return np.ones(len(times), dtype=bool), ()
    if known_at is None:
        message = explain(
            "`as_of` is given, but not when each row became known.",
            expected="`known_at='<the column that says when>'` with it",
            received=f"`as_of={as_of!r}` alone",
            advice="To cut the record itself, use `telemetry.between(end=…)`.",
        )
        raise InvalidTelemetry(message)
    (column,) = found_names({known_at: None}, table.columns, "known_at")
    known, notices = parse_times(pd.Index(table[column]), column, clock)
    moment = None if as_of is None else given_time(as_of, known, clock)
    kept, more = revisions(times, names, known, moment, column)
    return kept, (*notices, *more)


def _blocks(
    table: pd.DataFrame, times: pd.Index, names: np.ndarray, kept: np.ndarray, settings: Settings, time: str
) -> tuple[list[pd.DataFrame], tuple[str, ...]]:
    """Numbers in order of time: all columns at once, or signal by signal of a long table; and notices."""
    long = settings.get("layout", "wide") == "long"
    blocks, notices = [], []
    for name in pd.unique(names[kept]):
        rows = np.flatnonzero(kept & (names == name))
        block = table.iloc[rows]
        block = (block.set_axis([name], axis="columns") if long else block).set_axis(times[rows])
        found, said = numbers(block, rows, settings.get("sentinels"), settings.get("decimal", "."))
        found, told = in_order(found, rows, time, settings.get("order", "sort"), settings.get("duplicates", "error"))
        blocks.append(found)
        notices += [*said, *((f"`{name}`: {one}" for one in told) if long else told)]
    return blocks, tuple(notices)


def _units(
    carried: Mapping[str, str], given: Mapping[str, str], rename: Mapping[str, str], columns: Sequence[str], time: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Units that the data carry and those that are given, both by the final names of columns; time is `time`."""
    final = dict(rename) | {time: "time"}
    renamed = [rename.get(column, column) for column in columns]
    known = {final.get(name.strip(), name.strip()): unit for name, unit in carried.items()}
    named = {find(name, [*columns, *renamed, time, "time"]): unit for name, unit in given.items()}
    named = {final.get(name, name): unit for name, unit in named.items()}
    found_names(named, [*renamed, "time"], "units")
    return {name: unit for name, unit in known.items() if name in (*renamed, "time")}, named


def _check_choices(settings: Settings) -> None:
    for argument, choices in CHOICES.items():
        received = settings.get(argument, choices[0])
        if received not in choices:
            close = difflib.get_close_matches(str(received), [str(choice) for choice in choices], n=1)
            message = explain(
                f"`{argument}` has no such choice.",
                expected=", ".join(repr(choice) for choice in choices),
                received=repr(received),
                advice=f"Did you mean `{close[0]}`?" if close else "Choose one of them.",
            )
            raise InvalidTelemetry(message)


def _plain(value: Any) -> Any:
    """A setting as text and numbers, the same for the same meaning."""
    return [*map(_plain, value)] if isinstance(value, list | tuple) else value if value is None else str(value)
