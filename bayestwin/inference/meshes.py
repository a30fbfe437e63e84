"""A log density whose twin stops on a mesh instead of at every observation, and whether that is the same one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bayestwin.density.density import Density
from bayestwin.dynamics.mesh import most_nodes, plan_mesh
from bayestwin.dynamics.solve import trace_steps
from bayestwin.inference.exactness import NEGLIGIBLE

NUM_TRACED = 32
FORGIVEN = 1e-3
"""Of the distance to the highest log density: what is far below need not be known as well."""


def on_mesh(density: Density, z: np.ndarray) -> Density | None:
    """The density solved on a mesh that is fine enough at given points.

    Args:
        density: The log density, which stops at every observation.
        z: Points where it can be solved, 1 to `NUM_TRACED`; shape (n, d).

    Returns:
        The density with one fixed step from each stop of the mesh to the next; None where no mesh pays, and for
        several experiments, each of which would need one of its own.
    """
    if density.experiments:
        return None
    most = most_nodes(density.twin, density.grid)
    if not most:
        return None
    trace = jax.jit(jax.vmap(lambda z: trace_steps(density.twin, density.grid, most, density.constrain(z))))
    times, reached = map(np.asarray, trace(jnp.asarray(np.resize(z, (NUM_TRACED, z.shape[1])))))
    mesh = plan_mesh(times) if reached.all() else None
    if mesh is None or len(mesh) > most:
        return None
    # adaptive steps between the stops would cost a climb five times as much, for points that it turns down anyway
    return dataclasses.replace(density, grid=density.grid.on_mesh(mesh)._replace(substeps=np.ones(len(mesh) - 1, int)))


def agree(found: np.ndarray, exact: np.ndarray) -> bool:
    """Whether log densities on a mesh, shape (n,), are those with all stops; what is not finite is not."""
    allowed = NEGLIGIBLE + FORGIVEN * (np.max(exact) - exact)
    return bool((np.abs(found - exact) <= allowed).all())
