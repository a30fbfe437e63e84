"""Pictures of identifiability: how far each quantity contracts, and profile likelihoods."""

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bayestwin._base.wording import labelled, percent, scale_for
from bayestwin.report import words
from bayestwin.report.style import LIGHT, Picture, figure, fitting, picture

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
    told = words.listed(f"{n} {percent(float(v))}" for n, v in zip(names[::-1], expected[order][::-1], strict=True))
    return picture(drawn, "contraction", f"Expected contraction, the largest first: {told}.", caption)


def profile_plot(found: xr.DataTree) -> Picture | None:
    """Profiles, one panel each, against the threshold of their interval; None where none was asked for."""
    if "profile" not in found:
        return None
    group = found["profile"].to_dataset()
    names = [str(name) for name in group["profiled"].values]
    across = min(len(names), ACROSS)
    rows = -(-len(names) // across)
    drawn = figure(0.7 + 2.0 * rows, width=max(3.2 * across, 4.0))
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
    told = words.listed(
        f"{name} {words.reach(group['value'].sel(profiled=name).values, str(group['unit'].sel(profiled=name).item()))}"
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
