"""What can only be seen between experiments: rows that two of them share, other columns or units, another scale."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bayestwin.check.finding import Finding, place, where
from bayestwin.check.overlap import copies
from bayestwin.check.signals import Record, Signal, robust_sd
from bayestwin.check.unit_changes import FACTORS
from bayestwin.telemetry import Telemetry

SCALES = {words: factor for words, factor in FACTORS.items() if not 1 / 60 < factor < 60}
"""Smaller ones may as well be what was done in an experiment."""

LEVEL = 2.0
"""The usual size of what was scaled is that of the others within this factor."""

SPREAD = 4.0
"""Likewise its spread."""

KELVIN = 273.15
NEAR = 50.0
"""Temperatures that were taken as K or as °C wrongly are so many kelvins from the others, or fewer."""


class Part(NamedTuple):
    """An experiment as it is checked: its record without what is held out, that alone, and its telemetry."""

    record: Record
    held_out: Record | None
    telemetry: Telemetry


def across(parts: Mapping[str, Part]) -> list[Finding]:
    """All that is said of experiments together; rows are those of the experiment that the finding names."""
    return [*shared(parts), *unlike(parts), *scales({name: one.record for name, one in parts.items()})]


class Block(NamedTuple):
    """Rows of an experiment: those that are calibrated, or those that are held out."""

    name: str
    record: Record
    held: bool


def shared(parts: Mapping[str, Part]) -> list[Finding]:
    """Rows that two experiments have to the last digit in all columns, calibrated in both or held out in one."""
    blocks = [Block(name, one.record, False) for name, one in parts.items()]
    blocks += [Block(name, one.held_out, True) for name, one in parts.items() if one.held_out is not None]
    values = [np.column_stack([signal.values for signal in one.record.signals]) for one in blocks]
    sizes = [len(one) for one in values]
    starts = np.r_[0, np.cumsum(sizes)]
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for later, earlier in copies(np.concatenate(values), sizes).items():
        ours, theirs = (int(np.searchsorted(starts, row, "right")) - 1 for row in (later, earlier))
        if blocks[ours].name != blocks[theirs].name and not blocks[theirs].held:
            pairs.setdefault((ours, theirs), []).append((later - int(starts[ours]), earlier - int(starts[theirs])))
    return [_copied(blocks[ours], blocks[theirs], np.array(rows)) for (ours, theirs), rows in pairs.items()]


def _copied(block: Block, origin: Block, rows: np.ndarray) -> Finding:
    ours, theirs = (place(rows[:, at], one.record.times, one.record.first) for at, one in enumerate((block, origin)))
    what = (
        f"({where(ours)}) are also in experiment `{origin.name}` ({where(theirs)}), in all columns to the last digit. "
    )
    source = {"other": origin.name, "copied_from": theirs["rows"]}
    if block.held:
        sentence = f"{ours['num_rows']:,} rows of what is held out {what}Calibrated there, they flatter a validation."
        found = Finding("overlap", "fail", "", sentence, {"held_out_rows": ours["rows"], **source})
    else:
        sentence = f"{ours['num_rows']:,} rows {what}Calibrated in both they count twice: leave them out of one."
        found = Finding("copied", "fail", "", sentence, ours | source)
    return named(found, block.name)


def unlike(parts: Mapping[str, Part]) -> list[Finding]:
    """Columns that not all experiments have, units that differ, and times that are dates here and numbers there."""
    found = []
    columns = {name: set(map(str, one.telemetry.table.columns)) for name, one in parts.items()}
    for column in sorted(set.union(*columns.values()) - set.intersection(*columns.values())):
        there = [name for name in parts if column in columns[name]]
        absent = [name for name in parts if column not in columns[name]]
        sentence = f"`{column}` is a column of {_names(there)} and not of {_names(absent)}."
        found.append(Finding("unlike", "note", column, sentence, {"with": there, "without": absent}))
    used = [signal.name for signal in next(iter(parts.values())).record.signals]
    for column in ["time", *used]:
        units = {name: _unit(one.telemetry, column) for name, one in parts.items()}
        if len(set(units.values())) > 1:
            told = ", ".join(f"in {unit or 'no stated unit'} in `{name}`" for name, unit in units.items())
            sentence = f"`{column}` is not in the same unit in all experiments: {told}. Make sure that each is right."
            found.append(Finding("unlike", "note", "" if column == "time" else column, sentence, {"units": units}))
    return found


def _unit(telemetry: Telemetry, column: str) -> str:
    return "dates" if column == "time" and telemetry.dated else telemetry.units.get(column, "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def scales(records: Mapping[str, Record]) -> list[Finding]:
    """Columns that would have the level and spread of most other experiments in another unit."""
    found = []
    for number, signal in enumerate(next(iter(records.values())).signals):
        own = {name: record.signals[number] for name, record in records.items()}
        for name, one in own.items():
            others = {other: _suggested(one, theirs) for other, theirs in own.items() if other != name}
            words = max(set(others.values()) - {""}, key=list(others.values()).count, default="")
            with_it = [other for other, suggestion in others.items() if suggestion == words]
            if not words or 2 * len(with_it) <= len(others):
                continue
            typical = float(np.median(own[with_it[0]].values[own[with_it[0]].present]))
            said = (
                f"is at {one.amount(float(np.median(one.values[one.present])))}, and at {one.amount(typical)} in "
                f"experiment `{with_it[0]}`; {words}, it would be like that of {_names(with_it)}"
            )
            advice = f"Is its unit ({signal.unit or 'none'}) right in all of them?"
            evidence = {"suggestion": words, "others": with_it}
            found.append(named(one.finding("unit_scale", "warn", one.present, f"{said}.", advice, **evidence), name))
    return found


def _suggested(one: Signal, other: Signal) -> str:
    """The change of unit that makes a signal like another one; empty where there is none, or nothing to compare."""
    ours, theirs = one.values[one.present], other.values[other.present]
    # what is off, or not dosed, has no scale
    ours, theirs = ours[ours != 0], theirs[theirs != 0]
    if ours.size == 0 or theirs.size == 0:
        return ""
    spreads = robust_sd(ours), robust_sd(theirs)
    if one.unit in ("degC", "K"):
        offset = float(np.median(theirs) - np.median(ours))
        alike = abs(abs(offset) - KELVIN) < NEAR and _within(spreads[0], spreads[1], SPREAD)
        return ("taken as °C" if offset > 0 else "taken as K") if alike else ""
    sizes = float(np.median(np.abs(ours))), float(np.median(np.abs(theirs)))
    words = min(SCALES, key=lambda name: abs(np.log(SCALES[name] * sizes[0] / sizes[1])))
    factor = SCALES[words]
    alike = _within(factor * sizes[0], sizes[1], LEVEL) and _within(factor * spreads[0], spreads[1], SPREAD)
    return words if alike else ""


def _within(ours: float, theirs: float, factor: float) -> bool:
    """Whether two sizes are alike; so are two that are none."""
    if ours == 0 or theirs == 0:
        return ours == theirs
    return 1 / factor < ours / theirs < factor


def named(finding: Finding, experiment: str) -> Finding:
    """A finding that says which experiment it is about."""
    return finding._replace(experiment=experiment, sentence=f"In experiment `{experiment}`: {finding.sentence}")
