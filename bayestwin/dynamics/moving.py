"""Stops that move with what is inferred: samples of delayed inputs arrive at them, and events happen at them.

Such times are sorted in among the stops that are known. A solver that ends a step exactly there, at a time that has a
derivative, needs no correction for what jumps: that of the states follows from the steps before and after.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid


def move_stops(field: Field, grid: Grid) -> tuple[Grid, Array, Array]:
    """Lay out the stops for given parameters.

    Args:
        field: The twin with its parameters.
        grid: m intervals, without stops that move.

    Returns:
        A grid that has them as well, and after its inputs those of the delays that are known beforehand; the places of
        the former stops among its own, shape (m + 1,); and whether no delay is negative: what comes is not known yet.
    """
    edges = jnp.asarray(grid.edges)
    if len(edges) < 2:
        return grid, jnp.arange(len(edges)), jnp.asarray(True)
    lags = field.equations.lags(field.p) if field.equations.fixed else jnp.zeros(0)
    arrivals = _arrivals(field, lags)
    happening, columns = _happening(field)
    moving = jnp.clip(jnp.concatenate([*arrivals, happening]), edges[0], edges[-1])
    stops = jnp.concatenate([edges, moving])
    order = jnp.argsort(lax.stop_gradient(stops), stable=True)  # at the same time, what is known comes first
    stops = stops[order]
    former = jnp.clip(jnp.cumsum(order < len(edges)) - 1, 0, len(edges) - 2)
    begins = (stops - edges[former])[:-1]
    coefficients = _shifted(jnp.asarray(grid.coefficients)[former[:-1]], begins)
    delayed = [_answer(field, number, times, stops, order - len(edges)) for number, times in enumerate(arrivals)]
    inside = (happening >= edges[0]) & (happening <= edges[-1])
    known = jnp.concatenate([jnp.asarray(grid.amounts), jnp.full((1 + len(moving), grid.amounts.shape[1]), jnp.nan)])
    first = len(edges) + sum(map(len, arrivals)) + np.arange(len(columns))
    known = known.at[first, columns].set(jnp.where(inside, 1.0, jnp.nan))
    places = jnp.argsort(order)[: len(edges)]
    moved = grid._replace(
        edges=stops,
        coefficients=_beside(coefficients, delayed),
        save=places[grid.save],
        amounts=known[order][:-1],
    )
    return moved, places, (lags >= 0.0).all()


def _arrivals(field: Field, lags: Array) -> list[Array]:
    """When the samples arrive that each delay asks for; shape (k,) each."""
    samples = [field.samples_of(delay)[0] for delay in field.equations.fixed]
    return [times + lag for times, lag in zip(samples, lags, strict=True)]


def _happening(field: Field) -> tuple[Array, np.ndarray]:
    """Times of the events whose times parameters say, and which of the timed events each is; shape (e,) each."""
    times, columns = [jnp.zeros(0)], []
    for column, name in enumerate(field.twin.timed):
        at = field.twin.events[name].at
        if callable(at):
            found = at(field.p)
            own = jnp.stack([jnp.asarray(t, float) for t in found]) if isinstance(found, tuple | list) else found
            times.append(jnp.atleast_1d(jnp.asarray(own, float)))
            columns += [column] * len(times[-1])
    return jnp.concatenate(times), np.array(columns, int)


def _answer(field: Field, number: int, arrivals: Array, stops: Array, moving: Array) -> Array:
    """Coefficients within each interval of what a delay asks for; shape (m, d)."""
    samples, coefficients = field.samples_of(field.equations.fixed[number])
    first = number * len(samples)
    real = jnp.isfinite(samples).sum()
    passed = jnp.cumsum((moving >= first) & (moving < first + len(samples)))[:-1]
    row = jnp.minimum(passed, real)
    begun = jnp.where(row > 0, arrivals[row - 1], stops[:-1])
    return _shifted(coefficients[row][:, :, None], stops[:-1] - begun)[:, :, 0]


def _shifted(coefficients: Array, passed: Array) -> Array:
    """Coefficients of the powers of the time since later moments.

    Args:
        coefficients: Shape (m, d, q).
        passed: How much later; shape (m,).
    """
    powers = coefficients.shape[1]
    rows = []
    for power in range(powers):
        terms = [
            math.comb(higher, power) * coefficients[:, higher] * (passed ** (higher - power))[:, None]
            for higher in range(power + 1, powers)
        ]
        rows.append(sum(terms, start=coefficients[:, power]))
    return jnp.stack(rows, axis=1)


def _beside(coefficients: Array, delayed: list[Array]) -> Array:
    """Coefficients of inputs, shape (m, d, q), and after them those of delayed ones, shape (m, d') each."""
    powers = max([coefficients.shape[1], *[one.shape[1] for one in delayed]])
    columns = [coefficients, *[one[:, :, None] for one in delayed]]
    padded = [jnp.pad(one, ((0, 0), (0, powers - one.shape[1]), (0, 0))) for one in columns]
    return jnp.concatenate(padded, axis=2)
