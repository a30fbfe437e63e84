"""What `check` says and by which measure: findings, thresholds from which on something is one, and operating ranges."""

import difflib
import math
import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.units import check_unit, convert
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Zone, said

type Severity = Literal["fail", "warn", "note"]

SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "note")
"""The worst first."""

MOST_RANGES = 100
"""More ranges of rows than this are not listed; `num_rows` counts all."""

KINDS: dict[str, str] = {
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
"""What can be found, in words; `fail_on` and `ignore` name these. `bayestwin.check.register` adds to them."""


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
        raise InvalidSetting(
            f"There is no finding of the kind {unknown}.",
            expected=expected,
            received=unknown,
            advice="Correct `fail_on` or `ignore`.",
        )


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


# From which size on something is a finding.


class Thresholds(NamedTuple):
    """Limits of `check`, by name the keys of `[check]` in a job file.

    Attributes:
        gap: A gap of more than so many usual steps is a warning.
        few: Fewer values in a column are reported.
        missing: A larger share of missing values is a warning.
        stuck: Fewer equal values in a row are never “stuck”.
        spike: How far a value jumps out and back, in robust standard deviations of what jumps usually are.
        level_shift: Likewise of a jump that stays.
        drift: By how many standard errors a residual wanders off.
        saturation: Share of values that lie exactly at the highest or lowest one.
        levels: Fewer different values than this over the whole range are coarse.
        lag: A clock that is wrong by fewer usual steps is not reported.
        prior: A smaller share of data inside the prior's 99 % interval is a warning.
        coverage: A smaller share of the operating range that is visited is noted.
        outside: A larger share of held-out values outside what was calibrated is a warning.
    """

    gap: float = 10.0
    few: int = 10
    missing: float = 0.2
    stuck: int = 8
    spike: float = 10.0
    level_shift: float = 10.0
    drift: float = 8.0
    saturation: float = 0.03
    levels: int = 16
    lag: float = 2.0
    prior: float = 0.9
    coverage: float = 0.5
    outside: float = 0.1


def thresholds_from(given: Mapping[str, Any] | None) -> Thresholds:
    """The defaults with what was given instead.

    Raises:
        InvalidSetting: If a name is unknown or a value is not a positive number.
    """
    for name, value in (given or {}).items():
        known = name in Thresholds._fields
        if not known or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InvalidSetting(
                f"`thresholds` has {'a wrong value for' if known else 'the unknown name'} `{name}`.",
                expected="a positive number" if known else ", ".join(f"`{field}`" for field in Thresholds._fields),
                received=f"{value!r}" if known else f"`{name}`",
                advice="Correct it, or leave it out for the default.",
            )
    return Thresholds(**(given or {}))


# The operating range of a twin, as its card states it: a block of TOML beneath the heading "Operating range".
#
# By observation or input a table such as `[indoor]` with `low`, `high` in `unit`, and `max_rate` by the twin's time
# unit.

HEADING = re.compile(r"(?m)^#{2,}\s*operating range\b.*$", re.IGNORECASE)

BLOCK = re.compile(r"^```toml[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


class Limit(NamedTuple):
    """What one observation or input may be, in the twin's unit.

    Attributes:
        low: The lowest value; −∞ where the card says nothing.
        high: The highest one.
        max_rate: The largest change in one unit of the twin's time.
    """

    low: float = -math.inf
    high: float = math.inf
    max_rate: float = math.inf

    def words(self, unit: str) -> str:
        """The range in words, open at an end that is not stated."""
        parts = [f"{end:.4g}" for end in (self.low, self.high) if math.isfinite(end)]
        word = "" if len(parts) != 1 else "at least " if math.isfinite(self.low) else "at most "
        return f"{word}{' to '.join(parts)} {unit}".strip()


def read_limits(path: pathlib.Path, twin: Twin) -> dict[str, Limit]:
    """Limits by observation and input, in the twin's units; none where there is no card, or no block in it.

    Raises:
        InvalidInput: If the block is not TOML, names what the twin does not have, or a limit makes no sense.
    """
    return limits_from(stated_range(path), twin, str(path))


def stated_range(path: pathlib.Path) -> dict[str, Any]:
    """What a card states beneath “Operating range”, as it stands there; nothing where there is no card, or no block.

    Raises:
        InvalidInput: If the block is not TOML.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8-sig")
    heading = HEADING.search(text)
    if heading is None:
        return {}
    section = re.split(r"(?m)^#{1,2}\s", text[heading.end() :], maxsplit=1)[0]
    block = BLOCK.search(section)
    if block is None:
        return {}
    try:
        return tomllib.loads(block[1])
    except tomllib.TOMLDecodeError as reason:
        raise InvalidInput(
            f"The operating range of `{path}` is not valid TOML.",
            expected='tables such as `[indoor]` with `low = 15.0`, `high = 30.0`, `unit = "degC"`',
            received=str(reason),
            advice="Correct the block beneath “Operating range”; lines count from its first one.",
        ) from reason


def limits_from(given: Mapping[str, Any], twin: Twin, owner: str = "limits") -> dict[str, Limit]:
    """Limits as a card or a caller states them, checked, in the twin's units.

    Args:
        given: By name, `low`, `high`, `unit` and `max_rate`, each of which may be left out.
        twin: Its observations and inputs may be named.
        owner: What states them, for messages.

    Raises:
        InvalidInput: If a name or key is unknown, or a limit makes no sense.
    """
    members = {**twin.inputs, **twin.observations}
    limits = {}
    for name, stated in given.items():
        if name not in members:
            _refuse(owner, f"names `{name}`", members, f"`{name}`", _meant(name, members))
        if not isinstance(stated, Mapping):
            _refuse(owner, f"has no table for `{name}`", ["[" + name + "]"], f"{stated!r}", "Make it a table.")
        limits[name] = _limit(name, stated, members[name].unit, owner)
    return limits


def _limit(name: str, stated: Mapping[str, Any], unit: str, owner: str) -> Limit:
    keys = ("low", "high", "unit", "max_rate")
    for key, value in stated.items():
        if key not in keys:
            _refuse(owner, f"has the unknown key `{name}.{key}`", keys, f"`{key}`", _meant(key, keys))
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if key != "unit" and not number:
            _refuse(owner, f"has no number for `{name}.{key}`", ["a finite number"], f"{value!r}", "Correct it.")
    own = str(stated.get("unit", unit))
    check_unit(own, f"`{name}` in the operating range of `{owner}`", InvalidInput)
    what = f"`{name}` in the operating range of `{owner}`"
    low, high = (
        float(convert(float(stated.get(key, nothing)), own, unit, what, InvalidInput))  # type: ignore[arg-type]
        for key, nothing in (("low", -math.inf), ("high", math.inf))
    )
    if not low < high:
        _refuse(owner, f"leaves nothing between `low` and `high` of `{name}`", ["low < high"], f"{low:g}, {high:g}", "")
    rate = float(stated.get("max_rate", math.inf))
    if not rate > 0:
        _refuse(owner, f"has a `max_rate` of `{name}` that forbids all", ["a positive number"], f"{rate:g}", "")
    one = [float(convert(value, own, unit, what, InvalidInput)) for value in (0.0, 1.0)]  # type: ignore[arg-type]
    return Limit(low, high, rate * (one[1] - one[0]))


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean `{close[0]}`?" if close else "Remove it, or correct its name."


def _refuse(owner: str, what: str, expected: Any, received: str, advice: str) -> None:
    raise InvalidInput(
        f"The operating range of `{owner}` {what}.",
        expected=", ".join(f"`{one}`" for one in expected),
        received=received,
        advice=advice or "Correct it.",
    )
