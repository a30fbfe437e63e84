"""The page that `monitor` writes: the verdict, bets and PITs over time, and what moved; laid out in `monitor.html`."""

import importlib.metadata
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import Written, count, fixed, number, unit_text
from bayestwin.model.twin import Twin
from bayestwin.monitor.shifts import Shift
from bayestwin.monitor.verdict import Monitored
from bayestwin.report.page import CHAINS, LIGHT, Picture, dots, drawing, figure, fill, marker, picture
from bayestwin.report.reading import TimeAxis, as_numbers
from bayestwin.report.series import dress_time
from bayestwin.telemetry import said

STATUS = {"ok": "pass", "watch": "warn", "insufficient data": "warn", "act": "fail"}

HEADLINES = {
    "ok": "The twin is as right as it was.",
    "watch": "Look at it: something is off, and raises no alarm.",
    "insufficient data": "It cannot be told whether the twin is right: there is too little data.",
}

ACT = {
    "model": "Act: what came is not what the twin says.",
    "data": "Act: something is wrong with the telemetry.",
    "infrastructure": "Act: something is wrong where it was computed.",
    "none": "Act: what came is not what the twin says.",
}
"""By what is to blame."""

MOST_STEPS = 4000
"""More readings are drawn at every so manyth of them."""


class ShiftRow(NamedTuple):
    """What would have moved, in a table."""

    name: str
    kind: str
    unit: str
    before: Written | str
    after: Written
    moved: Written | str
    gain: Written
    z: Written


class ObservationRow(NamedTuple):
    """Evidence about an observation, or a regime of one, in a table."""

    name: str
    readings: str
    trusted: str
    e_value: Written
    alarm: str


def render_monitor(found: Monitored, twin: Twin, *, zone: str, provenance: Mapping[str, str]) -> str:
    """Write the page about a verdict; it needs nothing beside itself, and text that comes from users is escaped.

    Args:
        found: The verdict with its evidence.
        twin: The twin.
        zone: In which dates are shown; empty for UTC.
        provenance: What the page says about where it comes from.

    Returns:
        The page as text, to be written as UTF-8.
    """
    with drawing():
        pictures = _pictures(found, twin, zone)
    told = {**provenance, **_hashes(found)}
    page = {
        "name": twin.name,
        "version": importlib.metadata.version("bayestwin"),
        "status": STATUS[found.verdict],
        "verdict": found.verdict,
        "cause": found.cause,
        "headline": ACT[found.cause] if found.verdict == "act" else HEADLINES[found.verdict],
        "reason": found.reason,
        "since": _since(found, zone),
        "pictures": pictures,
        "observations": [_observation(name, one, zone) for name, one in found.observations.items()],
        "regimes": [_observation(name, one, zone) for name, one in found.regimes.items()],
        "shifts": [_shift(one) for one in found.shifts],
        "findings": found.findings,
        "infrastructure": found.infrastructure,
        "alarm_at": f"{1.0 / found.attributes['alpha']:.4g}",
        "sections": [
            ("verdict", "Verdict"),
            ("evidence", "Evidence"),
            ("moved", "What moved"),
            ("telemetry", "Telemetry"),
            ("provenance", "Provenance"),
        ],
        "provenance": list(told.items()),
    }
    return fill("monitor.html", page)


def _hashes(found: Monitored) -> dict[str, str]:
    own = found.attributes
    return {
        "SHA-256 of the posterior": str(own["posterior_sha256"]),
        "SHA-256 of the telemetry": str(own["telemetry_sha256"]),
        "versions": ", ".join(f"{name} {version}" for name, version in own["versions"].items()),
    }


def _since(found: Monitored, zone: str) -> str:
    if found.since is None:
        return ""
    most, first, last = (said(_moment(one), zone) for one in found.since)
    return f"Readings seem to be off since {most}; the 90 % interval of that time is {first} to {last}."


def _moment(value: object) -> object:
    return float(value) if isinstance(value, np.floating | np.integer) else value


def _observation(name: str, one: Mapping, zone: str) -> ObservationRow:
    alarm = one.get("alarm")
    return ObservationRow(
        name,
        f"{one['readings']:,}" if "readings" in one else "–",
        f"{one['trusted']:,}" if "trusted" in one else "–",
        number(one["e_value"]),
        "–" if alarm is None else said(_moment(alarm), zone),
    )


def _shift(one: Shift) -> ShiftRow:
    sensor = one.kind == "sensor"
    moved = "–" if math.isnan(one.moved) else fixed(one.moved, 1)
    before = "–" if sensor else number(one.before, 4)
    kind = "sensor is off by" if sensor else one.kind.replace("_", " ")
    after, gain = number(one.after, 4), fixed(one.gain, 1)
    return ShiftRow(one.name, kind, unit_text(one.unit), before, after, moved, gain, fixed(one.z, 1))


def _pictures(found: Monitored, twin: Twin, zone: str) -> list[Picture]:
    readings = found.readings
    if not readings.sizes["reading"]:
        return []
    axis = TimeAxis(np.issubdtype(readings["time"].dtype, np.datetime64), twin.time_unit, zone)
    drawn = [_bets(found, axis), _pits(found, axis)]
    return [*drawn, _moves(found.shifts)] if found.shifts else drawn


def _bets(found: Monitored, axis: TimeAxis) -> Picture:
    """What bets have grown to over time, on a logarithmic axis, with the line of the alarm."""
    readings = found.readings
    drawn = figure(2.9)
    axes = drawn.subplots()
    keep = slice(None, None, -(-readings.sizes["reading"] // MOST_STEPS))
    x = as_numbers(readings["time"])[keep]
    handles = []
    names = list(found.observations)
    curves = [("log_e", LIGHT["ink"], "all together")]
    if len(names) > 1:
        curves += [(f"log_e_{n}", CHAINS[k % len(CHAINS)], n) for k, n in enumerate(names)]
    for name, colour, label in curves:
        values = readings[name].to_numpy()[keep] / math.log(10.0)
        axes.plot(x, values, color=colour, linewidth=1.6 if name == "log_e" else 0.9, drawstyle="steps-post")
        handles.append(Line2D([], [], color=colour, label=label))
    limit = -math.log10(found.attributes["alpha"])
    axes.axhline(limit, color=LIGHT["fail"], linewidth=0.9, dashes=(4, 3))
    handles.append(Line2D([], [], color=LIGHT["fail"], linewidth=0.9, dashes=(4, 3), label="alarm"))
    if found.since is not None:
        _, first, last = (as_numbers(readings["time"].isel(reading=[0]).copy(data=[one]))[0] for one in found.since)
        axes.axvspan(first, last, color=LIGHT["warn"], alpha=0.22, linewidth=0, zorder=0)
    axes.set_xlim(*_span(as_numbers(readings["time"])))
    _powers(axes, limit)
    axes.set_title("Evidence against the forecasts (e-value)")
    axes.grid(axis="y")
    dress_time(axes, axis)
    drawn.legend(handles=handles, loc="outside upper left", ncols=6)
    shaded = " Shaded: since when readings seem to be off." if found.since is not None else ""
    caption = (
        "What bets against the one-step-ahead forecasts have grown to, from a stake of 1. While the twin is right they "
        f"reach the line with probability {found.attributes['alpha']:g} at most, ever.{shaded}"
    )
    alt = f"E-values over time: {number(found.e_value)} at most, alarm at {1 / found.attributes['alpha']:.4g}."
    return picture(drawn, "bets", alt, caption)


def _span(x: np.ndarray) -> tuple[float, float]:
    """Ends of an axis of times, the same for all pictures."""
    edge = 0.01 * (x[-1] - x[0]) or 0.5
    return x[0] - edge, x[-1] + edge


def _powers(axes: Axes, limit: float) -> None:
    """Ticks at powers of ten."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1.0), max(high, limit + 0.4))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ticks = [int(tick) for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"1e{tick}" if abs(tick) > 3 else f"{10.0**tick:g}" for tick in ticks])


def _pits(found: Monitored, axis: TimeAxis) -> Picture:
    """PITs over time, by observation."""
    readings, names = found.readings, list(found.observations)
    drawn = figure(0.9 + 1.5 * len(names))
    grid = drawn.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    trusted = int(np.isfinite(readings["log_e"].to_numpy()).sum())
    x, pit = as_numbers(readings["time"]), readings["pit"].to_numpy()
    for axes, name in zip(grid, names, strict=True):
        own = np.flatnonzero(readings["observation"].to_numpy() == name)
        for rows, colour in ((own[own < trusted], "calibrated"), (own[own >= trusted], "prior")):
            dots(axes, x[rows], pit[rows], *marker(own.size), LIGHT[colour])
        axes.set_xlim(*_span(x))
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0.0, 0.5, 1.0])
        axes.grid(axis="y")
        axes.set_title(name)
    dress_time(grid[-1], axis)
    more = " Grey: after the weights had become too uneven; nothing was bet there." if trusted < len(pit) else ""
    caption = (
        "The share of the predictive distribution below each reading, given all before it: evenly spread and without a "
        f"pattern while the twin is right.{more}"
    )
    alt = f"PITs of {count(len(pit), 'reading')} of {', '.join(names)} over time, mean {np.nanmean(pit):.2f}."
    return picture(drawn, "pits", alt, caption)


def _moves(shifts: tuple[Shift, ...]) -> Picture:
    """How much each move explains."""
    drawn = figure(0.6 + 0.24 * len(shifts))
    axes = drawn.subplots()
    names = [f"{one.name} (sensor)" if one.kind == "sensor" else one.name for one in shifts]
    colours = [LIGHT["prior"] if one.kind == "sensor" else LIGHT["calibrated"] for one in shifts]
    axes.barh(np.arange(len(shifts)), [one.z for one in shifts], height=0.6, color=colours)
    axes.axvline(0.0, color=LIGHT["muted"], linewidth=0.6)
    axes.set_yticks(np.arange(len(shifts)), names)
    axes.set_ylim(len(shifts) - 0.5, -0.5)
    axes.set_xlabel("z, if it alone moved")
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.grid(axis="x")
    caption = (
        "How well each quantity explains what is new if it alone moved, and by the sign of z in which direction: "
        "standard normal where nothing moved. Grey: a sensor that reads too much or too little."
    )
    told = "; ".join(f"{name} {one.z:.1f}" for name, one in zip(names, shifts, strict=True))
    return picture(drawn, "moves", f"z of single moves: {told}.", caption)
