"""From one stop to the next with process noise: mean and covariance of the states, linearised in one of three ways.

A state x near the mean m becomes `mean + Φ (x − m) + N(0, Q)`. Exact: for affine vector fields. Extended: by the twin's
solver, `m′ = f(m)`, `Φ′ = J Φ`, `Q′ = J Q + Q Jᵀ + diag(σ²)` with J = ∂f/∂x along m. Unscented: points around m are
solved for, and Φ and what is added to Q are those of the regression through them.

A. H. Jazwinski (1970), Stochastic Processes and Filtering Theory. S. Särkkä (2007), doi:10.1109/TAC.2007.904453.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.dynamics.adaptive import Position, Slope
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.kalman import root
from bayestwin.dynamics.recurrence import constants, exact_steps, kinds_of
from bayestwin.dynamics.solve import STEPPERS
from bayestwin.model.twin import Solver, Twin

LEAST = 1e-6
"""Distance of the points from a mean of size 1 where the states are known: a numerical derivative."""


class Row(NamedTuple):
    """The interval before a stop; of length zero before the first.

    Attributes:
        start: Elapsed time.
        end: Elapsed time.
        left: Inputs at its start; shape (q,).
        right: Inputs at its end; shape (q,).
        amounts: With which value each event of known time happens at its start, NaN where it does not; shape (e,).
        exact: Of an affine twin: Φ, the mean's constant part, and Q.
    """

    start: Array
    end: Array
    left: Array
    right: Array
    amounts: Array
    exact: tuple[Array, Array, Array] | None = None


class Moved(NamedTuple):
    """Where a step leads.

    Attributes:
        mean: Shape (s,).
        transition: Φ, shape (s, s).
        added: Q, shape (s, s).
        at: The solver there.
    """

    mean: Array
    transition: Array
    added: Array
    at: Position


type Move = Callable[[Array, Array, Position, Row], Moved]
"""`(mean, covariance, solver's position, row)` → where the step leads."""


def rows_of(grid: Grid) -> Row:
    """The interval before each of the m + 1 stops of a grid; a leading axis in each field."""
    start = np.concatenate([grid.edges[:1], grid.edges[:-1]])
    left, right = (jnp.asarray(_with_first(grid, inputs)) for inputs in (grid.left, grid.right))
    nothing = np.full((1, grid.amounts.shape[1]), np.nan)
    amounts = jnp.asarray(np.concatenate([nothing, grid.amounts]))
    return Row(jnp.asarray(start), jnp.asarray(grid.edges), left, right, amounts)


def _with_first(grid: Grid, inputs: np.ndarray) -> np.ndarray:
    """Inputs of the m intervals, shape (m, q), with those at the first stop before them."""
    return np.concatenate([grid.left[:1] if len(grid.left) else grid.inputs[:1], inputs])


def affine_rows(twin: Twin, p: Any, diffusion: Array, grid: Grid) -> Row:
    """The rows of an affine twin with their exact steps; intervals that are alike share theirs.

    Args:
        twin: The twin, affine.
        p: Its parameters.
        diffusion: σ², shape (s,).
        grid: Where to stop.
    """
    field, kinds = Field(twin, p), kinds_of(twin, grid)
    steps = exact_steps(field, diffusion, grid, kinds)
    gamma, lam = (kinds.each(jnp.moveaxis(leaf, 0, -1)) for leaf in (steps.constant, steps.slope))
    each = steps.transition[kinds.which], constants(field, gamma, lam, grid).T, steps.covariance[kinds.which]
    nothing = jnp.zeros(len(twin.states))
    still = jnp.diag(nothing + 1.0), nothing, jnp.diag(nothing)
    transition, constant, covariance = (
        jnp.concatenate([first[None], rest]) for first, rest in zip(still, each, strict=True)
    )
    return rows_of(grid)._replace(exact=(transition, constant, covariance))


def exact(mean: Array, covariance: Array, at: Position, row: Row) -> Moved:
    """The step of an affine twin."""
    del covariance
    assert row.exact is not None
    transition, constant, added = row.exact
    return Moved(jnp.sum(transition * mean[None, :], axis=1) + constant, transition, added, at)


def extended(twin: Twin, p: Any, diffusion: Array) -> Move:
    """Steps that linearise along the mean; Q is solved for in units of the largest diffusion, as tolerances need."""
    size = len(twin.states)
    unit = jnp.max(diffusion)
    relative = jnp.diag(diffusion / jnp.where(unit > 0, unit, 1.0))

    def move(mean: Array, covariance: Array, at: Position, row: Row) -> Moved:
        del covariance
        slope = _slope_in(twin, p, row)

        def joint(t: Array, both: Array) -> Array:
            state, phi, q = both[:size], *both[size:].reshape(2, size, size)
            rates, jacobian = slope(t, state), jax.jacfwd(slope, argnums=1)(t, state)
            half = jacobian @ q
            return jnp.concatenate([rates, (jacobian @ phi).ravel(), (half + half.T + relative).ravel()])

        begin = jnp.concatenate([mean, jnp.eye(size).ravel(), jnp.zeros(size * size)])
        at = _advance(twin.solver, joint, row, at, begin)
        phi, q = at.state[size:].reshape(2, size, size)
        return Moved(at.state[:size], phi, unit * (q + q.T) / 2, at)

    return move


def unscented(twin: Twin, p: Any, diffusion: Array) -> Move:
    """Steps that average over points around the mean, which are solved for without noise; Q has what they add to."""
    size = len(twin.states)
    linearised = extended(twin, p, diffusion)

    def move(mean: Array, covariance: Array, at: Position, row: Row) -> Moved:
        moved = linearised(mean, covariance, at, row)
        slope = _slope_in(twin, p, row)

        def joint(t: Array, states: Array) -> Array:
            return jax.vmap(lambda state: slope(t, state))(states.reshape(-1, size)).ravel()

        points, spread = points_around(mean, covariance)
        at = _advance(twin.solver, joint, row, moved.at, points.ravel())
        centre, transition, curved = regress(at.state.reshape(points.shape), spread)
        return Moved(centre, transition, moved.added + curved, at)

    return move


def after_events(field: Field, move: Move) -> Move:
    """Steps at whose start the events of known time happen first; what these do around the mean is linearised."""

    def moved(mean: Array, covariance: Array, at: Position, row: Row) -> Moved:
        def happen(state: Array) -> Array:
            return field.happen(row.start, state, row.left, row.amounts)

        slope = jax.jacfwd(happen)(mean)
        after = move(happen(mean), slope @ covariance @ slope.T, at, row)
        return after._replace(transition=after.transition @ slope)

    return moved


def points_around(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The mean and 2 s points around it, shape (2 s + 1, s), and the matrix that spreads them, shape (s, s)."""
    size = len(mean)
    spread = root(covariance)
    floor = LEAST * (0.01 + jnp.abs(mean))
    diagonal = jnp.diag(spread)
    spread = spread + jnp.diag(jnp.where(diagonal < floor, floor - diagonal, 0.0))
    away = jnp.sqrt(size + _centre(size)) * spread.T
    return mean[None] + jnp.concatenate([jnp.zeros((1, size)), away, -away]), spread


def regress(values: Array, spread: Array) -> tuple[Array, Array, Array]:
    """The line through values at the points around a mean.

    Args:
        values: At the points; shape (2 s + 1, k).
        spread: As `points_around` returned it.

    Returns:
        Mean, shape (k,), slope, shape (k, s), and covariance of what is left, shape (k, k).
    """
    size = len(spread)
    total = size + _centre(size)
    weights = jnp.asarray([_centre(size) / total] + [0.5 / total] * (2 * size))
    mean = weights @ values
    along = (values[1 : size + 1] - values[size + 1 :]) / (2.0 * jnp.sqrt(total))
    slope = jax.scipy.linalg.solve_triangular(spread, along, lower=True, trans=1).T
    away = values - mean[None]
    # the odd part is what the line has; the even part is left
    left = (weights[:, None] * away).T @ away - along.T @ along
    return mean, slope, left


def _centre(size: int) -> float:
    """Weight of the mean among the points, for which fourth moments are those of a normal up to three states."""
    return max(3.0 - size, 0.0)


def _slope_in(twin: Twin, p: Any, row: Row) -> Slope:
    length = row.end - row.start
    rate = (row.right - row.left) / jnp.where(length > 0, length, 1.0)
    return Field(twin, p).slope(lambda t: row.left + rate * (t - row.start))


def _advance(solver: Solver, slope: Slope, row: Row, at: Position, begin: Array) -> Position:
    return STEPPERS[solver.method](slope, row.start, row.end, at._replace(state=begin), solver)
