"""Rows of the report's tables, as text ready for the page. Nothing is escaped here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.wording import Written, decimals_for, fixed, number, percent, scale_for
from bayestwin.assess import Gate
from bayestwin.check.finding import SEVERITIES, Severity, where
from bayestwin.report.reading import Quantity


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
    """One line of the coverage table."""

    name: str
    prob: str
    inside: str
    share: str
    lower: str
    upper: str
    good: bool


class ScoreRow(NamedTuple):
    """One line of the table of scores, numbers in the unit."""

    name: str
    unit: str
    num: str
    rmse: str
    mae: str
    mape: str
    crps: str
    persistence: str
    skill: str
    better: bool


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


def coverage_rows(found: xr.Dataset) -> list[CoverageRow]:
    """The coverage table, by observation and nominal probability."""
    rows = []
    for name in found["observation"].to_numpy():
        for prob in found["prob"].to_numpy():
            cell = {key: value.item() for key, value in found.sel(observation=name, prob=prob).data_vars.items()}
            rows.append(
                CoverageRow(
                    name=str(name),
                    prob=percent(float(prob)),
                    inside=f"{int(cell['num_inside']):,} of {int(cell['num']):,}",
                    share=percent(cell["coverage"], 1),
                    lower=percent(cell["band_lower"], 1),
                    upper=percent(cell["band_upper"], 1),
                    good=bool(cell["within_joint_band"]),
                )
            )
    return rows


def score_rows(found: xr.Dataset) -> list[ScoreRow]:
    """The table of scores, by observation."""
    rows = []
    for name in found["observation"].to_numpy():
        cell = found.sel(observation=name)
        values = {str(key): float(value) for key, value in cell.data_vars.items()}
        scale = scale_for(values["rmse"], str(cell["units"].item()))
        rows.append(
            ScoreRow(
                name=str(name),
                unit=scale.unit or "–",
                num=fixed(values["num"], 0),
                rmse=number(values["rmse"] * scale.factor),
                mae=number(values["mae"] * scale.factor),
                mape=Written(f"{number(values['mape'])} %", values["mape"]),
                crps=number(values["crps"] * scale.factor),
                persistence=number(values["persistence_rmse"] * scale.factor),
                skill=fixed(values["skill"], 2),
                better=values["skill"] > 0,
            )
        )
    return rows


# What was found in the data before calibration: notices of reading, and the findings of `bayestwin check`.

MOST_FINDINGS = 100


class Checked(NamedTuple):
    """A run of `check` on the telemetry that was calibrated.

    Attributes:
        run: Its name.
        findings: Each with `kind`, `severity`, `column`, `sentence` and `evidence`.
        trouble: Why they cannot be read, in words; empty where they can.
    """

    run: str
    findings: Sequence[Mapping[str, Any]] = ()
    trouble: str = ""


class FindingRow(NamedTuple):
    """One line of the table."""

    severity: str
    kind: str
    column: str
    sentence: str
    where: str


def finding_rows(checked: Checked | None) -> list[FindingRow]:
    """The table of findings, the worst first."""
    if checked is None:
        return []
    worst = sorted(checked.findings, key=lambda one: SEVERITIES.index(_severity(one)))
    return [_row(one) for one in worst[:MOST_FINDINGS]]


def finding_words(checked: Checked | None) -> str:
    """What the findings are of, in a sentence."""
    if checked is None:
        return (
            "`bayestwin check` was not run on this telemetry: whether sensors stuck, drifted or lost samples was not "
            "looked at. Run it on this model, and write this report again by `bayestwin report`."
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
