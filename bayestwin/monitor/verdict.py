"""What it comes to: the verdict over new telemetry, its cause, and one sentence that says why."""

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.wording import fixed, number, percent
from bayestwin.check.finding import Finding
from bayestwin.model.twin import Twin
from bayestwin.monitor.ahead import Predictive, Reading
from bayestwin.monitor.martingale import Grown, began, fewest
from bayestwin.monitor.shifts import Shift, probability
from bayestwin.results.schema import content_sha256
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.record import time_in

type MonitorVerdict = Literal["ok", "watch", "act", "insufficient data"]
type Cause = Literal["data", "infrastructure", "model", "none"]

ALPHA = 0.05
"""Probability that an alarm is ever raised while nothing is wrong."""

SUSPECT = 0.01
"""A move of one parameter that chance would bring this rarely is worth a look, whatever the bets say."""

FEW_FAILED, MANY_FAILED = 0.01, 0.5
"""Shares of draws that cannot be solved over what is new, from which on that is watched, and nothing can be said."""

FORESEEN = frozenset({"spike", "level_shift", "drift", "range", "rate", "saturation"})
"""Of these, what is no defect where the twin foresaw the readings: inputs may jump, and so does what follows them."""

UNFORESEEN = 4.0
"""Standard deviations by which a reading must be off, so that it was not foreseen."""

ALSO_MODEL = frozenset({"level_shift", "drift", "range", "rate", "clock_skew", "clock_drift", "irregular"})
"""Of these, what a change of the asset looks like too: it is the data where no parameter explains it as well."""

EXPLAINS = 2.0
"""Log likelihood by which one move must explain more than another to be told from it."""


class Monitored(NamedTuple):
    """What became of new telemetry under a posterior.

    Attributes:
        verdict: `"ok"`, `"watch"`, `"act"` or `"insufficient data"`.
        cause: `"data"`, `"infrastructure"`, `"model"`, or `"none"` where there is none to be named.
        reason: One sentence.
        parameter: The parameter whose move alone explains best what is new, where the cause is the model.
        e_value: The most that bets against the forecasts have grown to; 1/alpha raises the alarm.
        alarm: The time of the reading that raised it; None where none did.
        since: Where there is an alarm, when readings began to be off: the most probable time, and the first and last of
            a 90 % interval.
        observations: By name: `readings`, `trusted`, `e_value`, `alarm`, and by kind of bets.
        regimes: Likewise by group, where groups were asked for.
        shifts: What each quantity would have moved by if it alone did, the best explanation first.
        findings: Of `check`, what is new in this telemetry.
        infrastructure: What is not as it was when the posterior came about, in words.
        readings: Of each new reading `pit`, `score`, `log_e`, `effective`, `observation` and `time`; (reading).
        attributes: What binds this to posterior and telemetry: hashes, versions, settings, first and last time.
    """

    verdict: MonitorVerdict
    cause: Cause
    reason: str
    parameter: str | None
    e_value: float
    alarm: Any
    since: tuple[Any, Any, Any] | None
    observations: Mapping[str, Mapping[str, Any]]
    regimes: Mapping[str, Mapping[str, Any]]
    shifts: tuple[Shift, ...]
    findings: tuple[Finding, ...]
    infrastructure: tuple[str, ...]
    readings: xr.Dataset
    attributes: Mapping[str, Any]


class MonitorSettings(NamedTuple):
    """What decides over a verdict; see `monitor`."""

    alpha: float
    seed: int
    due: Any
    versions: Mapping[str, str]
    limits: Mapping[str, Any]
    thresholds: Mapping[str, float]


class NewReadings(NamedTuple):
    """All new readings with what was said of each, over the rows that are labelled and new or not."""

    read: Reading
    found: Predictive
    z: np.ndarray
    log_e: np.ndarray
    by_name: Mapping[str, Grown]
    regimes: Mapping[str, Grown]
    labels: pd.Index
    new: np.ndarray


def attributes_of(
    twin: Twin, posterior: xr.DataTree, telemetry: Telemetry | None, settings: MonitorSettings
) -> dict[str, Any]:
    """What binds a verdict to what it is about."""
    ends: list[str | None] = [None, None]
    if telemetry is not None and len(telemetry.table):
        ends = [telemetry.shown(telemetry.table.index[place]) for place in (0, -1)]
    return {
        "twin": twin.name,
        "telemetry_sha256": "" if telemetry is None else telemetry.sha256,
        "posterior_sha256": content_sha256(posterior["posterior"].to_dataset()),
        "versions": {name: importlib.metadata.version(name) for name in ("bayestwin", "jax", "jaxlib", "numpy")},
        "calibrated_with": {"bayestwin": str(posterior.attrs["bayestwin_version"]), **settings.versions},
        "alpha": settings.alpha,
        "seed": settings.seed,
        "first": ends[0],
        "last": ends[1],
    }


def without_readings(
    told: Mapping[str, Any], verdict: MonitorVerdict, cause: Cause, reason: str, findings: tuple[Finding, ...] = ()
) -> Monitored:
    """A verdict without a reading that could be looked at."""
    nothing = xr.Dataset({"pit": ("reading", np.empty(0))})
    return Monitored(verdict, cause, reason, None, 1.0, None, None, {}, {}, (), findings, (), nothing, told)


def readings_dataset(evidence: NewReadings, names: Sequence[str]) -> xr.Dataset:
    """What was said of each new reading, and what bets had grown to after it."""
    read, found, num = evidence.read, evidence.found, len(evidence.read.row)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.full(num - len(values), np.nan)])

    series = {
        "pit": (found.pit, "share of the predictive distribution below what was read"),
        "score": (evidence.z, "standard normal score of the PIT"),
        "log_e": (padded(evidence.log_e), "log of what bets against the forecasts have grown to"),
        "effective": (found.effective, "draws that count"),
    }
    series |= {
        f"log_e_{name}": (padded(one.log_e), f"the same, of {name} alone") for name, one in evidence.by_name.items()
    }
    labels = evidence.labels[read.row].to_numpy()
    coords = {"time": ("reading", labels), "observation": ("reading", np.asarray(names)[read.observation])}
    return xr.Dataset({n: ("reading", own, {"long_name": words}) for n, (own, words) in series.items()}, coords)


def circumstances(
    twin: Twin,
    later: Telemetry,
    telemetry: Telemetry,
    told: Mapping[str, Any],
    settings: MonitorSettings,
    late: int,
    read: Reading,
) -> tuple[str, ...]:
    """What is not as it was when the posterior came about, or as it should be, in words; what weighs most first."""
    found = []
    failed = 1.0 - float(read.reached[-1])
    if failed > FEW_FAILED:
        found.append(f"{percent(failed)} of the draws cannot be solved over what is new.")
    if settings.due is not None:
        due = time_in(settings.due, telemetry.table.index, telemetry.timezone, "due")
        there = np.any([np.isfinite(later.table[name]) for name in twin.observations], axis=0)
        last = later.table.index[there][-1]
        if last < due:
            found.append(f"The last reading is of {telemetry.shown(last)}, and telemetry was due up to {settings.due}.")
    if late:
        found.append(f"{late:,} {'row' if late == 1 else 'rows'} of the time that was calibrated came after that.")
    for name, version in told["calibrated_with"].items():
        now = told["versions"].get(name)
        if now is not None and now != version:
            found.append(f"The posterior was made with {name} {version}, and this is {now}.")
    return tuple(found)


def judged(
    told: Mapping[str, Any],
    evidence: NewReadings,
    readings: xr.Dataset,
    shifts: tuple[Shift, ...],
    findings: tuple[Finding, ...],
    infrastructure: tuple[str, ...],
    settings: MonitorSettings,
    telemetry: Telemetry,
) -> Monitored:
    """The verdict over all that was found."""
    highest = float(np.max(evidence.log_e, initial=0.0))
    raised = np.flatnonzero(evidence.log_e >= -math.log(settings.alpha))
    alarm = readings["time"].to_numpy()[raised[0]] if raised.size else None
    observations = {name: _summary(one, name, readings, settings) for name, one in evidence.by_name.items()}
    regimes = {name: {"e_value": _e(np.max(one.log_e, initial=0.0))} for name, one in evidence.regimes.items()}
    unforeseen = tuple(one for one in findings if not _foreseen(one, evidence, tuple(observations)))
    culprits = culprit_findings(unforeseen, shifts)
    moved = next((one for one in shifts if one.kind != "sensor"), None)
    suspected = probability(shifts) <= SUSPECT
    failed = 1.0 - float(evidence.read.reached[-1])
    trusted, num = evidence.found.trusted, len(evidence.read.row)
    verdict: MonitorVerdict
    cause: Cause
    if raised.size:
        verdict = "act"
        words = f"Readings are not as forecast: e = {number(_e(highest))}, {_shown(alarm, telemetry)}"
        cause, why = _cause(culprits, infrastructure, shifts)
        reason = f"{words}; {why}"
    elif any(one.severity == "fail" for one in culprits):
        verdict, cause, reason = "act", "data", culprits[0].sentence
    elif failed > MANY_FAILED:
        verdict, cause, reason = "act", "infrastructure", infrastructure[0]
    elif culprits:
        verdict, cause, reason = "watch", "data", culprits[0].sentence
    elif failed > FEW_FAILED or any("due up to" in one or "came after that" in one for one in infrastructure):
        verdict, cause, reason = "watch", "infrastructure", infrastructure[0]
    elif suspected:
        verdict, (cause, why) = "watch", _cause((), (), shifts)
        reason = f"There is no alarm, but {why}"
    elif trusted < num:
        verdict, cause = "watch", "none"
        reason = (
            f"From reading {trusted + 1:,} of {num:,} on weights of the draws are too uneven to go on: take the "
            "readings in by `bt.update` first, and monitor what comes after them."
        )
    elif max(one["readings"] for one in observations.values()) < fewest(settings.alpha, len(observations)):
        verdict, cause = "insufficient data", "none"
        reason = f"{num} readings are fewer than could have raised an alarm."
    else:
        verdict, cause = "ok", "none"
        reason = (
            f"{num:,} readings are as forecast: e has been {number(_e(highest))} at most, of {1 / settings.alpha:.0f}."
        )
    named = moved.name if moved is not None and cause == "model" else None
    since = _since(evidence, readings) if raised.size else None
    return Monitored(
        verdict,
        cause,
        reason,
        named,
        _e(highest),
        alarm,
        since,
        observations,
        regimes,
        shifts,
        findings,
        infrastructure,
        readings,
        told,
    )


def _foreseen(one: Finding, evidence: NewReadings, names: Sequence[str]) -> bool:
    """Whether the twin foresaw the readings that a finding is about, give or take a row."""
    if one.kind not in FORESEEN or one.column not in names:
        return False
    before = int(np.searchsorted(evidence.new, 1))
    read = evidence.read
    row, own = read.row - before + 1, read.observation == names.index(one.column)
    there = np.any([(row >= begin - 1) & (row <= end + 1) for begin, end in one.evidence["rows"]], axis=0)
    return bool((np.abs(evidence.z[own & there]) < UNFORESEEN).all())


def culprit_findings(findings: Sequence[Finding], shifts: Sequence[Shift]) -> tuple[Finding, ...]:
    """Findings that make it the data.

    What a change of the asset looks like too does not where a move of a parameter of its equations explains what is new
    better than it does, if that is known, than a sensor that is off, and than noise that is another one, which explains
    anything.
    """
    gain = shifts[0].gain if shifts and shifts[0].kind == "parameter" and shifts[0].gain > EXPLAINS else -math.inf
    explained = [one.kind in ALSO_MODEL and one.evidence.get("gain", 0.0) <= gain for one in findings]
    return tuple(one for one, by_parameter in zip(findings, explained, strict=True) if not by_parameter)


def _cause(culprits: Sequence[Finding], infrastructure: Sequence[str], shifts: Sequence[Shift]) -> tuple[Cause, str]:
    """What it is that readings are off by, and why that is said."""
    if culprits:
        return "data", culprits[0].sentence
    if infrastructure:
        return "infrastructure", infrastructure[0]
    moved = next((one for one in shifts if one.kind != "sensor"), None)
    if shifts and shifts[0].kind == "sensor" and (moved is None or shifts[0].gain > moved.gain + EXPLAINS):
        off = shifts[0]
        words = f"{number(abs(off.after))} {off.unit}".rstrip() + (" more" if off.after > 0.0 else " less")
        return "data", f"a sensor `{off.name}` that reads {words} explains most (z = {fixed(off.z, 1)})."
    return "model", "nothing says what moved." if moved is None else _moved_words(moved)


def _moved_words(moved: Shift) -> str:
    ends = f"from {number(moved.before, 4)} to {number(moved.after, 4)} {moved.unit}".rstrip()
    return f"`{moved.name}` explains most if it alone moved: {ends} (z = {fixed(moved.z, 1)})."


def _e(log_e: float) -> float:
    """An e-value, as large as a number can be."""
    return float(np.exp(min(log_e, 700.0)))


def _shown(moment: Any, telemetry: Telemetry) -> str:
    return f"alarm at {telemetry.shown(moment)}"


def _summary(one: Grown, name: str, readings: xr.Dataset, settings: MonitorSettings) -> dict[str, Any]:
    """What is to be said of one observation."""
    own = readings["observation"].to_numpy() == name
    raised = np.flatnonzero(one.log_e >= -math.log(settings.alpha))
    return {
        "readings": int(own.sum()),
        "trusted": int(own[: len(one.log_e)].sum()),
        "e_value": _e(np.max(one.log_e, initial=0.0)),
        "alarm": readings["time"].to_numpy()[raised[0]] if raised.size else None,
        "by_kind": {kind: _e(np.max(log_e, initial=0.0)) for kind, log_e in one.by_kind.items()},
    }


def _since(evidence: NewReadings, readings: xr.Dataset) -> tuple[Any, Any, Any]:
    """When readings of the observation with most evidence began to be off."""
    worst = max(evidence.by_name, key=lambda name: float(np.max(evidence.by_name[name].log_e, initial=0.0)))
    own = np.flatnonzero(readings["observation"].to_numpy()[: evidence.found.trusted] == worst)
    times = readings["time"].to_numpy()[own]
    return tuple(times[place] for place in began(evidence.z[own]))  # type: ignore[return-value]
