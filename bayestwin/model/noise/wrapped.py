"""What a sensor does not show: values beyond its limits (censoring), and digits that it rounds away."""

import dataclasses
import math
from typing import Any, override

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.noise.base import Noise
from bayestwin.model.noise.tails import log_above, log_below, log_between


@dataclasses.dataclass(frozen=True)
class Censored(Noise):
    """Readings that stay at a limit when they would lie beyond it: one at the limit counts as "there or beyond".

    J. Tobin (1958), doi:10.2307/1907382.

    Attributes:
        noise: How readings would scatter without limits.
        lower: Lower limit, in the unit of the observation; None for none.
        upper: Upper limit, likewise.

    Raises:
        InvalidTwin: If there is no limit, the limits are in the wrong order, or the noise has limits already or is
            autocorrelated.
    """

    noise: Noise
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits and noise that make no sense."""
        limits = [limit for limit in (self.lower, self.upper) if limit is not None]
        in_order = len(limits) < 2 or limits[0] < limits[1]
        if not limits or not in_order or not all(math.isfinite(limit) for limit in limits):
            message = explain(
                "The limits of bt.Censored make no sense.",
                expected="`lower=` or `upper=`, or both, finite and in this order",
                received=f"lower {self.lower}, upper {self.upper}",
                advice="Leave out a limit that is never reached.",
            )
            raise InvalidTwin(message)
        _check_inner(self, (Censored,), "Give both limits at once: `bt.Censored(noise, lower=…, upper=…)`.")

    @property
    def support(self) -> Any:
        """That of the noise, from limit to limit."""
        return _Shown(self.noise.support, lower=self.lower, upper=self.upper)

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, **inner: ArrayLike) -> dist.Distribution:
        """That of the noise, with all that lies beyond a limit gathered there."""
        return CensoredDistribution(self.noise.distribution(value, times, **inner), self.lower, self.upper)


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
            message = explain(
                "`step` of bt.Rounded makes no sense.",
                expected="a positive number, in the unit of the observation",
                received=f"{self.step!r}",
                advice="It is the distance of two neighbouring readings.",
            )
            raise InvalidTwin(message)
        _check_inner(self, (Censored, Rounded), "Limits go outside: `bt.Censored(bt.Rounded(noise, step), …)`.")
        if self.noise.support.is_discrete:
            message = explain(
                f"bt.Rounded cannot change {type(self.noise).__name__} noise.",
                expected="noise on a continuous scale",
                received="noise of counts",
                advice="Leave out bt.Rounded: counts are whole numbers already.",
            )
            raise InvalidTwin(message)

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
    pytree_data_fields = ("base_dist",)
    pytree_aux_fields = ("lower", "upper")

    def __init__(self, base_dist: dist.Distribution, lower: float | None, upper: float | None) -> None:
        """Censor `base_dist`; None is no limit."""
        self.base_dist, self.lower, self.upper = base_dist, lower, upper
        super().__init__(base_dist.batch_shape, validate_args=False)

    def log_prob(self, value: ArrayLike) -> Array:
        """Log density between the limits, log probability at them."""
        value = jnp.asarray(value, float)
        low = value <= (-jnp.inf if self.lower is None else self.lower)
        high = value >= (jnp.inf if self.upper is None else self.upper)
        between = jnp.where(low | high, self.base_dist.support.feasible_like(value), value)  # type: ignore[union-attr]
        found = jnp.asarray(self.base_dist.log_prob(between))
        if self.lower is not None:
            found = jnp.where(low, log_below(self.base_dist, self.lower), found)
        if self.upper is not None:
            found = jnp.where(high, log_above(self.base_dist, self.upper), found)
        return found

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, moved to the limit beyond which they lie."""
        return jnp.clip(self.base_dist.sample(key, sample_shape), self.lower, self.upper)


class RoundedDistribution(dist.Distribution):
    """A continuous distribution rounded to multiples of `step`: a probability for each."""

    support: Any = constraints.real
    pytree_data_fields = ("base_dist",)
    pytree_aux_fields = ("step",)

    def __init__(self, base_dist: dist.Distribution, step: float) -> None:
        """Round `base_dist`."""
        self.base_dist, self.step = base_dist, step
        super().__init__(base_dist.batch_shape, validate_args=False)

    def log_prob(self, value: ArrayLike) -> Array:
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
    message = explain(
        f"bt.{type(outer).__name__} cannot change this noise.",
        expected="a noise model such as bt.Gaussian, whose observations are independent",
        received=f"{inner!r}",
        advice=advice if isinstance(inner, Noise) and inner.independent else "Use another noise model inside it.",
    )
    raise InvalidTwin(message)
