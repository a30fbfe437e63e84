"""What every noise model is: a frozen dataclass that says how an observation scatters around its predicted value."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.model.types import NoiseParameter

type NoiseUnit = Literal["observation", "time", "rate"]
"""A noise parameter's unit: that of the observation, of the twin's time, or of the observation per time."""


class Noise(abc.ABC):
    """A family of distributions around the predicted value of an observation.

    Fields annotated `NoiseParameter` are its parameters, a field `noise` is the noise model that it changes, all
    other fields are settings. A new noise model defines `distribution`; one whose observations depend on each other
    also `independent`, `log_likelihood` and `sample`.
    """

    support: ClassVar[Any] = constraints.real
    """Where an observation can lie at all."""

    units: ClassVar[Mapping[str, NoiseUnit]] = {"scale": "observation"}
    """Units of its own parameters; those not named here have none."""

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """Its parameters by name, without those of the noise model that it changes."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields if field.type is NoiseParameter}

    @property
    def parameters(self) -> Mapping[str, NoiseParameter]:
        """All parameters by name: each a prior, a known number, or the name of a parameter of the twin."""
        return {name: value for layer in self.layers() for name, value in layer.own_parameters.items()}

    def layers(self) -> Iterator["Noise"]:
        """The noise models that it is made of, the innermost first."""
        if isinstance(inner := getattr(self, "noise", None), Noise):
            yield from inner.layers()
        yield self

    @property
    def independent(self) -> bool:
        """Whether observations at different times are independent, given their predicted values."""
        return all(layer.independent for layer in self.layers() if layer is not self)

    @abc.abstractmethod
    def distribution(self, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> dist.Distribution:
        """The distribution of one observation by itself, whose noise-free value is `value`.

        Args:
            value: Noise-free values, in the unit of the observation, any shape; NaN or an impossible value gives a
                distribution whose density is NaN.
            times: Elapsed times in the twin's unit, same shape.
            **parameters: Values of the noise parameters, scalars.
        """

    def log_likelihood(self, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """Log density of observations of one signal; the terms add up to that of all of them.

        Args:
            observed: What was observed, NaN where nothing was; shape (n,).
            value: Noise-free values; shape (n,).
            times: Elapsed times, increasing, in the twin's unit; shape (n,).
            **parameters: Values of the noise parameters, scalars.

        Returns:
            Shape (n,); 0 where nothing was observed, and where one depends on those before it given those.
        """
        observed, value = jnp.asarray(observed), jnp.asarray(value)
        present = jnp.isfinite(observed)
        # Where nothing was observed, the first observation stands once more, and is masked out again: what is finite
        # there once is finite twice, and so is its derivative.
        first, some = jnp.argmax(present), present.any()
        observed = jnp.where(present, observed, jnp.where(some, observed[first], 1.0))
        value = jnp.where(present, value, jnp.where(some, value[first], 1.0))
        return jnp.where(present, self.distribution(value, times, **parameters).log_prob(observed), 0.0)

    def saturated(self, observed: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """Log density of observations if each had been predicted exactly; arguments as of `log_likelihood`."""
        return self.log_likelihood(observed, observed, times, **parameters)

    def sample(self, key: Array, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """New observations at n times; NaN where the value is impossible.

        Args:
            key: Randomness.
            value: Noise-free values; shape (n,).
            times: Elapsed times, increasing; shape (n,).
            **parameters: Values of the noise parameters, scalars.
        """
        distribution = self.distribution(value, times, **parameters)
        drawn = jnp.asarray(distribution.sample(key), float)
        return known(drawn, ~jnp.isnan(distribution.log_prob(drawn)))

    def unit_of(self, parameter: str, observation_unit: str, time_unit: str) -> str | None:
        """Unit of a noise parameter, given those of the observation and of the twin's time; None if it is unknown."""
        for layer in self.layers():
            if layer is not self and parameter in layer.own_parameters:
                return layer.unit_of(parameter, observation_unit, time_unit)
        units = {"observation": observation_unit, "time": time_unit, "rate": f"{observation_unit or 1}/{time_unit}"}
        return units[self.units[parameter]] if parameter in self.units else ""


def known(value: ArrayLike, possible: ArrayLike) -> Array:
    """The value, and NaN where it is not possible: a NaN density is 0, and other entries keep their derivatives."""
    return jnp.where(possible, value, jnp.nan)
