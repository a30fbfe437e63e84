"""Twins whose vector field is affine in states, inputs and time: how they are recognised, and solved without a solver.

Between two stops inputs are straight lines, or constant where they are held, so such a twin is `x' = A x + a + b τ`,
τ since the last stop, and with process noise `dx = (A x + a + b τ) dt + diag(σ) dW`. See `Step` for what that leads to.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid, Kinds
from bayestwin.dynamics.steppers import LARGE, through_jacobian
from bayestwin.errors import InvalidTwin
from bayestwin.model.error import ProcessNoise
from bayestwin.model.tracing import CALLS, OWN_DERIVATIVE, abstract_arguments, called
from bayestwin.model.twin import Twin

ORDER, SHORT, MOST_DOUBLINGS = 12, 0.25, 60

WIDE, FEW, FEWEST = 256, 8, 3
"""Grids side by side from which on each is gone through interval by interval; and most states of which each is computed
by itself there, and each entry of their matrices."""

SHAPING = ("reshape", "broadcast_in_dim", "squeeze", "slice", "transpose", "rev", "copy")
JOINING = ("concatenate", "stack", "unstack", "split", "pad")
PLACING = ("gather", "scatter", "scatter-add", "dynamic_slice", "dynamic_update_slice")
CARRIED = frozenset({"add", "sub", "neg", "add_any", "reduce_sum", "cumsum", *SHAPING, *JOINING, *PLACING})
"""Primitives that are linear in all their operands together. Places are whole numbers, to which nothing that is affine
in the states can be converted."""

BY_CONSTANT = frozenset({"mul", "dot_general"})
"""Primitives that are linear in either operand where the other is constant."""


class Step(NamedTuple):
    """What happens over a time h: `x(h) = Φ x(0) + Γ a + Λ b + N(0, Q)`; shape (s, s) each.

    Attributes:
        transition: `Φ = exp(A h)`.
        constant: Γ.
        slope: Λ.
        covariance: `Q = ∫₀ʰ exp(A s) diag(σ²) exp(A s)ᵀ ds`.
    """

    transition: Array
    constant: Array
    slope: Array
    covariance: Array


def is_affine(twin: Twin) -> bool:
    """Whether the vector field is affine in time, states and inputs together, whatever parameters and held inputs are.

    Every operation of its trace has to be known as linear, so what is said to be affine is; a field that is affine for
    a reason that only algebra sees is not recognised.
    """
    sloped = [int(spec.hold != "previous") for spec in twin.inputs.values()]
    return twin.black_box is None and not twin.delayed and max(_degrees(twin.derivative, twin, 1, sloped)) <= 1


def has_held_matrix(twin: Twin) -> bool:
    """Whether the matrix of an affine twin depends on inputs, held ones, and so differs from interval to interval."""
    return max(_degrees(jax.jacfwd(twin.derivative, argnums=1), twin, 0, [1] * len(twin.inputs))) > 0


def sees_straight(twin: Twin) -> bool:
    """Whether all observations are affine in the states, whatever time, parameters and inputs are."""
    seen = [spec.of for spec in twin.observations.values() if spec.of is not None]
    inputs = [0] * len(twin.inputs)
    return all(max(_degrees(function, twin, 1, inputs, of_time=0)) <= 1 for function in seen)


def sees_alike(twin: Twin) -> bool:
    """Whether observations that are affine in the states always have the same slopes."""
    seen = [jax.jacfwd(_floating(spec.of), argnums=1) for spec in twin.observations.values() if spec.of is not None]
    return all(max(_degrees(slope, twin, 0, [1] * len(twin.inputs), of_time=1)) == 0 for slope in seen)


def _floating(function: Callable) -> Callable:
    return lambda t, x, p, u: jnp.asarray(function(t, x, p, u), float)


def _degrees(
    function: Callable, twin: Twin, of_states: int, of_inputs: list[int], *, of_time: int | None = None
) -> list[int]:
    """Degrees (0 constant, 1 affine, 2 other) of what a function of (t, x, p, u) returns, given those of its arguments.

    That of time is by default the same as that of the states, and parameters are constant.
    """
    first = of_states if of_time is None else of_time
    degrees = [first] + [of_states] * len(twin.states) + [0] * len(twin.parameters) + of_inputs
    return _outputs_of(jax.make_jaxpr(function)(*abstract_arguments(twin.shapes)).jaxpr, degrees)


def _outputs_of(jaxpr: Any, degrees: list[int]) -> list[int]:
    """Degrees of the outputs of a trace, given those of its inputs."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, degrees, strict=True))

    def degree(atom: Any) -> int:
        return 0 if hasattr(atom, "val") else known.get(atom, 0)

    for equation in jaxpr.eqns:
        given = [degree(atom) for atom in equation.invars]
        inner = called(equation)
        if equation.primitive.name in CALLS | OWN_DERIVATIVE and inner is not None:
            out = _outputs_of(getattr(inner, "jaxpr", inner), given)
        else:
            out = [max(given, default=0) if _linear(equation, given) else 2] * len(equation.outvars)
        known |= dict(zip(equation.outvars, out, strict=True))
    return [degree(atom) for atom in jaxpr.outvars]


def _linear(equation: Any, given: list[int]) -> bool:
    """Whether an operation keeps the degree of its operands."""
    name, varying = equation.primitive.name, [degree > 0 for degree in given]
    if not any(varying) or name in CARRIED:
        return True
    if name in BY_CONSTANT:
        return sum(varying) == 1
    if name == "integer_pow":
        return equation.params["y"] == 1
    if name == "convert_element_type":  # whole numbers are rounded
        return jnp.issubdtype(equation.params["new_dtype"], jnp.floating)
    return name in ("div", "select_n") and not varying[1 if name == "div" else 0]


def exact_step(matrix: Array, diffusion: Array, span: Array, *, apart: bool = False) -> Step:
    """The step over a time `span`, by Taylor series over a short time that is then doubled.

    Unlike in Van Loan's exponential of a larger matrix (doi:10.1109/TAC.1978.1101743) nothing grows where A is stiff.

    Args:
        matrix: A, shape (s, s).
        diffusion: σ², shape (s,).
        span: h, in the twin's time unit, not negative.
        apart: Whether each entry is computed by itself, which takes longer to compile, and pays where many steps are
            computed side by side.
    """
    split = _entries if apart else jnp.asarray
    norm = lax.stop_gradient(jnp.abs(matrix).sum(axis=0).max() * span)
    wanted = jnp.ceil(jnp.log2(jnp.maximum(norm / SHORT, 1.0)))
    doublings = jnp.where(jnp.isfinite(wanted), jnp.minimum(wanted, MOST_DOUBLINGS), 0.0).astype(int)
    short = span * 0.5**doublings

    def double(loop: tuple[Array, Array, Step]) -> tuple[Array, Array, Step]:
        number, time, (phi, gamma, lam, q) = loop
        gained = _product(phi, gamma), _product(phi, lam), _product(_product(phi, q), _transposed(phi))
        constant, slope = _sum(gamma, gained[0]), _sum(gained[1], lam, _scaled(gamma, time))
        return number + 1, 2.0 * time, Step(_product(phi, phi), constant, slope, _sum(q, gained[2]))

    start = (jnp.zeros((), int), short, _series(split(matrix), split(jnp.diag(diffusion)), short))
    found = lax.while_loop(lambda loop: loop[0] < doublings, double, start)[2]
    return Step(*(jnp.stack([jnp.stack(row) for row in one]) if isinstance(one, list) else one for one in found))


def _series(matrix: Any, diffusion: Any, span: Array) -> Step:
    """The step over a time so short that `ORDER` terms are exact."""
    scaled, spread = _scaled(matrix, span), _scaled(diffusion, span)
    power = (_entries if isinstance(matrix, list) else jnp.asarray)(jnp.eye(len(matrix)))
    sums: list[Any] = [_scaled(power, 0.0)] * 4
    for k in range(ORDER):
        factors = (1.0 / math.factorial(k + i) for i in (0, 1, 2, 1))
        terms = (power, power, power, spread)
        sums = [_sum(total, _scaled(term, own)) for total, term, own in zip(sums, terms, factors, strict=True)]
        half = _product(scaled, spread)
        power, spread = _product(scaled, power), _sum(half, _transposed(half))
    phi, gamma, lam, q = sums
    return Step(phi, _scaled(gamma, span), _scaled(lam, span**2), q)


# A matrix may be a list of its rows, and these lists of their entries: where many matrices are multiplied side by side,
# each entry is then one long array. As an axis of its own, one as short as the states is many times slower.


def _entries(matrix: Array) -> list[list[Array]]:
    return [[*row] for row in matrix]


def _product(left: Any, right: Any) -> Any:
    if not isinstance(left, list):
        return left @ right
    columns = [*zip(*right, strict=True)]
    return [[sum(map(operator.mul, row, column)) for column in columns] for row in left]


def _transposed(matrix: Any) -> Any:
    return [[*column] for column in zip(*matrix, strict=True)] if isinstance(matrix, list) else matrix.T


def _scaled(matrix: Any, factor: ArrayLike) -> Any:
    return jax.tree.map(lambda entry: entry * factor, matrix)


def _sum(*matrices: Any) -> Any:
    return jax.tree.map(lambda *entries: sum(entries), *matrices)


# Twins that need no solver: exact steps of affine ones, and all states from them in few passes.
#
# One step after the other is a loop of as many turns as there are intervals, each too small to be worth its turn. So
# the intervals are dealt out to about as many blocks as a block is long: within all blocks at once it is found where
# they lead from nothing and what they make of a state, then the blocks are gone through one by one.


def steps_exactly(twin: Twin) -> bool:
    """Whether the filter's steps are exact and need no solver."""
    error = twin.model_error
    return isinstance(error, ProcessNoise) and error.filter == "auto" and is_affine(twin)


def needs_no_solver(twin: Twin) -> bool:
    """Whether steps from stop to stop are exact: affine, inputs straight between samples, and no events.

    Logarithms, as which positive states are solved for, are not affine.
    """
    straight = all(spec.hold != "cubic" for spec in twin.inputs.values())
    positive = any(state.positive for state in twin.states.values())
    return straight and not positive and not twin.events and is_affine(twin)


def solve_exactly(
    field_of: Callable[[Array, Grid], Field], theta: Array, state: Array, grid: Grid, beside: int = 1
) -> Array:
    """States at the end of each of m intervals, shape (m, s), differentiable in both modes.

    Args:
        field_of: The twin with its parameters, from what is differentiated for and what the grid's record brings along.
        theta: The former; shape (k,).
        state: At the first edge; shape (s,).
        grid: The intervals; where they are traced, with their kinds.
        beside: How many grids are solved side by side by this.

    Raises:
        InvalidTwin: If the twin needs a solver.
    """
    field = field_of(theta, grid)
    if not needs_no_solver(field.twin):
        raise _not_exact(field.twin)
    if grid.edges.shape[-1] < 2:  # a single row, at the start
        return jnp.zeros((0, len(state)))
    kinds = kinds_of(field.twin, grid)
    wide = beside >= WIDE and len(state) <= FEW
    found = _steps_of(field_of, theta, len(state), grid, kinds, apart=wide and len(state) <= FEWEST)
    if not (field.twin.layout.scalar or len(state) <= LARGE):
        return _one_by_one(found, kinds, field, state, grid)
    phi, gamma, lam = (kinds.each(jnp.moveaxis(leaf, 0, -1)) for leaf in found)
    if wide:
        return jnp.stack(in_turn(phi, constants_of_each(field, gamma, lam, grid), [*state]), axis=1)
    return recur(phi, constants(field, gamma, lam, grid), state).T


def _steps_of(
    field_of: Callable[[Array, Grid], Field], theta: Array, size: int, grid: Grid, kinds: Kinds, *, apart: bool
) -> Array:
    """Φ, Γ and Λ of each kind of interval, shape (3, g, s, s), differentiable in both modes.

    How often a step is doubled depends on its matrix: reverse mode does not go through such a loop. Its Jacobian is
    that by parameters or by the entries of the matrix, whichever are fewer.
    """

    def by_theta(theta: Array, grid: Grid, kinds: Kinds) -> tuple[Array, tuple[()]]:
        return jnp.stack(exact_steps(field_of(theta, grid), jnp.zeros(size), grid, kinds, apart=apart)[:3]), ()

    def by_entries(entries: Array, length: Array) -> tuple[Array, tuple[()]]:
        return jnp.stack(exact_step(entries.reshape(size, size), jnp.zeros(size), length, apart=apart)[:3]), ()

    if theta.size <= size**2:
        return (through_jacobian(by_theta) if theta.size else by_theta)(theta, grid, kinds)[0]
    entries = matrices_of(field_of(theta, grid), size, grid, kinds).reshape(-1, size**2)
    found, _ = jax.vmap(through_jacobian(by_entries))(entries, jnp.asarray(kinds.lengths))
    return jnp.moveaxis(found, 1, 0)


def _one_by_one(steps: Array, kinds: Kinds, field: Field, state: Array, grid: Grid) -> Array:
    """As `recur`, one interval after the other: many states are enough to do in each.

    Args:
        steps: Φ, Γ and Λ of each kind of interval; shape (3, g, s, s).
        kinds: Which they are of.
        field: The twin with its parameters.
        state: At the first edge; shape (s,).
        grid: The m intervals.

    Returns:
        States at their ends; shape (m, s).
    """

    def body(state: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        phi, gamma, lam = steps[:, row[0]]
        state = phi @ state + gamma @ row[1] + lam @ row[2]
        return state, state

    begin, rate = (found.T for found in _driven(field, len(state), grid))
    return lax.scan(body, state, (jnp.asarray(kinds.which), begin, rate))[1]


def kinds_of(twin: Twin, grid: Grid) -> Kinds:
    """Which intervals of an affine twin have a step in common: those of one length, with the same held inputs."""
    return grid.kinds if grid.kinds is not None else sort_intervals(twin, grid, varies=has_held_matrix(twin))


def kinds_of_each(twin: Twin, grids: Iterable[Grid]) -> list[Kinds]:
    """The same for grids of several experiments."""
    varies = has_held_matrix(twin)
    return [grid.kinds if grid.kinds is not None else sort_intervals(twin, grid, varies=varies) for grid in grids]


def sort_intervals(twin: Twin, grid: Grid, *, varies: bool) -> Kinds:
    """The same, where it is known whether the matrix varies with held inputs, as `has_held_matrix` says."""
    lengths = _rounded(np.diff(grid.edges))
    alike = lengths[:, None]
    if varies:
        held = [spec.hold == "previous" for spec in twin.inputs.values()]
        # inputs that are traced cannot be compared: then each interval is of its own kind
        apart = np.arange(len(lengths)) if isinstance(grid.coefficients, Array) else grid.left[:, held]
        alike = np.column_stack([lengths, apart])
    _, first, which = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    return Kinds(first, which, alike[first, 0])


def exact_steps(field: Field, diffusion: Array, grid: Grid, kinds: Kinds, *, apart: bool = False) -> Step:
    """The step of each kind of interval; a leading axis g.

    Args:
        field: The twin, affine, with its parameters.
        diffusion: σ², shape (s,).
        grid: The intervals.
        kinds: Of `kinds_of`.
        apart: As of `exact_step`.
    """
    matrices = matrices_of(field, len(diffusion), grid, kinds)
    step = functools.partial(exact_step, apart=apart)
    return jax.vmap(step, in_axes=(0, None, 0))(matrices, diffusion, jnp.asarray(kinds.lengths))


def matrices_of(field: Field, size: int, grid: Grid, kinds: Kinds) -> Array:
    """The matrix of the states in the vector field in each kind of interval; shape (g, s, s)."""
    slope, nothing = _slope(field), jnp.zeros(size)
    start, left = jnp.asarray(grid.edges[0]), jnp.asarray(grid.left)[kinds.first]
    return jax.vmap(lambda inputs: jax.jacfwd(slope, argnums=1)(start, nothing, inputs))(left)


def constants(field: Field, gamma: Array, lam: Array, grid: Grid) -> Array:
    """`Γ a + Λ b` of each of m intervals: `x` becomes `Φ x + Γ a + Λ b`, and then is at the next stop.

    Args:
        field: The twin with its parameters.
        gamma: Γ, shape (s, s, m), or (s, s, 1) where it is always the same.
        lam: Λ, likewise.
        grid: The intervals.

    Returns:
        Shape (s, m).
    """
    begin, rate = _driven(field, len(gamma), grid)
    return _apply(gamma, begin) + _apply(lam, rate)


def constants_of_each(field: Field, gamma: Array, lam: Array, grid: Grid) -> list[Any]:
    """The same of each state by itself; shape (m,) each."""
    begin, rate = _driven(field, len(gamma), grid, apart=True)
    return [
        sum(map(operator.mul, on_begin, begin), start=sum(map(operator.mul, on_rate, rate)))
        for on_begin, on_rate in zip(gamma, lam, strict=True)
    ]


def _driven(field: Field, size: int, grid: Grid, *, apart: bool = False) -> tuple[Any, Any]:
    """The a and b of each of m intervals; shape (s, m) each, or shape (m,) of each state where they are to be apart."""
    slope, edges, nothing = _slope(field), jnp.asarray(grid.edges), jnp.zeros(size)

    def rates(t: Array, inputs: Array) -> Any:
        found = slope(t, nothing, inputs)
        return [*found] if apart else found

    along = jax.vmap(rates, out_axes=0 if apart else 1)
    begin = along(edges[:-1], jnp.asarray(grid.left))
    end = along(edges[1:], jnp.asarray(grid.right))
    lengths = jnp.diff(edges)  # zero after the end of an experiment that is shorter than others
    lengths = jnp.where(lengths > 0.0, lengths, 1.0)
    return begin, jax.tree.map(lambda at, then: (then - at) / jnp.broadcast_to(lengths, at.shape), begin, end)


def _slope(field: Field) -> Callable[[Any, Array, Array], Array]:
    return lambda t, state, inputs: field.slope(lambda _: inputs)(t, state)


def in_turn(transition: Array, constant: list[Array], state: list[Array]) -> list[Array]:
    """As `recur`, one interval after the other, which pays where as much is solved side by side.

    Args:
        transition: Φ, shape (s, s, m), or (s, s, 1) where it is always the same.
        constant: c of each state; shape (m,) each.
        state: x₀, of each state.

    Returns:
        Shape (m,) for each state.
    """
    one = transition.shape[-1] == 1
    entries = _entries(transition[..., 0] if one else transition)

    def body(state: list[Array], row: tuple[Any, list[Array]]) -> tuple[list[Array], list[Array]]:
        phi, c = row
        state = [sum(map(operator.mul, own, state), start=add) for own, add in zip(phi or entries, c, strict=True)]
        return state, state

    return lax.scan(body, state, (None if one else entries, constant))[1]


def recur(transition: Array, constant: Array, state: Array) -> Array:
    """All of `x_k = Φ_k x_{k−1} + c_k`, k from 1 to m.

    Args:
        transition: Φ, shape (s, s, m), or (s, s, 1) where it is always the same.
        constant: c, shape (s, m).
        state: x₀, shape (s,).

    Returns:
        Shape (s, m).
    """
    size, num = constant.shape
    length = math.isqrt(num)
    blocks = -(-num // length)

    def dealt(array: Array) -> Array:
        """Shape (…, m) as (length, …, blocks); what is added to the last block is not looked at."""
        padded = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, blocks * length - num)])
        return jnp.moveaxis(padded.reshape(*array.shape[:-1], blocks, length), -1, 0)

    one = transition.shape[-1] == 1 < num
    transition = jnp.broadcast_to(transition, (length, *transition.shape)) if one else dealt(transition)

    def within(led: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (product, offset), (phi, c) = led, step
        led = (phi[:, :, None] * product[None]).sum(axis=1), _apply(phi, offset) + c
        return led, led

    begun = jnp.broadcast_to(jnp.eye(size)[:, :, None], transition.shape[1:]), jnp.zeros((size, blocks))
    (product, offset), (products, offsets) = lax.scan(within, begun, (transition, dealt(constant)))

    def across(state: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        product, offset = block
        return (product * state[None]).sum(axis=1) + offset, state

    whole = jnp.moveaxis(jnp.broadcast_to(product, (size, size, blocks)), -1, 0), offset.T
    _, starts = lax.scan(across, state, whole)
    found = (products * starts.T[None, None]).sum(axis=2) + offsets
    return jnp.moveaxis(found, 0, -1).reshape(size, -1)[:, :num]


def _apply(matrix: Array, vector: Array) -> Array:
    """Many small matrices times vectors, shape (i, j, n) and (j, n), as a sum: compiled into one loop over n."""
    return (matrix * vector[None]).sum(axis=1)


def _rounded(lengths: np.ndarray) -> np.ndarray:
    """Lengths to twelve digits: those of a regular series differ in the last ones."""
    digits = 12 - np.ceil(np.log10(np.where(lengths > 0.0, lengths, 1.0)))
    return np.round(lengths * 10.0**digits) / 10.0**digits


def _not_exact(twin: Twin) -> InvalidTwin:
    return InvalidTwin(
        f'Twin `{twin.name}` cannot be solved by `bt.Solver("exact")`.',
        expected="a vector field that is affine in states, time and inputs, no events, no positive states, no cubic "
        "inputs",
        received="something else, or operations that are not recognised as linear",
        advice='Leave the choice to `bt.Solver("auto")`.',
    )
