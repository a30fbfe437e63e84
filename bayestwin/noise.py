"""How an observation scatters around the value that the twin predicts for it.

Each noise model is a frozen dataclass whose fields are its parameters (a prior, or a number when known) and whose
`distribution` is centred on the predicted value.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.types import Prior


class Noise(abc.ABC):
    """A family of distributions around the predicted value of an observation."""

    support: ClassVar[Any] = constraints.real
    """Where an observation can lie at all."""

    dimensionless: ClassVar[bool] = False
    """Whether `scale` is relative to the value (no unit) or in the unit of the observation."""

    @property
    def parameters(self) -> Mapping[str, Prior]:
        """The noise parameters by name, each a prior or a known number."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @abc.abstractmethod
    def distribution(self, value: ArrayLike, **parameters: ArrayLike) -> dist.Distribution:
        """The distribution of an observation whose noise-free value is `value`.

        Args:
            value: Noise-free values, in the unit of the observation, any shape.
            **parameters: Values of the noise parameters, scalars.
        """

    def unit_of(self, parameter: str, observation_unit: str) -> str:
        """Unit of a noise parameter, given that of the observation."""
        return observation_unit if parameter == "scale" and not self.dimensionless else ""


@dataclasses.dataclass(frozen=True)
class Gaussian(Noise):
    """Additive normal noise: `p(y | v) = N(v, scale²)`.

    Attributes:
        scale: Standard deviation, in the unit of the observation.
    """

    scale: Prior

    def distribution(self, value: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Normal with mean `value`."""
        return dist.Normal(value, scale)


@dataclasses.dataclass(frozen=True)
class LogNormal(Noise):
    """Multiplicative noise: `p(log y | v) = N(log v, scale²)`; the predicted value is the median.

    Attributes:
        scale: Standard deviation of the logarithm, no unit.
    """

    scale: Prior
    support: ClassVar[Any] = constraints.positive
    dimensionless: ClassVar[bool] = True

    def distribution(self, value: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Log-normal with median `value`; NaN where `value` is not positive."""
        return dist.LogNormal(jnp.log(value), scale)


@dataclasses.dataclass(frozen=True)
class StudentT(Noise):
    """Additive heavy-tailed noise: `y = v + scale · t(df)`; single outliers pull less than under `Gaussian`.

    Attributes:
        scale: Scale, in the unit of the observation.
        df: Degrees of freedom, no unit; 4 is heavy-tailed, above 30 it is nearly Gaussian.
    """

    scale: Prior
    df: Prior = 4.0

    def distribution(self, value: ArrayLike, *, scale: ArrayLike, df: ArrayLike) -> dist.Distribution:
        """Student-t with location `value`."""
        return dist.StudentT(df, value, scale)


@dataclasses.dataclass(frozen=True)
class Poisson(Noise):
    """Counts: `p(y | v) = Poisson(v)`; the predicted value is the expected count."""

    support: ClassVar[Any] = constraints.nonnegative_integer

    def distribution(self, value: ArrayLike) -> dist.Distribution:
        """Poisson with rate `value`."""
        return dist.Poisson(value)
