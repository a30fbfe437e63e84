"""The most probable values: constrained least squares, with losses that outliers cannot pull far.

The maximum of `log p(θ) + Σ log p(y | θ)` over the values θ themselves, within their priors' support; standard errors
from the curvature there. One draw, no posterior: what follows from it knows nothing of other values.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bayestwin.inference.method import Draws, Problem
from bayestwin.inference.starts import find_starts


def point(problem: Problem) -> Draws:
    """Find the most probable values of all sites."""
    density = dataclasses.replace(problem.density, of_values=True)
    starts = find_starts(density, 1, problem.seed, problem.progress)
    mode = max(starts.modes, key=lambda mode: mode.log_density)
    jacobian = jax.jacfwd(density.constrain)(jnp.asarray(mode.z))
    errors = {}
    for name, rows in jacobian.items():
        labels = [f"{name}[{experiment}]" for experiment in density.experiments] if rows.ndim == 2 else [name]
        for label, row in zip(labels, np.atleast_2d(rows), strict=True):
            errors[label] = float(np.linalg.norm(row @ mode.scale))
    record = {"starts": starts.record, "standard_errors": errors, "loss": density.loss}
    return Draws(mode.z[None, None], {"lp": np.full((1, 1), mode.log_density)}, record)
