"""Twins that need no solver: exact steps of affine ones, and all states from them in few passes.

One step after the other is a loop of as many turns as there are intervals, each too small to be worth its turn. So the
intervals are dealt out to about as many blocks as a block is long: within all blocks at once it is found where they
lead from nothing and what they make of a state, then the blocks are gone through one by one.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin.dynamics.affine import Step, exact_step, has_held_matrix, is_affine
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.sensitivity import through_jacobian
from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.twin import Twin


class Kinds(NamedTuple):
    """Intervals of a grid that have a step in common.

    Attributes:
        first: One interval of each kind; shape (g,).
        which: The kind of each interval; shape (m,).
        lengths: Of each kind; shape (g,).
    """

    first: np.ndarray
    which: np.ndarray
    lengths: np.ndarray

    def each(self, leaf: Array) -> Array:
        """What each interval has of what its kind has, shape (…, g): (…, m), or (…, 1) where all are of one kind."""
        return leaf if len(self.first) == 1 else leaf[..., self.which]


def needs_no_solver(twin: Twin) -> bool:
    """Whether steps from stop to stop are exact: affine, inputs straight between samples, and no events.

    Logarithms, as which positive states are solved for, are not affine.
    """
    straight = all(spec.hold != "cubic" for spec in twin.inputs.values())
    positive = any(state.positive for state in twin.states.values())
    return straight and not positive and not twin.events and is_affine(twin)


def solve_exactly(field_of: Callable[[Array], Field], theta: Array, state: Array, grid: Grid) -> Array:
    """States at the end of each of m intervals, shape (m, s), differentiable in both modes.

    Args:
        field_of: The twin with its parameters, from what is differentiated for.
        theta: That; shape (k,).
        state: At the first edge; shape (s,).
        grid: The intervals, of one experiment.

    Raises:
        InvalidTwin: If the twin needs a solver.
    """
    field = field_of(theta)
    if isinstance(grid.edges, Array) or not needs_no_solver(field.twin):
        raise InvalidTwin(_explained(field.twin))
    kinds = kinds_of(field.twin, grid)

    def steps(theta: Array) -> tuple[Array, tuple[()]]:
        found = exact_steps(field_of(theta), jnp.zeros(len(state)), grid, kinds)
        return jnp.stack(found[:3]), ()

    # how often a step is doubled depends on its parameters: reverse mode does not go through such a loop
    found = (through_jacobian(steps) if theta.size else steps)(theta)[0]
    phi, gamma, lam = (kinds.each(jnp.moveaxis(leaf, 0, -1)) for leaf in found)
    return recur(phi, constants(field, gamma, lam, grid), state).T


def kinds_of(twin: Twin, grid: Grid) -> Kinds:
    """Which intervals of an affine twin have a step in common: those of one length, with the same held inputs."""
    lengths = _rounded(np.diff(grid.edges))
    alike = lengths[:, None]
    if has_held_matrix(twin):
        held = [spec.hold == "previous" for spec in twin.inputs.values()]
        # inputs that are traced cannot be compared: then each interval is of its own kind
        apart = np.arange(len(lengths)) if isinstance(grid.coefficients, Array) else grid.left[:, held]
        alike = np.column_stack([lengths, apart])
    _, first, which = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    return Kinds(first, which, alike[first, 0])


def exact_steps(field: Field, diffusion: Array, grid: Grid, kinds: Kinds) -> Step:
    """The step of each kind of interval; a leading axis g.

    Args:
        field: The twin, affine, with its parameters.
        diffusion: σ², shape (s,).
        grid: The intervals.
        kinds: Of `kinds_of`.
    """
    slope, nothing = _slope(field), jnp.zeros(len(diffusion))
    start, left = jnp.asarray(grid.edges[0]), jnp.asarray(grid.left[kinds.first])
    matrices = jax.vmap(lambda inputs: jax.jacfwd(slope, argnums=1)(start, nothing, inputs))(left)
    return jax.vmap(exact_step, in_axes=(0, None, 0))(matrices, diffusion, jnp.asarray(kinds.lengths))


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
    edges, nothing = jnp.asarray(grid.edges), jnp.zeros(len(gamma))
    along = jax.vmap(_slope(field), in_axes=(0, None, 0), out_axes=1)
    begin = along(edges[:-1], nothing, jnp.asarray(grid.left))
    end = along(edges[1:], nothing, jnp.asarray(grid.right))
    return _apply(gamma, begin) + _apply(lam, (end - begin) / np.diff(grid.edges)[None])


def _slope(field: Field) -> Callable[[Any, Array, Array], Array]:
    return lambda t, state, inputs: field.slope(lambda _: inputs)(t, state)


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
    digits = 12 - np.ceil(np.log10(lengths))
    return np.round(lengths * 10.0**digits) / 10.0**digits


def _explained(twin: Twin) -> str:
    return explain(
        f'Twin `{twin.name}` cannot be solved by `bt.Solver("exact")`.',
        expected="a vector field that is affine in states, time and inputs, no events, no positive states, no cubic "
        "inputs, and one experiment",
        received="something else, or operations that are not recognised as linear",
        advice='Leave the choice to `bt.Solver("auto")`.',
    )
