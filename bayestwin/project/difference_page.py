"""One page about two runs: what differs, their parameters side by side, and their metrics."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bayestwin._base.wording import count, decimals_for, fixed, number, percent, scale_for, unit_text
from bayestwin.project.diff import Change, Difference
from bayestwin.project.overlap import PROB, Agreement
from bayestwin.project.record import read_record
from bayestwin.project.run import REPORT
from bayestwin.report import words as spoken
from bayestwin.report.forest import Line, Panel, draw_forest
from bayestwin.report.page import fill
from bayestwin.report.style import Picture, drawing, picture
from bayestwin.results.store import write_text_durably

LABELS = ("A", "B")
ABOUT = {
    "inputs": "Inputs",
    "twin": "Twin",
    "settings": "Settings",
    "environment": "Packages and host",
    "outcome": "Outcome",
    "gates": "Gates",
}
IN_UNIT = ("rmse", "mae", "crps", "persistence_rmse", "seasonal_rmse", "linear_rmse", "energy")
"""Scores in the unit of their observation; `mape` is in percent, and the others have no unit."""
MOST = 200
"""Letters of a value that are shown."""


class ParameterRow(NamedTuple):
    """One quantity: mean, sd and ends of the interval in the first run, then in the second."""

    name: str
    unit: str
    values: tuple[str, ...]
    shift: str
    overlap: str


class MetricRow(NamedTuple):
    """One metric of one observation in both runs."""

    name: str
    metric: str
    unit: str
    first: str
    second: str


class Shown(NamedTuple):
    """One thing that differs, as text."""

    name: str
    first: str
    second: str


def write_difference(path: pathlib.Path, first: pathlib.Path, second: pathlib.Path, found: Difference) -> pathlib.Path:
    """Write the page.

    Args:
        path: The file; links to the reports of both runs are counted from its folder.
        first: Folder of a run.
        second: Folder of another.
        found: What `difference` says of them.
    """
    records = [read_record(run) for run in (first, second)]
    changes = [(words, [c for c in found.changes if c.about == about]) for about, words in ABOUT.items()]
    changes = [(words, own) for words, own in changes if own]
    page = {
        "labels": LABELS,
        "titles": (first.name, second.name),
        "headline": _headline(changes),
        "doubts": [
            f"Do not rely on {label}: the status of run {run.name} is “{record.get('status')}”."
            for label, run, record in zip(LABELS, (first, second), records, strict=True)
            if record.get("status") != "finished"
        ],
        "runs": [_run(*one, path.parent) for one in zip(LABELS, (first, second), records, strict=True)],
        "prob": percent(PROB),
        "parameters": [_parameter(one) for one in found.agreements],
        "picture": _picture(found.agreements),
        "only": [
            (run, ", ".join(n)) for run, n in zip(LABELS, (found.only_first, found.only_second), strict=True) if n
        ],
        "metrics": _metrics(records, found.units),
        "metrics_note": _metrics_note(records),
        "changes": [(words, [_shown(change) for change in own]) for words, own in changes],
    }
    return write_text_durably(path, fill("difference.html", page))


def _headline(changes: Sequence[tuple[str, list[Change]]]) -> str:
    if not changes:
        return "Nothing differs: inputs, settings, environment and outcome are the same."
    total = sum(len(own) for _, own in changes)
    listed = ", ".join(f"{words.lower()} {len(own)}" for words, own in changes)
    return f"{count(total, 'thing differs', 'things differ')} ({listed})."


def _run(label: str, run: pathlib.Path, record: Mapping[str, Any], folder: pathlib.Path) -> dict[str, str]:
    report = run / REPORT
    told = {key: str(record.get(key) or "–") for key in ("command", "status")}
    began = str(record.get("began") or "–")[:16].replace("T", " ")
    link = os.path.relpath(report, folder) if report.is_file() else ""
    return {"label": label, "name": f"{record.get('model')}/{run.name}", "began": began, "link": link, **told}


def _parameter(one: Agreement) -> ParameterRow:
    """Each number shows two digits of its own sd, both runs in one unit."""
    scale = scale_for(max(abs(one.first[0]), abs(one.second[0])), one.unit)
    texts: list[str] = []
    for (mean, sd), ends in ((one.first, one.first_interval), (one.second, one.second_interval)):
        digits = decimals_for(scale.factor * sd)
        texts += [fixed(scale.factor * value, digits) for value in (mean, sd, *ends)]
    return ParameterRow(one.name, scale.unit or "–", tuple(texts), fixed(one.shift, 2), fixed(one.overlap, 2))


def _picture(found: Sequence[Agreement]) -> Picture | None:
    if not found:
        return None
    panels, told = [], []
    for one in found:
        scale = scale_for(max(abs(one.first[0]), abs(one.second[0])), one.unit)
        pairs = zip(LABELS, (one.first, one.second), (one.first_interval, one.second_interval), strict=True)
        factor = scale.factor
        lines = [Line(label, factor * mean, factor * low, factor * high) for label, (mean, _), (low, high) in pairs]
        # the unit is written for reading already
        title = f"{one.name} ({scale.unit})" if scale.unit else one.name
        panels.append(Panel(title, tuple(lines)))
        between = ", ".join(f"{line.label} {number(line.lower)} to {number(line.upper)}" for line in lines)
        told.append(f"{title}: {between}, overlap {fixed(one.overlap, 2)}")
    with drawing():
        drawn = draw_forest(panels)
        alt = f"{percent(PROB)} equal-tailed posterior intervals in both runs. {spoken.listed(told)}."
        caption = f"Dots: posterior means. Lines: {percent(PROB)} equal-tailed intervals of it. Least overlap first."
        return picture(drawn, "difference", alt, caption)


def _metrics(records: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> list[MetricRow]:
    """Coverage and scores that either run records, by observation."""
    summaries = [record.get("summary") or {} for record in records]
    rows = []
    names = dict.fromkeys(name for one in summaries for kind in ("coverage", "scores") for name in one.get(kind) or {})
    for name in names:
        for kind in ("coverage", "scores"):
            own = [(one.get(kind) or {}).get(name) or {} for one in summaries]
            for key in dict.fromkeys(key for one in own for key in one):
                rows.append(_metric(name, kind, str(key), [one.get(key) for one in own], units.get(name, "")))
    return rows


def _metric(name: str, kind: str, key: str, values: Sequence[float | None], unit: str) -> MetricRow:
    if kind == "coverage":
        texts = ["–" if value is None else percent(value, 1) for value in values]
        return MetricRow(name, f"coverage of the {percent(float(key))} interval", "%", *texts)
    known = "%" if key == "mape" else unit_text(unit) if key in IN_UNIT else ""
    texts = ["–" if value is None else number(value, 4) for value in values]
    return MetricRow(name, key.replace("_", " "), known or "–", *texts)


def _metrics_note(records: Sequence[Mapping[str, Any]]) -> str:
    told = []
    for label, record in zip(LABELS, records, strict=True):
        held = (record.get("summary") or {}).get("held_out")
        if held is not None:
            told.append(
                f"{label}: on what was held out." if held else f"{label}: on what was calibrated, nothing held out."
            )
    return " ".join(told)


def _shown(change: Change) -> Shown:
    return Shown(
        change.name, *("nothing" if value is None else _short(value) for value in (change.first, change.second))
    )


def _short(value: Any) -> str:
    text = number(value, 4) if isinstance(value, float) else str(value)
    return text if len(text) <= MOST else f"{text[:MOST]}…"
