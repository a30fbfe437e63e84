"""Solving a twin on a grid. A solve that fails is data: a flag beside the states, never an exception."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics import explicit, rosenbrock
from bayestwin.dynamics.adaptive import Position
from bayestwin.dynamics.fixed import integrate
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.sensitivity import through_jacobian
from bayestwin.tracing import namespace
from bayestwin.twin import Twin

STEPPERS = {
    "tsit5": explicit.advance,
    "rodas5p": rosenbrock.advance,
    "auto": explicit.advance,  # where nobody asked `probe.choose_solver`
}


class Trajectory(NamedTuple):
    """States over n saved times.

    Attributes:
        states: In the order of the twin; 1 throughout where the solve failed, so that nothing
            computed from them is NaN; shape (n, s).
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
        grid: Where to stop and to save.
        values: Parameters by name and initial states as `<state>_initial`; what the twin knows may be left out.

    Returns:
        The trajectory; `solved` is False where the solver gave up or a state is not finite.
    """
    free = [site.name for site in twin.sites() if site.kind in ("parameter", "initial")]
    theta = jnp.stack([jnp.asarray(values[name], float) for name in free]) if free else jnp.zeros(0)

    def of_theta(theta: Array) -> tuple[Array, tuple[Array, Array]]:
        return _integrate(twin, grid, dict(zip(free, theta, strict=True)))

    adaptive = grid.substeps is None
    states, (solved, num_steps) = (through_jacobian(of_theta) if free and adaptive else of_theta)(theta)
    return Trajectory(jnp.where(solved, states, 1.0), solved, num_steps)


def count_steps(twin: Twin, grid: Grid, values: Mapping[str, ArrayLike]) -> Array:
    """Steps that the adaptive solver takes in each of m intervals, shape (m,); arguments as of `solve`."""
    free = {name: jnp.asarray(value, float) for name, value in values.items()}
    return jnp.diff(_march(twin, grid, *_begin(twin, free))[1].num_steps, prepend=0)


def _integrate(twin: Twin, grid: Grid, free: Mapping[str, Array]) -> tuple[Array, tuple[Array, Array]]:
    """States at the saved times, and the record (solved, number of steps)."""
    p, state = _begin(twin, free)
    if grid.substeps is not None:
        after = integrate(lambda inputs: right_hand_side(twin, p, inputs), state, grid, grid.substeps)
        solved, num_steps = jnp.asarray(True), jnp.asarray(int(grid.substeps.sum()))
    else:
        at, passed = _march(twin, grid, p, state)
        after, solved, num_steps = passed.state, at.solved, at.num_steps
    states = jnp.concatenate([state[None], after])[grid.save]
    return states, (solved & jnp.isfinite(states).all(), num_steps)


def _begin(twin: Twin, free: Mapping[str, Array]) -> tuple[Any, Array]:
    """Parameters, and the initial state, shape (s,)."""
    return parameters_of(twin, free), initial_of(twin, free)


def _march(twin: Twin, grid: Grid, p: Any, state: Array) -> tuple[Position, Position]:
    """Where the adaptive solver stands at the end, and at the end of each interval; a leading axis m in the second."""
    stepper = STEPPERS[twin.solver.method]

    def interval(at: Position, span: tuple[Array, ...]) -> tuple[Position, Position]:
        start, end, left, right = span
        rate = (right - left) / (end - start)
        slope = right_hand_side(twin, p, lambda t: left + rate * (t - start))
        at = stepper(slope, start, end, at, twin.solver)
        return at, at

    edges = jnp.asarray(grid.edges)
    first = edges[1] - edges[0] if len(grid.edges) > 1 else jnp.ones(())
    at = Position(state, first, jnp.isfinite(state).all(), jnp.zeros((), int))
    return lax.scan(interval, at, (edges[:-1], edges[1:], jnp.asarray(grid.left), jnp.asarray(grid.right)))


def right_hand_side(twin: Twin, p: Any, inputs_at: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """The vector field on plain arrays: `(t, (s,)) → (s,)`, with parameters and inputs filled in."""
    x_of, u_of = namespace("states", tuple(twin.states)), namespace("inputs", tuple(twin.inputs))

    def slope(t: Array, state: Array) -> Array:
        derivative = twin.vector_field(t, x_of(*state), p, u_of(*inputs_at(t)))
        return jnp.stack([jnp.asarray(derivative[name], float) for name in twin.states])

    return slope


def observe(
    twin: Twin, times: ArrayLike, states: Array, inputs: ArrayLike, values: Mapping[str, Any]
) -> dict[str, Array]:
    """Noise-free value of each observation.

    Args:
        twin: The twin.
        times: Elapsed times; shape (n,).
        states: Shape (n, s).
        inputs: Inputs at these times; shape (n, q).
        values: Parameters by name; what the twin knows may be left out.

    Returns:
        By name; shape (n,) each.
    """
    return jax.vmap(observer(twin, values))(jnp.asarray(times), states, jnp.asarray(inputs))


def observer(twin: Twin, values: Mapping[str, Any]) -> Callable[[Array, Array, Array], dict[str, Array]]:
    """The function `(t, states, inputs)` → noise-free observations at one time, by name; `values` as of `observe`."""
    p = parameters_of(twin, values)
    x_of, u_of = namespace("states", tuple(twin.states)), namespace("inputs", tuple(twin.inputs))

    def at_one_time(t: Array, state: Array, signal: Array) -> dict[str, Array]:
        x, u = x_of(*state), u_of(*signal)
        return {
            name: getattr(x, name) if spec.of is None else jnp.asarray(spec.of(t, x, p, u), float)
            for name, spec in twin.observations.items()
        }

    return at_one_time


def parameters_of(twin: Twin, values: Mapping[str, Any]) -> Any:
    """The record of all parameters, those that the twin knows included."""
    known = {n: s.prior for n, s in twin.parameters.items() if not isinstance(s.prior, dist.Distribution)}
    return namespace("parameters", tuple(twin.parameters))(*[(known | dict(values))[name] for name in twin.parameters])


def initial_of(twin: Twin, values: Mapping[str, Any]) -> Array:
    """The initial state, shape (s,)."""
    initial = [values.get(f"{name}_initial", spec.initial) for name, spec in twin.states.items()]
    return jnp.stack([jnp.asarray(value, float) for value in initial])
