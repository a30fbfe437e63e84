"""The picture of a comparison: differences in expected log predictive density, with their standard errors."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bayestwin._base.wording import count, fixed
from bayestwin.report import words as spoken
from bayestwin.report.style import LIGHT, Picture, figure, picture

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
    told = spoken.listed(
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
