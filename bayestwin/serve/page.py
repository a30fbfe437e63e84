"""The page for people: what is served of each model, its latest forecast against what came since, and its history."""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from bayestwin._base.wording import number, unit_text
from bayestwin.errors import BayestwinError, NothingInProduction, NotReady
from bayestwin.registry.log import RegistryEvent
from bayestwin.report.page import fill
from bayestwin.serve.answers import as_number, moment
from bayestwin.serve.production import InService, Served
from bayestwin.serve.telling import monitored

MOST_HELD, MOST_EVENTS = 2000, 20
"""Readings that are remembered of each model, and events that are listed."""

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 900, 250, 64, 34, 12
"""Of a picture, in its own units."""


class Recent:
    """What a model was asked and told of late; nothing of it outlives the server.

    Attributes:
        forecast: The newest answer to `forecast`.
        held: The newest readings.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.forecast: dict[str, Any] | None = None
        self.held: collections.deque[dict[str, Any]] = collections.deque(maxlen=MOST_HELD)

    def hold(self, points: Sequence[dict[str, Any]]) -> None:
        """Remember readings."""
        self.held.extend(points)


class ForecastPicture(NamedTuple):
    """A drawing of one observation."""

    svg: Markup
    caption: str


def page_of(
    served: Served,
    states: Mapping[str, tuple[InService | None, BayestwinError | None]],
    recent: Mapping[str, Recent],
) -> str:
    """The page, as text.

    Args:
        served: The models.
        states: By model, what answers for it, or why nothing does.
        recent: By model, what it was asked and told.
    """
    models = []
    for name, (serving, reason) in states.items():
        model = served.model(name)
        assert model is not None
        try:
            events = model.events()
        except BayestwinError:
            events = ()
        seen = None
        if serving is not None:
            seen = monitored(model.runs / serving.held.run, serving.held.posterior_sha256)
        models.append(_model(name, serving, reason, events, seen, recent.get(name, Recent())))
    content = {"models": models, "now": moment().replace("T", " ").replace("+00:00", " UTC")}
    content["sections"] = [(one["anchor"], one["name"]) for one in models]
    return fill("serve.html", content)


def _model(
    name: str,
    serving: InService | None,
    reason: BayestwinError | None,
    events: Sequence[RegistryEvent],
    seen: Mapping[str, Any] | None,
    recent: Recent,
) -> dict[str, Any]:
    status, headline = "pass", "It answers."
    if serving is None:
        status, headline = "fail", "It does not answer."
        if isinstance(reason, NotReady):
            nothing = isinstance(reason, NothingInProduction)
            status, headline = "plain", "Nothing is in production." if nothing else "It does not answer yet."
    drift = "" if serving is None else "It was not monitored: `bayestwin monitor` says whether it is still right."
    if seen is not None:
        verdict = str(seen.get("verdict"))
        drift = f"Monitoring says {verdict}: {seen.get('reason') or seen.get('headline') or 'it gives no reason'}"
        status = {"ok": status, "act": "fail"}.get(verdict, "warn")
        headline += {"ok": "", "act": " It needs somebody to act."}.get(verdict, " It needs to be watched.")
    facts: list[tuple[str, Any]] = []
    pictures, warnings = [], []
    if serving is not None:
        held = serving.held
        facts = [
            ("run", held.run),
            ("in production since", f"{_time(held.when)}, by {held.who} (event {held.seq})"),
            ("posterior", Markup('<span class="hash">{}</span>').format(held.posterior_sha256)),
        ]
        if recent.forecast is not None and recent.forecast["version"]["run"] == held.run:
            pictures = _pictures(name, recent.forecast, recent.held)
            warnings = recent.forecast["warnings"]
    return {
        "name": name,
        "anchor": "model-" + re.sub(r"[^A-Za-z0-9_-]", "-", name),
        "status": status,
        "headline": headline,
        "reason": "" if reason is None else f"{reason.summary} {reason.advice or ''}",
        "drift": drift,
        "served": serving is not None,
        "facts": facts,
        "pictures": pictures,
        "warnings": warnings,
        "events": [_event(one) for one in reversed(events[-MOST_EVENTS:])],
    }


def _event(one: RegistryEvent) -> dict[str, Any]:
    done = {"promote": f"{one.run} to {one.stage}", "rollback": f"back to {one.run}"}
    what = done.get(one.event, f"approval of {one.run}") + (
        f" (overruled: {', '.join(one.overridden)})" if one.overridden else ""
    )
    return {"seq": one.seq, "when": _time(one.when), "what": what, "who": one.who, "why": one.why}


def _time(when: str) -> str:
    return when[:16].replace("T", " ") + " UTC"


# Pictures, drawn from the answers that were given.


def _pictures(name: str, forecast: Mapping[str, Any], held: Sequence[Mapping[str, Any]]) -> list[ForecastPicture]:
    found = []
    times = np.array([as_number(time) for time in forecast["times"]])
    for observation, series in forecast["observations"].items():
        readings = [one for one in held if one["observation"] == observation]
        points = np.array([(as_number(one["time"]), one["value"]) for one in readings], float).reshape(-1, 2)
        points = points[(points[:, 0] >= times[0]) & (points[:, 0] <= times[-1])]
        probs = sorted(series["lower"], key=float, reverse=True)
        bands = [(_array(series["lower"][prob]), _array(series["upper"][prob])) for prob in probs]
        middle = _array(series["median"])
        unit = unit_text(series["unit"])
        label = f"{observation}{f' ({unit})' if unit else ''}"
        svg = _svg(f"{name}: forecast of {label}", label, forecast["times"], times, middle, bands, points)
        percents = " and ".join(f"{100 * float(prob):g} %" for prob in probs)
        caption = f"{label}: median and intervals of {percents} of {forecast['draws']:,} draws."
        caption += f" Dots are {len(points):,} readings that came since." if len(points) else " No reading came yet."
        found.append(ForecastPicture(svg, caption))
    return found


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if isinstance(one, str) else one for one in values], float)


def _svg(
    words: str,
    label: str,
    labels: Sequence[Any],
    times: np.ndarray,
    middle: np.ndarray,
    bands: Sequence[tuple[np.ndarray, np.ndarray]],
    points: np.ndarray,
) -> Markup:
    everything = np.concatenate([middle, *(end for band in bands for end in band), points[:, 1]])
    everything = everything[np.isfinite(everything)]
    low, high = (everything.min(), everything.max()) if everything.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    low, high = low - room, high + room
    span = (times[-1] - times[0]) or 1.0

    def x(t: np.ndarray) -> np.ndarray:
        return LEFT + (WIDTH - LEFT - 8) * (t - times[0]) / span

    def y(v: np.ndarray) -> np.ndarray:
        return ABOVE + (HEIGHT - ABOVE - BELOW) * (high - v) / (high - low)

    def path(t: np.ndarray, v: np.ndarray) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(t), y(v), strict=True))

    parts = []
    for tick in _ticks(low, high):
        place = y(np.array(tick))
        parts.append(f'<path d="M{LEFT},{place:.1f}H{WIDTH - 8}" style="stroke:var(--rule)"/>')
        text = f'<text x="{LEFT - 8}" y="{place + 4:.1f}" style="fill:var(--muted);font-size:12px;text-anchor:end">'
        parts.append(f"{text}{escape(number(tick))}</text>")
    for place, end in ((0, "start"), (len(times) // 2, "middle"), (len(times) - 1, "end")):
        if place in (0, len(times) - 1) or len(times) > 4:
            at = x(times[place : place + 1])[0]
            style = f"fill:var(--muted);font-size:12px;text-anchor:{end}"
            parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 10}" style="{style}">{escape(_said(labels[place]))}</text>')
    for lower, upper in bands:
        fine = np.isfinite(lower) & np.isfinite(upper)
        if fine.sum() > 1:
            t = np.concatenate([times[fine], times[fine][::-1]])
            ends = path(t, np.concatenate([upper[fine], lower[fine][::-1]]))
            parts.append(f'<polygon points="{ends}" style="fill:var(--calibrated);fill-opacity:.22"/>')
    fine = np.isfinite(middle)
    line = path(times[fine], middle[fine])
    parts.append(f'<polyline points="{line}" style="fill:none;stroke:var(--calibrated);stroke-width:1.8"/>')
    dots = zip(x(points[:, 0]), y(points[:, 1]), strict=True)
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" style="fill:var(--heldout)"/>' for a, b in dots]
    head = f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    title = f'<text x="{LEFT}" y="{ABOVE - 1}" style="fill:var(--ink);font-size:12px">{escape(label)}</text>'
    return Markup(head + title + "".join(parts) + "</svg>")


def _ticks(low: float, high: float) -> list[float]:
    """Four or so round numbers between two ends."""
    rough = (high - low) / 4.0
    size = 10.0 ** np.floor(np.log10(rough))
    step = size * min((1.0, 2.0, 5.0, 10.0), key=lambda one: abs(one * size - rough))
    return [float(round(one, 12)) for one in np.arange(np.ceil(low / step) * step, high, step)]


def _said(label: Any) -> str:
    if isinstance(label, str):
        return pd.Timestamp(label).strftime("%Y-%m-%d %H:%M")
    return f"{label:g}"
