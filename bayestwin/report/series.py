"""Pictures over time: observations with their intervals, inputs, hidden states, discrepancies, shares of the variance.

What they are made of comes first: bands, gaps, the part held out, the axis of time, and the legend.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from bayestwin._base.wording import NARROW, labelled, percent, scale_for
from bayestwin.report import prose
from bayestwin.report.page import LIGHT, Picture, dots, figure, marker, picture
from bayestwin.report.reading import PROBS, Period, TimeAxis, as_numbers

MOST_TIMES = 4000
DATES = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%S.%f"]
OPACITY = {PROBS[0]: 0.42, PROBS[1]: 0.2}


def draw_bands(axes: Axes, name: str, shown: list[tuple[Period, xr.Dataset]]) -> float:
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


def draw_input(axes: Axes, name: str, parts: tuple[Period, ...]) -> None:
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


def shade(grid: list[Axes], parts: tuple[Period, ...] | list[Period]) -> None:
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


def mark_beyond(axes: Axes, parts: tuple[Period, ...] | list[Period], name: str | None = None) -> bool:
    """Mark where what is drawn lies beyond what was calibrated: one signal, or any; whether that is anywhere."""
    marked = False
    for part in parts:
        if (name is not None and name not in part.beyond) or not part.beyond.sizes.get("time"):
            continue
        codes = part.beyond if name is None else part.beyond[[name]]
        there = np.any([values.to_numpy() > 0 for values in codes.data_vars.values()], axis=0)
        x = as_numbers(part.beyond["time"])
        edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2.0, x[-1:]])
        ends = np.flatnonzero(np.diff(np.concatenate([[0], there, [0]])))
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            left, right = float(edges[first]), float(edges[last])
            axes.axvspan(left, right, color=LIGHT["warn"], alpha=0.13, zorder=0.5)
            axes.axvspan(left, right, 0.97, 1.0, color=LIGHT["warn"], zorder=4)
            marked = True
    return marked


def dress_time(axes: Axes, axis: TimeAxis, most: int = 10) -> None:
    """At most `most` ticks, and the label of the time axis."""
    if axis.dated:
        zone = pd.Timestamp(0, tz=axis.zone or "UTC").tzinfo
        axes.xaxis_date(tz=zone)
        axes.set_xlabel(f"time ({axis.zone or 'UTC'})")
        locator = AutoDateLocator(tz=zone, minticks=4, maxticks=most)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(
            ConciseDateFormatter(
                locator,
                tz=zone,
                formats=DATES,
                zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
                offset_formats=["", *["%Y"] * 4, "%d %b %Y"],
            )
        )
        return
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axes.set_xlabel(labelled("time", axis.unit))


def legend(drawn: Figure, shown: list[tuple[Period, xr.Dataset]], *, observed: bool, gaps: bool, beyond: bool) -> None:
    """One legend above all axes: a row for each part, what was observed in front."""
    front: list[Artist] = []
    if observed:
        front.append(Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="observed"))
    if gaps:
        front.append(Line2D([], [], color=LIGHT["muted"], linewidth=3, label="nothing observed"))
    if beyond:
        front.append(Line2D([], [], color=LIGHT["warn"], linewidth=3, label="beyond what was calibrated"))
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


def _name_part(axes: Axes, edge: float, part: Period) -> None:
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


# Pictures over time: observations with their intervals, inputs beneath, states nobody observed, discrepancies.

CLOSE_LOOK = 150


def observations(parts: tuple[Period, ...], axis: TimeAxis, start: str = "") -> Picture:
    """All observations over the whole time, inputs beneath; of another recording `start` says how it begins."""
    names = ", ".join(parts[0].names)
    labels = " and ".join(part.label for part in parts)
    told = prose.over_time(parts[0].names, ((part, part.bands) for part in parts), observed=True)
    alt = f"{names} over time: observations, median and {promise(parts)}; {labels}. {told}."
    words = _caption(parts)
    if parts[0].label == "calibration":
        return picture(_stack(parts, axis, None), "series", alt, words)
    return picture(_stack(parts, axis, None), "other", alt, f"Another recording, on its own clock. {start} {words}")


def closer_look(parts: tuple[Period, ...], axis: TimeAxis) -> Picture | None:
    """The same where calibration ends, if the whole is too long to see a band's edges in; else None."""
    names, times = parts[0].names, as_numbers(parts[0].observed["time"])
    later = [as_numbers(part.observed["time"]) for part in parts[1:] if part.observed.sizes.get("time")]
    if len(times) + sum(map(len, later)) < 3 * CLOSE_LOOK or len(times) < 3:
        return None
    reach = CLOSE_LOOK * float(np.median(np.diff(times)))
    window = (times[-1] - reach, times[-1] + reach) if len(parts) > 1 else (times[-1] - 2 * reach, times[-1])
    where = "around the end of calibration" if len(parts) > 1 else "at the end of the record"
    cut = [part.between(window) for part in parts]
    told = prose.over_time(names, ((part, part.bands) for part in cut), observed=True)
    alt = f"The same observations and intervals, {where}. {told}."
    return picture(_stack(parts, axis, window), "closer", alt, f"A closer look {where}; drawn as above.")


def hidden_states(parts: tuple[Period, ...], axis: TimeAxis) -> Picture | None:
    """Trajectories of states that have no observation of their own; None if there are none."""
    shown = [(part, part.hidden) for part in parts if part.hidden is not None]
    if not shown:
        return None
    names = _named(shown)
    drawn = _inferred(parts, axis, shown, zero=False)
    told = prose.over_time(names, shown, observed=False)
    alt = f"Inferred trajectories of {', '.join(names)} with {promise(parts)}. {told}."
    words = "a state that is" if len(names) == 1 else "states that are"
    caption = f"What the twin infers about {words} not observed: median and {promise(parts)} of the trajectory."
    if any(", " in name for name in names):
        caption += " Of a state that is an array a few entries are shown."
    return picture(drawn, "hidden", alt, caption)


def discrepancies(parts: tuple[Period, ...], axis: TimeAxis) -> Picture | None:
    """What is added to what the twin says, against zero; None if there are no discrepancies."""
    shown = [(part, part.discrepancy) for part in parts if part.discrepancy is not None]
    if not shown:
        return None
    drawn = _inferred(parts, axis, shown, zero=True)
    told = prose.over_time(_named(shown), shown, observed=False)
    alt = f"{', '.join(_named(shown))} over time with {promise(parts)}, and zero. {told}."
    caption = (
        f"What is added to what the twin says: median and {promise(parts)} of the discrepancy. Where a band leaves out "
        "zero, the equations alone do not say what was observed."
    )
    return picture(drawn, "discrepancy", alt, caption)


def promise(parts: tuple[Period, ...]) -> str:
    """What the bands are: `50 % and 90 % equal-tailed intervals`."""
    kinds = {part.bands.attrs["kind"] for part in parts if part.bands is not None}
    return f"{percent(PROBS[0])} and {percent(PROBS[1])} {' / '.join(sorted(kinds)) or 'interval'}s"


def _caption(parts: tuple[Period, ...]) -> str:
    lines = ["Dots: what was observed."]
    if any(part.bands is not None for part in parts):
        lines.append(f"Bands: {promise(parts)} of a new observation (uncertainty of parameters and noise together).")
    else:
        lines.append("There are no predictive draws in this result, and so no bands.")
    if len(parts) > 1:
        lines.append(f"Shaded: the {parts[1].label.replace(' ', '-')} part, which calibration has not seen.")
    if any(part.inputs.data_vars for part in parts):
        lines.append("Inputs are drawn beneath in grey.")
    if any(part.beyond.data_vars for part in parts):
        lines.append("Marked along the top: times at which something lies beyond what was calibrated.")
    failed = [float(part.bands["failed"].max()) for part in parts if part.bands is not None and "failed" in part.bands]
    if failed:
        lines.append(
            f"Bands are those of the draws that are there: up to {percent(max(failed))} are not, since their solve has "
            "failed by then; see Diagnostics."
        )
    longest = max((part.bands.sizes["time"] for part in parts if part.bands is not None), default=0)
    if longest > MOST_TIMES:
        lines.append(f"Bands are drawn at every {stride(longest)}th time.")
    return " ".join(lines)


def _named(shown: list[tuple[Period, xr.Dataset]]) -> list[str]:
    return [str(name) for name in shown[0][1]["observation"].to_numpy()]


def _inferred(
    parts: tuple[Period, ...], axis: TimeAxis, shown: list[tuple[Period, xr.Dataset]], *, zero: bool
) -> Figure:
    """One row for each thing that is inferred and not observed, against a line at `zero` or without."""
    names = _named(shown)
    drawn = figure(0.75 + 1.5 * len(names))
    grid = list(drawn.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    beyond = False
    for axes, name in zip(grid, names, strict=True):
        draw_bands(axes, name, shown)
        if zero:
            axes.axhline(0, color=LIGHT["ink"], linewidth=0.7, zorder=3)
        beyond |= mark_beyond(axes, parts)
    shade(grid, parts)
    dress_time(grid[-1], axis)
    legend(drawn, shown, observed=False, gaps=False, beyond=beyond)
    return drawn


def _stack(parts: tuple[Period, ...], axis: TimeAxis, window: tuple[float, float] | None) -> Figure:
    """One row an observation, one lower row an input; `window` cuts the time axis."""
    names = list(parts[0].names)
    inputs = list(dict.fromkeys(str(n) for part in parts for n in part.inputs.data_vars)) if window is None else []
    heights = [2.5 if len(names) == 1 else 2.1] * len(names) + [0.75] * len(inputs)
    drawn = figure(0.75 + sum(heights) + 0.12 * len(heights))
    grid = list(drawn.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    cut = [part.between(window) for part in parts]
    shown = [(part, part.bands) for part in cut if part.bands is not None]
    many = sum(part.observed.sizes.get("time", 0) for part in cut)
    gaps = beyond = False
    for axes, name in zip(grid, names, strict=False):
        factor = draw_bands(axes, name, shown)
        for part in cut:
            if name in part.observed:
                x, y = as_numbers(part.observed["time"]), part.observed[name].to_numpy() * factor
                dots(axes, x, y, *marker(many), LIGHT["ink"])
                gaps |= mark_gaps(axes, x, y)
        beyond |= mark_beyond(axes, cut)
    for axes, name in zip(grid[len(names) :], inputs, strict=True):
        draw_input(axes, name, parts)
        mark_beyond(axes, cut, name)
    shade(grid, cut)
    if window is not None:
        grid[0].set_xlim(window)
    dress_time(grid[-1], axis)
    legend(drawn, shown, observed=True, gaps=gaps, beyond=beyond)
    return drawn


# Pictures of where the uncertainty of predictions comes from: shares of the variance over time, stacked.

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
        _stack_shares(grid[2 * place], x, own, name)
        _spread(grid[2 * place + 1], x, own, name)
    grid[0].set_xlim(*((x[0], x[-1]) if len(x) > 1 else (x[0] - 0.5, x[0] + 0.5)))
    dress_time(grid[-1], axis)
    handles = [Patch(facecolor=COLOURS[source], alpha=0.75, label=WORDS.get(source, source)) for source in sources]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=2, handlelength=1.6)
    listed = ", ".join(WORDS.get(source, source) for source in sources)
    mean = shares["share"].mean("time")
    told = prose.listed(
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


def _stack_shares(axes: Axes, x: np.ndarray, own: xr.Dataset, name: str) -> None:
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
