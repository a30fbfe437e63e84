"""The values of a sensor: missing, stuck, codes for missing, piled up at the ends, too coarse, in another unit."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from bayestwin.check.finding import Finding, Thresholds
from bayestwin.check.signals import Signal, SignalRecord, is_switched, lasting, percentage, runs_of, usual_step
from bayestwin.check.times import local_steps, long_steps
from bayestwin.telemetry import said

RATIO = 4.0
"""Values that are missing so many times as often in one regime as in the other go with it."""

SURE = 4.0
"""Standard errors by which a share must differ from that of chance."""


def missing(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Missing values and blocks of them, as far as rows are there; a sensor that reports more rarely has no block."""
    there = signal.present
    if there.size < 2:
        return []
    gone = ~np.isfinite(signal.values)
    if not gone.any():
        return []
    share = float(np.mean(gone))
    own = signal.clock[there]
    long = long_steps(own, limits.gap)
    blocks = [np.arange(int(there[at]) + 1, int(there[at + 1])) for at in long if there[at + 1] > there[at] + 1]
    blocks += _ends(signal, there, limits.gap)
    evidence = {"share": share, "usual": lasting(signal, usual_step(own))}
    if blocks:
        longest = max(blocks, key=len)
        before, after = max(longest[0] - 1, 0), min(longest[-1] + 1, len(signal.clock) - 1)
        gap = lasting(signal, float(signal.clock[after] - signal.clock[before]))
        start, end = (said(signal.times[row], signal.zone) for row in (before, after))
        words = (
            f"has {len(blocks)} long gap{'s' if len(blocks) > 1 else ''}, the longest of {gap}, from {start} to {end} "
            f"(usual step {evidence['usual']}); {percentage(share)} of its values are missing"
        )
        evidence |= {"gap": gap, "start": start, "end": end}
        advice = "The posterior rests on the rest; look whether what is missing is what mattered."
        return [signal.finding("gap", "warn", np.concatenate(blocks), words, advice, **evidence)]
    sparse = there.size > 2 and bool(np.ptp(np.diff(there)) == 0)  # it reports every so many rows
    severity = "warn" if share > limits.missing and not sparse else "note"
    words = f"misses {percentage(share)} of its values"
    return [signal.finding("missing", severity, np.flatnonzero(gone), words, **evidence)]


def _ends(signal: Signal, there: np.ndarray, factor: float) -> list[np.ndarray]:
    """Rows before the first value and after the last one, where these are many usual steps."""
    local = local_steps(signal.clock[there])
    # rows may lie further apart there than where there were values
    first, last = local_steps(signal.clock[: there[0] + 2]), local_steps(signal.clock[there[-1] - 1 :])
    usual = [max(local[0], first[0]), max(local[-1], last[-1])]
    ends = [np.arange(there[0]), np.arange(there[-1] + 1, len(signal.values))]
    spans = [signal.clock[there[0]] - signal.clock[0], signal.clock[-1] - signal.clock[there[-1]]]
    return [rows for rows, span, step in zip(ends, spans, usual, strict=True) if rows.size and span > factor * step]


def missing_by_regime(record: SignalRecord) -> list[Finding]:
    """Values of a sensor that are missing mostly where another column is low or high, or at one time of day."""
    findings = []
    for signal in record.signals:
        gone = ~np.isfinite(signal.values)
        stretches = runs_of(gone)
        if len(stretches) < 8 or gone.all():
            continue
        regimes = {other.called: other.values for other in record.signals if other.name != signal.name}
        if isinstance(record.times, pd.DatetimeIndex):
            regimes["the hour of the day (UTC)"] = np.asarray(record.times.hour, dtype=np.float64)
        for name, values in regimes.items():
            if side := _side(stretches, values):
                words = f"is missing mostly where {name} is {side}"
                advice = "What is left does not represent that regime: ask why values are missing there."
                findings.append(signal.finding("missing_regime", "warn", np.flatnonzero(gone), words, advice, by=name))
                break
    return findings


def _side(stretches: np.ndarray, values: np.ndarray) -> str:
    """Where missing stretches begin: "high" or "low" if mostly above or below the median of these values, else nothing.

    A stretch counts as one, by a binomial test with its normal approximation.
    """
    known = np.isfinite(values)
    starts = stretches[:, 0][known[stretches[:, 0]]]
    if starts.size < 8:
        return ""
    middle = np.median(values[known])
    share = float(np.mean(values[known] > middle))
    high = float(np.mean(values[starts] > middle))
    error = np.sqrt(share * (1 - share) / starts.size)
    if error == 0 or abs(high - share) < SURE * error:
        return ""
    odds = (high / share, (1 - high) / (1 - share))
    if max(odds) < RATIO * min(odds):
        return ""
    return "high" if odds[0] > odds[1] else "low"


# Sensors that do not change: never, or for so long at once as their own habits make improbable.

IMPROBABLE = 1e-6
"""A run is improbable if by chance fewer than so many of its length were expected in the whole record."""

HABIT = 3.0
"""A run is a habit if others are longer than it over this: a signal that rests now and then is not stuck."""


def constant(signal: Signal) -> list[Finding]:
    """All values are the same."""
    values = signal.values[signal.present]
    if values.size < 2 or values.min() != values.max():
        return []
    value = float(values[0])
    advice = "Check the sensor" if signal.role == "observation" else "Where it is measured, check the sensor"
    found = f"never changes: all {values.size:,} values are {signal.amount(value)}"
    sentence = f"{signal.called} {found}. {advice}; a constant says next to nothing about the dynamics."
    # an input that nobody changes is a matter of the experiment
    severity = "warn" if signal.role == "observation" else "note"
    return [Finding("constant", severity, signal.name, sentence, {"value": value, "values": int(values.size)})]


def stuck(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Runs of equal values that the rest of the record makes improbable.

    With a share `p` of values elsewhere that repeat the one before, `n (1 − p) p^(L − 1)` runs of L values or more are
    expected by chance in n. A run also has to be three times as long as the third longest of the other ones, since a
    signal that comes to rest repeats itself without being stuck; and an input may rest at its ends, or at 0.
    """
    there = signal.present
    values = signal.values[there]
    if values.size < max(2 * limits.stuck, 20) or values.min() == values.max():
        return []
    if signal.role == "input" and is_switched(signal):
        return []  # it is held on purpose
    starts = np.r_[0, np.flatnonzero(np.diff(values) != 0) + 1]
    lengths = np.diff(np.r_[starts, values.size])
    rests = {0.0, float(values.min()), float(values.max())}
    found = []
    for run in np.argsort(lengths, kind="stable")[::-1][:5]:
        length, value = int(lengths[run]), float(values[starts[run]])
        others = np.delete(lengths, run)
        if length < limits.stuck or not _improbable(length, others, values.size):
            break
        if signal.role == "input" and value in rests:
            continue
        found.append(there[starts[run] : starts[run] + length])
    if not found:
        return []
    rows = np.concatenate(found)
    longest = max(found, key=len)
    value = float(signal.values[longest[0]])
    words = (
        f"does not move from {signal.amount(value)} for {len(longest)} values in a row, while it repeats only "
        f"{percentage(_repeats(np.delete(lengths, np.argmax(lengths))))} of its values elsewhere"
    )
    advice = (
        f"If the sensor or its transmission was stuck, leave these values out when reading: `{_drop(signal, found)}`."
    )
    evidence = {"value": value, "longest": len(longest), "runs": len(found)}
    return [signal.finding("stuck", "warn", np.sort(rows), words, advice, **evidence)]


def _drop(signal: Signal, found: list[np.ndarray]) -> str:
    """The argument that drops stretches of rows, the first three of them."""
    stretches = sorted(found, key=lambda rows: rows[0])[:3]
    ends = [[signal.times[int(row)] for row in (rows[0], rows[-1])] for rows in stretches]
    dated = isinstance(signal.times, pd.DatetimeIndex)
    shown = [[said(end, signal.zone) if dated else float(end) for end in pair] for pair in ends]
    return f"drop={[{'column': signal.name, 'start': start, 'end': end} for start, end in shown]}"


def _repeats(lengths: np.ndarray) -> float:
    """Share of values that repeat the one before, from lengths of runs; never quite 0, as it is not known so well."""
    return float((lengths - 1).sum() + 1) / float(lengths.sum() + 2)


def _improbable(length: int, others: np.ndarray, num: int) -> bool:
    # up to four more runs may be stuck as well
    habits = np.sort(others)[::-1][min(4, others.size - 1) :]
    if others.size < 5 or habits[0] * HABIT >= length:
        return False
    share = _repeats(habits)
    return num * (1 - share) * share ** (length - 1) < IMPROBABLE


# Numbers that mean “missing” and that nobody declared: they lie apart from all others, and come again.

CODES = (-1.0, -127.0, 85.0, 99.0, 127.0, 255.0, 850.0, 999.0, 9999.0, 32767.0, -32768.0, 65535.0, 99999.0, 1e6)
"""What sensors, buses and loggers show when they have nothing to show, beside what reading refuses already."""

MOST = 0.5
"""A larger share of one value is no sentinel."""

RARE = 0.05
"""Likewise of an input."""


def sentinels(signal: Signal) -> list[Finding]:
    """Values further from all others than these are from each other, that come more than once or are usual codes."""
    there = signal.present
    values = signal.values[there]
    if values.size < 20:
        return []
    taken: list[float] = []
    left = values
    for _ in range(3):
        found = _apart(left, signal)
        if found is None:
            break
        taken.append(found)
        left = left[left != found]
    if not taken:
        return []
    rows = np.flatnonzero(np.isin(signal.values, taken))
    shown = " and ".join(signal.amount(value) for value in taken)
    low, high = (signal.amount(float(end)) for end in (left.min(), left.max()))
    words = f"holds {shown} in {rows.size} rows, far from all other values ({low} to {high})"
    advice = f"If it means “missing”, read with `sentinels=({', '.join(f'{value:g}' for value in taken)},)`."
    return [signal.finding("sentinel", "fail", rows, words, advice, values=taken)]


def _apart(values: np.ndarray, signal: Signal) -> float | None:
    """The value at one end that lies apart from all others; None where there is none."""
    levels, counts = np.unique(values, return_counts=True)
    if levels.size < 6:
        return None
    for end, inner, outer in ((0, 1, -1), (-1, -2, 0)):
        gap = abs(levels[inner] - levels[end])
        rest = abs(levels[outer] - levels[inner])
        repeated = counts[end] > 1 and counts[end] <= MOST * signal.present.size
        coded = levels[end] in CODES
        if signal.role == "input":  # it may be driven at one level for long
            repeated = repeated and counts[end] <= RARE * signal.present.size and gap > 3 * rest
        # one value twice may be chance where values are coarse; far from all others it is none
        if signal.role == "input" and levels[end] == 0.0:
            continue  # it is off
        if gap > rest > 0 and (repeated or coded):
            return float(levels[end])
    return None


# The values that a sensor can show: pile-up at its ends (saturation), and steps between values (quantisation).

PILE = 5.0
"""The end has so many times as many values as the levels next to it."""

NEXT_LEVELS = 5

JUMP = 5.0
"""Steps into and out of the end are at most so many usual ones."""

FINEST = 12
"""Decimals beyond which digits are taken for rounding of the computer's own."""


def saturation(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Values that pile up exactly at the highest or the lowest one, in stretches."""
    there = signal.present
    values = signal.values[there]
    if signal.role == "input" or values.size < 30:
        return []
    levels, counts = np.unique(values, return_counts=True)
    if levels.size < 6:
        return []
    findings = []
    for end, step, word in ((0, 1, "lowest"), (-1, -1, "highest")):
        value, num = float(levels[end]), int(counts[end])
        beside = counts[1 : NEXT_LEVELS + 1] if step == 1 else counts[-NEXT_LEVELS - 1 : -1]
        if value == 0.0 and end == 0:
            continue  # many quantities end at 0
        if num < max(5, limits.saturation * values.size) or num < PILE * beside.mean():
            continue
        at_end = signal.values == value
        longest = int(np.max(np.diff(runs_of(at_end), axis=1)) + 1)
        if longest < 3 or _jumps_there(signal, at_end):
            continue
        words = f"has {num} values exactly at its {word}, {signal.amount(value)}, up to {longest} in a row"
        advice = "If the sensor cannot show more, say so by `bt.Censored` around its noise."
        findings.append(
            signal.finding("saturation", "warn", np.flatnonzero(at_end), words, advice, value=value, longest=longest)
        )
    return findings


def _jumps_there(signal: Signal, at_end: np.ndarray) -> bool:
    """Whether values jump to their end rather than run into it: what is cut off lies next to what is left."""
    there = signal.present
    values, ends = signal.values[there], at_end[there]
    steps = np.abs(np.diff(values))
    edge = ends[1:] != ends[:-1]
    # a fine sensor that is read often shows most values twice
    moves = steps[~ends[1:] & ~ends[:-1] & (steps > 0)]
    return bool(moves.size and np.median(steps[edge]) > JUMP * np.median(moves))


def quantisation(signal: Signal, limits: Thresholds) -> list[Finding]:
    """Few different values over the whole range, or a stretch in which values are coarser than elsewhere."""
    there = signal.present
    values = signal.values[there]
    if signal.role == "input" or values.size < 40 or signal.span == 0:
        return []
    levels = np.unique(values)
    step = float(np.median(np.diff(levels)))
    counts = bool(np.all(values == np.round(values))) and not signal.unit.startswith("deg") and step == 1.0
    if levels.size < limits.levels and not counts:
        words = (
            f"shows only {levels.size} different values between {signal.amount(float(levels[0]))} and "
            f"{signal.amount(float(levels[-1]))}, in steps of about {signal.amount(step)}"
        )
        advice = "Rounding is then not noise: put `bt.Rounded` around it, or read a finer column."
        evidence = {"levels": int(levels.size), "step": step}
        return [signal.finding("quantisation", "warn", there, words, advice, **evidence)]
    return _coarser(signal, limits)


def _coarser(signal: Signal, limits: Thresholds) -> list[Finding]:
    """The longest stretch of values with fewer decimals than elsewhere, if that is no chance: `n r^L < 10⁻⁹`."""
    there = signal.present
    values = signal.values[there]
    decimals = _decimals(values)
    with np.errstate(divide="ignore"):
        sizes = np.floor(np.log10(np.abs(values)))
    digits = decimals + np.where(np.isfinite(sizes), sizes, 0.0)
    for finer in range(int(decimals.max()), int(decimals.min()), -1):
        coarse = decimals < finer
        share = float(np.mean(coarse))
        stretches = runs_of(coarse)
        if stretches.size == 0 or share == 1.0:
            continue
        lengths = np.diff(stretches, axis=1)[:, 0] + 1
        at = int(lengths.argmax())
        length = int(lengths[at])
        outside = coarse.sum() - length
        elsewhere = float(outside + 1) / float(values.size - length + 2)
        enough = length >= max(3 * limits.stuck, 20) and values.size - length >= 20
        if not enough or elsewhere > 0.3 or values.size * elsewhere**length >= 1e-9:
            continue
        rows = there[stretches[at, 0] : stretches[at, 1] + 1]
        if np.unique(signal.values[rows]).size < 3:
            continue  # it is stuck or at rest, which is another finding
        beyond = np.ones(values.size, dtype=bool)
        beyond[stretches[at, 0] : stretches[at, 1] + 1] = False
        if np.median(digits[~beyond]) >= np.median(digits[beyond]):
            continue  # larger values with as many digits
        word = "decimal" if finer == 1 else "decimals"
        words = f"has values of fewer than {finer} {word} for {length} values in a row, and mostly more elsewhere"
        advice = "Its resolution changed: the noise model cannot be the same on both sides."
        return [signal.finding("quantisation", "warn", rows, words, advice, decimals=finer)]
    return []


def _decimals(values: np.ndarray) -> np.ndarray:
    """How many decimals each value needs, up to `FINEST`; negative where it is a multiple of ten; shape (n,)."""
    size = np.abs(values).max()
    digits = int(np.floor(np.log10(size))) if size > 0 else 0
    # as many significant digits as a double is sure to keep
    most = min(FINEST, FINEST - 1 - digits)
    found = np.full(values.shape, most)
    for decimals in range(most - 1, -digits - 2, -1):
        scaled = values * 10.0**decimals
        found = np.where(
            np.abs(scaled - np.round(scaled)) < 1e-6 * np.maximum(1.0, np.abs(scaled) * 1e-6), decimals, found
        )
    return found


# Units that are taken for each other: what turns values in one into values in the other, in words.

TEMPERATURES = ("degC", "degF", "K")

_SIZES = {"3.6": 3.6, "60": 60.0, "100": 1e2, "1000": 1e3, "3600": 3.6e3, "60000": 6e4, "10⁶": 1e6}

FACTORS: Mapping[str, float] = {
    words: factor
    for size, value in _SIZES.items()
    for words, factor in ((f"divided by {size}", 1 / value), (f"times {size}", value))
}
"""By size: km/h and m/s, h and min, a share and a percentage, kW and W, h and s, L/min and m³/s, MW and W."""

OFFSETS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "taken as °F": lambda values: (values - 32.0) / 1.8,
    "taken as K": lambda values: values - 273.15,
    "taken as °C where °F is meant": lambda values: values * 1.8 + 32.0,
    "taken as °C where K is meant": lambda values: values + 273.15,
}
"""Only for temperatures."""


def changes_of(unit: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What values in a unit may have to go through, by what it is called; the smallest changes first."""
    temperature = unit in TEMPERATURES
    changes = dict(OFFSETS) if temperature else {}
    for words, factor in FACTORS.items():
        if not temperature or np.log10(factor) % 1 == 0:
            changes[words] = functools.partial(np.multiply, factor)
    return changes
