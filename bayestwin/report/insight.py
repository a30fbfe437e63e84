"""What other verbs say about a twin: sections of its validation page, with pictures; pages of `sbc` and `design`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, fixed, labelled, number, percent, scale_for, short, unit_text
from bayestwin.assess import Gate, failed
from bayestwin.insight.identify_verdict import verdict
from bayestwin.insight.influence import FINE
from bayestwin.insight.promise import promises, sentences
from bayestwin.insight.sbc import judge_sbc
from bayestwin.report import prose
from bayestwin.report.page import LIGHT, WIDTH, Picture, drawing, figure, fill, fitting, picture
from bayestwin.report.prose import interrupted
from bayestwin.report.reading import flat_rows
from bayestwin.report.sensitivity import sobol_plot

# What another verb has found about a twin: its run, and what a section on it shows.
#
# `key_figures` serves where its result cannot be read.

MOST_ROWS = 40

BOOKKEEPING = frozenset(
    {
        "run",
        "command",
        "status",
        "began",
        "ended",
        "options",
        "uses",
        "model",
        "twin",
        "twin_sha256",
        "job_file",
        "job",
        "job_sha256",
    }
    | {"telemetry_sha256", "telemetry_notices", "inputs", "code_sha256"}
    | {"versions", "environment", "host", "timings", "outputs"}
)
"""Keys of a record that say nothing about what was found."""


class Found(NamedTuple):
    """A run of another verb.

    Attributes:
        run: Its name.
        record: The content of its `run.json`.
        tree: What it found; None where its file cannot be read.
        trouble: Why not, in words; empty where it can.
        same_data: Whether it is about the telemetry that was calibrated; None where it does not depend on any.
    """

    run: str
    record: Mapping[str, Any]
    tree: xr.DataTree | None
    trouble: str = ""
    same_data: bool | None = None


class Content(NamedTuple):
    """What a section shows: sentences, facts by name, pictures."""

    words: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()


class VerbSection(NamedTuple):
    """A section on what another verb finds.

    Attributes:
        command: The verb; its file is named after it.
        title: Heading.
        question: What the verb answers.
        build: Makes the content.
    """

    command: str
    title: str
    question: str
    build: Callable[[Found], Content]


def key_figures(found: Found) -> Content:
    """What the record of a run says beside its bookkeeping."""
    rows = flat_rows({key: value for key, value in found.record.items() if key not in BOOKKEEPING})
    more = len(rows) - MOST_ROWS
    words = (f"{more} more figures stand in its `run.json`.",) if more > 0 else ()
    return Content(words=words, rows=tuple(rows[:MOST_ROWS]))


# Pictures of identifiability: how far each quantity contracts, and profile likelihoods.

ACROSS = 3

HARDLY = 0.1
"""Contraction below which a quantity is drawn as one that the data hardly narrow."""


def contraction_plot(found: xr.DataTree) -> Picture:
    """Contraction of each quantity, the least first: expected, of draws where there are some, with what is planned."""
    group = found["quantities"].to_dataset()
    marks = {"expected": ("o", LIGHT["calibrated"], group["expected_contraction"])}
    if "contraction" in group:
        marks["of the draws"] = ("D", LIGHT["ink"], group["contraction"])
    if "planned" in found:
        later = found["planned"].to_dataset().sel(quantity=group["quantity"])
        marks["with what is planned"] = ("s", LIGHT["heldout"], later["contraction_with"])
    expected = group["expected_contraction"].values
    order = np.argsort(np.where(np.isfinite(expected), expected, -1.0))[::-1]
    names = [str(name) for name in group["quantity"].values[order]]
    drawn = figure(0.9 + 0.24 * len(names))
    axes = drawn.subplots()
    places = np.arange(len(names))
    for hardly, colour, dash in ((False, LIGHT["prior"], "-"), (True, LIGHT["fail"], ":")):
        chosen = (expected[order] < HARDLY) == hardly
        reach = np.nan_to_num(expected[order])[chosen]
        axes.hlines(places[chosen], 0.0, reach, color=colour, linestyle=dash, linewidth=2.5, alpha=0.6)
    for label, (mark, colour, values) in marks.items():
        axes.plot(values.values[order], places, linestyle="", marker=mark, markersize=5, color=colour, label=label)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("contraction: 0 is the prior, 1 is known exactly")
    axes.grid(axis="x")
    drawn.legend(loc="outside upper left", ncols=len(marks))
    caption = (
        "Share of the prior's variance that the data take away, in logarithms for positive quantities. Expected: from "
        f"the Fisher information at the modes, before anything is sampled. Dotted red: below {percent(HARDLY)}."
    )
    told = prose.listed(f"{n} {percent(float(v))}" for n, v in zip(names[::-1], expected[order][::-1], strict=True))
    return picture(drawn, "contraction", f"Expected contraction, the largest first: {told}.", caption)


def profile_plot(found: xr.DataTree) -> Picture | None:
    """Profiles, one panel each, against the threshold of their interval; None where none was asked for."""
    if "profile" not in found:
        return None
    group = found["profile"].to_dataset()
    names = [str(name) for name in group["profiled"].values]
    across = min(len(names), ACROSS)
    rows = -(-len(names) // across)
    drawn = figure(0.7 + 2.0 * rows)
    grid = drawn.subplots(rows, across, squeeze=False).ravel()
    level = float(scipy.stats.chi2.ppf(group.attrs["prob"], 1)) / 2.0
    for axes, name in zip(grid, names, strict=False):
        _profile(axes, group.sel(profiled=name), name, level)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=LIGHT["calibrated"], marker="o", markersize=3, label="best with the value held"),
        Line2D([], [], color=LIGHT["fail"], dashes=(4, 3), linewidth=0.8, label=f"{percent(group.attrs['prob'])}"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    caption = (
        f"Log density (of the {group.attrs['of']}) lost when a quantity is held and all others are optimised again. "
        "Where a profile stays above the dashed line at its end, the quantity has no bound there."
    )
    told = prose.listed(
        f"{name} {prose.reach(group['value'].sel(profiled=name).values, str(group['unit'].sel(profiled=name).item()))}"
        for name in names
    )
    return picture(drawn, "profiles", f"Profiles of the log density, each over the values held: {told}.", caption)


def _profile(axes: Axes, found: xr.Dataset, name: str, level: float) -> None:
    """One panel: minus what is lost, over the values held."""
    values, drop = found["value"].values, found["drop"].values
    seen = np.isfinite(values) & np.isfinite(drop) & (drop < 4.0 * level)
    shown = values[seen]
    scale = scale_for(float(np.abs(shown).max(initial=0.0)), str(found["unit"].item()))
    axes.plot(scale.factor * shown, -drop[seen], color=LIGHT["calibrated"], marker="o", markersize=2.5, linewidth=1.0)
    axes.axhline(-level, color=LIGHT["fail"], linewidth=0.8, dashes=(4, 3))
    title = labelled(name, scale.unit)
    axes.set_title(title, fontsize=fitting(title, 180, 9))
    axes.set_ylim(-4.0 * level, 0.3 * level)
    axes.grid()


# The picture of a comparison: differences in expected log predictive density, with their standard errors.

MARKS = {True: ("o", LIGHT["calibrated"], "can be relied on"), False: ("X", LIGHT["fail"], "must not be relied on")}


def comparison_plot(comparisons: Sequence[xr.Dataset]) -> Picture:
    """A forest of differences to the reference, one panel a comparison, with one and two standard errors.

    Args:
        comparisons: As `bt.compare` returned them: leaving one observation out, leaving the future out.
    """
    most = max(found.sizes["model"] for found in comparisons)
    drawn = figure(0.9 + 0.32 * most)
    grid = drawn.subplots(1, len(comparisons), squeeze=False).ravel()
    for axes, found in zip(grid, comparisons, strict=True):
        _forest(axes, found)
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=5, color=colour, label=words)
        for marker, colour, words in MARKS.values()
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.2)
    reference = comparisons[0].attrs["reference"]
    caption = (
        f"Difference in expected log predictive density to “{reference}”: left of the line predictions are worse. "
        "Thick bars: one standard error; thin ones: two. Points are taken to be independent."
    )
    kinds = " and ".join(str(found.attrs["kind"]) for found in comparisons)
    told = prose.listed(
        f"{name} {fixed(float(diff), 1)} ± {fixed(float(dse), 1)}"
        for found in comparisons
        for name, diff, dse in zip(
            found["model"].to_numpy(), found["elpd_diff"].to_numpy(), found["dse"].to_numpy(), strict=True
        )
    )
    return picture(drawn, "comparison", f"Differences by {kinds}, with their standard errors: {told}.", caption)


def _forest(axes: Axes, found: xr.Dataset) -> None:
    """One panel: a row for each model, the best on top; without a bar where nothing can be computed."""
    names = [str(name) for name in found["model"].to_numpy()]
    places = np.arange(len(names))[::-1]
    what = "observation" if found.attrs["kind"] == "leave-one-out" else "origin"
    axes.set_title(f"{found.attrs['kind']}, {count(found.sizes['point'], what)}")
    axes.axvline(0, color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3))
    rows = zip(
        places,
        found["elpd_diff"].to_numpy(),
        found["dse"].to_numpy(),
        found["reliable"].to_numpy(),
        found["outcome"].to_numpy(),
        strict=True,
    )
    for place, diff, dse, reliable, outcome in rows:
        if not np.isfinite(diff):
            axes.text(0.02, place, "cannot be computed", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
            continue
        marker, colour, _ = MARKS[bool(reliable)]
        if outcome != "reference":
            for width, times in ((3.0, 1.0), (1.0, 2.0)):
                axes.hlines(place, diff - times * dse, diff + times * dse, color=colour, linewidth=width, alpha=0.7)
        axes.plot([diff], [place], marker=marker, markersize=5, color=colour, zorder=3, clip_on=False)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("elpd difference")
    axes.grid(axis="x")


# A simulation-based calibration in a picture: distributions of ranks against their bands; and a page of its own.

COLUMNS = 4

BINDING = ("twin", "twin_sha256", "telemetry_sha256", "code_sha256", "bayestwin_version", "seed", "job")
"""Root attributes that say what was checked."""


def rank_plot(found: xr.Dataset) -> Picture:
    """Differences of the ranks' distributions from a uniform one, with the bands, one panel a quantity (see `sbc`)."""
    names = [str(name) for name in found["quantity"].to_numpy()]
    rows = -(-len(names) // COLUMNS)
    drawn = figure(0.7 + 1.6 * rows)
    grid = drawn.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, name in zip(grid, names, strict=False):
        _panel(axes, found.sel(quantity=name), name)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    level = percent(float(found.attrs["level"]))
    handles = [
        Line2D([], [], color=LIGHT["pass"], label="inside its band"),
        Line2D([], [], color=LIGHT["fail"], linestyle="--", label="outside"),
        Patch(facecolor=LIGHT["prior"], alpha=0.35, label=f"simultaneous {level} band of all quantities"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    caption = (
        f"Share of {count(found.sizes['simulation'], 'simulation')} in which the truth ranks up to z among the draws "
        "of its posterior, minus z. Above zero on the left and below it on the right: posteriors are too narrow; the "
        "other way round: too wide; above zero throughout: they lie too high; below: too low."
    )
    told = []
    for name in names:
        own = found.sel(quantity=name)
        far = float(np.abs(own["ecdf"] - own["z"]).max())
        told.append(f"{name}: {'inside' if bool(own['within_band']) else 'outside'} its band, {fixed(far, 3)}")
    alt = f"Distributions of the ranks, and how far at most they are from a uniform one. {prose.listed(told)}."
    return picture(drawn, "ranks", alt, caption)


def render_ranks(found: xr.Dataset | xr.DataTree, gates: Sequence[Gate] | None = None) -> str:
    """Write one self-contained HTML page about a simulation-based calibration.

    Args:
        found: What `sbc` returned, or the tree that `load` made of it.
        gates: The verdict; by default `judge_sbc(found)`.

    Returns:
        The page as text, to be written as UTF-8.
    """
    dataset = found.to_dataset() if isinstance(found, xr.DataTree) else found
    judged = tuple(judge_sbc(dataset) if gates is None else gates)
    with drawing():
        drawn = rank_plot(dataset)
    facts = [(name, dataset.attrs[name]) for name in BINDING if name in dataset.attrs]
    facts += [
        ("simulations", dataset.sizes["simulation"]),
        ("draws of each posterior", dataset.attrs["num_draws"]),
        ("prior draws that could not be solved", dataset.attrs["not_solved"]),
        ("transitions that diverged", percent(float(dataset["diverging"].mean()), 2)),
    ]
    page = {
        "name": dataset.attrs.get("twin", ""),
        "gates": judged,
        "bad": len(failed(judged)),
        "version": dataset.attrs.get("bayestwin_version", ""),
        "interrupted": interrupted(dataset),
        "worth": [(str(name), number(float(ess))) for name, ess in dataset["ess"].to_series().items()],
        "facts": facts,
        "picture": drawn,
    }
    return fill("ranks.html", page)


def _panel(axes: Axes, one: xr.Dataset, name: str) -> None:
    at = np.concatenate([[0.0], one["z"].to_numpy(), [1.0]])

    def difference(curve: str) -> np.ndarray:
        return np.concatenate([[0.0], one[curve].to_numpy() - one["z"].to_numpy(), [0.0]])

    axes.fill_between(at, difference("band_lower"), difference("band_upper"), color=LIGHT["prior"], alpha=0.35)
    axes.axhline(0.0, color=LIGHT["muted"], linewidth=0.6)
    colour, dash = (LIGHT["pass"], "-") if bool(one["within_band"]) else (LIGHT["fail"], "--")
    axes.plot(at, difference("ecdf"), color=colour, linestyle=dash)
    axes.set_title(name, fontsize=fitting(name, 72 * WIDTH / COLUMNS - 8, 9))
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks([0.0, 0.5, 1.0])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y")
    subplot = axes.get_subplotspec()
    if subplot is not None and subplot.is_first_col():
        axes.set_ylabel("share − z")
    axes.set_xlabel("z")


# A design in a picture: what is left of the spread of each target with each option; and a page of its own.

MOST_SHOWN = 12
"""Options that are drawn, the best ones."""


def design_plot(found: xr.DataTree) -> Picture:
    """Share of the present standard deviation that is left, one panel a target, as expected and as simulated."""
    now = found["targets"].to_dataset()
    options = found["options"].to_dataset().isel(option=slice(MOST_SHOWN))
    simulated = found["simulated"].to_dataset() if "simulated" in found else None
    names, targets = ([str(name) for name in options[dim].values] for dim in ("option", "target"))
    together = [] if simulated is None else [str(name) for name in simulated["set"].values if str(name) not in names]
    rows = [*together, *names]
    across = min(len(targets), ACROSS)
    down = -(-len(targets) // across)
    drawn = figure(0.7 + down * (0.7 + 0.24 * len(rows)), width=WIDTH)
    grid = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, target in zip(grid, targets, strict=False):
        _left(axes, target, rows, options, now, simulated)
    for axes in grid[len(targets) :]:
        axes.set_axis_off()
    labels = [row if row in names else "all that is chosen" for row in rows]
    grid[0].set_yticks(range(len(rows)), labels)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    handles = [Line2D([], [], linestyle="", marker="o", color=LIGHT["calibrated"], label="expected")]
    if simulated is not None:
        mark = Line2D([], [], marker="D", color=LIGHT["heldout"], label="simulated: mean, and 90 % of futures")
        handles.append(mark)
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    caption = (
        "Standard deviation that is left with each option by itself, as a share of what it is now. Expected: from the "
        "Fisher information, averaged over draws of the posterior. Simulated: in calibrations of telemetry that such "
        "draws make."
    )
    left = (options["sd"] / now["sd"]).isel(option=0)
    told = prose.listed(f"{name} {percent(float(left.sel(target=name)))}" for name in targets)
    return picture(drawn, "design", f"What is left with {names[0]}, the best by itself: {told}.", caption)


def _left(
    axes: Axes, target: str, rows: Sequence[str], options: xr.Dataset, now: xr.Dataset, simulated: xr.Dataset | None
) -> None:
    """One panel: a row for each option, the best on top."""
    width = float(now["sd"].sel(target=target))
    for place, row in enumerate(rows):
        if row in options["option"].values:
            expected = float(options["sd"].sel(option=row, target=target)) / width
            axes.hlines(place, 0.0, expected, color=LIGHT["prior"], linewidth=2.5, alpha=0.5)
            axes.plot([expected], [place], marker="o", markersize=5, color=LIGHT["calibrated"], linestyle="")
        if simulated is not None and row in simulated["set"].values:
            shares = simulated["sd"].sel(set=row, target=target).values / width
            shares = shares[np.isfinite(shares)]
            ends = np.quantile(shares, [0.05, 0.95])
            axes.hlines(place + 0.22, *ends, color=LIGHT["heldout"], linewidth=1.2)
            axes.plot([shares.mean()], [place + 0.22], marker="D", markersize=4, color=LIGHT["heldout"], linestyle="")
    axes.axvline(1.0, color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3))
    axes.set_xlim(left=0.0)
    axes.set_title(target, fontsize=fitting(target, 180, 9))
    axes.set_xlabel("left of the sd (1 = now)")
    axes.grid(axis="x")


def render_design(found: xr.DataTree) -> str:
    """Write one self-contained HTML page about a design.

    Args:
        found: What `design` returned, or `load` of it.

    Returns:
        The page as text, to be written as UTF-8.
    """
    options, now = found["options"].to_dataset(), found["targets"].to_dataset()
    with drawing():
        drawn = design_plot(found)
    shown = options.isel(option=slice(MOST_ROWS))
    units = [unit_text(str(unit)) for unit in now["unit"].values]
    heads = [
        head
        for target, unit in zip(now["target"].values, units, strict=True)
        for head in ((str(target), unit or "1"), (f"{target} lower by (%)", "1"))
    ]
    rows = [
        (
            str(name),
            short(float(own["cost"])),
            [
                cell
                for sd, less in zip(own["sd"].values, own["narrowing"].values, strict=True)
                for cell in (number(float(sd)), fixed(100.0 * float(less), 1))
            ],
        )
        for name, own in ((name, shown.sel(option=name)) for name in shown["option"].values)
    ]
    facts = [(name, found.attrs[name]) for name in BINDING if name in found.attrs]
    promised = [
        (one.target, one.unit, number(one.width_now), number(one.width), number(one.lower), number(one.upper))
        for one in promises(found)
    ]
    words = sentences(found)
    page = {
        "name": found.attrs.get("twin", ""),
        "version": found.attrs.get("bayestwin_version", ""),
        "headline": words[0],
        "words": words[1:],
        "prob": percent(float(found.attrs["prob"])),
        "promised": promised,
        "heads": heads,
        "options": rows,
        "more": options.sizes["option"] - len(rows),
        "facts": facts,
        "picture": drawn,
    }
    return fill("design.html", page)


def _drawn(
    words: Callable[[xr.DataTree], list[str]], *draw: Callable[[xr.DataTree], Picture | None]
) -> Callable[[Found], Content]:
    """A builder of sections: sentences about a result, and its pictures; without one what the record says."""

    def build(found: Found) -> Content:
        if found.tree is None:
            return key_figures(found)
        try:
            with drawing():
                pictures = [picture for one in draw if (picture := one(found.tree)) is not None]
            return Content(words=tuple(words(found.tree)), pictures=tuple(pictures))
        except (KeyError, ValueError):  # as another version laid it out
            told = key_figures(found)
            return told._replace(words=(f"The file of run {found.run} is that of another version.", *told.words))

    return build


def _told(gates: tuple[Gate, ...]) -> list[str]:
    """What did not pass; or that all did."""
    wrong = [gate.sentence for gate in gates if not gate.passed]
    return wrong or [f"All {count(len(gates), 'check')} passed."]


def _ranked(tree: xr.DataTree) -> list[str]:
    found = tree.to_dataset()
    words = f"{found.sizes['simulation']:,} telemetries were simulated and calibrated."
    return [words, *_told(judge_sbc(found))]


def _identified(tree: xr.DataTree) -> list[str]:
    return [gate.sentence for gate in verdict(tree)]


def _sensitive(tree: xr.DataTree) -> list[str]:
    sobol = tree["sobol"].to_dataset()
    origin = "posterior, each quantity by itself" if sobol.attrs.get("distribution") == "posterior" else "prior"
    unsure = [str(name) for name in sobol["observation"].to_numpy()[~sobol["reliable"].to_numpy()]]
    words = [f"Shares of the variance of predictions, the quantities varying as in the {origin}."]
    if unsure:
        words.append(f"Those of {', '.join(f'`{name}`' for name in unsure)} hang on few points and say little.")
    if "power_scaling" in tree.children:
        scaled = tree["power_scaling"].to_dataset()
        words += [str(one) for one in scaled["sentence"].to_numpy()[scaled["diagnosis"].to_numpy() != FINE]]
    return words


def _compared(tree: xr.DataTree) -> list[str]:
    sentences = tree.attrs.get("sentences") or {}
    said = [str(one) for one in (sentences.values() if isinstance(sentences, dict) else sentences)]
    return said + ([str(tree.attrs["why_no_loo"])] if tree.attrs.get("why_no_loo") else [])


def _comparisons(tree: xr.DataTree) -> Picture | None:
    found = [tree[name].to_dataset() for name in ("leave_one_out", "leave_future_out") if name in tree.children]
    known = [one for one in found if np.isfinite(one["elpd_diff"]).any()]
    return comparison_plot(known) if known else None


SECTIONS = [
    VerbSection(
        "sbc",
        "Simulation-based calibration",
        "Does the calibration find truths again, as often as it says, where they are known?",
        _drawn(_ranked, lambda tree: rank_plot(tree.to_dataset())),
    ),
    VerbSection(
        "identify",
        "Identifiability",
        "Which parameters can the data tell, and which only together with others?",
        _drawn(_identified, contraction_plot, profile_plot),
    ),
    VerbSection(
        "sensitivity",
        "Sensitivity",
        "Which uncertain quantities do the predictions depend on?",
        _drawn(_sensitive, lambda tree: sobol_plot(tree["sobol"].to_dataset())),
    ),
    VerbSection(
        "design",
        "What to measure next",
        "Which observations to come would narrow the posterior most?",
        _drawn(sentences, design_plot),
    ),
    VerbSection(
        "compare",
        "Comparison with other models",
        "Does another model predict better?",
        _drawn(_compared, _comparisons),
    ),
]
"""A row a verb, in the order of the page; another one is an entry more."""
