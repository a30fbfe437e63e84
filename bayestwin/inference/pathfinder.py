"""Pathfinder: normals found along quasi-Newton paths from many prior draws, resampled by importance.

It needs gradients alone, and no Hessian, so that it serves many parameters; the paths are blackjax's.

L. Zhang, B. Carpenter, A. Gelman & A. Vehtari (2022), jmlr.org/papers/v23/21-0889.html.
"""

import jax
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed
from bayestwin._base.process import key_for
from bayestwin.density.density import Density
from bayestwin.errors import NoValidStart
from bayestwin.inference.climb import approximate_along, draw_from
from bayestwin.inference.laplace import as_draws, smooth_tail
from bayestwin.inference.method import Draws, Problem
from bayestwin.inference.starts import draw_starts

NUM_PATHS = 4
"""Paths, from the best prior draws: the normals at their beginnings are wide, and solving draws from those is what
takes the time."""


def pathfinder(problem: Problem) -> Draws:
    """Draw from the Pathfinder approximation."""
    density, settings, seed, progress, _ = problem
    drawn = draw_starts(density, seed, progress)
    num = settings.num_chains * settings.num_samples
    with progress.phase("draws", "following paths", 1) as phase:
        each = max(200, -(-2 * num // NUM_PATHS))
        starts = np.resize(drawn.best, (NUM_PATHS, drawn.best.shape[1]))
        found = _draw(density, Keyed(each, each), key_for(seed, "pathfinder"), starts)
        z, log_density, log_approximation = (np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in found)
        fine = np.isfinite(log_density) & np.isfinite(log_approximation)
        if not fine.any():
            raise _nowhere()
        z, log_density, log_approximation = z[fine], log_density[fine], log_approximation[fine]
        log_ratio = log_density - log_approximation
        weights = np.exp(smooth_tail(log_ratio)[0])
        kept = np.random.default_rng([seed, 4]).choice(weights.size, size=num, p=weights / weights.sum())
        phase.advance(1)
    record = {"paths": NUM_PATHS, "thrown_away": int((~fine).sum())}
    draws = as_draws(z[kept], log_density[kept], log_ratio[kept], settings.num_chains, log_ratio, record)
    return draws._replace(record={"starts": drawn.record} | dict(draws.record))


@Program
def _draw(density: Density, num: Keyed[int], key: Array, z: Array) -> tuple[Array, Array, Array]:
    """Follow the path from each point, shape (n, d), and draw `num` times from its best normal."""

    def one(key: Array, z: Array) -> tuple[Array, Array, Array]:
        along, drawing = jax.random.split(key)
        draws, log_approximation = draw_from(drawing, approximate_along(along, density, z), num.value)
        return draws, jax.vmap(density)(draws), log_approximation

    return jax.lax.map(lambda path: one(*path), (jax.random.split(key, len(z)), z))


def _nowhere() -> NoValidStart:
    return NoValidStart(
        "No quasi-Newton path leads to where the twin can be solved.",
        expected="a normal with draws of finite log density along at least one path",
        received=f"none along {NUM_PATHS} paths",
        advice='Use `method="nuts"` or `"laplace"`.',
    )
