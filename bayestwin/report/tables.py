"""Lines of tables, as text ready for a page: quantities, coverage, scores, and what `bayestwin check` found before.

Nothing is escaped here.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.wording import Written, decimals_for, fixed, number, percent, scale_for
from bayestwin.assess import Gate
from bayestwin.assess.coverage import kept
from bayestwin.check.finding import SEVERITIES, Severity, where
from bayestwin.report.reading import PROB, Quantity


class ParameterRow(NamedTuple):
    """One quantity of the parameter table; `poor` names those of its numbers that their gate would not pass."""

    name: str
    doc: str
    unit: str
    mean: str
    sd: str
    lower: str
    upper: str
    rhat: str
    ess_bulk: str
    ess_tail: str
    contraction: str
    poor: frozenset[str]


class CoverageRow(NamedTuple):
    """One line of a table of coverage; a page shows of it what tells its lines apart.

    Attributes:
        name: The observation.
        prob: What was promised.
        inside: How many observations lie inside their interval, and of how many.
        share: The same as a share.
        lower: From where the band goes in which the share lies by chance.
        upper: To where.
        good: Whether the promise was kept; None where that cannot be told.
        part: Kind of forecasts.
        first: Whether observation or kind of forecasts change here.
        group: Of which points it is.
        kind: Raw or conformal.
        unit: Of the width.
        width: Mean width of the intervals.
    """

    name: str
    prob: str
    inside: str
    share: str
    lower: str
    upper: str
    good: bool | None
    part: str = ""
    first: bool = False
    group: str = ""
    kind: str = ""
    unit: str = ""
    width: str = ""


class ScoreRow(NamedTuple):
    """One line of a table of scores, numbers in the unit; a page shows of it what its head names.

    Attributes:
        name: The observation.
        unit: Of the errors.
        num: Number of observations.
        rmse: Root mean square error of the median.
        mae: Mean absolute error of the median.
        crps: Continuous ranked probability score.
        mape: Mean absolute error in percent of the observation.
        persistence: RMSE of holding the last value.
        skill: Against holding the last value.
        better: Whether that is positive.
        part: Kind of forecasts.
        width: Mean width of the intervals.
        baselines: RMSE of each simple method, and whether the twin's is less.
    """

    name: str
    unit: str
    num: str
    rmse: str
    mae: str
    crps: str
    mape: str = ""
    persistence: str = ""
    skill: str = ""
    better: bool = False
    part: str = ""
    width: str = ""
    baselines: tuple[tuple[str, bool], ...] = ()


def parameter_rows(quantities: Sequence[Quantity], gates: Sequence[Gate]) -> list[ParameterRow]:
    """The parameter table; each number shows two digits of its quantity's sd."""
    limits = {gate.name: gate.limit for gate in gates}
    rows = []
    for quantity in quantities:
        decimals = decimals_for(quantity.sd)
        good = {
            "rhat": quantity.rhat <= limits.get("rhat", math.inf),
            "ess_bulk": quantity.ess_bulk >= limits.get("ess_bulk", 0),
            "ess_tail": quantity.ess_tail >= limits.get("ess_tail", 0),
        }
        rows.append(
            ParameterRow(
                name=quantity.name,
                doc=quantity.doc,
                unit=quantity.scale.unit or "–",
                mean=fixed(quantity.mean, decimals),
                sd=fixed(quantity.sd, decimals),
                lower=fixed(quantity.lower, decimals),
                upper=fixed(quantity.upper, decimals),
                rhat=fixed(quantity.rhat, 3),
                ess_bulk=fixed(quantity.ess_bulk, 0),
                ess_tail=fixed(quantity.ess_tail, 0),
                contraction=percent(quantity.contraction),
                poor=frozenset(name for name, passed in good.items() if not passed),
            )
        )
    return rows


def coverage_rows(covered: xr.Dataset) -> list[CoverageRow]:
    """The coverage table, by observation and nominal probability."""
    return [
        coverage_row(covered.sel(observation=name).isel(prob=place), str(name), percent(float(prob)))
        for name in covered["observation"].to_numpy()
        for place, prob in enumerate(covered["prob"].to_numpy())
    ]


def coverage_row(counted: xr.Dataset, name: str, prob: str = "") -> CoverageRow:
    """One line from the counts of one observation at one probability."""
    num = int(counted["num"])
    share, lower, upper = (
        percent(float(counted[key]), 1) if num else "–" for key in ("coverage", "joint_lower", "joint_upper")
    )
    return CoverageRow(name, prob, f"{int(counted['num_inside']):,} of {num:,}", share, lower, upper, kept(counted))


def score_rows(scored: xr.Dataset) -> list[ScoreRow]:
    """The table of scores, by observation."""
    rows = []
    for name in scored["observation"].to_numpy():
        own = scored.sel(observation=name)
        mape, skill = float(own["mape"]), float(own["skill"])
        row, factor = score_row(own, str(name))
        rows.append(
            row._replace(
                mape=Written(f"{number(mape)} %", mape),
                persistence=number(float(own["persistence_rmse"]) * factor),
                skill=fixed(skill, 2),
                better=skill > 0,
            )
        )
    return rows


def score_row(own: xr.Dataset, name: str) -> tuple[ScoreRow, float]:
    """One line from the scores of one observation, and by what they were multiplied to be in its unit."""
    scale = scale_for(float(own["rmse"]), str(own["units"].item()))
    rmse, mae, crps = (number(float(own[key]) * scale.factor) for key in ("rmse", "mae", "crps"))
    return ScoreRow(name, scale.unit or "–", fixed(float(own["num"]), 0), rmse, mae, crps), scale.factor


# Quantities of interest.


class QuantityRow(NamedTuple):
    """One quantity of interest; `measured` is what its meter counted, and `held` whether the interval holds that."""

    name: str
    doc: str
    unit: str
    median: str
    lower: str
    upper: str
    never: str
    measured: str
    held: bool | None


def quantity_rows(found: xr.Dataset, words: Mapping[str, str]) -> list[QuantityRow]:
    """The table of quantities of interest.

    Args:
        found: As `bayestwin.quantities` returns it.
        words: About each, by name.
    """
    rows = []
    for name in map(str, found["quantity"].to_numpy()):
        own = found.sel(quantity=name, prob=PROB)
        ends = [float(own[key]) for key in ("median", "lower", "upper", "measured") if key in own]
        spread = ends[2] - ends[1]
        decimals = decimals_for(spread if spread > 1e-6 * abs(ends[0]) else 1e-3 * abs(ends[0]))
        told = [LATER if math.isinf(end) else fixed(end, decimals) for end in ends]
        never = percent(float(own["never"])) if own["kind"].item() == "FirstTime" else ""
        measured, held = ("", None) if len(told) < 4 or math.isnan(ends[3]) else (told[3], bool(own["inside"]))
        median, lower, upper = told[:3]
        about, unit = words.get(name, ""), str(own["units"].item())
        rows.append(QuantityRow(name, about, unit, median, lower, upper, never, measured, held))
    return rows


LATER = "later"
"""A first time that lies after the end of what was predicted."""


# What was found in the data before calibration: notices of reading, and the findings of `bayestwin check`.

MOST_FINDINGS = 100


class EarlierCheck(NamedTuple):
    """A run of `check` on the telemetry that was calibrated.

    Attributes:
        run: Its name.
        findings: Each with `kind`, `severity`, `column`, `sentence` and `evidence`.
        trouble: Why they cannot be read, in words; empty where they can.
    """

    run: str
    findings: Sequence[Mapping[str, Any]] = ()
    trouble: str = ""

    def of_one(self, experiment: str) -> "EarlierCheck":
        """What of it is about one of several experiments."""
        return self._replace(findings=[one for one in self.findings if one.get("experiment", experiment) == experiment])


class FindingRow(NamedTuple):
    """One line of the table."""

    severity: str
    kind: str
    column: str
    sentence: str
    where: str


def finding_rows(checked: EarlierCheck | None) -> list[FindingRow]:
    """The table of findings, the worst first."""
    if checked is None:
        return []
    worst = sorted(checked.findings, key=lambda one: SEVERITIES.index(_severity(one)))
    return [_row(one) for one in worst[:MOST_FINDINGS]]


def finding_words(checked: EarlierCheck | None) -> str:
    """What the findings are of, in a sentence."""
    if checked is None:
        return (
            "`bayestwin check` was not run on this telemetry: whether sensors stuck, drifted or lost samples was not "
            "looked at. Run it on this model, and write this report again by `bayestwin report`; in Python `bt.check` "
            "looks."
        )
    if checked.trouble:
        return f"Run `{checked.run}` of `bayestwin check` cannot be read. {checked.trouble}"
    more = len(checked.findings) - MOST_FINDINGS
    if not checked.findings:
        return f"`bayestwin check` found nothing (run `{checked.run}`)."
    return f"Findings of `bayestwin check` (run `{checked.run}`)" + (
        f"; {more} more are in its files." if more > 0 else "."
    )


def _row(found: Mapping[str, Any]) -> FindingRow:
    evidence = found.get("evidence")
    return FindingRow(
        _severity(found),
        str(found.get("kind") or "–"),
        str(found.get("column") or "–"),
        str(found.get("sentence") or ""),
        _where(evidence) if isinstance(evidence, Mapping) else "–",
    )


def _severity(found: Mapping[str, Any]) -> Severity:
    """How bad a finding is; what does not say so is worth a look."""
    told = found.get("severity")
    return told if told in SEVERITIES else "warn"


def _where(evidence: Mapping[str, Any]) -> str:
    """Where a finding lies: its rows and its times, as far as they are known."""
    rows, times = evidence.get("rows"), evidence.get("times")
    told = []
    if isinstance(rows, list) and rows and all(isinstance(pair, list) and len(pair) == 2 for pair in rows):
        told.append(where({"rows": rows, "num_rows": evidence.get("num_rows")}))
    if isinstance(times, list) and times:
        told.append(" to ".join(dict.fromkeys(map(str, times[:2]))))
    return "; ".join(told) or "–"
