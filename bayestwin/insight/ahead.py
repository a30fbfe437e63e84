"""The log density of a record up to one time after the other, given draws of what a twin infers.

`log p(y_a…b | y_1…a, θ)` is the difference of two of them, also where observations hang together by process noise, a
discrepancy or autocorrelated noise.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from bayestwin.density.density import Density
from bayestwin.density.predictor import BATCH
from bayestwin.dynamics.choice import with_method


class Ahead:
    """`log p(y_1…n | θ)` for several n, for the draws of any posterior of a twin; compiled once for each solver."""

    def __init__(self, density: Density, ends: Sequence[int]) -> None:
        """Prepare; nothing is compiled before the first call.

        Args:
            density: Of the whole record.
            ends: How many of its times each entry has.
        """
        self.density, self.ends = density, np.asarray(ends)
        self._batches: dict[str, Callable[[dict[str, Array]], Array]] = {}

    def __call__(self, posterior: xr.DataTree) -> np.ndarray:
        """Log densities, shape (draws, ends); −inf where the twin cannot be solved over the whole record."""
        method = posterior.attrs.get("solver_choice", {}).get("method", "auto")
        if method not in self._batches:
            solved = self.density.solved_as(with_method(self.density.twin, method))
            self._batches[method] = jax.jit(jax.vmap(_until(solved, self.ends)))
        group = posterior["posterior"].to_dataset()
        values = {site.name: group[site.name].to_numpy().ravel() for site in self.density.sites}
        num = group.sizes["chain"] * group.sizes["draw"]
        found = []
        for first in range(0, num, BATCH):
            rows = np.minimum(np.arange(first, first + BATCH), num - 1)
            batch = self._batches[method]({name: jnp.asarray(v[rows]) for name, v in values.items()})
            found.append(np.asarray(batch)[: num - first])
        return np.concatenate(found)


def _until(density: Density, ends: np.ndarray) -> Callable[[dict[str, Array]], Array]:
    smooth = [_known_until(density, end).discrepancies for end in ends]

    def one(values: dict[str, Array]) -> Array:
        predicted = density.predict(values)
        terms = density.log_likelihood(values, predicted)
        if density.discrepancies is not None:  # these terms have none: observations with one hang together
            terms = {name: term for name, term in terms.items() if name not in density.discrepancies.processes}
        steps = sum(terms.values(), jnp.zeros(len(density.bound.times)))
        found = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])[ends]
        if density.discrepancies is not None:
            scales = {name: density.noise(name, values)[1]["scale"] for name in density.discrepancies.processes}
            each = [part.log_likelihood(values, predicted.noise_free, scales) for part in smooth if part is not None]
            found += jnp.stack([jnp.stack(list(own.values())).sum() for own in each])
        return jnp.where(predicted.solved & ~jnp.isnan(found), found, -jnp.inf)

    return one


def _known_until(density: Density, end: int) -> Density:
    """The density of what has been observed in the first `end` times."""
    later = np.arange(len(density.bound.times)) >= end
    masked = {name: np.where(later, np.nan, values) for name, values in density.bound.observations.items()}
    return dataclasses.replace(density, bound=density.bound._replace(observations=masked))
