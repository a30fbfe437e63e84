"""Rows of the report's tables, as text ready for the page. Nothing is escaped here."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import xarray as xr

from bayestwin._base.wording import Written, decimals_for, fixed, number, percent, scale_for
from bayestwin.assess import Gate
from bayestwin.report.quantities import Quantity


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
