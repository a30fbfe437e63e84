"""From rows as they stand to one row a time and one column a signal, each step said and what is wrong said at once."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.carried_units import joined
from bayestwin.telemetry.columns import check_unique, find, found_names, labelled, numbers, tidy, together
from bayestwin.telemetry.mending import dropped, filled
from bayestwin.telemetry.ordering import in_order, revisions
from bayestwin.telemetry.record import Telemetry, sealed
from bayestwin.telemetry.settings import SHAPING, Settings, check_choices, plain
from bayestwin.telemetry.sources import Rows
from bayestwin.telemetry.times import Clock, given_time, parse_times


def read_rows(rows: Rows, **settings: Unpack[Settings]) -> Telemetry:
    """Telemetry from rows that have been read; settings and errors are those of `read_telemetry`."""
    check_choices(settings)
    clock = Clock(settings.get("timezone"), settings.get("ambiguous"), settings.get("time_format"))
    table, raw_times, time = time_apart(rows.table, settings.get("time", "time"))
    if len(table) == 0:
        message = explain(
            "Telemetry has no rows.",
            expected="at least one time",
            received="an empty table",
            advice="Check the file, and any filter in front of it.",
        )
        raise InvalidTelemetry(message)
    wrong: list[str] = []
    times, notices = pd.Index(np.arange(len(table), dtype=np.float64)), ()
    with _noted(wrong):
        times, notices = parse_times(raw_times, time, clock)
    table, names, said = signals(table, settings)
    known_at = find(settings.get("known_at") or "", table.columns)
    long = settings.get("layout", "wide") == "long"
    columns = [str(name) for name in (pd.unique(names) if long else table.columns.drop(known_at, errors="ignore"))]
    renamed, units = {}, {}
    with _noted(wrong):
        renamed = found_names(settings.get("rename") or {}, columns, "rename")
        check_unique(pd.Index([renamed.get(column, column) for column in columns]))
        units = joined(*_units(rows.units, settings.get("units") or {}, renamed, columns, time))
    labels = labelled(columns, renamed)
    kept, more = np.ones(len(times), dtype=bool), ()
    if not wrong:
        kept, more = _in_force(table, times, names, settings, clock)
    table = table.drop(columns=known_at, errors="ignore")
    blocks, told = [], ()
    with _noted(wrong):
        blocks, told = _blocks(table, times, names, kept, settings, time, labels)
    if wrong:
        raise InvalidTelemetry(together(wrong))
    wide = pd.concat(blocks, axis="columns", join="outer").sort_index() if len(blocks) > 1 else blocks[0]
    wide.index.name = "time"
    wide, mended, shaped = _mended(wide, settings, clock, renamed)
    wide = wide.rename(columns=renamed)
    if isinstance(wide.index, pd.DatetimeIndex):
        units.pop("time", None)
    t0 = settings.get("t0")
    t0 = wide.index[0] if t0 is None else given_time(t0, wide.index, clock, "t0")
    shaping = {name: plain(settings.get(name)) for name, usual in SHAPING.items() if settings.get(name, usual) != usual}
    if (as_of := settings.get("as_of")) is not None:
        # a job that was recorded has dates as text
        shaping["as_of"] = pd.Timestamp(as_of).isoformat() if isinstance(as_of, str | dt.date) else str(as_of)
    notices = (*rows.notices, *notices, *said, *more, *told, *mended)
    new = {name: column for column, name in renamed.items() if name != column}
    return sealed(wide, units, t0, rows.source, notices, shaping | shaped, new)


def time_apart(table: pd.DataFrame, time: str) -> tuple[pd.DataFrame, pd.Index, str]:
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


def signals(table: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
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


@contextlib.contextmanager
def _noted(wrong: list[str]) -> Iterator[None]:
    """Keep what is wrong for one message about all of it."""
    try:
        yield
    except InvalidTelemetry as reason:
        wrong.append(str(reason))


def _mended(
    wide: pd.DataFrame, settings: Settings, clock: Clock, rename: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, Any]]:
    """The table with values dropped and then cells filled as declared, notices, and what shaped it so."""
    labels = labelled(wide.columns, rename)
    new = {name: column for column, name in rename.items()}

    def own(name: str) -> str:
        """The name in the data of a column that is named as in the twin."""
        return name if find(name, wide.columns) in wide.columns else new.get(name, name)

    notices: tuple[str, ...] = ()
    shaped: dict[str, Any] = {}
    if drop := settings.get("drop"):
        wide, notices, shaped["drop"] = dropped(wide, drop, clock, labels, own)
    if fill := settings.get("fill"):
        wide, told, shaped["fill"] = filled(wide, {own(name): how for name, how in fill.items()}, clock, labels)
        notices += told
    return wide, notices, shaped


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
    moment = None if as_of is None else given_time(as_of, known, clock, "as_of")
    kept, more = revisions(times, names, known, moment, column, clock.timezone)
    return kept, (*notices, *more)


def _blocks(
    table: pd.DataFrame,
    times: pd.Index,
    names: np.ndarray,
    kept: np.ndarray,
    settings: Settings,
    time: str,
    labels: Mapping[str, str],
) -> tuple[list[pd.DataFrame], tuple[str, ...]]:
    """Numbers in order of time: all columns at once, or signal by signal of a long table; and notices."""
    long = settings.get("layout", "wide") == "long"
    blocks, notices = [], []
    wrong: list[str] = []
    for name in pd.unique(names[kept]):
        rows = np.flatnonzero(kept & (names == name))
        block = table.iloc[rows]
        block = (block.set_axis([name], axis="columns") if long else block).set_axis(times[rows])
        found = block.iloc[:, :0]  # of values that are wrong nothing is kept, but their times may be wrong as well
        with _noted(wrong):
            found, said = numbers(block, rows, settings.get("sentinels"), settings.get("decimal", "."), labels)
            notices += said
        with _noted(wrong):
            order, duplicates = settings.get("order", "sort"), settings.get("duplicates", "error")
            found, told = in_order(found, rows, time, order, duplicates)
            notices += [f"{labels[name]}: {one}" for one in told] if long else told
        blocks.append(found)
    if wrong:
        raise InvalidTelemetry(together(wrong))
    return blocks, tuple(notices)


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
