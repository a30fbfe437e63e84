"""Noise of counts: events at a rate, events that cluster, successes out of a number of trials."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, override

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.noise.base import Noise, NoiseUnit, known
from bayestwin.model.types import NoiseParameter

LEAST = 1e-100
"""An expected count that is as good as 0 and has, unlike it, a logarithm."""


@dataclasses.dataclass(frozen=True)
class Poisson(Noise):
    """Counts: `p(y | v) = Poisson(v)`; the predicted value is the expected count."""

    support: ClassVar[Any] = constraints.nonnegative_integer

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
    support: ClassVar[Any] = constraints.nonnegative_integer

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
            message = explain(
                "`trials` of bt.Binomial makes no sense.",
                expected="an integer, at least 1",
                received=f"{self.trials!r}",
                advice="It is a known number, the same for all observations.",
            )
            raise InvalidTwin(message)

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
