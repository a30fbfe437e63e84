"""Mean and variance of new observations for given values of everything else, many draws at a time."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.progress import Phase
from bayestwin.density.density import Density
from bayestwin.model.noise.base import Noise
from bayestwin.model.process_noise import ProcessNoise

BATCH = 100
"""Draws solved in one call; the last batch is padded, so that there is one compilation."""

SAMPLES = 64
"""New observations from which moments are estimated where a noise model has no formula for them."""

type Moments = dict[str, tuple[np.ndarray, np.ndarray]]
"""By observation: means and variances over the noise; shape (n, times) each."""


class Evaluator:
    """The twin under each of the inputs that it may be driven by; compiled once where that is possible."""

    def __init__(self, densities: Sequence[Density]) -> None:
        """Prepare for one density for each member of the ensemble of inputs, alike in everything else."""
        first = densities[0]
        self.density, self.num_members = first, len(densities)
        if len(densities) == 1 or isinstance(first.twin.model_error, ProcessNoise) or not _alike(densities):
            self._members = [jax.jit(jax.vmap(functools.partial(_moments, one))) for one in densities]
            return
        grids = [one.grid for one in densities]

        def driven(coefficients: Array, inputs: Array, z: Array, keys: Array) -> dict:
            grid = first.grid._replace(coefficients=coefficients, inputs=inputs)
            return jax.vmap(functools.partial(_moments, dataclasses.replace(first, grid=grid)))(z, keys)

        shared = jax.jit(driven)
        self._members = [functools.partial(shared, g.coefficients, g.inputs) for g in grids]

    def __call__(self, z: np.ndarray, members: np.ndarray, key: Array, phase: Phase) -> Moments:
        """Evaluate.

        Args:
            z: Unconstrained coordinates; shape (n, d).
            members: Which inputs drive each; shape (n,).
            key: Randomness of the model error.
            phase: Told of each draw.
        """
        keys = np.asarray(jax.random.key_data(jax.random.split(key, len(z))))
        means: dict[str, np.ndarray] = {}
        variances: dict[str, np.ndarray] = {}
        for number, member in enumerate(self._members):
            own = np.flatnonzero(members == number)
            for begin in range(0, len(own), BATCH):
                rows = own[begin : begin + BATCH]
                padded = np.resize(rows, BATCH)
                for name, pair in member(z[padded], keys[padded]).items():
                    for table, values in zip((means, variances), pair, strict=True):
                        values = np.asarray(values)[: len(rows)]
                        table.setdefault(name, np.full((len(z), values.shape[1]), np.nan))[rows] = values
                phase.advance(len(rows))
        return {name: (means[name], variances[name]) for name in means}


def _alike(densities: Sequence[Density]) -> bool:
    """Whether the solver stops at the same times, so that only what drives the twin differs."""
    edges = [one.grid.edges for one in densities]
    return all(np.array_equal(edges[0], one) for one in edges[1:]) and densities[0].discrepancies is None


def _moments(density: Density, z: Array, bits: Array) -> dict[str, tuple[Array, Array]]:
    key = jax.random.wrap_key_data(bits)
    values = density.constrain(z)
    found = density.draw(key, values, density.predict(values))
    moments = {}
    for number, name in enumerate(density.twin.observations):
        noise, given = density.noise(name, values)
        value = found[f"{name}_noise_free"] + found.get(f"{name}_discrepancy", 0.0)
        moments[name] = moments_of(noise, value, jnp.asarray(density.bound.times), given, number)
    return moments


def moments_of(
    noise: Noise, value: Array, times: Array, given: Mapping[str, Array], number: int = 0
) -> tuple[Array, Array]:
    """Mean and variance of new observations around these values; shape (n,) each.

    Where the noise model has no formula, from samples with the same random numbers for every value.
    """
    try:
        scattered = noise.distribution(value, times, **given)
        mean, variance = jnp.asarray(scattered.mean, float), jnp.asarray(scattered.variance, float)
    except NotImplementedError:
        sample: Callable[[Array], Array] = functools.partial(noise.sample, value=value, times=times, **given)
        drawn = jax.vmap(lambda key: sample(key))(jax.random.split(jax.random.key(number), SAMPLES))
        mean, variance = drawn.mean(axis=0), drawn.var(axis=0, ddof=1)
    known = jnp.isfinite(value)
    return jnp.where(known, mean, jnp.nan), jnp.where(known, variance, jnp.nan)
