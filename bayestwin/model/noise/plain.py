"""Noise of what is read directly: on a continuous scale, with a memory, of counts, by any NumPyro distribution."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.errors import InvalidTwin
from bayestwin.model.noise.base import Noise, NoiseUnit, known
from bayestwin.model.tracing import namespace
from bayestwin.model.types import NoiseParameter


@dataclasses.dataclass(frozen=True)
class Gaussian(Noise):
    """Additive normal noise: `p(y | v) = N(v, scale²)`.

    Attributes:
        scale: Standard deviation, in the unit of the observation.
    """

    scale: NoiseParameter
    normal: ClassVar[bool] = True

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Normal with mean `value`."""
        return dist.Normal(value, scale)


@dataclasses.dataclass(frozen=True)
class Proportional(Noise):
    """Normal noise that grows with the value: `p(y | v) = N(v, scale² + (relative · v)²)`.

    Attributes:
        scale: Standard deviation at a value of 0, in the unit of the observation.
        relative: Standard deviation per value where that is large, no unit: 0.05 is 5 %.
    """

    scale: NoiseParameter
    relative: NoiseParameter
    normal: ClassVar[bool] = True

    @override
    def distribution(
        self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike, relative: ArrayLike
    ) -> dist.Distribution:
        """Normal with mean `value`."""
        return dist.Normal(value, jnp.sqrt(jnp.square(scale) + jnp.square(relative * jnp.asarray(value))))


@dataclasses.dataclass(frozen=True)
class LogNormal(Noise):
    """Multiplicative noise: `p(log y | v) = N(log v, scale²)`; the predicted value is the median.

    Attributes:
        scale: Standard deviation of the logarithm, no unit.
    """

    scale: NoiseParameter
    normal: ClassVar[bool] = True
    support = constraints.positive
    units: ClassVar[Mapping[str, NoiseUnit]] = {}

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Log-normal with median `value`; NaN where that is not positive."""
        value = jnp.asarray(value)
        return dist.LogNormal(jnp.log(known(value, value > 0.0)), scale, validate_args=False)


@dataclasses.dataclass(frozen=True)
class StudentT(Noise):
    """Additive heavy-tailed noise: `y = v + scale · t(df)`; single outliers pull less than under `Gaussian`.

    Attributes:
        scale: Scale, in the unit of the observation.
        df: Degrees of freedom, no unit; 4 is heavy-tailed, above 30 it is nearly Gaussian.
    """

    scale: NoiseParameter
    df: NoiseParameter = 4.0

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike, df: ArrayLike) -> dist.Distribution:
        """Student-t with location `value`."""
        return dist.StudentT(df, value, scale)


# Noise of counts: events at a rate, events that cluster, successes out of a number of trials.

LEAST = 1e-100
"""An expected count that is as good as 0 and has, unlike it, a logarithm."""


@dataclasses.dataclass(frozen=True)
class Poisson(Noise):
    """Counts: `p(y | v) = Poisson(v)`; the predicted value is the expected count."""

    support = constraints.nonnegative_integer

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike) -> dist.Distribution:
        """Poisson with rate `value`; NaN where that is negative."""
        return dist.Poisson(_expected(value), validate_args=False)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(Noise):
    """Counts that scatter more than Poisson's: mean v, variance `v + v² / concentration`.

    Attributes:
        concentration: No unit; the smaller, the more they scatter, and from about 10 v on they are nearly Poisson.
    """

    concentration: NoiseParameter
    support = constraints.nonnegative_integer

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, concentration: ArrayLike) -> dist.Distribution:
        """Negative binomial with mean `value`; NaN where that is negative."""
        return dist.NegativeBinomial2(_expected(value), concentration, validate_args=False)


@dataclasses.dataclass(frozen=True)
class Binomial(Noise):
    """Successes out of `trials`: `p(y | v) = Binomial(trials, v)`; the predicted value is their probability.

    Attributes:
        trials: How many there are for each observation.

    Raises:
        InvalidTwin: If `trials` is not a positive integer.
    """

    trials: int
    units: ClassVar[Mapping[str, NoiseUnit]] = {}

    def __post_init__(self) -> None:
        """Refuse a number of trials that cannot be."""
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise InvalidTwin(
                "`trials` of bt.Binomial makes no sense.",
                expected="an integer, at least 1",
                received=f"{self.trials!r}",
                advice="It is a known number, the same for all observations.",
            )

    @property
    def support(self) -> Any:
        """From 0 to `trials`."""
        return constraints.integer_interval(0, self.trials)

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike) -> dist.Distribution:
        """Binomial with probability `value`; NaN where that is none."""
        value = jnp.asarray(value)
        return dist.BinomialProbs(known(value, (value >= 0.0) & (value <= 1.0)), self.trials, validate_args=False)

    @override
    def saturated(self, observed: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """A count is predicted exactly by its share of the trials."""
        return self.log_likelihood(observed, jnp.asarray(observed) / self.trials, times, **parameters)


def _expected(value: ArrayLike) -> Array:
    value = jnp.asarray(value)
    return known(jnp.maximum(value, LEAST), value >= 0.0)


# Any NumPyro distribution as noise, by a function of the predicted value.


@dataclasses.dataclass(frozen=True)
class NoiseFrom(Noise):
    """Noise from a function: `NoiseFrom(lambda v, p: dist.Gamma(p.shape, p.shape / v), {"shape": prior}, positive)`.

    Attributes:
        function: `(value, p)` → the distribution of one observation, written with `jax.numpy`; `p` gives the parameters
            as attributes. Where a value is impossible the density is NaN or −∞.
        priors: The noise parameters by name: each a prior, a known number, or the name of a parameter of the twin.
        support: Where an observation can lie, a constraint of NumPyro.
    """

    function: Callable[[Any, Any], dist.Distribution]
    priors: Mapping[str, NoiseParameter] = dataclasses.field(default_factory=dict)
    support: Any = dataclasses.field(default_factory=lambda: constraints.real)

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """Those in `priors`."""
        return self.priors

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> dist.Distribution:
        """What the function returns."""
        given = namespace("parameters", tuple(self.priors))(*[parameters[name] for name in self.priors])
        return self.function(value, given)

    @override
    def unit_of(self, parameter: str, observation_unit: str, time_unit: str) -> str | None:
        """Unknown: only the function knows what it does with a parameter."""
        return None


# Noise that remembers: an Ornstein–Uhlenbeck process seen through white noise, filtered exactly at any times.
#
# Where there is no white noise and times are evenly spaced it is AR(1). R. E. Kalman (1960), doi:10.1115/1.3662552.


@dataclasses.dataclass(frozen=True)
class Autocorrelated(Noise):
    """Additive normal noise with covariance `scale² exp(−|t − t'| / correlation_time)`, and `nugget²` more at t = t'.

    Attributes:
        scale: Standard deviation of the part that remembers, in the unit of the observation.
        correlation_time: After which it has forgotten 63 %, in the `time_unit` of the twin.
        nugget: Standard deviation of white noise on top, in the unit of the observation.
    """

    scale: NoiseParameter
    correlation_time: NoiseParameter
    nugget: NoiseParameter = 0.0
    units: ClassVar[Mapping[str, NoiseUnit]] = {
        "scale": "observation",
        "correlation_time": "time",
        "nugget": "observation",
    }
    independent: ClassVar[bool] = False  # type: ignore[misc]

    @override
    def distribution(
        self,
        value: ArrayLike,
        times: ArrayLike,
        *,
        scale: ArrayLike,
        correlation_time: ArrayLike,
        nugget: ArrayLike,
    ) -> dist.Distribution:
        """Normal with mean `value`: what one observation is when no other is known."""
        return dist.Normal(value, jnp.hypot(scale, nugget))

    @override
    def log_likelihood(self, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """Each observation given all those before it, by a Kalman filter; missing ones are passed over."""
        scale, correlation_time, nugget = (parameters[name] for name in self.units)
        residuals, present = _residuals(observed, value)
        kept, renewed = _transitions(times, correlation_time)
        stationary, white = jnp.square(scale), jnp.square(nugget)

        def update(belief: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
            residual, here, kept, renewed = at
            mean, variance = kept * belief[0], kept**2 * belief[1] + renewed * stationary
            total = jnp.where(here, variance + white, 1.0)  # no division by zero whose derivative is not a number
            term = -0.5 * ((residual - mean) ** 2 / total + jnp.log(2.0 * jnp.pi * total))
            gain = jnp.where(here, variance / total, 0.0)
            return (mean + gain * (residual - mean), variance * (1.0 - gain)), jnp.where(here, term, 0.0)

        start = (jnp.zeros(()), jnp.asarray(stationary, float))
        return lax.scan(update, start, (residuals, present, kept, renewed))[1]

    @override
    def sample(self, key: Array, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """One path of the process at these times, from its stationary distribution on, with white noise on it."""
        scale, correlation_time, nugget = (parameters[name] for name in self.units)
        value = jnp.asarray(value)
        pushes, white = jax.random.normal(key, (*value.shape, 2)).T  # times first: later ones change no earlier number
        kept, renewed = _transitions(times, correlation_time)

        def move(at: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
            at = step[0] * at + step[1]
            return at, at

        path = lax.scan(move, jnp.zeros(()), (kept, jnp.sqrt(renewed) * pushes))[1]
        return value + scale * path + nugget * white

    @override
    def sample_after(
        self, key: Array, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike
    ) -> Array:
        """As `sample` up to the last observation, and a path that goes on from what that says of the process."""
        scale, correlation_time, nugget = (parameters[name] for name in self.units)
        anew, value = self.sample(key, value, times, **parameters), jnp.asarray(value)
        residuals, present = _residuals(observed, value)
        ahead = jnp.flip(jnp.cumsum(jnp.flip(present))) == 0
        pushes, white = jax.random.normal(key, (*value.shape, 2)).T
        kept, renewed = _transitions(times, correlation_time)
        stationary = jnp.square(scale)

        def move(loop: tuple[Array, ...], at: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
            (mean, variance, path), (residual, here, later, kept, renewed, push) = loop, at
            mean, variance = kept * mean, kept**2 * variance + renewed * stationary
            gain = jnp.where(here, variance / jnp.where(here, variance + jnp.square(nugget), 1.0), 0.0)
            mean, variance = mean + gain * (residual - mean), variance * (1.0 - gain)
            onwards = kept * path + jnp.sqrt(renewed) * scale * push
            path = jnp.where(later, onwards, mean + jnp.sqrt(variance) * push)
            return (mean, variance, path), path

        start = (jnp.zeros(()), jnp.asarray(stationary, float), jnp.zeros(()))
        path = lax.scan(move, start, (residuals, present, ahead, kept, renewed, pushes))[1]
        return jnp.where(ahead, value + path + nugget * white, anew)


def _residuals(observed: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
    """What observations are off by, and which there are; zero for a missing one, so that nothing of it is NaN."""
    observed = jnp.asarray(observed)
    present = jnp.isfinite(observed)
    return jnp.where(present, jnp.where(present, observed, 0.0) - jnp.asarray(value), 0.0), present


def _transitions(times: ArrayLike, correlation_time: ArrayLike) -> tuple[Array, Array]:
    """From each time to the next: the share of a deviation that is kept, and of the variance that is new; (n,) each.

    Before the first time lies all the past, so that nothing is kept there.
    """
    times = jnp.asarray(times, float)
    rates = jnp.diff(times) / correlation_time
    kept = jnp.concatenate([jnp.zeros(1), jnp.exp(-rates)])
    return kept, jnp.concatenate([jnp.ones(1), -jnp.expm1(-2.0 * rates)])
