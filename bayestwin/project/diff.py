"""What is different between two runs: what they were made from, how, what came out; and the page about it."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import (
    count,
    decimals_for,
    fixed,
    not_to_rely_on,
    number,
    percent,
    scale_for,
    status_words,
    unit_text,
)
from bayestwin.project.record import read_record
from bayestwin.project.run import POSTERIOR, REPORT
from bayestwin.report import prose
from bayestwin.report.page import Picture, drawing, fill, picture
from bayestwin.report.posteriors import Line, Panel, draw_forest
from bayestwin.results.store import load, write_text_durably

# How far two posteriors agree, quantity by quantity.

PROB = 0.9
"""Probability of the intervals; they are equal-tailed."""


class Agreement(NamedTuple):
    """One quantity in two posteriors.

    Attributes:
        name: The quantity.
        unit: Its unit; empty without one.
        first: Mean and standard deviation in the first.
        second: Likewise in the second.
        shift: Difference of the means, in standard deviations: root mean square of the two.
        overlap: Share of probability that they have in common, from 0 to 1.
        first_interval: Ends of the equal-tailed interval of probability `PROB` in the first.
        second_interval: Likewise in the second.
    """

    name: str
    unit: str
    first: tuple[float, float]
    second: tuple[float, float]
    shift: float
    overlap: float
    first_interval: tuple[float, float]
    second_interval: tuple[float, float]


def agreements(first: xr.Dataset, second: xr.Dataset) -> tuple[Agreement, ...]:
    """Every scalar quantity that two groups of draws (chain, draw) share, least overlap first.

    What each experiment has of its own is compared for those that are in both.
    """
    found = []
    for name, values in first.data_vars.items():
        if name not in second.data_vars or set(values.dims) != set(second[name].dims):
            continue
        pairs = [(str(name), values, second[name])]
        if "experiment" in values.dims:
            both = [one for one in values["experiment"].to_numpy() if one in second[name]["experiment"]]
            parts = (tuple(one.sel(experiment=each) for one in (values, second[name])) for each in both)
            pairs = [(f"{name}[{each}]", *part) for each, part in zip(both, parts, strict=True)]
        unit = str(values.attrs.get("units", ""))
        for label, ours, theirs in pairs:
            if set(ours.dims) == {"chain", "draw"}:
                found.append(_agreement(label, unit, ours.to_numpy().ravel(), theirs.to_numpy().ravel()))
    return tuple(sorted(found, key=lambda one: one.overlap))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """`1 − sup |F − G|`, the distributions being those of draws; shapes (n,) and (m,).

    Where the densities cross once, as those of two normals of equal width do, it is `∫ min(f, g)`; else somewhat more.
    Unlike an estimate of densities it needs no bandwidth.
    """
    both = np.sort(np.concatenate([first, second]))
    ours, theirs = (np.searchsorted(np.sort(draws), both, side="right") / draws.size for draws in (first, second))
    return float(1.0 - np.abs(ours - theirs).max())


def _agreement(name: str, unit: str, first: np.ndarray, second: np.ndarray) -> Agreement:
    means, spreads = (first.mean(), second.mean()), (first.std(), second.std())
    width = float(np.sqrt(np.mean(np.square(spreads))))
    shift = float(means[1] - means[0]) / width if width > 0 else float("nan")
    ours, theirs = ((float(mean), float(spread)) for mean, spread in zip(means, spreads, strict=True))
    return Agreement(name, unit, ours, theirs, shift, overlap(first, second), _ends(first), _ends(second))


def _ends(draws: np.ndarray) -> tuple[float, float]:
    lower, upper = np.quantile(draws, ((1 - PROB) / 2, (1 + PROB) / 2))
    return float(lower), float(upper)


ABOUT = {
    "inputs": (
        "model",
        "twin",
        "twin_sha256",
        "telemetry_sha256",
        "assets_sha256",
        "set_aside",
        "job_file",
        "job_sha256",
        "inputs",
        "code_sha256",
    ),
    "settings": ("command", "job", "resumed", "options"),
    "environment": ("versions", "environment", "host"),
    "outcome": ("status", "error", "summary"),
}
"""Which parts of a record belong together; what only tells runs apart, such as times, is in none."""


class Change(NamedTuple):
    """One thing that differs.

    Attributes:
        about: `inputs`, `twin`, `settings`, `environment`, `outcome` or `gates`.
        name: What it is: keys of the record, joined by dots.
        first: What the first run says; None where it says nothing.
        second: Likewise the second.
    """

    about: str
    name: str
    first: Any
    second: Any


class RunDifference(NamedTuple):
    """Two runs held against each other.

    Attributes:
        changes: What differs.
        agreements: The quantities that both have inferred.
        only_first: Quantities of the first alone.
        only_second: Quantities of the second alone.
        units: Unit of each observation of either.
    """

    changes: tuple[Change, ...]
    agreements: tuple[Agreement, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    units: Mapping[str, str]


def difference(first: pathlib.Path, second: pathlib.Path) -> RunDifference:
    """Hold two runs against each other.

    Args:
        first: Folder of a run.
        second: Folder of another.

    Raises:
        InvalidArtifact: If a record or a posterior is damaged.
    """
    records = [read_record(run) for run in (first, second)]
    changes = [
        change
        for about, names in ABOUT.items()
        for change in changed(about, *({name: record.get(name) for name in names} for record in records))
    ]
    changes += changed("gates", *(_gates(record) for record in records))
    paths = [run / POSTERIOR for run in (first, second)]
    if not all(path.is_file() for path in paths):
        return RunDifference(tuple(changes), (), (), (), {})
    trees = [load(path) for path in paths]
    told = [_described(tree.attrs.get("description")) for tree in trees]
    changes += changed("twin", *told)
    units = {str(n): str(o.get("unit") or "") for one in told for n, o in (one.get("observations") or {}).items()}
    ours, theirs = (tree["posterior"].to_dataset() for tree in trees)
    return RunDifference(tuple(changes), agreements(ours, theirs), _only(ours, theirs), _only(theirs, ours), units)


def changed(about: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """Leaves of two nested mappings that are not the same."""
    ours, theirs = _flat(first), _flat(second)
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = ((name, ours.get(name), theirs.get(name)) for name in names)
    return [Change(about, name, a, b) for name, a, b in pairs if a != b]


def _only(one: xr.Dataset, other: xr.Dataset) -> tuple[str, ...]:
    """Names in one group of draws and not in another."""
    return tuple(str(name) for name in one.data_vars if name not in other.data_vars)


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        if isinstance(one, Mapping):
            found |= _flat(one, f"{before}{key}.")
        elif one is not None:
            found[f"{before}{key}"] = one
    return found


def _gates(record: Mapping[str, Any]) -> dict[str, Any]:
    return {gate["name"]: "pass" if gate["passed"] else gate["severity"] for gate in record.get("gates") or ()}


def _described(description: Any) -> dict[str, Any]:
    """A description by names instead of places in lists, so that one more parameter is one change."""
    found = json.loads(description) if isinstance(description, str) else description or {}

    def named(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value):
            return {str(one["name"]): {k: named(v) for k, v in one.items() if k != "name"} for one in value}
        if isinstance(value, Mapping):
            return {str(k): named(v) for k, v in value.items()}
        return value

    return named(found)


# One page about two runs: what differs, their parameters side by side, and their metrics.

LABELS = ("A", "B")
HEADINGS = {
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


class ComparedQuantity(NamedTuple):
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


def write_difference(
    path: pathlib.Path, first: pathlib.Path, second: pathlib.Path, found: RunDifference
) -> pathlib.Path:
    """Write the page.

    Args:
        path: The file; links to the reports of both runs are counted from its folder.
        first: Folder of a run.
        second: Folder of another.
        found: What `difference` says of them.
    """
    records = [read_record(run) for run in (first, second)]
    changes = [(words, [c for c in found.changes if c.about == about]) for about, words in HEADINGS.items()]
    changes = [(words, own) for words, own in changes if own]
    page = {
        "labels": LABELS,
        "titles": (first.name, second.name),
        "headline": _headline(changes),
        "doubts": [
            not_to_rely_on(label, status_words(run.name, record.get("status")))
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


def _parameter(one: Agreement) -> ComparedQuantity:
    """Each number shows two digits of its own sd, both runs in one unit."""
    scale = scale_for(max(abs(one.first[0]), abs(one.second[0])), one.unit)
    texts: list[str] = []
    for (mean, sd), ends in ((one.first, one.first_interval), (one.second, one.second_interval)):
        digits = decimals_for(scale.factor * sd)
        texts += [fixed(scale.factor * value, digits) for value in (mean, sd, *ends)]
    return ComparedQuantity(one.name, scale.unit or "–", tuple(texts), fixed(one.shift, 2), fixed(one.overlap, 2))


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
        alt = f"{percent(PROB)} equal-tailed posterior intervals in both runs. {prose.listed(told)}."
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
