"""Noise that remembers: an Ornstein–Uhlenbeck process seen through white noise, filtered exactly at any times.

Where there is no white noise and times are evenly spaced it is AR(1). R. E. Kalman (1960), doi:10.1115/1.3662552.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.model.noise.families import Noise, NoiseUnit
from bayestwin.model.types import NoiseParameter


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
    constant: ClassVar[frozenset[str]] = frozenset({"correlation_time"})
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
        observed = jnp.asarray(observed)
        present = jnp.isfinite(observed)
        terms = self.given_before(observed, value, times, **parameters).log_prob(jnp.where(present, observed, 0.0))
        return jnp.where(present, terms, 0.0)

    @override
    def given_before(
        self, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike
    ) -> dist.Distribution:
        """Normal, by a Kalman filter that passes over what is missing; of no meaning there."""
        scale, correlation_time, nugget = (parameters[name] for name in self.units)
        value = jnp.asarray(value)
        if jnp.ndim(scale):
            own = self._in_units_of(scale, **parameters)
            unit: Any = self.given_before(jnp.asarray(observed) / scale, value / scale, times, **own)
            return dist.Normal(scale * unit.loc, scale * unit.scale, validate_args=False)
        residuals, present = _residuals(observed, value)
        kept, renewed = _transitions(times, correlation_time)
        stationary, white = jnp.square(scale), jnp.square(nugget)

        def update(belief: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple]:
            residual, here, kept, renewed, *own = at
            mean, variance = kept * belief[0], kept**2 * belief[1] + renewed * stationary
            # no division by zero whose derivative is not a number
            total = jnp.where(here, variance + (own[0] if own else white), 1.0)
            gain = jnp.where(here, variance / total, 0.0)
            return (mean + gain * (residual - mean), variance * (1.0 - gain)), (mean, total)

        start = (jnp.zeros(()), jnp.asarray(stationary, float))
        rows = (residuals, present, kept, renewed, white) if jnp.ndim(white) else (residuals, present, kept, renewed)
        means, totals = lax.scan(update, start, rows)[1]
        centre = jnp.where(present, value + means, 0.0)
        return dist.Normal(centre, jnp.sqrt(totals), validate_args=False)

    def _in_units_of(
        self, unit: ArrayLike, scale: ArrayLike, correlation_time: ArrayLike, nugget: ArrayLike
    ) -> dict[str, ArrayLike]:
        """Its parameters where all is measured in the scale of each row: the part that remembers is then of scale 1."""
        del scale
        return {"scale": 1.0, "correlation_time": correlation_time, "nugget": jnp.asarray(nugget) / jnp.asarray(unit)}

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
        if jnp.ndim(scale):
            own, scale = self._in_units_of(scale, **parameters), jnp.asarray(scale)
            return scale * self.sample_after(key, jnp.asarray(observed) / scale, value / scale, times, **own)
        anew, value = self.sample(key, value, times, **parameters), jnp.asarray(value)
        residuals, present = _residuals(observed, value)
        ahead = jnp.flip(jnp.cumsum(jnp.flip(present))) == 0
        pushes, white = jax.random.normal(key, (*value.shape, 2)).T
        kept, renewed = _transitions(times, correlation_time)
        stationary = jnp.square(scale)

        def move(loop: tuple[Array, ...], at: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
            (mean, variance, path), (residual, here, later, kept, renewed, push, *own) = loop, at
            mean, variance = kept * mean, kept**2 * variance + renewed * stationary
            white = jnp.square(own[0] if own else nugget)
            gain = jnp.where(here, variance / jnp.where(here, variance + white, 1.0), 0.0)
            mean, variance = mean + gain * (residual - mean), variance * (1.0 - gain)
            onwards = kept * path + jnp.sqrt(renewed) * scale * push
            path = jnp.where(later, onwards, mean + jnp.sqrt(variance) * push)
            return (mean, variance, path), path

        start = (jnp.zeros(()), jnp.asarray(stationary, float), jnp.zeros(()))
        rows = (residuals, present, ahead, kept, renewed, pushes)
        path = lax.scan(move, start, (*rows, jnp.asarray(nugget)) if jnp.ndim(nugget) else rows)[1]
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
