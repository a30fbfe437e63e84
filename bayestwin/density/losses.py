"""Losses that keep observations far from what is predicted from pulling an estimate with all their weight."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax.numpy as jnp
from jax import Array

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
