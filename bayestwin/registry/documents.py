"""What goes with a run into production: model card, contract, runbook, and what changed against the last production.

All of it comes from the run, its record and the card that it kept. What these do not say is left out, or said to be
unknown.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.check.finding import stated_range
from bayestwin.errors import BayestwinError
from bayestwin.project.diff import difference
from bayestwin.project.record import renew_outputs, to_json
from bayestwin.project.run import INPUTS, POSTERIOR, sha256_of
from bayestwin.registry.evidence import GateOutcome, Promotable
from bayestwin.registry.log import InStage
from bayestwin.results.store import write_text_durably

CARD, CONTRACT, RUNBOOK, CHANGES = "model-card.md", "contract.json", "runbook.md", "changes.md"
"""Names in the folder of the run."""

CONTRACT_SCHEMA = 1

_KEPT = {True: "as promised", False: "not as promised", None: "whether as promised cannot be told"}

_UNFIT = re.compile(r"(?im)^#{1,6}\s*do not use when\b.*$")
_ITEM = re.compile(r"(?m)^\s*[-*]\s+")


class Release(NamedTuple):
    """What documents are about.

    Attributes:
        run: The run that comes into production.
        posterior: Its posterior.
        gates: What all gates said.
        production: What is in production until then; None for the first one.
        who: Who decides it.
        why: The reason; may be empty.
        overridden: Gates that were overruled.
    """

    run: Promotable
    posterior: xr.DataTree
    gates: Sequence[GateOutcome]
    production: InStage | None
    who: str
    why: str
    overridden: Sequence[str]

    @property
    def description(self) -> Mapping[str, Any]:
        """The twin in words, as the posterior keeps it."""
        told = self.posterior.attrs.get("description") or {}
        return json.loads(told) if isinstance(told, str) else told

    @property
    def card(self) -> pathlib.Path:
        """The card of the model, as the run kept it; there need not be one."""
        return self.run.folder / INPUTS / "card.md"


def write_documents(release: Release) -> dict[str, str]:
    """Write all documents into the folder of the run, and record that; the hash of each by its name."""
    texts = {
        CARD: model_card(release),
        CONTRACT: to_json(contract(release)),
        RUNBOOK: runbook(release),
        CHANGES: changes(release),
    }
    for name, text in texts.items():
        write_text_durably(release.run.folder / name, text)
    renew_outputs(release.run.folder)
    return {name: sha256_of(release.run.folder / name) for name in texts}


# The contract: what goes in, what comes out, and when not to use it.


def contract(release: Release) -> dict[str, Any]:
    """Inputs and outputs of a run in production, as plain values.

    By input: its `unit`, its `column` and `column_unit` in a file of telemetry, what becomes of missing values, how it
    is held between samples and beyond its ends, the usual `step` and the range of what was calibrated, and the
    operating range of the card. By output: unit and column, the kind of interval, what share of observations lay inside
    by `prob`, and likewise its ranges. None is what neither run nor card say.
    """
    told, attrs, record = release.description, release.posterior.attrs, release.run.record
    stated, unfit = stated_range(release.card), do_not_use_when(release.card)
    driven = _group(release.posterior, "constant_data")
    observed = _group(release.posterior, "observed_data")
    inputs = {
        str(one["name"]): {
            "unit": one.get("unit"),
            "doc": one.get("doc") or None,
            **_column(record, str(one["name"])),
            "missing_values": _missing_values(record, str(one["name"])),
            "between_samples": one.get("hold"),
            "beyond_its_ends": one.get("beyond"),
            "step": _step(driven, str(one["name"])),
            "calibrated": _range(driven, str(one["name"])),
            "operating_range": stated.get(str(one["name"])),
        }
        for one in told.get("inputs") or ()
    }
    outputs = {
        str(one["name"]): {
            "unit": one.get("unit"),
            "doc": one.get("doc") or None,
            **_column(record, str(one["name"])),
            "kind": "equal-tailed interval of new observations",
            "prob": _coverage(record, str(one["name"])),
            "calibrated": _range(observed, str(one["name"])),
            "valid_range": stated.get(str(one["name"])),
        }
        for one in told.get("observations") or ()
    }
    return {
        "schema": CONTRACT_SCHEMA,
        "model": release.run.runs.name,
        "run": release.run.name,
        "posterior_sha256": release.run.posterior_sha256,
        "twin_sha256": record.get("twin_sha256"),
        "bayestwin_version": (record.get("versions") or {}).get("bayestwin"),
        "time": {
            "unit_of_the_twin": told.get("time_unit") or attrs.get("time_unit"),
            "unit": attrs.get("telemetry_time_unit") or None,
            "time_zone": attrs.get("telemetry_timezone") or None,
            "column": _telemetry(record).get("time"),
        },
        "inputs": inputs,
        "outputs": outputs,
        "do_not_use_when": unfit,
    }


def do_not_use_when(card: pathlib.Path) -> list[str] | None:
    """The items beneath “Do not use when” of a card, a line each; None where it has no such heading."""
    text = card.read_text(encoding="utf-8-sig") if card.is_file() else ""
    heading = _UNFIT.search(text)
    if heading is None:
        return None
    section = re.split(r"(?m)^#{1,6}\s", text[heading.end() :], maxsplit=1)[0]
    return [" ".join(item.split()).rstrip(";.") for item in _ITEM.split(section) if item.strip()]


def _telemetry(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return (record.get("job") or {}).get("telemetry") or {}


def _column(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How a signal stands in a file of telemetry, as the job of the run says; with several sources that is not said."""
    told = _telemetry(record)
    column = _column_of(told, name)
    known = None if told.get("sources") else column
    units = told.get("units") or {}
    return {"column": known, "column_unit": units.get(column, units.get(name))}


def _missing_values(record: Mapping[str, Any], name: str) -> str | None:
    """What becomes of missing values of an input, as the job of the run says."""
    told = _telemetry(record)
    if told.get("sources"):
        return None
    fill = told.get("fill") or {}
    filled = fill.get(_column_of(told, name)) or fill.get(name)
    if not filled:
        return "an error that names the gap"
    within = f", where known ones lie at most {filled['within']} apart" if filled.get("within") else ""
    return f"filled, {filled.get('how')}{within}; else an error that names the gap"


def _column_of(told: Mapping[str, Any], name: str) -> str:
    return next((old for old, new in (told.get("rename") or {}).items() if new == name), name)


def _coverage(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """By `prob`, the share of observations inside the interval, and whether that kept its promise; None if untold."""
    summary = record.get("summary") or {}
    shares = (summary.get("coverage") or {}).get(name) or {}
    kept = (record.get("promises") or {}).get(name) or {}
    held_out = summary.get("held_out")
    return {prob: {"inside": share, "kept": kept.get(prob), "held_out": held_out} for prob, share in shares.items()}


def _group(tree: xr.DataTree, name: str) -> xr.Dataset:
    return tree[name].to_dataset() if name in tree.children else xr.Dataset()


def _range(dataset: xr.Dataset, name: str) -> dict[str, Any] | None:
    """The least and the largest value that was calibrated, and its unit."""
    values = dataset[name].to_numpy() if name in dataset else np.empty(0)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not values.size:
        return None
    return {"low": float(values.min()), "high": float(values.max()), "unit": str(dataset[name].attrs.get("units", ""))}


def _step(dataset: xr.Dataset, name: str) -> float | str | None:
    """The usual time between samples: a number in the unit of numeric times, or words for dates."""
    if name not in dataset or "time" not in dataset[name].dims or dataset.sizes["time"] < 2:
        return None
    step = np.median(np.diff(dataset["time"].to_numpy()))
    return f"{step / np.timedelta64(1, 's'):g} s" if isinstance(step, np.timedelta64) else float(step)


# Pages for people.


def model_card(release: Release) -> str:
    """What the run is, what it inferred, how it was judged, and the card that the model came with."""
    told, record, run = release.description, release.run.record, release.run
    lines = [
        f"# {run.runs.name}: model card",
        "",
        f"Run `{run.name}` of the twin `{record.get('twin')}`. {_one_line(told.get('doc'))}".rstrip(),
        "",
        "| | |",
        "|---|---|",
        f"| posterior | sha256 `{run.posterior_sha256}` |",
        f"| twin | sha256 `{record.get('twin_sha256')}` |",
        f"| telemetry | sha256 `{(record.get('telemetry_sha256') or {}).get('calibration')}` |",
        f"| code | sha256 `{record.get('code_sha256')}` |",
        f"| method | {release.posterior.attrs.get('method', 'not recorded')} |",
        "",
        "## What was inferred",
        "",
        *_parameter_rows(record),
        "",
        "## How it was judged",
        "",
        *(f"- {one.name}: **{one.verdict}**. {_one_line(one.sentence)}" for one in release.gates),
        "",
        *_coverage_lines(record),
        "## The model's own card",
        "",
    ]
    if release.card.is_file():
        text = release.card.read_text(encoding="utf-8-sig").strip()
        return "\n".join(lines) + "\n" + re.sub(r"(?m)^(#{1,4})\s", r"##\1 ", text) + "\n"
    return "\n".join(lines) + "\nThe run kept none.\n"


def _parameter_rows(record: Mapping[str, Any]) -> list[str]:
    figures = record.get("parameters") or {}
    if not figures:
        return ["The record of the run has no figures of parameters."]
    rows = [
        f"| {name} | {one['mean']:.4g} | {one['sd']:.2g} | {one['lower']:.4g} to {one['upper']:.4g} | {one['unit']} |"
        for name, one in figures.items()
    ]
    return ["| parameter | mean | sd | 90 % interval | unit |", "|---|---|---|---|---|", *rows]


def _coverage_lines(record: Mapping[str, Any]) -> list[str]:
    summary, kept = record.get("summary") or {}, record.get("promises") or {}
    which = "held-out observations" if summary.get("held_out") else "observations of the calibration itself"
    lines = [
        f"- {name}: of {which} "
        + ", ".join(
            f"{100 * share:.0f} % in the {100 * float(prob):g} % interval ({_KEPT[(kept.get(name) or {}).get(prob)]})"
            for prob, share in own.items()
        )
        + "."
        for name, own in (summary.get("coverage") or {}).items()
        if all(share is not None for share in own.values())
    ]
    return [*lines, ""] if lines else []


def runbook(release: Release) -> str:
    """What to do with the run: forecast, look after it, replace it, go back."""
    run, model, before = release.run, release.run.runs.name, release.production
    unfit = do_not_use_when(release.card)
    why = _one_line(release.why) or "no reason was told"
    lines = [
        f"# {model}: runbook of run `{run.name}`",
        "",
        f"For production by {_one_line(release.who)}: {why}.",
        *([f"Overruled: {', '.join(release.overridden)}."] if release.overridden else []),
        "",
        "## Do not use when",
        "",
        *(f"- {one}" for one in unfit or ()),
        *([] if unfit else ["The card does not say."]),
        "",
        "## Forecast",
        "",
        f"    bayestwin predict MODEL --run {run.name} --telemetry FILE",
        "",
        f"MODEL is the folder of `{model}`; `{CONTRACT}` says what FILE must hold, and what comes out.",
        "",
        "## Look after it",
        "",
        f"    bayestwin history {model}",
        f"    bayestwin validate MODEL --run {run.name} --held-out FILE",
        "",
        "The first verifies the log, the second holds intervals against what came since.",
        "",
        "## Replace it",
        "",
        "    bayestwin promote MODEL --run NEW --to staging",
        "    bayestwin shadow MODEL --telemetry FILE",
        "    bayestwin promote MODEL --to prod",
        "",
        "## Go back",
        "",
    ]
    if before is None:
        return "\n".join([*lines, "Nothing was in production before: there is nothing to go back to.", ""])
    words = f"That puts `{before.run}` in production again, whose posterior has the sha256 `{before.posterior_sha256}`."
    return "\n".join([*lines, f'    bayestwin rollback {model} --why "…"', "", words, ""])


def changes(release: Release) -> str:
    """What is different from what was in production until then."""
    run, before = release.run, release.production
    head = f"# {run.runs.name}: what changes with run `{run.name}`\n\n"
    if before is None:
        return f"{head}It is the first in production.\n"
    against = run.runs / before.run
    if sha256_of(against / POSTERIOR) != before.posterior_sha256:
        return f"{head}The posterior of `{before.run}`, which was in production, is not there as it was.\n"
    try:
        found = difference(against, run.folder)
    except BayestwinError as reason:
        return f"{head}It cannot be compared with `{before.run}`, which was in production: {reason.summary}\n"
    lines = [f"Against `{before.run}`, which was in production."]
    if found.agreements:
        lines += ["", "| parameter | mean before | mean now | shift in sd | overlap |", "|---|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.first[0]:.4g} | {one.second[0]:.4g} | {one.shift:+.2f} | {100 * one.overlap:.0f} % |"
            for one in found.agreements
        ]
    for words, names in (("No more", found.only_first), ("New", found.only_second)):
        lines += ["", f"{words}: {', '.join(f'`{name}`' for name in names)}."] if names else []
    kept = [one for one in found.changes if one.about != "outcome"]
    lines += ["", f"{count(len(kept), 'other difference')}{':' if kept else '.'}", ""]
    lines += [f"- {one.about}, `{one.name}`: {_short(one.first)} → {_short(one.second)}" for one in kept]
    return head + "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    """A value on one line, in code, of at most 80 letters."""
    if value is None:
        return "nothing"
    text = _one_line(value).replace("`", "'")
    return f"`{text if len(text) <= 80 else text[:79] + '…'}`"


def _one_line(text: Any) -> str:
    """Text on one line, in which nothing is taken for HTML."""
    return " ".join(str(text or "").split()).replace("<", "&lt;")
