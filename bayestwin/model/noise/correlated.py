"""Noise that remembers: an Ornstein–Uhlenbeck process seen through white noise, filtered exactly at any times.

Where there is no white noise and times are evenly spaced it is AR(1). R. E. Kalman (1960), doi:10.1115/1.3662552.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, override

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.model.noise.base import Noise, NoiseUnit
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
        observed = jnp.asarray(observed)
        present = jnp.isfinite(observed)
        # zero for a missing residual, so that nothing computed from it is NaN
        residuals = jnp.where(present, jnp.where(present, observed, 0.0) - jnp.asarray(value), 0.0)
        kept, renewed = _transitions(times, correlation_time)
        stationary, white = jnp.square(scale), jnp.square(nugget)

        def update(belief: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
            residual, here, kept, renewed = at
            mean, variance = kept * belief[0], kept**2 * belief[1] + renewed * stationary
            total = variance + white
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


def _transitions(times: ArrayLike, correlation_time: ArrayLike) -> tuple[Array, Array]:
    """From each time to the next: the share of a deviation that is kept, and of the variance that is new; (n,) each.

    Before the first time lies all the past, so that nothing is kept there.
    """
    times = jnp.asarray(times, float)
    rates = jnp.diff(times) / correlation_time
    kept = jnp.concatenate([jnp.zeros(1), jnp.exp(-rates)])
    return kept, jnp.concatenate([jnp.ones(1), -jnp.expm1(-2.0 * rates)])
