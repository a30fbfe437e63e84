"""Solving a twin on a grid. A solve that fails is data: a flag beside the states, never an exception."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics import explicit, rosenbrock
from bayestwin.dynamics.adaptive import Position, trace
from bayestwin.dynamics.equilibrium import find_equilibrium
from bayestwin.dynamics.events import across, build_interrupt, triggers_of
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.fixed import integrate
from bayestwin.dynamics.grid import Grid, inputs_from
from bayestwin.dynamics.interpolation import interpolate
from bayestwin.dynamics.recurrence import solve_exactly
from bayestwin.dynamics.sensitivity import through_jacobian
from bayestwin.model.events import SteadyState
from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin

STEPPERS = {
    "tsit5": explicit.advance,
    "rodas5p": rosenbrock.advance,
    "auto": explicit.advance,  # where nobody asked `probe.choose_solver`
    "exact": explicit.advance,  # where single steps are looked at
}


class Trajectory(NamedTuple):
    """States over n saved times.

    Attributes:
        states: In the order of the twin, and after them the parameters that events change; 1 throughout where the
            solve failed, so that nothing computed from them is NaN; shape (n, s).
        solved: Whether the solver reached the last time.
        num_steps: Steps taken, rejected ones included.
    """

    states: Array
    solved: Array
    num_steps: Array


def solve(twin: Twin, grid: Grid, values: Mapping[str, ArrayLike]) -> Trajectory:
    """Solve the twin, differentiably in its free quantities.

    Args:
        twin: The twin.
        grid: Where to stop and to save; of several experiments where its arrays have a leading axis.
        values: Parameters by name and initial states as `<state>_initial`; what the twin knows may be left out. An
            array has one value for each experiment.

    Returns:
        The trajectory; `solved` is False where the solver gave up or a state is not finite. Of several experiments
        everything has a leading axis, and derivatives are carried only along an experiment's own values.
    """
    if np.ndim(grid.edges) == 2:
        axes = {name: 0 if jnp.ndim(value) else None for name, value in values.items()}
        one = functools.partial(solve, twin)
        return jax.vmap(one, in_axes=(0, axes))(jax.tree.map(jnp.asarray, grid), dict(values))
    free = [site.name for site in twin.sites() if site.kind in ("parameter", "initial")]
    theta = jnp.stack([jnp.asarray(values[name], float) for name in free]) if free else jnp.zeros(0)

    def of_theta(theta: Array, grid: Grid = grid) -> tuple[Array, tuple[Array, Array]]:
        return _integrate(twin, grid, dict(zip(free, theta, strict=True)))

    if twin.solver.method == "exact":
        states, solved = _recur(twin, grid, free, theta)
        return Trajectory(jnp.where(solved, states, 1.0), solved, jnp.zeros((), int))
    adaptive = grid.substeps is None
    # where it is traced, what has a derivative of its own may not close over it
    given = (grid,) if isinstance(grid.coefficients, Array) else ()
    states, (solved, num_steps) = (through_jacobian(of_theta) if free and adaptive else of_theta)(theta, *given)
    return Trajectory(jnp.where(solved, states, 1.0), solved, num_steps)


def count_steps(twin: Twin, grid: Grid, values: Mapping[str, ArrayLike]) -> Array:
    """Steps that the adaptive solver takes in each of m intervals, shape (m,); arguments as of `solve`."""
    free = {name: jnp.asarray(value, float) for name, value in values.items()}
    return jnp.diff(_march(grid, *begin(twin, grid, free))[1].num_steps, prepend=0)


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
    return trace(explicit.take_step, slope, jnp.asarray(grid.edges[-1]), at, twin.solver, field.size, most)


def _integrate(twin: Twin, grid: Grid, free: Mapping[str, Array]) -> tuple[Array, tuple[Array, Array]]:
    """Values at the saved times, and the record (solved, number of steps)."""
    field, state, found = begin(twin, grid, free)
    if grid.substeps is not None:
        after = integrate(field, state, grid, grid.substeps)
        solved, num_steps = found, jnp.asarray(int(grid.substeps.sum()))
    else:
        at, passed = _march(grid, field, state, found)
        after, solved, num_steps = passed.state, at.solved, at.num_steps
    states = jnp.concatenate([state[None], after])
    if grid.between is None:
        states = states[grid.save]
    else:
        states = interpolate(field.slope(lambda _: jnp.empty(0)), grid.edges, states, grid.between)
    values = field.values(states)
    return values, (solved & jnp.isfinite(values).all(), num_steps)


def _recur(twin: Twin, grid: Grid, free: list[str], theta: Array) -> tuple[Array, Array]:
    """Values at the saved times of a twin that needs no solver, and whether there are any."""

    def field_of(theta: Array) -> Field:
        return Field(twin, parameters(twin, dict(zip(free, theta, strict=True))))

    _, state, found = begin(twin, grid, dict(zip(free, theta, strict=True)))
    states = jnp.concatenate([state[None], solve_exactly(field_of, theta, state, grid)])[grid.save]
    return states, found & jnp.isfinite(states).all()


def begin(twin: Twin, grid: Grid, free: Mapping[str, ArrayLike]) -> tuple[Field, Array, Array]:
    """The twin with its parameters, the state at the start, and whether there is one: an equilibrium may be absent."""
    p = parameters(twin, free)
    field = Field(twin, p)
    initial = {}
    for name, spec in twin.states.items():
        known = spec.initial.guess if isinstance(spec.initial, SteadyState) else spec.initial
        value = free.get(f"{name}_initial", known)
        initial[name] = jnp.asarray(value(p) if callable(value) else value, float)
    state = field.pack(jnp.stack(list(initial.values())))
    steady = [number for number, spec in enumerate(twin.states.values()) if isinstance(spec.initial, SteadyState)]
    if not steady:
        return field, state, jnp.isfinite(state).all()
    slope = field.slope(inputs_from(jnp.zeros(()), jnp.asarray(grid.at_start)[None]))
    return field, *find_equilibrium(slope, state, np.array(steady))


def parameters(twin: Twin, values: Mapping[str, Any]) -> Any:
    """All parameters by name, from those that are free; the rest is known."""
    return namespace("parameters", tuple(twin.parameters))(
        *[values.get(name, spec.prior) for name, spec in twin.parameters.items()]
    )


def _march(grid: Grid, field: Field, state: Array, found: Array) -> tuple[Position, Position]:
    """Where the adaptive solver stands at the end, and at the end of each interval; a leading axis m in the second."""
    twin = field.twin
    stepper = STEPPERS[twin.solver.method]

    def interval(loop: tuple[Position, Array], span: tuple[Array, ...]) -> tuple[tuple[Position, Array], Position]:
        (at, levels), (start, end, coefficients, amounts) = loop, span
        inputs_at = inputs_from(start, coefficients)
        state = field.happen(start, at.state, coefficients[0], amounts)
        interrupt = None
        if twin.triggered:
            state = across(field, inputs_at, levels, start, state)
            interrupt = build_interrupt(field, inputs_at)
        at = at._replace(state=state)
        at = stepper(field.slope(inputs_at), start, end, at, twin.solver, field.size, interrupt)
        if twin.triggered:
            levels = triggers_of(field, inputs_at)(end, at.state)
        return (at, levels), at

    edges = jnp.asarray(grid.edges)
    first = edges[1] - edges[0] if len(grid.edges) > 1 else jnp.ones(())
    at = Position(state, first, found, jnp.zeros((), int))
    spans = (edges[:-1], edges[1:], jnp.asarray(grid.coefficients), jnp.asarray(grid.amounts))
    # an event cannot be triggered at the very start: nothing has crossed anything yet
    (at, _), passed = lax.scan(interval, (at, jnp.zeros(len(twin.triggered))), spans)
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
        values: Parameters by name; what the twin knows may be left out.

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
