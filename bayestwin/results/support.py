"""Whether a forecast lies in what calibration has seen, and whether it leans on what only the priors say.

Combinations are judged by their leverage, the distance from the mean of what was calibrated in units of its covariance:
R. D. Cook (1979), doi:10.1080/01621459.1979.10481634. Parts of the calibration set what is usual.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.wording import number, percent
from bayestwin.density.bind import elapsed
from bayestwin.density.predictor import spread_over
from bayestwin.model.twin import Twin
from bayestwin.results.leaning import LEANING, PriorScores, array_of, leaning_of
from bayestwin.telemetry import said

BEYOND = 0.1
"""Values may lie outside what was calibrated by this share of its span."""

FASTER = 1.25
"""Times the fastest change that was calibrated, beyond which one is new."""

APART = 0.05
"""Share of its span by which each signal may be elsewhere without that being another combination."""

MORE_LEVERAGE = 2.0
"""Times the largest leverage that was calibrated, beyond which a combination is new."""

LEVEL, RATE, COMBINATION, OPERATING_RANGE, PRIOR = (2**bit for bit in range(5))
CODES = {"level": LEVEL, "rate": RATE, "combination": COMBINATION, "operating_range": OPERATING_RANGE, "prior": PRIOR}
"""What a code adds up, by its meaning."""

MARKS, OF, WORDS = "extrapolation", "extrapolation_of", "beyond"
"""The coordinate of predictions that has the codes, its dimension of signals, and the attribute with the words."""

FEWEST, WORK, MOST_ENTRIES = 50, 2_000_000, 64
"""Medians are of all draws, or of so many that this many numbers are looked at; of an array so many entries are."""

MOST_SCORES = 8
"""Of how many sets of draws it is kept where they stand in the prior."""

MOST_NAMED = 3
"""Experiments, or parameters, that a sentence names."""


class SupportSignals(NamedTuple):
    """What is looked at: S signals, whose values are k columns, more than one for a state that is an array.

    Attributes:
        names: Inputs, states, and observations that are not a state; ` (state)` follows where a name is there twice.
        kinds: `"input"`, `"state"` or `"observation"`.
        units: Of each.
        steps: Whether each column is held between samples, so that its changes are jumps; shape (k,).
        owner: The signal of each column; shape (k,).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    steps: np.ndarray
    owner: np.ndarray

    def most(self, columns: np.ndarray) -> np.ndarray:
        """The largest of the columns of each signal, 0 without any; shape (…, k) → (…, S)."""
        found = np.zeros((*columns.shape[:-1], len(self.names)))
        for place, signal in enumerate(self.owner):
            found[..., signal] = np.fmax(found[..., signal], columns[..., place])
        return found


class Course(NamedTuple):
    """Inputs and states of one experiment over its own n times.

    Attributes:
        rows: Their places among the times of the result; shape (n,).
        times: Elapsed, in the twin's unit; shape (n,).
        values: Of states the median over draws; shape (n, k).
        together: What combinations are made of: of an array its mean and its extremes; shape (n, f).
    """

    rows: np.ndarray
    times: np.ndarray
    values: np.ndarray
    together: np.ndarray


class Supported(NamedTuple):
    """How a forecast lies to what calibration has seen; arrays over E experiments, one without them, and n times.

    Attributes:
        watched: What was looked at.
        names: Of the experiments; none where there is one telemetry.
        coords: Of the result, by dimension.
        own: Which times are those of each experiment; shape (E, n).
        values: Inputs and states; shape (E, n, k).
        outside: How far outside the calibrated range, per span of it; shape (E, n, k).
        changes: Since the time before; shape (E, n, k).
        pace: The same, per fastest one that was calibrated; shape (E, n, k).
        leverage: Per largest one that was calibrated; shape (E, n).
        limited: Whether outside the operating range; shape (E, n, S).
        leaning: Share of the variance of a new observation; shape (E, n, S).
        blame: By signal that leans, whose share that is in each experiment.
        ends: Calibrated ends, lower and upper, and the fastest changes; shape (3, k).
        time_unit: That of the twin.
    """

    watched: SupportSignals
    names: tuple[str, ...]
    coords: Mapping[str, Any]
    own: np.ndarray
    values: np.ndarray
    outside: np.ndarray
    changes: np.ndarray
    pace: np.ndarray
    leverage: np.ndarray
    limited: np.ndarray
    leaning: np.ndarray
    blame: Mapping[int, list[Mapping[str, float]]]
    ends: np.ndarray
    time_unit: str

    @property
    def codes(self) -> np.ndarray:
        """What lies beyond, added up as `CODES` says; shape (E, n, S)."""
        outside, pace = self.watched.most(self.outside), self.watched.most(self.pace)
        found = LEVEL * (outside > BEYOND) + RATE * (pace > FASTER)
        moving = np.array([kind != "observation" for kind in self.watched.kinds])
        found += COMBINATION * ((self.leverage > MORE_LEVERAGE)[..., None] & moving)
        return (found + OPERATING_RANGE * self.limited + PRIOR * (self.leaning > LEANING)).astype(np.uint8)

    def over(self, array: np.ndarray) -> np.ndarray:
        """An array over experiments and times as the result has it."""
        return array if self.names else array[0]


ABOUT = {
    "long_name": "what of it lies beyond what was calibrated: the sum of the masks, 0 for nothing",
    "units": "1",
    "flag_masks": list(CODES.values()),
    "flag_meanings": " ".join(CODES),
}
"""Attributes of codes, as the CF conventions have them."""


def knows_what_was_seen(posterior: xr.DataTree) -> bool:
    """Whether a posterior, or the part of it that was picked, has predictive draws, which tell what calibration saw."""
    return "posterior_predictive" in posterior.children and posterior["posterior_predictive"].sizes.get("draw", 0) > 0


@dataclasses.dataclass(frozen=True, eq=False)
class SeenBefore:
    """What calibration has seen, found out once for all forecasts that are held against it.

    Attributes:
        posterior: As of `calibrate`, with the group `posterior_predictive`.
        watched: What is looked at.
        known: Inputs and states of the calibration, by experiment.
        low: The calibrated ends, shape (k,), as those that follow.
        high: Likewise.
        least: Spans, which are never 0.
        fastest: The fastest changes.
        together: Combinations.
        scores: Where draws stand in the prior, by the draws of a forecast: those of the last few.
    """

    posterior: xr.DataTree
    watched: SupportSignals
    known: Mapping[str, Course]
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    fastest: np.ndarray
    together: "Combinations"
    scores: dict[tuple[bool, bytes], PriorScores] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, twin: Twin, posterior: xr.DataTree, paths: Mapping[str, np.ndarray]) -> "SeenBefore":
        """Of a calibration, whose states have these median paths."""
        watched = _watched(twin, paths)
        known = _courses(twin, posterior, "posterior_predictive", "constant_data", paths)
        past = np.concatenate([course.values for course in known.values()])
        low, high = np.nanmin(past, axis=0), np.nanmax(past, axis=0)
        least = np.maximum(high - low, 1e-9 * np.maximum(np.abs(low), np.abs(high)) + np.finfo(float).tiny)
        changes = [_changes(course, None, watched.steps) for course in known.values()]
        fastest = np.nanmax(np.concatenate(changes), axis=0, initial=0.0)
        together = Combinations.of(np.concatenate([course.together for course in known.values()]))
        return cls(posterior, watched, known, low, high, least, fastest, together)

    def scores_of(self, ahead: Any, *, anew: bool) -> PriorScores:
        """Where the draws of a forecast stand in the prior."""
        key = (anew, ahead.variables["draw"].to_numpy().tobytes())
        if key not in self.scores:
            if len(self.scores) >= MOST_SCORES:
                self.scores.clear()
            self.scores[key] = PriorScores.of(self.posterior, ahead, anew=anew)
        return self.scores[key]


def look(twin: Twin, posterior: xr.DataTree) -> SeenBefore:
    """What a calibration has seen, for many forecasts of twins whose states are scalars."""
    return SeenBefore.of(twin, posterior, _paths(twin, posterior["posterior_predictive"].dataset)[0])


def support(
    twin: Twin,
    posterior: xr.DataTree,
    forecast: Any,
    limits: Mapping[str, tuple[float, float]],
    seen: SeenBefore | None = None,
) -> Supported:
    """How a forecast lies to what calibration has seen: see `extrapolation`.

    Args:
        twin: The twin that was calibrated.
        posterior: As of `calibrate`, with the group `posterior_predictive`.
        forecast: As of `predict`.
        limits: The operating range: by observation or input its lowest and highest value, in the twin's unit.
        seen: What the calibration has seen, where that is known already.
    """
    ahead = forecast["predictions"].dataset
    if seen is None:
        *before, paths = _paths(twin, posterior["posterior_predictive"].dataset, ahead)
        seen = SeenBefore.of(twin, posterior, before[0])
    else:
        (paths,) = _paths(twin, ahead)
    watched, known, low, high = seen.watched, seen.known, seen.low, seen.high
    planned = _courses(twin, forecast, "predictions", "predictions_constant_data", paths)
    anew = "starts_anew" in forecast.attrs
    shape = (len(planned), ahead.sizes["time"])
    values, outside, changed = (np.full((*shape, len(watched.owner)), empty) for empty in (np.nan, 0.0, 0.0))
    leaning, leverage, own = np.zeros((*shape, len(watched.names))), np.zeros(shape), np.zeros(shape, bool)
    limited, blame = _limited(watched, limits, forecast, paths), {}
    scores = seen.scores_of(ahead, anew=anew)
    for place, (name, course) in enumerate(planned.items()):
        rows = (place, course.rows)
        own[rows], values[rows] = True, course.values
        outside[rows] = np.fmax(np.fmax(low - course.values, course.values - high), 0.0) / seen.least
        changed[rows] = np.nan_to_num(_changes(course, None if anew else known.get(name), watched.steps))
        leverage[rows] = seen.together.leverage(course.together)
        for signal, one in leaning_of(watched.names, scores, ahead, name, rows).items():
            leaning[place, course.rows, signal] = one.share
            blame.setdefault(signal, []).append(one.blame)
    several = "experiment" in ahead.dims
    return Supported(
        watched,
        tuple(planned) if several else (),
        {dim: ahead.coords[dim] for dim in (("experiment", "time") if several else ("time",))},
        own,
        values,
        outside,
        changed,
        changed / np.maximum(seen.fastest, 1e-9 * seen.least),
        leverage,
        limited & own[..., None],
        leaning,
        blame,
        np.stack([low, high, seen.fastest]),
        twin.time_unit,
    )


def mark(forecast: xr.DataTree, found: Supported) -> xr.DataTree:
    """Give the predictions of a forecast, in place, the coordinate `extrapolation`, and words about it: see `predict`.

    It is a coordinate, since what goes through the variables of predictions takes each to have draws.
    """
    words = support_words(found)
    others = {key: value for key, value in forecast.attrs.items() if key != WORDS}
    forecast.attrs = others | ({WORDS: words} if words else {})
    node = forecast["predictions"]
    codes = ((*found.coords, OF), found.over(found.codes), ABOUT)
    node.dataset = node.to_dataset().assign_coords({OF: list(found.watched.names), MARKS: codes})
    return forecast


def code_words(code: int) -> str:
    """What a code adds up, in the words of `CODES`."""
    return " ".join(word for word, mask in CODES.items() if code & mask)


def support_dataset(found: Supported) -> xr.Dataset:
    """The result of `extrapolation`."""
    over, watched, codes = tuple(found.coords), found.watched, found.codes
    words = {
        "outside": (watched.most(found.outside), "outside the calibrated range, per span of it"),
        "pace": (watched.most(found.pace), "change per fastest change that was calibrated"),
        "leaning": (found.leaning, "share of the variance of a new observation that only priors tell"),
    }
    data: dict[str, Any] = {
        name: ((*over, "signal"), found.over(values), {"long_name": told, "units": "1"})
        for name, (values, told) in words.items()
    }
    told = {"long_name": "leverage per largest one that was calibrated", "units": "1"}
    data["leverage"] = (over, found.over(found.leverage), told)
    data[MARKS] = ((*over, "signal"), found.over(codes), ABOUT)
    new = found.over((codes > 0).any(axis=-1))
    data["new"] = (over, new, {"long_name": "whether anything is beyond what was seen"})
    coords = {**found.coords, "signal": list(watched.names)}
    coords |= {"kind": ("signal", list(watched.kinds)), "unit": ("signal", list(watched.units))}
    return xr.Dataset(data, coords=coords, attrs={"sentences": support_words(found)})


# What was calibrated, and what is planned, as plain arrays.


def _paths(twin: Twin, *both: Any) -> list[dict[str, np.ndarray]]:
    """Median paths of the states of a calibration and a forecast, of arrays the same entries; shape (E, n, entries)."""
    found: list[dict[str, np.ndarray]] = [{} for _ in both]
    for name, state in twin.states.items():
        variable = f"{name}_state"
        if name in twin.integrals or any(variable not in one.variables for one in both):
            continue
        inner = [*state.axes(name)]
        # each result keeps as many entries as there is room for
        labels = {dim: [one.variables[dim].to_numpy() for one in both] for dim in inner}
        common = {dim: np.intersect1d(*pair) for dim, pair in labels.items()}
        for place, (own, dataset) in enumerate(zip(found, both, strict=True)):
            middle = _median(array_of(dataset, variable, "chain", "draw", "experiment", "time", *inner))
            for axis, dim in enumerate(inner, 2):
                middle = middle.compress(np.isin(labels[dim][place], common[dim]), axis=axis)
            middle = middle.reshape(*middle.shape[:2], -1)
            own[name] = middle[..., spread_over(middle.shape[-1], MOST_ENTRIES)]
    return found


def _median(drawn: np.ndarray) -> np.ndarray:
    """The median over chains and draws, or over some of them where there are very many numbers."""
    draws = drawn.reshape(-1, *drawn.shape[2:])
    kept = draws[spread_over(len(draws), max(FEWEST, WORK // max(draws[0].size, 1)))]
    # draws side by side are parted several times as fast as NumPy finds a median
    across = np.ascontiguousarray(np.moveaxis(kept, 0, -1))
    if np.isnan(across).any():
        with warnings.catch_warnings():  # where all draws have failed
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmedian(across, axis=-1)
    half = across.shape[-1] // 2
    across.partition(half, axis=-1)
    upper = across[..., half]
    return upper if across.shape[-1] % 2 else (across[..., :half].max(axis=-1) + upper) / 2.0


def _watched(twin: Twin, paths: Mapping[str, np.ndarray]) -> SupportSignals:
    """What is looked at, in the order of inputs, states and observations."""
    own = [name for name, one in twin.observations.items() if not (one.of is None and name in paths)]
    steps = [spec.hold == "previous" for spec in twin.inputs.values()]
    owner = list(range(len(twin.inputs)))
    for signal, path in enumerate(paths.values(), len(twin.inputs)):
        owner += [signal] * path.shape[-1]
        steps += [False] * path.shape[-1]
    states = [f"{name} (state)" if name in twin.inputs or name in own else name for name in paths]
    kinds = ("input",) * len(twin.inputs) + ("state",) * len(paths) + ("observation",) * len(own)
    units = [spec.unit for spec in twin.inputs.values()] + [twin.states[name].unit for name in paths]
    units += [twin.observations[name].unit for name in own]
    names = (*twin.inputs, *states, *own)
    return SupportSignals(names, kinds, tuple(units), np.array(steps, bool), np.array(owner, int))


def _courses(
    twin: Twin, tree: xr.DataTree, drawn: str, given: str, paths: Mapping[str, np.ndarray]
) -> dict[str, Course]:
    """Inputs and states by experiment; without a name where there is one telemetry."""
    dataset, attrs = tree[drawn].dataset, tree.attrs
    several = "experiment" in dataset.dims
    labels = dataset.variables["time"].to_numpy()
    if "experiment" in dataset.coords:
        times = labels.astype(float)
    else:
        origin = pd.Timestamp(attrs["t0"]) if np.issubdtype(labels.dtype, np.datetime64) else float(attrs["t0"])
        unit = attrs["telemetry_time_unit"] or twin.time_unit
        times = elapsed(pd.Index(labels), origin, unit, twin.time_unit)
    names = list(map(str, dataset.variables["experiment"].to_numpy())) if several else [""]
    parts = list(paths.values())
    if twin.inputs:
        signals = tree[given].dataset  # has more times where a posterior is led further without being calibrated anew
        rows = slice(None)
        if signals.sizes["time"] != len(labels):
            rows = pd.Index(signals.variables["time"].to_numpy()).get_indexer(pd.Index(labels))
        parts = [
            array_of(signals, name, "experiment", "time")[:, rows, None].astype(float) for name in twin.inputs
        ] + parts
    extremes = [
        part if part.shape[-1] == 1 else np.stack([part.mean(-1), part.min(-1), part.max(-1)], axis=-1)
        for part in parts
    ]
    values, together = np.concatenate(parts, axis=-1), np.concatenate(extremes, axis=-1)
    found = {}
    for place, name in enumerate(names):
        rows = np.flatnonzero(np.isfinite(values[place]).any(axis=1)) if several else np.arange(len(labels))
        found[name] = Course(rows, times[rows], values[place, rows], together[place, rows])
    return found


# How far, how fast, how together.


def _changes(course: Course, before: Course | None, steps: np.ndarray) -> np.ndarray:
    """How fast each column has changed since the time before, jumps by their size; shape (n, k), NaN where unknown.

    Args:
        course: What changes.
        before: What went before; its last inputs count where its last time is earlier.
        steps: Whether each column is held between samples.
    """
    times, values = course.times, course.values
    first = np.full((1, values.shape[1]), np.nan)
    start = times[:1] - 1.0
    if before is not None and len(times) and len(before.times) and before.times[-1] < times[0]:
        start, first = before.times[-1:], before.values[-1:]
    moved = np.abs(np.diff(np.concatenate([first, values]), axis=0))
    lasting = np.diff(np.concatenate([start, times]))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = moved / np.where(lasting > 0.0, lasting, np.nan)[:, None]
    return np.where(steps[None], moved, rates)


class Combinations(NamedTuple):
    """How what was calibrated went together: the ellipsoid of its m moving signals.

    Attributes:
        span: Of each signal; shape (f,), 0 of those that stand still.
        centre: Its middle, in spans; shape (m,).
        root: Of the inverse of its covariance; shape (m, m).
        largest: The largest squared distance from the middle.
    """

    span: np.ndarray
    centre: np.ndarray
    root: np.ndarray
    largest: float

    @classmethod
    def of(cls, known: np.ndarray) -> "Combinations":
        """Of signals; shape (n, f). Where fewer than two move, or were seen together, there is nothing to combine."""
        span = np.nanmax(known, axis=0) - np.nanmin(known, axis=0)
        known = known[:, span > 0.0] / span[span > 0.0]
        known = known[np.isfinite(known).all(axis=1)]
        if known.shape[1] < 2 or len(known) < 2:
            return cls(span, np.zeros(0), np.zeros((0, 0)), 0.0)
        centre = known.mean(axis=0)
        covariance = np.cov(known, rowvar=False) + APART**2 * np.eye(known.shape[1])
        root = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(span, centre, root, float((((known - centre) @ root) ** 2).sum(axis=1).max()))

    def leverage(self, ahead: np.ndarray) -> np.ndarray:
        """Leverage of signals, shape (n, f), as a multiple of the largest that was calibrated; shape (n,)."""
        if not self.largest:
            return np.zeros(len(ahead))
        apart = (ahead[:, self.span > 0.0] / self.span[self.span > 0.0] - self.centre) @ self.root
        return np.nan_to_num((apart**2).sum(axis=1) / self.largest)


def _limited(
    watched: SupportSignals,
    limits: Mapping[str, tuple[float, float]],
    forecast: xr.DataTree,
    paths: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Whether signals that have an operating range are outside; shape (E, n, S)."""
    ahead = forecast["predictions"].dataset
    found = np.zeros((ahead.sizes.get("experiment", 1), ahead.sizes["time"], len(watched.names)), bool)
    for name, (low, high) in limits.items():
        place = watched.names.index(name)
        if watched.kinds[place] == "state" and paths[name].shape[-1] == 1:  # which is observed itself
            values = paths[name][..., 0]
        elif f"{name}_noise_free" in ahead.variables:
            values = _median(array_of(ahead, f"{name}_noise_free", "chain", "draw", "experiment", "time"))
        else:
            values = array_of(forecast["predictions_constant_data"].dataset, name, "experiment", "time")
        found[..., place] = (values < low) | (values > high)
    return found


# What is new, in words.


def support_words(found: Supported) -> list[str]:
    """What is new, in words; of several experiments whose it is."""
    told, watched, codes = [], found.watched, found.codes
    low, high, fastest = found.ends
    for k, name in enumerate(watched.names):
        unit, columns = f" {watched.units[k]}".rstrip(), np.flatnonzero(watched.owner == k)
        rows = (codes[..., k] & LEVEL) > 0
        if rows.any():
            ends = _range(np.nanmin(found.values[rows][:, columns]), np.nanmax(found.values[rows][:, columns]))
            calibrated = _range(low[columns].min(), high[columns].max())
            told.append(f"`{name}` is {ends}{unit} {_when(found, rows)}; calibrated was {calibrated}{unit}.")
        rows = (codes[..., k] & RATE) > 0
        if rows.any():
            held = watched.steps[columns[0]]
            per = unit if held else f"{unit or ' 1'}/{found.time_unit}"
            most = number(float(np.nanmax(found.changes[rows][:, columns])))
            before, own = number(float(fastest[columns].max())), "jumps" if held else "changes"
            usual = f"calibrated were {before}{per} at most" if before != "0" else "in what was calibrated it never did"
            told.append(f"`{name}` {own} by up to {most}{per} {_when(found, rows)}; {usual}.")
    apart = (codes & COMBINATION).any(axis=-1) & ~(codes & LEVEL).any(axis=-1)
    if apart.any():
        told.append(
            f"Inputs and states go together as they never did in calibration {_when(found, apart)}, though each by "
            "itself was seen."
        )
    for k, name in enumerate(watched.names):
        rows = (codes[..., k] & OPERATING_RANGE) > 0
        if rows.any():
            told.append(f"`{name}` is outside the operating range {_when(found, rows)}.")
        rows = (codes[..., k] & PRIOR) > 0
        if rows.any():
            most = percent(min(float(found.leaning[..., k].max()), 1.0))
            told.append(
                f"`{name}` leans on {_blamed(found.blame[k])}, of which calibration says little more than the prior, "
                f"{_when(found, rows)}: up to {most} of the variance of a new observation comes from there."
            )
    return told


def _blamed(shares: Sequence[Mapping[str, float]]) -> str:
    """The parameters that make up most of what a prediction leans on."""
    total: dict[str, float] = {}
    for one in shares:
        for name, share in one.items():
            total[name] = total.get(name, 0.0) + share
    ordered = sorted(total, key=lambda name: -total[name])
    return " and ".join(f"`{name}`" for name in ordered[:MOST_NAMED] if total[name] >= 0.5 * total[ordered[0]])


def _range(low: float, high: float) -> str:
    return number(float(low)) if low == high else f"{number(float(low))} to {number(float(high))}"


def _when(found: Supported, rows: np.ndarray) -> str:
    """At how many of the times, and from when on, or in which experiments; rows have the shape (E, n)."""
    if not found.names:
        first = found.coords["time"].to_numpy()[int(np.argmax(rows[0]))]
        return f"at {percent(float(rows.mean()))} of the times, first at {said(first)}"
    there = [name for name, one in zip(found.names, rows, strict=True) if one.any()]
    listed = ", ".join(f"`{name}`" for name in there[:MOST_NAMED])
    listed += f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
    return f"at {percent(float(rows.sum() / found.own[rows.any(axis=1)].sum()))} of the times of {listed}"
