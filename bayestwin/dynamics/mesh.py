"""Stopping less often than at each saved time: a mesh of the steps that solutions take by themselves.

With 10,000 observations and no inputs nearly all of the time goes into stopping; between the stops of the mesh the
states are interpolated. The mesh is as fine, everywhere, as the finest of the solves that it was learnt from.
"""

import numpy as np

from bayestwin.dynamics.grid import Grid
from bayestwin.model.process_noise import ProcessNoise
from bayestwin.model.twin import Twin

LEAST_STOPS, LEAST_SAVING, MOST_NODES = 1_000, 4, 20_000
"""Fewer stops are not worth the solves that find a mesh, nor is a mesh that saves less than this many times; and a
limit for memory."""


def most_nodes(twin: Twin, grid: Grid) -> int:
    """The largest mesh that would pay; 0 where none does, or the twin forbids one: by kinks, jumps or stiffness."""
    stops = len(grid.edges) - 1
    kinked = twin.inputs or twin.events or isinstance(twin.model_error, ProcessNoise)
    if kinked or twin.solver.method in ("exact", "rodas5p") or stops < LEAST_STOPS:
        return 0
    return min(stops // LEAST_SAVING, MOST_NODES)


def plan_mesh(traced: np.ndarray) -> np.ndarray:
    """A mesh on which no solve would need finer steps.

    Args:
        traced: Time after each step of n solves, repeating the end where there was none any more; shape (n, k).

    Returns:
        Increasing times from 0 to the end.
    """
    end = traced[0, -1]
    marks = np.unique(np.append(traced, 0.0))
    middle = (marks[1:] + marks[:-1]) / 2
    rate = np.zeros_like(middle)  # of steps, per time
    for times in traced:
        edges = np.concatenate([[0.0], times[times < end], [end]])
        length = np.diff(edges)
        length[-1] = max(length[-2:])  # the last step was cut short by the end
        rate = np.maximum(rate, 1.0 / length[np.searchsorted(edges, middle) - 1])
    passed = np.concatenate([[0.0], np.cumsum(rate * np.diff(marks))])
    return np.interp(np.linspace(0.0, passed[-1], int(np.ceil(passed[-1])) + 1), passed, marks)
