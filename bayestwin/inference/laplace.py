"""Laplace approximation, a normal at each mode by the weight of its evidence; the highest mode alone; what they share.

`q(z) = Σ_m weight_m · N(z | mode_m, (−H_m)⁻¹)`, with Gauss–Newton Hessians H. Seconds instead of a chain; exact where
the posterior is normal in the unconstrained space.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base.array import array_stats
from scipy.special import logsumexp
from scipy.stats import norm

from bayestwin.density.survey import evaluate
from bayestwin.errors import NoValidStart
from bayestwin.inference.centring import choose_centring
from bayestwin.inference.climb import Mode, draw_around
from bayestwin.inference.method import Draws, Problem
from bayestwin.inference.starts import find_starts


def laplace(problem: Problem) -> Draws:
    """Draw from the Laplace approximation."""
    density, settings, seed, progress, _ = problem
    density, starts = choose_centring(density, find_starts(density, settings.num_chains, seed, progress), seed)
    num = settings.num_chains * settings.num_samples
    with progress.phase("draws", "drawing", num) as phase:
        rng = np.random.default_rng([seed, 3])
        z, log_density, lost = draw_solvable(
            lambda rng, n: draw_around(starts.modes, rng, n), functools.partial(evaluate, density), num, rng
        )
        phase.advance(num, f"{lost} draws cannot be solved")
    log_ratio = log_density - log_mixture(starts.modes, z)
    record = {"normals": len(starts.modes), "thrown_away": lost}
    draws = as_draws(z, log_density, log_ratio, settings.num_chains, log_ratio, record)
    return draws._replace(record={"starts": starts.record} | dict(draws.record), centring=density.centring)


# The maximum of `log p(θ) + Σ log p(y | θ)` over the values θ themselves, within their priors' support: constrained
# least squares, with losses that outliers cannot pull far, and standard errors from the curvature there. One draw, no
# posterior: what follows from it knows nothing of other values.


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


def log_mixture(modes: tuple[Mode, ...], z: np.ndarray) -> np.ndarray:
    """Log density of the mixture of normals at z, shape (n, d); shape (n,)."""
    weights = np.array([mode.weight for mode in modes])
    terms = []
    for mode, weight in zip(modes, weights / weights.sum(), strict=True):
        w = np.linalg.solve(mode.scale, (z - mode.z).T)
        terms.append(norm.logpdf(w).sum(axis=0) - np.linalg.slogdet(mode.scale)[1] + np.log(weight))
    return np.asarray(logsumexp(np.stack(terms), axis=0))


# What approximations of a posterior share: draws that can be solved, and how far they can be trusted.
#
# `log_ratio = log p(z) − log q(z)` is kept for each draw. The Pareto shape k of its largest values says whether the
# approximation q covers the posterior p: below 0.7 it does (Vehtari et al. 2024, arXiv:1507.02646).

MOST_ROUNDS = 50

STATISTICS: Any = array_stats
"""ArviZ's functions of plain arrays, which say nothing of their types."""


def draw_solvable(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    evaluate: Callable[[np.ndarray], np.ndarray],
    num: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw from an approximation until enough of the draws have a finite log density.

    Args:
        draw: Random numbers and n → draws (n, d).
        evaluate: Draws (n, d) → log densities (n,).
        num: Number of draws wanted.
        rng: Randomness.

    Returns:
        Draws (num, d), their log densities (num,), and how many draws were thrown away.

    Raises:
        NoValidStart: If next to no draw can be solved.
    """
    kept: list[np.ndarray] = []
    values: list[np.ndarray] = []
    drawn = enough = 0
    while enough < num and drawn < MOST_ROUNDS * num:
        z = draw(rng, num)
        log_density = evaluate(z)
        fine = np.isfinite(log_density)
        kept.append(z[fine])
        values.append(log_density[fine])
        drawn, enough = drawn + num, enough + int(fine.sum())
    if enough < num:
        raise NoValidStart(
            "The approximation lies where the twin cannot be solved.",
            expected=f"a finite log density for at least one draw in {MOST_ROUNDS}",
            received=f"{enough} of {drawn:,} draws",
            advice='Use `method="nuts"`, or tighten the priors.',
        )
    return np.concatenate(kept)[:num], np.concatenate(values)[:num], drawn - enough


def as_draws(
    z: np.ndarray,
    log_density: np.ndarray,
    log_ratio: np.ndarray,
    num_chains: int,
    candidates: np.ndarray,
    record: dict[str, Any],
) -> Draws:
    """Independent draws dealt out to chains, with their statistics.

    Args:
        z: Draws; shape (n, d).
        log_density: Shape (n,).
        log_ratio: Log density minus that of the approximation; shape (n,).
        num_chains: Divides n.
        candidates: Log ratios of all draws that were made, of which these may be a selection; shape (m,).
        record: What is known about the approximation; the Pareto shape of the candidates is added.
    """
    stats = {"lp": log_density, "log_ratio": log_ratio}
    shaped = {name: values.reshape(num_chains, -1) for name, values in stats.items()}
    record = {"approximation": record | {"pareto_k": smooth_tail(candidates)[1]}}
    return Draws(z.reshape(num_chains, -1, z.shape[-1]), shaped, record)


def smooth_tail(log_ratio: np.ndarray, efficiency: float = 1.0) -> tuple[np.ndarray, float]:
    """Normalised log weights of n draws with the largest smoothed, shape (n,), and the Pareto shape of these.

    The tail is longer where draws are correlated, of which `efficiency` says what share is as good as independent.
    Where there are too few draws for a tail, or all are the same, nothing is smoothed and the shape is infinite.
    """
    try:
        log_weights, shape = STATISTICS.psislw(-log_ratio, r_eff=efficiency)
    except ValueError:
        log_weights, shape = log_ratio - logsumexp(log_ratio), np.inf
    return np.asarray(log_weights), float(shape)
