"""Log probabilities that an observation lies at or beyond a limit, or between two: exact far out in the tails too."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln, log_ndtr, logsumexp
from jax.typing import ArrayLike

NARROW = 1e-8
"""Share of the tail that an interval holds below which its probability is density times width: a difference of two
tails would have fewer digits than that."""


@functools.singledispatch
def log_below(d: dist.Distribution, limit: Any) -> Array:
    """`log P(Y <= limit)`.

    Args:
        d: Distributions, batch shape (n,).
        limit: A number, or, where `d` is continuous, shape (n,).

    Returns:
        Shape (n,).
    """
    if d.is_discrete:
        terms = jax.vmap(d.log_prob)(jnp.arange(0.0, float(limit) + 1.0))
        return jnp.minimum(logsumexp(terms, axis=0), 0.0)
    return _log(d.cdf(limit))


@functools.singledispatch
def log_above(d: dist.Distribution, limit: Any) -> Array:
    """`log P(Y >= limit)`; arguments and result as of `log_below`."""
    if not d.is_discrete:
        return _log(1.0 - d.cdf(limit))
    if float(limit) <= 0.0:
        return jnp.zeros(d.batch_shape)
    return _log(-jnp.expm1(log_below(d, limit - 1.0)))


def log_between(d: dist.Distribution, low: Array, high: Array) -> Array:
    """`log P(low <= Y <= high)` of a continuous distribution.

    The difference is that of the two tails in which it loses no digits: of the upper ones where `low` lies above the
    median.
    """
    upper = log_above(d, low) < log_below(d, low)
    outer = jnp.where(upper, log_above(d, low), log_below(d, high))
    inner = jnp.where(upper, log_above(d, high), log_below(d, low))
    share = jnp.where(jnp.isfinite(inner), outer - inner, 1.0)
    narrow = share < NARROW
    density = d.log_prob(jnp.where(narrow, (low + high) / 2.0, d.support.feasible_like(low)))  # type: ignore[union-attr]
    wide = outer + jnp.log(-jnp.expm1(-jnp.where(narrow, 1.0, share)))
    return jnp.where(jnp.isfinite(inner), jnp.where(narrow, density + jnp.log(high - low), wide), outer)


@log_below.register
def _(d: dist.Normal, limit: Any) -> Array:
    return log_ndtr((limit - d.loc) / d.scale)


@log_above.register
def _(d: dist.Normal, limit: Any) -> Array:
    return log_ndtr(-(limit - d.loc) / d.scale)


@log_below.register
def _(d: dist.LogNormal, limit: Any) -> Array:
    positive = jnp.asarray(limit) > 0.0
    return jnp.where(positive, log_below(d.base_dist, jnp.log(jnp.where(positive, limit, 1.0))), -jnp.inf)


@log_above.register
def _(d: dist.LogNormal, limit: Any) -> Array:
    positive = jnp.asarray(limit) > 0.0
    return jnp.where(positive, log_above(d.base_dist, jnp.log(jnp.where(positive, limit, 1.0))), 0.0)


@log_below.register
def _(d: dist.StudentT, limit: Any) -> Array:
    return _log_student((limit - d.loc) / d.scale, d.df)


@log_above.register
def _(d: dist.StudentT, limit: Any) -> Array:
    return _log_student(-(limit - d.loc) / d.scale, d.df)


@log_below.register
def _(d: dist.Poisson, limit: Any) -> Array:
    return _log(gammaincc(jnp.floor(limit) + 1.0, d.rate))


@log_above.register
def _(d: dist.Poisson, limit: Any) -> Array:
    return _log(gammainc(jnp.ceil(limit), d.rate)) if float(limit) > 0.0 else jnp.zeros(d.batch_shape)


@jax.custom_jvp
def _log_student(z: Array, df: ArrayLike) -> Array:
    """Log of the cumulative distribution function of Student's t."""
    tail = 0.5 * betainc(0.5 * df, 0.5, df / (df + z**2))
    centre = 0.5 * betainc(0.5, 0.5 * df, z**2 / (df + z**2))  # which near the median has the digits that `tail` lacks
    far = jnp.where(z < 0.0, _log(tail), jnp.log1p(-tail))
    return jnp.where(z**2 < df, jnp.log(0.5 + jnp.sign(z) * jnp.minimum(centre, 0.4999)), far)


def _student_slope(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Its derivative: written out, since that of the incomplete beta function is infinite at the median."""
    z, df = primals
    if not isinstance(tangents[1], SymbolicZero):
        message = "the tails of Student's t have no derivative with respect to `df`: make `df` a known number"
        raise NotImplementedError(message)
    log_cdf = _log_student(z, df)
    log_scale = gammaln(0.5 * (df + 1.0)) - gammaln(0.5 * df) - 0.5 * jnp.log(jnp.pi * df)
    slope = jnp.exp(log_scale - 0.5 * (df + 1.0) * jnp.log1p(z**2 / df) - log_cdf)
    dz = jnp.zeros_like(z) if isinstance(tangents[0], SymbolicZero) else tangents[0]
    return log_cdf, slope * dz


_log_student.defjvp(_student_slope, symbolic_zeros=True)


def _log(probability: Array) -> Array:
    """−∞ at 0, with a derivative that is a number."""
    positive = probability > 0.0
    logs = jnp.log(jnp.where(positive, probability, 1.0))
    return jnp.where(jnp.isnan(probability), jnp.nan, jnp.where(positive, logs, -jnp.inf))
