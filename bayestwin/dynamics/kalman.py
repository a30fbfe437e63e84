"""The Kalman filter on plain arrays: updates by one observation at a time, and draws of states given all of them.

cuthbert's filters are for discrete time: the steps between stops would be ours, and its updates factorise a matrix for
every observation, chain and tangent. One scalar observation at a time needs no factorisation and no inverse, leaves out
exactly what is missing, and in Joseph's form keeps the covariance positive. The draws invert variances of observations
alone, so states without noise of their own are no special case. R. E. Kalman (1960), doi:10.1115/1.3662552. J. Durbin &
S. J. Koopman (2002), doi:10.1093/biomet/89.3.603 (draws).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Seen(NamedTuple):
    """One scalar observation, linearised: `y = predicted + slope · (x − mean) + N(0, variance)`.

    Of many filters at once all shapes have one more axis, the last.

    Attributes:
        value: What was observed; anything where nothing was.
        present: 1.0, or 0.0 where nothing was observed.
        predicted: Its mean, given all before.
        slope: Shape (s,).
        variance: Of what the states do not explain.
    """

    value: Array
    present: Array
    predicted: Array
    slope: Array
    variance: Array


class Gain(NamedTuple):
    """What an update did.

    Attributes:
        gain: Shape (s,); zero where nothing was observed.
        slope: Shape (s,).
        innovation: The observation less its mean; zero where nothing was observed.
        scale: Standard deviation of the observation, given all before.
        noise: Standard deviation of what the states do not explain.
        present: 1.0, or 0.0 where nothing was observed.
    """

    gain: Array
    slope: Array
    innovation: Array
    scale: Array
    noise: Array
    present: Array


def update(mean: Array, covariance: Array, seen: Seen) -> tuple[Array, Array, Gain]:
    """Mean, shape (s,), and covariance, shape (s, s), of the states after one observation, and what it did."""
    shared = _apply(covariance, seen.slope)
    variance = jnp.sum(seen.slope * shared, axis=0) + seen.variance
    gain = shared / variance[None] * seen.present[None]
    innovation = jnp.where(seen.present > 0, seen.value - seen.predicted, 0.0)
    half = covariance - gain[:, None] * shared[None, :]
    noise = seen.variance[None, None] * gain[:, None] * gain[None, :]
    covariance = half - _apply(half, seen.slope)[:, None] * gain[None, :] + noise
    did = Gain(gain, seen.slope, innovation, jnp.sqrt(variance), jnp.sqrt(seen.variance), seen.present)
    return mean + gain * innovation[None], covariance, did


def propagate(covariance: Array, transition: Array, added: Array) -> Array:
    """The covariance `Φ P Φᵀ + Q`; shape (s, s) each."""
    # sums of products fuse with what stands around them, where XLA calls a matrix product for each of many small ones
    half = jnp.sum(transition[:, :, None] * covariance[None, :, :], axis=1)
    return jnp.sum(half[:, None, :] * transition[None, :, :], axis=2) + added


def _apply(matrix: Array, vector: Array) -> Array:
    return jnp.sum(matrix * vector[None, :], axis=1)


class Pass(NamedTuple):
    """What a filter found at each of k stops; o observations.

    Attributes:
        mean: Of the states before the observations of this stop; shape (k, s).
        covariance: Likewise; shape (k, s, s).
        transition: From the stop before to this one; shape (k, s, s).
        added: Covariance that came in between; shape (k, s, s).
        gains: A leading axis (k, o) in each field.
    """

    mean: Array
    covariance: Array
    transition: Array
    added: Array
    gains: Gain


class Normals(NamedTuple):
    """Standard normal numbers that make a draw of the states at k stops; o observations.

    Attributes:
        begin: Of the states at the beginning; shape (s,).
        pushes: Of process noise before each stop; shape (k, s).
        noises: Of observations; shape (k, o).
    """

    begin: Array
    pushes: Array
    noises: Array


def draw_states(found: Pass, initial: Array, normals: Normals) -> Array:
    """Draw the states at all stops, given all that was observed; shape (k, s).

    Errors of the filter are simulated; the smoother adds what the difference between the innovations that were seen
    and those that were simulated says about the states.

    Args:
        found: The filter, in which the states are as `found` linearises them.
        initial: Covariance at the beginning; shape (s, s).
        normals: The randomness, of which the draw is a linear function.
    """

    def forward(error: Array, row: tuple[Array, Array, Array, Gain, Array]) -> tuple[Array, tuple[Array, Array]]:
        transition, added, push, gains, noise = row
        before = error = transition @ error + root(added) @ push
        differences = []
        for number in range(noise.size):
            gain = jax.tree.map(lambda leaf, n=number: leaf[n], gains)
            simulated = jnp.sum(gain.slope * error) + gain.noise * noise[number]
            differences.append(gain.present * (gain.innovation - simulated))
            error = error - gain.gain * simulated
        return error, (before, jnp.stack(differences))

    def backward(score: Array, row: tuple[Array, Gain, Array]) -> tuple[Array, Array]:
        transition, gains, difference = row
        for number in reversed(range(difference.size)):
            gain = jax.tree.map(lambda leaf, n=number: leaf[n], gains)
            score = score + gain.slope * (difference[number] / gain.scale**2 - jnp.sum(gain.gain * score))
        return transition.T @ score, score

    rows = (found.transition, found.added, normals.pushes, found.gains, normals.noises)
    errors, differences = lax.scan(forward, root(initial) @ normals.begin, rows)[1]
    rows = (found.transition, found.gains, differences)
    scores = lax.scan(backward, jnp.zeros_like(normals.begin), rows, reverse=True)[1]
    return found.mean + errors + jnp.einsum("kij,kj->ki", found.covariance, scores)


def root(covariance: Array) -> Array:
    """A lower triangular L with `L Lᵀ = covariance`, also where that is singular; shape (s, s)."""
    left, columns = covariance, []
    for number in range(len(covariance)):
        pivot = left[number, number]
        positive = pivot > 1e-14 * covariance[number, number]
        column = jnp.where(positive, left[:, number] / jnp.sqrt(jnp.where(positive, pivot, 1.0)), 0.0)
        columns.append(column)
        left = left - column[:, None] * column[None, :]
    return jnp.tril(jnp.stack(columns, axis=1))
