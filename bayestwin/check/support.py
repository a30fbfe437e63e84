"""Whether a forecast lies in what calibration has seen: inputs and states, how fast they change, how they go together.

Combinations are judged by their leverage, the distance from the mean of what was calibrated in units of its covariance:
R. D. Cook (1979), doi:10.1080/01621459.1979.10481634. Parts of the calibration set what is usual.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.wording import number, percent
from bayestwin.calibrate import check_belongs
from bayestwin.check.finding import Limit, limits_from
from bayestwin.check.range import BEYOND
from bayestwin.density.bind import elapsed
from bayestwin.errors import InvalidSetting
from bayestwin.model.twin import Twin
from bayestwin.telemetry import said

FASTER = 1.25
"""Times the fastest change that was calibrated, beyond which one is new."""

APART = 0.05
"""Share of its span by which each quantity may be elsewhere without that being another combination."""

MORE_LEVERAGE = 2.0
"""Times the largest leverage that was calibrated, beyond which a combination is new."""


class Course(NamedTuple):
    """Inputs and states over time, k quantities at n times.

    Attributes:
        names: Of the quantities; a state's ends with ` (state)` where an input has the same name.
        kinds: `"input"` or `"state"`.
        units: Of each.
        steps: Whether each is held between samples, so that its changes are jumps.
        times: Elapsed, in the twin's unit; shape (n,).
        labels: The user's times; shape (n,).
        values: Of states the median over draws; shape (n, k).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    steps: np.ndarray
    times: np.ndarray
    labels: np.ndarray
    values: np.ndarray


def extrapolation(
    twin: Twin, posterior: xr.DataTree, forecast: xr.DataTree, *, limits: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Say, per time and quantity, whether a forecast lies in what calibration has seen.

    Looked at are inputs and states that are single numbers; states by their median path. A quantity is beyond where it
    lies outside its calibrated range by more than a tenth of that, or changes a quarter faster than it ever did; a
    combination of all is where its leverage is twice as large as any that was calibrated. Observations without
    noise are held against the operating range alone.

    Args:
        twin: The twin that was calibrated.
        posterior: As of `bt.calibrate`, of one telemetry.
        forecast: As of `bt.predict`.
        limits: The operating range: by observation or input `low`, `high` and `unit`, as of `bt.check`.

    Returns:
        `outside` (time × quantity: how far outside the calibrated range, as a share of its span), `pace` (the change
        since the time before, as a multiple of the fastest that was calibrated), `leverage` (time: as a multiple of the
        largest), `limits` (time × limited: whether outside the operating range), and `beyond` (time × quantity) and
        `new` (time), whether anything is. The attribute `sentences` says it in words; it is empty where all was seen.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidSetting: If it is of several experiments.
        InvalidInput: If a limit makes no sense.
    """
    check_belongs(twin, posterior)
    if any("experiment" in group.dims for group in (posterior["posterior"], forecast["predictions"])):
        raise InvalidSetting(
            "Whether a forecast extrapolates is told of one telemetry.",
            expected="a posterior and a forecast without the dimension `experiment`",
            received="several experiments",
            advice="Calibrate and predict that experiment alone.",
        )
    known = _course(twin, posterior, "posterior_predictive", "constant_data", posterior.attrs)
    ahead = _course(twin, forecast, "predictions", "predictions_constant_data", posterior.attrs)
    low, high = np.nanmin(known.values, axis=0), np.nanmax(known.values, axis=0)
    span = high - low
    least = np.maximum(span, 1e-9 * np.maximum(np.abs(low), np.abs(high)) + np.finfo(float).tiny)
    outside = np.maximum(np.maximum(low - ahead.values, ahead.values - high), 0.0) / least
    fastest = np.nanmax(_changes(known, None), axis=0, initial=0.0)
    anew = "starts_anew" in forecast.attrs
    pace = _changes(ahead, None if anew else known) / np.maximum(fastest, 1e-9 * least)
    leverage = _leverage(known.values, ahead.values, span)
    pace = np.nan_to_num(pace)
    beyond = (outside > BEYOND) | (pace > FASTER)
    limited = _limited(twin, forecast, limits)
    data = {
        "outside": (("time", "quantity"), outside, {"long_name": "outside the calibrated range, per span of it"}),
        "pace": (("time", "quantity"), pace, {"long_name": "change per fastest change that was calibrated"}),
        "leverage": ("time", leverage, {"long_name": "leverage per largest one that was calibrated"}),
        "beyond": (("time", "quantity"), beyond, {"long_name": "whether it is beyond what was calibrated"}),
    }
    if limited:
        inside = (("time", "limited"), np.stack(list(limited.values()), axis=1))
        data["limits"] = (*inside, {"long_name": "whether it is outside the operating range"})
    new = beyond.any(axis=1) | (leverage > MORE_LEVERAGE)
    new |= np.any(list(limited.values()), axis=0) if limited else False
    data["new"] = ("time", new, {"long_name": "whether anything is beyond what was calibrated"})
    coords = {
        "time": ahead.labels,
        "quantity": list(ahead.names),
        "kind": ("quantity", list(ahead.kinds)),
        "unit": ("quantity", list(ahead.units)),
    }
    found = xr.Dataset(data, coords=coords | ({"limited": list(limited)} if limited else {}))
    found.attrs["sentences"] = _sentences(found, ahead, (low, high), fastest, twin.time_unit)
    return found


def _course(twin: Twin, tree: xr.DataTree, drawn: str, given: str, attrs: Mapping[Any, Any]) -> Course:
    """Inputs and states of a calibration or a forecast."""
    paths = tree[drawn].to_dataset()
    signals = tree[given].to_dataset() if given in tree else xr.Dataset()
    labels = paths["time"].values
    unit = attrs["telemetry_time_unit"] or twin.time_unit
    times = elapsed(pd.Index(labels), _origin(labels, attrs["t0"]), unit, twin.time_unit)
    columns, units, names = [], [], []
    for name, spec in twin.inputs.items():
        columns.append(signals[name].values.astype(float))
        units.append(spec.unit)
        names.append(name)
    states = [name for name, state in twin.states.items() if not state.shape and f"{name}_state" in paths]
    for name in states:
        columns.append(np.nanmedian(paths[f"{name}_state"].values, axis=(0, 1)))
        units.append(twin.states[name].unit)
        names.append(f"{name} (state)" if name in twin.inputs else name)
    steps = np.array([twin.inputs[name].hold == "previous" for name in twin.inputs] + [False] * len(states), bool)
    kinds = ("input",) * len(twin.inputs) + ("state",) * len(states)
    return Course(tuple(names), kinds, tuple(units), steps, times, labels, np.stack(columns, axis=1))


def _origin(labels: np.ndarray, t0: str) -> Any:
    return pd.Timestamp(t0) if np.issubdtype(labels.dtype, np.datetime64) else float(t0)


def _changes(course: Course, before: Course | None) -> np.ndarray:
    """How fast each quantity has changed since the time before, jumps by their size; shape (n, k), NaN where unknown.

    Args:
        course: What changes.
        before: What went before; its last inputs count where its last time is earlier.
    """
    times, values = course.times, course.values
    first = np.full((1, values.shape[1]), np.nan)
    start = times[:1] - 1.0
    if before is not None and before.times[-1] < times[0]:
        start, first = before.times[-1:], before.values[-1:]
    moved = np.abs(np.diff(np.concatenate([first, values]), axis=0))
    lasting = np.diff(np.concatenate([start, times]))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = moved / np.where(lasting > 0.0, lasting, np.nan)[:, None]
    return np.where(course.steps[None], moved, rates)


def _leverage(known: np.ndarray, ahead: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Leverage of combinations, as a multiple of the largest that was calibrated; shape (n,)."""
    moving = span > 0.0
    known, ahead = known[:, moving] / span[moving], ahead[:, moving] / span[moving]
    known = known[np.isfinite(known).all(axis=1)]
    if known.shape[1] < 2 or len(known) < 2:
        return np.zeros(len(ahead))
    centre = known.mean(axis=0)
    covariance = np.cov(known, rowvar=False) + APART**2 * np.eye(known.shape[1])
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    both = [(((part - centre) @ root) ** 2).sum(axis=1) for part in (known, ahead)]
    return np.nan_to_num(both[1] / both[0].max())


def _limited(twin: Twin, forecast: xr.DataTree, limits: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """By observation or input that has an operating range, when it is outside; shape (n,) each."""
    found = {}
    paths, signals = (forecast[name].to_dataset() for name in ("predictions", "predictions_constant_data"))
    stated = {name: one for name, one in (limits or {}).items() if isinstance(one, Limit)}
    stated |= limits_from({name: one for name, one in (limits or {}).items() if name not in stated}, twin)
    for name, limit in stated.items():
        if name in twin.observations:
            values = np.nanmedian(paths[f"{name}_noise_free"].values, axis=(0, 1))
        else:
            values = signals[name].values
        found[name] = (values < limit.low) | (values > limit.high)
    return found


def _sentences(
    found: xr.Dataset, ahead: Course, reach: tuple[np.ndarray, np.ndarray], fastest: np.ndarray, time_unit: str
) -> list[str]:
    """What is new, in words."""
    told, (low, high) = [], reach
    changes = found["pace"].values * fastest
    for k, name in enumerate(ahead.names):
        unit = f" {ahead.units[k]}".rstrip()
        rows = found["outside"].values[:, k] > BEYOND
        if rows.any():
            own, calibrated = ahead.values[rows, k], _range(float(low[k]), float(high[k]))
            told.append(
                f"`{name}` is {_range(float(own.min()), float(own.max()))}{unit} {_when(rows, ahead.labels)}; "
                f"calibrated was {calibrated}{unit}."
            )
        rows = found["pace"].values[:, k] > FASTER
        if rows.any():
            per = unit if ahead.steps[k] else f"{unit or ' 1'}/{time_unit}"
            what = "jumps by" if ahead.steps[k] else "changes by"
            told.append(
                f"`{name}` {what} up to {number(float(np.nanmax(changes[rows, k])))}{per} {_when(rows, ahead.labels)}; "
                f"calibrated were {number(float(fastest[k]))}{per} at most."
            )
    alone = (found["leverage"].values > MORE_LEVERAGE) & ~(found["outside"].values > BEYOND).any(axis=1)
    if alone.any():
        told.append(
            f"Inputs and states go together as they never did in calibration {_when(alone, ahead.labels)}, though each "
            "by itself was seen."
        )
    for name in found["limited"].values if "limits" in found else ():
        rows = found["limits"].sel(limited=name).values
        if rows.any():
            told.append(f"`{name}` is outside the operating range {_when(rows, ahead.labels)}.")
    return told


def _range(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _when(rows: np.ndarray, labels: Sequence[Any] | np.ndarray) -> str:
    """At how many of the times, and from when on."""
    return f"at {percent(float(rows.mean()))} of the times, first at {said(labels[int(np.argmax(rows))])}"
