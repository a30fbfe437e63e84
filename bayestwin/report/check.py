"""The page that `check` writes: each column over time, rows of findings marked; laid out in `readiness.html`."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, labelled, scale_for, unit_text
from bayestwin.check import Finding, Limit
from bayestwin.check.finding import where
from bayestwin.check.signals import Signal, SignalRecord
from bayestwin.report.page import LIGHT, Picture, dots, drawing, figure, fill, marker, picture
from bayestwin.report.reading import TimeAxis
from bayestwin.report.series import dress_time
from bayestwin.telemetry import said

COLOURS = {"fail": LIGHT["fail"], "warn": LIGHT["heldout"], "note": LIGHT["muted"]}

NARROWEST = 0.004
"""A mark is at least this share of the axis wide, so that one row can be seen."""

MOST_POINTS = 6000
"""A column with more values is drawn at every so manyth of them; those that are marked always."""

MOST_BLOCKS = 24
"""Of a fleet, so many columns of all assets are drawn."""


class ColumnFinding(NamedTuple):
    """A finding in a table."""

    severity: str
    kind: str
    rows: str
    times: str
    sentence: str


class ColumnOnPage(NamedTuple):
    """A column of the telemetry on the page."""

    name: str
    unit: str
    role: str
    words: str
    picture: Picture | None
    findings: list[ColumnFinding]


def render_readiness(
    findings: Sequence[Finding],
    record: SignalRecord | Mapping[str, SignalRecord],
    limits: Mapping[str, Limit],
    name: str,
    *,
    time_unit: str,
    folder: str,
    provenance: Mapping[str, str],
) -> str:
    """Write the page about a check.

    The page needs nothing beside itself, and all text that comes from users is escaped.

    Args:
        findings: What `check` found, the worst first.
        record: What it looked at; of several experiments that of each, of which not more than `MOST_BLOCKS` columns are
            drawn, those with findings first.
        limits: The operating range, by observation and input.
        name: Of the twin.
        time_unit: Unit of times that are numbers.
        folder: The model folder, as the user typed it.
        provenance: What the page says about where it comes from.

    Returns:
        The page as text, to be written as UTF-8.
    """
    records = {"": record} if isinstance(record, SignalRecord) else record
    columns = _columns(records, findings)
    with drawing():
        blocks = [
            _block(number, columns[number], records[columns[number].experiment], limits, time_unit)
            for number in range(min(len(columns), MOST_BLOCKS))
        ]
    counts = {severity: sum(one.severity == severity for one in findings) for severity in ("fail", "warn", "note")}
    page = {
        "name": name,
        "version": importlib.metadata.version("bayestwin"),
        "status": "fail" if counts["fail"] else "warn" if counts["warn"] else "pass",
        "headline": _headline(counts),
        "scope": _scope(records, len(columns)),
        "findings": [_row(one) for one in findings if one.severity != "note"],
        "notes": [_row(one) for one in findings if one.severity == "note"],
        "blocks": blocks,
        "sections": [
            ("verdict", "Verdict"),
            ("findings", "Findings"),
            *((f"column{number}", block.name) for number, block in enumerate(blocks)),
            ("notes", "Notes"),
            ("provenance", "Provenance"),
        ],
        "folder": folder,
        "provenance": list(provenance.items()),
    }
    return fill("readiness.html", page)


def _headline(counts: Mapping[str, int]) -> str:
    if counts["fail"]:
        return f"Do not calibrate yet: {count(counts['fail'], 'finding')} must be understood first."
    if counts["warn"]:
        return f"It can be calibrated; look at {count(counts['warn'], 'warning')} before you rely on the result."
    return "Nothing speaks against a calibration."


def _scope(records: Mapping[str, SignalRecord], columns: int) -> str:
    num = sum(len(one.times) for one in records.values())
    held_out = num - sum(one.calibrated for one in records.values())
    words = count(num, "row")
    if len(records) == 1:
        (one,) = records.values()
        words += f" from {said(one.times[0], one.zone)} to {said(one.times[-1], one.zone)}"
    else:
        words += f" of {len(records)} assets"
    if held_out:
        words += f", of which the last {held_out:,} are held out"
    words += ". Rows are counted from 1 in the telemetry as it was read, in order of time."
    if columns > MOST_BLOCKS:
        words += f" {MOST_BLOCKS} of {columns} columns are drawn, those with findings first."
    return words


def _row(one: Finding) -> ColumnFinding:
    rows = where(one.evidence).split(" ", 1)[1] if "rows" in one.evidence else ""
    times = " to ".join(dict.fromkeys(one.evidence.get("times", ())))
    return ColumnFinding(one.severity, one.kind, rows, times, one.sentence)


class ColumnFound(NamedTuple):
    """A column of an experiment, whose name is empty where there is one alone, and what was found about it."""

    experiment: str
    signal: Signal
    findings: list[Finding]


def _columns(records: Mapping[str, SignalRecord], findings: Sequence[Finding]) -> list[ColumnFound]:
    """All columns; of several experiments those with findings that are more than notes come first."""
    columns = [
        ColumnFound(name, signal, [one for one in findings if one.experiment in ("", name) and _is_about(signal, one)])
        for name, record in records.items()
        for signal in record.signals
    ]
    if len(records) == 1:
        return columns
    return sorted(columns, key=lambda one: all(each.severity == "note" for each in one.findings))


def _is_about(signal: Signal, one: Finding) -> bool:
    """Whether a finding is about a column; a gap of the record is one in each."""
    return one.column == signal.name or (one.kind == "gap" and not one.column)


def _block(
    number: int, column: ColumnFound, record: SignalRecord, limits: Mapping[str, Limit], time_unit: str
) -> ColumnOnPage:
    experiment, signal, findings = column
    zone = record.zone if isinstance(record.zone, str) else ""
    axis = TimeAxis(isinstance(record.times, pd.DatetimeIndex), time_unit, zone)
    limit, words = limits.get(signal.name), f"{_values_in_words(signal)}."
    drawn = _picture(number, signal, record, findings, limit, axis) if signal.present.any() else None
    name = f"{experiment}: {signal.name}" if experiment else signal.name
    return ColumnOnPage(name, unit_text(signal.unit), signal.role, words, drawn, [_row(one) for one in findings])


def _values_in_words(signal: Signal) -> str:
    """How many values there are, and where they lie."""
    there, unit = signal.values[signal.present], unit_text(signal.unit)
    words = count(there.size, "value")
    if there.size:
        words += f", {there.min():.4g} to {there.max():.4g} {unit}".rstrip()
        words += f", median {np.median(there):.4g} {unit}".rstrip()
    return words.replace("-", "\N{MINUS SIGN}")


def _picture(
    number: int,
    signal: Signal,
    record: SignalRecord,
    findings: Sequence[Finding],
    limit: Limit | None,
    axis: TimeAxis,
) -> Picture:
    drawn = figure(2.5)
    axes = drawn.subplots()
    x = date2num(record.times.to_numpy()) if axis.dated else record.times.to_numpy(np.float64)
    marked = [one for one in findings if one.severity != "note" and one.evidence.get("rows")]
    rows = np.unique(np.concatenate([_rows(one, signal) for one in marked])) if marked else np.zeros(0, dtype=int)
    scale = scale_for(float(np.nanmax(np.abs(signal.values))), signal.unit)
    y = signal.values * scale.factor
    keep = np.arange(y.size)[:: -(-y.size // MOST_POINTS)]
    dots(axes, x[keep], y[keep], *marker(keep.size), LIGHT["calibrated"])
    if rows.size:
        dots(axes, x[rows], y[rows], max(marker(keep.size)[0], 2.4), 1.0, LIGHT["fail"])
    lowest, highest = axes.get_xlim()
    for one in marked:
        for first, last in one.evidence["rows"]:
            _mark(axes, x, first - signal.first, last - signal.first, COLOURS[one.severity], highest - lowest)
    handles = _limits(axes, limit, scale.factor, y)
    if record.calibrated < len(x):
        axes.axvline(x[record.calibrated], color=LIGHT["ink"], linewidth=0.8, dashes=(4, 3), zorder=1)
        handles.append(Line2D([], [], color=LIGHT["ink"], linewidth=0.8, dashes=(4, 3), label="held out from here on"))
    axes.set_title(labelled(signal.name, scale.unit))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")
    dress_time(axes, axis)
    front: list[Line2D | Patch] = [
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["calibrated"], label="value")
    ]
    if rows.size:
        front.append(
            Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["fail"], label="in a finding")
        )
    for severity, word in (("fail", "finding that fails"), ("warn", "warning")):
        if any(one.severity == severity for one in marked):
            front.append(Patch(facecolor=COLOURS[severity], alpha=0.22, label=word))
    drawn.legend(handles=front + handles, loc="outside upper left", ncols=6)
    return picture(drawn, f"column{number}", _alt(signal, marked), _caption(signal, marked, limit, scale.unit))


def _rows(one: Finding, signal: Signal) -> np.ndarray:
    """Rows of a finding, counted from 0."""
    return np.concatenate([np.arange(first, last + 1) for first, last in one.evidence["rows"]]) - signal.first


def _mark(axes: Axes, x: np.ndarray, first: int, last: int, colour: str, width: float) -> None:
    """Shade a stretch of rows, wide enough to be seen."""
    least = NARROWEST * width / 2
    middle, half = (x[first] + x[last]) / 2, max((x[last] - x[first]) / 2, least)
    axes.axvspan(middle - half, middle + half, color=colour, alpha=0.22, linewidth=0, zorder=0)


def _limits(axes: Axes, limit: Limit | None, factor: float, y: np.ndarray) -> list[Line2D]:
    """Lines at the ends of the operating range that are not far from the data."""
    if limit is None:
        return []
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    near = max(high - low, 1e-300)
    shown = [end * factor for end in (limit.low, limit.high) if low - near < end * factor < high + near]
    for end in shown:
        axes.axhline(end, color=LIGHT["pass"], linewidth=0.9, dashes=(2, 2), zorder=1)
    if not shown:
        return []
    return [Line2D([], [], color=LIGHT["pass"], linewidth=0.9, dashes=(2, 2), label="end of the operating range")]


def _alt(signal: Signal, marked: Sequence[Finding]) -> str:
    kinds = ", ".join(dict.fromkeys(f"{one.kind.replace('_', ' ')} at {where(one.evidence)}" for one in marked))
    marks = f"marked: {kinds}" if kinds else "nothing marked"
    return f"{signal.name} over time: {_values_in_words(signal)}; {marks}."


def _caption(signal: Signal, marked: Sequence[Finding], limit: Limit | None, unit: str) -> str:
    words = f"{signal.name} in {unit} as recorded." if unit else f"{signal.name} as recorded."
    words += " Shaded: the rows of warnings and of what fails." if marked else " No row is in a warning."
    if limit is not None and np.isfinite([limit.low, limit.high]).any():
        words += f" Operating range by the card: {limit.words(unit_text(signal.unit))}."
    if signal.values.size > MOST_POINTS:
        words += f" Drawn at every {-(-signal.values.size // MOST_POINTS)}th row, and at all rows of findings."
    return words
