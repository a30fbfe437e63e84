"""Pictures of the sampling: where chains started, how they moved (traces), and whether they agree (ranks)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, fixed, number
from bayestwin.report import words as spoken
from bayestwin.report.quantities import Quantity, widest_rhat_first
from bayestwin.report.style import CHAINS, LIGHT, Picture, figure, picture

MOST_TRACED = 12
TRACE_POINTS = 400
RANK_BINS = 20


def traces(quantities: tuple[Quantity, ...]) -> Picture:
    """Trace and rank plot of each quantity, at most `MOST_TRACED` of them."""
    shown = widest_rhat_first(quantities, MOST_TRACED)
    chains, draws = shown[0].draws.shape
    drawn = figure(0.75 + 1.05 * len(shown))
    grid = drawn.subplots(len(shown), 2, squeeze=False, sharex="col", width_ratios=(2.6, 1))
    stride = -(-draws // TRACE_POINTS)
    for (left, right), quantity in zip(grid, shown, strict=True):
        _trace(left, quantity, stride)
        _ranks(right, quantity)
    grid[-1, 0].set_xlabel("draw")
    grid[-1, 1].set_xlabel("rank among the draws of all chains" if chains > 1 else "")
    handles = [
        Line2D([], [], color=_colour(chain), linestyle=_dash(chain), label=f"chain {chain}")
        for chain in range(min(chains, 8))
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    caption = "Left: the draws of each chain in their order; good chains look like noise, all at one level. "
    if chains > 1:
        caption += (
            "Right: how many of a chain's draws fall in each twentieth of all draws; chains that agree are "
            "flat (grey: where 95 % of the counts of independent draws lie)."
        )
    else:
        caption += "Ranks compare chains: there is only one, and whether it is in the right place cannot be told."
    if stride > 1:
        caption += f" Traces show one draw in {stride}."
    left_out = len(quantities) - len(shown)
    if left_out:
        caption += f" {count(left_out, 'quantity', 'quantities')} with smaller R̂ left out."
    told = spoken.listed(f"{q.name} R̂ {fixed(q.rhat, 3)}, bulk ESS {fixed(q.ess_bulk, 0)}" for q in shown)
    alt = f"Traces and rank plots of {count(chains, 'chain')} of {draws:,} draws. {told}."
    return picture(drawn, "traces", alt, caption)


def starts(log_density: Sequence[float]) -> Picture | None:
    """Log density that each optimised start arrived at, the best first; None where none is recorded."""
    found = np.asarray(log_density, dtype=float)
    found = np.sort(found[np.isfinite(found)])[::-1]
    if not found.size:
        return None
    drawn = figure(1.75)
    axes = drawn.subplots()
    below = found[0] - found
    axes.set_yscale("symlog", linthresh=1.0)
    axes.invert_yaxis()
    place = np.arange(1, found.size + 1)
    axes.vlines(place, 0, below, color=LIGHT["rule"], linewidth=1)
    axes.plot(place, below, linestyle="", marker="o", markersize=4, color=LIGHT["calibrated"], clip_on=False)
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(min(found.size, 16), integer=True))
    axes.set_xlabel("optimised start, the best first")
    axes.set_title("log density below the best")
    axes.set_xlim(0.4, found.size + 0.6)
    ticks = [0, 1] + [10.0**power for power in range(1, 9) if 10.0**power < below[-1] * 1.5]
    axes.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(max(1.2, 1.5 * below[-1]), -0.15)
    alt = f"Log density of {count(found.size, 'optimised start')} below the best: 0 to {number(below[-1])}."
    caption = (
        "Each dot is one start after optimisation. Dots at 0 reached the best mode; those far below were caught "
        "in a place that the posterior all but excludes, and no chain starts there."
    )
    return picture(drawn, "starts", alt, caption)


def _trace(axes: Axes, quantity: Quantity, stride: int) -> None:
    axes.set_title(quantity.label)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    for chain, values in enumerate(quantity.draws):
        x = np.arange(values.size)[::stride]
        axes.plot(x, values[::stride], color=_colour(chain), linewidth=0.5, alpha=0.75)


def _ranks(axes: Axes, quantity: Quantity) -> None:
    chains, draws = quantity.draws.shape
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if chains < 2 or not quantity.drawable:
        words = "one chain only" if chains < 2 else "NaN or all the same"
        axes.set_axis_off()
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=LIGHT["muted"])
        return
    ranks = scipy.stats.rankdata(quantity.draws).reshape(chains, draws)
    edges = np.linspace(0, chains * draws, RANK_BINS + 1)
    low, high = scipy.stats.binom.ppf((0.025, 0.975), draws, 1 / RANK_BINS)
    axes.axhspan(low, high, color=LIGHT["rule"], alpha=0.7)
    seen = [low, high]
    for chain, row in enumerate(ranks):
        counts = np.histogram(row, edges)[0]
        axes.stairs(counts, edges, color=_colour(chain), linestyle=_dash(chain), linewidth=1, baseline=None)
        seen += [counts.min(), counts.max()]
    margin = 0.15 * (max(seen) - min(seen))
    axes.set_ylim(max(0, min(seen) - margin), max(seen) + margin)
    axes.set_xlim(0, chains * draws)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _dash(chain: int) -> Literal["-", "--", ":", "-."]:
    """Ranks of chains differ by their dashes as well: traces are too dense for it."""
    dashes: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
    return dashes[chain % len(dashes)]


def _colour(chain: int) -> str:
    return CHAINS[chain % len(CHAINS)]
