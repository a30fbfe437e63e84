"""Pictures of forecasts over time: raw and conformal intervals of what was held out, and fans of a backtest."""

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import labelled, percent, span_for
from bayestwin.assess import draws, intervals
from bayestwin.report import words as spoken
from bayestwin.report.reading import as_numbers, time_axis
from bayestwin.report.series import dress_time
from bayestwin.report.style import LIGHT, Picture, dots, figure, marker, picture
from bayestwin.report.validation_tables import moment
from bayestwin.telemetry import Telemetry

MOST_FANS = 4
MOST_TIMES = 2000


def side_by_side(posterior: xr.DataTree, found: xr.Dataset, telemetry: Telemetry, prob: float) -> Picture:
    """Raw intervals as a band and conformal ones as lines, over what was held out, and some time before."""
    names = [str(name) for name in found["observation"].to_numpy()]
    drawn = figure(0.9 + 2.3 * len(names))
    grid = drawn.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    own = found.sel(prob=prob, method="nearest")
    stride = -(-own.sizes["time"] // MOST_TIMES)
    kinds = "kind" in own.dims and bool(np.isfinite(own["lower"].sel(kind="conformal")).any())
    past = posterior["observed_data"].to_dataset()
    x = as_numbers(own["time"])
    start = x[0] - 0.3 * (x[-1] - x[0])
    for axes, name in zip(grid, names, strict=True):
        one = own.sel(observation=name).isel(time=slice(None, None, stride))
        at, raw = as_numbers(one["time"]), one.sel(kind="raw") if "kind" in one.dims else one
        axes.fill_between(at, raw["lower"], raw["upper"], color=LIGHT["heldout"], alpha=0.25)
        axes.plot(at, one["median"], color=LIGHT["heldout"])
        if kinds:
            for end in ("lower", "upper"):
                axes.plot(at, one[end].sel(kind="conformal"), color=LIGHT["calibrated"], linewidth=0.9)
        unit = str(own["units"].sel(observation=name).item())
        values = draws.observed(own.drop_vars("kind", errors="ignore"), telemetry, name, unit)
        dots(axes, x[values.positions], values.values, *marker(len(values.values)), LIGHT["ink"])
        before, known = as_numbers(past["time"]), past[name].to_numpy()
        late = before >= start
        dots(axes, before[late], known[late], *marker(len(values.values)), LIGHT["muted"])
        axes.axvline((before[-1] + x[0]) / 2, color=LIGHT["muted"], linewidth=0.8, dashes=(4, 3))
        axes.set_title(labelled(name, unit))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
    dress_time(grid[-1], time_axis(posterior))
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["muted"], label="calibrated"),
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="held out"),
        Line2D([], [], color=LIGHT["heldout"], label="median"),
        Patch(facecolor=LIGHT["heldout"], alpha=0.25, label=f"raw {percent(prob)} interval"),
    ]
    if kinds:
        handles.append(
            Line2D([], [], color=LIGHT["calibrated"], label=f"ends of the conformal {percent(prob)} interval")
        )
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    conformal = " Lines: the same, corrected by the errors of the backtest." if kinds else ""
    caption = f"Band: the {percent(prob)} interval of a new observation as the posterior says it.{conformal}"
    alt = f"{percent(prob)} equal-tailed intervals over what was held out. {_widths(own, names, kinds=kinds)}."
    return picture(drawn, "conformal", alt, caption)


def fans(backtest: xr.DataTree, prob: float) -> Picture | None:
    """Forecasts from some of the origins of a backtest, and what came; None where no origin gave any."""
    origins = backtest["origins"].to_dataset()
    good = [place for place, words in enumerate(origins["failure"].to_numpy()) if not str(words)]
    if not good:
        return None
    chosen = [good[place] for place in np.unique(np.linspace(0, len(good) - 1, MOST_FANS).round().astype(int))]
    bands = intervals(backtest, (0.5, prob) if prob != 0.5 else (0.5,))
    observed = backtest["observed_data"].to_dataset()
    span = span_for(float(bands["horizon"].max()), str(backtest.attrs.get("time_unit", "")))
    names = [str(name) for name in bands["observation"].to_numpy()]
    drawn = figure(0.9 + 1.9 * len(names))
    grid = drawn.subplots(len(names), len(chosen), squeeze=False, sharey="row")
    for row, name in zip(grid, names, strict=True):
        for axes, place in zip(row, chosen, strict=True):
            own = bands.sel(observation=name).isel(origin=place)
            seen = ~own["time"].isnull().to_numpy()
            own = own.isel(horizon=np.flatnonzero(seen))
            x = span.factor * own["horizon"].to_numpy()
            for level, opacity in zip(own["prob"].to_numpy(), (0.42, 0.2), strict=False):
                ends = own.sel(prob=level)
                axes.fill_between(x, ends["lower"], ends["upper"], color=LIGHT["calibrated"], alpha=opacity)
            axes.plot(x, own["median"], color=LIGHT["calibrated"])
            values = observed[name].isel(origin=place, horizon=np.flatnonzero(seen)).to_numpy()
            dots(axes, x, values, *marker(len(values)), LIGHT["ink"])
            axes.set_title(f"from {moment(origins['origin'].to_numpy()[place])}", fontweight="normal")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="y")
        row[0].set_ylabel(labelled(name, str(bands["units"].sel(observation=name).item())))
    for axes in grid[-1]:
        axes.set_xlabel(f"{span.unit} ahead")
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="what came"),
        Line2D([], [], color=LIGHT["calibrated"], label="median"),
        *(
            Patch(facecolor=LIGHT["calibrated"], alpha=opacity, label=f"{percent(float(level))} interval")
            for level, opacity in zip(bands["prob"].to_numpy(), (0.42, 0.2), strict=False)
        ),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    more = (
        f"{len(chosen)} of {len(origins['origin'])} origins are shown. " if len(chosen) < len(origins["origin"]) else ""
    )
    caption = f"{more}Each forecast knows only what was observed until its origin, and the inputs of the time ahead."
    told = spoken.listed(_fan(bands.sel(observation=name).isel(origin=chosen), name) for name in names)
    return picture(drawn, "fans", f"Backtest forecasts from {len(chosen)} origins. {told}.", caption)


def _widths(own: xr.Dataset, names: list[str], *, kinds: bool) -> str:
    """Mean widths of intervals in words, by observation and kind."""
    told = []
    for name in names:
        for kind in ("raw", "conformal") if kinds else ("raw",):
            one = own.sel(observation=name)
            one = one.sel(kind=kind) if "kind" in one.dims else one
            unit = str(one["units"].item())
            told.append(f"{name}, {kind}: {spoken.size(float((one['upper'] - one['lower']).mean()), unit)} wide")
    return "On average, " + spoken.listed(told)


def _fan(own: xr.Dataset, name: str) -> str:
    """Width of the widest interval at the first and the last horizon, in words."""
    wide = (own["upper"] - own["lower"]).isel(prob=-1).mean("origin").to_numpy()
    wide = wide[np.isfinite(wide)]
    unit = str(own["units"].item())
    ends = (f"{spoken.size(float(wide[place]), unit)} wide" for place in (0, -1)) if wide.size else ("not known",)
    return f"{name}: the {percent(float(own['prob'][-1]))} interval is " + " at first and ".join(ends) + " at last"
