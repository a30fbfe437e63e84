"""Lines of the tables of a validation page, and sentences: what speaks against a forecast, and what was not checked.

Nothing is escaped here.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, duration, fixed, number, percent, scale_for
from bayestwin.assess.coverage import kept
from bayestwin.assess.evidence import Evidence
from bayestwin.assess.trust import BACKTEST, HELD_OUT, BacktestTrial, group_names
from bayestwin.report.insight import SECTIONS, Found
from bayestwin.report.reading import zone_of
from bayestwin.report.tables import CoverageRow, ScoreRow, coverage_row, score_row
from bayestwin.telemetry import said


class OriginRow(NamedTuple):
    """One origin of a backtest; `trouble` is empty where all went well."""

    origin: str
    start: str
    end: str
    num: str
    trouble: str


def coverage_rows(evidence: Mapping[str, Evidence]) -> list[CoverageRow]:
    """By observation, kind of forecasts and probability."""
    rows = []
    for name in _names(evidence):
        for part, one in evidence.items():
            own = one.whole.sel(observation=name)
            for place, prob in enumerate(own["prob"].to_numpy()):
                row = coverage_row(own.isel(prob=place), name, percent(float(prob)))
                rows.append(row._replace(part=part, first=place == 0))
    return rows


def group_rows(evidence: Mapping[str, Evidence], dim: str, prob: float, time_unit: str) -> list[CoverageRow]:
    """By observation, kind of forecasts and group, at one probability."""
    rows = []
    for name in _names(evidence):
        for part, one in evidence.items():
            if dim not in one.by:
                continue
            own = one.by[dim].sel(observation=name).sel(prob=prob, method="nearest")
            for place, label in enumerate(group_names(one.by[dim], dim, time_unit)):
                row = coverage_row(own.isel({dim: place}), name)
                rows.append(row._replace(part=part, first=place == 0, group=label))
    return rows


def conformal_rows(whole: xr.Dataset, widths: xr.Dataset) -> list[CoverageRow]:
    """Raw and conformal intervals of each observation and probability, with mean widths (see `mean_widths`).

    Probabilities for which the backtest has too few errors are left out.
    """
    rows = []
    for name in whole["observation"].to_numpy():
        unit = str(whole["units"].sel(observation=name).item())
        for at, prob in enumerate(whole["prob"].to_numpy()):
            for place, kind in enumerate(whole["kind"].to_numpy()):
                own = whole.sel(observation=name, kind=kind).isel(prob=at)
                if not int(own["num"]):
                    continue
                width = float(widths["width"].sel(observation=name, kind=kind).isel(prob=at))
                scale = scale_for(width, unit)
                text = number(width * scale.factor) if math.isfinite(width) else "–"
                row = coverage_row(own, str(name), percent(float(prob)))
                first = at == 0 and place == 0
                rows.append(row._replace(first=first, kind=str(kind), unit=scale.unit or "–", width=text))
    return rows


def score_rows(scores: Mapping[str, xr.Dataset], prob: float) -> list[ScoreRow]:
    """By observation and kind of forecasts."""
    rows = []
    for name in next(iter(scores.values()))["observation"].to_numpy():
        for part, table in scores.items():
            own = table.sel(observation=name)
            row, factor = score_row(own, str(name))
            rmse, simple = float(own["rmse"]), []
            for skill in baselines_of(scores):
                value = float(own[rmse_of(skill)])
                simple.append((number(value * factor) if math.isfinite(value) else "–", not value <= rmse))
            width = number(float(own["width"].sel(prob=prob, method="nearest")) * factor)
            rows.append(row._replace(part=part, width=width, baselines=tuple(simple)))
    return rows


def baselines_of(scores: Mapping[str, xr.Dataset]) -> list[str]:
    """Skills against those simple methods that have something to say."""
    tables = scores.values()
    return [s for s in SIMPLE if any(s in t and bool(np.isfinite(t[rmse_of(s)]).any()) for t in tables)]


def rmse_of(skill: str) -> str:
    """The RMSE that a skill is made from."""
    return "persistence_rmse" if skill == "skill" else skill.replace("_skill", "_rmse")


def origin_rows(backtest: xr.DataTree) -> list[OriginRow]:
    """One line an origin."""
    table, rows = backtest["origins"].to_dataset(), []
    for place in range(table.sizes["origin"]):
        own = table.isel(origin=place)
        failure, gates = str(own["failure"].item()), str(own["failed_gates"].item())
        trouble = (
            f"none: {failure.splitlines()[0]}"
            if failure
            else f"made, but the posterior failed: {gates}"
            if gates
            else ""
        )
        keys = ("origin", "calibrated_from", "calibrated_until")
        origin, start, end = (moment(own[key].to_numpy()[()], zone_of(backtest)) for key in keys)
        num = fixed(float(own["num_calibrated"]), 0)
        rows.append(OriginRow(origin, start, end, num, trouble))
    return rows


def mean_widths(intervals: xr.Dataset, observed: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Mean width `width` (kind, observation, prob) at the times that were observed and at which there are both.

    Args:
        intervals: Raw and conformal ones, as of `bt.intervals`.
        observed: By observation, places on the axis of time.
    """
    width = (intervals["upper"] - intervals["lower"]).transpose("kind", "observation", "prob", "time")
    rows = []
    for place, name in enumerate(intervals["observation"].to_numpy()):
        own = width.to_numpy()[:, place][..., observed[str(name)]]
        own = np.where(np.isfinite(own).all(axis=0), own, np.nan)
        some = np.isfinite(own).any(axis=-1)
        rows.append(np.where(some, np.nansum(own, axis=-1) / np.maximum(np.isfinite(own).sum(axis=-1), 1), np.nan))
    coords = {name: intervals[name] for name in ("kind", "observation", "prob")}
    return xr.Dataset({"width": (("kind", "observation", "prob"), np.stack(rows, axis=1))}, coords)


def setting_rows(settings: Mapping[str, object], time_unit: str) -> list[tuple[str, str]]:
    """How a backtest was made, in words."""
    if not settings:
        return []
    horizon, gap = (float(str(settings[key])) for key in ("horizon", "gap"))
    window = {"expanding": "all that was known at the origin", "sliding": "as long a time as the first origin has"}
    again = "at each origin" if settings["recalibrate"] else "once, at the first origin"
    return [
        ("origins", str(settings["origins"])),
        ("how far ahead", duration(horizon, time_unit)),
        ("calibrated on", window[str(settings["window"])]),
        ("calibrated", f"{again}, by {settings['method']}"),
        ("time left out before each origin", duration(gap, time_unit) if gap else "none"),
    ]


def moment(value: object, zone: str = "") -> str:
    """A time of the user's, in the zone that was declared."""
    if isinstance(value, np.datetime64):
        return said(value.astype("datetime64[m]"), zone)
    return f"{float(str(value)):.12g}"


def _names(evidence: Mapping[str, Evidence]) -> list[str]:
    return [str(name) for name in next(iter(evidence.values())).whole["observation"].to_numpy()]


# What else speaks against a forecast, and what was not looked at, one sentence each.

ALIKE = 0.02
"""Shares inside raw and conformal intervals that differ by less are as good as each other."""

WHERE = {HELD_OUT: "on what was held out", BACKTEST: "in the backtest"}
SIMPLE = {
    "skill": "holding the last value",
    "seasonal_skill": "the value of a period before",
    "linear_skill": "a linear regression on the inputs",
}


SHORT = {"skill": "last value", "seasonal_skill": "period before", "linear_skill": "regression"}
"""The same in the head of a table."""


def doubts(pit: Mapping[str, xr.Dataset], scores: Mapping[str, xr.Dataset]) -> list[str]:
    """Forecasts that are not right as a whole, or worse than a simple method."""
    found = []
    for part, table in pit.items():
        off = [str(n) for n, good, num in _rows(table, "within_band", "num") if num and not good]
        if off:
            found.append(
                f"The whole forecast of {', '.join(off)} is not right {WHERE[part]}: its PIT leaves the band (see PIT)."
            )
    for part, table in scores.items():
        for name, gone in _rows(table, "failed") if "failed" in table else ():
            if gone:
                share = percent(float(gone), 1)
                found.append(
                    f"Of {name} {share} of the paths were not there when it was observed {WHERE[part]}, since their "
                    "solve had failed: its intervals are those of the others."
                )
    for part, table in scores.items():
        for skill, words in SIMPLE.items():
            if skill in table:
                worse = [str(n) for n, value in _rows(table, skill) if value <= 0]
                if worse:
                    found.append(f"For {', '.join(worse)}, {words} comes closer than the twin {WHERE[part]}.")
    return found


def failures_of(others: Mapping[str, Found]) -> list[str]:
    """What other verbs found against the twin: those whose newest run failed, with what failed in it."""
    found = []
    for section in SECTIONS:
        run = others.get(section.command)
        if run is None or run.record.get("status") != "failed gates":
            continue
        about = " (on other telemetry than this)" if run.same_data is False else ""
        gates = [gate for gate in run.record.get("gates") or () if not gate["passed"] and gate["severity"] == "fail"]
        told = f": {' '.join(str(gate['sentence']) for gate in gates[:MOST_TOLD])}" if gates else "."
        more = f" And {len(gates) - MOST_TOLD} more." if len(gates) > MOST_TOLD else ""
        found.append(f"{section.title} failed in run `{run.run}`{about}{told}{more}")
    return found


MOST_TOLD = 3
"""Failed gates of another verb of which the sentences are said."""


def unchecked(
    *, trial: BacktestTrial, regimes: Sequence[str], inputs: Sequence[str], ran: Sequence[str], folder: str, reach: str
) -> list[str]:
    """What was not looked at.

    Args:
        trial: The backtest.
        regimes: By what points were told apart, but their horizon.
        inputs: Inputs of the twin.
        ran: Verbs that there is a finished run of.
        folder: Of the model, as the user typed it.
        reach: How far ahead was held out, in words.
    """
    found = [f"Forecasts further ahead than {reach}: nothing was held out there."]
    if trial.evidence is None and not trial.planned:
        found.append("Calibrations at other times: there was no backtest, and so no conformal intervals.")
    if not regimes:
        found.append(
            "What the asset was doing: the job names no column in `by` of `[validate]`, so intervals too wide at one "
            "time may make up for others too narrow."
        )
    if inputs:
        found.append(
            f"How well {', '.join(f'`{name}`' for name in inputs)} can be forecast: the twin was driven by "
            "what was recorded."
        )
    for section in SECTIONS:
        if section.command not in ran:
            found.append(f"{section.title}: not done yet, run `bayestwin {section.command} {folder}`.")
    return found


def conformal_words(
    both: Mapping[str, xr.Dataset], widths: xr.Dataset | None, correction: xr.Dataset | None
) -> list[str]:
    """Raw against conformal intervals at the probability that counts: coverage, width, and which to take.

    Args:
        both: Coverage (kind, observation) by part.
        widths: Mean width `width` (kind, observation), and `units`, of what was held out.
        correction: What conformal intervals are made from, at that probability.
    """
    if correction is None or widths is None:
        return []
    sentences = []
    for name in widths["observation"].to_numpy():
        num = int(correction["num"].sel(observation=name).sum())
        if not np.isfinite(correction["lower"].sel(observation=name)).all():
            prob = float(correction["prob"])
            needed = int(np.ceil(2 / (1 - prob) - 1 - 1e-9))
            sentences.append(
                f"{name}: the backtest has {count(num, 'error')}, and a conformal {percent(prob)} interval needs "
                f"{needed}: there is none."
            )
            continue
        own = both[HELD_OUT].sel(observation=name)
        raw, conformal = (float(own["coverage"].sel(kind=kind)) for kind in ("raw", "conformal"))
        wide = widths["width"].sel(observation=name)
        ratio = float(wide.sel(kind="conformal") / wide.sel(kind="raw"))
        good = [kept(own.sel(kind=kind)) for kind in ("raw", "conformal")]
        advice = {
            (None, None): "So few cannot tell whether they hold.",
            (True, None): "The raw one holds; of the conformal one so few cannot tell.",
            (None, True): "The conformal one holds; of the raw one so few cannot tell.",
            (None, False): "The conformal one does not hold; of the raw one so few cannot tell.",
            (False, None): "The raw one does not hold; of the conformal one so few cannot tell.",
            (True, True): "Both hold.",
            (True, False): "The raw one holds and the conformal one does not: keep the raw one.",
            (False, True): "The conformal one holds and the raw one does not: use the conformal one.",
            (False, False): "Neither holds: conditions are other than those of the backtest.",
        }[good[0], good[1]]
        if abs(conformal - raw) < ALIKE and False in good and good[0] != good[1]:
            advice += " They hardly differ: do not make much of it."
        sentences.append(
            f"{name}, held out: {percent(raw, 1)} inside the raw interval, {percent(conformal, 1)} inside the "
            f"conformal one, which is {number(ratio, 2)} times as wide and rests on {count(num, 'error')} of the "
            f"backtest. {advice}"
        )
    return sentences


def reach_words(forecast: xr.DataTree, furthest: float) -> str:
    """How far ahead a forecast was held against something."""
    return duration(furthest, str(forecast.attrs.get("time_unit", "")))


def _rows(table: xr.Dataset, *names: str) -> list[tuple]:
    columns = [table[name].to_numpy() for name in names]
    return list(zip(table["observation"].to_numpy(), *columns, strict=True))
