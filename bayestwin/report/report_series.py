"""Pictures over time: observations with their intervals, inputs beneath, states nobody observed, discrepancies."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bayestwin._base.wording import percent
from bayestwin.report import words as spoken
from bayestwin.report.reading import PROBS, Part, TimeAxis, as_numbers
from bayestwin.report.series import MOST_TIMES, draw_bands, draw_input, dress_time, legend, mark_gaps, shade, stride
from bayestwin.report.style import LIGHT, Picture, dots, figure, marker, picture

CLOSE_LOOK = 150


def observations(parts: tuple[Part, ...], axis: TimeAxis) -> Picture:
    """All observations over the whole time, inputs beneath."""
    names = ", ".join(parts[0].names)
    labels = " and ".join(part.label for part in parts)
    told = spoken.over_time(parts[0].names, ((part, part.bands) for part in parts), observed=True)
    alt = f"{names} over time: observations, median and {promise(parts)}; {labels}. {told}."
    return picture(_stack(parts, axis, None), "series", alt, _caption(parts))


def closer_look(parts: tuple[Part, ...], axis: TimeAxis) -> Picture | None:
    """The same where calibration ends, if the whole is too long to see a band's edges in; else None."""
    names, times = parts[0].names, as_numbers(parts[0].observed["time"])
    later = [as_numbers(part.observed["time"]) for part in parts[1:] if part.observed.sizes.get("time")]
    if len(times) + sum(map(len, later)) < 3 * CLOSE_LOOK or len(times) < 3:
        return None
    reach = CLOSE_LOOK * float(np.median(np.diff(times)))
    window = (times[-1] - reach, times[-1] + reach) if len(parts) > 1 else (times[-1] - 2 * reach, times[-1])
    where = "around the end of calibration" if len(parts) > 1 else "at the end of the record"
    cut = [part.between(window) for part in parts]
    told = spoken.over_time(names, ((part, part.bands) for part in cut), observed=True)
    alt = f"The same observations and intervals, {where}. {told}."
    return picture(_stack(parts, axis, window), "closer", alt, f"A closer look {where}; drawn as above.")


def hidden_states(parts: tuple[Part, ...], axis: TimeAxis) -> Picture | None:
    """Trajectories of states that have no observation of their own; None if there are none."""
    shown = [(part, part.hidden) for part in parts if part.hidden is not None]
    if not shown:
        return None
    names = _named(shown)
    drawn = _inferred(parts, axis, shown, zero=False)
    told = spoken.over_time(names, shown, observed=False)
    alt = f"Inferred trajectories of {', '.join(names)} with {promise(parts)}. {told}."
    words = "a state that is" if len(names) == 1 else "states that are"
    caption = f"What the twin infers about {words} not observed: median and {promise(parts)} of the trajectory."
    return picture(drawn, "hidden", alt, caption)


def discrepancies(parts: tuple[Part, ...], axis: TimeAxis) -> Picture | None:
    """What is added to what the twin says, against zero; None if there are no discrepancies."""
    shown = [(part, part.discrepancy) for part in parts if part.discrepancy is not None]
    if not shown:
        return None
    drawn = _inferred(parts, axis, shown, zero=True)
    told = spoken.over_time(_named(shown), shown, observed=False)
    alt = f"{', '.join(_named(shown))} over time with {promise(parts)}, and zero. {told}."
    caption = (
        f"What is added to what the twin says: median and {promise(parts)} of the discrepancy. Where a band leaves out "
        "zero, the equations alone do not say what was observed."
    )
    return picture(drawn, "discrepancy", alt, caption)


def promise(parts: tuple[Part, ...]) -> str:
    """What the bands are: `50 % and 90 % equal-tailed intervals`."""
    kinds = {part.bands.attrs["kind"] for part in parts if part.bands is not None}
    return f"{percent(PROBS[0])} and {percent(PROBS[1])} {' / '.join(sorted(kinds)) or 'interval'}s"


def _caption(parts: tuple[Part, ...]) -> str:
    lines = ["Dots: what was observed."]
    if any(part.bands is not None for part in parts):
        lines.append(f"Bands: {promise(parts)} of a new observation (uncertainty of parameters and noise together).")
    else:
        lines.append("There are no predictive draws in this result, and so no bands.")
    if len(parts) > 1:
        lines.append(f"Shaded: the {parts[1].label.replace(' ', '-')} part, which calibration has not seen.")
    if any(part.inputs.data_vars for part in parts):
        lines.append("Inputs are drawn beneath in grey.")
    if any(part.bands is not None and bool(part.bands["median"].isnull().any()) for part in parts):
        lines.append("Bands are missing where a draw could not be solved: an interval without it would be too narrow.")
    longest = max((part.bands.sizes["time"] for part in parts if part.bands is not None), default=0)
    if longest > MOST_TIMES:
        lines.append(f"Bands are drawn at every {stride(longest)}th time.")
    return " ".join(lines)


def _named(shown: list[tuple[Part, xr.Dataset]]) -> list[str]:
    return [str(name) for name in shown[0][1]["observation"].to_numpy()]


def _inferred(parts: tuple[Part, ...], axis: TimeAxis, shown: list[tuple[Part, xr.Dataset]], *, zero: bool) -> Figure:
    """One row for each thing that is inferred and not observed, against a line at `zero` or without."""
    names = _named(shown)
    drawn = figure(0.75 + 1.5 * len(names))
    grid = list(drawn.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    for axes, name in zip(grid, names, strict=True):
        draw_bands(axes, name, shown)
        if zero:
            axes.axhline(0, color=LIGHT["ink"], linewidth=0.7, zorder=3)
    shade(grid, parts)
    dress_time(grid[-1], axis)
    legend(drawn, shown, observed=False, gaps=False)
    return drawn


def _stack(parts: tuple[Part, ...], axis: TimeAxis, window: tuple[float, float] | None) -> Figure:
    """One row an observation, one lower row an input; `window` cuts the time axis."""
    names = list(parts[0].names)
    inputs = list(dict.fromkeys(str(n) for part in parts for n in part.inputs.data_vars)) if window is None else []
    heights = [2.5 if len(names) == 1 else 2.1] * len(names) + [0.75] * len(inputs)
    drawn = figure(0.75 + sum(heights) + 0.12 * len(heights))
    grid = list(drawn.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    cut = [part.between(window) for part in parts]
    shown = [(part, part.bands) for part in cut if part.bands is not None]
    many = sum(part.observed.sizes.get("time", 0) for part in cut)
    gaps = False
    for axes, name in zip(grid, names, strict=False):
        factor = draw_bands(axes, name, shown)
        for part in cut:
            if name in part.observed:
                x, y = as_numbers(part.observed["time"]), part.observed[name].to_numpy() * factor
                dots(axes, x, y, *marker(many), LIGHT["ink"])
                gaps |= mark_gaps(axes, x, y)
    for axes, name in zip(grid[len(names) :], inputs, strict=True):
        draw_input(axes, name, parts)
    shade(grid, cut)
    if window is not None:
        grid[0].set_xlim(window)
    dress_time(grid[-1], axis)
    legend(drawn, shown, observed=True, gaps=gaps)
    return drawn
