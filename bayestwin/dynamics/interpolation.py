"""States between two stops, from what the right-hand side says at each of them: quintic Hermite interpolation.

Value, slope and curvature are matched at both stops, so the error is of order 6 in their distance, one more than that
of an explicit step. J. C. Butcher (2016), doi:10.1002/9781119121534.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.dynamics.adaptive import Slope


class Between(NamedTuple):
    """Where n saved times lie between stops: r rows of up to w times from the same interval.

    In rows, a batch of small matrix products gives all states, and few rows are looked up, which in reverse mode means
    few sums to be scattered.

    Attributes:
        interval: The interval of each row; shape (r,), not decreasing.
        within: The part of the interval that has passed, from 0 to 1, 0 beyond the end of a row; shape (r, w).
        place: Positions of the saved times in the rows, one after the other; shape (n,).
    """

    interval: np.ndarray
    within: np.ndarray
    place: np.ndarray


def locate(edges: np.ndarray, times: np.ndarray) -> Between:
    """Where times, increasing and shape (n,), lie between stops, shape (m + 1,); n and m are at least 1."""
    interval = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    width = -(-len(times) // (len(edges) - 1))
    column = (np.arange(len(times)) - np.searchsorted(interval, interval)) % width
    begins = column == 0
    place = (np.cumsum(begins) - 1) * width + column
    within = np.zeros(begins.sum() * width)
    within[place] = (times - edges[interval]) / np.diff(edges)[interval]
    return Between(interval[begins], within.reshape(-1, width), place)


def interpolate(slope: Slope, edges: np.ndarray, states: Array, at: Between) -> Array:
    """States between stops.

    Args:
        slope: The right-hand side, smooth between stops.
        edges: Times of the stops; shape (m + 1,).
        states: States there; shape (m + 1, s).
        at: Where the n saved times lie.

    Returns:
        States at the saved times; shape (n, s).
    """

    def derivatives(t: Array, state: Array) -> tuple[Array, Array]:
        first = slope(t, state)
        return first, jax.jvp(slope, (t, state), (jnp.ones_like(t), first))[1]

    first, second = jax.vmap(derivatives)(jnp.asarray(edges), states)
    length = jnp.asarray(np.diff(edges))[:, None]
    ends = [(x[:-1] * scale, x[1:] * scale) for x, scale in ((states, 1.0), (first, length), (second, length**2))]
    known = jnp.stack([side for both in ends for side in both], axis=1)
    known = known.at[at.interval].get(mode="promise_in_bounds", indices_are_sorted=True)
    rows = jnp.einsum("rwk,rks->rws", jnp.stack(_basis(jnp.asarray(at.within)), axis=-1), known)
    rows = rows.reshape(-1, states.shape[1])
    return rows.at[at.place].get(mode="promise_in_bounds", indices_are_sorted=True, unique_indices=True)


def _basis(x: Array) -> list[Array]:
    """Weights of value, slope and curvature, each at the start and at the end of an interval of length 1."""
    x3, x4, x5 = x**3, x**4, x**5
    return [
        1.0 - 10.0 * x3 + 15.0 * x4 - 6.0 * x5,
        10.0 * x3 - 15.0 * x4 + 6.0 * x5,
        x - 6.0 * x3 + 8.0 * x4 - 3.0 * x5,
        -4.0 * x3 + 7.0 * x4 - 3.0 * x5,
        0.5 * x**2 - 1.5 * x3 + 1.5 * x4 - 0.5 * x5,
        0.5 * x3 - x4 + 0.5 * x5,
    ]
