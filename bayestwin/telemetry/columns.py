"""The columns of telemetry: found by name, made of numbers; what means “missing” is told apart from what is wrong."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.record import rows_in_words

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


def found_names(mapping: Mapping[str, Any], columns: Iterable[str], argument: str) -> dict[str, Any]:
    """A mapping from columns, under the names that the columns have.

    Raises:
        InvalidTelemetry: If it names one that is not there.
    """
    columns = list(columns)
    found = {find(name, columns): value for name, value in mapping.items()}
    for name in found:
        if name not in columns:
            message = explain(
                f"`{argument}` names the column `{name}`, which the telemetry does not have.",
                expected=", ".join(f"`{c}`" for c in columns),
                received=f"`{name}`",
                advice="Correct the name.",
            )
            raise InvalidTelemetry(message)
    return found


def check_unique(columns: pd.Index) -> None:
    """Refuse a name that is there twice."""
    twice = columns[columns.duplicated()]
    if twice.size:
        message = explain(
            f"Telemetry has two columns called `{twice[0]}`.",
            expected="each name once, also after `rename`",
            received=", ".join(f"`{c}`" for c in columns),
            advice="Drop one of them, or rename it.",
        )
        raise InvalidTelemetry(message)


def numbers(
    table: pd.DataFrame, rows: np.ndarray, sentinels: Sequence[Any] | None, decimal: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All columns as float64, and notices; columns that are no numbers at all are left out, mixed ones are an error.

    Args:
        table: Columns of any kind.
        rows: Where its rows stand in the source, counted from 0; shape (n,).
        sentinels: Numbers or text that mean “missing”; None where the user says nothing.
        decimal: Decimal sign of numbers that are text.

    Raises:
        InvalidTelemetry: If a cell is neither a number nor missing, or may mean “missing” and nobody says so.
    """
    columns, notices = {}, []
    for name in table.columns:
        column = pd.Series(table[name])
        values, bad, taken = _parsed(column, sentinels or (), decimal)
        if taken.any():
            cells = f"{int(taken.sum())} cell{'s' if taken.sum() > 1 else ''}"
            what = ", ".join(dict.fromkeys(str(cell) for cell in column[taken]))
            notices.append(f"`{name}`: {cells} held {what} and were taken as missing ({rows_in_words(rows[taken])}).")
        if bad.any() and not _looks_like_numbers([*column[bad]], not np.isfinite(values).any(), decimal):
            notices.append(f"`{name}` holds no numbers and was left out.")
            continue
        if bad.any():
            raise InvalidTelemetry(_not_numbers(str(name), column, bad, rows, decimal))
        if np.isinf(values).any():
            message = explain(
                f"Telemetry column `{name}` holds an infinite value.",
                expected="finite numbers, or NaN for missing",
                received=f"{int(np.isinf(values).sum())} infinite cells: {rows_in_words(rows[np.isinf(values)])}",
                advice="Replace them with NaN if they mean “missing”.",
            )
            raise InvalidTelemetry(message)
        if sentinels is None:
            _check_sentinels(str(name), values, rows)
        columns[name] = values
    return pd.DataFrame(columns, index=table.index), tuple(notices)


def _parsed(column: pd.Series, sentinels: Sequence[Any], decimal: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of a column, where there is something else, and where a sentinel stood; shape (n,) each."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=bool), np.zeros(len(column), dtype=bool)
    is_text = not pd.api.types.is_numeric_dtype(column.dtype)
    if is_text and decimal != ".":
        column = column.map(lambda cell: cell.replace(decimal, ".") if isinstance(cell, str) else cell)
    values = np.array(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    taken = np.zeros(len(column), dtype=bool)
    for sentinel in sentinels:
        if not isinstance(sentinel, str):
            taken |= values == float(sentinel)
        elif is_text:
            text = column.astype(str).str.strip().str.casefold()
            taken |= np.asarray(text == sentinel.strip().casefold()) & column.notna().to_numpy()
    bad = np.isnan(values) & column.notna().to_numpy() & ~taken
    values[taken] = np.nan
    return values, bad, taken


def _looks_like_numbers(cells: Sequence[Any], alone: bool, decimal: str) -> bool:
    """Whether text that does not parse is an error: among numbers always, alone where it has a decimal comma."""
    if not alone:
        return True
    return decimal == "." and all(isinstance(cell, str) and _COMMA.fullmatch(cell) for cell in cells)


def _not_numbers(name: str, column: pd.Series, bad: np.ndarray, rows: np.ndarray, decimal: str) -> str:
    cells = [f"{column.iloc[place]!r} in row {rows[place] + 1}" for place in np.flatnonzero(bad)[:5]]
    texts = [str(cell) for cell in column[bad]]
    words = ", ".join(repr(text) for text in dict.fromkeys(texts[:3]))
    advice = f"If they mean “missing”: `sentinels=({words},)`, or replace them with NaN."
    if decimal == "." and all(_COMMA.fullmatch(text) for text in texts):
        advice = "Is that a decimal comma? Then pass `decimal=','`; in a file, columns also need `separator=';'`."
    return explain(
        f"Telemetry column `{name}` holds something that is not a number.",
        expected="numbers, and nothing or NaN where a value is missing",
        received=f"{', '.join(cells)}{', …' if len(texts) > 5 else ''}, and {len(texts)} such cells in all",
        advice=advice,
    )


def _check_sentinels(name: str, values: np.ndarray, rows: np.ndarray) -> None:
    """Refuse a usual sentinel that lies further from all other values than these do from each other."""
    suspected = np.isin(values, SENTINELS)
    if not suspected.any():
        return
    others = values[np.isfinite(values) & ~suspected]
    for sentinel in np.unique(values[suspected]):
        cells = rows[values == sentinel]
        apart = others.size == 0 or np.abs(others - sentinel).min() > np.ptp(others)
        if apart:
            message = explain(
                f"Telemetry column `{name}` holds {sentinel:g}, which loggers write where a value is missing.",
                expected="numbers that were observed, and NaN where none was",
                received=f"{sentinel:g} in {cells.size} cell{'s' if cells.size > 1 else ''}: {rows_in_words(cells)}",
                advice=f"Pass `sentinels=({sentinel:g},)` if it means “missing”, `sentinels=()` if it is a value.",
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
