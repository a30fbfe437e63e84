"""Reading telemetry: `read_telemetry` for files, tables and datasets, its settings, and several experiments at once."""

import contextlib
import datetime as dt
import difflib
import inspect
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, TypedDict, Unpack, get_args, get_origin

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.telemetry.columns import Numbers, check_unique, find, found_names, joined, labelled, numbers, tidy
from bayestwin.telemetry.mending import Drop, Fill, FillHow, dropped, filled
from bayestwin.telemetry.record import Telemetry, sealed
from bayestwin.telemetry.selecting import Selection, refuse_open_order
from bayestwin.telemetry.sources import Rows, SkippedRows, read_source
from bayestwin.telemetry.times import (
    Ambiguous,
    Clock,
    Duplicates,
    Order,
    given_time,
    in_order,
    parse_times,
    refuse_written_dates,
    revisions,
)

# The settings of reading. The signature of `read_telemetry` is the one place that has their defaults, and the types
# here that have what there is to choose; the type below only repeats the signature, for what hands settings on.

type TableLayout = Literal["wide", "long"]
type DecimalSign = Literal[".", ","]

SHAPING = ("timezone", "ambiguous", "duplicates", "sentinels", "time_format", "known_at")
"""Settings that change values or choose among them: they are in the fingerprint where they are not as usual."""


class ReadingSettings(TypedDict, total=False):
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
    decimal: DecimalSign
    known_at: str | None
    as_of: Any
    layout: TableLayout
    variable: str
    value: str
    time_format: str | None
    drop: Sequence[Drop] | None
    fill: Mapping[str, FillHow | Fill] | None
    skip_rows: SkippedRows
    query: str | None
    parameters: Mapping[str, Any] | None
    filters: Sequence[Sequence[Any]] | None
    columns: Sequence[str] | None


def check_choices(settings: Mapping[str, Any]) -> None:
    """Refuse a choice that there is none of.

    Raises:
        InvalidTelemetry: Naming those that there are.
    """
    for argument, choices in CHOICES.items():
        received = settings[argument]
        if received not in choices:
            close = difflib.get_close_matches(str(received), [str(choice) for choice in choices], n=1)
            raise InvalidTelemetry(
                f"`{argument}` has no such choice.",
                expected=", ".join(repr(choice) for choice in choices),
                received=repr(received),
                advice=f"Did you mean `{close[0]}`?" if close else "Choose one of them.",
            )


def plain(value: Any) -> Any:
    """A setting as text and numbers, the same for the same meaning."""
    return [*map(plain, value)] if isinstance(value, list | tuple) else value if value is None else str(value)


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
    decimal: DecimalSign = ".",
    known_at: str | None = None,
    as_of: Any = None,
    layout: TableLayout = "wide",
    variable: str = "variable",
    value: str = "value",
    time_format: str | None = None,
    drop: Sequence[Drop] | None = None,
    fill: Mapping[str, FillHow | Fill] | None = None,
    skip_rows: SkippedRows = 0,
    query: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    filters: Sequence[Sequence[Any]] | None = None,
    columns: Sequence[str] | None = None,
) -> Telemetry:
    """Read telemetry from a CSV, Parquet or netCDF file, PostgreSQL, a pandas table or an xarray dataset.

    What is done to the data is said in `notices` of the result, in this order: revisions (`known_at`), `sentinels`,
    `order` and `duplicates`, `drop`, `fill`. Names of columns may differ in case and in blanks around them.

    Args:
        data: Path of a file, or of a folder of Parquet files; the table itself; or the address of a PostgreSQL or
            TimescaleDB database, such as `"postgresql://ann@host/plant"`, to which a `query` belongs. A password
            comes from the environment (`PGPASSWORD`, or a password file), and is refused in an address.
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
        duplicates: What to do with rows of one time: keep `"all"`, as replicates of which each counts, the `"first"` or
            the `"last"`, or take the `"mean"` of each column; an error by default.
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
        skip_rows: Lines of a CSV file that are left out: how many stand before the names of the columns, or a list of
            their numbers from 1 on, such as `[2]` for units beneath the names.
        query: One SELECT, which a database answers in a transaction that only reads; `%(name)s` stands for a parameter.
        parameters: Values by name, which are bound to the query and never written into it: numbers, text, dates.
            Moments without an offset are on the clock of `timezone`, else in UTC.
        filters: What rows of Parquet files must fulfil, all together: `[("asset", "==", "pump-7"), ("time", ">=",
            "2026-03-01")]`, with `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`. What cannot fit is not read.
        columns: Which columns of Parquet files are read; by default all.

    Returns:
        The telemetry, one column a signal.

    Raises:
        InvalidTelemetry: If there is no such file or column, no row, a value that is not a number, a time that is
            missing, duplicate or ambiguous, or a unit that contradicts that of the data.
        UnsafeArtifact: If `data` is the address of anything else remote, or a netCDF file that reaches out of itself.
        InvalidInput: If an address holds a password.
        InvalidSetting: If what reads it is not installed: pyarrow for Parquet, psycopg for databases.
        Unreachable: If a database does not answer.
    """
    settings: Any = {name: value for name, value in locals().items() if name != "data"}  # as the signature names them
    return read_rows(_rows_of(data, settings), **settings)


def _rows_of(data: Any, settings: Mapping[str, Any], by: str = "") -> Rows:
    """The rows that settings ask for; `by` is a column of names."""
    chosen = Selection(**{name: settings[name] for name in Selection._fields})
    refuse_open_order(chosen, settings["duplicates"], settings["ambiguous"])
    return read_source(data, settings["separator"], settings["decimal"], settings["skip_rows"], by, chosen)


_ARGUMENTS = {name: one for name, one in inspect.signature(read_telemetry).parameters.items() if name != "data"}

USUAL: Mapping[str, Any] = {name: argument.default for name, argument in _ARGUMENTS.items()}
"""All settings of reading with their defaults."""


def _choices_of(annotation: Any) -> tuple[Any, ...]:
    """What there is to choose from, such as `(None, "earlier", "later", "infer")`; nothing where anything may stand."""
    annotation = getattr(annotation, "__value__", annotation)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    nothing = [one for one in get_args(annotation) if one is NoneType]
    inner = [_choices_of(one) for one in get_args(annotation) if one is not NoneType]
    return (*(None for _ in nothing), *inner[0]) if len(inner) == 1 and inner[0] and nothing else ()


CHOICES: Mapping[str, tuple[Any, ...]] = {
    name: choices for name, argument in _ARGUMENTS.items() if (choices := _choices_of(argument.annotation))
}
"""What there is to choose, by setting."""


def signals_of(path: pathlib.Path, **settings: Unpack[ReadingSettings]) -> set[str]:
    """The signals that a file holds, and its time; none where it does not read, which `read_telemetry` explains."""
    chosen = {**USUAL, **settings}
    try:
        rows = read_source(path, chosen["separator"], chosen["decimal"], chosen["skip_rows"])
        table, _, time = time_apart(rows.table, chosen["time"])
        if chosen["layout"] == "long":
            _, names, _ = signals(table, chosen)
            return {time, *map(str, names)}
    except (InvalidTelemetry, InvalidSetting):
        return set()
    return {time, *map(str, table.columns)}


# From rows as they stand to one row a time and one column a signal, each step said and what is wrong said at once.


def read_rows(rows: Rows, **settings: Unpack[ReadingSettings]) -> Telemetry:
    """Telemetry from rows that have been read; settings and errors are those of `read_telemetry`."""
    chosen = {**USUAL, **settings}
    check_choices(chosen)
    clock = Clock(chosen["timezone"], chosen["ambiguous"], chosen["time_format"])
    table, raw_times, time = time_apart(rows.table, chosen["time"])
    if len(table) == 0:
        raise InvalidTelemetry(
            "Telemetry has no rows.",
            expected="at least one time",
            received="an empty table",
            advice="Check the file or the query, and any filter in front of it.",
        )
    wrong: list[InvalidTelemetry] = []
    times, notices = pd.Index(np.arange(len(table), dtype=np.float64)), ()
    with _noted(wrong):
        times, notices = parse_times(raw_times, time, clock)
    table, names, said = signals(table, chosen)
    known_at = find(chosen["known_at"] or "", table.columns)
    long = chosen["layout"] == "long"
    columns = [str(name) for name in (pd.unique(names) if long else table.columns.drop(known_at, errors="ignore"))]
    renamed, units = {}, {}
    with _noted(wrong):
        renamed = found_names(chosen["rename"] or {}, columns, "rename")
        check_unique(pd.Index([renamed.get(column, column) for column in columns]))
        units = joined(*_units(rows.units, chosen["units"] or {}, renamed, columns, time))
    labels = labelled(columns, renamed)
    kept, more = np.ones(len(times), dtype=bool), ()
    if not wrong:
        kept, more = _in_force(table, times, names, chosen, clock)
    table = table.drop(columns=known_at, errors="ignore")
    with _noted(wrong):
        if "time" not in units:
            refuse_written_dates(raw_times, time, clock)
    blocks: list[Numbers] = []
    with _noted(wrong):
        declared = {column: units[new] for column in columns if (new := renamed.get(column, column)) in units}
        blocks = _blocks(table, times, names, kept, chosen, time, labels, declared)
    if wrong:
        raise InvalidTelemetry.all_of(wrong)
    tables = [block.table for block in blocks]
    wide = _side_by_side(tables) if len(tables) > 1 else tables[0]
    told = [notice for block in blocks for notice in block.notices]
    units |= {renamed.get(name, name): unit for block in blocks for name, unit in block.units.items()}
    texts = {renamed.get(name, name): text for block in blocks for name, text in block.texts.items()}
    wide.index.name = "time"
    wide, mended, shaped = _mended(wide, chosen, clock, renamed)
    wide = wide.rename(columns=renamed)
    if isinstance(wide.index, pd.DatetimeIndex):
        units.pop("time", None)
    t0 = chosen["t0"]
    t0 = wide.index[0] if t0 is None else given_time(t0, wide.index, clock, "t0")
    shaping = {name: plain(chosen[name]) for name in SHAPING if chosen[name] != USUAL[name]}
    if (as_of := chosen["as_of"]) is not None:
        # a job that was recorded has dates as text
        shaping["as_of"] = pd.Timestamp(as_of).isoformat() if isinstance(as_of, str | dt.date) else str(as_of)
    notices = (*rows.notices, *notices, *said, *more, *told, *mended)
    new = {name: column for column, name in renamed.items() if name != column}
    return sealed(wide, units, t0, rows.source, notices, shaping | shaped, new, texts)


def time_apart(table: pd.DataFrame, time: str) -> tuple[pd.DataFrame, pd.Index, str]:
    """Columns, the times as they stand, and the name that their column really has."""
    table = tidy(table)
    time = find(time, table.columns)
    if time in table.columns:
        return table.drop(columns=time).reset_index(drop=True), pd.Index(table[time]), time
    if table.index.name == time or not isinstance(table.index, pd.RangeIndex):
        return table.reset_index(drop=True), table.index, time
    raise InvalidTelemetry(
        f"Telemetry has no time column `{time}`.",
        expected=f"one of {', '.join(f'`{c}`' for c in table.columns)} named as the time",
        received=f"`time='{time}'`",
        advice="Pass `time='<the column with the times>'`.",
    )


def signals(table: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """The columns that matter, the signal of each row where the layout is long, and notices."""
    if settings["layout"] == "wide":
        return table, np.zeros(len(table), dtype=np.int64), ()
    wanted = [settings["variable"], settings["value"]]
    wanted = list(found_names(dict.fromkeys(wanted), table.columns, "layout='long'"))
    variable = wanted[0]
    wanted += [find(known, table.columns)] if (known := settings["known_at"]) else []
    others = [column for column in table.columns if column not in wanted]
    said = (f"Columns that the long layout does not use were left out: {', '.join(others)}.",) if others else ()
    nameless = np.flatnonzero(table[variable].isna())
    if nameless.size:
        raise InvalidTelemetry(
            f"Rows of the long table have no name in `{variable}`.",
            expected="the name of a signal in each row",
            received=f"{nameless.size} rows without one, the first is row {nameless[0] + 1}",
            advice="Drop these rows, or name them.",
        )
    names = table[variable].astype(str).str.strip().to_numpy(dtype=object)
    return table.loc[:, [name for name in wanted if name in table.columns and name != variable]], names, said


@contextlib.contextmanager
def _noted(wrong: list[InvalidTelemetry]) -> Iterator[None]:
    """Keep what is wrong for one error about all of it."""
    try:
        yield
    except InvalidTelemetry as reason:
        wrong.append(reason)


def _mended(
    wide: pd.DataFrame, settings: Mapping[str, Any], clock: Clock, rename: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, Any]]:
    """The table with values dropped and then cells filled as declared, notices, and what shaped it so."""
    labels = labelled(wide.columns, rename)
    new = {name: column for column, name in rename.items()}

    def own(name: str) -> str:
        """The name in the data of a column that is named as in the twin."""
        return name if find(name, wide.columns) in wide.columns else new.get(name, name)

    notices: tuple[str, ...] = ()
    shaped: dict[str, Any] = {}
    if drop := settings["drop"]:
        wide, notices, shaped["drop"] = dropped(wide, drop, clock, labels, own)
    if fill := settings["fill"]:
        wide, told, shaped["fill"] = filled(wide, {own(name): how for name, how in fill.items()}, clock, labels)
        notices += told
    return wide, notices, shaped


def _in_force(
    table: pd.DataFrame, times: pd.Index, names: np.ndarray, settings: Mapping[str, Any], clock: Clock
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which rows count: all, or those in force at a moment."""
    known_at, as_of = settings["known_at"], settings["as_of"]
    if known_at is None and as_of is None:
        return np.ones(len(times), dtype=bool), ()
    if known_at is None:
        raise InvalidTelemetry(
            "`as_of` is given, but not when each row became known.",
            expected="`known_at='<the column that says when>'` with it",
            received=f"`as_of={as_of!r}` alone",
            advice="To cut the record itself, use `telemetry.between(end=…)`.",
        )
    (column,) = found_names({known_at: None}, table.columns, "known_at")
    known, notices = parse_times(pd.Index(table[column]), column, clock)
    moment = None if as_of is None else given_time(as_of, known, clock, "as_of")
    kept, more = revisions(times, names, known, moment, column, clock.timezone)
    return kept, (*notices, *more)


def _blocks(
    table: pd.DataFrame,
    times: pd.Index,
    names: np.ndarray,
    kept: np.ndarray,
    settings: Mapping[str, Any],
    time: str,
    labels: Mapping[str, str],
    units: Mapping[str, str],
) -> list[Numbers]:
    """Numbers in order of time: all columns at once, or signal by signal of a long table; and notices."""
    long = settings["layout"] == "long"
    blocks: list[Numbers] = []
    wrong: list[InvalidTelemetry] = []
    for name in pd.unique(names[kept]):
        rows = np.flatnonzero(kept & (names == name))
        block = table.iloc[rows]
        block = (block.set_axis([name], axis="columns") if long else block).set_axis(times[rows])
        found = Numbers(block.iloc[:, :0])  # of values that are wrong nothing is kept, but times may be wrong as well
        with _noted(wrong):
            found = numbers(block, rows, settings["sentinels"], settings["decimal"], labels, units)
        with _noted(wrong):
            order, duplicates = settings["order"], settings["duplicates"]
            ordered, told = in_order(found.table, rows, time, order, duplicates)
            told = [f"{labels[name]}: {one}" for one in told] if long else told
            found = found._replace(table=ordered, notices=(*found.notices, *told))
        blocks.append(found)
    if wrong:
        raise InvalidTelemetry.all_of(wrong)
    return blocks


def _side_by_side(blocks: list[pd.DataFrame]) -> pd.DataFrame:
    """Signals of a long table as columns; the first replicate of each stands in the first row of a time, and so on."""
    if all(block.index.is_unique for block in blocks):
        return pd.concat(blocks, axis="columns", join="outer").sort_index()
    numbered = [block.set_index(block.groupby(level=0).cumcount().rename("number"), append=True) for block in blocks]
    return pd.concat(numbered, axis="columns", join="outer").sort_index().droplevel(1)


def _units(
    carried: Mapping[str, str], given: Mapping[str, str], rename: Mapping[str, str], columns: Sequence[str], time: str
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Units that the data carry, those that are given, and what messages call columns, all by final names."""
    final = dict(rename) | {time: "time"}
    renamed = [rename.get(column, column) for column in columns]
    known = {final.get(name.strip(), name.strip()): unit for name, unit in carried.items()}
    labels = labelled([*columns, time], rename)
    named = {find(name, [*columns, *renamed, time, "time"]): unit for name, unit in given.items()}
    strange = {name: unit for name, unit in named.items() if name not in (*renamed, "time")}
    found_names(strange, [*columns, time], "units", labels)
    named = {final.get(name, name): unit for name, unit in named.items()}
    called = {final.get(column, column): label for column, label in labels.items()}
    return {name: unit for name, unit in known.items() if name in (*renamed, "time")}, named, called


# Telemetry of several experiments from one long table, in which a column says to which each row belongs.


def read_experiments(
    data: str | pathlib.Path | pd.DataFrame | xr.Dataset,
    *,
    by: str,
    **settings: Unpack[ReadingSettings],
) -> dict[str, Telemetry]:
    """Read telemetry of several experiments, for `calibrate`.

    Args:
        data: Path of a file, or the table itself, as in `read_telemetry`.
        by: Column that names the experiment of each row.
        **settings: As of `read_telemetry`: `time`, `units`, `rename` and all others; `t0` says when the initial states
            of every experiment hold, by default at the first time of each.

    Returns:
        Telemetry by experiment, in the order in which they first appear.

    Raises:
        InvalidTelemetry: If there is no such column, a row belongs to no experiment, or `read_telemetry` refuses what
            belongs to one of them, whose name is then said.
    """
    source = _rows_of(data, {**USUAL, **settings}, by)
    found = {}
    for name, rows in rows_by(source, by).items():
        try:
            found[name] = read_rows(rows, **settings)
        except InvalidTelemetry as reason:
            raise reason.within(f"In experiment `{name}`") from reason
    return found


def rows_by(source: Rows, by: str) -> dict[str, Rows]:
    """The rows of each experiment of a long table, in the order in which they first appear.

    Args:
        source: The table.
        by: Column that names the experiment of each row.

    Raises:
        InvalidTelemetry: If there is no such column, or a row belongs to no experiment.
    """
    table = source.table
    if by not in table.columns and by in table.index.names:
        table = table.reset_index()
    by = find(by, map(str, table.columns))
    if by not in table.columns:
        received = ", ".join(f"`{column}`" for column in table.columns)
    elif table.empty:
        received = "no rows"
    else:
        nameless = int(np.count_nonzero(table[by].isna()))
        received = f"{nameless} rows without one" if nameless else ""
    if received:
        raise InvalidTelemetry(
            f"Telemetry has no experiments in `{by}`.",
            expected="a column with the name of an experiment in each row",
            received=received,
            advice="Pass `by='<the column with the experiments>'`, and drop rows that belong to none.",
        )
    found = {}
    for name, rows in table.groupby(by, sort=False, observed=True):
        own = rows.drop(columns=by)
        if not isinstance(own.index, pd.MultiIndex) and own.index.name is None:
            own = own.reset_index(drop=True)
        found[str(name)] = source._replace(table=own)
    return found
