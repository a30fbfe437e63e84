"""Binding telemetry to a twin: columns to signals, units to the twin's, times to elapsed time, all checked.

What comes out is plain float64 arrays, so that nothing has to be checked again once the solver runs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.units import convert
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.model.components import Input
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.leakage import refuse_same_time
from bayestwin.telemetry.times import counted


class Bound(NamedTuple):
    """Telemetry in a twin's terms, for n times.

    Attributes:
        times: Elapsed time since `t0`, in the twin's `time_unit`, increasing; shape (n,).
        labels: The user's own times; shape (n,).
        observations: By name, in the twin's units, NaN = missing; shape (n,) each.
        inputs: By name, in the twin's units; NaN after their last sample, where the twin says how they go on; shape
            (n,) each.
        events: By name, the values of those that the telemetry tells; NaN where none happens; shape (n,) each.
    """

    times: np.ndarray
    labels: np.ndarray
    observations: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    events: Mapping[str, np.ndarray] = {}


def bind(twin: Twin, telemetry: Telemetry, *, observed: bool = True) -> Bound:
    """Check telemetry against a twin and convert it.

    Args:
        twin: The twin.
        telemetry: Has a column for each input, and for each observation if `observed`.
        observed: Whether observations must be there; with `False` those that are there are taken.

    Raises:
        InvalidTelemetry: If a column is absent, a unit has the wrong dimension, an input has a gap or is made of an
            observation at the same time, an observation cannot occur under its noise model, there is nothing observed
            at all, or a time lies before `t0`.
    """
    times = elapsed(telemetry.table.index, telemetry.t0, telemetry.units.get("time", twin.time_unit), twin.time_unit)
    if times[0] < 0:
        message = explain(
            f"Telemetry has a sample at {telemetry.shown(telemetry.table.index[0])}, before the initial state holds.",
            expected=f"times from t0 = {telemetry.shown(telemetry.t0)} on",
            received=f"{int((times < 0).sum())} earlier samples",
            advice="Pass an earlier `t0=`, or drop these rows.",
        )
        raise InvalidTelemetry(message)
    refuse_same_time(telemetry, twin.inputs, twin.observations)
    inputs = {name: _input(telemetry, name, spec, observed) for name, spec in twin.inputs.items()}
    told = {name: event for name, event in twin.events.items() if event.kind == "telemetry"}
    events = {name: _column(telemetry, name, "event", event.unit) for name, event in told.items()}
    wanted = [name for name in twin.observations if observed or name in telemetry.table.columns]
    observations = {name: _column(telemetry, name, "observation", twin.observations[name].unit) for name in wanted}
    for name, values in observations.items():
        _check_support(twin, name, telemetry.label(name), values)
    if observed and not any(np.isfinite(values).any() for values in observations.values()):
        message = explain(
            "Telemetry has no observation at all.",
            expected=f"values for {', '.join(f'`{n}`' for n in wanted)}",
            received="nothing but missing values",
            advice="Without data the posterior would be the prior; check the columns.",
        )
        raise InvalidTelemetry(message)
    return Bound(times, telemetry.table.index.to_numpy(), observations, inputs, events)


def elapsed(labels: pd.Index, t0: Any, source_unit: str, time_unit: str) -> np.ndarray:
    """Times since `t0` in `time_unit`; epoch seconds and dates lose no digits, since the difference comes first.

    Args:
        labels: The user's times, dates or numbers; shape (n,).
        t0: The user's time at which elapsed time is zero.
        source_unit: Unit of the labels where they are numbers.
        time_unit: Unit wanted.

    Returns:
        float64, shape (n,).
    """
    if isinstance(labels, pd.DatetimeIndex):
        nanoseconds = (labels - pd.Timestamp(t0)).to_numpy().astype("timedelta64[ns]").astype(np.int64)
        return convert(nanoseconds * 1e-9, "s", time_unit, "the twin's time", InvalidTelemetry)
    return convert(labels.to_numpy(np.float64) - float(t0), source_unit, time_unit, "time", InvalidTelemetry)


def _column(telemetry: Telemetry, name: str, kind: str, unit: str) -> np.ndarray:
    if name not in telemetry.table.columns:
        columns = ", ".join(f"`{c}`" for c in telemetry.table.columns) or "no columns"
        alike = [c for c in telemetry.table.columns if c.casefold() == name.casefold()]
        message = explain(
            f"Telemetry has no column for the {kind} `{name}`.",
            expected=f"one of its columns renamed to `{name}`",
            received=columns,
            advice=f"Pass `rename={{'{alike[0] if alike else '<column>'}': '{name}'}}` where it is read.",
        )
        raise InvalidTelemetry(message)
    return telemetry.in_unit(name, unit)


def _input(telemetry: Telemetry, name: str, spec: Input, observed: bool) -> np.ndarray:
    """Samples of an input; there may be none after the last one where the twin says how it goes on."""
    goes_on = spec.beyond != "error"
    if goes_on and not observed and name not in telemetry.table.columns:
        return np.full(len(telemetry.table), np.nan)
    values = _column(telemetry, name, "input", spec.unit)
    sampled = np.flatnonzero(np.isfinite(values))
    end = sampled.max(initial=-1) + 1 if goes_on and (sampled.size or not observed) else len(values)
    _check_no_gap(name, values[:end], telemetry)
    return values


def _check_no_gap(name: str, values: np.ndarray, telemetry: Telemetry) -> None:
    missing = np.flatnonzero(~np.isfinite(values))
    if missing.size == 0:
        return
    run = missing[: np.argmax(np.append(np.diff(missing) > 1, True)) + 1]
    start, end = (telemetry.shown(telemetry.table.index[row]) for row in (run[0], run[-1]))
    within = _widest(values, telemetry)
    message = explain(
        f"Input {telemetry.label(name)} has a gap.",
        expected="a value at each time: the twin is driven by it, also where nothing is observed",
        received=f"{missing.size} missing, the first from {start} to {end}",
        advice=f"Fill it knowingly when it is read: `fill={{'{name}': 'previous'}}` or `'linear'`; with "
        f"`fill={{'{name}': {{'how': 'linear', 'within': {within}}}}}` only where the known values on either side lie "
        "no further apart. What is missing at the start or the end is never filled: begin later or end earlier.",
    )
    raise InvalidTelemetry(message)


def _widest(values: np.ndarray, telemetry: Telemetry) -> str:
    """How far apart the known values around the widest gap are, as an argument has it."""
    known = counted(telemetry.table.index)[: values.size][np.isfinite(values)]
    widest = np.diff(known).max(initial=0)
    return f"'{widest * 1e-9 / 60:g}min'" if telemetry.dated else f"{widest:g}"


def _check_support(twin: Twin, name: str, label: str, values: np.ndarray) -> None:
    noise = twin.observations[name].noise
    present = np.isfinite(values)
    bad = np.flatnonzero(present & ~np.asarray(noise.support(np.where(present, values, 1.0))))
    if bad.size:
        rows = ", ".join(f"{values[row]:g} in row {row + 1}" for row in bad[:5])
        message = explain(
            f"Observation {label} has values that cannot occur under {type(noise).__name__} noise.",
            expected=repr(noise.support),
            received=rows + (f", … ({bad.size} in all)" if bad.size > 5 else ""),
            advice="Correct the data, or choose a noise model that allows them.",
        )
        raise InvalidTelemetry(message)
