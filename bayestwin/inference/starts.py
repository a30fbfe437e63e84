"""Where chains start: prior draws → the best of them climb to modes → chains around the modes, by their weight.

Chains of an ODE posterior are lost when they start where the solver fails or the likelihood is flat. This ladder
starts none there, and its Laplace covariance is the first metric of the sampler.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density import Density
from bayestwin.errors import NoValidStart
from bayestwin.inference.failure import explain_no_start
from bayestwin.inference.newton import climb, positive
from bayestwin.progress import Progress
from bayestwin.seeds import key_for

NUM_DRAWN, NUM_CLIMBED, MOST_BATCHES = 64, 16, 8


class Mode(NamedTuple):
    """One mode and its Laplace approximation `N(z, scale scaleᵀ)`.

    Attributes:
        z: Shape (d,).
        log_density: At z.
        scale: Shape (d, d).
        weight: Share of the posterior mass that the approximation gives it.
    """

    z: np.ndarray
    log_density: float
    scale: np.ndarray
    weight: float


class Starts(NamedTuple):
    """Where chains start.

    Attributes:
        z: One start a chain; shape (c, d).
        modes: Heaviest first.
        record: Plain numbers for the report: drawn, failed, optimised, converged, log_density, modes.
    """

    z: np.ndarray
    modes: tuple[Mode, ...]
    record: dict[str, Any]


def find_starts(density: Density, num_chains: int, seed: int, progress: Progress) -> Starts:
    """Run the ladder.

    Args:
        density: The log density.
        num_chains: Number of starts wanted.
        seed: Determines the prior draws and the starts.
        progress: Shows the phase "ladder".

    Raises:
        NoValidStart: If no prior draw has a finite log density.
    """
    with progress.phase("ladder", "finding where to start", NUM_DRAWN + NUM_CLIMBED) as phase:
        evaluate = _in_batches(jax.jit(jax.vmap(density)))
        z, log_density, drawn = _draw(density, evaluate, seed)
        order = np.argsort(-log_density)[:NUM_CLIMBED]
        order = order[np.isfinite(log_density[order])]
        failed = drawn - int(np.isfinite(log_density).sum())
        phase.advance(NUM_DRAWN, f"{failed} of {drawn} prior draws cannot be solved")
        # a full batch whatever the number that is finite, so that there is one compilation
        points = jax.jit(lambda z: climb(density.local, z))(jnp.asarray(z[np.resize(order, NUM_CLIMBED)]))
        points = jax.tree.map(lambda leaf: np.asarray(leaf)[: order.size], points)
        modes = group_modes(points.z, points.log_density, points.hessian)
        phase.advance(NUM_CLIMBED, f"{len(modes)} mode{'s' if len(modes) > 1 else ''}")
    record = {
        "drawn": drawn,
        "failed": failed,
        "optimised": int(order.size),
        "converged": int((points.decrement < 1e-3).sum()),
        "log_density": [round(float(v), 3) for v in -np.sort(-points.log_density)],
        "modes": len(modes),
        "weights": [round(mode.weight, 6) for mode in modes],
    }
    return Starts(_disperse(evaluate, modes, num_chains, seed), modes, record)


type Evaluate = Callable[[np.ndarray], np.ndarray]
"""(n, d) → log densities, shape (n,)."""


def _in_batches(evaluate: Callable[[Array], Array]) -> Evaluate:
    """Evaluate any number of points, always `NUM_DRAWN` at a time, so that there is one compilation."""

    def whole(z: np.ndarray) -> np.ndarray:
        batches = -(-len(z) // NUM_DRAWN)
        padded = np.resize(z, (batches, NUM_DRAWN, z.shape[1]))
        return np.concatenate([np.asarray(evaluate(jnp.asarray(batch))) for batch in padded])[: len(z)]

    return whole


def _draw(density: Density, evaluate: Evaluate, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Prior draws in z and their log densities; more batches while not one is finite."""
    for batch in range(MOST_BATCHES):
        keys = jax.random.split(key_for(seed, f"ladder {batch}"), NUM_DRAWN)
        z = density.draw_prior(keys)[1]
        log_density = np.where(np.isfinite(z).all(axis=1), evaluate(z), -np.inf)
        if np.isfinite(log_density).any():
            return z, log_density, NUM_DRAWN * (batch + 1)
    raise NoValidStart(explain_no_start(density, seed, NUM_DRAWN * MOST_BATCHES))


def group_modes(z: np.ndarray, log_density: np.ndarray, hessian: np.ndarray) -> tuple[Mode, ...]:
    """Group points that have climbed into distinct modes, and weigh them by their Laplace evidence.

    Two points are one mode when they are nearer than three standard deviations of the higher one's Laplace
    approximation. Modes lighter than 1e-4 are dropped.

    Args:
        z: Points; shape (n, d).
        log_density: Shape (n,).
        hessian: Shape (n, d, d).

    Returns:
        Modes, heaviest first.
    """
    found: list[tuple[np.ndarray, float, np.ndarray, float]] = []
    for i in np.argsort(-log_density):
        if any(
            np.linalg.norm(np.linalg.solve(scale, z[i] - at)) < 3.0 * np.sqrt(z.shape[1]) for at, _, scale, _ in found
        ):
            continue
        values, vectors = (np.asarray(a) for a in positive(jnp.asarray(hessian[i]), jnp.zeros(())))
        values = np.maximum(values, 1.0 / 25.0)  # a direction the data say nothing about: five units of z at most
        scale = vectors / np.sqrt(values)
        found.append((z[i], float(log_density[i]), scale, float(log_density[i] - 0.5 * np.log(values).sum())))
    evidence = np.array([mode[3] for mode in found])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    modes = [Mode(at, value, scale, float(w)) for (at, value, scale, _), w in zip(found, weights, strict=True)]
    return tuple(sorted((mode for mode in modes if mode.weight > 1e-4), key=lambda mode: -mode.weight))


def _disperse(evaluate: Evaluate, modes: tuple[Mode, ...], num_chains: int, seed: int) -> np.ndarray:
    """Over-dispersed starts around the modes, drawn nearer wherever the log density is far below its mode's."""
    rng = np.random.default_rng([seed, 1])
    counts = np.floor(np.array([m.weight for m in modes]) * num_chains + 0.5).astype(int)
    owners = np.repeat(np.arange(len(modes)), counts)[:num_chains]
    owners = np.append(owners, np.zeros(num_chains - owners.size, dtype=int))
    dim = modes[0].z.size
    starts = np.stack([modes[owner].z for owner in owners])
    lowest = np.array([modes[owner].log_density for owner in owners]) - 2.0 * dim - 10.0
    direction = np.stack([modes[owner].scale @ rng.standard_normal(dim) for owner in owners])
    settled = np.zeros(num_chains, dtype=bool)
    for spread in (2.0, 1.0, 0.5, 0.25, 0.1):
        trial = starts + spread * direction
        good = ~settled & (evaluate(trial) > lowest)
        starts = np.where(good[:, None], trial, starts)
        direction = np.where(good[:, None], 0.0, direction)
        settled |= good
    return starts
