"""Coordinates of what is pooled, chosen for each experiment by how much its data say.

Climbs go up in coordinates whose prior does not depend on the population: in others the density grows without bound as
the spread goes to zero. What they reach fits each experiment, but the highest point has too large a spread. The spread
that is most probable once experiments are averaged over says how much more their data know than the population does.

M. Betancourt & M. Girolami (2015), doi:10.1201/b18502-5.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density.curvature import as_matrix
from bayestwin.density.density import Density
from bayestwin.inference.climb import Mode, group_modes
from bayestwin.inference.starts import Starts, disperse, inspect_at
from bayestwin.model.pooling import Pooled

TRIED = np.geomspace(1e-3, 1e3, 601)
"""Spreads that are tried, as multiples of the one at the highest point."""

SMALL = 0.05
"""Probability of a spread below the one that shares are those of: chains come there too, and there data say least."""


class Population(NamedTuple):
    """What is probable of a pooled quantity, on the scale on which it can have any value.

    Attributes:
        middle: The typical value.
        spread: How far experiments lie apart.
        values: Of each experiment, held near the typical one as far as its data are few; shape (E,).
        shares: How much of what is known of each its own data say where the spread is small, from 0 to 1; shape (E,).
    """

    middle: float
    spread: float
    values: np.ndarray
    shares: np.ndarray


def choose_centring(density: Density, starts: Starts, seed: int) -> tuple[Density, Starts]:
    """Centre each value as far as its data, and not the population, say it.

    Args:
        density: The log density, in coordinates that are not centred.
        starts: What the ladder found.
        seed: Determines the new starts.

    Returns:
        The density in other coordinates, with modes and starts there; as they were where nothing is pooled.
    """
    pooled = [site for site in density.sites if site.pooled]
    if not pooled:
        return density, starts
    settled = [settle(density, mode) for mode in starts.modes]
    centring = {site.name: settled[0][site.name].shares.reshape(density.shape_of(site)) for site in pooled}
    moved = density.centred(centring)
    z = [moved.unconstrain(_values_of(density, *one)) for one in zip(starts.modes, settled, strict=True)]
    points = inspect_at(moved, np.asarray(jnp.stack(z)))
    modes = group_modes(points.z, points.log_density, points.hessian)
    record = starts.record | {"modes": len(modes), "weights": [round(mode.weight, 6) for mode in modes]}
    record["centring"] = {name: np.atleast_1d(share).tolist() for name, share in centring.items()}
    return moved, Starts(disperse(moved, modes, len(starts.z), seed), modes, record)


def settle(density: Density, mode: Mode) -> dict[str, Population]:
    """The population of each pooled quantity, by name, where the density is highest in coordinates not centred."""
    values = density.constrain(jnp.asarray(mode.z))
    curvature = np.diag(np.linalg.inv(mode.scale @ mode.scale.T))
    parts = np.split(curvature, np.cumsum(density.priors.sizes)[:-1])
    places = dict(zip((site.name for site in density.sites), parts, strict=True))
    priors = {site.name: site.prior for site in density.sites}
    found = {}
    for site in density.sites:
        if not isinstance(site.prior, Pooled):
            continue
        unbounded = site.prior.transform.inv
        at = np.atleast_1d(np.asarray(unbounded(values[site.name]), float))
        middle = float(unbounded(values[site.prior.typical]))
        spread = float(values[site.prior.spread])
        told = _told(places[site.name], spread)
        own = at + (at - middle) / (spread**2 * told)  # what the data say by themselves
        prior = priors[site.prior.spread]
        tried = spread * TRIED
        tried = tried[np.asarray(prior.support(jnp.asarray(tried)))]
        likely = np.asarray(prior.log_prob(jnp.asarray(tried))) + np.log(tried)
        found[site.name] = population_of(own, 1.0 / told, tried, likely)
    return found


def _told(curvature: Any, spread: Any) -> Any:
    """How precisely data say a value, from the curvature along a coordinate that is not centred.

    The prior curves by 1 there, and the rest is the data's.
    """
    return (curvature - 1.0).clip(1e-9) / spread**2


NEAR = 0.7
"""Where the spread is known, as it is at a draw of the posterior, chains come down to about this much of it."""


def shares_at(density: Density, z: Array) -> dict[str, Array]:
    """How far to centre each value at one draw of the posterior, shape (d,), by the name of what is pooled."""
    if not density.pooled:
        return {}
    values, places = density.constrain(z), np.cumsum(density.priors.sizes)[:-1]
    curvature = jnp.split(-jnp.diag(as_matrix(density.local(z).hessian)), places)
    found = {}
    for site, own in zip(density.sites, curvature, strict=True):
        if site.pooled:
            spread = values[site.prior.spread]
            share = 1.0 / (1.0 + 1.0 / ((NEAR * spread) ** 2 * _told(own, spread)))
            found[site.name] = share.reshape(density.shape_of(site))
    return found


def population_of(own: np.ndarray, variance: np.ndarray, tried: np.ndarray, prior: np.ndarray) -> Population:
    """The most probable population of values that are known from data with some variance each.

    Args:
        own: What the data of each experiment say; shape (E,).
        variance: Of that; shape (E,).
        tried: Spreads that are tried; shape (n,).
        prior: Log prior density of their logarithms; shape (n,).
    """
    total = tried[:, None] ** 2 + variance
    middle = (own / total).sum(axis=1) / (1.0 / total).sum(axis=1)
    terms = np.log(total) + (own - middle[:, None]) ** 2 / total
    height = np.where(np.isfinite(prior), prior, -np.inf) - terms.sum(axis=1) / 2.0
    best = int(np.argmax(height))
    values = middle[best] + tried[best] ** 2 / total[best] * (own - middle[best])
    weight = np.cumsum(np.exp(height - height[best]))
    small = tried[np.searchsorted(weight, SMALL * weight[-1])]
    return Population(middle[best], tried[best], values, small**2 / (small**2 + variance))


def _values_of(density: Density, mode: Mode, found: Mapping[str, Population]) -> dict[str, Any]:
    """Values of all sites at a mode, with what is pooled where it is probable."""
    values: dict[str, Any] = dict(density.constrain(jnp.asarray(mode.z)))
    for site in density.sites:
        if isinstance(site.prior, Pooled):
            own = found[site.name]
            told = site.prior.transform(jnp.asarray(own.values)).reshape(density.shape_of(site))
            typical = site.prior.transform(jnp.asarray(own.middle))
            values |= {site.name: told, site.prior.typical: typical, site.prior.spread: jnp.asarray(own.spread)}
    return values
