"""What `check` says: findings, their kinds, and the rows and times that they rest on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidSetting, explain
from bayestwin.telemetry import Zone, said

type Severity = Literal["fail", "warn", "note"]

SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "note")
"""The worst first."""

MOST_RANGES = 100
"""More ranges of rows than this are not listed; `num_rows` counts all."""

KINDS: Mapping[str, str] = {
    "duplicate": "times that are there more than once",
    "out_of_order": "times that do not increase",
    "irregular": "steps of different length",
    "gap": "a long time without rows, or without values of one column",
    "reading": "what else was done to the telemetry when it was read",
    "unit_assumed": "a unit that nobody stated",
    "few": "hardly any values",
    "missing": "missing values here and there",
    "missing_regime": "values that are missing mostly where another column is low or high",
    "constant": "a sensor that never changes",
    "stuck": "a sensor that stopped changing for a while",
    "sentinel": "numbers that mean “missing”",
    "spike": "values that jump out and back",
    "saturation": "values that pile up at their highest or lowest",
    "quantisation": "coarse steps between values, or steps that become coarser",
    "level_shift": "a jump that stays, and that neither inputs nor the past explain",
    "drift": "a residual that wanders off, or is another one from some time on",
    "clock_skew": "a sensor whose times are not those of the others",
    "clock_drift": "a sensor whose clock runs faster or slower than the others'",
    "clock_unknown": "that nothing in the record tells whether a sensor's clock is right",
    "repeated": "a stretch of rows that is there twice",
    "copied": "rows that two experiments share",
    "unlike": "columns and units that differ between experiments",
    "overlap": "rows that are both calibrated and held out",
    "range": "values outside the twin's operating range",
    "rate": "changes faster than the operating range allows",
    "unit_scale": "values that would fit in another unit",
    "prior": "data that the prior hardly expects, or a prior that cannot be solved",
    "expected": "that the prior can be solved and expects the data: nothing to do",
    "coverage": "parts of the operating range that the calibrated data do not visit",
    "extrapolation": "held-out values outside what was calibrated",
}
"""What can be found, in words; `fail_on` and `ignore` name these."""


class Finding(NamedTuple):
    """One thing worth knowing before a calibration.

    Attributes:
        kind: What it is: one of `KINDS`, or a slug of the verb that found it.
        severity: `"fail"` where a calibration makes no sense, `"warn"` where it may mislead, else `"note"`.
        column: The column concerned; empty where it is the times or the rows as a whole.
        sentence: What was found and what to do, in words.
        evidence: The numbers behind it, plain values that JSON can hold; times as text. Where the finding has a place:
            `rows`, pairs of first and last row, both inclusive and counted from 1 in the telemetry as it was read (in
            order of time); `num_rows`, how many these are; `times`, those of the first and the last of them.
        experiment: The experiment concerned, which `sentence` names too; empty where there is but one, or all are.
    """

    kind: str
    severity: Severity
    column: str
    sentence: str
    evidence: Mapping[str, Any]
    experiment: str = ""


def wrong_kinds(kinds: Iterable[str]) -> str:
    """What is expected instead, where there is no finding of one of these kinds; empty where there is of all."""
    return "" if set(kinds) <= KINDS.keys() else ", ".join(f"`{known}`" for known in KINDS)


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse kinds of findings that there are none of.

    Raises:
        InvalidSetting: If one is unknown.
    """
    if expected := wrong_kinds(kinds):
        unknown = next(f"`{kind}`" for kind in kinds if kind not in KINDS)
        message = explain(
            f"There is no finding of the kind {unknown}.",
            expected=expected,
            received=unknown,
            advice="Correct `fail_on` or `ignore`.",
        )
        raise InvalidSetting(message)


def ranges_of(rows: np.ndarray, first: int = 1) -> list[list[int]]:
    """Rows, counted from 0, as pairs of first and last, counted from `first`."""
    rows = np.unique(rows)
    if rows.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(rows) > 1)
    starts, ends = np.r_[rows[0], rows[breaks + 1]], np.r_[rows[breaks], rows[-1]]
    return [[int(start) + first, int(end) + first] for start, end in zip(starts, ends, strict=True)]


def place(rows: np.ndarray, times: pd.Index, first: int = 1, zone: Zone = None) -> dict[str, Any]:
    """Evidence about where: `rows`, `num_rows` and `times`.

    Args:
        rows: Counted from 0; shape (k,), k > 0.
        times: Of all rows; shape (n,).
        first: What the first of all rows is counted as.
        zone: In which times are shown.
    """
    rows = np.unique(rows)
    return {
        "rows": ranges_of(rows, first)[:MOST_RANGES],
        "num_rows": int(rows.size),
        "times": [said(times[int(rows[0])], zone), said(times[int(rows[-1])], zone)],
    }


def where(evidence: Mapping[str, Any]) -> str:
    """Rows in words: "row 7", "rows 7 to 12", "rows 7 to 12, 20, …"."""
    pairs = evidence["rows"]
    parts = [str(one) if one == other else f"{one} to {other}" for one, other in pairs[:4]]
    word = "row" if evidence["num_rows"] == 1 else "rows"
    return f"{word} {', '.join(parts)}{', …' if len(pairs) > 4 else ''}"


def graded(findings: Iterable[Finding], fail_on: Iterable[str] = (), ignore: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Findings as a job wants them judged, the worst first.

    Args:
        findings: As they were found.
        fail_on: Kinds that fail, whatever they are by themselves.
        ignore: Kinds that are left out.
    """
    strict, silent = set(fail_on), set(ignore)
    kept = [one._replace(severity="fail") if one.kind in strict else one for one in findings if one.kind not in silent]
    return tuple(sorted(kept, key=lambda one: SEVERITIES.index(one.severity)))
