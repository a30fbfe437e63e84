"""Noise-free predictions at many values of the quantities, and their derivatives at one."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.progress import Phase
from bayestwin.density.bind import Bound
from bayestwin.density.density import Density, join
from bayestwin.dynamics.grid import build_grid
from bayestwin.model.twin import Twin

BATCH = 128
"""About so many values are solved in one call."""


class Solved(NamedTuple):
    """Noise-free predictions at n rows of m values.

    Attributes:
        noise_free: By observation, shape (n, m, T), or (n, m, E, T) for E experiments; NaN where a solve failed.
        interrupted: Whether Ctrl-C came before all rows were solved; those that were are there.
    """

    noise_free: Mapping[str, np.ndarray]
    interrupted: bool


def sparse_density(twin: Twin, bound: Bound | Mapping[str, Bound], max_times: int) -> Density:
    """The density of a twin that predicts at no more than `max_times` of its telemetry's times, evenly picked.

    Inputs and events are those of all of them.
    """
    if not isinstance(bound, Bound):
        parts = {name: sparse_density(twin, one, max_times) for name, one in bound.items()}
        return join(twin, {name: d.bound for name, d in parts.items()}, {name: d.grid for name, d in parts.items()})
    num = len(bound.times)
    rows = np.unique(np.linspace(0, num - 1, min(num, max_times)).round().astype(int))
    grid = build_grid(twin, bound.times[rows], bound.times, bound.inputs, bound.events)
    picked = Bound(
        bound.times[rows],
        bound.labels[rows],
        *({name: values[rows] for name, values in part.items()} for part in bound[2:]),
    )
    return Density(twin, picked, grid, twin.sites())


def solve_rows(density: Density, values: Mapping[str, np.ndarray], phase: Phase) -> Solved:
    """Solve row after row, some at a time; Ctrl-C ends it after the last that were finished.

    Args:
        density: Gives the twin and its times.
        values: By site; shape (n, m) each, or (n, m, E).
        phase: Told of each solve.
    """
    num, width = next(iter(values.values())).shape[:2]
    rows = min(num, max(1, BATCH // width))
    batch = jax.jit(jax.vmap(noise_free(density)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in density.twin.observations}
    interrupted = False
    try:
        for first in range(0, num, rows):
            some = np.minimum(np.arange(first, first + rows), num - 1)
            flat = {n: jnp.asarray(v[some].reshape(rows * width, *v.shape[2:])) for n, v in values.items()}
            predicted = {name: np.asarray(array) for name, array in batch(flat).items()}
            size = min(rows, num - first)
            for name, array in predicted.items():
                found[name].append(array.reshape(rows, width, *array.shape[1:])[:size])
            phase.advance(size * width)
    except KeyboardInterrupt:
        if not all(found.values()):
            raise
        interrupted = True
    least = min(map(len, found.values()))
    return Solved({name: np.concatenate(parts[:least]) for name, parts in found.items()}, interrupted)


def noise_free(density: Density) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The function from values by site to what each observation would be without noise; NaN where a solve fails."""

    def predict(values: Mapping[str, Array]) -> dict[str, Array]:
        predicted = density.predict(values)
        solved = predicted.solved[:, None] if density.experiments else predicted.solved[None]
        return {name: jnp.where(solved, array, jnp.nan) for name, array in predicted.noise_free.items()}

    return predict


def derivatives(density: Density, centre: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Derivatives of each noise-free observation with respect to each quantity, by forward mode.

    A quantity of which each experiment has its own moves in all of them at once: each feels its own alone.

    Args:
        density: Gives the twin and its times.
        centre: Where, by site; shape () or (E,) each.

    Returns:
        By observation, shape (d, T) or (d, E, T); NaN where the solve fails.
    """
    predict = noise_free(density)

    def moved(step: Array) -> dict[str, Array]:
        return predict({name: jnp.asarray(v, float) + step[i] for i, (name, v) in enumerate(centre.items())})

    found = jax.jit(lambda step: (jax.jacfwd(moved)(step), moved(step)))(jnp.zeros(len(centre)))
    slopes, values = jax.tree.map(np.asarray, found)
    # what does not depend on the values of a failed solve would have the derivative zero
    known = {name: np.isfinite(array)[..., None] for name, array in values.items()}
    return {name: np.moveaxis(np.where(known[name], array, np.nan), -1, 0) for name, array in slopes.items()}
