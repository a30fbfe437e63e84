"""Findings on telemetry before anything is sampled: what a person should know about each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin import errors

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

FEW = 10
"""Fewer values than this in a column are reported."""

LONG_GAP = 10.0
"""A gap of more than this many usual steps of its column is reported as a warning."""

JITTER = 0.05
"""Steps within this share of the usual one count as regular."""


class Finding(NamedTuple):
    """One thing worth knowing about telemetry.

    Attributes:
        severity: `"fail"` where a calibration makes no sense, `"warn"` where it may mislead, else `"note"`.
        column: The column concerned; empty where it is the times.
        sentence: What was found, in words.
        evidence: The numbers behind it, plain values that JSON can hold; times as text.
    """

    severity: Literal["fail", "warn", "note"]
    column: str
    sentence: str
    evidence: Mapping[str, Any]


def check(telemetry: Telemetry, columns: Sequence[str]) -> tuple[Finding, ...]:
    """Look at telemetry for what makes a calibration fail or mislead.

    Looked for: times given twice, irregular sampling, no or few values, a constant sensor, missing values and
    the longest gap. Values are not judged against a twin.

    Args:
        telemetry: What `read_telemetry` returned.
        columns: The observations and inputs to look at, by their names in the twin.

    Returns:
        The findings, those on the times first; none where nothing was found.

    Raises:
        InvalidTelemetry: A column that the telemetry does not have.
    """
    table = telemetry.table
    for column in columns:
        if column not in table.columns:
            raise errors.InvalidTelemetry(
                errors.explain(
                    f"The telemetry has no column `{column}`.",
                    expected="a column for every observation and input to be checked",
                    received=", ".join(f"`{name}`" for name in table.columns) or "no column",
                    advice="Rename the column that holds it to the name in the twin.",
                )
            )
    found = [_duplicates(table.index), _irregular(table.index)]
    for column in columns:
        values = pd.Series(table[column]).dropna().sort_index()
        unit = telemetry.units.get(column, "")
        found += [_few(column, values, len(table)), _constant(column, values, unit)]
        found.append(_missing(column, values, table.index))
    return tuple(finding for finding in found if finding is not None)


def _duplicates(times: pd.Index) -> Finding | None:
    twice = times[times.duplicated()].unique()
    if twice.empty:
        return None
    sentence = f"{len(twice):,} times are there more than once, the first is {twice[0]}."
    return Finding("fail", "", sentence, {"times": len(twice), "first": str(twice[0])})


def _irregular(times: pd.Index) -> Finding | None:
    """More than 1 % of the steps are not the usual one; single gaps are reported with their column."""
    steps = _steps(times.unique().sort_values())
    if len(steps) < 2:
        return None
    usual = np.median(steps)
    share = float(np.mean(np.abs(steps - usual) > JITTER * usual))
    if not share > 0.01:
        return None
    least, most = _span(times, steps.min()), _span(times, steps.max())
    sentence = (
        f"Sampling is irregular: {100 * share:.2g} % of the steps differ from the usual {_span(times, usual)}"
        f" (shortest {least}, longest {most})."
    )
    evidence = {"share": share, "usual": _span(times, usual), "shortest": least, "longest": most}
    return Finding("note", "", sentence, evidence)


def _few(column: str, values: pd.Series, rows: int) -> Finding | None:
    if len(values) >= FEW:
        return None
    evidence = {"values": len(values), "rows": rows}
    if values.empty:
        return Finding("fail", column, f"`{column}` holds no value in {rows:,} rows.", evidence)
    sentence = f"`{column}` holds only {len(values)} values: the prior will decide much of the posterior."
    return Finding("warn", column, sentence, evidence)


def _constant(column: str, values: pd.Series, unit: str) -> Finding | None:
    if len(values) < 2 or values.min() != values.max():
        return None
    value = float(values.iloc[0])
    shown = f"{value:g} {unit}".strip()
    sentence = (
        f"`{column}` never changes: all {len(values):,} values are {shown}."
        " Check the sensor; a constant says next to nothing about the dynamics."
    )
    return Finding("warn", column, sentence, {"value": value, "values": len(values)})


def _missing(column: str, values: pd.Series, times: pd.Index) -> Finding | None:
    """Missing values, and the longest time between two values: rows may be missing, or the values in them."""
    if len(values) < 2:
        return None
    share = 1 - len(values) / len(times)
    steps = _steps(values.index)
    at = int(np.argmax(steps))
    usual, longest = float(np.median(steps)), float(steps[at])
    long = longest > LONG_GAP * usual
    if share == 0 and not long:
        return None
    start, end = str(values.index[at]), str(values.index[at + 1])
    sentence = (
        f"`{column}`: {100 * share:.2g} % of the values are missing; the longest gap is"
        f" {_span(times, longest)}, from {start} to {end} (usual step {_span(times, usual)})."
    )
    evidence = {"share": share, "gap": _span(times, longest), "start": start, "end": end}
    return Finding("warn" if long else "note", column, sentence, evidence)


def _steps(times: pd.Index) -> np.ndarray:
    """Steps between sorted times, in nanoseconds for dates and in the user's own unit for numbers."""
    values = times.to_numpy()
    if np.issubdtype(values.dtype, np.datetime64):
        values = values.astype("datetime64[ns]").astype(np.int64)
    return np.diff(values).astype(float)


def _span(times: pd.Index, step: float) -> str:
    """A duration in words."""
    return str(pd.Timedelta(int(step), "ns")) if isinstance(times, pd.DatetimeIndex) else f"{step:g}"
