"""Pictures of where the uncertainty of predictions comes from: shares of the variance over time, stacked."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import NARROW, labelled, percent, scale_for
from bayestwin.report import words as spoken
from bayestwin.report.reading import TimeAxis, as_numbers
from bayestwin.report.series import dress_time
from bayestwin.report.style import LIGHT, Picture, figure, picture

COLOURS = {
    "parameters": LIGHT["chain1"],
    "initial_state": LIGHT["chain3"],
    "model_error": LIGHT["chain2"],
    "inputs": LIGHT["chain4"],
    "noise": LIGHT["prior"],
}
WORDS = {"initial_state": "initial state", "model_error": "model error"}


def shares_plot(shares: xr.Dataset, axis: TimeAxis) -> Picture:
    """Shares of the variance of each observation over time, and the standard deviation beneath them.

    Args:
        shares: What `uncertainty_shares` returned.
        axis: How times are written.
    """
    names = [str(name) for name in shares["observation"].values]
    sources = [str(source) for source in shares["source"].values]
    drawn = figure(0.75 + 2.5 * len(names))
    grid = drawn.subplots(2 * len(names), 1, sharex=True, squeeze=False, height_ratios=[1.6, 0.9] * len(names))[:, 0]
    x = as_numbers(shares["time"])
    for place, name in enumerate(names):
        own = shares.sel(observation=name)
        _stack(grid[2 * place], x, own, name)
        _spread(grid[2 * place + 1], x, own, name)
    grid[0].set_xlim(*((x[0], x[-1]) if len(x) > 1 else (x[0] - 0.5, x[0] + 0.5)))
    dress_time(grid[-1], axis)
    handles = [Patch(facecolor=COLOURS[source], alpha=0.75, label=WORDS.get(source, source)) for source in sources]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=2, handlelength=1.6)
    listed = ", ".join(WORDS.get(source, source) for source in sources)
    mean = shares["share"].mean("time")
    told = spoken.listed(
        f"{name}, {WORDS.get(source, source)}: {percent(float(mean.sel(observation=name, source=source)))}"
        for name in names
        for source in sources
    )
    alt = f"Shares of the variance of {', '.join(names)} over time by source: {listed}. On average {told}."
    return picture(drawn, "shares", alt, caption(shares))


def caption(shares: xr.Dataset) -> str:
    """How the picture is read, in sentences."""
    sources = [str(source) for source in shares["source"].values]
    words = [
        "Above: shares of the variance of a new observation. Below: its standard deviation, which they are shares of. "
        "Sources are stacked from the bottom up, in the order of the legend."
    ]
    if {"parameters", "initial_state"} <= set(sources):
        words.append(
            "What parameters and initial state explain together is divided by their Shapley effects, since the "
            "posterior ties one to the other."
        )
    if "inputs" not in sources:
        words.append("Inputs are taken to be known.")
    error = float(shares["share_error"].max())
    if np.isfinite(error):
        words.append(f"Shares are exact to about {percent(error)} (Monte Carlo standard error).")
    else:
        words.append("Nothing is drawn where too many draws could not be solved.")
    return " ".join(words)


def _stack(axes: Axes, x: np.ndarray, own: xr.Dataset, name: str) -> None:
    table = own["share"].transpose("source", "time").values
    colours = [COLOURS[str(source)] for source in own["source"].values]
    if len(x) == 1:  # an area needs two ends
        x, table = np.array([x[0] - 0.4, x[0] + 0.4]), np.repeat(table, 2, axis=1)
    axes.stackplot(x, table, colors=colours, alpha=0.75, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], [f"{tick}{NARROW}%" for tick in (0, 50, 100)])
    axes.set_title(f"{name}: share of the variance")


def _spread(axes: Axes, x: np.ndarray, own: xr.Dataset, name: str) -> None:
    spread = np.sqrt(own["variance"].sum("source", skipna=False).values)
    size = float(np.nanmax(spread)) if np.isfinite(spread).any() else 1.0
    scale = scale_for(size, str(own["units"].item()))
    axes.plot(x, scale.factor * spread, color=LIGHT["ink"], marker="o" if len(x) == 1 else "", markersize=3)
    axes.set_ylim(0, 1.15 * scale.factor * size)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="y")
    axes.set_title(labelled(f"{name}: standard deviation", scale.unit), fontweight="normal", color=LIGHT["muted"])
