"""Monitoring: a posterior and what was observed since in, whether the twin is still right out, and why not.

Evidence comes from test martingales of one-step-ahead PITs. What the findings of `check` explain is the data; what
other versions, late rows or failed solves may explain, the infrastructure; and else the model.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress, computing
from bayestwin._base.wording import count
from bayestwin.assess.grouping import BinEdges, Groups, find_groups
from bayestwin.calibrate import check_belongs
from bayestwin.check.check import PRIOR_KINDS, check
from bayestwin.check.finding import Finding, Limit, place, where
from bayestwin.check.range import HARDLY, INTERVAL, suggested, wrong_unit
from bayestwin.check.times import notices_of
from bayestwin.density.density import Density
from bayestwin.density.predictor import Predictor
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry
from bayestwin.model.noise.wrapped import Censored, Rounded
from bayestwin.model.twin import Twin
from bayestwin.monitor.ahead import Reading, RowsAhead, build_ahead, read_ahead, weigh
from bayestwin.monitor.martingale import Grown, bet, mean_of, scores
from bayestwin.monitor.shifts import find_shifts
from bayestwin.monitor.verdict import (
    ALPHA,
    UNFORESEEN,
    Monitored,
    MonitorSettings,
    NewReadings,
    attributes_of,
    circumstances,
    judged,
    readings_dataset,
    without_readings,
)
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.times import paired
from bayestwin.update import joined

SPIKE, FEW_SPIKES = 6.0, 0.05
"""Standard deviations by which a reading alone is off that is a spike, and the share of readings that may be."""

OFTEN, MOSTLY = 0.1, 0.5
"""Shares of readings that must be far from their forecasts, before another clock, and another unit, are tried."""

FEWEST_STEPS, MOST_STEPS, MUCH_NEARER = 2, 20, 0.5
"""Usual steps by which a clock may be wrong, and how much nearer to its forecasts an observation must then be."""

DATA_KINDS = frozenset(
    {
        *("duplicate", "out_of_order", "irregular", "gap", "missing", "missing_regime", "constant", "stuck"),
        *("sentinel", "spike", "saturation", "quantisation", "level_shift", "drift", "clock_skew", "clock_drift"),
        *("repeated", "range", "rate", "unit_scale"),
    }
)
"""Findings of `check` that speak of telemetry."""


def monitor(
    twin: Twin,
    posterior: xr.DataTree,
    telemetry: Telemetry,
    *,
    seed: int,
    alpha: float = ALPHA,
    by: str | None = None,
    bins: BinEdges = None,
    due: Any = None,
    versions: Mapping[str, str] | None = None,
    limits: Mapping[str, Mapping[str, Any] | Limit] | None = None,
    thresholds: Mapping[str, float] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Monitored:
    """Say whether a calibrated twin is still right about the asset, by what was observed since.

    Pass all telemetry since the calibration at each look: as often as one looks, and for as long, an alarm comes with
    probability `alpha` at most while the posterior is right. Each reading is predicted from all before it, by draws
    weighted by these, so that inputs may be as correlated as they like. Rows that were calibrated are passed over.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` or `update` returned it; of one record.
        telemetry: What was observed since, with its inputs.
        seed: Determines how ties between counts are broken, and the prior draws of `check`.
        alpha: Probability of a false alarm, ever; alarm at an e-value of 1/alpha.
        by: An input or another column by whose groups evidence is told apart as well, as in `coverage`.
        bins: Of its values, as in `coverage`.
        due: The time up to which telemetry should be there; None where that is not known.
        versions: By package, what the posterior was made with; that of `bayestwin` it says itself.
        limits: The operating range, as in `check`.
        thresholds: As in `check`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        The verdict with its evidence. `"act"`: there is an alarm, or the telemetry cannot be used. `"watch"`: something
        is off that is no alarm, or weights became too uneven to go on, so that the record needs `bt.update` first.
        `"insufficient data"`: no readings, or fewer than could have raised an alarm.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin, or is of several experiments.
        InvalidSetting: If `alpha`, `by` or `due` makes no sense.
        InvalidTelemetry: If the telemetry does not fit the twin.
        OutOfMemory: If there are more readings than memory for them.
    """
    computation = computing("Monitor fewer rows at once.", seed=seed, device=device, progress=progress)
    check_belongs(twin, posterior)
    _check_one(posterior, telemetry)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0.0 < alpha < 1.0:
        raise InvalidSetting(
            "`alpha` is no probability of a false alarm.",
            expected="a number between 0 and 1",
            received=repr(alpha),
            advice="Leave it out for 0.05.",
        )
    settings = MonitorSettings(alpha, seed, due, versions or {}, limits or {}, thresholds or {})
    groups = None if by is None else _grouped(posterior, telemetry, by, bins)
    with computation as shown:
        return _monitored(twin, posterior, telemetry, settings, groups, shown)


def unreadable(
    twin: Twin,
    posterior: xr.DataTree,
    reason: InvalidTelemetry,
    file: pathlib.Path,
    *,
    seed: int,
    alpha: float,
    versions: Mapping[str, str],
) -> Monitored:
    """The verdict over a file that cannot be read: insufficient data where it is empty, else somebody must act.

    Args:
        twin: The twin.
        posterior: As of `monitor`.
        reason: Why not.
        file: What was to be read.
        seed: As of `monitor`.
        alpha: Likewise.
        versions: Likewise.
    """
    settings = MonitorSettings(alpha, seed, None, versions, {}, {})
    content = file.read_bytes()
    told = attributes_of(twin, posterior, None, settings) | {"telemetry_sha256": sha256(content).hexdigest()}
    if not content.strip() or "has no rows" in str(reason):
        return without_readings(told, "insufficient data", "none", "There is no reading in this telemetry.")
    return without_readings(told, "act", "data", reason.line)


def _check_one(posterior: xr.DataTree, telemetry: object) -> None:
    several = "experiment" in posterior["posterior"].dims
    if several or not isinstance(telemetry, Telemetry):
        raise InvalidArtifact(
            "Only a twin of one record can be monitored.",
            expected="a posterior of one telemetry, and a bt.Telemetry",
            received="a posterior of several experiments" if several else type(telemetry).__name__,
            advice="Calibrate each asset by itself, `bt.calibrate_each`, and monitor one after the other.",
        )


def _grouped(posterior: xr.DataTree, telemetry: Telemetry, by: str, bins: BinEdges) -> tuple[Groups, pd.Series]:
    """Groups of a column as the calibration has them, if it has it: what comes must not say how it is told apart."""
    if by not in telemetry.table.columns:
        raise InvalidSetting(
            f"`by` names `{by}`, which the telemetry does not have.",
            expected=", ".join(f"`{name}`" for name in telemetry.table.columns),
            received=f"`{by}`",
            advice="Name a column of it.",
        )
    column, driven = pd.Series(telemetry.table[by]), posterior["constant_data"].to_dataset()
    if by not in driven:
        return find_groups(by, column.to_numpy(), bins), column
    values = pd.Series(telemetry.in_unit(by, str(driven[by].attrs.get("units", ""))), column.index)
    return find_groups(by, driven[by].to_numpy(), bins), values


# What is looked at: telemetry before anything is computed, then each reading.


def _monitored(
    twin: Twin,
    posterior: xr.DataTree,
    telemetry: Telemetry,
    settings: MonitorSettings,
    groups: tuple[Groups, pd.Series] | None,
    shown: Progress,
) -> Monitored:
    told = attributes_of(twin, posterior, telemetry, settings)
    ordered = telemetry.table.index.is_unique and telemetry.table.index.is_monotonic_increasing
    if not ordered:  # nothing can be solved along such times
        own = {"seed": settings.seed, "ignore": PRIOR_KINDS, "progress": shown}
        findings = tuple(one for one in check(twin, telemetry, **own) if _is_data(one))
        return without_readings(told, "act", "data", findings[0].sentence, findings)
    if not _num_read(twin, telemetry):
        return without_readings(told, "insufficient data", "none", "There is no reading in this telemetry.")
    before, whole, news = joined(twin, posterior, telemetry)
    if not news["readings"] + news["revised"]:
        words = "All readings of this telemetry were calibrated already."
        return without_readings(told, "insufficient data", "none", words)
    last = before.table.index[-1]
    later = whole.with_table(whole.table.loc[whole.table.index > last])
    late = _num_late(before, telemetry, last)
    if not _num_read(twin, later):
        words = f"No reading is later than the calibration, which ends at {telemetry.shown(last)}."
        return without_readings(told, "insufficient data", "none", words)
    findings = new_findings(twin, before, later, telemetry, settings, shown)
    try:
        ahead = build_ahead(twin, posterior, before, whole)
    except InvalidTelemetry as reason:  # readings that cannot occur, or an input that is not there all the time
        words = " ".join([*(one.sentence for one in findings[:1]), reason.summary])
        return without_readings(told, "act", "data", words, findings)
    read = read_ahead(ahead, shown)
    names = list(twin.observations)
    found = weigh(read, _atoms(twin, read), _random(settings.seed))
    kept = slice(0, found.trusted)
    z = scores(found.log_below, found.log_above)
    by_name = {name: _evidence(z[kept], read.observation[kept] == k) for k, name in enumerate(names)}
    regimes = {} if groups is None else _by_regime(z[kept], read, kept, ahead.labels, groups, names)
    findings = (
        *_by_forecasts(ahead, read, z, settings.seed, shown),
        *findings,
        *_spikes(read, z, later, ahead, findings),
    )
    log_e = mean_of([one.log_e for one in by_name.values()])
    if regimes:
        log_e = mean_of([log_e, mean_of([one.log_e for one in regimes.values()])])
    with shown.timed("shifts"):
        shifts = find_shifts(ahead)
    evidence = NewReadings(read, found, z, log_e, by_name, regimes, ahead.labels, ahead.new)
    readings = readings_dataset(evidence, names)
    infrastructure = circumstances(twin, later, telemetry, told, settings, late, read)
    return judged(told, evidence, readings, shifts, findings, infrastructure, settings, telemetry)


def _random(seed: int) -> np.random.Generator:
    import jax

    return np.random.default_rng(np.asarray(jax.random.key_data(key_for(seed, "monitor"))).tolist())


def _atoms(twin: Twin, read: Reading) -> np.ndarray:
    """Which readings have a probability of their own: counts, rounded ones, and those at a limit."""
    kinds = [
        one.noise.support.is_discrete or any(isinstance(layer, Censored | Rounded) for layer in one.noise.layers())
        for one in twin.observations.values()
    ]
    return np.asarray(kinds)[read.observation]


def _num_read(twin: Twin, telemetry: Telemetry) -> int:
    there = [telemetry.table[name].to_numpy(float) for name in twin.observations if telemetry.holds(name)]
    return int(sum(np.isfinite(own).sum() for own in there))


def _num_late(before: Telemetry, telemetry: Telemetry, last: Any) -> int:
    """Rows that came after the calibration although they are of its time."""
    index = telemetry.table.index
    return int(((paired(index, before.table.index) < 0) & np.asarray(index < last)).sum())


def _evidence(z: np.ndarray, own: np.ndarray) -> Grown:
    """Bets on some of all readings, shape (r,), as they stand after each of all of them."""
    grown = bet(z[own])
    place = np.cumsum(own) - 1

    def spread(log_e: np.ndarray) -> np.ndarray:
        return np.where(place >= 0, log_e[np.maximum(place, 0)] if len(log_e) else 0.0, 0.0)

    return Grown(spread(grown.log_e), {kind: spread(one) for kind, one in grown.by_kind.items()})


def _by_regime(
    z: np.ndarray, read: Reading, kept: slice, labels: pd.Index, groups: tuple[Groups, pd.Series], names: Sequence[str]
) -> dict[str, Grown]:
    """Evidence by group and observation; what no reading fell into stays at what it started with."""
    found, column = groups
    values = column.reindex(labels).to_numpy()[read.row[kept]]
    return {
        f"{name}, {found.name} {label}": _evidence(z, members & (read.observation[kept] == k))
        for label, members in zip(found.labels, found.members(values), strict=True)
        for k, name in enumerate(names)
    }


def new_findings(
    twin: Twin,
    before: Telemetry,
    later: Telemetry,
    telemetry: Telemetry,
    settings: MonitorSettings,
    shown: Progress,
) -> tuple[Finding, ...]:
    """What `check` says of new rows that it did not say of those calibrated, the worst first.

    New rows are looked at by themselves, and as what follows the record before, against which they may be off. Priors
    are left out: what the posterior forecasts says more, see `_by_forecasts`.
    """
    own: dict[str, Any] = {"seed": settings.seed, "thresholds": settings.thresholds, "progress": shown}
    own["ignore"] = sorted(PRIOR_KINDS)
    own["limits"] = settings.limits
    alone = check(twin, later.with_table(later.table, t0=later.table.index[0]), **own)
    known, both = check(twin, before, **own), check(twin, before, later, **own)
    rows = {(one.kind, one.column): one.evidence.get("num_rows", 0) / len(before.table) for one in known}
    found: dict[tuple[str, str], Finding] = {}
    for one in (*alone, *(own for own in map(functools.partial(_counted_from, len(before.table)), both) if own)):
        share = one.evidence.get("num_rows", 0) / max(len(later.table), 1)
        usual = (one.kind, one.column) in rows and share <= 2.0 * rows[one.kind, one.column]
        if _is_data(one) and not usual:
            found.setdefault((one.kind, one.column), one)
    mended = notices_of(telemetry.notices, telemetry.source)
    for one in (own for own in mended if own.kind in ("duplicate", "out_of_order")):
        found.setdefault((one.kind, one.column), one)
    return tuple(sorted(found.values(), key=lambda one: ("fail", "warn", "note").index(one.severity)))


def _by_forecasts(ahead: RowsAhead, read: Reading, z: np.ndarray, seed: int, shown: Progress) -> tuple[Finding, ...]:
    """Observations that the twin did not foresee, and would have in another unit or at another time."""
    density, found = ahead.density, []
    names = list(density.twin.observations)
    shares = [float(np.mean(np.abs(z[read.observation == k]) >= UNFORESEEN)) for k in range(len(names))]
    far = [k for k, share in enumerate(shares) if share > OFTEN]
    if not far:
        return ()
    unread = {name: np.where(ahead.new, np.nan, own) for name, own in density.bound.observations.items()}
    forecast = dataclasses.replace(density, bound=density.bound._replace(observations=unread))
    some = {name: own[:: max(1, len(own) // 100)] for name, own in ahead.values.items()}
    with shown.phase("predict", "forecasting without what is new", 100) as phase:
        drawn = Predictor(forecast)(some, key_for(seed, "monitor forecasts"), phase)
    for k in far:
        rows = read.row[read.observation == k]
        values = density.bound.observations[names[k]][rows]
        if shares[k] > MOSTLY and (wrong := _wrong_unit(density, names[k], values, drawn[names[k]][:, rows])):
            found.append(wrong)
            continue
        middle = np.nanmedian(drawn[f"{names[k]}_noise_free"], axis=0)
        if late := _wrong_clock(names[k], values, rows, density.bound.times, middle):
            found.append(late)
    return tuple(found)


def _wrong_unit(density: Density, name: str, values: np.ndarray, drawn: np.ndarray) -> Finding | None:
    """Values that would lie within their forecasts, shape (draws, readings), in another unit."""
    unit = density.twin.observations[name].unit
    low, high = np.nanquantile(drawn, INTERVAL, axis=0)

    def share(changed: np.ndarray) -> float:
        return float(np.mean((changed >= low) & (changed <= high)))

    best = suggested(share, values, unit) if share(values) < HARDLY else None
    words = f"{100 * share(values):.0f} % of `{name}` lie inside the 99 % interval of its forecast."
    return None if best is None else wrong_unit(name, words, {"inside": share(values)}, best, unit)


def _wrong_clock(
    name: str, values: np.ndarray, rows: np.ndarray, times: np.ndarray, forecast: np.ndarray
) -> Finding | None:
    """Values that are much nearer to what is forecast for another time, so many usual steps away.

    Args:
        name: Of the observation.
        values: Read; shape (r,).
        rows: Of each among the times; shape (r,).
        times: Shape (n,).
        forecast: For each time; shape (n,).
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    most = min(MOST_STEPS, len(values) // 8)
    if not step > 0.0 or most < FEWEST_STEPS:
        return None

    def apart(lag: int) -> float:
        at = times[rows] + lag * step
        inside = (at >= times[0]) & (at <= times[-1])
        return float(np.sqrt(np.nanmean((values[inside] - np.interp(at[inside], times, forecast)) ** 2)))

    lags = [lag for lag in range(-most, most + 1) if abs(lag) >= FEWEST_STEPS]
    best = min(lags, key=apart)
    if not apart(best) <= MUCH_NEARER * apart(0):
        return None
    words = (
        f"`{name}` is what is forecast for {abs(best)} usual steps {'later' if best > 0 else 'earlier'}: "
        "is its clock right?"
    )
    # of normal noise as wide as what is left then
    gain = 0.5 * len(values) * ((apart(0) / apart(best)) ** 2 - 1.0) if apart(best) > 0.0 else np.inf
    evidence = {"steps": best, "apart": apart(0), "apart_then": apart(best), "gain": gain}
    return Finding("clock_skew", "warn", name, words, evidence)


def _spikes(
    read: Reading, z: np.ndarray, later: Telemetry, ahead: RowsAhead, known: Sequence[Finding]
) -> tuple[Finding, ...]:
    """Single readings far from what was forecast between others that are as forecast, where `check` tells of none."""
    found = []
    before = int(np.searchsorted(ahead.new, 1))
    for k, name in enumerate(ahead.density.twin.observations):
        own = read.observation == k
        away, rows = np.abs(z[own]), read.row[own] - before
        beside = np.maximum(np.append(away[1:], 0.0), np.append(0.0, away[:-1]))
        alone = np.flatnonzero((away >= SPIKE) & (beside < UNFORESEEN))
        told = any(one.column == name and one.kind in ("spike", "sentinel", "range") for one in known)
        if not alone.size or alone.size > max(1, FEW_SPIKES * own.sum()) or told:
            continue
        evidence = place(rows[alone], later.table.index, 1, later.timezone)
        words = (
            f"{later.label(name)} lies far from its forecast, and is back at once, at {count(alone.size, 'reading')}"
        )
        words += f" ({where(evidence)}). If they are not real, leave them out."
        found.append(Finding("spike", "warn", name, words, evidence))
    return tuple(found)


def _counted_from(first: int, one: Finding) -> Finding | None:
    """A finding with its rows counted from the first new one on; None where it has none of these."""
    rows = [[max(begin - first, 1), end - first] for begin, end in one.evidence.get("rows", []) if end > first]
    return one._replace(evidence={**one.evidence, "rows": rows}) if rows else None


def _is_data(one: Finding) -> bool:
    return one.kind in DATA_KINDS and one.severity in ("fail", "warn")
