"""Reports about many experiments: a page about all, and a page about each, linked both ways; and a page about a fleet.

What stands on the page about all: how each does on what was held out, and its own quantities. That about a fleet says
how assets lie in their population.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from bayestwin import errors
from bayestwin._base.progress import Progress
from bayestwin._base.wording import Written, count, fixed, labelled, number, percent, scale_for
from bayestwin.assess import Gate, diagnose, draws
from bayestwin.assess.coverage import kept
from bayestwin.assess.gates import record
from bayestwin.assess.population import FALSE_ALARM, AssetVerdict, PopulationFound
from bayestwin.model.pooling import TYPICAL
from bayestwin.report import prose, tables
from bayestwin.report.calibrate import Among, render_report
from bayestwin.report.page import LIGHT, Picture, drawing, figure, fill, fitting, picture
from bayestwin.report.posteriors import PANELS_ACROSS, Line, Panel, draw_forest
from bayestwin.report.prose import interrupted, verdict
from bayestwin.report.reading import PROB, Quantity, group, held_out, provenance_rows, read_quantities, result_rows
from bayestwin.report.tables import EarlierCheck
from bayestwin.results.store import write_text_durably
from bayestwin.telemetry import Telemetry

# What the page about many experiments tells of each: how it does on what was held out, and its own quantities.


INTERRUPTED = "Sampling was interrupted: the result holds only the draws taken until then."


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
    lines = [INTERRUPTED] * interrupted(posterior)
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
    checked: EarlierCheck | None = None,
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
        checked: What `bayestwin check` found in the telemetry of all; None where it was not run.
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
                checked=checked and checked.of_one(name),
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
        "held_out": any(one.validation is not None for one in held),
        "pages": [(one.name, one.file) for one in held],
        "parameters": tables.parameter_rows(shared, judged),
        "picture": own_forest([(one.name, known) for one, known in panels], own),
        "own": [
            (one.name, tables.parameter_rows([known[n] for n in own if n in known], judged)) for one, known in panels
        ],
        "result": result_rows(posterior, (), None, None),
        "comes_from": provenance_rows(posterior.attrs.get("job") or "{}", provenance),
    }
    return fill("experiments.html", page)


# The page about a fleet: a verdict on each asset, its place in the population, and who lies far from that.

MOST_ASSETS = 150
"""Assets that a picture shows, those in the middle left out first."""

FEW = 3
"""An attribute that has fewer different values is not drawn."""

ARROW = {"arrowstyle": "-|>,head_width=0.14,head_length=0.3", "color": LIGHT["muted"], "linewidth": 0.8}


class FleetOnPage(NamedTuple):
    """All that the page about a fleet shows.

    Attributes:
        posterior: What was calibrated.
        gates: The verdict on it.
        populations: Of what is pooled.
        verdicts: On each asset.
        covered: Coverage of what was held out of each, along `experiment`; None where nothing was.
        scored: Scores, likewise.
        attributes: A row an asset; may have no columns.
        units: Of attributes.
        set_aside: Why assets are left out, a sentence each.
    """

    posterior: xr.DataTree
    gates: Sequence[Gate]
    populations: Sequence[PopulationFound]
    verdicts: Sequence[AssetVerdict]
    covered: xr.Dataset | None
    scored: xr.Dataset | None
    attributes: pd.DataFrame
    units: Mapping[str, str]
    set_aside: Sequence[str] = ()


class AssetRow(NamedTuple):
    """One asset in the table of the page; `rank` is what verdicts are sorted by."""

    name: str
    file: str
    status: str
    rank: int
    reasons: Sequence[str]
    observed: str
    num: str
    covered: str
    good: bool | None
    values: Sequence[str]


class PopulationRow(NamedTuple):
    """One population in the table of the page: numbers with the ends of their 90 % intervals."""

    name: str
    unit: str
    typical: Sequence[str]
    spread: Sequence[str]
    variation: Sequence[str]
    shrinkage: str
    outliers: str


def render_fleet(found: FleetOnPage, *, report: str, assets: str, provenance: Mapping[str, str]) -> str:
    """Write the page about a fleet, which needs nothing beside itself; all text from users is escaped.

    Args:
        found: What it shows.
        report: Page about the calibration, as a link.
        assets: Folder of the pages about each asset, as `write_reports` names them, as a link.
        provenance: What the page says about where it comes from.
    """
    whole = verdict(found.gates, None, interrupted=interrupted(found.posterior))
    doubtful = [one.name for one in found.verdicts if one.status != "pass"]
    if doubtful and whole.status == "pass":
        look = f"look at {len(doubtful)} of {count(len(found.verdicts), 'asset')}"
        whole = whole._replace(status="warn", headline=f"All {len(found.gates)} gates passed; {look}.")
    with drawing():
        pictures = [caterpillar(place, one) for place, one in enumerate(found.populations)]
        over = over_attributes(found.populations, found.attributes, found.units)
    outliers = [(one, member) for one in found.populations for member in one.members if member.outlier]
    scales = [scale_for(one.typical[0], one.unit) for one in found.populations]
    page = {
        "name": found.posterior.attrs.get("twin", ""),
        "version": found.posterior.attrs.get("bayestwin_version", ""),
        "verdict": whole._replace(lines=_fleet_words(found, doubtful)),
        "prob": percent(PROB),
        "level": percent(1 - FALSE_ALARM),
        "heads": [
            (f"{one.name}: mean", scale.unit or "1") for one, scale in zip(found.populations, scales, strict=True)
        ],
        "assets": _asset_rows(found, assets, [scale.factor for scale in scales]),
        "populations": [_population_row(one) for one in found.populations],
        "pictures": pictures,
        "over": over,
        "outliers": [
            (member.name, one.name, number(member.surprise, 2), number(member.alone), number(one.typical[0]), one.unit)
            for one, member in sorted(outliers, key=lambda pair: pair[1].surprise)
        ],
        "looked": sum(np.isfinite(member.surprise) for one in found.populations for member in one.members),
        "set_aside": found.set_aside,
        "report": report,
        "provenance": list(provenance.items()),
    }
    return fill("fleet.html", page)


def _fleet_words(found: FleetOnPage, doubtful: Sequence[str]) -> tuple[str, ...]:
    lines = [INTERRUPTED] * interrupted(found.posterior)
    if doubtful:
        lines.append(f"What did not pass is told of {prose.listed(doubtful)}.")
    far = [f"{member.name} ({one.name})" for one in found.populations for member in one.members if member.outlier]
    if found.populations:
        lines.append(
            f"Far from their population: {prose.listed(far)}." if far else "No asset is far from its population."
        )
    if found.covered is None:
        lines.append("Whether intervals cover as promised is not known: nothing that was held out was predicted.")
    if found.set_aside:
        lines.append(f"{count(len(found.set_aside), 'asset is', 'assets are')} set aside.")
    return tuple(lines)


def _asset_rows(found: FleetOnPage, folder: str, factors: Sequence[float]) -> list[AssetRow]:
    observed = group(found.posterior, "observed_data")
    known = [{member.name: member.mean for member in one.members} for one in found.populations]
    rows = []
    for place, one in enumerate(found.verdicts):
        seen = sum(
            int(np.isfinite(v.sel(experiment=one.name).astype(float)).sum()) for v in observed.data_vars.values()
        )
        share, good, num = Written("–"), None, 0
        if found.covered is not None and one.name in found.covered["experiment"]:
            own = found.covered.sel(experiment=one.name, prob=PROB)
            num = int(own["num"].sum())
            marks = [kept(own.sel(observation=name)) for name in own["observation"].to_numpy()]
            good = False if False in marks else None if None in marks else True
            share = percent(float(own["num_inside"].sum()) / num, 1) if num else share
        means = [number(factor * mean_of[one.name]) for mean_of, factor in zip(known, factors, strict=True)]
        link = f"{folder}/{file_name(place + 1, one.name)}"
        rank = ("fail", "warn", "pass").index(one.status)
        rows.append(
            AssetRow(one.name, link, one.status, rank, one.reasons, fixed(seen, 0), fixed(num, 0), share, good, means)
        )
    return rows


def _population_row(one: PopulationFound) -> PopulationRow:
    scale = scale_for(one.typical[0], one.unit)
    return PopulationRow(
        one.name,
        scale.unit or "–",
        [number(scale.factor * value) for value in one.typical],
        [number(value) for value in one.spread],
        ["–"] * 3 if one.variation is None else [percent(value) for value in one.variation],
        percent(one.shrinkage),
        fixed(sum(member.outlier for member in one.members), 0),
    )


def caterpillar(place: int, found: PopulationFound) -> Picture:
    """Assets in the order of their means, with arrows from what their own data say, over the population.

    Args:
        place: Of the picture on its page.
        found: The population.
    """
    ordered = sorted(found.members, key=lambda member: member.mean)
    half = MOST_ASSETS // 2
    shown = ordered if len(ordered) <= MOST_ASSETS else ordered[:half] + ordered[-half:]
    scale = scale_for(found.typical[0], found.unit)
    title = labelled(found.name, scale.unit)
    drawn = figure(0.8 + 0.19 * len(shown))
    axes = drawn.subplots()
    ends = np.array([[one.mean, one.lower, one.upper] for one in shown]) * scale.factor
    low, high = float(ends.min()), float(ends.max())
    reach = (low - 0.6 * (high - low), high + 0.6 * (high - low))
    alone = np.array([one.alone for one in shown]) * scale.factor
    axes.axvspan(*(scale.factor * end for end in found.typical[1:]), color=LIGHT["shade"], zorder=0)
    axes.axvline(scale.factor * found.typical[0], color=LIGHT["calibrated"], linewidth=1.0, linestyle="--", zorder=1)
    for row, (one, (mean, lower, upper), own) in enumerate(zip(shown, ends, alone, strict=True)):
        colour = LIGHT["fail"] if one.outlier else LIGHT["ink"]
        if np.isfinite(own) and abs(own - mean) > 0.012 * (high - low):
            start = float(np.clip(own, *reach))
            axes.annotate("", (mean, row), (start, row + 0.26), arrowprops=ARROW, annotation_clip=False)
            if start == own:
                axes.plot([own], [row + 0.26], "o", markersize=3, color=LIGHT["muted"], fillstyle="none")
        axes.plot([lower, upper], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
        axes.plot([mean], [row], "D" if one.outlier else "o", markersize=4, color=colour, zorder=4)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], fontsize=8 if len(shown) < 60 else 6.5)
    axes.set_ylim(len(shown) - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(title)
    axes.grid(axis="x")
    words = f"{percent(PROB)} equal-tailed intervals of the posterior"
    caption = (
        f"{title}. Dots: means; lines: {words}; assets in the order of their means. Dashed: the typical value, on its "
        f"own {percent(PROB)} interval."
    )
    untold = sum(not np.isfinite(one.alone) for one in shown)
    if untold < len(shown):
        caption += (
            " Arrows: from what an asset’s own data say without the population (a circle) to where the population"
        )
        caption += " draws it; none where they differ too little to be drawn."
    if untold:
        caption += f" Without an arrow are {count(untold, 'asset')} whose own data say next to nothing."
    if any(one.outlier for one in shown):
        caption += " Diamonds: far from the population."
    if len(shown) < len(ordered):
        caption += f" {count(len(ordered) - len(shown), 'asset')} in the middle are left out."
    told = prose.listed(
        f"{one.name} {number(lower, 4)} to {number(upper, 4)}{', far from the population' * one.outlier}"
        for one, (_, lower, upper) in zip(shown, ends, strict=True)
    )
    return picture(drawn, f"population{place}", f"{words} of {title}, by asset: {told}.", caption)


def over_attributes(
    found: Sequence[PopulationFound], attributes: pd.DataFrame, units: Mapping[str, str]
) -> Picture | None:
    """Each pooled quantity over each attribute that has some different values; None where there is nothing to draw."""
    columns = [str(name) for name, values in attributes.items() if int(values.nunique()) >= FEW]
    pairs = [(one, column) for one in found for column in columns][: 3 * PANELS_ACROSS]
    if not pairs:
        return None
    across = min(len(pairs), PANELS_ACROSS)
    rows = -(-len(pairs) // across)
    drawn = figure(0.3 + 2.1 * rows)
    grid = drawn.subplots(rows, across, squeeze=False).ravel()
    told = []
    for axes, (one, column) in zip(grid, pairs, strict=False):
        scale = scale_for(one.typical[0], one.unit)
        known = [member for member in one.members if member.name in attributes.index]
        x = np.array([float(attributes.loc[member.name, column]) for member in known])  # type: ignore[arg-type]
        y = scale.factor * np.array([[member.mean, member.lower, member.upper] for member in known])
        axes.vlines(x, y[:, 1], y[:, 2], color=LIGHT["prior"], linewidth=1.0)
        for far, shape, colour in ((False, "o", LIGHT["calibrated"]), (True, "D", LIGHT["fail"])):
            own = np.array([member.outlier == far for member in known])
            axes.plot(x[own], y[own, 0], shape, markersize=4, color=colour)
        axes.axhline(scale.factor * one.typical[0], color=LIGHT["calibrated"], linewidth=0.8, linestyle="--")
        title = labelled(one.name, scale.unit)
        axes.set_title(title, fontsize=fitting(title, 150, 9))
        axes.set_xlabel(labelled(column, str(units.get(column, ""))))
        axes.locator_params(nbins=4)
        axes.grid()
        rank = scipy.stats.spearmanr(x, y[:, 0]).statistic if len(set(x)) > 1 else np.nan
        ends = f"{number(x.min())} to {number(x.max())}"
        told.append(f"{one.name} over {column} from {ends}: rank correlation of means {fixed(rank, 2)}")
    for axes in grid[len(pairs) :]:
        axes.set_axis_off()
    caption = (
        f"Dots: means; lines: {percent(PROB)} equal-tailed intervals; dashed: the typical value. {prose.listed(told)}. "
        "Assets that are drawn to the population are drawn away from what an attribute may explain."
    )
    return picture(drawn, "attributes", f"Quantities over attributes. {prose.listed(told)}.", caption)
