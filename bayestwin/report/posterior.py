"""Picture of each quantity's posterior against its prior."""

import numpy as np
from arviz_stats.visualization import kde
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import percent
from bayestwin.report import words
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.report.style import LIGHT, WIDTH, Picture, figure, fitting, picture

COLUMNS = 4
PRIOR_SEEN = 8.0
"""The prior is shown whole where it is up to so many times as wide as the posterior."""


def against_prior(quantities: tuple[Quantity, ...]) -> Picture:
    """Prior and posterior of every quantity, one small panel each."""
    rows = -(-len(quantities) // COLUMNS)
    drawn = figure(0.5 + 1.5 * rows)
    grid = drawn.subplots(rows, COLUMNS, squeeze=False).ravel()
    cut = [_compare(axes, quantity) for axes, quantity in zip(grid, quantities, strict=False)]
    for axes in grid[len(quantities) :]:
        axes.set_axis_off()
    known = any(quantity.prior.size for quantity in quantities)
    handles = [
        *([Patch(facecolor=LIGHT["prior"], alpha=0.4, label="prior")] if known else []),
        Patch(facecolor=LIGHT["calibrated"], alpha=0.5, label="posterior"),
        Line2D([], [], color=LIGHT["ink"], linewidth=2, label=f"{percent(PROB)} equal-tailed interval"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    alt = f"Densities of prior and posterior. Posterior {words.intervals_of(quantities)}."
    caption = (
        "What was assumed (grey, without a line) and what the data made of it (blue, with a line), each drawn to its "
        "own height."
    )
    if not known:
        caption = "Only the posterior is drawn: the result holds no draws of the prior."
    elif any(cut):
        wide = ", ".join(quantity.name for quantity, tails in zip(quantities, cut, strict=True) if tails)
        caption += f" The prior goes on beyond the panel where it is far wider than the posterior: {wide}."
    return picture(drawn, "prior", alt, caption)


def _compare(axes: Axes, quantity: Quantity) -> bool:
    """One panel; whether the prior's tails were cut off."""
    axes.set_title(quantity.label, fontsize=fitting(quantity.label, 72 * WIDTH / COLUMNS - 8, 9))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if not quantity.drawable:
        axes.text(
            0.5,
            0.5,
            "cannot be drawn:\nNaN or all the same",
            transform=axes.transAxes,
            ha="center",
            va="center",
        )
        axes.set_xticks([])
        return False
    grid, density, _ = kde(quantity.draws.ravel(), grid_len=200)
    low, high, cut = float(grid[0]), float(grid[-1]), False
    if quantity.prior.size > 1 and np.ptp(quantity.prior) > 0:
        start, end = np.quantile(quantity.prior, (0.005, 0.995))
        reach = 0.5 * PRIOR_SEEN * (high - low)
        wide = (max(start, low - reach), min(end, high + reach))
        low, high = min(low, wide[0]), max(high, wide[1])
        cut = bool(start < low or end > high)
        x, y, _ = kde(quantity.prior[(quantity.prior >= start) & (quantity.prior <= end)], grid_len=200)
        axes.fill_between(x, 0.7 * y / y.max(), color=LIGHT["prior"], alpha=0.4)
    axes.fill_between(grid, density / density.max(), color=LIGHT["calibrated"], alpha=0.5)
    axes.plot(grid, density / density.max(), color=LIGHT["calibrated"], linewidth=1)
    axes.plot([quantity.lower, quantity.upper], [0, 0], color=LIGHT["ink"], linewidth=2, clip_on=False, zorder=5)
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.05)
    return cut
