"""What the page about many experiments tells of each: how it does on what was held out, and its own quantities."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, fixed, number, percent, scale_for
from bayestwin.report import words as spoken
from bayestwin.report.forest import Line, Panel, draw_forest
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.report.reading import group
from bayestwin.report.style import Picture, drawing, picture
from bayestwin.report.verdict import interrupted
from bayestwin.telemetry import Telemetry


class Held(NamedTuple):
    """One experiment: its results, and how they do on what was held out of it."""

    name: str
    file: str
    posterior: xr.DataTree
    forecast: xr.DataTree | None
    validation: Telemetry | None
    covered: xr.Dataset | None
    scored: xr.Dataset | None


class ExperimentRow(NamedTuple):
    """One observation of one experiment in the table of the overview; `good` is None where coverage is not known."""

    name: str
    file: str
    observation: str
    observed: str
    covered: str
    good: bool | None
    num: str
    unit: str
    rmse: str


def experiment_words(posterior: xr.DataTree, held: Sequence[Held], bad: Sequence[str]) -> tuple[str, ...]:
    """How many experiments were judged on what was held out, and how many do not keep their promise."""
    lines = ["Sampling was interrupted: the result holds only the draws taken until then."] * interrupted(posterior)
    known = dict.fromkeys(one.name for one in held if one.covered is not None)
    if not known:
        return (*lines, "Whether intervals cover as promised is not known: nothing that was held out was predicted.")
    verb = "was" if len(known) == 1 else "were"
    lines.append(f"Of {count(len(held), 'experiment')}, {len(known)} {verb} held against what was held out.")
    if bad:
        lines.append(f"The {percent(PROB)} interval leaves its band in {len(bad)} of them: {spoken.listed(bad)}.")
    else:
        lines.append(f"The {percent(PROB)} interval covers as promised in all of these.")
    return tuple(lines)


def experiment_rows(one: Held) -> list[ExperimentRow]:
    """Lines of the table about one experiment, one an observation."""
    observed = group(one.posterior, "observed_data")
    rows = []
    for name in observed.data_vars:
        seen = fixed(float(np.isfinite(observed[name].to_numpy().astype(float)).sum()), 0)
        covered, good, num, unit, rmse = "–", None, "–", "–", "–"
        if one.covered is not None and name in one.covered["observation"]:
            own = one.covered.sel(observation=name, prob=PROB)
            num = fixed(float(own["num"]), 0)
            if int(own["num"]):
                covered, good = percent(float(own["coverage"]), 1), bool(own["within_joint_band"])
        if one.scored is not None and name in one.scored["observation"]:
            own = one.scored.sel(observation=name)
            scale = scale_for(float(own["rmse"]), str(own["units"].item()))
            unit, rmse = scale.unit or "–", number(scale.factor * float(own["rmse"]))
        rows.append(ExperimentRow(one.name, one.file, str(name), seen, covered, good, num, unit, rmse))
    return rows


def own_forest(panels: Sequence[tuple[str, Mapping[str, Quantity]]]) -> Picture | None:
    """Quantities that each experiment has its own of, in the unit of the first; None where there are none."""
    first = panels[0][1]
    if not first:
        return None
    found, told = [], []
    for name, quantity in first.items():
        lines = []
        for experiment, known in panels:
            one = known[name]
            factor = quantity.scale.factor / one.scale.factor
            lines.append(Line(experiment, factor * one.mean, factor * one.lower, factor * one.upper))
        found.append(Panel(quantity.label, tuple(lines)))
        ends = spoken.listed(f"{line.label} {number(line.lower, 4)} to {number(line.upper, 4)}" for line in lines)
        told.append(f"{quantity.label}: {ends}")
    with drawing():
        drawn = draw_forest(found)
        words = f"{percent(PROB)} equal-tailed intervals of the posterior"
        return picture(drawn, "own", f"{words}, by experiment. {spoken.listed(told)}.", f"Dots: means. Lines: {words}.")
