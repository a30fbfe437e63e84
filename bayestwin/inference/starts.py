"""The ladder that leads to where chains start: prior draws → the best of them climb to modes → chains around the modes.

Chains of an ODE posterior are lost when they start where the solver fails or the likelihood is flat. This ladder
starts none there, and its Laplace covariance is the first metric of the sampler.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.progress import Phase, Progress
from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density
from bayestwin.errors import NoValidStart
from bayestwin.inference.climb import Climb, climb
from bayestwin.inference.failure import explain_no_start
from bayestwin.inference.meshes import agree, on_mesh
from bayestwin.inference.modes import Mode, group_modes
from bayestwin.inference.paths import follow_path

NUM_DRAWN, NUM_CLIMBED, MOST_BATCHES = 64, 16, 8

CLIMBED = 1e-3
"""Log density still to gain below which a point counts as having reached its mode."""

type Evaluate = Callable[[np.ndarray], np.ndarray]
"""(n, d) → log densities, shape (n,)."""


class Drawn(NamedTuple):
    """The first rung: prior draws.

    Attributes:
        best: Those of the highest log density, always as many, repeated where fewer can be solved; shape (n, d).
        num_distinct: How many of them are distinct.
        record: Plain numbers for the report: drawn, failed.
        evaluate: The log density of any number of points, compiled.
    """

    best: np.ndarray
    num_distinct: int
    record: dict[str, Any]
    evaluate: Evaluate


class Starts(NamedTuple):
    """Where chains start.

    Attributes:
        z: One start a chain; shape (c, d).
        modes: Heaviest first.
        record: Plain numbers for the report: drawn, failed, optimised, converged, stops, log_density, modes, weights.
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
    drawn = draw_starts(density, seed, progress)
    with progress.phase("ladder", "climbing to modes", NUM_CLIMBED) as phase:
        points, stops = climb_all(density, drawn)
        modes = group_modes(*map(np.asarray, (points.z, points.log_density, points.hessian)))
        converged = np.asarray(points.decrement) < CLIMBED
        record = drawn.record | {"optimised": drawn.num_distinct, "converged": int(converged.sum()), "stops": stops}
        if not converged.any():
            modes = _by_path(density, modes, seed, phase)
            record["paths"] = 1
        phase.advance(NUM_CLIMBED, f"{len(modes)} mode{'s' if len(modes) > 1 else ''}")
    record |= {
        "log_density": [round(float(v), 3) for v in -np.sort(-np.asarray(points.log_density))],
        "modes": len(modes),
        "weights": [round(mode.weight, 6) for mode in modes],
    }
    return Starts(disperse(drawn.evaluate, modes, num_chains, seed), modes, record)


def climb_all(density: Density, drawn: Drawn) -> tuple[Climb, int]:
    """Climb from the best draws: on a mesh where that pays, unless what is reached differs from what is exact there.

    Args:
        density: The log density.
        drawn: The first rung.

    Returns:
        The points reached, as NumPy arrays, and the number of stops of the solves that led there.
    """

    def climbed(density: Density) -> Climb:
        # a full batch whatever the number that is finite, so that there is one compilation
        points = jax.jit(lambda z: climb(density.local, z))(jnp.asarray(drawn.best))
        return Climb(*(np.asarray(leaf)[: drawn.num_distinct] for leaf in points))  # type: ignore[arg-type]

    meshed = on_mesh(density, drawn.best)
    if meshed is not None:
        points = climbed(meshed)
        exact = drawn.evaluate(np.asarray(points.z))
        if agree(np.asarray(points.log_density), exact):
            return points._replace(log_density=exact), len(meshed.grid.edges) - 1  # type: ignore[arg-type]
    return climbed(density), len(density.grid.edges) - 1


def draw_starts(density: Density, seed: int, progress: Progress) -> Drawn:
    """The first rung: draw from the prior until some draws can be solved.

    Raises:
        NoValidStart: If no prior draw has a finite log density.
    """
    evaluate = in_batches(density)
    with progress.phase("ladder", "trying the prior", NUM_DRAWN) as phase:
        for batch in range(MOST_BATCHES):
            z = density.draw_prior(jax.random.split(key_for(seed, f"ladder {batch}"), NUM_DRAWN))[1]
            log_density = np.where(np.isfinite(z).all(axis=1), evaluate(z), -np.inf)
            finite = np.isfinite(log_density)
            drawn = NUM_DRAWN * (batch + 1)
            failed = drawn - int(finite.sum())
            phase.advance(0, f"{failed} of {drawn} cannot be solved")
            if finite.any():
                phase.advance(NUM_DRAWN)
                order = np.argsort(-log_density)[: min(NUM_CLIMBED, int(finite.sum()))]
                best = z[np.resize(order, NUM_CLIMBED)]
                return Drawn(best, order.size, {"drawn": drawn, "failed": failed}, evaluate)
    raise NoValidStart(explain_no_start(density, seed, NUM_DRAWN * MOST_BATCHES))


def in_batches(log_density: Callable[[Array], Array]) -> Evaluate:
    """Evaluate any number of points, always `NUM_DRAWN` at a time, so that there is one compilation."""
    evaluate = jax.jit(jax.vmap(log_density))

    def whole(z: np.ndarray) -> np.ndarray:
        batches = -(-len(z) // NUM_DRAWN)
        padded = np.resize(z, (batches, NUM_DRAWN, z.shape[1]))
        return np.concatenate([np.asarray(evaluate(jnp.asarray(batch))) for batch in padded])[: len(z)]

    return whole


def _by_path(density: Density, modes: tuple[Mode, ...], seed: int, phase: Phase) -> tuple[Mode, ...]:
    """Where no point reached a mode, the Hessian does not do: a normal along a quasi-Newton path from the highest."""
    phase.advance(0, "no point reached a mode; following a quasi-Newton path")
    highest = max(modes, key=lambda mode: mode.log_density)
    found = follow_path(density, highest.z, key_for(seed, "ladder path"))
    return modes if found is None else (Mode(found.centre, found.log_density, found.scale, 1.0),)


def disperse(evaluate: Evaluate, modes: tuple[Mode, ...], num_chains: int, seed: int, attempt: int = 1) -> np.ndarray:
    """Over-dispersed starts around the modes, drawn nearer wherever the log density is far below its mode's.

    Args:
        evaluate: Log densities of points.
        modes: Each gets chains by its weight; shape (d,) each.
        num_chains: Number of starts.
        seed: Determines them, together with `attempt`.
        attempt: Another one gives other starts.

    Returns:
        Starts; shape (c, d).
    """
    rng = np.random.default_rng([seed, attempt])
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
