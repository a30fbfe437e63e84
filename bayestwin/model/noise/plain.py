"""Noise of readings on a continuous scale: additive, proportional, multiplicative, heavy-tailed."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, override

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.model.noise.base import Noise, NoiseUnit, known
from bayestwin.model.types import NoiseParameter


@dataclasses.dataclass(frozen=True)
class Gaussian(Noise):
    """Additive normal noise: `p(y | v) = N(v, scale²)`.

    Attributes:
        scale: Standard deviation, in the unit of the observation.
    """

    scale: NoiseParameter

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
    support: ClassVar[Any] = constraints.positive
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
