"""Samples of inputs and events: what a signal is between them, and beyond them."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from bayestwin.errors import InvalidTelemetry
from bayestwin.model.components import Input
from bayestwin.model.twin import Twin


class SampledSignal(NamedTuple):
    """Samples of a signal.

    Attributes:
        times: Elapsed times, increasing; shape (k,).
        values: Shape (k,); NaN where it was not sampled.
    """

    times: np.ndarray
    values: np.ndarray

    def polynomials(self, hold: Literal["linear", "previous", "cubic"], edges: np.ndarray) -> np.ndarray:
        """Coefficients of the powers of the time since each edge, up to the next one, from power 0 on; shape (p, m).

        Beyond the samples the nearest is kept.
        """
        if hold == "previous":
            return self.values[np.maximum(np.searchsorted(self.times, edges, side="right") - 1, 0)][None]
        if hold == "linear" or len(self.times) < 3:
            values = np.interp(edges, self.times, self.values)
            with np.errstate(over="ignore"):
                rate = np.append(np.diff(values) / np.diff(edges), 0.0)
            return np.stack([values, np.where(np.isfinite(rate), rate, 0.0)])  # between stops next to no time apart
        from scipy.interpolate import CubicSpline  # takes a while to import

        spline = CubicSpline(self.times, self.values)
        found = np.stack([spline(edges, power) / math.factorial(power) for power in range(4)])
        outside = (edges < self.times[0]) | (edges >= self.times[-1])
        found[0] = np.where(outside, np.interp(edges, self.times, self.values), found[0])
        found[1:, outside] = 0.0
        return found


def extended(name: str, spec: Input, signal: SampledSignal, end: float) -> SampledSignal:
    """The samples that there are of an input, repeated as often as it takes to reach `end` if it is periodic.

    Raises:
        InvalidTelemetry: If it is asked for beyond its samples and `beyond` is `"error"`, or if it has not been seen
            for a whole period.
    """
    present = np.isfinite(signal.values)
    times, values = signal.times[present], signal.values[present]
    if len(times) and times[0] <= 0 and times[-1] >= end:
        return SampledSignal(times, values)
    seen = f"samples from {times[0]:g} to {times[-1]:g}" if len(times) else "no samples"
    if spec.beyond == "error" or not len(times):
        late = (
            "If the twin starts later, say so by `t0=` of the telemetry; else extend"
            if len(times) and times[0] > 0
            else "Extend"
        )
        raise InvalidTelemetry(
            f"Input `{name}` is asked for beyond its samples.",
            expected=f"samples from elapsed time 0 to {end:g}",
            received=seen,
            advice=f'{late} its telemetry, or say `bt.Input(..., beyond="hold")` to keep the nearest sample.',
        )
    if spec.period is None:
        return SampledSignal(times, values)
    if times[-1] - times[0] < spec.period * (1.0 - 1e-9):
        raise InvalidTelemetry(
            f"Input `{name}` cannot repeat what was not seen.",
            expected=f"samples of at least one period, {spec.period:g}",
            received=seen,
            advice="Give it more telemetry, or correct the period.",
        )
    last = times > times[-1] - spec.period * (1.0 - 1e-9)
    repeats = np.arange(1, math.ceil(max(end - times[-1], 0.0) / spec.period) + 1)
    later = (times[last] + spec.period * repeats[:, None]).ravel()
    return SampledSignal(np.append(times, later), np.append(values, np.tile(values[last], len(repeats))))


class Signals(NamedTuple):
    """Samples of the r inputs that are asked for at other times than now, in the order of `twin.delayed`.

    Attributes:
        times: Those of k samples, increasing, infinite behind the last one; shape (r, k).
        coefficients: Before the first sample and from each on, of the powers of the time since it, from 0 on; shape
            (r, k + 1, d).
    """

    times: np.ndarray
    coefficients: np.ndarray

    def with_room(self, num: int) -> "Signals":
        """The same with room for more samples, so many in all; any axes may lead."""
        room = num - self.times.shape[-1]
        still = np.zeros_like(self.coefficients[..., :1, :])
        rows = [self.coefficients, *[still] * room]
        times = [self.times, np.full((*self.times.shape[:-1], room), np.inf)]
        return Signals(np.concatenate(times, axis=-1), np.concatenate(rows, axis=-2))


def gather(twin: Twin, signals: Mapping[str, SampledSignal]) -> Signals | None:
    """Samples of inputs that are delayed; of a held one those at which it changes."""
    pieces = []
    for name in twin.delayed:
        spec, signal = twin.inputs[name], signals[name]
        rows = signal.polynomials(spec.hold, signal.times).T
        before = np.zeros((1, rows.shape[1]))
        before[0, 0] = rows[0, 0] if spec.before is None else spec.before
        rows = np.concatenate([before, rows])
        changes = np.ones(len(signal.times), bool) if rows.shape[1] > 1 else np.diff(rows[:, 0]) != 0.0
        own = Signals(signal.times[changes][None], rows[np.append(True, changes)][None])
        pieces.append(own.with_room(len(signal.times)))
    if not pieces:
        return None
    num, powers = (max(p.coefficients.shape[axis] for p in pieces) for axis in (1, 2))
    pieces = [
        Signals(p.times, np.pad(p.coefficients, ((0, 0), (0, 0), (0, powers - p.coefficients.shape[2]))))
        for p in pieces
    ]
    return Signals(*(np.concatenate(own) for own in zip(*[p.with_room(num - 1) for p in pieces], strict=True)))
