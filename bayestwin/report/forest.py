"""Intervals of quantities side by side: a panel for each quantity, in it a line for each thing that is compared."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from bayestwin.report.style import LIGHT, WIDTH, figure, fitting

COLUMNS = 4


class Line(NamedTuple):
    """One line of a panel, in its unit; `own` marks what the page is about."""

    label: str
    mean: float
    lower: float
    upper: float
    own: bool = False


class Panel(NamedTuple):
    """One quantity, and its lines from top to bottom; every panel of a picture has the same labels."""

    title: str
    lines: tuple[Line, ...]


def draw_forest(panels: Sequence[Panel]) -> Figure:
    """Mean and interval of each quantity, at least one of them; lines of what the page is about have a diamond."""
    labels = [line.label for line in panels[0].lines]
    across = min(len(panels), COLUMNS)
    rows = -(-len(panels) // across)
    drawn = figure(0.2 + rows * (0.65 + 0.22 * len(labels)))
    grid = drawn.subplots(rows, across, squeeze=False, sharey=True).ravel()
    for axes, (title, lines) in zip(grid, panels, strict=False):
        axes.set_title(title, fontsize=fitting(title, 0.75 * 72 * WIDTH / across, 9))
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
