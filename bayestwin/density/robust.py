"""What is far from what was predicted: losses that pull it in, and innovations of process noise with heavy tails.

An innovation is what an observation is off by, given all before it, in standard deviations of the Kalman filter. With
heavy tails `p(y) = Π p(y_k | y_1 … y_{k−1})` is still a likelihood: each factor is a density around the filter's mean,
which with `"huber"` is Huber's least favourable one, as in CTSM-R. P. J. Huber (1964), doi:10.1214/aoms/1177703732.
A. Harvey & A. Luati (2014), doi:10.1080/01621459.2014.887011 (Student-t, of which the filter here keeps Kalman's gain).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, override

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.model.error import ProcessNoise
from bayestwin.model.noise.families import Gaussian, Noise, StudentT
from bayestwin.model.types import NoiseParameter

type Loss = Literal["linear", "huber", "soft_l1", "cauchy"]


def _huber(deviance: Array) -> Array:
    far = jnp.maximum(deviance, HUBER**2)  # where it is not far the root is not used, and must have a derivative
    return jnp.where(deviance <= HUBER**2, deviance, 2.0 * HUBER * jnp.sqrt(far) - HUBER**2)


HUBER = 1.345
"""Standard deviations from which on Huber's loss grows linearly: 95 % efficient where noise is Gaussian."""

LOSSES: Mapping[str, Callable[[Array], Array]] = {
    "huber": _huber,
    "soft_l1": lambda deviance: 2.0 * (jnp.sqrt(1.0 + deviance) - 1.0),
    "cauchy": jnp.log1p,
}
"""Losses of a deviance, which for Gaussian noise is the squared residual in standard deviations. P. J. Huber (1964),
doi:10.1214/aoms/1177703732; the others as in SciPy's `least_squares`."""


class LeastFavourable(dist.Distribution):
    """Huber's least favourable density: normal up to `threshold` scales from `loc`, and exponential beyond.

    `p(y) = exp(−ρ(r)) / (Z scale)` with `r = (y − loc) / scale`, `ρ(r) = r²/2` up to the threshold c and `c |r| − c²/2`
    beyond, and `Z = √(2π) erf(c/√2) + 2 exp(−c²/2) / c`.
    """

    support: Any = constraints.real
    pytree_data_fields = ("loc", "scale")
    pytree_aux_fields = ("threshold",)

    def __init__(self, threshold: float, loc: ArrayLike, scale: ArrayLike) -> None:
        """A threshold in scales; location and scale, which broadcast."""
        self.threshold, self.loc, self.scale = threshold, jnp.asarray(loc, float), jnp.asarray(scale, float)
        super().__init__(jnp.broadcast_shapes(self.loc.shape, self.scale.shape), validate_args=False)

    @override
    def log_prob(self, value: ArrayLike, intermediates: list[Any] | None = None) -> Array:
        """Log density."""
        c, away = self.threshold, jnp.abs(jnp.asarray(value) - self.loc) / self.scale
        near = jnp.minimum(away, c)
        mass = math.sqrt(2.0 * math.pi) * math.erf(c / math.sqrt(2.0)) + 2.0 / c * math.exp(-(c**2) / 2.0)
        return -0.5 * near**2 - c * (away - near) - math.log(mass) - jnp.log(self.scale)

    def log_tail(self, value: ArrayLike) -> Array:
        """Log probability of at most this value."""
        c, r = self.threshold, (jnp.asarray(value) - self.loc) / self.scale
        mass = math.sqrt(2.0 * math.pi) * math.erf(c / math.sqrt(2.0)) + 2.0 / c * math.exp(-(c**2) / 2.0)
        far = c * jnp.minimum(r, -c) + c**2 / 2.0 - math.log(c)
        beyond = math.exp(-(c**2) / 2.0) / c
        within = beyond + math.sqrt(2.0 * math.pi) * (jax.scipy.special.ndtr(jnp.clip(r, -c, c)) - _ndtr(-c))
        above = c * -jnp.maximum(r, c) + c**2 / 2.0 - math.log(c)
        return jnp.where(
            r <= -c, far - math.log(mass), jnp.where(r < c, jnp.log(within / mass), jnp.log1p(-jnp.exp(above) / mass))
        )

    @override
    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws: of the normal cut off at the threshold, or of an exponential beyond it."""
        assert key is not None
        c, keys, shape = self.threshold, jax.random.split(key, 4), (*sample_shape, *self.batch_shape)
        core = math.sqrt(2.0 * math.pi) * math.erf(c / math.sqrt(2.0))
        tails = 2.0 / c * math.exp(-(c**2) / 2.0)
        near = jax.random.truncated_normal(keys[0], -c, c, shape)
        far = jax.random.rademacher(keys[1], shape) * (c + jax.random.exponential(keys[2], shape) / c)
        beyond = jax.random.uniform(keys[3], shape) < tails / (core + tails)
        return self.loc + self.scale * jnp.where(beyond, far, near)


def _ndtr(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


@dataclasses.dataclass(frozen=True)
class HuberNoise(Noise):
    """Noise that is normal up to `threshold` scales, and has exponential tails.

    Attributes:
        scale: That of the normal, in the unit of the observation.
        threshold: In scales.
    """

    scale: NoiseParameter
    threshold: float

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Huber's least favourable density around `value`."""
        return LeastFavourable(self.threshold, value, scale)


def innovation_noise(
    error: ProcessNoise, values: Mapping[str, ArrayLike], scale: ArrayLike
) -> tuple[Noise, dict[str, Any]]:
    """How an observation scatters around what is expected from all before it, and its parameters.

    Args:
        error: The process noise.
        values: Of all sites.
        scale: Standard deviation by the Kalman filter, shape (n,).
    """
    match error.innovations:
        case "student":
            return StudentT(1.0), {"scale": scale, "df": _degrees(error, values)}
        case "huber":
            return HuberNoise(1.0, error.threshold or THRESHOLD), {"scale": scale}
        case _:
            return Gaussian(1.0), {"scale": scale}


DEGREES, THRESHOLD = 4.0, 3.0
"""Degrees of freedom, and standard deviations to the exponential tails, where nothing is said; the latter as CTSM-R."""


def stretches(key: Array, error: ProcessNoise, values: Mapping[str, ArrayLike], num: int) -> Array | None:
    """Factors by which what is new at each of `num` stops is wider than normal; None where it is not.

    All that is new at a stop shares one factor, so that what is seen one step after a known state is Student-t.
    """
    if error.innovations != "student":
        return None
    half = jnp.asarray(_degrees(error, values), float) / 2.0
    return jnp.sqrt(half / jax.random.gamma(key, half, (num,)))


def _degrees(error: ProcessNoise, values: Mapping[str, ArrayLike]) -> Any:
    return values.get("innovation_df", DEGREES if error.df is None else error.df)
