"""What else speaks against a forecast, and what was not looked at, one sentence each."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, duration, number, percent
from bayestwin.assess.trial import Trial
from bayestwin.assess.validated import BACKTEST, HELD_OUT
from bayestwin.report.insight import SECTIONS

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
        for skill, words in SIMPLE.items():
            if skill in table:
                worse = [str(n) for n, value in _rows(table, skill) if value <= 0]
                if worse:
                    found.append(f"For {', '.join(worse)}, {words} comes closer than the twin {WHERE[part]}.")
    return found


def unchecked(
    *, trial: Trial, regimes: Sequence[str], inputs: Sequence[str], ran: Sequence[str], folder: str, reach: str
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
        good = [bool(own["within_joint_band"].sel(kind=kind)) for kind in ("raw", "conformal")]
        alike = abs(conformal - raw) < ALIKE and good[0] != good[1]
        advice = {
            (True, True): "Both hold.",
            (True, False): "The raw one holds and the conformal one does not: keep the raw one.",
            (False, True): "The conformal one holds and the raw one does not: use the conformal one.",
            (False, False): "Neither holds: conditions are other than those of the backtest.",
        }[good[0], good[1]]
        if alike:
            advice = "They hardly differ, though only one lies in its band: keep the raw one, which assumes less."
        sentences.append(
            f"{name}, held out: {percent(raw, 1)} inside the raw interval, {percent(conformal, 1)} inside the "
            f"conformal one, which is {number(ratio, 2)} times as wide and rests on {count(num, 'error')} of the "
            f"backtest. {advice}"
        )
    return sentences


def reach_words(forecast: xr.DataTree, ahead: np.ndarray) -> str:
    """How far ahead a forecast was held against something."""
    return duration(float(np.max(ahead)), str(forecast.attrs.get("time_unit", "")))


def _rows(table: xr.Dataset, *names: str) -> list[tuple]:
    columns = [table[name].to_numpy() for name in names]
    return list(zip(table["observation"].to_numpy(), *columns, strict=True))
