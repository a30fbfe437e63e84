"""What lies beyond: telemetry against operating range and prior, forecasts against what calibration has seen."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress
from bayestwin.calibrate import check_belongs
from bayestwin.check.finding import Finding, Limit, Thresholds, limits_from, ranges_of
from bayestwin.check.signals import Signal, SignalRecord, percentage
from bayestwin.check.values import TEMPERATURES, changes_of
from bayestwin.density.density import Density
from bayestwin.density.predictor import Predictor
from bayestwin.errors import InvalidInput
from bayestwin.inference.starts import blame_state
from bayestwin.model.twin import Twin
from bayestwin.results.support import BEYOND, Supported, knows_what_was_seen, support, support_dataset
from bayestwin.telemetry import Telemetry

ENDS = (0.005, 0.995)
"""Quantiles between which a signal is said to have been."""

FITTING = 0.9
"""Share of values that another unit must bring into the range."""

TINY, WIDE = 0.02, 0.2
"""Values that have visited less of the range than the first, and in another unit more than the second, are in that."""


def ranges(signal: Signal, limit: Limit) -> list[Finding]:
    """Values outside the range; a suggestion where another unit would bring most of them in."""
    outside = np.flatnonzero((signal.values < limit.low) | (signal.values > limit.high))
    if outside.size == 0:
        return []
    there = signal.values[signal.present]
    share = outside.size / there.size
    stated = limit.words(signal.unit)
    extremes = [float(signal.values[outside].min()), float(signal.values[outside].max())]
    shown = (
        signal.amount(extremes[0])
        if extremes[0] == extremes[1]
        else f"{extremes[0]:.4g} to {signal.amount(extremes[1])}"
    )
    words = f"lies outside the twin's operating range of {stated} in {percentage(share)} of its values: {shown}"
    advice = "The twin is not made for that: leave these times out (`drop=`), or do not rely on it there."
    used = _used(there, signal.unit)
    if ((used < limit.low) | (used > limit.high)).sum() > 0.5 * used.size:
        fit = _fitting(used, limit, signal.unit)
        if fit is not None:
            words += f"; {fit.words}, {100 * fit.inside:.0f} % would lie inside"
            advice = f"Is its unit ({signal.unit or 'none'}) right?"
            evidence = {"share": share, "suggestion": fit.words, "inside_then": fit.inside}
            return [signal.finding("unit_scale", "fail", outside, words, advice, **evidence)]
    return [signal.finding("range", "warn", outside, words, advice, share=share, extremes=extremes)]


def rates(signal: Signal, limit: Limit, elapsed: np.ndarray, time_unit: str) -> list[Finding]:
    """Changes faster than allowed, each at the later of its two rows.

    Args:
        signal: What changes.
        limit: How fast it may.
        elapsed: Times of all rows in the twin's unit; shape (n,).
        time_unit: That unit.
    """
    there = signal.present
    if not np.isfinite(limit.max_rate) or there.size < 2:
        return []
    steps = np.diff(elapsed[there])
    rate = np.abs(np.diff(signal.values[there])) / np.where(steps > 0, steps, np.nan)
    fast = np.flatnonzero(rate > limit.max_rate)
    if fast.size == 0:
        return []
    highest = float(rate[fast].max())
    per = f"{signal.unit or '1'} in 1 {time_unit}"
    words = f"changes by up to {highest:.3g} {per}, where the twin's operating range allows {limit.max_rate:.3g}"
    advice = "No asset of this kind moves so fast: look for spikes, resets or wrong times there."
    return [signal.finding("rate", "warn", there[fast + 1], words, advice, highest=highest, max_rate=limit.max_rate)]


def visited(record: SignalRecord, limits: Mapping[str, Limit], thresholds: Thresholds) -> list[Finding]:
    """How little of the stated range the calibrated part has visited."""
    findings = []
    for signal in record.signals:
        limit = limits.get(signal.name, Limit())
        calibrated = _calibrated(signal, record)
        width = limit.high - limit.low
        if not np.isfinite(width) or calibrated.size < 2:
            continue
        low, high = (float(end) for end in np.quantile(calibrated, ENDS))
        share = max(min(high, limit.high) - max(low, limit.low), 0.0) / width
        if share < thresholds.coverage:
            sentence = (
                f"99 % of {signal.called} was calibrated between {signal.amount(low)} and {signal.amount(high)}: "
                f"{100 * share:.2g} % of the operating range of {signal.amount(limit.low)} to "
                f"{signal.amount(limit.high)}."
            )
            evidence = {"share": share, "low": low, "high": high}
            fit = _fitting(_used(calibrated, signal.unit), limit, signal.unit) if 0 < share < TINY else None
            if fit is not None and fit.visited > WIDE:
                sentence += (
                    f" {fit.words[0].upper()}{fit.words[1:]}, it would be {100 * fit.visited:.0f} %: is its unit "
                )
                sentence += f"({signal.unit or 'none'}) right?"
                more = {"suggestion": fit.words, "share_then": fit.visited}
                findings.append(Finding("unit_scale", "warn", signal.name, sentence, evidence | more))
                continue
            sentence += " Elsewhere the equations alone speak."
            findings.append(Finding("coverage", "note", signal.name, sentence, evidence))
    return findings


def extrapolated(record: SignalRecord, thresholds: Thresholds) -> list[Finding]:
    """Held-out values that lie beyond what was calibrated."""
    findings = []
    for signal in record.signals:
        calibrated = _calibrated(signal, record)
        if calibrated.size < 2:
            continue
        low, high = float(calibrated.min()), float(calibrated.max())
        margin = BEYOND * (high - low)
        beyond = (signal.values < low - margin) | (signal.values > high + margin)
        rows = np.flatnonzero(beyond)
        held_out = int(np.isfinite(signal.values[record.calibrated :]).sum())
        if rows.size == 0:
            continue
        share = rows.size / held_out
        words = (
            f"is outside what was calibrated ({signal.amount(low)} to {signal.amount(high)}) in {percentage(share)} of "
            "what is held out"
        )
        advice = "Forecasts extrapolate there: judge them apart."
        severity = "warn" if share > thresholds.outside else "note"
        findings.append(signal.finding("extrapolation", severity, rows, words, advice, share=share))
    return findings


def extrapolation(
    twin: Twin, posterior: xr.DataTree, forecast: xr.DataTree, *, limits: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Say, per time and signal, whether a forecast lies in what calibration has seen.

    Signals are inputs, states by their median path, arrays by the entry that is furthest out, and observations. One is
    beyond where it lies outside its calibrated range by more than a tenth of that, or changes a quarter faster than it
    ever did; a combination of all is where its leverage is twice as large as any that was calibrated. Of several
    experiments all that any has seen counts. Observations are held against the operating range, and lean on the prior
    where more than a third of the variance of a new one comes from directions of the parameters that calibration has
    not narrowed to half of their prior variance: no observation that was calibrated does so in a linear twin.

    Args:
        twin: The twin that was calibrated.
        posterior: As of `bt.calibrate`.
        forecast: As of `bt.predict`.
        limits: The operating range: by observation or input `low`, `high` and `unit`, as of `bt.check`.

    Returns:
        By (experiment and) time and `signal`: `extrapolation`, a code that adds up 1 (level), 2 (rate), 4
        (combination), 8 (operating range) and 16 (prior), 0 where all was seen; `outside` (how far outside the
        calibrated range, as a share of its span), `pace` (the change since the time before, as a multiple of the
        fastest that was calibrated) and `leaning` (the share of the variance). By time: `leverage` (as a multiple of
        the largest) and `new`, whether there is any code. The attribute `sentences` says it in words; it is empty
        where all was seen.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidInput: If a limit makes no sense, or the posterior has no predictive draws.
    """
    return support_dataset(supported(twin, posterior, forecast, limits))


def supported(twin: Twin, posterior: xr.DataTree, forecast: xr.DataTree, limits: Mapping[str, Any] | None) -> Supported:
    """What `extrapolation` finds, by its arguments and with its errors, as plain arrays."""
    check_belongs(twin, posterior)
    if not knows_what_was_seen(posterior):
        raise InvalidInput(
            "Whether a forecast extrapolates cannot be told.",
            expected="the posterior as `calibrate` returned it, with the group `posterior_predictive`",
            received=", ".join(f"`{name}`" for name in posterior.children),
            advice="Pass all of it.",
        )
    stated = {name: one for name, one in (limits or {}).items() if isinstance(one, Limit)}
    stated |= limits_from({name: one for name, one in (limits or {}).items() if name not in stated}, twin)
    return support(twin, posterior, forecast, {name: (limit.low, limit.high) for name, limit in stated.items()})


class _Fit(NamedTuple):
    """Another unit that values may be in: how many then lie in the range, and how much of it they visit."""

    words: str
    inside: float
    visited: float


def _fitting(values: np.ndarray, limit: Limit, unit: str) -> _Fit | None:
    """The unit in which values lie inside the range and visit most of it; the smallest change where it has no width."""
    fits: list[_Fit] = []
    width = limit.high - limit.low
    for words, change in changes_of(unit).items() if values.size else ():
        changed = change(values)
        inside = float(np.mean((changed >= limit.low) & (changed <= limit.high)))
        low, high = np.quantile(changed, ENDS)
        fits.append(_Fit(words, inside, float(high - low) / width))
    good = [fit for fit in fits if fit.inside > FITTING and width > 0]
    return max(good, key=lambda fit: fit.visited, default=None)


def _used(values: np.ndarray, unit: str) -> np.ndarray:
    """Values that say something about their unit: zero is zero in all but those of temperatures."""
    return values if unit in TEMPERATURES else values[values != 0]


def _calibrated(signal: Signal, record: SignalRecord) -> np.ndarray:
    values = signal.values[: record.calibrated]
    return values[np.isfinite(values)]


# The prior against the data: can its draws be solved, does it expect such values, and would it in another unit.

PRIOR_DRAWS = 200

MOST_TIMES = 2000
"""Data are held against the prior at no more times than this, spread evenly."""

INTERVAL = (0.005, 0.995)

HARDLY = 0.1
"""A smaller share inside the prior's interval fails where another unit brings the data in."""

CONVINCING = 0.9
"""The share that another unit has to bring in."""

ALIKE = 0.2
"""Of changes that bring in nearly as many, the smallest is suggested: a larger one always squeezes more in."""

STILL = 0.02
"""Prior predictions whose spread over time is less than this share of the data's hardly move."""


def prior_findings(
    density: Density, seed: int, limits: Thresholds, rows: np.ndarray, shown: Progress, telemetry: Telemetry
) -> list[Finding]:
    """How many prior draws can be solved, and how much of the data the prior predictive reaches.

    Args:
        density: Twin and calibrated telemetry.
        seed: Determines the draws.
        limits: From which share on there is a finding.
        rows: What the rows of the telemetry are counted as; shape (n,).
        shown: Where progress is shown.
        telemetry: What was calibrated, which knows how times and columns are told.
    """
    keys = jax.random.split(key_for(seed, "check"), PRIOR_DRAWS)
    values, _ = density.draw_prior(keys)
    with shown, shown.phase("predictive", "predicting from the prior", PRIOR_DRAWS) as phase:
        found = Predictor(density)(values, key_for(seed, "check predictive"), phase)
    solved = found["solved"]
    num = int(solved.sum())
    share = num / PRIOR_DRAWS
    sentence = f"{num} of {PRIOR_DRAWS} draws from the prior can be solved."
    if num == 0:
        first = {name: float(v[0]) for name, v in values.items()}
        sentence = f"Not one draw from the prior can be solved: {blame_state(density, first)}."
    severity = "fail" if num == 0 else "warn" if share < 0.5 else "note"
    findings = [
        Finding(
            "expected" if severity == "note" else "prior",
            severity,
            "prior",
            sentence,
            {"solved": num, "drawn": PRIOR_DRAWS},
        )
    ]
    if num == 0:
        return findings
    for name, observed in density.bound.observations.items():
        findings.append(_expected(name, density, observed, found[name][solved], limits, rows, telemetry))
        findings += _still(name, density, observed, found[f"{name}_noise_free"][solved])
    return findings


def _expected(
    name: str,
    density: Density,
    observed: np.ndarray,
    drawn: np.ndarray,
    limits: Thresholds,
    rows: np.ndarray,
    telemetry: Telemetry,
) -> Finding:
    there = np.flatnonzero(np.isfinite(observed))
    there = there[:: max(1, there.size // MOST_TIMES)]
    low, high = np.nanquantile(drawn[:, there], INTERVAL, axis=0)
    values = observed[there]

    def share(changed: np.ndarray) -> float:
        return float(np.mean((changed >= low) & (changed <= high)))

    inside = share(values)
    sentence = f"{100 * inside:.0f} % of {telemetry.label(name)} lie inside the prior's 99 % equal-tailed interval."
    if inside >= limits.prior:
        return Finding("expected", "note", name, sentence, {"inside": inside})
    outside = there[(values < low) | (values > high)]
    told = dict(zip(("rows", "num_rows"), (ranges_of(rows[outside], 0)[:100], int(outside.size)), strict=True))
    labels = density.bound.labels
    evidence = {
        "inside": inside,
        **told,
        "times": [telemetry.shown(labels[outside[0]]), telemetry.shown(labels[outside[-1]])],
    }
    unit = density.twin.observations[name].unit
    best = suggested(share, values, unit) if inside < HARDLY else None
    if best is None:
        sentence += " The prior hardly expects such data: check units and priors."
        return Finding("prior", "warn", name, sentence, evidence)
    return wrong_unit(name, sentence, evidence, best, unit)


def wrong_unit(name: str, sentence: str, evidence: Mapping[str, Any], best: tuple[str, float], unit: str) -> Finding:
    """The finding that values would fit in another unit.

    Args:
        name: Of the observation.
        sentence: How few fit as they are.
        evidence: Of that.
        best: What `suggested` found.
        unit: That of the observation.
    """
    words, reached = best
    sentence += f" {words[0].upper()}{words[1:]}, {100 * reached:.0f} % would: is the unit ({unit or 'none'}) right?"
    more = {"suggestion": words, "inside_then": reached}
    return Finding("unit_scale", "fail", name, sentence, {**evidence, **more})


def _still(name: str, density: Density, observed: np.ndarray, drawn: np.ndarray) -> list[Finding]:
    """Predictions that stay where they begin while the data move: time runs too slowly in the twin."""
    there = np.isfinite(observed)
    spread = float(observed[there].std()) if there.any() else 0.0
    moved = float(np.median(drawn[:, there].std(axis=1))) / spread if spread > 0 else np.inf
    if moved >= STILL:
        return []
    sentence = (
        f"From the prior `{name}` hardly moves: in half of the draws by {100 * moved:.2g} % of what the data do. "
        f"Is `time_unit` ({density.twin.time_unit}) right, and the units of the parameters?"
    )
    return [Finding("prior", "warn", name, sentence, {"moved": moved})]


def suggested(share: Callable[[np.ndarray], float], values: np.ndarray, unit: str) -> tuple[str, float] | None:
    """The smallest change of unit of those that bring most values in, and the share that it brings in."""
    changes = changes_of(unit)
    shares = {words: share(change(values)) for words, change in changes.items()}
    highest = max(shares.values())
    if highest < CONVINCING:
        return None
    words = next(words for words in changes if shares[words] >= highest - ALIKE)
    return words, shares[words]
