"""From values of the sites to quantities of interest, many draws at a time.

Paths are solved once more for them, more precisely and with the integrals as states, so that predictions are the same
with them and without. With process noise a path is known at the rows alone, and quantities are those of straight lines
between them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class Followable(NamedTuple):
    """What the quantities of a twin are solved for by.

    Attributes:
        twin: The twin, without its integrals.
        asked: The quantities.
        density: Of the twin with their integrals as states.
        watched: What is looked for along a path, in the order of `names`.
        names: The quantities that are looked for within steps.
    """

    twin: Twin
    asked: Mapping[str, QuantityOfInterest]
    density: Density
    watched: Keyed[Watched]
    names: tuple[str, ...]

    def made_of(self, whole: Followed, length: Any) -> dict[str, np.ndarray]:
        """Quantities as they are computed, NaN where a path fails; derivatives of them from those of a path.

        Args:
            whole: What became of all paths, or its derivatives.
            length: Of the window.
        """
        drawn = {}
        for name, quantity in self.asked.items():
            place = self.names.index(name) if name in self.names else None
            own = None if place is None else jax.tree.map(lambda array, place=place: array[..., place], whole.seen)
            integral = whole.integrals[..., self.watched.value.integrals.index(f"{name}_so_far")]
            drawn[name] = np.where(whole.solved, _made_of(quantity, own, integral, length), np.nan)
        return drawn


def followable(
    twin: Twin,
    asked: Mapping[str, QuantityOfInterest],
    density_of: Callable[[Twin], Density],
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
) -> Followable:
    """Prepare quantities of paths that are solved for; arguments as of `quantities_of`."""
    counting, integrals = with_integrals(dataclasses.replace(twin, quantities=dict(asked)))
    density = density_of(counting)
    if density.twin.solver.method == "exact":  # the integrals need a solver
        stiff = is_stiff(density.twin, density.filled.grid, {name: v[:FEW] for name, v in values.items()})
        density = density.solved_as(with_method(density.twin, "rodas5p" if stiff else "tsit5"))
    paths: dict[str, Any] = {f"{n}_state": found.get(f"{n}_state", np.zeros((1, 1))) for n in counting.states}
    density = solved_for(density, scales_of(paths, counting))
    names = tuple(name for name, one in asked.items() if not isinstance(one, Integral | Mean))
    functions = tuple(level_of(twin, asked[name]) for name in names)
    watched = Watched(integrals, functions, tuple(asked[name].condition for name in names))
    return Followable(twin, asked, density, Keyed(watched, key_of(tuple(watched))), names)


def _followed(
    twin: Twin,
    asked: Mapping[str, QuantityOfInterest],
    density_of: Callable[[Twin], Density],
    values: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    phase: Phase | None,
) -> dict[str, np.ndarray]:
    """Quantities of paths that are solved for."""
    prepared = followable(twin, asked, density_of, values, found)
    density = exacter(prepared.density)
    num = next(iter(values.values())).shape[0] if values else 1
    batch, parts = at_once(density), []
    for first in range(0, num, batch):
        rows = np.minimum(np.arange(first, first + batch), num - 1)
        part = _follow_all(density.filled, prepared.watched, {name: v[rows] for name, v in values.items()})
        size = min(batch, num - first)
        parts.append(jax.tree.map(lambda own, size=size: np.asarray(own)[:size], part))
        if phase is not None:
            phase.advance(size)
    whole: Followed = jax.tree.map(lambda *own: np.concatenate(own), *parts)
    return prepared.made_of(whole, whole.length)


# Quantities as functions of what is chosen: inputs between two courses, doses, and parameters.


class Courses(NamedTuple):
    """What k choices, each from 0 to 1, do to a path of one record: all of it linear in them.

    Attributes:
        coefficients: How the inputs within each interval change with each; shape (k, m, p, q).
        inputs: How those at the saved times do; shape (k, n, q).
        amounts: How the values of events do, 0 where none happens; shape (k, m, e).
        parameters: By name, the value where all choices are 0 and what each adds to it; shape (1 + k,) each.
    """

    coefficients: np.ndarray
    inputs: np.ndarray
    amounts: np.ndarray
    parameters: Mapping[str, np.ndarray]


def quantities_along(
    prepared: Followable, courses: Courses, values: Mapping[str, np.ndarray], choices: np.ndarray, *, slopes: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Quantities of n draws under some choices, in their units; NaN where a path fails.

    Args:
        prepared: What they are solved for by.
        courses: What the choices do.
        values: By site; shape (n,) each.
        choices: Shape (k,).
        slopes: Whether their derivatives are wanted.

    Returns:
        By name, quantities, shape (n,), and derivatives with respect to the choices, shape (n, k); none of them where
        they are not wanted.
    """
    density, num = prepared.density.filled, len(next(iter(values.values())))
    batch, parts = at_once(density), []
    for first in range(0, num, batch):
        rows = np.minimum(np.arange(first, first + batch), num - 1)
        own = {name: v[rows] for name, v in values.items()}
        program = _follow_slopes if slopes else _follow_courses
        part = program(density, prepared.watched, courses, own, np.asarray(choices, float))
        size = min(batch, num - first)
        parts.append(jax.tree.map(lambda own, size=size: np.asarray(own)[:size], part))
    whole = jax.tree.map(lambda *own: np.concatenate(own), *parts)
    path, changes = whole if slopes else (whole, None)
    units = functools.partial(_in_own_units, prepared)
    drawn = units(prepared.made_of(path, path.length))
    if changes is None:
        return drawn, {}
    each = [jax.tree.map(lambda own, k=k: own[..., k], changes) for k in range(len(choices))]
    zero = units({name: np.zeros(1) for name in prepared.asked})
    found = [units(prepared.made_of(one._replace(solved=path.solved), path.length)) for one in each]
    return drawn, {name: np.stack([own[name] - zero[name] for own in found], axis=-1) for name in drawn}


def _in_own_units(prepared: Followable, drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(in_own_unit(prepared.twin, prepared.asked[name], own)) for name, own in drawn.items()}


@Program
def _follow_courses(
    density: Density, watched: Keyed[Watched], courses: Courses, values: Mapping[str, Array], choices: Array
) -> Followed:
    return jax.vmap(lambda own: _along_courses(density, watched.value, courses, own, choices))(values)


@Program
def _follow_slopes(
    density: Density, watched: Keyed[Watched], courses: Courses, values: Mapping[str, Array], choices: Array
) -> tuple[Followed, Followed]:
    def both(values: Mapping[str, Array]) -> tuple[Followed, Followed]:
        def path(choices: Array) -> tuple[Followed, Followed]:
            found = _along_courses(density, watched.value, courses, values, choices)
            # whether a path is solved has no derivative
            return found._replace(solved=jnp.zeros(())), found

        changes, found = jax.jacfwd(path, has_aux=True)(choices)
        return found, changes

    return jax.vmap(both)(values)


def _along_courses(
    density: Density, watched: Watched, courses: Courses, values: Mapping[str, Array], choices: Array
) -> Followed:
    """One path, as it is under the choices."""
    grid = density.grid
    moved = [
        jnp.asarray(base) + jnp.tensordot(choices, jnp.asarray(change), 1)
        for base, change in zip((grid.coefficients, grid.inputs, grid.amounts), courses[:3], strict=True)
    ]
    own = {name: line[0] + jnp.dot(choices, line[1:]) for name, line in courses.parameters.items()}
    chosen: Any = grid._replace(coefficients=moved[0], inputs=moved[1], amounts=moved[2])
    return follow(density.twin, chosen, {**values, **own}, watched)


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
