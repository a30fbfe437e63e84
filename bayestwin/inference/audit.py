"""The tolerance audit: does the error of the solver shape the posterior?

Some draws are solved again more precisely. The changes of their log densities are importance ratios between the
posterior as it was computed and the precise one, and the Pareto shape of the largest says whether they matter.

J. Timonen et al. (2023), doi:10.1002/sta4.614; A. Vehtari et al. (2024), arXiv:1507.02646.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.diagnostics import psis_weights

from bayestwin._base.progress import Progress
from bayestwin.density.density import Density
from bayestwin.inference.method import Draws
from bayestwin.inference.starts import in_batches

NUM_AUDITED, TIGHTER = 192, 100.0

PRECISE = 1e-6
"""Largest relative tolerance of the second solve: where steps from sample to sample pass at tolerance 0.3, they pass at
0.003 too, and the two solves would be the same."""


def audit_tolerance(density: Density, drawn: Draws, progress: Progress) -> dict[str, Any]:
    """Solve some draws again, at tolerances `TIGHTER` times smaller, and not above `PRECISE`.

    Args:
        density: The density that was drawn from.
        drawn: Its draws, with their log densities.
        progress: Shows the phase "predictive".

    Returns:
        Plain numbers: `draws` audited, times `tighter`, `failed` to be solved, the `largest_difference` of log
        densities after their mean is taken off, and `pareto_k`.
    """
    dim = drawn.z.shape[-1]
    z, used = drawn.z.reshape(-1, dim), drawn.stats["lp"].reshape(-1)
    rows = np.unique(np.linspace(0, len(z) - 1, NUM_AUDITED).round().astype(int))
    solver = density.twin.solver
    tighter = max(TIGHTER, solver.rtol / PRECISE)
    precise = dataclasses.replace(
        solver, rtol=solver.rtol / tighter, atol=solver.atol / tighter, max_steps=10 * solver.max_steps
    )
    tight = dataclasses.replace(density, twin=dataclasses.replace(density.twin, solver=precise))
    with progress.phase("predictive", "auditing the solver", len(rows)) as phase:
        change = in_batches(tight)(z[rows]) - used[rows]
        phase.advance(len(rows))
    solved = np.isfinite(change)
    change = change[solved]
    largest = float(np.abs(change - change.mean()).max()) if change.size else float("nan")
    pareto_k = float(jax.jit(psis_weights)(jnp.asarray(change))[1]) if change.size else float("nan")
    return {
        "draws": len(rows),
        "tighter": tighter,
        "failed": int((~solved).sum()),
        "largest_difference": largest,
        "pareto_k": pareto_k if np.isfinite(pareto_k) else None,  # as it is where nothing changes at all
    }
