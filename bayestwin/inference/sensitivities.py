"""How derivatives are taken while sampling: forward through the adaptive solver, or in reverse through fixed steps.

Where observations are denser than steps, these go from stop to stop of a mesh, if log densities there are the exact
ones; else they stop at each observation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayestwin._base.progress import Progress
from bayestwin.density.density import Density
from bayestwin.dynamics.fixed import plan_substeps
from bayestwin.dynamics.solve import count_steps
from bayestwin.inference.meshes import agree, on_mesh
from bayestwin.inference.modes import draw_around
from bayestwin.inference.starts import Starts, in_batches
from bayestwin.model.process_noise import ProcessNoise

NUM_TRIED = 32


def choose_sensitivities(
    density: Density, starts: Starts, seed: int, progress: Progress
) -> tuple[Density, Mapping[str, Any]]:
    """Choose by the steps that adaptive solves take around the modes, and by the number of derivatives.

    Args:
        density: The log density, solved adaptively.
        starts: Whose modes say where the sampler will be.
        seed: Determines the points that are tried.
        progress: Shows the phase "ladder".

    Returns:
        The log density as it is to be sampled, and what was chosen and why, as plain values.
    """
    z = draw_around(starts.modes, np.random.default_rng([seed, 5]), NUM_TRIED)
    with progress.phase("ladder", "choosing how to differentiate", 1) as phase:
        chosen, record = choose_at(density, z)
        phase.advance(1, record["mode"])
    return chosen, record


def choose_at(density: Density, z: np.ndarray) -> tuple[Density, Mapping[str, Any]]:
    """As `choose_sensitivities`, from the points that are tried; shape (n, d)."""
    if density.experiments:
        return density, {"mode": "forward", "reason": "several experiments side by side"}
    if density.twin.solver.method == "exact":
        return density, {"mode": "exact", "reason": "the twin needs no solver"}
    if density.twin.solver.method == "rodas5p":
        return density, {"mode": "forward", "reason": "the twin is stiff"}
    if density.twin.triggered:
        return density, {"mode": "forward", "reason": "the state triggers events"}
    if isinstance(density.twin.model_error, ProcessNoise):
        return density, {"mode": "forward", "reason": "the twin has process noise"}
    derivatives = sum(site.kind in ("parameter", "initial") for site in density.sites)
    meshed = on_mesh(density, z)
    if meshed is not None and agree(in_batches(meshed)(z), in_batches(density)(z)):
        evidence = {"steps": len(meshed.grid.edges) - 1, "derivatives": derivatives}
        return meshed, {"mode": "reverse", "reason": "fewer steps than observations", **evidence}
    steps_at = jax.jit(jax.vmap(lambda z: count_steps(density.twin, density.grid, density.constrain(z))))
    substeps, record = plan_substeps(np.asarray(steps_at(jnp.asarray(z))), derivatives)
    return dataclasses.replace(density, grid=density.grid._replace(substeps=substeps)), record
