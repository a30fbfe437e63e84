"""Reports about many experiments of one asset: a page about all, and a page about each, linked both ways.

What stands on the page about all: how each does on what was held out, and its own quantities.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin._base.progress import Progress
from bayestwin._base.wording import count, fixed, number, percent, scale_for
from bayestwin.assess import Gate, diagnose, draws
from bayestwin.assess.coverage import kept
from bayestwin.assess.gates import record
from bayestwin.model.pooling import TYPICAL
from bayestwin.report import prose, tables
from bayestwin.report.calibrate import Among, render_report
from bayestwin.report.page import fill
from bayestwin.report.posteriors import Line, Panel, draw_forest
from bayestwin.report.prose import interrupted, verdict
from bayestwin.report.reading import PROB, Quantity, flat_rows, group, held_out, read_quantities, result_rows
from bayestwin.report.style import Picture, drawing, picture
from bayestwin.results.store import write_text_durably
from bayestwin.telemetry import Telemetry

# What the page about many experiments tells of each: how it does on what was held out, and its own quantities.


class ExperimentResult(NamedTuple):
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


def experiment_words(
    posterior: xr.DataTree, held: Sequence[ExperimentResult], bad: Sequence[str], untold: Sequence[str]
) -> tuple[str, ...]:
    """How many experiments were judged on what was held out, how many do not keep their promise or cannot be told."""
    lines = ["Sampling was interrupted: the result holds only the draws taken until then."] * interrupted(posterior)
    known = dict.fromkeys(one.name for one in held if one.covered is not None)
    if not known:
        return (*lines, "Whether intervals cover as promised is not known: nothing that was held out was predicted.")
    verb = "was" if len(known) == 1 else "were"
    lines.append(f"Of {count(len(held), 'experiment')}, {len(known)} {verb} held against what was held out.")
    if bad:
        lines.append(f"The {percent(PROB)} interval leaves its band in {len(bad)} of them: {prose.listed(bad)}.")
    if untold:
        told = f"Whether the {percent(PROB)} interval covers as promised cannot be told in {len(untold)} of them"
        lines.append(f"{told}, of which too little was held out: {prose.listed(untold)}.")
    if not bad and not untold:
        lines.append(f"The {percent(PROB)} interval covers as promised in all of these.")
    return tuple(lines)


def experiment_rows(one: ExperimentResult) -> list[ExperimentRow]:
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
                covered, good = percent(float(own["coverage"]), 1), kept(own)
        if one.scored is not None and name in one.scored["observation"]:
            own = one.scored.sel(observation=name)
            scale = scale_for(float(own["rmse"]), str(own["units"].item()))
            unit, rmse = scale.unit or "–", number(scale.factor * float(own["rmse"]))
        rows.append(ExperimentRow(one.name, one.file, str(name), seen, covered, good, num, unit, rmse))
    return rows


def own_forest(panels: Sequence[tuple[str, Mapping[str, Quantity]]], own: Sequence[str]) -> Picture | None:
    """Quantities that each experiment has its own of, in the unit of the first; None where there are none.

    Args:
        panels: All quantities of each experiment, by name.
        own: Names of those that differ.
    """
    first = panels[0][1]
    found, told = [], []
    for name, quantity in first.items():
        if name not in own:
            continue
        lines = []
        for experiment, known in panels:
            one = known[name]
            factor = quantity.scale.factor / one.scale.factor
            lines.append(Line(experiment, factor * one.mean, factor * one.lower, factor * one.upper))
        of_all = first.get(f"{name}_{TYPICAL}")
        typical = None if of_all is None else quantity.scale.factor / of_all.scale.factor * of_all.mean
        found.append(Panel(quantity.label, tuple(lines), typical))
        ends = prose.listed(f"{line.label} {number(line.lower, 4)} to {number(line.upper, 4)}" for line in lines)
        told.append(f"{quantity.label}: {ends}")
    if not found:
        return None
    words = f"{percent(PROB)} equal-tailed intervals of the posterior"
    caption = f"Dots: means. Lines: {words}."
    if any(panel.typical is not None for panel in found):
        caption += " Dashed: what is typical of the population."
    with drawing():
        return picture(draw_forest(found), "own", f"{words}, by experiment. {prose.listed(told)}.", caption)


OVERVIEW = "index.html"
LETTERS = 40
"""Of the name of an experiment in the name of its file."""


def write_reports(
    posterior: xr.DataTree,
    folder: str | os.PathLike[str],
    forecast: xr.DataTree | None = None,
    *,
    validation: Mapping[str, Telemetry] | None = None,
    gates: Sequence[Gate] | None = None,
    provenance: dict[str, Any] | None = None,
    overview: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> pathlib.Path:
    """Write a page about all experiments of an asset, and one about each.

    Args:
        posterior: What `calibrate` returned for several experiments, with the dimension `experiment`.
        folder: Where the pages go; it is made if need be.
        forecast: What `predict` returned, of some of them or all.
        validation: By experiment, telemetry that calibration has not seen.
        gates: The verdict on all; by default `diagnose(posterior)`.
        provenance: What the run recorded about itself.
        overview: The page about all; by default `index.html` in the folder.
        progress: Where progress is shown.

    Returns:
        The page about all; each of the others is named by number and experiment.

    Raises:
        InvalidInput: If the result is of one telemetry, or `validation` names an experiment that it does not have.
    """
    names = _names(posterior, validation or {})
    judged = tuple(diagnose(posterior) if gates is None else gates)
    files = [file_name(place, name) for place, name in enumerate(names, 1)]
    where = pathlib.Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    whole = where / OVERVIEW if overview is None else pathlib.Path(overview)
    back, onward = os.path.relpath(whole, where), os.path.relpath(where, whole.parent)
    held = []
    with progress or Progress() as shown, shown.phase("report", "one page an experiment", len(names)) as phase:
        for place, (name, file) in enumerate(zip(names, files, strict=True)):
            linked = file if onward == "." else f"{pathlib.PurePath(onward).as_posix()}/{file}"
            one = _held(name, linked, posterior, forecast, (validation or {}).get(name))
            links = [("All experiments", pathlib.PurePath(back).as_posix())]
            links += [(f"← {names[place - 1]}", files[place - 1])] if place else []
            links += [(f"{names[place + 1]} →", files[place + 1])] if place + 1 < len(names) else []
            page = render_report(
                one.posterior,
                one.forecast,
                validation=one.validation,
                gates=judged,
                provenance=provenance,
                among=Among(name, links),
            )
            write_text_durably(where / file, page)
            held.append(one)
            phase.advance(1)
    return write_text_durably(whole, _overview(posterior, held, judged, provenance))


def file_name(place: int, name: str) -> str:
    """A file for an experiment: its number, which tells it from all others, and of its name what every system takes."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:LETTERS]
    return f"{place:03d}-{letters.strip('-')}".rstrip("-") + ".html"


def _names(posterior: xr.DataTree, validation: Mapping[str, Telemetry]) -> list[str]:
    known = group(posterior, "observed_data")
    if "experiment" not in known.dims:
        raise errors.InvalidInput(
            "These are not several experiments.",
            expected="a result with the dimension `experiment`",
            received="the result of one telemetry",
            advice="`render_report` writes the page about one.",
        )
    names = [str(name) for name in known["experiment"].to_numpy()]
    strange = [name for name in validation if name not in names]
    if strange:
        raise errors.InvalidInput(
            f"`validation` has an experiment `{strange[0]}` that was not calibrated.",
            expected=", ".join(f"`{name}`" for name in names),
            received=f"`{strange[0]}`",
            advice="Give what was held out of each experiment under the name that it was calibrated by.",
        )
    return names


def _held(
    name: str, file: str, posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None
) -> ExperimentResult:
    ahead = None
    if forecast is not None and name in group(forecast, "predictions").get("experiment", ()):
        ahead = forecast.sel(experiment=name)
    own = posterior.sel(experiment=name)
    counted = None
    if validation is not None:
        counted = draws.counted(validation, group(own, "observed_data")["experiment"])
    covered, scored, _ = held_out(None if ahead is None else draws.alone(ahead), counted)
    return ExperimentResult(name, file, own, ahead, validation, covered, scored)


def _overview(
    posterior: xr.DataTree, held: Sequence[ExperimentResult], judged: Sequence[Gate], provenance: dict[str, Any] | None
) -> str:
    found = verdict(judged, None, interrupted=interrupted(posterior))
    rows = [row for one in held for row in experiment_rows(one)]
    own = [str(name) for name, values in group(posterior, "posterior").data_vars.items() if "experiment" in values.dims]
    shared = [q for q in read_quantities(draws.alone(held[0].posterior)) if q.name.split("[")[0] not in own]
    panels = [(one, {q.name: q for q in read_quantities(draws.alone(one.posterior))}) for one in held]
    bad = list(dict.fromkeys(row.name for row in rows if row.good is False))
    untold = list(dict.fromkeys(row.name for row in rows if row.good is None and row.covered != "–"))
    if (bad or untold) and found.status == "pass":
        doubt = "not all intervals cover as promised" if bad else prose.CANNOT_BE_TOLD
        found = found._replace(status="warn", headline=f"All {len(judged)} gates passed, but {doubt}.")
    page = {
        "description": record(posterior, "description"),
        "version": posterior.attrs.get("bayestwin_version", ""),
        "verdict": found._replace(lines=experiment_words(posterior, held, bad, untold)),
        "gates": judged,
        "prob": percent(PROB),
        "experiments": rows,
        "pages": [(one.name, one.file) for one in held],
        "parameters": tables.parameter_rows(shared, judged),
        "picture": own_forest([(one.name, known) for one, known in panels], own),
        "own": [
            (one.name, tables.parameter_rows([known[n] for n in own if n in known], judged)) for one, known in panels
        ],
        "result": result_rows(posterior, (), None, None),
        "run": flat_rows({key: value for key, value in (provenance or {}).items() if key != "job"}),
    }
    return fill("experiments.html", page)
