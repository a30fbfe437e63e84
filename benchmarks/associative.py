"""Would a Kalman filter by associative scan pay for long series? Beside the sequential one that we have.

Two states, one sensor, evenly spaced; the log likelihood, and with it a derivative in forward mode. The associative
form does more work in fewer steps in a row (S. Särkkä and Á. F. García-Fernández, doi:10.1109/TAC.2020.2976316).
"""

import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from rich.console import Console
from rich.table import Table

import bayestwin  # noqa: F401 (switches float64 on)
from bayestwin.dynamics.kalman import Seen, propagate, update

SIZES, REPEATS = (1_000, 10_000, 100_000), 7
ADDED, SLOPE = 0.01 * np.eye(2), np.array([1.0, 0.0])

type Element = tuple[Array, Array, Array, Array, Array]
"""Gain, constant and covariance of a stretch of the filter, and what it says about its beginning; leading axis n."""


def sequential(transition: Array, noise: Array, observed: Array) -> Array:
    """Log likelihood up to a constant, by our own updates one after the other."""

    def body(belief: tuple[Array, Array], value: Array) -> tuple[tuple[Array, Array], Array]:
        mean, covariance = transition @ belief[0], propagate(belief[1], transition, ADDED)
        seen = Seen(value, jnp.ones(()), SLOPE @ mean, jnp.asarray(SLOPE), noise**2)
        mean, covariance, did = update(mean, covariance, seen)
        return (mean, covariance), -0.5 * (did.innovation / did.scale) ** 2 - jnp.log(did.scale)

    return lax.scan(body, (jnp.zeros(2), jnp.eye(2)), observed)[1].sum()


def associative(transition: Array, noise: Array, observed: Array) -> Array:
    """The same by an associative scan."""

    def element(prior: Array | np.ndarray, value: Array) -> Element:
        variance = SLOPE @ prior @ SLOPE + noise**2
        gain, seen = prior @ SLOPE / variance, transition.T @ SLOPE
        kept = jnp.eye(2) - jnp.outer(gain, SLOPE)
        return kept @ transition, gain * value, kept @ prior, seen * value / variance, jnp.outer(seen, seen) / variance

    elements = jax.vmap(lambda value: element(ADDED, value))(observed)
    first = element(propagate(jnp.eye(2), transition, jnp.asarray(ADDED)), observed[0])
    alone = (jnp.zeros((2, 2)), *first[1:3], jnp.zeros(2), jnp.zeros((2, 2)))  # nothing lies before the first
    elements = jax.tree.map(lambda leaf, start: leaf.at[0].set(start), elements, alone)
    _, means, covariances, _, _ = lax.associative_scan(joined, elements)
    before = jnp.concatenate([jnp.zeros((1, 2)), means[:-1]])
    spread = jnp.concatenate([jnp.eye(2)[None], covariances[:-1]])
    expected = applied(transition[None], before) @ SLOPE
    predicted = jax.vmap(lambda covariance: propagate(covariance, transition, jnp.asarray(ADDED)))(spread)
    variance = jnp.einsum("kij,i,j->k", predicted, SLOPE, SLOPE) + noise**2
    return (-0.5 * (observed - expected) ** 2 / variance - 0.5 * jnp.log(variance)).sum()


def joined(one: Element, other: Element) -> Element:
    """Two stretches as one."""
    (gain, constant, spread, eta, precision), (gain2, constant2, spread2, eta2, precision2) = one, other
    forward = product(gain2, inverse(jnp.eye(2)[None] + product(spread, precision2)))
    backward = product(transposed(gain), inverse(jnp.eye(2)[None] + product(precision2, spread)))
    return (
        product(forward, gain),
        applied(forward, constant + applied(spread, eta2)) + constant2,
        product(product(forward, spread), transposed(gain2)) + spread2,
        applied(backward, eta2 - applied(precision2, constant)) + eta,
        product(product(backward, precision2), gain) + precision,
    )


def product(left: Array, right: Array) -> Array:
    """Products of many small matrices, as sums that fuse."""
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def applied(matrix: Array, vector: Array) -> Array:
    """Many small matrices, each applied to its vector."""
    return jnp.sum(matrix * vector[..., None, :], axis=-1)


def transposed(matrix: Array) -> Array:
    """Many matrices transposed."""
    return jnp.swapaxes(matrix, -1, -2)


def inverse(matrix: Array) -> Array:
    """Inverses of many 2 × 2 matrices."""
    a, b, c, d = (matrix[..., i, j] for i in range(2) for j in range(2))
    rows = jnp.stack([jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)], axis=-2)
    return rows / (a * d - b * c)[..., None, None]


def median_ms(function: Callable[[], object]) -> float:
    """Median milliseconds of a compiled call."""
    jax.block_until_ready(function())
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(function())
        taken.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(taken)


def main() -> None:
    """Measure and print."""
    transition, noise = jnp.array([[0.95, 0.015], [0.01, 0.975]]), jnp.asarray(0.1)
    table = Table("observations", "sequential, ms", "associative, ms", "ratio", "with a derivative, ms", "", "ratio")
    for size in SIZES:
        observed = jnp.asarray(np.random.default_rng(0).normal(size=size))
        taken, values = [], []
        for form in (sequential, associative):
            likelihood = functools.partial(form, observed=observed)
            value = functools.partial(jax.jit(likelihood), transition, noise)
            slope = functools.partial(jax.jit(functools.partial(jax.jvp, likelihood)), *[(transition, noise)] * 2)
            values.append(float(value()))
            taken.append([median_ms(value), median_ms(slope)])
        assert abs(values[0] - values[1]) < 1e-8 * abs(values[0]), values
        (first, first_slope), (other, other_slope) = taken
        cells = (first, other, other / first, first_slope, other_slope, other_slope / first_slope)
        table.add_row(f"{size:,}", *(f"{cell:.3g}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
