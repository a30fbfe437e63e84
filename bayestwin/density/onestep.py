"""Each observation given all those before it: its log density, and the probabilities of one as low and of one as high.

For one value of all sites this is what a filter, a noise that remembers, sensors that are correlated or a discrepancy
leave open; where observations are independent given that value, it is their noise by itself.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import betainc, log_ndtr
from jax.typing import ArrayLike

from bayestwin._base.compilation import Program
from bayestwin.density.density import Density
from bayestwin.density.observing import Predicted, noise_where_seen, scores_given_before
from bayestwin.density.robust import LeastFavourable
from bayestwin.model.noise.wrapped import CensoredDistribution, log_above, log_below


class OneStep(NamedTuple):
    """What is said of one observation at n times, given all readings before each.

    Attributes:
        log_density: Of what was read; 0 where nothing was; shape (n,).
        log_below: Log probability of a reading as low as that or lower; shape (n,).
        log_above: Log probability of one as high or higher; shape (n,).
    """

    log_density: Array
    log_below: Array
    log_above: Array


@functools.singledispatch
def tails(d: dist.Distribution, value: Array) -> tuple[Array, Array]:
    """Log probabilities of a reading as low as `value` or lower, and as high or higher; shape (n,) each.

    Raises:
        NotImplementedError: If the distribution has no distribution function.
    """
    if not d.is_discrete:
        return log_below(d, value), log_above(d, value)
    return _log(_cdf(d, value)), _log(1.0 - _cdf(d, value - 1.0))


def _cdf(d: Any, value: Array) -> Array:
    """The distribution function of counts; 0 below 0."""
    counts = jnp.maximum(value, 0.0)
    if isinstance(d, dist.BinomialProbs):
        trials, probs = jnp.asarray(d.total_count), jnp.asarray(d.probs)
        below = betainc(jnp.maximum(trials - counts, 1e-9), counts + 1.0, 1.0 - probs)
        below = jnp.where(counts >= trials, 1.0, below)
    else:
        below = d.cdf(counts)
    return jnp.where(value < 0.0, 0.0, below)


@tails.register
def _(d: CensoredDistribution, value: Array) -> tuple[Array, Array]:
    lower, upper = d._limits()
    below, above = tails(d.base_dist, value)
    if lower is not None:  # a reading at the limit stands for all beyond it
        above = jnp.where(value <= lower, 0.0, above)
    if upper is not None:
        below = jnp.where(value >= upper, 0.0, below)
    return below, above


@tails.register
def _(d: LeastFavourable, value: Array) -> tuple[Array, Array]:
    return d.log_tail(value), d.log_tail(2.0 * d.loc - value)


def _log(probability: Array) -> Array:
    positive = probability > 0.0
    return jnp.where(positive, jnp.log(jnp.where(positive, probability, 1.0)), -jnp.inf)


def one_step(
    density: Density,
    values: Mapping[str, ArrayLike],
    predicted: Predicted,
    added: Mapping[str, ArrayLike] | None = None,
    *,
    probable: bool = True,
) -> dict[str, OneStep]:
    """What is said of each observation given all before it, by its name.

    Args:
        density: Of one record.
        values: Of all sites.
        predicted: What the twin says with them.
        added: By observation, what its readings are off by throughout, shape (n,) or a number.
        probable: Whether probabilities are wanted beside log densities.
    """
    twin, bound = density.twin, density.bound
    given = density.complete(values)
    expected = {name: value + (added or {}).get(name, 0.0) for name, value in predicted.noise_free.items()}
    predicted = predicted._replace(noise_free=expected)
    terms = density.log_likelihood(values, predicted)
    discrepant = density.discrepancies.processes if density.discrepancies is not None else {}
    white = scores_given_before(twin, bound, given, predicted) if twin.correlated and probable else {}
    found = {}
    for name, values_read in bound.observations.items():
        read = jnp.asarray(values_read)
        present = jnp.isfinite(read)
        if name in white:
            below, above = log_ndtr(white[name]), log_ndtr(-white[name])
        elif name in discrepant or probable:
            noise, own = noise_where_seen(twin, bound, name, given, predicted)
            seen, centre = jnp.where(present, read, 1.0), jnp.where(present, expected[name], 1.0)
            if name in discrepant:
                assert density.discrepancies is not None
                moments = discrepant[name].expect(
                    read - expected[name], own["scale"], *density.discrepancies.given(name, given)
                )
                scattered: Any = dist.Normal(centre + moments[0], moments[1], validate_args=False)
                terms[name] = jnp.where(present, scattered.log_prob(seen), 0.0)
            else:
                scattered = noise.given_before(jnp.where(present, read, jnp.nan), centre, bound.times, **own)
            below, above = tails(scattered, seen) if probable else (seen, seen)
        else:
            below = above = read
        found[name] = OneStep(terms[name], below, above)
    return found


@Program
def look(density: Density, values: Mapping[str, Array]) -> tuple[dict[str, OneStep], Array]:
    """One step ahead by each of many draws, and how far each could be solved; draws first.

    Where the solve did not come log densities are −∞, so that such a draw counts no more.
    """

    def one(values: Mapping[str, Array]) -> tuple[dict[str, OneStep], Array]:
        predicted = density.predict(values, partly=True)
        found = one_step(density, values, predicted)
        read = {name: jnp.isfinite(jnp.asarray(own)) for name, own in density.bound.observations.items()}
        certain = {
            name: own._replace(
                log_density=jnp.where(
                    read[name] & (~predicted.reached | jnp.isnan(own.log_density)), -jnp.inf, own.log_density
                )
            )
            for name, own in found.items()
        }
        return certain, predicted.reached

    return jax.vmap(one)(values)
