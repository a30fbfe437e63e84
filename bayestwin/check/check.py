"""All checks of telemetry before anything is sampled, in one call; and what can only be seen between experiments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.process import check_seed, require_float64
from bayestwin._base.progress import Progress
from bayestwin.check.clocks import clocks
from bayestwin.check.finding import (
    KINDS,
    Finding,
    Limit,
    Thresholds,
    check_kinds,
    graded,
    limits_from,
    place,
    thresholds_from,
    where,
)
from bayestwin.check.jumps import drifts, jumps
from bayestwin.check.range import extrapolated, prior_findings, ranges, rates, visited
from bayestwin.check.signals import Signal, SignalRecord, record_of, robust_sd
from bayestwin.check.times import copies, few, gaps, irregular, notices_of, overlap, repeated, times_of, unstated
from bayestwin.check.values import (
    FACTORS,
    constant,
    missing,
    missing_by_regime,
    quantisation,
    saturation,
    sentinels,
    stuck,
)
from bayestwin.density.bind import Experiments, bind, check_experiments, each, elapsed
from bayestwin.density.density import build_density
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

SAME = 12
"""Rows within which a jump and a drift are one event."""

PRIOR_KINDS = {"prior", "unit_scale", "expected"}
"""Where all of these are ignored, nothing is solved."""


class CheckSettings(NamedTuple):
    """What all experiments are checked by; see `check`."""

    seed: int
    limits: Mapping[str, Limit]
    thresholds: Thresholds
    solved: bool
    first_row: int
    progress: Progress


def check(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    held_out: Telemetry | Experiments | None = None,
    *,
    seed: int,
    limits: Mapping[str, Mapping[str, Any] | Limit] | None = None,
    thresholds: Mapping[str, float] | None = None,
    fail_on: Sequence[str] = (),
    ignore: Sequence[str] = (),
    first_row: int = 1,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Look at telemetry for what makes a calibration fail or mislead; nothing is sampled from a posterior.

    Looked for is what `bayestwin.check.finding.KINDS` lists: in the times, in each column that the twin uses,
    between columns, against the operating range, and against the prior predictive. Of several experiments each is
    looked at by itself, and then what they share, and where columns, units and scales differ between them.

    Args:
        twin: The twin.
        telemetry: What is to be calibrated; one record, or that of each experiment by its name.
        held_out: What is held out. Where it goes on after `telemetry`, its rows are looked at too and count on. Of
            several experiments that of those which have some, by name.
        seed: Determines the draws from the prior.
        limits: The operating range: by observation or input `low`, `high`, `unit`, `max_rate`.
        thresholds: Limits of the checks that are not the defaults of `bayestwin.check.Thresholds`.
        fail_on: Kinds that are to fail, whatever they are by themselves.
        ignore: Kinds to be left out; with `prior`, `unit_scale` and `expected` among them, the twin is not solved.
        first_row: What the first row is counted as, where `telemetry` is a part of what was read.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        The findings, the worst first: `kind`, `severity`, `column`, `sentence`, `evidence` and `experiment`.

    Raises:
        InvalidTelemetry: If it lacks a column that the twin needs or has it in a wrong unit, or what is held out is
            not of these experiments.
        InvalidSetting: If a kind or a threshold is unknown.
        InvalidInput: If a limit makes no sense.
    """
    require_float64()
    check_seed(seed)
    check_kinds((*fail_on, *ignore))
    stated = {name: one for name, one in (limits or {}).items() if isinstance(one, Limit)}
    stated |= limits_from({name: one for name, one in (limits or {}).items() if not isinstance(one, Limit)}, twin)
    solved = not set(ignore) >= PRIOR_KINDS
    settings = CheckSettings(seed, stated, thresholds_from(thresholds), solved, first_row, progress or Progress())
    if isinstance(telemetry, Telemetry) and not isinstance(held_out, Mapping):
        return graded(_alone(twin, telemetry, held_out, settings), fail_on, ignore)
    if isinstance(telemetry, Telemetry) or isinstance(held_out, Telemetry):
        raise InvalidTelemetry(
            "What is calibrated and what is held out are not both of experiments.",
            expected="two records, or two mappings by the names of experiments",
            received=" and ".join(type(one).__name__ for one in (telemetry, held_out)),
            advice='Pass both by name: `{"first": telemetry}` and `{"first": held_out}`.',
        )
    return graded(_each(twin, telemetry, held_out or {}, settings), fail_on, ignore)


def _alone(
    twin: Twin,
    telemetry: Telemetry,
    held_out: Telemetry | None,
    settings: CheckSettings,
    experiment: str | None = None,
) -> list[Finding]:
    """All findings about one record."""
    numbers, limits, first_row = settings.thresholds, settings.limits, settings.first_row
    findings = notices_of(telemetry.notices, telemetry.source)
    members = {**twin.observations, **twin.inputs}
    findings += unstated({name: one.unit for name, one in members.items()}, telemetry)
    wrong = times_of(telemetry.table, first_row, telemetry.timezone)
    if telemetry.settings.get("duplicates") == "all":  # replicates, which a notice tells
        wrong = [one for one in wrong if one.kind != "duplicate"]
    if held_out is not None:
        wrong += overlap(telemetry, held_out)
    record = record_for(twin, telemetry, None if wrong else held_out, first_row)
    with settings.progress.timed("check"):
        findings += wrong + signal_findings(record, numbers)
    clock = telemetry.units.get("time", twin.time_unit)
    since = elapsed(record.times, telemetry.t0, clock, twin.time_unit)
    for signal in record.signals:
        if signal.name in limits:
            findings += [
                *ranges(signal, limits[signal.name]),
                *rates(signal, limits[signal.name], since, twin.time_unit),
            ]
    findings += [*visited(record, limits, numbers), *extrapolated(record, numbers)]
    if settings.solved and not any(one.kind in ("duplicate", "out_of_order") for one in wrong):
        rows = np.arange(len(telemetry.table)) + first_row
        density = build_density(twin, bind(twin, telemetry, experiment=experiment))
        findings += prior_findings(density, settings.seed, numbers, rows, settings.progress, telemetry)
    return findings


def _each(twin: Twin, telemetry: Experiments, held_out: Experiments, settings: CheckSettings) -> list[Finding]:
    """All findings about experiments: each by itself, and all together."""
    _check_names(telemetry, held_out)
    both = {name: (one, held_out.get(name)) for name, one in telemetry.items()}

    def part(own: tuple[Telemetry, Telemetry | None]) -> CheckedExperiment:
        later = None if own[1] is None else record_for(twin, own[1], None)
        return CheckedExperiment(record_for(twin, own[0], None, settings.first_row), later, own[0])

    parts = each(part, both)
    found = across(parts)
    named_too = {name: (*own, settings, name) for name, own in both.items()}
    for name, findings in each(lambda own: _alone(twin, *own), named_too).items():
        for one in findings:
            # another experiment may have been made for this observation
            elsewhere = any(other.record.has(one.column) for other in parts.values())
            designed = one.kind == "few" and one.severity == "fail" and elsewhere
            found.append(named(one._replace(severity="warn") if designed else one, name))
    return found


def _check_names(telemetry: Experiments, held_out: Experiments) -> None:
    """Refuse what is held out of experiments that are not there."""
    check_experiments(telemetry)
    if held_out:
        check_experiments(held_out)
    if unknown := [name for name in held_out if name not in telemetry]:
        raise InvalidTelemetry(
            f"Something is held out of experiment `{unknown[0]}`, which is not calibrated.",
            expected=", ".join(f"`{name}`" for name in telemetry),
            received=", ".join(f"`{name}`" for name in held_out),
            advice="Correct its name, or leave it out.",
        )


def signal_findings(record: SignalRecord, limits: Thresholds) -> list[Finding]:
    """All that is said of times and columns without a twin."""
    found = [*irregular(record), *gaps(record, limits), *repeated(record)]
    by_column = {signal.name: _own(signal, limits) for signal in record.signals}
    rest = record._replace(signals=tuple(without(one, by_column[one.name]) for one in record.signals))
    jumped = jumps(rest, limits)
    between = [*jumped, *drifts(rest, limits), *clocks(rest, limits), *missing_by_regime(record)]
    for finding in between:
        if finding.kind == "drift" and any(_same_event(finding, one) for one in jumped):
            continue
        by_column[finding.column].append(finding)
    return [*found, *(finding for findings in by_column.values() for finding in findings)]


def _same_event(drift: Finding, jump: Finding) -> bool:
    """Whether a residual is another one only since a jump that has been told already."""
    apart = drift.evidence["rows"][0][0] - jump.evidence["rows"][0][0]
    return jump.kind == "level_shift" and jump.column == drift.column and abs(apart) <= SAME


def without(signal: Signal, findings: Sequence[Finding]) -> Signal:
    """The signal without values that are known to be none: what follows from these is no finding of its own."""
    values = signal.values.copy()
    for finding in findings:
        if finding.kind in ("sentinel", "stuck", "saturation"):
            for first, last in finding.evidence["rows"]:
                values[first - signal.first : last - signal.first + 1] = np.nan
    return signal._replace(values=values)


def record_for(twin: Twin, telemetry: Telemetry, held_out: Telemetry | None, first_row: int = 1) -> SignalRecord:
    """The signals that a twin uses, in its units; held-out rows follow where they come later.

    Raises:
        InvalidTelemetry: As of `bind`, but for gaps.
    """
    tables = []
    for part in (telemetry, held_out):
        if part is None or (tables and not _follows(tables[0], part)):
            continue
        columns = {}
        for name, member in {**twin.observations, **twin.inputs}.items():
            if not part.holds(name):
                raise _absent(name, part)
            columns[name] = part.in_unit(name, member.unit)
        tables.append(pd.DataFrame(columns, index=part.table.index))
    units = {name: member.unit for name, member in {**twin.observations, **twin.inputs}.items()}
    return record_of(
        pd.concat(tables) if len(tables) > 1 else tables[0],
        list(twin.observations),
        list(twin.inputs),
        units,
        calibrated=len(tables[0]),
        first=first_row,
        time_unit=telemetry.units.get("time", twin.time_unit),
        zone=telemetry.timezone,
        labels={name: telemetry.label(name) for name in units},
    )


def _own(signal: Signal, limits: Thresholds) -> list[Finding]:
    """What is said of one column; what lies at its ends is no sensor that is stuck."""
    found = [*few(signal, limits), *constant(signal), *missing(signal, limits), *sentinels(signal)]
    ends = saturation(signal, limits)
    found += [*ends, *stuck(without(signal, ends), limits)]
    found += quantisation(signal, limits)
    return [*found, *(finding for look in LOOKS.values() for finding in look(signal, limits))]


# What else is looked for in a column, from outside the package.

type Look = Callable[[Signal, Thresholds], Sequence[Finding]]

LOOKS: dict[str, Look] = {}
"""By the kind of finding that it makes."""

OURS = frozenset(KINDS)


def register(kind: str, words: str, look: Look) -> None:
    """Look for one more kind of finding in each column that a twin uses; one registered by this name gives way.

    Args:
        kind: Its name, for `fail_on` and `ignore`.
        words: What it is.
        look: Column and thresholds → findings, as `Signal.finding` makes them.

    Raises:
        InvalidSetting: If the package has this kind itself.
    """
    if kind in OURS:
        raise InvalidSetting(
            f"There is a finding of the kind `{kind}` already.",
            expected="a name of its own",
            received=f"`{kind}`: {KINDS[kind]}",
            advice="Choose another name.",
        )
    KINDS[kind] = words
    LOOKS[kind] = look


def unregister(kind: str) -> None:
    """Look for a kind that was registered no longer."""
    if LOOKS.pop(kind, None) is not None:
        del KINDS[kind]


def _follows(table: pd.DataFrame, part: Telemetry) -> bool:
    later = part.table.index
    return isinstance(later, type(table.index)) and bool(np.asarray(later[:1] > table.index.max()).all())


def _absent(name: str, telemetry: Telemetry) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"The telemetry has no column `{name}`.",
        expected="a column for every observation and input of the twin",
        received=", ".join(f"`{column}`" for column in telemetry.table.columns) or "no column",
        advice=f"Rename the column that holds it: `rename={{'<column>': '{name}'}}`.",
    )


# What can only be seen between experiments: rows that two of them share, other columns or units, another scale.

SCALES = {words: factor for words, factor in FACTORS.items() if not 1 / 60 < factor < 60}
"""Smaller ones may as well be what was done in an experiment."""

LEVEL = 2.0
"""The usual size of what was scaled is that of the others within this factor."""

SPREAD = 4.0
"""Likewise its spread."""

KELVIN = 273.15
NEAR = 50.0
"""Temperatures that were taken as K or as °C wrongly are so many kelvins from the others, or fewer."""


class CheckedExperiment(NamedTuple):
    """An experiment as it is checked: its record without what is held out, that alone, and its telemetry."""

    record: SignalRecord
    held_out: SignalRecord | None
    telemetry: Telemetry


def across(parts: Mapping[str, CheckedExperiment]) -> list[Finding]:
    """All that is said of experiments together; rows are those of the experiment that the finding names."""
    return [*shared(parts), *unlike(parts), *scales({name: one.record for name, one in parts.items()})]


class ExperimentRows(NamedTuple):
    """Rows of an experiment: those that are calibrated, or those that are held out."""

    name: str
    record: SignalRecord
    held: bool


def shared(parts: Mapping[str, CheckedExperiment]) -> list[Finding]:
    """Rows that two experiments have to the last digit in all columns, calibrated in both or held out in one."""
    blocks = [ExperimentRows(name, one.record, False) for name, one in parts.items()]
    blocks += [ExperimentRows(name, one.held_out, True) for name, one in parts.items() if one.held_out is not None]
    values = [np.column_stack([signal.values for signal in one.record.signals]) for one in blocks]
    sizes = [len(one) for one in values]
    starts = np.r_[0, np.cumsum(sizes)]
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for later, earlier in copies(np.concatenate(values), sizes).items():
        ours, theirs = (int(np.searchsorted(starts, row, "right")) - 1 for row in (later, earlier))
        if blocks[ours].name != blocks[theirs].name and not blocks[theirs].held:
            pairs.setdefault((ours, theirs), []).append((later - int(starts[ours]), earlier - int(starts[theirs])))
    return [_copied(blocks[ours], blocks[theirs], np.array(rows)) for (ours, theirs), rows in pairs.items()]


def _copied(block: ExperimentRows, origin: ExperimentRows, rows: np.ndarray) -> Finding:
    ours, theirs = (place(rows[:, at], one.record.times, one.record.first) for at, one in enumerate((block, origin)))
    what = (
        f"({where(ours)}) are also in experiment `{origin.name}` ({where(theirs)}), in all columns to the last digit. "
    )
    source = {"other": origin.name, "copied_from": theirs["rows"]}
    if block.held:
        sentence = f"{ours['num_rows']:,} rows of what is held out {what}Calibrated there, they flatter a validation."
        finding = Finding("overlap", "fail", "", sentence, {"held_out_rows": ours["rows"], **source})
    else:
        sentence = f"{ours['num_rows']:,} rows {what}Calibrated in both they count twice: leave them out of one."
        finding = Finding("copied", "fail", "", sentence, ours | source)
    return named(finding, block.name)


def unlike(parts: Mapping[str, CheckedExperiment]) -> list[Finding]:
    """Columns that not all experiments have, units that differ, and times that are dates here and numbers there."""
    findings = []
    columns = {name: set(map(str, one.telemetry.table.columns)) for name, one in parts.items()}
    for column in sorted(set.union(*columns.values()) - set.intersection(*columns.values())):
        there = [name for name in parts if column in columns[name]]
        absent = [name for name in parts if column not in columns[name]]
        sentence = f"`{column}` is a column of {_names(there)} and not of {_names(absent)}."
        findings.append(Finding("unlike", "note", column, sentence, {"with": there, "without": absent}))
    used = [signal.name for signal in next(iter(parts.values())).record.signals]
    for column in ["time", *used]:
        units = {name: _unit(one.telemetry, column) for name, one in parts.items()}
        if len(set(units.values())) > 1:
            told = ", ".join(f"in {unit or 'no stated unit'} in `{name}`" for name, unit in units.items())
            sentence = f"`{column}` is not in the same unit in all experiments: {told}. Make sure that each is right."
            findings.append(Finding("unlike", "note", "" if column == "time" else column, sentence, {"units": units}))
    return findings


def _unit(telemetry: Telemetry, column: str) -> str:
    return "dates" if column == "time" and telemetry.dated else telemetry.units.get(column, "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def scales(records: Mapping[str, SignalRecord]) -> list[Finding]:
    """Columns that would have the level and spread of most other experiments in another unit."""
    findings = []
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
            findings.append(named(one.finding("unit_scale", "warn", one.present, f"{said}.", advice, **evidence), name))
    return findings


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
