"""How a log density is solved while it is drawn from: by which solver, with which derivatives, and how exactly."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program, in_batches
from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress
from bayestwin.density.bind import fill_steps
from bayestwin.density.density import Density
from bayestwin.density.predictor import solved_for, unhidden
from bayestwin.density.survey import Survey, evaluate, survey
from bayestwin.dynamics.choice import Choice, SolverTrial, choose_solver
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.solve import plan_substeps
from bayestwin.dynamics.switching import take_apart
from bayestwin.errors import InvalidTwin
from bayestwin.inference.climb import draw_around
from bayestwin.inference.laplace import smooth_tail
from bayestwin.inference.method import Draws
from bayestwin.inference.starts import Starts, agree, on_mesh
from bayestwin.model.dependence import parameters
from bayestwin.model.error import ProcessNoise
from bayestwin.model.twin import Twin

NUM_TRIED = 64


def choose(density: Density, seed: int, progress: Progress) -> tuple[Density, Choice]:
    """The density with the solver that suits, and why that one.

    Args:
        density: The log density; a solver that its twin names stays.
        seed: Determines the prior draws.
        progress: Shows the phase "ladder".
    """
    with progress.phase("ladder", "choosing the solver", 1) as phase:
        tried, z = density.draw_prior(jax.random.split(key_for(seed, "solver"), NUM_TRIED))
        if density.twin.black_box:
            check_moves(density, z)
            phase.advance(1, "its own")
            return density, choose_solver(density.twin, density.grid, tried)[1]

        def attempt(twin: Twin, grid: Grid) -> SolverTrial:
            _, solved, num_steps, _ = survey(dataclasses.replace(density, twin=twin, grid=grid).filled, z)
            # experiments are solved side by side: what takes the longest is what they take
            return SolverTrial(solved, num_steps.sum(axis=-1).reshape(len(z), -1).max(axis=1))

        chosen, choice = choose_solver(density.twin, density.grid, tried, attempt)
        density = density.solved_as(chosen)
        if choice.method != "exact":
            density = solved_for(density, typical_scales(survey(density.filled, z)))
        phase.advance(1, choice.method)
    return density, choice


NUM_MOVED = 8


def check_moves(density: Density, z: np.ndarray) -> None:
    """Refuse a model that shows no equations where it does not repeat itself, or a parameter moves no output of it.

    Args:
        density: The log density.
        z: Draws from the prior, of which parameters are moved from one to the next; shape (n, d).

    Raises:
        InvalidTwin: Naming the parameters.
    """
    box = density.twin.black_box
    assert box is not None
    z = z[:NUM_MOVED]
    whole: Any = density.grid
    grids = [whole] if not density.experiments else [density.alone(n).grid for n in range(len(density.experiments))]
    values, known = density.constrain_all(z), [grid.known for grid in grids]
    for number, grid in enumerate(grids):
        own = {n: v[:, number] if v.ndim == 2 and density.experiments else v for n, v in values.items()}
        taken = [
            parameters(density.twin, {**known[number], **{n: v[k] for n, v in own.items()}}) for k in range(len(z))
        ]
        theta = np.array([[float(getattr(p, name)) for name in box.takes] for p in taken])
        box.check(theta, grid.edges, grid.coefficients, grid.save)
    moved = {site.name: site for site in density.sites if site.kind == "parameter"}
    used = {name: site for name, site in moved.items() if name in box.takes}
    places = np.cumsum([0, *density.priors.sizes])
    still = []
    base = _paths(density, z)
    for number, site in enumerate(density.sites):
        if site.name not in used:
            continue
        other = z.copy()
        place = slice(places[number], places[number + 1])
        other[:, place] = np.roll(z[:, place], 1, axis=0)
        changed = _paths(density, other)
        both = np.isfinite(base) & np.isfinite(changed)
        if both.any() and not (np.abs(changed - base) > UNMOVED * np.abs(base))[both].any():
            still.append(site.name)
    if still:
        raise InvalidTwin(
            f"{'A parameter moves' if len(still) == 1 else 'Parameters move'} no output of twin `{density.twin.name}`.",
            expected=f"another output at some of {len(z)} draws from the prior when one of them is changed",
            received="the same outputs whatever the value of " + ", ".join(f"`{name}`" for name in still),
            advice="Leave it out, or see how the model takes it: its posterior would be its prior.",
        )


UNMOVED = 1e-12


def _paths(density: Density, z: np.ndarray) -> np.ndarray:
    """Outputs at n points, shape (n, …); NaN where they were not reached."""
    found = in_batches(lambda rows: _reached(density, rows), z, len(z))
    return np.asarray(found)


@Program
def _reached(density: Density, z: Array) -> Array:
    def one(z: Array) -> Array:
        path: Any = density.path(z)
        return jnp.where(path.reached[..., None], path.states, jnp.nan)

    return jax.vmap(one)(z)


def typical_scales(found: Survey) -> np.ndarray:
    """The typical scale of each state over the points that were solved, shape (s,); 0 where there is none."""
    scales = found.scales[found.solved & np.isfinite(found.scales).all(axis=1)]
    return np.median(scales, axis=0) if len(scales) else np.zeros(found.scales.shape[1])


# How derivatives are taken while sampling: forward through the adaptive solver, or in reverse through fixed steps.
#
# Where observations are denser than steps, these go from stop to stop of a mesh, if log densities there are the exact
# ones; else they stop at each observation.

NUM_COMPARED = 32


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
    z = draw_around(starts.modes, np.random.default_rng([seed, 5]), NUM_COMPARED)
    with progress.phase("ladder", "choosing how to differentiate", 1) as phase:
        chosen, record = choose_at(density, z)
        phase.advance(1, record["mode"])
    return chosen, record


def choose_at(density: Density, z: np.ndarray) -> tuple[Density, Mapping[str, Any]]:
    """As `choose_sensitivities`, from the points that are tried; shape (n, d)."""
    if density.twin.solver.method == "exact":
        return density, {"mode": "exact", "reason": "the twin needs no solver"}
    if density.experiments:
        return density, {"mode": "forward", "reason": "several experiments side by side"}
    if density.twin.solver.method == "rodas5p":
        return density, {"mode": "forward", "reason": "the twin is stiff"}
    if density.twin.moving:
        return density, {"mode": "forward", "reason": "stops move with what is inferred"}
    if density.twin.triggered:
        return density, {"mode": "forward", "reason": "the state triggers events"}
    if take_apart(density.twin).count:
        return density, {"mode": "forward", "reason": "the equations switch"}
    if isinstance(density.twin.model_error, ProcessNoise):
        return density, {"mode": "forward", "reason": "the twin has process noise"}
    derivatives = sum(site.kind in ("parameter", "initial") for site in density.sites)
    meshed = on_mesh(density, z)
    if meshed is not None and agree(evaluate(meshed, z), evaluate(density, z)):
        evidence = {"steps": len(meshed.grid.edges) - 1, "derivatives": derivatives}
        return meshed, {"mode": "reverse", "reason": "fewer steps than observations", **evidence}
    substeps, record = plan_substeps(survey(density, z).num_steps, derivatives)
    if substeps is None:
        return density, record
    substeps = fill_steps(substeps, density.grid.edges)
    return dataclasses.replace(density, grid=density.grid.with_substeps(substeps)), record


# The tolerance audit: does the error of the solver shape the posterior?
#
# Some draws are solved again more precisely. The changes of their log densities are importance ratios between the
# posterior as it was computed and the precise one, and the Pareto shape of the largest says whether they matter.
#
# J. Timonen et al. (2023), doi:10.1002/sta4.614; A. Vehtari et al. (2024), arXiv:1507.02646.

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
    rtol = density.twin.solver.rtol
    tighter = max(TIGHTER, rtol / PRECISE)
    precise: Any = density.grid.precision.tightened(tighter)
    with progress.phase("predictive", "auditing the solver", len(rows)) as phase:
        # where an absolute tolerance hides a state, a hundredth of it may hide it still
        scales = typical_scales(survey(density, z[rows]))
        atol = np.array(precise.atol)
        atol[..., : len(scales)] = unhidden(atol[..., : len(scales)], scales * rtol / tighter)
        tight = density.solved_to(precise._replace(atol=atol))
        change = evaluate(tight, z[rows]) - used[rows]
        phase.advance(len(rows))
    solved = np.isfinite(change)
    change = change[solved]
    largest = float(np.abs(change - change.mean()).max()) if change.size else float("nan")
    pareto_k = smooth_tail(change)[1] if change.size else float("nan")
    return {
        "draws": len(rows),
        "tighter": tighter,
        "failed": int((~solved).sum()),
        "largest_difference": largest,
        "pareto_k": pareto_k if np.isfinite(pareto_k) else None,  # as it is where nothing changes at all
    }
