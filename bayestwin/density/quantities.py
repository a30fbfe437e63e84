"""From values of the sites to quantities of interest, many draws at a time.

Paths are solved once more for them, more precisely and with the integrals as states, so that predictions are the same
with them and without. With process noise a path is known at the rows alone, and quantities are those of straight lines
between them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin._base.progress import Phase
from bayestwin.density.density import Density
from bayestwin.density.predictor import at_once, exacter, scales_of, solved_for
from bayestwin.dynamics.choice import with_method
from bayestwin.dynamics.grid import Grid, inputs_from
from bayestwin.dynamics.quantities import Followed, Occurrences, Watched, follow
from bayestwin.dynamics.solve import begin
from bayestwin.model.dependence import parameters
from bayestwin.model.error import ProcessNoise
from bayestwin.model.quantities import (
    FirstTime,
    FromRows,
    Integral,
    LongestWhere,
    Max,
    Mean,
    Min,
    QuantityOfInterest,
    TimeWhere,
    function_of,
    in_own_unit,
    level_of,
    with_integrals,
)
from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin


def quantities_of(
    density: Density,
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    density_of: Callable[[Twin], Density],
    phase: Phase | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Quantities of n draws, in their units, by name; shape (n,), or (n, E) of several experiments.

    Args:
        density: What was predicted by.
        values: By site; n first.
        found: What was predicted, as `Predictor` returns it.
        density_of: From the twin with its integrals as states to what that is predicted by, at these times.
        phase: Told of each draw.
        rows: Those of the density that are predicted; all by default.
    """
    twin = density.twin
    asked = dict(twin.quantities)
    at_rows = {n: q for n, q in asked.items() if isinstance(q, FromRows) or isinstance(twin.model_error, ProcessNoise)}
    rest = {name: quantity for name, quantity in asked.items() if name not in at_rows}
    drawn = _at_rows(density, values, found, at_rows, rows) if at_rows else {}
    if rest:
        drawn |= _followed(twin, rest, density_of, values, found, phase)
    return {name: np.asarray(in_own_unit(twin, quantity, drawn[name])) for name, quantity in asked.items()}


def _followed(
    twin: Twin,
    asked: Mapping[str, QuantityOfInterest],
    density_of: Callable[[Twin], Density],
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    phase: Phase | None,
) -> dict[str, np.ndarray]:
    """Quantities of paths that are solved for."""
    counting, integrals = with_integrals(twin)
    density = density_of(counting)
    if density.twin.solver.method == "exact":  # the integrals need a solver
        stiff = is_stiff(density.twin, density.filled.grid, {name: v[:FEW] for name, v in values.items()})
        density = density.solved_as(with_method(density.twin, "rodas5p" if stiff else "tsit5"))
    paths: dict[str, Any] = {f"{n}_state": found.get(f"{n}_state", np.zeros((1, 1))) for n in counting.states}
    density = exacter(solved_for(density, scales_of(paths, counting)))
    names = [name for name, one in asked.items() if not isinstance(one, Integral | Mean)]
    functions = tuple(level_of(twin, asked[name]) for name in names)
    watched = Watched(integrals, functions, tuple(asked[name].condition for name in names))
    num = next(iter(values.values())).shape[0] if values else 1
    batch, parts = at_once(density), []
    keyed = Keyed(watched, key_of((watched.integrals, watched.functions, watched.conditions)))
    for first in range(0, num, batch):
        rows = np.minimum(np.arange(first, first + batch), num - 1)
        part = _follow_all(density.filled, keyed, {name: v[rows] for name, v in values.items()})
        size = min(batch, num - first)
        parts.append(jax.tree.map(lambda own, size=size: np.asarray(own)[:size], part))
        if phase is not None:
            phase.advance(size)
    whole: Followed = jax.tree.map(lambda *own: np.concatenate(own), *parts)
    drawn = {}
    for name, quantity in asked.items():
        place = names.index(name) if name in names else None
        own = None if place is None else jax.tree.map(lambda array, place=place: array[..., place], whole.seen)
        integral = whole.integrals[..., integrals.index(f"{name}_so_far")]
        drawn[name] = np.where(whole.solved, _made_of(quantity, own, integral, whole.length), np.nan)
    return drawn


FEW, STIFF = 16, 30.0
"""Draws by which an affine twin is told to be stiff, and from how many time constants between two stops it is."""


def is_stiff(twin: Twin, grid: Grid, values: Mapping[str, np.ndarray]) -> bool:
    """Whether the fastest time constant of an affine twin is much shorter than the time between stops."""
    jacobians = np.asarray(_jacobians(Keyed(twin, key_of(twin)), grid, values))
    fastest = np.abs(np.linalg.eigvals(jacobians[np.isfinite(jacobians).all(axis=(-2, -1))])).max(initial=0.0)
    lengths = np.diff(np.asarray(grid.edges))
    return bool(fastest * np.median(lengths[lengths > 0]) > STIFF) if (lengths > 0).any() else False


@Program
def _jacobians(twin: Keyed[Twin], grid: Grid, values: Mapping[str, Array]) -> Array:
    def one(grid: Grid, values: Mapping[str, Array]) -> Array:
        field, state, _ = begin(twin.value, grid, values)
        slope = field.slope(inputs_from(jnp.zeros(()), jnp.asarray(grid.at_start)[None]))
        return jax.jacfwd(slope, argnums=1)(jnp.zeros(()), state)

    alone = grid if jnp.ndim(grid.edges) == 1 else jax.tree.map(lambda own: own[0], grid)
    own = {name: v if v.ndim == 1 else v[:, 0] for name, v in values.items()}
    return jax.vmap(functools.partial(one, alone))(own) if own else one(alone, own)[None]


def _made_of(quantity: QuantityOfInterest, seen: Occurrences | None, integral: Any, length: Any) -> np.ndarray:
    """A quantity in the unit in which it is computed."""
    if isinstance(quantity, Integral):
        return integral
    if isinstance(quantity, Mean):
        return np.divide(integral, length, out=np.full(integral.shape, np.nan), where=length > 0)
    assert seen is not None
    match quantity:
        case Max():
            return np.where(np.isfinite(seen.highest), seen.highest, np.nan)
        case Min():
            return np.where(np.isfinite(seen.lowest), seen.lowest, np.nan)
        case TimeWhere():
            return np.asarray(seen.lasted)
        case LongestWhere():
            return np.asarray(seen.longest)
        case FirstTime():
            return np.asarray(seen.first)
    message = f"nothing is known about {type(quantity).__name__}"
    raise TypeError(message)


@Program
def _follow_all(density: Density, watched: Keyed[Watched], values: Mapping[str, Array]) -> Followed:
    def one(values: Mapping[str, Array]) -> Followed:
        return follow(density.twin, density.grid, values, watched.value)

    return jax.vmap(one)(values) if values else jax.tree.map(lambda own: own[None], one(values))


# What is known at the rows alone.


def _at_rows(
    density: Density,
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    asked: Mapping[str, QuantityOfInterest],
    rows: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Quantities made of what is known at the rows, in the unit in which they are computed."""
    times, inputs = density.bound.times, np.asarray(density.grid.inputs)
    if not density.experiments:
        given, chosen = dict(density.bound.known) | dict(values), slice(None) if rows is None else rows
        return _of_rows(density.twin, times[chosen], inputs[chosen], given, found, asked)
    each = []
    for number in range(len(density.experiments)):
        own = np.isfinite(density.bound.labels[number])
        alone = {name: array[number] for name, array in density.bound.known.items()}
        alone |= {name: array[:, number] if array.ndim > 1 else array for name, array in values.items()}
        paths = {name: array[:, number, own] for name, array in found.items() if name.endswith("_state")}
        each.append(_of_rows(density.twin, times[number][own], inputs[number][: own.sum()], alone, paths, asked))
    return {name: np.stack([own[name] for own in each], axis=1) for name in asked}


def _of_rows(
    twin: Twin,
    times: np.ndarray,
    inputs: np.ndarray,
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    asked: Mapping[str, QuantityOfInterest],
) -> dict[str, np.ndarray]:
    paths = {name: found[f"{name}_state"] for name in twin.states}
    x_of, u_of = namespace("states", tuple(twin.states)), namespace("inputs", tuple(twin.inputs))
    known = {name: number for name, number in values.items() if np.ndim(number) == 0}
    own = {name: array for name, array in values.items() if np.ndim(array) == 1}
    drawn = {}
    for name, quantity in asked.items():
        function = function_of(twin, quantity) if isinstance(quantity, FromRows) else level_of(twin, quantity)

        def of_draw(values: Mapping[str, Array], paths: Mapping[str, Array], of: Any = function) -> Array:
            p, u = parameters(twin, {**known, **values}), u_of(*inputs.T)
            return jnp.asarray(of(times, x_of(*paths.values()), p, u), float)

        def of_each(values: Mapping[str, Array], paths: Mapping[str, Array], of: Any = function) -> Array:
            p = parameters(twin, {**known, **values})
            return jax.vmap(lambda t, x, u: jnp.asarray(of(t, x_of(*x), p, u_of(*u)), float))(
                times, list(paths.values()), inputs
            )

        if isinstance(quantity, FromRows):
            drawn[name] = np.asarray(jax.jit(jax.vmap(of_draw))(own, paths))
        else:
            drawn[name] = _between_rows(quantity, times, np.asarray(jax.jit(jax.vmap(of_each))(own, paths)))
    return drawn


def _between_rows(quantity: QuantityOfInterest, times: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """A quantity of straight lines through levels at the rows, shape (n, m)."""
    steps = np.diff(times)
    if isinstance(quantity, Integral | Mean):
        integral = np.trapezoid(levels, times, axis=1)
        return integral if isinstance(quantity, Integral) else integral / (times[-1] - times[0] or np.nan)
    if isinstance(quantity, Max | Min):
        return levels.max(axis=1) if isinstance(quantity, Max) else levels.min(axis=1)
    there, before, after = ~np.isnan(levels).any(axis=1), levels[:, :-1], levels[:, 1:]
    crossed = (before >= 0.0) != (after >= 0.0)
    at = np.where(crossed, before / np.where(crossed, before - after, 1.0), 1.0) * steps
    lasted, first, run, longest = np.zeros(len(levels)), np.full(len(levels), np.inf), np.zeros(len(levels)), 0.0
    for number, length in enumerate(steps):
        holds, held_on, share = before[:, number] >= 0.0, after[:, number] >= 0.0, at[:, number]
        held = np.where(holds, np.where(held_on, length, share), np.where(held_on, length - share, 0.0))
        began = times[number] - times[0] + np.where(holds, 0.0, np.where(held_on, share, np.inf))
        whole = np.where(holds, run, 0.0) + held
        lasted, first, longest = lasted + held, np.minimum(first, began), np.maximum(longest, whole)
        run = np.where(held_on, whole, 0.0)
    made = {TimeWhere: lasted, LongestWhere: longest, FirstTime: first}[type(quantity)]
    return np.where(there, made, np.nan)
