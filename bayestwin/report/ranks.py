"""A simulation-based calibration in a picture: distributions of ranks against their bands; and a page of its own."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, fixed, number, percent
from bayestwin.assess import Gate, failed
from bayestwin.insight.verdict import judge_sbc
from bayestwin.report import words
from bayestwin.report.page import fill
from bayestwin.report.style import LIGHT, WIDTH, Picture, drawing, figure, fitting, picture
from bayestwin.report.verdict import interrupted

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
    alt = f"Distributions of the ranks, and how far at most they are from a uniform one. {words.listed(told)}."
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
