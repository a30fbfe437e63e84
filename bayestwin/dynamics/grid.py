"""The times at which the solver stops, the inputs between them, and the events at them.

The solver stops at each time that is saved, at each input sample and at each event whose time is known, so between two
stops every input is a polynomial and the right-hand side is smooth: an adaptive step never has to find a kink by trial
and error. Where there are neither inputs nor events nothing kinks between saved times, and where these are dense it
may stop on a coarser mesh and interpolate.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jax import Array

from bayestwin.dynamics.interpolation import Between, locate
from bayestwin.dynamics.signals import Signal, extended
from bayestwin.model.twin import Twin


class Grid(NamedTuple):
    """Stops of the solver: m intervals, n saved times, q inputs, e events whose times are known.

    Attributes:
        edges: Elapsed times of the stops, increasing from 0; shape (m + 1,).
        coefficients: Inputs within each interval, as coefficients of the powers of the time since its start, from 0
            on; shape (m, k, q).
        save: Positions of the saved times among the edges; shape (n,).
        inputs: Inputs at the saved times; shape (n, q).
        amounts: The value with which each event (`twin.timed`) happens at the start of each interval, NaN where it
            does not; shape (m, e).
        substeps: Equal explicit steps in each interval, shape (m,); None where an adaptive solver chooses.
        between: Where the saved times lie between the stops; None where each of them is a stop, as `save` says.
    """

    edges: np.ndarray
    coefficients: np.ndarray
    save: np.ndarray
    inputs: np.ndarray
    amounts: np.ndarray
    substeps: np.ndarray | None = None
    between: Between | None = None

    @property
    def times(self) -> np.ndarray:
        """The saved times; shape (n,)."""
        return self.edges[self.save]

    def on_mesh(self, mesh: np.ndarray) -> "Grid":
        """The same saved times, while the solver stops elsewhere.

        Args:
            mesh: Times to stop at instead, increasing from 0 to the last saved time; shape (k + 1,).
        """
        num = len(mesh) - 1
        none = {"coefficients": np.empty((num, 1, 0)), "save": np.empty(0, int), "amounts": np.empty((num, 0))}
        return Grid(edges=mesh, **none, inputs=self.inputs, between=locate(mesh, self.times))

    @property
    def at_start(self) -> np.ndarray:
        """Inputs at the first edge; shape (q,)."""
        return self.coefficients[0, 0] if len(self.coefficients) else self.inputs[0]

    @property
    def left(self) -> np.ndarray:
        """Inputs at the start of each interval; shape (m, q)."""
        return self.coefficients[:, 0]

    @property
    def right(self) -> np.ndarray:
        """Inputs at the end of each interval; shape (m, q)."""
        powers = np.diff(self.edges)[:, None] ** np.arange(self.coefficients.shape[1])
        return (powers[:, :, None] * self.coefficients).sum(axis=1)


def inputs_from(start: Array, coefficients: Array) -> Callable[[Array], Array]:
    """Inputs as a function of time within one interval, from its start and its coefficients, shape (k, q)."""

    def inputs_at(t: Array) -> Array:
        value = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            value = coefficient + (t - start) * value
        return value

    return inputs_at


def build_grid(
    twin: Twin,
    times: np.ndarray,
    knots: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    events: Mapping[str, np.ndarray] | None = None,
) -> Grid:
    """Lay out the stops for given times, input samples and events.

    Args:
        twin: Says how each input goes on between and beyond its samples, and when its events are.
        times: Elapsed times to save, increasing, from 0 on; shape (n,).
        knots: Elapsed times of the samples, increasing; shape (k,).
        inputs: Input samples by name, NaN where there is none; shape (k,) each.
        events: Values of the events that the telemetry tells, by name, NaN where there is none; shape (k,) each.

    Raises:
        InvalidTelemetry: If an input is asked for beyond its samples and its `beyond` is `"error"`.
    """
    end = times[-1]
    signals = [extended(n, s, Signal(knots, inputs[n]), end) for n, s in twin.inputs.items()]
    happening = [_happening(twin.events[name].at, knots, (events or {}).get(name)) for name in twin.timed]
    samples = [signal.times for signal in (*signals, *happening)]
    stops = np.concatenate([[0.0], times, *samples])
    edges = np.unique(stops[(stops >= 0.0) & (stops <= end)])
    polynomials = [
        signal.polynomials(spec.hold, edges) for signal, spec in zip(signals, twin.inputs.values(), strict=True)
    ]
    degree = max((len(p) for p in polynomials), default=1)
    coefficients = np.zeros((len(edges), degree, len(polynomials)))
    for number, polynomial in enumerate(polynomials):
        coefficients[:, : len(polynomial), number] = polynomial.T
    amounts = np.full((len(edges), len(happening)), np.nan)
    for number, event in enumerate(happening):
        inside = (event.times >= 0.0) & (event.times <= end)
        amounts[np.searchsorted(edges, event.times[inside]), number] = event.values[inside]
    save = np.searchsorted(edges, times)
    return Grid(edges, coefficients[:-1], save, coefficients[save, 0], amounts[:-1])


def _happening(at: tuple[float, ...] | None, knots: np.ndarray, values: np.ndarray | None) -> Signal:
    """When an event happens that does not depend on the state, and its values then."""
    if at is not None:
        return Signal(np.asarray(at, float), np.ones(len(at)))
    assert values is not None
    present = np.isfinite(values)
    return Signal(knots[present], values[present])
