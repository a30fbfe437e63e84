"""Noise of sensors that do not show all or are off: limits (censoring), digits rounded away, a bias that may grow."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln, log_ndtr, logsumexp
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.errors import InvalidTwin
from bayestwin.model.noise.families import LEAST, LogNormal, Noise, NoiseUnit
from bayestwin.model.types import Column, NoiseParameter

# Log probabilities that an observation lies at or beyond a limit, or between two: exact far out in the tails too.

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


@dataclasses.dataclass(frozen=True)
class Censored(Noise):
    """Readings that stay at a limit when they would lie beyond it: one at the limit counts as "there or beyond".

    J. Tobin (1958), doi:10.2307/1907382.

    Attributes:
        noise: How readings would scatter without limits.
        lower: Lower limit, in the unit of the observation; None for none, `bt.Column(…)` for one that the telemetry
            tells row by row.
        upper: Upper limit, likewise.

    Raises:
        InvalidTwin: If there is no limit, the limits are in the wrong order, those told by row are of counts or have a
            factor, or the noise has limits already or is autocorrelated.
    """

    noise: Noise
    lower: float | Column | None = None
    upper: float | Column | None = None
    units: ClassVar[Mapping[str, NoiseUnit]] = {"lower": "observation", "upper": "observation"}
    signed: ClassVar[frozenset[str]] = frozenset({"lower", "upper"})

    def __post_init__(self) -> None:
        """Refuse limits and noise that make no sense."""
        limits = [limit for limit in (self.lower, self.upper) if limit is not None and not isinstance(limit, Column)]
        in_order = len(limits) < 2 or limits[0] < limits[1]
        some = limits or self.own_parameters
        if not some or not in_order or not all(math.isfinite(limit) for limit in limits):
            raise InvalidTwin(
                "The limits of bt.Censored make no sense.",
                expected="`lower=` or `upper=`, or both, finite and in this order",
                received=f"lower {self.lower}, upper {self.upper}",
                advice="Leave out a limit that is never reached.",
            )
        _check_inner(self, (Censored,), "Give both limits at once: `bt.Censored(noise, lower=…, upper=…)`.")
        told = [limit for limit in (self.lower, self.upper) if isinstance(limit, Column)]
        if told and (self.noise.support.is_discrete or any(limit.factor != 1.0 for limit in told)):
            raise InvalidTwin(
                "Limits of bt.Censored cannot be told row by row like this.",
                expected="noise on a continuous scale, and columns that are the limits themselves, without a `factor=`",
                received=f"{self!r}",
                advice="Write the limits into the column as they are; counts have one limit for all rows.",
            )

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """The limits that the telemetry tells row by row."""
        return {name: limit for name in ("lower", "upper") if isinstance(limit := getattr(self, name), Column)}

    @property
    def support(self) -> Any:
        """That of the noise, from limit to limit; those of single rows are not in it."""
        lower, upper = (None if isinstance(limit, Column) else limit for limit in (self.lower, self.upper))
        return _Shown(self.noise.support, lower=lower, upper=upper)

    @override
    def supported(self, **limits: ArrayLike) -> Any:
        """That of the noise, from the limits of each row, shape (n,) each; NaN where a row has none."""
        ends: dict[str, Any] = {name: getattr(self, name) for name in ("lower", "upper")} | {
            name: np.where(np.isnan(limit), far, limit)  # of a record that is there: nothing to compile
            for name, far in (("lower", -np.inf), ("upper", np.inf))
            if (limit := limits.get(name)) is not None
        }
        return _Shown(self.noise.support, **ends)

    @override
    def distribution(
        self,
        value: ArrayLike,
        times: ArrayLike,
        *,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        **inner: ArrayLike,
    ) -> dist.Distribution:
        """That of the noise, with all that lies beyond a limit gathered there."""
        if isinstance(self.noise, LogNormal):  # where nothing is there, nothing is seen: below any limit for certain
            value = jnp.asarray(value)
            value = jnp.where(value == 0.0, LEAST, value)
        own, scattered = self.own_parameters, self.noise.distribution(value, times, **inner)
        limits: Any = (None if "lower" in own else self.lower, None if "upper" in own else self.upper)
        return CensoredDistribution(scattered, *limits, rows=(lower, upper) if own else None)


@dataclasses.dataclass(frozen=True)
class Rounded(Noise):
    """Readings on a continuous scale, rounded to multiples of `step`: each counts as the interval around it.

    Attributes:
        noise: How readings scatter before they are rounded.
        step: Distance of two neighbouring readings, in the unit of the observation.

    Raises:
        InvalidTwin: If the step is not positive, or the noise is of counts, has limits, or is autocorrelated.
    """

    noise: Noise
    step: float

    def __post_init__(self) -> None:
        """Refuse a step and noise that make no sense."""
        if not (self.step > 0.0 and math.isfinite(self.step)):
            raise InvalidTwin(
                "`step` of bt.Rounded makes no sense.",
                expected="a positive number, in the unit of the observation",
                received=f"{self.step!r}",
                advice="It is the distance of two neighbouring readings.",
            )
        _check_inner(self, (Censored, Rounded), "Limits go outside: `bt.Censored(bt.Rounded(noise, step), …)`.")
        if self.noise.support.is_discrete:
            raise InvalidTwin(
                f"bt.Rounded cannot change {type(self.noise).__name__} noise.",
                expected="noise on a continuous scale",
                received="noise of counts",
                advice="Leave out bt.Rounded: counts are whole numbers already.",
            )

    @property
    def support(self) -> Any:
        """Whatever can round to something in the support of the noise."""
        return _Shown(self.noise.support, beyond=self.step / 2.0)

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, **inner: ArrayLike) -> dist.Distribution:
        """That of the noise, with half a step around each reading gathered there."""
        return RoundedDistribution(self.noise.distribution(value, times, **inner), self.step)


class CensoredDistribution(dist.Distribution):
    """A distribution whose probability beyond each limit lies at the limit: a density between, a probability there."""

    support: Any = constraints.real
    pytree_data_fields = ("base_dist", "rows")
    pytree_aux_fields = ("lower", "upper")

    def __init__(
        self,
        base_dist: dist.Distribution,
        lower: float | None,
        upper: float | None,
        rows: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    ) -> None:
        """Censor `base_dist`; None is no limit.

        Args:
            base_dist: Batch shape (n,).
            lower: Of all.
            upper: Of all.
            rows: Lower and upper limits of each, shape (n,), NaN for none; None where they are those of all.
        """
        self.base_dist, self.lower, self.upper, self.rows = base_dist, lower, upper, rows
        super().__init__(base_dist.batch_shape, validate_args=False)

    def _limits(self) -> tuple[Any, Any]:
        """Where readings end; None for nowhere, and infinity in single rows."""
        if self.rows is None:
            return self.lower, self.upper
        far = ((self.rows[0], -jnp.inf, self.lower), (self.rows[1], jnp.inf, self.upper))
        lower, upper = (own if r is None else jnp.where(jnp.isnan(r), end, r) for r, end, own in far)
        return lower, upper

    def log_prob(self, value: ArrayLike, intermediates: list[Any] | None = None) -> Array:  # noqa: ARG002
        """Log density between the limits, log probability at them."""
        value = jnp.asarray(value, float)
        lower, upper = self._limits()
        low = value <= (-jnp.inf if lower is None else lower)
        high = value >= (jnp.inf if upper is None else upper)
        between = jnp.where(low | high, self.base_dist.support.feasible_like(value), value)  # type: ignore[union-attr]
        found = jnp.asarray(self.base_dist.log_prob(between))
        # a row without a limit has nothing beyond it, whose derivative would not be a number
        if lower is not None:
            at = lower if jnp.ndim(lower) == 0 else jnp.where(jnp.isfinite(lower), lower, between)
            found = jnp.where(low, log_below(self.base_dist, at), found)
        if upper is not None:
            at = upper if jnp.ndim(upper) == 0 else jnp.where(jnp.isfinite(upper), upper, between)
            found = jnp.where(high, log_above(self.base_dist, at), found)
        return found

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, moved to the limit beyond which they lie."""
        return jnp.clip(self.base_dist.sample(key, sample_shape), *self._limits())


class RoundedDistribution(dist.Distribution):
    """A continuous distribution rounded to multiples of `step`: a probability for each."""

    support: Any = constraints.real
    pytree_data_fields = ("base_dist",)
    pytree_aux_fields = ("step",)

    def __init__(self, base_dist: dist.Distribution, step: float) -> None:
        """Round `base_dist`."""
        self.base_dist, self.step = base_dist, step
        super().__init__(base_dist.batch_shape, validate_args=False)

    def log_prob(self, value: ArrayLike, intermediates: list[Any] | None = None) -> Array:  # noqa: ARG002
        """Log probability of the interval around a reading."""
        value = jnp.asarray(value, float)
        return log_between(self.base_dist, value - self.step / 2.0, value + self.step / 2.0)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, rounded."""
        return jnp.round(self.base_dist.sample(key, sample_shape) / self.step) * self.step


@log_below.register
def _(d: RoundedDistribution, limit: Any) -> Array:
    return log_below(d.base_dist, limit + d.step / 2.0)


@log_above.register
def _(d: RoundedDistribution, limit: Any) -> Array:
    return log_above(d.base_dist, limit - d.step / 2.0)


class _Shown(constraints.Constraint):
    """What a sensor can show of values under another constraint."""

    def __init__(
        self, base: Any, *, lower: float | None = None, upper: float | None = None, beyond: float = 0.0
    ) -> None:
        """Within limits, and up to `beyond` below the base."""
        self.base, self.lower, self.upper, self.beyond = base, lower, upper, beyond
        self.is_discrete = base.is_discrete

    def __call__(self, x: Any) -> Any:
        shown = self.base(x + self.beyond)
        # at its limit a sensor may show a number that could not occur without one
        low = True if self.lower is None else x >= self.lower
        high = True if self.upper is None else x <= self.upper
        at_limit = (x == self.lower) | (x == self.upper)
        return (shown | at_limit) & low & high

    def __repr__(self) -> str:
        words = [repr(self.base)]
        words += [f"not below {self.lower:g}"] if self.lower is not None else []
        words += [f"not above {self.upper:g}"] if self.upper is not None else []
        words += [f"rounded by up to {self.beyond:g}"] if self.beyond else []
        return ", ".join(words)

    def tree_flatten(self) -> tuple:
        return (), ((), {"base": self.base, "lower": self.lower, "upper": self.upper, "beyond": self.beyond})


def _check_inner(outer: Noise, kinds: tuple[type[Noise], ...], advice: str) -> None:
    """Refuse to change noise that is of one of these kinds, or autocorrelated."""
    inner = outer.noise  # type: ignore[attr-defined]
    fine = isinstance(inner, Noise) and not any(isinstance(layer, kinds) for layer in inner.layers())
    if fine and inner.independent:
        return
    raise InvalidTwin(
        f"bt.{type(outer).__name__} cannot change this noise.",
        expected="a noise model such as bt.Gaussian, whose observations are independent",
        received=f"{inner!r}",
        advice=advice if isinstance(inner, Noise) and inner.independent else "Use another noise model inside it.",
    )


# Sensors that are off: a bias, and a bias that grows with time.


@dataclasses.dataclass(frozen=True)
class Biased(Noise):
    """A sensor that reads `v + bias + drift · t` instead of the value v, and scatters around that by `noise`.

    Attributes:
        noise: How readings scatter.
        bias: What the sensor reads too much at `t0`, in the unit of the observation.
        drift: What it reads more with time, in the unit of the observation per `time_unit` of the twin.
    """

    noise: Noise
    bias: NoiseParameter = 0.0
    drift: NoiseParameter = 0.0
    normal: ClassVar[bool] = True
    units: ClassVar[Mapping[str, NoiseUnit]] = {"bias": "observation", "drift": "rate"}
    signed: ClassVar[frozenset[str]] = frozenset({"bias", "drift"})

    @property
    def support(self) -> Any:
        """That of the noise around the biased value."""
        return self.noise.support

    @override
    def supported(self, **limits: ArrayLike) -> Any:
        """That of the noise around the biased value."""
        return self.noise.supported(**limits)

    @override
    def distribution(
        self, value: ArrayLike, times: ArrayLike, *, bias: ArrayLike, drift: ArrayLike, **inner: ArrayLike
    ) -> dist.Distribution:
        """That of the noise around the biased value."""
        return self.noise.distribution(_biased(value, times, bias, drift), times, **inner)

    @override
    def log_likelihood(
        self,
        observed: ArrayLike,
        value: ArrayLike,
        times: ArrayLike,
        *,
        bias: ArrayLike,
        drift: ArrayLike,
        **inner: ArrayLike,
    ) -> Array:
        """That of the noise around the biased value."""
        return self.noise.log_likelihood(observed, _biased(value, times, bias, drift), times, **inner)

    @override
    def given_before(
        self,
        observed: ArrayLike,
        value: ArrayLike,
        times: ArrayLike,
        *,
        bias: ArrayLike,
        drift: ArrayLike,
        **inner: ArrayLike,
    ) -> dist.Distribution:
        """That of the noise around the biased value."""
        return self.noise.given_before(observed, _biased(value, times, bias, drift), times, **inner)

    @override
    def saturated(
        self, observed: ArrayLike, times: ArrayLike, *, bias: ArrayLike, drift: ArrayLike, **inner: ArrayLike
    ) -> Array:
        """That of the noise: whatever the bias is, some value predicts what was read exactly."""
        return self.noise.saturated(observed, times, **inner)

    @override
    def sample(
        self,
        key: Array,
        value: ArrayLike,
        times: ArrayLike,
        *,
        bias: ArrayLike,
        drift: ArrayLike,
        **inner: ArrayLike,
    ) -> Array:
        """That of the noise around the biased value."""
        return self.noise.sample(key, _biased(value, times, bias, drift), times, **inner)


def _biased(value: ArrayLike, times: ArrayLike, bias: ArrayLike, drift: ArrayLike) -> Array:
    return jnp.asarray(value) + bias + drift * jnp.asarray(times)
