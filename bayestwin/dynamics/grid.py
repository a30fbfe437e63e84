"""The times at which the solver stops, and the inputs between them.

The solver stops at each time that is saved and at each input sample, so between two stops every input is a straight
line and the right-hand side is smooth: an adaptive step never has to find a kink by trial and error. Without inputs
nothing kinks between saved times, and where these are dense it may stop on a coarser mesh and interpolate.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bayestwin.dynamics.interpolation import Between, locate
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.twin import Input, Twin


class Grid(NamedTuple):
    """Stops of the solver: m intervals, n saved times, q inputs.

    Attributes:
        edges: Elapsed times of the stops, increasing from 0; shape (m + 1,).
        left: Inputs at the start of each interval; shape (m, q).
        right: Inputs at the end of each interval; shape (m, q).
        save: Positions of the saved times among the edges; shape (n,).
        inputs: Inputs at the saved times; shape (n, q).
        substeps: Equal explicit steps in each interval, shape (m,); None where an adaptive solver chooses.
        between: Where the saved times lie between the stops; None where each of them is a stop, as `save` says.
    """

    edges: np.ndarray
    left: np.ndarray
    right: np.ndarray
    save: np.ndarray
    inputs: np.ndarray
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
        none = np.empty((len(mesh) - 1, 0))
        return Grid(mesh, none, none, np.empty(0, int), self.inputs, between=locate(mesh, self.times))


def build_grid(twin: Twin, times: np.ndarray, knots: np.ndarray, inputs: Mapping[str, np.ndarray]) -> Grid:
    """Lay out the stops for given times and input samples.

    Args:
        twin: Says how each input is held between and beyond its samples.
        times: Elapsed times to save, increasing, from 0 on; shape (n,).
        knots: Elapsed times of the input samples, increasing; shape (k,).
        inputs: Input samples by name; shape (k,) each.

    Raises:
        InvalidTelemetry: If an input is asked for beyond its samples and its `beyond` is `"error"`.
    """
    end = times[-1]
    inside = knots[(knots > 0) & (knots < end)] if inputs else np.empty(0)
    edges = np.unique(np.concatenate([[0.0], times, inside]))
    for name, spec in twin.inputs.items():
        _check_span(name, spec, knots, end)
    at_edges = [_sampled(spec, edges, knots, inputs[name]) for name, spec in twin.inputs.items()]
    left = _columns([values[:-1] for values in at_edges], len(edges) - 1)
    right = _columns(
        [v[:-1] if spec.hold == "previous" else v[1:] for v, spec in zip(at_edges, twin.inputs.values(), strict=True)],
        len(edges) - 1,
    )
    save = np.searchsorted(edges, times)
    return Grid(edges, left, right, save, _columns([values[save] for values in at_edges], len(times)))


def _sampled(spec: Input, times: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    if spec.hold == "linear":
        return np.interp(times, knots, values)
    return values[np.maximum(np.searchsorted(knots, times, side="right") - 1, 0)]


def _columns(columns: list[np.ndarray], rows: int) -> np.ndarray:
    return np.stack(columns, axis=-1) if columns else np.empty((rows, 0))


def _check_span(name: str, spec: Input, knots: np.ndarray, end: float) -> None:
    if spec.beyond == "hold" or (knots[0] <= 0 and knots[-1] >= end):
        return
    message = explain(
        f"Input `{name}` is asked for beyond its samples.",
        expected=f"samples from elapsed time 0 to {end:g}",
        received=f"samples from {knots[0]:g} to {knots[-1]:g}",
        advice='Extend its telemetry, or say `bt.Input(..., beyond="hold")` to keep the nearest sample.',
    )
    raise InvalidTelemetry(message)
