"""Sensors that are off: a bias, and a bias that grows with time."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, override

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike

from bayestwin.model.noise.base import Noise, NoiseUnit
from bayestwin.model.types import NoiseParameter


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
    units: ClassVar[Mapping[str, NoiseUnit]] = {"bias": "observation", "drift": "rate"}

    @property
    def support(self) -> Any:
        """That of the noise around the biased value."""
        return self.noise.support

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
