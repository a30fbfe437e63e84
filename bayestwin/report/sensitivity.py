"""Pictures of what a result hangs on: Sobol indices, derivatives over time, and what each observation does."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import fixed, labelled, percent, scale_for
from bayestwin.report import prose
from bayestwin.report.page import LIGHT, Picture, dots, figure, fitting, marker, picture
from bayestwin.report.reading import TimeAxis, as_numbers
from bayestwin.report.series import dress_time

ACROSS = 3

MOST_LINES = 8
"""Quantities drawn over time in one panel: those that do most."""

LINES = ("-", "--")
"""A second round of the palette is dashed."""


def sobol_plot(found: xr.Dataset) -> Picture:
    """Indices over all times, one panel an observation: first order and total with intervals (group `sobol`)."""
    names, quantities = (_text(found[dim]) for dim in ("observation", "quantity"))
    across = min(len(names), ACROSS)
    rows = -(-len(names) // across)
    drawn = figure(0.6 + rows * (0.75 + 0.27 * len(quantities)))
    grid = drawn.subplots(rows, across, squeeze=False, sharey=True).ravel()
    for axes, name in zip(grid, names, strict=False):
        _bars(axes, found.sel(observation=name), name, quantities)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    handles = [
        Patch(facecolor=LIGHT["calibrated"], label="below, first order: by itself"),
        Patch(facecolor=LIGHT["prior"], label="above, total: with all that it does together with others"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    prob = found.attrs.get("prob")
    words = "bootstrap intervals" if prob is None else f"{percent(float(prob))} bootstrap intervals"
    caption = (
        f"Share of the variance of noise-free predictions, over all times, that each quantity makes. Lines: {words}."
        f"{_warned(found, names)}"
    )
    total = found["overall"].sel(order="total")
    told = prose.listed(
        f"{name}, {q} {percent(float(total.sel(observation=name, quantity=q)))}" for name in names for q in quantities
    )
    return picture(drawn, "sobol", f"Sobol indices of {', '.join(quantities)}; total: {told}.", caption)


def local_plot(found: xr.Dataset, axis: TimeAxis) -> Picture:
    """What one standard deviation of each quantity does to each observation over time (group `local`)."""
    names = _text(found["observation"])
    parts = _experiments(found)
    drawn = figure(0.9 + 1.8 * len(names))
    grid = drawn.subplots(len(names), len(parts), squeeze=False, sharex="col", sharey="row")
    handles: dict[str, Line2D] = {}
    for row, name in zip(grid, names, strict=True):
        own = found.sel(observation=name)
        most = np.argsort(-np.nan_to_num(own["scaled_rms"].to_numpy(), nan=np.inf), kind="stable")[:MOST_LINES]
        kept = [_text(found["quantity"])[place] for place in most]
        for axes, (experiment, part) in zip(row, parts.items(), strict=True):
            title = f"{name}, {experiment}" if experiment else name
            _lines(axes, part.sel(observation=name, quantity=kept), title, handles, _text(found["quantity"]))
    for axes in grid[-1]:
        dress_time(axes, axis, most=max(10 // len(parts), 4))
    drawn.legend(handles=list(handles.values()), loc="outside upper left", ncols=min(len(handles), 5))
    caption = (
        "Change of the noise-free prediction when a quantity is one standard deviation larger and all others stay, as"
        " its derivative has it."
    )
    if found.sizes["quantity"] > MOST_LINES:
        caption += f" The {MOST_LINES} quantities that do most."
    told = []
    for name in names:
        own = found.sel(observation=name)
        most = int(np.argmax(np.nan_to_num(own["scaled_rms"].to_numpy(), nan=-1.0)))
        effect = prose.size(float(own["scaled_rms"][most]), str(own["units"].item()))
        told.append(f"{name}: most by {own['quantity'].to_numpy()[most]}, {effect}")
    alt = f"Local sensitivities over time, root mean square: {prose.listed(told)}."
    return picture(drawn, "local", alt, caption)


def influence_plot(found: xr.Dataset, axis: TimeAxis) -> Picture:
    """How far leaving out each observation moves the posterior, over time (`bt.influence`)."""
    names = list(dict.fromkeys(_text(found["observation"])))
    names.sort()
    drawn = figure(0.75 + 1.5 * len(names))
    grid = drawn.subplots(len(names), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, name in zip(grid, names, strict=True):
        _stems(axes, found.isel(point=np.flatnonzero(found["observation"].to_numpy() == name)), name)
    dress_time(grid[-1], axis)
    limit = f"{float(found.attrs['max_pareto_k']):.2g}"
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=4, color=LIGHT["calibrated"], label=f"Pareto k ≤ {limit}"),
        Line2D([], [], linestyle="", marker="s", markersize=4, color=LIGHT["fail"], label="above: may be far larger"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    unknown = int(np.isnan(found["largest"].to_numpy()).sum())
    caption = (
        "How far the mean of that parameter moves which moves most when an observation is left out, in posterior"
        f" standard deviations, by PSIS weights. {found.attrs.get('warning', found.attrs['meaning'])}"
    )
    if unknown:
        caption += f" Of {unknown:,} it cannot be told; these are not drawn."
    largest, fine = found["largest"].to_numpy(), found["reliable"].to_numpy()
    alt = (
        f"Influence of each of {largest.size:,} observations of {', '.join(names)} over time: at most "
        f"{fixed(float(np.nanmax(largest, initial=0.0)), 2)} posterior standard deviations; "
        f"{int((~fine).sum())} with a Pareto k above {limit}."
    )
    return picture(drawn, "influence", alt, caption)


def _bars(axes: Axes, found: xr.Dataset, name: str, quantities: list[str]) -> None:
    """One panel: two bars a quantity, the total above, with intervals; nothing where an index cannot be told."""
    axes.set_title(name, fontsize=fitting(name, 190, 9))
    places = np.arange(len(quantities))
    for order, colour, shift in (("first", "calibrated", 0.19), ("total", "prior", -0.19)):
        own = found.sel(order=order)
        axes.barh(places + shift, own["overall"].to_numpy(), height=0.36, color=LIGHT[colour])
        ends = (own["overall_lower"].to_numpy(), own["overall_upper"].to_numpy())
        axes.hlines(places + shift, *ends, color=LIGHT["ink"], linewidth=0.8)
    axes.set_yticks(places, quantities)
    axes.set_ylim(len(quantities) - 0.5, -0.5)
    highest = np.nanmax(found["overall"].to_numpy(), initial=1.0)
    axes.set_xlim(min(0.0, 1.05 * np.nanmin(found["overall"].to_numpy(), initial=0.0)), 1.08 * highest)
    axes.set_xlabel("share of the variance")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")


def _lines(axes: Axes, found: xr.Dataset, title: str, handles: dict[str, Line2D], order: list[str]) -> None:
    unit = str(found["units"].item())
    values = found["scaled"].transpose("quantity", "time").to_numpy()
    scale = scale_for(float(np.nanmax(np.abs(values), initial=0.0)), unit)
    axes.set_title(labelled(title, scale.unit))
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
    time, colours = as_numbers(found["time"]), ("chain1", "chain2", "chain3", "chain4")
    for name, row in zip(_text(found["quantity"]), values, strict=True):
        number = order.index(name)
        colour, dash = LIGHT[colours[number % 4]], LINES[number // 4 % 2]
        seen = np.isfinite(row)
        axes.plot(time[seen], row[seen] * scale.factor, color=colour, linestyle=dash)
        handles.setdefault(name, Line2D([], [], color=colour, linestyle=dash, label=name))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")


def _stems(axes: Axes, found: xr.Dataset, name: str) -> None:
    time, largest, fine = as_numbers(found["time"]), found["largest"].to_numpy(), found["reliable"].to_numpy()
    axes.set_title(name)
    for kind, colour in ((fine, "calibrated"), (~fine, "fail")):
        seen = kind & np.isfinite(largest)
        axes.vlines(time[seen], 0.0, largest[seen], color=LIGHT[colour], linewidth=0.8)
        dots(axes, time[seen], largest[seen], *marker(len(time)), LIGHT[colour], square=colour == "fail")
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("shift (sd)")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y")


def _experiments(found: xr.Dataset) -> dict[str, xr.Dataset]:
    """Each experiment by its name; the whole under no name where there are none."""
    if "experiment" not in found.dims:
        return {"": found}
    return {name: found.sel(experiment=name) for name in _text(found["experiment"])}


def _text(coordinate: xr.DataArray) -> list[str]:
    return [str(value) for value in coordinate.to_numpy()]


def _warned(found: xr.Dataset, names: list[str]) -> str:
    unsure = [name for name, fine in zip(names, found["reliable"].to_numpy(), strict=True) if not fine]
    return f" Those of {', '.join(unsure)} say little: their variance hangs on few points." if unsure else ""
