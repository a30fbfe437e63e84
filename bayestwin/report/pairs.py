"""Picture of the posterior's quantities in pairs: regions, marginals and correlations."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
import xarray as xr
from arviz_stats.visualization import kde
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, fixed, percent
from bayestwin.report import words as spoken
from bayestwin.report.quantities import Quantity
from bayestwin.report.style import LIGHT, Picture, dots, figure, fitting, picture

MOST_PAIRED = 8
REGIONS = (0.9, 0.5)
"""Shares of the draws that the regions hold, the wide one first."""


class Mark(NamedTuple):
    """Draws that are marked by dots: which of all (chain × draw,), their colour and shape, and what the dots say."""

    draws: np.ndarray
    colour: str
    square: bool
    words: str


def pairs(quantities: tuple[Quantity, ...], stats: xr.Dataset) -> Picture | None:
    """Pairs of quantities: regions below, correlations above the diagonal; None where there is no pair.

    Args:
        quantities: All of them; at most `MOST_PAIRED` are drawn, those in the strongest correlations.
        stats: Sampler statistics (chain, draw); transitions that diverged or met a failed solve are marked.
    """
    marks = _marks(stats)
    usable = tuple(quantity for quantity in quantities if quantity.drawable)
    if len(usable) < 2:
        return None
    shown = _strongest(usable)
    size = len(shown)
    side = min(9.6, 1.0 + 1.7 * size)
    # Panels of one size: with a layout engine each column would make its own room for ticks.
    drawn = figure(0.85 * side, side, roomy=False)
    grid = drawn.add_gridspec(
        size,
        size,
        left=0.75 / side,
        bottom=0.6 / (0.85 * side),
        right=0.995,
        top=0.97,
        wspace=0.1,
        hspace=0.12,
    )
    room = 0.85 * (side - 1.0) * 72 / size
    for row, below in enumerate(shown):
        for column, beside in enumerate(shown):
            if row < column:
                _correlation(grid[row, column], drawn, beside, below)
                continue
            axes = drawn.add_subplot(grid[row, column])
            if row == column:
                _marginal(axes, below, room)
            else:
                _region(axes, beside, below, marks)
            _ticks(axes, beside, None if row == column else below, room)
            if row == size - 1:
                axes.set_xlabel(beside.stacked, fontsize=fitting(beside.name, room, 8))
                axes.xaxis.set_tick_params(labelbottom=True)
            if column == 0 and row > 0:
                axes.set_ylabel(below.stacked, fontsize=fitting(below.name, room, 8))
                axes.yaxis.set_tick_params(left=True, labelleft=True)
    names = ", ".join(quantity.name for quantity in shown)
    caption = _caption(len(usable) - size, len(quantities) - len(usable), marks)
    return picture(drawn, "pairs", f"Pair plot of {names}; strongest {spoken.correlations(shown)}.", caption)


def _marks(stats: xr.Dataset) -> tuple[Mark, ...]:
    """Draws worth a look; none where there is nothing to mark."""
    kinds = (
        ("solver_failed", "heldout", False, "Orange dots: where chains stood when a proposed solve failed."),
        ("diverging", "fail", True, "Red squares: where transitions diverged."),
    )
    found = []
    for name, colour, square, words in kinds:
        if name in stats and (draws := stats[name].transpose("chain", "draw").to_numpy() != 0).any():
            found.append(Mark(draws.ravel(), LIGHT[colour], square, words))
    return tuple(found)


def _caption(left_out: int, undrawable: int, marks: tuple[Mark, ...]) -> str:
    wide, narrow = (percent(share) for share in REGIONS)
    words = f"Below the diagonal: regions that hold {narrow} and {wide} of the draws. Above: their correlation."
    words += "".join(f" {mark.words}" for mark in marks)
    if left_out:
        words += f" {count(left_out, 'quantity is', 'quantities are')} left out: the less correlated ones."
    if undrawable:
        words += f" {count(undrawable, 'quantity', 'quantities')} cannot be drawn: NaN, or all the same."
    return words


def _strongest(quantities: tuple[Quantity, ...]) -> tuple[Quantity, ...]:
    """At most `MOST_PAIRED` quantities: those most correlated with any other, in their own order."""
    if len(quantities) <= MOST_PAIRED:
        return quantities
    between = np.abs(np.corrcoef([quantity.draws.ravel() for quantity in quantities]))
    np.fill_diagonal(between, 0)
    chosen = sorted(np.argsort(-between.max(axis=0), kind="stable")[:MOST_PAIRED])
    return tuple(quantities[place] for place in chosen)


def _marginal(axes: Axes, quantity: Quantity, room: float) -> None:
    grid, density, _ = kde(quantity.draws.ravel(), grid_len=200)
    axes.fill_between(grid, density, color=LIGHT["calibrated"], alpha=0.3)
    axes.plot(grid, density, color=LIGHT["calibrated"], linewidth=1)
    axes.set_ylim(0, 1.1 * density.max())
    axes.spines["left"].set_visible(False)
    axes.set_title(quantity.name, fontsize=fitting(quantity.name, room, 8), loc="center", pad=2)


def _region(axes: Axes, beside: Quantity, below: Quantity, marks: tuple[Mark, ...]) -> None:
    """Highest-density regions of two quantities, from a smoothed histogram."""
    x, y = beside.draws.ravel(), below.draws.ravel()
    limits = [_limits(beside), _limits(below)]
    table, across, up = np.histogram2d(x, y, bins=48, range=limits)
    table = scipy.ndimage.gaussian_filter(table, 2.4)
    ranked = np.sort(table.ravel())[::-1]
    mass = np.cumsum(ranked) / ranked.sum()
    levels = [float(ranked[np.searchsorted(mass, prob)]) for prob in REGIONS]
    if levels[0] < levels[1] < ranked[0]:
        middles = [(edges[1:] + edges[:-1]) / 2 for edges in (across, up)]
        for level, opacity in zip(levels, (0.28, 0.5), strict=True):
            axes.contourf(*middles, table.T, levels=[level, ranked[0]], colors=[LIGHT["calibrated"]], alpha=opacity)
    for mark in marks:
        dots(axes, x[mark.draws], y[mark.draws], 2.4, 0.8, mark.colour, square=mark.square)
    axes.set_ylim(*limits[1])


def _correlation(panel: SubplotSpec, drawn: Figure, beside: Quantity, below: Quantity) -> None:
    """The correlation as text; axes for it would only cost time."""
    value = float(np.corrcoef(beside.draws.ravel(), below.draws.ravel())[0, 1])
    box = panel.get_position(drawn)
    drawn.text(
        0.5 * (box.x0 + box.x1),
        0.5 * (box.y0 + box.y1),
        fixed(value, 2),
        ha="center",
        va="center",
        fontsize=8.5 + 3 * abs(value),
        color=LIGHT["ink"] if abs(value) > 0.3 else LIGHT["muted"],
    )


def _limits(quantity: Quantity) -> tuple[float, float]:
    low, high = np.quantile(quantity.draws, (0.001, 0.999))
    margin = 0.04 * (high - low)
    return float(low - margin), float(high + margin)


def _inner_ticks(quantity: Quantity) -> list[float]:
    """Two round numbers well inside a panel and far apart, so that their labels do not meet; or none."""
    low, high = _limits(quantity)
    margin = 0.1 * (high - low)
    best = [low, low]
    for most in (2, 3, 4, 5, 6, 8, 12):
        inner = [float(t) for t in MaxNLocator(most).tick_values(low, high) if low + margin <= t <= high - margin]
        if len(inner) >= 2 and inner[-1] - inner[0] > best[1] - best[0]:
            best = [inner[0], inner[-1]]
        if best[1] - best[0] >= 0.5 * (high - low):
            break
    return best if best[0] < best[1] else []


def _tick_labels(ticks: list[float]) -> list[str]:
    """Ticks with as many decimals as they need, the same for all."""
    step = ticks[-1] - ticks[0]
    decimals = next((d for d in range(12) if all(abs(round(t, d) - t) < 1e-6 * step for t in ticks)), 12)
    return [fixed(tick, decimals) for tick in ticks]


def _ticks(axes: Axes, beside: Quantity, below: Quantity | None, room: float) -> None:
    """Limits and ticks of one panel, their labels hidden; `below` is None on the diagonal."""
    low, high = _limits(beside)
    axes.set_xlim(low, high)
    across, up = _inner_ticks(beside), [] if below is None else _inner_ticks(below)
    if across:
        labels = _tick_labels(across)
        apart = room * (across[-1] - across[0]) / (high - low)
        axes.set_xticks(across, labels, fontsize=fitting(max(labels, key=len), 0.95 * apart, 8))
    axes.set_yticks(up, _tick_labels(up) if up else [])
    axes.xaxis.set_tick_params(labelbottom=False)
    axes.yaxis.set_tick_params(left=False, labelleft=False)
