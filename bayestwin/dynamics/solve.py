"""Solving a twin on a grid, by adaptive steps or a fixed number of them, and the derivatives of a solve.

A solve that fails is data: a flag beside the states, never an exception.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from bayestwin.dynamics.affine import solve_exactly
from bayestwin.dynamics.equilibrium import count_sums, find_equilibrium
from bayestwin.dynamics.events import Crossings
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import FixedSteps, Grid, inputs_from, interpolate
from bayestwin.dynamics.moving import move_stops
from bayestwin.dynamics.steppers import (
    Position,
    advance_rodas5p,
    advance_tsit5,
    take_tsit5_step,
    through_jacobian,
    trace,
)
from bayestwin.errors import InvalidSetting
from bayestwin.model.black_box import BlackBox
from bayestwin.model.dependence import parameters, start_at
from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin
from bayestwin.model.types import SteadyState, varies

STEPPERS = {
    "tsit5": advance_tsit5,
    "rodas5p": advance_rodas5p,
    "auto": advance_tsit5,  # where nobody asked `probe.choose_solver`
    "exact": advance_tsit5,  # where single steps are looked at
}


class Trajectory(NamedTuple):
    """States over n saved times.

    Attributes:
        states: In the order of the twin, and after them the parameters that events change; 1 where they were not
            reached, so that nothing computed from them is NaN; shape (n, s).
        solved: Whether the solver reached the last time.
        num_steps: Steps taken, rejected ones included.
        by_interval: Those of each of m intervals; shape (m,).
        reached: At which saved times the states are those of the solve; shape (n,).
    """

    states: Array
    solved: Array
    num_steps: Array
    by_interval: Array
    reached: Array


def solve(
    twin: Twin, grid: Grid, values: Mapping[str, ArrayLike], *, partly: bool = False, beside: int = 1
) -> Trajectory:
    """Solve the twin, differentiably in its free quantities.

    Args:
        twin: The twin.
        grid: Where to stop and to save; of several experiments where its arrays have a leading axis.
        values: Parameters by name and initial states as `<state>_initial`; what the twin knows may be left out. An
            array has one value for each experiment.
        partly: Whether a solve that fails keeps its states up to there, which have no derivatives then. Else it
            reaches nothing.
        beside: How many are solved side by side by this, where the caller maps over them.

    Returns:
        The trajectory; `solved` is False where the solver gave up or a state is not finite. Of several experiments
        everything has a leading axis, and derivatives are carried only along an experiment's own values.
    """
    if np.ndim(grid.edges) == 2:
        axes = {name: 0 if jnp.ndim(value) else None for name, value in values.items()}
        one = functools.partial(solve, twin, partly=partly, beside=len(grid.edges))
        return jax.vmap(one, in_axes=(0, axes))(jax.tree.map(jnp.asarray, grid), dict(values))
    if twin.black_box:
        p = parameters(twin, {**grid.known, **values})
        theta = jnp.array([getattr(p, name) for name in twin.black_box.takes], float)
        states = ask(twin.black_box, theta, *map(jnp.asarray, (grid.edges, grid.coefficients, grid.save)))
        none, known = jnp.zeros(len(grid.edges) - 1, int), so_far(states)
        return _trajectory(states, known.all(), none, *([known] if partly else []))
    free = [site.name for site in twin.sites() if site.kind in ("parameter", "initial")]
    # sites are scalars, but where states were brought to by the end of a record may be arrays
    theta, apart = ravel_pytree([jnp.asarray(values[name], float) for name in free])

    def named(theta: Array) -> dict[str, Array]:
        return dict(zip(free, apart(theta), strict=True))

    def of_theta(theta: Array, grid: Grid) -> tuple[Array, tuple[Array, ...]]:
        return _integrate(twin, grid, named(theta), partly=partly)

    if twin.solver.method == "exact":
        states, solved = _recur(twin, grid, named, theta, beside)
        none = jnp.zeros(len(grid.edges) - 1, int)
        return _trajectory(states, solved, none, *([so_far(states)] if partly else []))
    adaptive = grid.fixed is None
    # where the grid is traced, what has a derivative of its own may not close over it
    integrated = through_jacobian(of_theta) if free and adaptive else of_theta
    states, (solved, by_interval, *reached) = integrated(theta, grid)
    return _trajectory(states, solved, by_interval, *reached)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def ask(box: BlackBox, theta: Array, edges: Array, coefficients: Array, save: Array) -> Array:
    """Outputs of a black box at the saved times, shape (n, s), from values of what it takes; NaN where it failed."""
    result = jax.ShapeDtypeStruct((len(save), len(box.gives)), float)

    def every(*arguments: Array) -> np.ndarray:
        rows = [np.asarray(own) for own in arguments]
        before, dims = rows[0].shape[:-1], (1, 1, 3, 1)  # what is mapped over, and the axes of one solve
        num = math.prod(before)  # of arrays without entries this does not follow from their size
        flat = [own.reshape(num, *own.shape[own.ndim - axes :]) for own, axes in zip(rows, dims, strict=True)]
        return np.stack([box.solve(*one) for one in zip(*flat, strict=True)]).reshape(*before, *result.shape)

    return jax.pure_callback(every, result, theta, edges, coefficients, save, vmap_method="broadcast_all")


@ask.defjvp
def _refuse_derivatives(box: BlackBox, primals: Any, tangents: Any) -> Any:  # noqa: ARG001
    raise InvalidSetting(
        "A model whose equations nobody sees has no derivatives.",
        expected="something that needs none",
        received=box.words.splitlines()[0],
        advice="Write its equations as a vector field; or calibrate it by a method that draws without derivatives.",
    )


def _trajectory(states: Array, solved: Array, by_interval: Array, reached: Array | None = None) -> Trajectory:
    known = solved if reached is None else reached[:, None]
    reached = jnp.full(len(states), solved) if reached is None else reached
    return Trajectory(jnp.where(known, states, 1.0), solved, by_interval.sum(), by_interval, reached)


def so_far(found: Array, there: Array | bool = True) -> Array:
    """At which of n times everything up to then is finite, shape (n, …), and was `there`; shape (n,)."""
    fine = jnp.isfinite(found).reshape(len(found), -1).all(axis=1) & there
    num = jnp.where(fine.all(), len(found), jnp.argmin(fine))  # one pass, where a running minimum takes several
    return jnp.arange(len(found)) < num


def trace_steps(twin: Twin, grid: Grid, most: int, values: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
    """The explicit steps that fit a solution of a twin without inputs and events, as `adaptive.trace` finds them.

    Args:
        twin: The twin.
        grid: Whose last edge is to be reached, with no stop between.
        most: Steps after which to give up.
        values: As of `solve`.
    """
    free = {name: jnp.asarray(value, float) for name, value in values.items()}
    field, state, found = begin(twin, grid, free)
    at = Position(state, jnp.asarray(grid.edges[-1] / most), found, jnp.zeros((), int))
    slope = field.slope(lambda _: jnp.empty(0))
    return trace(take_tsit5_step, slope, jnp.asarray(grid.edges[-1]), at, grid.precision, field.size, most)


def _integrate(
    twin: Twin, grid: Grid, free: Mapping[str, Array], *, partly: bool = False
) -> tuple[Array, tuple[Array, ...]]:
    """Values at the saved times, and the record: solved, steps of each interval, and if asked for, what was reached."""
    field, state, found = begin(twin, grid, free)
    places = None
    if twin.moving:
        grid, places, known = move_stops(field, grid)
        found &= known
    if grid.fixed is not None:
        after = integrate(field, state, grid, grid.fixed)
        solved, by_interval = found, jnp.diff(jnp.asarray(grid.fixed.last), prepend=-1)
        there = jnp.full(len(grid.edges), found) if partly else found
    else:
        at, passed = _march(grid, field, state, found)
        after, solved, by_interval = passed.state, at.solved, jnp.diff(passed.num_steps, prepend=0)
        if places is not None:  # those of the intervals that there were before
            by_interval = jnp.diff(passed.num_steps[jnp.maximum(places[1:] - 1, 0)], prepend=0)
        there = jnp.concatenate([found[None], passed.solved]) if partly else found
    states = jnp.concatenate([state[None], after])
    if field.counted.any():
        states = jnp.where(field.counted, jnp.cumsum(states, axis=0), states)
    if grid.between is None:
        states, ends = states[grid.save], grid.save
    else:
        states = interpolate(field.slope(lambda _: jnp.empty(0)), grid.edges, states, grid.between)
        within = jnp.asarray(grid.between.within)
        ends = (jnp.asarray(grid.between.interval)[:, None] + (within > 0.0)).ravel()[grid.between.place]
    values = field.values(states)
    reached = (so_far(values, there[ends]),) if partly else ()
    return values, (solved & jnp.isfinite(values).all(), by_interval, *reached)


def _recur(
    twin: Twin, grid: Grid, named: Callable[[Array], dict[str, Array]], theta: Array, beside: int
) -> tuple[Array, Array]:
    """Values at the saved times of a twin that needs no solver, and whether there are any."""

    def field_of(theta: Array, grid: Grid) -> Field:
        return Field(twin, parameters(twin, {**grid.known, **named(theta)}))

    _, state, found = begin(twin, grid, named(theta))
    states = jnp.concatenate([state[None], solve_exactly(field_of, theta, state, grid, beside)])[grid.save]
    return states, found & jnp.isfinite(states).all()


def begin(twin: Twin, grid: Grid, free: Mapping[str, ArrayLike]) -> tuple[Field, Array, Array]:
    """The twin with its parameters, the state at the start, and whether there is one: an equilibrium may be absent."""
    given = {**grid.known, **free}
    p = parameters(twin, given)
    field = Field(twin, p, grid.signals)
    steady = twin.layout.repeat([isinstance(spec.initial, SteadyState) for spec in twin.states.values()])
    before = _held_before(twin, p)
    starts = [
        start_at(twin, name, given, before if isinstance(spec.initial, SteadyState) else p, grid.at_start)
        for name, spec in twin.states.items()
    ]
    initial = [jnp.asarray(start, float) for start in starts]
    if not steady.any():
        state = field.pack(initial)
        return field, state, jnp.isfinite(state).all()
    earlier = field if before is p else Field(twin, before, grid.signals)
    state = earlier.pack(initial)
    first = move_stops(earlier, grid)[0] if twin.delayed else grid
    slope = earlier.slope(inputs_from(jnp.zeros(()), jnp.asarray(first.at_start)[None]))
    state, found = find_equilibrium(slope, state, np.flatnonzero(steady), earlier.values, count_sums(twin))
    if before is p and not any(getattr(spec.initial, "then", None) for spec in twin.states.values()):
        return field, state, found
    x = earlier.named(earlier.values(state))[0]
    anew = [
        spec.initial.then(p, x) if isinstance(spec.initial, SteadyState) and spec.initial.then else getattr(x, name)
        for name, spec in twin.states.items()
    ]
    state = field.pack([jnp.asarray(start, float) for start in anew])
    return field, state, found & jnp.isfinite(state).all()


def _held_before(twin: Twin, p: Any) -> Any:
    """Parameters as they were until `t0`, where a start in equilibrium says that some were others; else the same."""
    specs = [spec.initial for spec in twin.states.values() if isinstance(spec.initial, SteadyState)]
    under = next((spec.under for spec in specs if spec.under is not None), None)
    if under is None:
        return p
    stay = {name: value for name, value in p._asdict().items() if name not in twin.derived}
    return parameters(twin, {**stay, **under(p)})


def _march(grid: Grid, field: Field, state: Array, found: Array) -> tuple[Position, Position]:
    """Where the adaptive solver stands at the end, and at the end of each interval; a leading axis m in the second."""
    stepper, interrupted = STEPPERS[field.twin.solver.method], field.interrupted
    if field.long:
        _ = field.told  # joined once, not at every turn of what follows

    def interval(loop: tuple[Position, Array, Array], span: tuple[Array, ...]) -> tuple[tuple, Position]:
        (at, levels, gaps), (start, end, coefficients, amounts) = loop, span
        inputs_at = inputs_from(start, coefficients)
        at = at._replace(state=field.anew(field.happen(start, at.state, coefficients[0], amounts)))
        crossings = Crossings(field, inputs_at) if interrupted else None
        if crossings is not None:
            at = crossings.resume(start, at, levels, gaps)
        at = stepper(field.slope(inputs_at), start, end, at, grid.precision, field.size, crossings)
        if crossings is not None:
            levels, gaps = crossings.triggers(end, at.state), crossings.gaps(end, at.state, at.modes)
        return (at, levels, gaps), at

    edges = jnp.asarray(grid.edges)
    first = edges[1] - edges[0] if len(grid.edges) > 1 else jnp.ones(())
    if field.twin.moving:  # what arrives at the start leaves nothing to step over
        first = jnp.diff(edges).max()
    unknown = jnp.full(field.equations.count, jnp.nan)
    at = Position(state, first, found, jnp.zeros((), int), jnp.zeros(field.equations.count))
    spans = (edges[:-1], edges[1:], jnp.asarray(grid.coefficients), jnp.asarray(grid.amounts))
    # an event cannot be triggered at the very start: nothing has crossed anything yet
    (at, *_), passed = lax.scan(interval, (at, jnp.zeros(len(field.twin.triggered)), unknown), spans)
    return at, passed


def observe(
    twin: Twin, times: ArrayLike, states: Array, inputs: ArrayLike, values: Mapping[str, Any]
) -> dict[str, Array]:
    """Noise-free value of each observation.

    Args:
        twin: The twin.
        times: Elapsed times; shape (n,).
        states: As `solve` gives them; shape (n, s).
        inputs: Inputs at these times; shape (n, q).
        values: Parameters by name; what the twin knows may be left out, and what it derives.

    Returns:
        By name; shape (n,) each.
    """
    return jax.vmap(observer(twin, values))(jnp.asarray(times), states, jnp.asarray(inputs))


def observer(twin: Twin, values: Mapping[str, Any]) -> Callable[[Array, Array, Array], dict[str, Array]]:
    """The function `(t, states, inputs)` → noise-free observations at one time, by name; `values` as of `observe`."""
    field = Field(twin, parameters(twin, values))
    u_of = namespace("inputs", tuple(twin.inputs))

    def at_one_time(t: Array, state: Array, signal: Array) -> dict[str, Array]:
        (x, p), u = field.named(state), u_of(*signal)
        return {
            name: getattr(x, name) if spec.of is None else jnp.asarray(spec.of(t, x, p, u), float)
            for name, spec in twin.observations.items()
        }

    return at_one_time


def vary(twin: Twin, times: ArrayLike, states: Array, inputs: ArrayLike, values: Mapping[str, Any]) -> dict[str, Array]:
    """Noise quantities that are functions `(t, x, p, u)`, by `<observation>_<quantity>`; arguments as of `observe`."""
    functions: dict[str, Any] = {
        f"{name}_{key}": quantity
        for name, spec in twin.observations.items()
        for key, quantity in spec.noise.parameters.items()
        if varies(quantity)
    }
    if not functions:
        return {}
    field = Field(twin, parameters(twin, values))
    u_of = namespace("inputs", tuple(twin.inputs))

    def at_one_time(t: Array, state: Array, signal: Array) -> dict[str, Array]:
        (x, p), u = field.named(state), u_of(*signal)
        return {name: jnp.asarray(function(t, x, p, u), float) for name, function in functions.items()}

    return jax.vmap(at_one_time)(jnp.asarray(times), states, jnp.asarray(inputs))


# The whole grid by a fixed number of explicit steps an interval: one straight loop, which reverse mode goes through.
#
# How many steps each interval takes is learnt from adaptive solves; whether that was exact enough is found out
# afterwards by the tolerance audit.

MOST_STEPS = 200_000
"""Reverse mode keeps the state before every step."""

MANY, LEAST_WORK = 8, 4_000
"""Derivatives, or steps times derivatives, from which on reverse mode is faster: see `benchmarks/sensitivities.py`."""

WASTEFUL = 1.5
"""Fixed steps must be no more than this times those that a typical adaptive solve takes."""


def integrate(field: Field, state: Array, grid: Grid, fixed: FixedSteps) -> Array:
    """States at the end of each interval; shape (m, s).

    Args:
        field: The twin with its parameters.
        state: At the first edge; shape (s,).
        grid: m intervals.
        fixed: The steps.
    """
    interval, number, length, last = (jnp.asarray(leaf) for leaf in fixed)
    begun = jnp.asarray(grid.edges)[interval]
    # what happens at the start of an interval happens before its first step only
    amounts = jnp.where((number == 0)[:, None], jnp.asarray(grid.amounts)[interval], jnp.nan)

    @jax.checkpoint  # its stages are computed again on the way back: less memory, and not slower
    def body(state: Array, span: tuple[Array, ...]) -> tuple[Array, Array]:
        begun, start, step, coefficients, amounts, *first = span
        state = field.happen(start, state, coefficients[0], amounts)
        state = jnp.where(first[0], field.anew(state), state) if first else state
        state, _ = take_tsit5_step(field.slope(inputs_from(begun, coefficients)), start, state, step)
        return state, state

    spans = (begun, begun + number * length, length, jnp.asarray(grid.coefficients)[interval], amounts)
    spans += (number == 0,) if field.counted.any() else ()
    return lax.scan(body, state, spans)[1][last]


def plan_substeps(num_steps: np.ndarray, num_derivatives: int) -> tuple[np.ndarray | None, Mapping[str, Any]]:
    """How many steps each interval is to take, from adaptive solves; None where forward mode does better.

    Args:
        num_steps: Steps that n adaptive solves took in each of m intervals; shape (n, m).
        num_derivatives: With respect to how many quantities derivatives are needed.

    Returns:
        Steps of each interval, shape (m,), or None; and what was chosen and why, as plain values.
    """
    substeps = np.maximum(num_steps.max(axis=0), 1)
    total, typical = int(substeps.sum()), float(np.median(num_steps.sum(axis=1)))
    evidence = {"steps": total, "derivatives": num_derivatives}
    if num_derivatives < MANY and total * num_derivatives < LEAST_WORK:
        return None, {"mode": "forward", "reason": "few steps and derivatives", **evidence}
    if total > WASTEFUL * typical or total > MOST_STEPS:
        return None, {"mode": "forward", "reason": "the steps that solves need differ too much", **evidence}
    return substeps, {"mode": "reverse", "reason": "many steps or derivatives, evenly needed", **evidence}
