"""The columns of telemetry: found by name, made of numbers, with the units that data carry themselves.

What means “missing” is told apart from what is wrong.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.units import check_unit, named_alike
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.cells import GROUPED, in_words, pointed, quantified, switched
from bayestwin.telemetry.times import rows_in_words

SENTINELS = (
    -999.0,
    -9999.0,
    -99999.0,
    -999999.0,
    -999.9,
    -9999.9,
    -999.99,
    -9999.99,
    1e20,
    -1e20,
    9.969209968386869e36,
)
"""What loggers and file formats write for “missing”, and what no sensor shows by chance."""

_NUMBER = re.compile(r"\s*[+-]?(?:inf|\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*", re.IGNORECASE)
_COMMA = re.compile(r"\s*[+-]?\d+(?:\.\d{3})*,\d+(?:[eE][+-]?\d+)?\s*")


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names that are text without blanks around them, each there once.

    Raises:
        InvalidTelemetry: If there are levels of columns or rows, or a name twice.
    """
    _check_flat(table)
    table = table.set_axis([str(name).strip().strip("\ufeff") for name in table.columns], axis="columns")
    check_unique(table.columns)
    return table


def find(name: str, columns: Iterable[str]) -> str:
    """The column of that name, or the only one that differs from it in case and blanks alone; else the name itself."""
    columns = [str(column) for column in columns]
    if name in columns:
        return name
    alike = [column for column in columns if column.strip().casefold() == name.strip().casefold()]
    return alike[0] if len(alike) == 1 else name


def labelled(columns: Iterable[str], rename: Mapping[str, str]) -> dict[str, str]:
    """What messages call each column: by its name in the data, with that in the twin in brackets where it differs."""
    names = {str(column): rename.get(str(column), str(column)) for column in columns}
    return {column: f"`{column}`" if column == name else f"`{column}` (`{name}`)" for column, name in names.items()}


def counted_noun(num: int, noun: str) -> str:
    """A number and what it counts: "1 cell", "12 cells"."""
    return f"{num} {noun}{'' if num == 1 else 's'}"


def found_names(
    mapping: Mapping[str, Any], columns: Iterable[str], argument: str, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A mapping from columns, under the names that the columns have.

    Args:
        mapping: By names that the user gives.
        columns: Those that there are.
        argument: Where the names stand, for messages.
        labels: What messages call each column; by default by its name alone.

    Raises:
        InvalidTelemetry: If it names one that is not there.
    """
    columns = list(map(str, columns))
    labels = labels or labelled(columns, {})
    found = {find(name, columns): value for name, value in mapping.items()}
    for name in found:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            raise InvalidTelemetry(
                f"`{argument}` names the column `{name}`, which the telemetry does not have.",
                expected=", ".join(labels.get(c, f"`{c}`") for c in columns),
                received=f"`{name}`",
                advice=f"Did you mean `{close[0]}`?" if close else "Correct the name.",
            )
    return found


def check_unique(columns: pd.Index) -> None:
    """Refuse a name that is there twice."""
    twice = columns[columns.duplicated()]
    if twice.size:
        raise InvalidTelemetry(
            f"Telemetry has two columns called `{twice[0]}`.",
            expected="each name once, also after `rename`",
            received=", ".join(f"`{c}`" for c in columns),
            advice="Drop one of them, or rename it.",
        )


class Numbers(NamedTuple):
    """Columns as numbers.

    Attributes:
        table: float64, NaN where a value is missing.
        notices: What was done to them.
        units: Of columns whose cells state one.
        texts: What columns hold that have no numbers and were left out, in words.
    """

    table: pd.DataFrame
    notices: tuple[str, ...] = ()
    units: Mapping[str, str] = {}
    texts: Mapping[str, str] = {}


def numbers(
    table: pd.DataFrame,
    rows: np.ndarray,
    sentinels: Sequence[Any] | None,
    decimal: str,
    labels: Mapping[str, str],
    units: Mapping[str, str],
) -> Numbers:
    """All columns as float64, words for on and off as 1 and 0; text is left out, and text among numbers is an error.

    Args:
        table: Columns of any kind.
        rows: Where its rows stand in the source, counted from 0; shape (n,).
        sentinels: Numbers or text that mean “missing”; None where the user says nothing.
        decimal: Decimal sign of numbers that are text.
        labels: What messages call each column.
        units: That are declared, by column.

    Raises:
        InvalidTelemetry: If a cell is neither a number nor missing, or may mean “missing” and nobody says so; what is
            wrong in all columns is told at once.
    """
    columns, notices, wrong = {}, [], []
    stated, texts = {}, {}
    suspected: dict[str, dict[float, np.ndarray]] = {}
    for name in table.columns:
        column, label = pd.Series(table[name]), labels[str(name)]
        values, bad, taken = _parsed(column, sentinels or (), decimal)
        if taken.any():
            what = ", ".join(dict.fromkeys(str(cell) for cell in pd.unique(column[taken])))
            where = rows_in_words(rows[taken])
            cells = counted_noun(int(taken.sum()), "cell")
            notices.append(f"{label}: {cells} held {what} and were taken as missing ({where}).")
        if bad.any() and not _is_dated(column):
            points = pointed(column) if decimal != "." else column
            try:
                means = switched(column, values, bad, label)
                means = means or quantified(points, values, bad, rows, label, units.get(str(name)))
            except InvalidTelemetry as reason:
                wrong.append(reason)
                continue
            if means is not None:
                values, bad = means.values, means.bad
                notices += means.notices
                stated |= {} if means.unit is None else {str(name): means.unit}
        if bad.any() and not _looks_like_numbers([*column[bad]], not np.isfinite(values).any(), decimal):
            notices.append(f"{label} holds no numbers and was left out.")
            texts[str(name)] = in_words(column)
            continue
        if bad.any():
            wrong.append(_not_numbers(label, column, bad, rows, decimal))
        if np.isinf(values).any():
            wrong.append(_infinite(label, rows[np.isinf(values)]))
        if _is_rounded(column):
            notices.append(f"{label}: whole numbers above 2^53 were rounded to the nearest that float64 holds.")
        if sentinels is None and (found := _suspected(values, rows)):
            suspected[label] = found
        columns[name] = values
    if suspected:
        wrong.append(_sentinels(suspected))
    if wrong:
        raise InvalidTelemetry.all_of(wrong)
    return Numbers(pd.DataFrame(columns, index=table.index), tuple(notices), stated, texts)


def _is_dated(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype)


def _is_rounded(column: pd.Series) -> bool:
    """Whether whole numbers lose digits as float64."""
    if not pd.api.types.is_integer_dtype(column.dtype):
        return False
    whole = column.dropna().to_numpy()
    return bool(whole.size and max(abs(int(whole.max())), abs(int(whole.min()))) > 2**53)


def _parsed(column: pd.Series, sentinels: Sequence[Any], decimal: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of a column, where there is something else, and where a sentinel stood; shape (n,) each."""
    if _is_dated(column):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=bool), np.zeros(len(column), dtype=bool)
    is_text = not pd.api.types.is_numeric_dtype(column.dtype)
    if is_text and decimal != ".":
        column = pointed(column)
    values = np.array(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    taken = np.zeros(len(column), dtype=bool)
    for sentinel in sentinels:
        if not isinstance(sentinel, str):
            taken |= values == float(sentinel)
        elif is_text:
            text = column.astype(str).str.strip().str.casefold()
            taken |= np.asarray(text == sentinel.strip().casefold()) & column.notna().to_numpy()
        elif _NUMBER.fullmatch(sentinel):
            taken |= values == float(sentinel)
    bad = np.isnan(values) & column.notna().to_numpy() & ~taken
    values[taken] = np.nan
    return values, bad, taken


def _looks_like_numbers(cells: Sequence[Any], alone: bool, decimal: str) -> bool:
    """Whether text that does not parse is an error: among numbers always, alone where it has the other decimal sign."""
    other = _COMMA if decimal == "." else GROUPED
    return not alone or all(isinstance(cell, str) and other.fullmatch(cell) for cell in cells)


def _not_numbers(label: str, column: pd.Series, bad: np.ndarray, rows: np.ndarray, decimal: str) -> InvalidTelemetry:
    cells = [f"{column.iloc[place]!r} in row {rows[place] + 1}" for place in np.flatnonzero(bad)[:5]]
    texts = [str(cell) for cell in column[bad]]
    words = ", ".join(repr(text) for text in dict.fromkeys(texts[:3]))
    advice = f"If they mean “missing”: `sentinels=({words},)`, or replace them with NaN."
    if decimal == "." and all(_COMMA.fullmatch(text) for text in texts):
        advice = "Is that a decimal comma? Then pass `decimal=','`; in a file, columns also need `separator=';'`."
    elif decimal != "." and all(GROUPED.fullmatch(text) for text in texts):
        advice = "Are these thousands, or fractions behind a point? Write 1234 or 1,234 for 1.234."
    return InvalidTelemetry(
        f"Telemetry column {label} holds something that is not a number.",
        expected="numbers, and nothing or NaN where a value is missing",
        received=f"{', '.join(cells)}{', …' if len(texts) > 5 else ''}, and {len(texts)} such cells in all",
        advice=advice,
    )


def _infinite(label: str, rows: np.ndarray) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"Telemetry column {label} holds an infinite value.",
        expected="finite numbers, or nothing where a value is missing",
        received=f"{counted_noun(rows.size, 'infinite cell')}: {rows_in_words(rows)}",
        advice="If they mean “missing”: `sentinels=('inf', '-inf')`; otherwise correct them.",
    )


def _suspected(values: np.ndarray, rows: np.ndarray) -> dict[float, np.ndarray]:
    """Usual sentinels that lie further from all other values than these do from each other, and their rows."""
    usual = np.isin(values, SENTINELS)
    others = values[np.isfinite(values) & ~usual]
    return {
        float(sentinel): rows[values == sentinel]
        for sentinel in np.unique(values[usual])
        if others.size == 0 or np.abs(others - sentinel).min() > np.ptp(others)
    }


def _sentinels(suspected: Mapping[str, Mapping[float, np.ndarray]]) -> InvalidTelemetry:
    """The error about all columns that hold what loggers write for “missing”."""
    held = list(dict.fromkeys(f"{sentinel:g}" for found in suspected.values() for sentinel in found))
    cells = [
        f"{sentinel:g} in {counted_noun(rows.size, 'cell')} of {label}: {rows_in_words(rows)}"
        for label, found in suspected.items()
        for sentinel, rows in found.items()
    ]
    columns = f"column{'s' if len(suspected) > 1 else ''} {', '.join(suspected)}"
    hold = f"hold{'' if len(suspected) > 1 else 's'} {' and '.join(held)}"
    passed = f"({', '.join(held)}{',' if len(held) == 1 else ''})"
    return InvalidTelemetry(
        f"Telemetry {columns} {hold}, which loggers write where a value is missing.",
        expected="numbers that were observed, and NaN where none was",
        received="; ".join(cells),
        advice=f"Pass `sentinels={passed}` if that means “missing”, `sentinels=()` if all are values.",
    )


def _check_flat(table: pd.DataFrame) -> None:
    """Levels of columns, or of rows as a two-dimensional variable gives them, have no place in a record of signals."""
    for what, index in (("column", table.columns), ("row", table.index)):
        if isinstance(index, pd.MultiIndex):
            raise InvalidTelemetry(
                f"Telemetry has {what}s in {index.nlevels} levels.",
                expected="one row a time and one column a signal, each value a plain number",
                received=f"levels {', '.join(f'`{n}`' for n in index.names)}",
                advice="Select one entry of the further dimension, or give each a column of its own.",
            )


# Units that data carry themselves: attributes of xarray variables, and pint quantities. NumPy would drop them.


def of_dataset(dataset: xr.Dataset) -> tuple[xr.Dataset, dict[str, str]]:
    """A dataset with plain arrays, and the units that its variables state, by the attribute `units` or as quantities.

    Raises:
        InvalidTelemetry: If a variable's quantity and its attribute state different units.
    """
    units, plain = {}, {}
    for name, variable in dataset.variables.items():
        stated = variable.attrs.get("units")
        if isinstance(stated, str) and not np.issubdtype(variable.dtype, np.datetime64):
            units[str(name)] = "" if stated == "1" else stated
        data: Any = variable.data
        if _is_quantity(data):
            unit = str(data.units)
            _check_same(f"`{name}`", unit, units.get(str(name), unit), "its attribute `units`")
            units[str(name)] = unit
            plain[name] = (variable.dims, data.magnitude, variable.attrs)
    return dataset.assign(plain) if plain else dataset, units


def of_table(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table with plain numbers for pint quantities in cells, and the units that these had.

    Raises:
        InvalidTelemetry: If the quantities in a column do not convert to the unit of the first.
    """
    units = {}
    for place, name in enumerate(table.columns):
        column = table.iloc[:, place]
        there = [cell for cell in column if _is_quantity(cell)] if column.dtype == object else []
        if not there:
            continue
        units[str(name)] = str(there[0].units)
        try:
            plain = [cell.to(there[0].units).magnitude if _is_quantity(cell) else cell for cell in column]
        except Exception as reason:  # of pint, or of a registry of the user's
            raise InvalidTelemetry(
                f"Telemetry column `{name}` holds quantities of different kinds.",
                expected=f"all of them in units that convert to `{there[0].units}`, as the first one is",
                received=str(reason),
                advice="Give each kind a column of its own.",
            ) from reason
        table = table.assign(**{str(name): plain})
    return table, units


def joined(carried: dict[str, str], given: dict[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    """Units by column: those that the data carry, and those that the user gives, which must not contradict them.

    Raises:
        InvalidTelemetry: If they do, or a carried unit does not parse and none is given.
    """
    for name, unit in given.items():
        check_unit(unit, f"telemetry column {labels.get(name, f'`{name}`')}, in `units`,", InvalidTelemetry)
    for name, unit in carried.items():
        called = labels.get(name, f"`{name}`")
        if name not in given:
            check_unit(unit, f"telemetry column {called}, as the data state it,", InvalidTelemetry)
        elif _parses(unit):
            _check_same(called, unit, given[name], "`units`")
    return carried | given


def _parses(unit: str) -> bool:
    try:
        check_unit(unit, "", InvalidTelemetry)
    except InvalidTelemetry:
        return False
    return True


def _check_same(label: str, carried: str, given: str, where: str) -> None:
    if named_alike(carried, given):
        return
    raise InvalidTelemetry(
        f"Telemetry column {label} has two units.",
        expected=f"`{carried}`, as the data themselves state it",
        received=f"`{given}` by {where}",
        advice="Drop the wrong one. To convert, state the unit that the numbers are in: the twin's is made of it.",
    )


def _is_quantity(value: Any) -> bool:
    return hasattr(value, "magnitude") and hasattr(value, "units")
