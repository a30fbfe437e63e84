"""Pictures of a posterior: each quantity against its prior, pairs, the sampling, and intervals side by side."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.ndimage
import scipy.stats
import xarray as xr
from arviz_stats.visualization import kde
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, fixed, number, percent
from bayestwin.report import prose
from bayestwin.report.page import CHAINS, LIGHT, WIDTH, Picture, dots, figure, fitting, picture
from bayestwin.report.reading import PROB, Quantity, widest_rhat_first

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
    alt = f"Densities of prior and posterior. Posterior {prose.intervals_of(quantities)}."
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


# Picture of the posterior's quantities in pairs: regions, marginals and correlations.

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
    return picture(drawn, "pairs", f"Pair plot of {names}; strongest {prose.correlations(shown)}.", caption)


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


# Pictures of the sampling: where chains started, how they moved (traces), and whether they agree (ranks).

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
    told = prose.listed(f"{q.name} R̂ {fixed(q.rhat, 3)}, bulk ESS {fixed(q.ess_bulk, 0)}" for q in shown)
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


# Intervals of quantities side by side: a panel for each quantity, in it a line for each thing that is compared.

PANELS_ACROSS = 4


class Line(NamedTuple):
    """One line of a panel, in its unit; `own` marks what the page is about."""

    label: str
    mean: float
    lower: float
    upper: float
    own: bool = False


class Panel(NamedTuple):
    """One quantity, and its lines from top to bottom; every panel of a picture has the same labels.

    Attributes:
        title: Its name and unit.
        lines: One an experiment, a setting or a run.
        typical: Of a population that all lines come from; None where there is none.
    """

    title: str
    lines: tuple[Line, ...]
    typical: float | None = None


def draw_forest(panels: Sequence[Panel]) -> Figure:
    """Mean and interval of each quantity, at least one of them; lines of what the page is about have a diamond."""
    labels = [line.label for line in panels[0].lines]
    across = min(len(panels), PANELS_ACROSS)
    rows = -(-len(panels) // across)
    drawn = figure(0.2 + rows * (0.65 + 0.22 * len(labels)))
    grid = drawn.subplots(rows, across, squeeze=False, sharey=True).ravel()
    for axes, (title, lines, typical) in zip(grid, panels, strict=False):
        axes.set_title(title, fontsize=fitting(title, 0.75 * 72 * WIDTH / across, 9))
        if typical is not None:
            axes.axvline(typical, color=LIGHT["calibrated"], linewidth=1.0, linestyle="--")
        for place, line in enumerate(lines):
            colour = LIGHT["calibrated"] if line.own else LIGHT["ink"]
            axes.plot([line.lower, line.upper], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
            shape = "D" if line.own else "o"
            axes.plot([line.mean], [place], linestyle="", marker=shape, markersize=4.5, color=colour)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="x")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return drawn
