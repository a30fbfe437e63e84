"""Laplace approximation: a normal at each mode that the ladder finds, by the weight of its evidence.

`q(z) = Σ_m weight_m · N(z | mode_m, (−H_m)⁻¹)`, with Gauss–Newton Hessians H. Seconds instead of a chain; exact where
the posterior is normal in the unconstrained space.
"""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from bayestwin.inference.approximation import as_draws, draw_solvable
from bayestwin.inference.method import Draws, Problem
from bayestwin.inference.modes import Mode, draw_around
from bayestwin.inference.starts import find_starts, in_batches


def laplace(problem: Problem) -> Draws:
    """Draw from the Laplace approximation."""
    density, settings, seed, progress, _ = problem
    starts = find_starts(density, settings.num_chains, seed, progress)
    num = settings.num_chains * settings.num_samples
    with progress.phase("draws", "drawing", num) as phase:
        rng = np.random.default_rng([seed, 3])
        z, log_density, lost = draw_solvable(
            lambda rng, n: draw_around(starts.modes, rng, n), in_batches(density), num, rng
        )
        phase.advance(num, f"{lost} draws cannot be solved")
    log_ratio = log_density - log_mixture(starts.modes, z)
    record = {"normals": len(starts.modes), "thrown_away": lost}
    draws = as_draws(z, log_density, log_ratio, settings.num_chains, log_ratio, record)
    return draws._replace(record={"starts": starts.record} | dict(draws.record))


def log_mixture(modes: tuple[Mode, ...], z: np.ndarray) -> np.ndarray:
    """Log density of the mixture of normals at z, shape (n, d); shape (n,)."""
    weights = np.array([mode.weight for mode in modes])
    terms = []
    for mode, weight in zip(modes, weights / weights.sum(), strict=True):
        w = np.linalg.solve(mode.scale, (z - mode.z).T)
        terms.append(norm.logpdf(w).sum(axis=0) - np.linalg.slogdet(mode.scale)[1] + np.log(weight))
    return np.asarray(logsumexp(np.stack(terms), axis=0))
