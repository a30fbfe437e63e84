"""What pictures over time are made of: bands, inputs, gaps, the part held out, the axis of time, and the legend."""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from bayestwin._base.wording import labelled, percent, scale_for
from bayestwin.report.reading import PROBS, Part, TimeAxis, as_numbers
from bayestwin.report.style import LIGHT

MOST_TIMES = 4000
DATES = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%S.%f"]
OPACITY = {PROBS[0]: 0.42, PROBS[1]: 0.2}


def draw_bands(axes: Axes, name: str, shown: list[tuple[Part, xr.Dataset]]) -> float:
    """Draw median and intervals of one observation, and its title; returns the factor of its values."""
    bands = [(part, found.sel(observation=name)) for part, found in shown if name in found["observation"]]
    unit = next((str(found["units"].item()) for _, found in bands if "units" in found.coords), "")
    size = max((float(np.abs(found["median"]).max()) for _, found in bands), default=1.0)
    scale = scale_for(size, unit)
    axes.set_title(labelled(name, scale.unit))
    before: xr.Dataset | None = None
    for part, found in bands:
        joined = _joined(before, found)
        joined = joined.isel(time=slice(None, None, stride(joined.sizes["time"])))
        x = as_numbers(joined["time"])
        for prob in PROBS:
            ends = joined.sel(prob=prob) * scale.factor
            axes.fill_between(x, ends["lower"], ends["upper"], color=part.colour, alpha=OPACITY[prob], zorder=1)
        axes.plot(x, joined["median"] * scale.factor, color=part.colour, zorder=2)
        before = found
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return scale.factor


def draw_input(axes: Axes, name: str, parts: tuple[Part, ...]) -> None:
    """Draw an input, as it is held between its samples."""
    held = [part.inputs[name] for part in parts if name in part.inputs]
    unit = next((str(values.attrs["units"]) for values in held if values.attrs.get("units")), "")
    scale = scale_for(max(float(np.abs(values).max()) for values in held), unit)
    for values in held:
        steps = "steps-post" if values.attrs.get("hold") == "previous" else "default"
        x = as_numbers(values["time"])
        axes.plot(x, values * scale.factor, color=LIGHT["muted"], linewidth=0.7, drawstyle=steps)
    axes.set_title(labelled(name, scale.unit), fontweight="normal", color=LIGHT["muted"])
    axes.yaxis.set_major_locator(MaxNLocator(3))


def mark_gaps(axes: Axes, x: np.ndarray, y: np.ndarray) -> bool:
    """A bar at the foot of the axes where nothing was observed for long; whether there is one."""
    seen = x[np.isfinite(y)]
    if len(seen) < 8:
        return False
    steps = np.diff(seen)
    long = np.flatnonzero(steps > max(3.5 * np.median(steps), 0.004 * (x[-1] - x[0])))
    for place in long:
        axes.axvspan(seen[place], seen[place + 1], 0, 0.03, color=LIGHT["muted"], zorder=4)
    return bool(len(long))


def shade(grid: list[Axes], parts: tuple[Part, ...] | list[Part]) -> None:
    """Shade the part after calibration, and name it."""
    if len(parts) < 2:
        return
    last = as_numbers(parts[0].observed["time"])[-1:]
    for place, axes in enumerate(grid):
        left, right = axes.get_xlim()
        edge = float(last[0]) if len(last) else left
        axes.axvspan(edge, right, color=LIGHT["shade"], zorder=0)
        axes.axvline(edge, color=LIGHT["heldout"], linewidth=0.8, dashes=(4, 3), zorder=1)
        axes.set_xlim(left, right)
        if place == 0:
            _name_part(axes, edge, parts[1])


def dress_time(axes: Axes, axis: TimeAxis, most: int = 10) -> None:
    """At most `most` ticks, and the label of the time axis."""
    if axis.dated:
        axes.xaxis_date()
        axes.set_xlabel("time (UTC)")
        locator = AutoDateLocator(minticks=4, maxticks=most)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(
            ConciseDateFormatter(
                locator,
                formats=DATES,
                zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
                offset_formats=["", *["%Y"] * 4, "%d %b %Y"],
            )
        )
        return
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axes.set_xlabel(labelled("time", axis.unit))


def legend(drawn: Figure, shown: list[tuple[Part, xr.Dataset]], *, observed: bool, gaps: bool) -> None:
    """One legend above all axes: a row for each part, what was observed in front."""
    front: list[Artist] = []
    if observed:
        front.append(Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="observed"))
    if gaps:
        front.append(Line2D([], [], color=LIGHT["muted"], linewidth=3, label="nothing observed"))
    # matplotlib fills column by column: one column a kind of mark, one row a part
    columns = [front] if front else []
    columns.append([Line2D([], [], color=part.colour, label=f"{part.label}: median") for part, _ in shown])
    for prob in PROBS:
        label = f"{percent(prob)} interval"
        columns.append([Patch(facecolor=part.colour, alpha=OPACITY[prob], label=label) for part, _ in shown])
    rows = max(map(len, columns))
    handles = [handle for column in columns for handle in (column + [_nothing()] * rows)[:rows]]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(columns), columnspacing=2, handlelength=1.6)


def stride(length: int) -> int:
    """Every how many-th time is drawn when there are so many."""
    return -(-length // MOST_TIMES)


def _joined(before: xr.Dataset | None, found: xr.Dataset) -> xr.Dataset:
    """`found`, led by the last time `before` it where both lie close: one band that changes its colour."""
    if before is None or before.sizes["time"] < 2:
        return found
    times = as_numbers(before["time"])
    step = as_numbers(found["time"])[0] - times[-1]
    if not 0 < step <= 3 * np.median(np.diff(times)):
        return found
    return xr.concat([before.isel(time=[-1]), found], dim="time", join="override", coords="minimal", compat="override")


def _name_part(axes: Axes, edge: float, part: Part) -> None:
    axes.annotate(
        f"{part.label} →",
        (edge, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 3),
        textcoords="offset points",
        color=part.colour,
        fontweight="bold",
        annotation_clip=True,
    )


def _nothing() -> Artist:
    return Line2D([], [], linestyle="", label=" ")
