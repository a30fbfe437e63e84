"""The exact filter along a long record, in few turns: rows are dealt out to blocks, which are gone through at once.

What a block makes of any normal before it is known once it has been filtered from a known state (S. Särkkä and Á. F.
García-Fernández, doi:10.1109/TAC.2020.2976316). So all blocks are filtered from there side by side; going from block to
block then gives the state before each; and from these all are filtered side by side again. On a regular record that is
complete the gain settles: from there on the means alone are a linear recurrence.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.dynamics.affine import Step, constants, kinds_of, sees_alike, sees_straight, steps_exactly
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.kalman import Gain, Seen, propagate, root, update
from bayestwin.model.twin import Twin

LONG = 2000
"""Stops from which on turns that are saved are worth what it takes to compile."""

CHUNKS, SETTLED = 32, 1e-12
"""Parts of a regular record, after each of which it is looked whether the gain has settled, and the change of a
covariance over such a part, relative to the standard deviations, below which it has."""


class FilterRows(NamedTuple):
    """Steps of an affine twin, and what is seen after each; m rows, s states, o observations.

    The last axis is that of the rows, or has length 1 where all rows are alike.

    Attributes:
        transition: Φ of each kind of step, g in all; shape (s, s, g).
        added: Q likewise.
        which: The kind of each step; None where all are of one kind; shape (m,).
        constant: What is added to `Φ x`; shape (s, m).
        slope: Of observations along the states; shape (o, s, m).
        offset: Of observations where the states are zero; shape (o, m).
        variance: Of noise; shape (o, m).
        present: 1.0, or 0.0 where nothing was observed; shape (o, m).
        values: What was observed; shape (o, m).
    """

    transition: Array
    added: Array
    which: Array | None
    constant: Array
    slope: Array
    offset: Array
    variance: Array
    present: Array
    values: Array

    @property
    def step(self) -> tuple[Array, Array]:
        """Φ and Q of each row."""
        if self.which is None:
            return self.transition, self.added
        return self.transition[..., self.which], self.added[..., self.which]


def in_blocks(twin: Twin, grid: Grid) -> bool:
    """Whether a record is filtered in blocks: a long one of a twin that is affine, as are its observations."""
    return len(grid.edges) > LONG and steps_exactly(twin) and not twin.timed and sees_straight(twin)


def rows_along(
    field: Field,
    steps: Step,
    grid: Grid,
    observe: Callable[[Array, Array, Array], Mapping[str, Array]],
    inputs: Array,
) -> FilterRows:
    """The steps to all m + 1 stops, that to the first of length zero, and what is seen there, but for the noise.

    Args:
        field: The twin with its parameters.
        steps: Those of each kind of interval; shape (g, s, s) each.
        grid: Where to stop.
        observe: `(t, states, inputs)` → noise-free observations by name.
        inputs: At the stops; shape (m + 1, q).
    """
    twin, kinds = field.twin, kinds_of(field.twin, grid)
    phi, gamma, lam, added = (jnp.moveaxis(leaf, 0, -1) for leaf in steps)
    constant = jnp.pad(constants(field, kinds.each(gamma), kinds.each(lam), grid), [(0, 0), (1, 0)])
    which = None if len(kinds.first) == 1 else jnp.pad(jnp.asarray(kinds.which), (1, 0))

    def seen(t: Array, state: Array, signal: Array) -> Array:
        return jnp.stack([jnp.asarray(value, float) for value in observe(t, state, signal).values()])

    edges, origin = jnp.asarray(grid.edges), jnp.zeros(len(twin.states))
    offset = jax.vmap(seen, in_axes=(0, None, 0), out_axes=-1)(edges, origin, inputs)
    some = 1 if sees_alike(twin) else len(edges)
    slope = jax.vmap(jax.jacfwd(seen, 1), in_axes=(0, None, 0), out_axes=-1)(edges[:some], origin, inputs[:some])
    nothing = jnp.zeros((len(twin.observations), 1))
    return FilterRows(phi, added, which, constant, slope, offset, nothing, nothing, nothing)


class FilterStretch(NamedTuple):
    """What a stretch of rows makes of a normal before it; a last axis for many stretches.

    From N(m, P) it is at the end N(A m′ + b, A P′ Aᵀ + C), with P′ = (I + P J)⁻¹ P and m′ = m + P′ (η − J m).

    Attributes:
        transition: A, shape (s, s).
        mean: b, shape (s,).
        covariance: C, shape (s, s).
        score: η, shape (s,).
        information: J, shape (s, s).
    """

    transition: Array
    mean: Array
    covariance: Array
    score: Array
    information: Array


def moments_of(rows: FilterRows, mean: Array, covariance: Array, *, complete: bool, backwards: bool = False) -> Array:
    """Means of observations, each given all before it, and logarithms of their standard deviations; shape (2, o, m).

    Args:
        rows: The m rows, of which the first has no step before it.
        mean: Of the states at the first row; shape (s,).
        covariance: Likewise; shape (s, s).
        complete: Whether nothing is missing among the observations that are looked at.
        backwards: Whether derivatives are wanted in reverse mode, and not in forward mode.
    """
    num, size = rows.constant.shape[-1], len(mean)
    still = jnp.eye(size)[..., None], jnp.zeros((size, size, 1)), None
    alone = rows._replace(**dict(zip(("transition", "added", "which"), still, strict=True)))
    alone = _each(lambda leaf: leaf[..., :1], alone, num)
    at_first, spread, gains, means = _row(mean[:, None], covariance[..., None], alone)
    first = jnp.stack([jnp.stack(means), jnp.log(jnp.stack([gain.scale for gain in gains]))])
    rest = _each(lambda leaf: leaf[..., 1:], rows, num)
    regular = rows.which is None and rows.slope.shape[-1] == 1 and rows.variance.shape[-1] == 1
    if not (regular and complete):
        filtered = _irregular
    else:
        filtered = _regular_backwards if backwards else _regular
        rest = rest._replace(present=jnp.ones((len(rows.present), 1)))
    return jnp.concatenate([first, filtered(rest, at_first[:, 0], spread[..., 0])], axis=-1)


def _irregular(rows: FilterRows, mean: Array, covariance: Array) -> Array:
    return _filtered(_dealt(rows, 1), mean, covariance, 0)[2][..., : rows.constant.shape[-1]]


def _regular(rows: FilterRows, mean: Array, covariance: Array) -> Array:
    """As `moments_of`, for rows that differ in what is observed and in constants alone, none of them missing."""
    return _until_settled(rows, mean, covariance)[0]


_regular_backwards = jax.custom_vjp(_regular)
"""The same, differentiable in reverse mode alone, and in that for about what the value costs."""


def _forwards(rows: FilterRows, mean: Array, covariance: Array) -> tuple[Array, Any]:
    moments, *found = _until_settled(rows, mean, covariance)
    return moments, (rows, *found)


def _backwards(found: Any, cotangent: Array) -> tuple[FilterRows, Array, Array]:
    rows, number, starts, end, size = *found, _size_of(found[0])
    done = number * size
    here = jnp.arange(cotangent.shape[-1])
    of_steady = jnp.where((here < done)[None, None], 0.0, cotangent)
    slopes = jax.vjp(lambda rows, mean, spread: _steady(rows, mean, spread, here - done + 1), rows, *end)[1](of_steady)
    padded = jnp.pad(cotangent, [(0, 0), (0, 0), (0, CHUNKS * size - len(here))])

    def body(loop: tuple[Array, Any]) -> tuple[Array, Any]:
        number, (of_rows, of_mean, of_covariance) = loop[0] - 1, loop[1]
        start = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, number, 0, keepdims=False), starts)
        own = lax.dynamic_slice_in_dim(padded, number * size, size, 2)

        # the chunk is filtered again, so that nothing is kept of it but its beginning
        def again(rows: FilterRows, mean: Array, covariance: Array) -> tuple[Array, Array, Array]:
            return _filtered(_dealt(rows, CHUNKS), mean, covariance, number)

        back = jax.vjp(again, rows, *start)[1]
        more, of_mean, of_covariance = back((of_mean, of_covariance, own))
        return number, (jax.tree.map(jnp.add, of_rows, more), of_mean, of_covariance)

    return lax.while_loop(lambda loop: loop[0] > 0, body, (number, slopes))[1]


_regular_backwards.defvjp(_forwards, _backwards)


def _until_settled(rows: FilterRows, mean: Array, covariance: Array) -> tuple[Array, Array, Any, Any]:
    """Filter chunk by chunk until the gain has settled, and all that is left at once.

    Returns:
        The moments, shape (2, o, m); the number of chunks; mean and covariance of the states before each of them, and
        after the last.
    """
    num, size = rows.constant.shape[-1], _size_of(rows)
    dealt = _dealt(rows, CHUNKS)

    def unsettled(loop: tuple[Array, ...]) -> Array:
        return (loop[0] < CHUNKS) & ~loop[1]

    def body(loop: tuple[Any, ...]) -> tuple[Any, ...]:
        number, _, before, starts, found = loop
        starts = jax.tree.map(lambda all, one: lax.dynamic_update_index_in_dim(all, one, number, 0), starts, before)
        *after, moments = _filtered(dealt, before[0], before[1], number)
        found = lax.dynamic_update_index_in_dim(found, moments, number, 2)
        return number + 1, _alike(before[1], after[1]), tuple(after), starts, found

    begin = mean, covariance
    starts = jax.tree.map(lambda leaf: jnp.zeros((CHUNKS, *leaf.shape)), begin)
    nothing = jnp.zeros((2, len(rows.values), CHUNKS, size))
    loop = (jnp.zeros((), int), jnp.zeros((), bool), begin, starts, nothing)
    number, _, end, starts, found = lax.while_loop(unsettled, body, loop)
    found = found.reshape(*found.shape[:2], -1)[..., :num]
    here, done = jnp.arange(num), number * size
    moments = jnp.where((here < done)[None, None], found, _steady(rows, end[0], end[1], here - done + 1))
    return moments, number, starts, end


def _size_of(rows: FilterRows) -> int:
    """Rows of a chunk."""
    length, blocks = _shape_of(rows.constant.shape[-1], CHUNKS)
    return length * blocks


def _shape_of(num: int, chunks: int) -> tuple[int, int]:
    """How long a block is, and how many blocks a chunk has."""
    each = -(-num // chunks)
    length = max(math.isqrt(each), 1)
    return length, -(-each // length)


def _dealt(rows: FilterRows, chunks: int) -> FilterRows:
    """Rows in chunks, and in each chunk blocks as long as there are many: shape (…, m) as (chunks, length, …, blocks).

    What is added to the last ones is not looked at; what all rows have in common stays as it is.
    """
    num = rows.constant.shape[-1]
    length, blocks = _shape_of(num, chunks)

    def own(leaf: Array) -> Array:
        missing = chunks * blocks * length - num
        padded = jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, missing)])
        return jnp.moveaxis(padded.reshape(*leaf.shape[:-1], chunks, blocks, length), (-3, -1), (0, 1))

    return _each(own, rows, num)


def _each(function: Any, rows: FilterRows, num: int) -> FilterRows:
    """Rows with something done to whatever differs from row to row; how long that is says whether it does."""
    tables = {"transition", "added"}
    found = {
        name: function(leaf)
        for name, leaf in rows._asdict().items()
        if name not in tables and leaf is not None and leaf.shape[-1] == num > 1
    }
    return rows._replace(**found)


def _varying(dealt: FilterRows, number: Any) -> dict[str, Array]:
    """Of a chunk what differs from row to row, by name; shape (length, …, blocks)."""
    axes = {"transition": 3, "added": 3, "slope": 3, "which": 1}
    varying = {n: leaf for n, leaf in dealt._asdict().items() if leaf is not None and leaf.ndim > axes.get(n, 2)}
    return {name: lax.dynamic_index_in_dim(leaf, number, 0, keepdims=False) for name, leaf in varying.items()}


def _filtered(dealt: FilterRows, mean: Array, covariance: Array, number: Any) -> tuple[Array, Array, Array]:
    """Filter a chunk: mean and covariance of the states at its end, and moments; shape (2, o, rows of a chunk)."""
    chunk = _varying(dealt, number)
    size, (length, _, blocks) = len(mean), chunk["constant"].shape

    def at(own: dict[str, Array]) -> FilterRows:
        return dealt._replace(**own)

    # where all rows are alike so is what blocks make of a covariance
    width = blocks if {"which", "slope", "variance", "present"} & set(chunk) else 1
    one = jnp.broadcast_to(jnp.eye(size)[:, :, None], (size, size, width))
    nothing = jnp.zeros((size, blocks))
    blank = FilterStretch(one, nothing, jnp.zeros_like(one), nothing, jnp.zeros_like(one))
    whole, _ = lax.scan(lambda stretch, own: (_longer(stretch, at(own)), None), blank, chunk, length)
    whole = FilterStretch(*(jnp.moveaxis(jnp.broadcast_to(leaf, (*leaf.shape[:-1], blocks)), -1, 0) for leaf in whole))
    _, starts = lax.scan(_across, (mean, covariance), whole)

    def within(belief: tuple[Array, Array], own: dict[str, Array]) -> tuple[tuple[Array, Array], Array]:
        mean, covariance, gains, means = _row(*belief, at(own))
        scales = jnp.stack([jnp.broadcast_to(jnp.log(gain.scale), means[0].shape) for gain in gains])
        return (mean, covariance), jnp.stack([jnp.stack(means), scales])

    begun = jnp.moveaxis(starts[0], 0, -1), jnp.moveaxis(starts[1], 0, -1)
    ends, moments = lax.scan(within, begun, chunk, length)
    moments = jnp.moveaxis(moments, 0, -1).reshape(*moments.shape[1:3], -1)
    return ends[0][..., -1], ends[1][..., -1], moments


def _row(mean: Array, covariance: Array, row: FilterRows) -> tuple[Array, Array, list[Gain], list[Array]]:
    """One row of many filters: mean and covariance after it, what its updates did, and what was predicted."""
    transition, added = row.step
    mean = jnp.sum(transition * mean[None], axis=1) + row.constant
    covariance = propagate(covariance, transition, added)
    gains, means = [], []
    for number, slope in enumerate(row.slope):
        predicted = jnp.sum(slope * mean, axis=0) + row.offset[number]
        seen = Seen(row.values[number], row.present[number], predicted, slope, row.variance[number])
        mean, covariance, gain = update(mean, covariance, seen)
        gains.append(gain)
        means.append(predicted)
    return mean, covariance, gains, means


def _longer(stretch: FilterStretch, row: FilterRows) -> FilterStretch:
    """A stretch with one more row, of many at once."""
    product, mean, covariance, score, information = stretch
    mean, covariance, gains, _ = _row(mean, covariance, row)
    product = jnp.sum(row.step[0][:, :, None] * product[None], axis=1)
    for gain in gains:
        along = jnp.sum(gain.slope[:, None] * product, axis=0)
        share = gain.present / gain.scale**2
        score = score + along * (share * gain.innovation)[None]
        information = information + along[:, None] * along[None] * share[None, None]
        product = product - gain.gain[:, None] * along[None]
    return FilterStretch(product, mean, covariance, score, information)


def _across(belief: tuple[Array, Array], stretch: FilterStretch) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """From the normal before a stretch to that after it; what was before it is kept."""
    mean, half = belief[0], root(belief[1])
    shared = stretch.information @ half
    inner = jnp.linalg.solve(jnp.eye(len(mean)) + half.T @ shared, half.T)
    spread = half @ inner
    mean = mean + spread @ (stretch.score - stretch.information @ mean)
    after = propagate((spread + spread.T) / 2.0, stretch.transition, stretch.covariance)
    return (stretch.transition @ mean + stretch.mean, after), belief


def _alike(before: Array, after: Array) -> Array:
    """Whether two covariances are the same, relative to the standard deviations."""
    deviations = jnp.sqrt(jnp.diag(after))
    return jnp.all(jnp.abs(after - before) <= SETTLED * deviations[:, None] * deviations[None, :])


def _steady(rows: FilterRows, mean: Array, covariance: Array, age: Array) -> Array:
    """The moments of rows once the gain has settled; shape (2, o, m).

    Args:
        rows: All of them.
        mean: Of the states before the row of age 1; shape (s,).
        covariance: Likewise, and before every row after it; shape (s, s).
        age: Numbers of the rows, at which what is older than 1 is not looked at; shape (m,).
    """
    num = rows.constant.shape[-1]
    alone = _each(lambda leaf: leaf[..., :1], rows, num)
    _, _, gains, _ = _row(mean[:, None], covariance[..., None], alone)
    dealt = _dealt(rows, 1)
    chunk, ages = _varying(dealt, 0), _dealt(rows._replace(which=age), 1).which
    assert ages is not None
    length, blocks = _shape_of(num, 1)

    def turn(state: Array, own: tuple[dict[str, Array], Array]) -> tuple[Array, Array]:
        row, age = dealt._replace(**own[0]), own[1]
        after, means = _corrected(jnp.sum(rows.transition * state[None], axis=1) + row.constant, row, gains)
        return jnp.where((age > 0)[None], after, jnp.where((age == 0)[None], mean[:, None], 0.0)), means

    nothing = jnp.zeros((len(mean), blocks))
    told = chunk, ages[0]
    ends, _ = lax.scan(lambda state, own: (turn(state, own)[0], None), nothing, told)
    still = alone._replace(values=jnp.zeros_like(alone.values), offset=jnp.zeros_like(alone.offset))
    closed = jnp.linalg.matrix_power(_corrected(rows.transition[..., 0], still, gains)[0], length)
    open_ = (ages[0, 0] > 0).astype(float)  # what is before the row of age 1 says nothing

    def across(state: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        end, follows = block
        return follows * jnp.sum(closed * state[None], axis=1) + end, state

    starts = lax.scan(across, jnp.zeros_like(mean), (ends.T, open_))[1]
    means = jnp.moveaxis(lax.scan(turn, starts.T, told)[1], 0, -1).reshape(len(gains), -1)[:, :num]
    scales = jnp.stack([jnp.broadcast_to(jnp.log(gain.scale), (num,)) for gain in gains])
    return jnp.stack([means, scales])


def _corrected(mean: Array, row: FilterRows, gains: list[Gain]) -> tuple[Array, Array]:
    """Means of states, shape (s, n), after a row's observations with known gains, and what was predicted of these."""
    means = []
    for number, gain in enumerate(gains):
        means.append(jnp.sum(gain.slope * mean, axis=0) + row.offset[number])
        mean = mean + gain.gain * (row.values[number] - means[-1])[None]
    return mean, jnp.stack(means)
