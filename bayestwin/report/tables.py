"""Rows of the report's tables and its key figures, as text ready for the page. Nothing is escaped here."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin.assess import Gate
from bayestwin.assess.engine import record
from bayestwin.report.notation import Written, count, decimals_for, fixed, number, percent, scale_for
from bayestwin.report.parts import Part, group
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.telemetry import Telemetry


class Figure(NamedTuple):
    """One key figure: what it is, its value, and `pass`, `warn`, `fail` or nothing."""

    name: str
    value: str
    note: str = ""
    status: str = ""


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
                    good=bool(cell["within_band"]),
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


def key_figures(
    posterior: xr.DataTree,
    quantities: Sequence[Quantity],
    gates: Sequence[Gate],
    covered: xr.Dataset | None,
    scored: xr.Dataset | None,
) -> list[Figure]:
    """The numbers that a reader looks for first."""
    bad = {gate.name: gate.severity for gate in gates if not gate.passed}
    chains, draws = quantities[0].draws.shape
    note = f"{count(chains, 'chain')} × {draws:,}"
    figures = [Figure("draws", f"{chains * draws:,}", note, bad.get("chains", ""))]
    # NaN wins on purpose: a number that cannot be computed must not hide behind the others.
    rhat = float(np.max([quantity.rhat for quantity in quantities]))
    ess = float(np.min([(quantity.ess_bulk, quantity.ess_tail) for quantity in quantities]))
    poor = bad.get("ess_bulk", "") or bad.get("ess_tail", "")
    figures.append(Figure("largest R̂", fixed(rhat, 3), "", bad.get("rhat", "")))
    figures.append(Figure("smallest ESS", fixed(ess, 0), "bulk and tail", poor))
    stats = group(posterior, "sample_stats")
    for name, words, gate in (
        ("diverging", "divergences", "divergences"),
        ("solver_failed", "failed solves", "solver_failures"),
    ):
        if name in stats:
            values = stats[name].to_numpy()
            figures.append(Figure(words, f"{int((values != 0).sum()):,}", f"of {values.size:,}", bad.get(gate, "")))
    if covered is None:
        figures.append(Figure(f"{percent(PROB)} interval covers", "not known", "nothing to compare with"))
    else:
        figures.append(_coverage_figure(covered))
    if scored is not None:
        skill = [float(value) for value in scored["skill"].to_numpy()]
        status = "" if min(skill) > 0 else "warn"
        note = "against persistence" if len(skill) == 1 else f"worst of {len(skill)}, against persistence"
        figures.append(Figure("RMSE lower by", percent(float(np.min(skill))), note, status))
    return figures


def start_words(posterior: xr.DataTree) -> list[str]:
    """How the chains' starts were found, in sentences; empty where nothing was recorded."""
    starts = record(posterior, "starts")
    if not starts:
        return []
    drawn, failed = int(starts.get("drawn", 0)), int(starts.get("failed", 0))
    words = [f"{count(drawn, 'point was', 'points were')} drawn from the prior; {failed:,} could not be solved."]
    if "optimised" in starts:
        optimised, converged = int(starts["optimised"]), int(starts.get("converged", 0))
        words.append(f"The best {optimised:,} were optimised, and {converged:,} converged.")
    modes = int(starts.get("modes", 0))
    if modes == 1:
        words.append("One mode holds all but a negligible share of the posterior (Laplace's approximation).")
    elif modes > 1:
        shares = ", ".join(percent(float(weight)) for weight in starts.get("weights", ()))
        held = f" ({shares} by Laplace's approximation)" if shares else ""
        words.append(
            f"{modes} modes share the posterior{held}: "
            "look whether more than one makes sense for this asset; a prior can exclude those that do not."
        )
    return words + _engine_words(posterior)


def _engine_words(posterior: xr.DataTree) -> list[str]:
    """What the engine chose, and what it did by itself while sampling, in sentences."""
    words = []
    if choice := record(posterior, "solver_choice"):
        words.append(f"Solver chosen: {choice.get('reason', choice.get('method'))}.")
    if mode := record(posterior, "sensitivities"):
        how = "in reverse, through fixed steps" if mode.get("mode") == "reverse" else "forward, through adaptive steps"
        words.append(f"Derivatives were taken {how} ({mode.get('reason')}).")
    sampling = record(posterior, "sampling")
    for event in sampling.get("events", ()):
        if event["what"] == "raised target acceptance":
            words.append(
                f"A transition diverged after {event['after_draws']:,} draws: all were made again with smaller steps, "
                f"aiming at an acceptance of {event['to']:g}."
            )
        else:
            chains = ", ".join(str(chain) for chain in event["chains"])
            words.append(f"Chain {chains} stuck in {event['found_in']} and was started again from the ladder.")
    return words


def result_rows(
    posterior: xr.DataTree, parts: Sequence[Part], forecast: xr.DataTree | None, validation: Telemetry | None
) -> list[tuple[str, str]]:
    """What the result's own attributes say about where it comes from."""
    attrs = posterior.attrs
    rows = [
        ("bayestwin", str(attrs.get("bayestwin_version", "not recorded"))),
        ("schema version", str(attrs.get("schema_version", "not recorded"))),
        ("seed", str(attrs.get("seed", "not recorded"))),
        (
            "solver",
            str(attrs.get("solver") or record(posterior, "description").get("solver", "not recorded")),
        ),
        ("warm-up draws a chain", str(attrs.get("num_warmup", "not recorded"))),
        ("start of the twin (t0)", str(attrs.get("t0", "not recorded"))),
    ]
    for part in parts:
        time = part.bands["time"] if part.bands is not None else part.observed.get("time")
        if time is not None and time.size:
            rows.append((f"times, {part.label}", f"{time.size:,}, from {_moment(time[0])} to {_moment(time[-1])}"))
    stats = group(posterior, "sample_stats")
    if "solver_failed" in stats:
        failures = (stats["solver_failed"] != 0).sum("draw").to_numpy()
        chains = ", ".join(f"chain {chain}: {int(number):,}" for chain, number in enumerate(failures) if number)
        total = f"{int(failures.sum()):,} of {stats['solver_failed'].size:,}"
        rows.append(("failed solves", f"{total} ({chains})" if chains else total))
    rows.append(("SHA-256 of the twin", str(attrs.get("twin_sha256", "not recorded"))))
    rows.append(("SHA-256 of the telemetry", str(attrs.get("telemetry_sha256", "not recorded"))))
    if forecast is not None:
        rows.append(("seed of the forecast", str(forecast.attrs.get("seed", "not recorded"))))
    if validation is not None:
        rows.append(("source of the held-out telemetry", str(validation.source)))
        rows.append(("SHA-256 of the held-out telemetry", str(validation.sha256)))
    return rows


def flat_rows(nested: Mapping[str, Any] | str, front: str = "") -> list[tuple[str, str]]:
    """A nested mapping, or its JSON text, as rows `outer · inner` → value."""
    held = json.loads(nested) if isinstance(nested, str) else nested
    rows: list[tuple[str, str]] = []
    for key, value in held.items():
        name = f"{front} · {key}" if front else str(key)
        if isinstance(value, Mapping):
            rows += flat_rows(value, name)
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


def _coverage_figure(covered: xr.Dataset) -> Figure:
    """Coverage of the interval nearest to `PROB`, of the observation that misses it by most."""
    one = covered.sel(prob=PROB, method="nearest")
    miss = np.nan_to_num(np.abs(one["coverage"].to_numpy() - float(one["prob"])), nan=np.inf)
    worst = one.isel(observation=int(np.argmax(miss)))
    note = "of what was held out" if miss.size == 1 else f"{worst['observation'].item()}, worst of {miss.size}"
    status = "" if bool(one["within_band"].all()) else "warn"
    return Figure(f"{percent(float(one['prob']))} interval covers", percent(float(worst["coverage"])), note, status)


def _moment(time: xr.DataArray) -> str:
    value = time.to_numpy()
    if np.issubdtype(value.dtype, np.datetime64):
        return str(np.datetime_as_string(value, unit="m")).replace("T", " ")
    return f"{value.item():g}"
