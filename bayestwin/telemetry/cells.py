"""Cells that are no plain numbers and still mean some: words for on and off, quantities with a unit, grouped digits."""

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.units import SPELT, check_unit, convert, suggested
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.times import rows_in_words

SWITCHES = (
    ("on", "off"),
    ("true", "false"),
    ("yes", "no"),
    ("open", "closed"),
    ("open", "close"),
    ("opened", "closed"),
    ("enabled", "disabled"),
    ("active", "inactive"),
    ("running", "stopped"),
    ("y", "n"),
    ("t", "f"),
)
"""What loggers write for 1 and for 0; the case of letters does not matter."""

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*((?:[^\W\d_]|[°%℃℉]).*)")
GROUPED = re.compile(r"\s*[+-]?\d{1,3}(?:\.\d{3})+\s*")
"""What may be thousands, or fractions behind a point."""


class ReadCells(NamedTuple):
    """What cells of a column mean.

    Attributes:
        values: Numbers; shape (n,).
        bad: Where there is something else; shape (n,).
        notices: What they were taken for, one sentence each.
        unit: That of the numbers, where cells state it.
    """

    values: np.ndarray
    bad: np.ndarray
    notices: tuple[str, ...] = ()
    unit: str | None = None


def switched(column: pd.Series, values: np.ndarray, bad: np.ndarray, label: str) -> ReadCells | None:
    """Words for on and off as 1 and 0; None where cells hold anything else.

    Args:
        column: As it came; shape (n,).
        values: Numbers so far: all of them 0 or 1, else these are no switches; shape (n,).
        bad: Where there are none; shape (n,).
        label: What messages call the column.
    """
    codes, words = pd.factorize(column[bad].astype(str).str.strip())
    plain = [str(word).casefold() for word in words]
    pair = next((pair for pair in SWITCHES if set(plain) <= set(pair)), None)
    if pair is None or not np.isin(values[np.isfinite(values)], (0.0, 1.0)).all():
        return None
    on = np.array([word == pair[0] for word in plain])[codes]
    known = values.copy()
    known[bad] = on
    told = [
        f"{_cells(int(own.sum()))} held `{words[codes[np.argmax(own)]]}`, taken as {value}"
        for own, value in ((on, 1), (~on, 0))
        if own.any()
    ]
    return ReadCells(known, np.zeros_like(bad), (f"{label}: {'; '.join(told)}.",))


def quantified(
    column: pd.Series, values: np.ndarray, bad: np.ndarray, rows: np.ndarray, label: str, unit: str | None
) -> ReadCells | None:
    """Cells such as "3 bar" and "200 kPa" as numbers in one unit; None where no cell states a unit that is known.

    Args:
        column: As it came; shape (n,).
        values: Numbers so far; shape (n,).
        bad: Where there are none; shape (n,).
        rows: Where rows stand in the source, counted from 0; shape (n,).
        label: What messages call the column.
        unit: That which is declared for the column, in which plain numbers are; else that of the first cell.

    Raises:
        InvalidTelemetry: If a cell has a unit of another kind, or none where none is declared; naming the rows.
    """
    places = np.flatnonzero(bad)
    codes, texts = pd.factorize(column.iloc[places].astype(str).str.strip())
    parts = [_QUANTITY.fullmatch(str(text)) for text in texts]
    units = [None if part is None else _unit(part[2].strip()) for part in parts]
    if not any(units):
        return None
    stated = np.array([str(one or "") for one in units], dtype=object)[codes]
    read = np.array([float(part[1]) if part and one else np.nan for part, one in zip(parts, units, strict=True)])[codes]
    target = unit if unit is not None else next(one for one in stated if one)
    plain = np.flatnonzero(np.isfinite(values))
    if plain.size and unit is None:
        raise InvalidTelemetry(
            f"Telemetry column {label} states a unit in some cells, and none in others.",
            expected=f"`{target}` or the like in each cell, or the unit of plain numbers by `units`",
            received=f"{_cells(plain.size)} without one: {rows_in_words(rows[plain])}",
            advice="Pass the unit of those in `units={…}`: cells that state another one are converted to it.",
        )
    known, left, notices = values.copy(), bad.copy(), []
    for one in dict.fromkeys(name for name in stated if name):
        own = np.flatnonzero(stated == one)
        where = rows_in_words(rows[places[own]])
        try:
            known[places[own]] = convert(read[own], one, target, "", InvalidTelemetry)
        except InvalidTelemetry as reason:
            raise InvalidTelemetry(
                f"Telemetry column {label} mixes units that do not convert.",
                expected=f"`{target}`, or what converts to it",
                received=f"`{column.iloc[places[own[0]]]}`, and {_cells(own.size)} in `{one}`: {where}",
                advice="Give each kind a column of its own, or correct these rows.",
            ) from reason
        left[places[own]] = False
        notices.append(f"{_cells(own.size)} in `{one}`" + ("" if one == target else f", converted ({where})"))
    told = (
        f"{label}: {_cells(int((stated != '').sum()))} state a unit and were read in `{target}`: {'; '.join(notices)}"
    )
    told += f"; {_cells(plain.size)} without one, taken to be in `{target}`." if plain.size else "."
    return ReadCells(known, left, (told,), target)


def _cells(num: int) -> str:
    return f"{num:,} cell{'' if num == 1 else 's'}"


@functools.cache
def _unit(text: str) -> str | None:
    """A unit as pint calls it; None for what is none."""
    for one in (SPELT.get(text), text, suggested(text)):
        try:
            if one is not None:
                check_unit(one, "", InvalidTelemetry)
                return one
        except InvalidTelemetry:
            continue
    return None


def pointed(column: pd.Series) -> pd.Series:
    """Text with decimal commas as text with points; what may be a thousand or a fraction, such as 1.234, as it is not.

    Points that group digits are dropped where the column has decimal commas. Where it has fractions behind points
    (2.75), these are meant by all points. Where both or neither is so, 1.234 is left as text that is no number.
    """
    cells = column.map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    texts = [cell for cell in pd.unique(cells) if isinstance(cell, str)]
    commas = any("," in text for text in texts)
    points = any("." in text and "," not in text and not GROUPED.fullmatch(text) for text in texts)

    def one(text: str) -> str:
        whole, comma, rest = text.partition(",")
        if not GROUPED.fullmatch(whole):
            return text.replace(",", ".")
        if comma or (commas and not points):
            return whole.replace(".", "") + comma.replace(",", ".") + rest
        return text if points and not commas else f"{text} (a thousand, or a fraction?)"

    known: Mapping[str, str] = {text: one(text) for text in texts}
    return cells.map(lambda cell: known[cell] if isinstance(cell, str) else cell)


def in_words(column: pd.Series) -> str:
    """What a column of text holds, by its most frequent cells."""
    counts = column.dropna().astype(str).str.strip().value_counts()
    first = ", ".join(f"'{word}' ({num:,})" for word, num in counts.iloc[:4].items())
    return first + (f", … {len(counts):,} different ones" if len(counts) > 4 else "")
