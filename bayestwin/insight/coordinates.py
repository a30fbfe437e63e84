"""The coordinates z of what is inferred: their names, how wide the prior is along each, and their scale."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import biject_to
from numpyro.distributions.transforms import ExpTransform, IdentityTransform

from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density

PRIOR_DRAWS = 4000
"""Draws from which the spread of a prior is taken that has no closed form."""


class Coordinates(NamedTuple):
    """The d coordinates of z.

    Attributes:
        names: Of the quantities, `level_initial[first]` where an experiment has its own.
        sites: Name of the site that each is of.
        scales: `"log"`, `"plain"`, or `"bounded"` for what is stretched in another way.
        centre: Mean of z under the prior; shape (d,).
        spread: Standard deviation of z under the prior; shape (d,).
        units: Units of the quantities.
    """

    names: tuple[str, ...]
    sites: tuple[str, ...]
    scales: tuple[str, ...]
    centre: np.ndarray
    spread: np.ndarray
    units: tuple[str, ...]


def coordinates_of(density: Density, seed: int) -> Coordinates:
    """Names, scales and prior of the coordinates of a density."""
    own = [(site, name) for site in density.sites for name in _named(density, site.name, site.shared)]
    keys = jax.random.split(key_for(seed, "identify prior"), PRIOR_DRAWS)
    drawn = density.draw_prior(keys)[1]
    drawn = np.where(np.isfinite(drawn), drawn, np.nan)
    centre, spread = np.nanmean(drawn, axis=0), np.nanstd(drawn, axis=0)
    for number, (site, _) in enumerate(own):
        if type(site.prior) in (dist.Normal, dist.LogNormal):
            centre[number], spread[number] = float(site.prior.loc), float(site.prior.scale)  # type: ignore[attr-defined]
    return Coordinates(
        names=tuple(name for _, name in own),
        sites=tuple(site.name for site, _ in own),
        scales=tuple(_scale(site.prior) for site, _ in own),
        centre=centre,
        spread=spread,
        units=tuple(site.unit for site, _ in own),
    )


def _named(density: Density, name: str, shared: bool) -> list[str]:
    if shared or not density.experiments:
        return [name]
    return [f"{name}[{experiment}]" for experiment in density.experiments]


def _scale(prior: dist.Distribution) -> str:
    match biject_to(prior.support):
        case ExpTransform():
            return "log"
        case IdentityTransform():
            return "plain"
    return "bounded"


def values_and_slopes(density: Density, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values θ of all coordinates at n points, and dθ/dz; shape (n, d) each."""

    def flat(z: Array) -> Array:
        values = density.constrain(z)
        return jnp.concatenate([jnp.ravel(values[site.name]) for site in density.sites])

    both = jax.jit(jax.vmap(lambda z: jax.jvp(flat, (z,), (jnp.ones_like(z),))))
    theta, slopes = both(jnp.asarray(z))
    return np.asarray(theta), np.asarray(slopes)
