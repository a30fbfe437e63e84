"""The ladder that leads to where chains start: prior draws → the best of them climb to modes → chains around the modes.

Chains of an ODE posterior are lost when they start where the solver fails or the likelihood is flat. This ladder
starts none there, and its Laplace covariance is the first metric of the sampler. Where climbs disagree it looks
further: from more draws, and from what explains the beginning of the record, followed as the record grows. Where
nothing can start, it says which likelihood or state is to blame; and it says whether a log density on a coarser mesh is
the same one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.process import key_for, side_by_side
from bayestwin._base.progress import Phase, Progress
from bayestwin.density.density import Density
from bayestwin.density.survey import as_pytree, evaluate, large, survey
from bayestwin.dynamics.events import Crossings
from bayestwin.dynamics.grid import inputs_from, most_nodes, plan_mesh
from bayestwin.dynamics.moving import move_stops
from bayestwin.dynamics.solve import STEPPERS, begin, trace_steps
from bayestwin.dynamics.steppers import Position
from bayestwin.errors import NoValidStart
from bayestwin.inference.climb import Climb, Mode, climb, follow_path, group_modes, ridges
from bayestwin.inference.method import NEGLIGIBLE
from bayestwin.model.error import ProcessNoise
from bayestwin.model.twin import Twin

NUM_DRAWN, NUM_CLIMBED, MOST_BATCHES, MOST_STEPS = 64, 16, 8, 60

ENOUGH = 0.5
"""Share of climbs that lead to the highest point, below which it is looked further."""

MORE_BATCHES, MOST_WORK = 16, 5e6
"""Batches of prior draws then, and steps and stops that may be spent on them."""

GROWING = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Parts of the record that are explained one after the other."""

CLIMBED = 1e-3
"""Log density still to gain below which a point counts as having reached its mode."""

FINER = 100.0
"""Times smaller tolerances, at which climbs go on that have not arrived."""

FEW = 4
"""One in so many climbs goes on where something is pooled: the highest."""

MORE_CLIMBS, PAYS, MOST_POLISHED = 6, 0.1, 500
"""As often climbs go on where few have arrived, as long as one of them gains so much; and the quasi-Newton steps from
the highest point where that has not."""

LONG = 2000
"""Stops from which on, with process noise, quasi-Newton steps come before climbs: the Hessian of so long a filter costs
ten gradients and more, and far from a mode it leads nowhere."""


class Drawn(NamedTuple):
    """The first rung: prior draws.

    Attributes:
        best: Those of the highest log density; shape (n, d), n at most `NUM_CLIMBED`.
        work: Steps and stops that solving all of them took.
        record: Plain numbers for the report: drawn, failed.
    """

    best: np.ndarray
    work: float
    record: dict[str, Any]


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
        record, stepped = drawn.record, density.twin.solver.method != "exact"
        points, stops = climb_all(density, drawn.best, more=0 if stepped else MORE_CLIMBS)
        if stepped and not _arrived(points):
            # a solver's choice of steps makes a log density rough, and near a mode climbs stop on its bumps
            density = density.solved_to(density.grid.precision.tightened(FINER))
            points, stops = climb_all(density, points.z)
            record["finer"] = FINER
        # of what is pooled no climb ends where chains will be
        looked = density.pooled and (points.decrement < CLIMBED).any()
        if num_highest(points) < ENOUGH * len(points.z) and not looked:
            phase.advance(0, "climbs disagree; looking further")
            points, record = look_further(density, points, drawn, seed)
        modes = group_modes(points.z, points.log_density, points.hessian)
        converged = points.decrement < CLIMBED
        record |= {"optimised": len(points.z), "converged": int(converged.sum()), "highest": num_highest(points)}
        record["still_to_gain"] = float(points.decrement[np.argmax(points.log_density)])
        record["stops"] = stops
        if not converged.any():
            modes = _by_path(density, modes, seed, phase)
            record["paths"] = 1
        phase.advance(NUM_CLIMBED, f"{len(modes)} mode{'s' if len(modes) > 1 else ''}")
    record |= {
        "log_density": [round(float(v), 3) for v in -np.sort(-points.log_density)],
        "modes": len(modes),
        "weights": [round(mode.weight, 6) for mode in modes],
    }
    if len(found := ridges(density, modes)) < len(modes):
        record["ridges"] = found
    return Starts(disperse(density, modes, num_chains, seed), modes, record)


def climb_all(density: Density, z: np.ndarray, more: int = MORE_CLIMBS) -> tuple[Climb, int]:
    """Climb from points: on a mesh where that pays, unless what is reached differs from what is exact there.

    Args:
        density: The log density.
        z: The points; shape (n, d), n at most `NUM_CLIMBED`.
        more: How often they go on where few have arrived, while that pays.

    Returns:
        The points reached, as NumPy arrays, and the number of stops of the solves that led there.
    """
    meshed = on_mesh(density, z)
    if meshed is not None:
        points = _climb_from(meshed, z, more)
        exact = evaluate(density, points.z)
        if agree(points.log_density, exact):
            return points._replace(log_density=exact), meshed.grid.num_stops
    return _climb_from(density, z, more), density.grid.num_stops


def _climb_from(density: Density, z: np.ndarray, more: int = MORE_CLIMBS) -> Climb:
    """Climb, and go on where few have arrived, while that pays."""
    if isinstance(density.twin.model_error, ProcessNoise) and density.grid.num_stops >= LONG:
        z = np.stack([_polish(density, one) for one in z])
    points = _climb_once(density, z, MOST_STEPS // 2 if density.pooled else MOST_STEPS)
    if density.pooled:  # chains will not be where such climbs end, and the last steps to it are many
        best = np.argsort(-points.log_density)[: -(-len(z) // FEW)]
        points = jax.tree.map(lambda leaf: leaf[best], points)
    for _ in range(more):
        converged = points.decrement < CLIMBED
        if converged.mean() >= ENOUGH or (density.pooled and converged[np.argmax(points.log_density)]):
            break
        before, points = points.log_density, _climb_once(density, points.z)
        if not (points.log_density > before + PAYS).any():
            break
    top = int(np.argmax(points.log_density))
    if points.decrement[top] < CLIMBED:
        return points
    polished = _climb_once(density, _polish(density, points.z[top])[None])
    if not polished.log_density[0] > points.log_density[top]:
        return points
    return jax.tree.map(lambda one, new: np.concatenate([one[:top], new, one[top + 1 :]]), points, polished)


def _arrived(points: Climb) -> bool:
    """Whether the highest climb has reached its mode, and enough of the others theirs."""
    converged = points.decrement < CLIMBED
    return bool(converged[np.argmax(points.log_density)] and converged.mean() >= ENOUGH)


def inspect_at(density: Density, z: np.ndarray) -> Climb:
    """Log density, gradient and Hessian at n points, shape (n, d), by the program that climbs."""
    return _climb_once(density, z, 1)  # the first step is to the point itself


def _climb_once(density: Density, z: np.ndarray, steps: int = MOST_STEPS) -> Climb:
    most = np.asarray(steps)
    if not large(density):
        # a full batch whatever the number of points, so that there is one compilation
        points = _climb(density, np.resize(z, (NUM_CLIMBED, z.shape[1])), most)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(z)], points)

    def one(point: np.ndarray, most: np.ndarray = most) -> Climb:
        return jax.tree.map(np.asarray, _climb(density, point[None], most))

    one(z[0], np.asarray(0))  # compiled ahead of the others, which would each do it
    found = side_by_side(one, z)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def _polish(density: Density, z: np.ndarray) -> np.ndarray:
    """Where quasi-Newton steps lead from a point; they need no Hessian, which may be far from the true one."""
    from scipy.optimize import minimize  # takes a while to import

    def fall(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = (np.asarray(leaf)[0] for leaf in _value_and_gradient(density, at[None]))
        fine = np.isfinite(value) and np.isfinite(gradient).all()
        return (-float(value), -gradient) if fine else (np.inf, np.zeros_like(at))

    return minimize(fall, z, jac=True, method="L-BFGS-B", options={"maxiter": MOST_POLISHED, "maxcor": 20}).x


def num_highest(points: Climb) -> int:
    """How many of the points are as high as the highest."""
    return int((points.log_density > points.log_density.max() - NEGLIGIBLE).sum())


def look_further(density: Density, points: Climb, drawn: Drawn, seed: int) -> tuple[Climb, dict[str, Any]]:
    """Climb from the best of many more draws; and from those that explain the beginning of the record, as it grows.

    Over a long record a wrong frequency gets out of phase, and the likelihood has a narrow peak at the right one among
    many others; over its beginning the peak is wide.

    Args:
        density: The log density.
        points: Where climbs have led so far.
        drawn: What is known about the prior.
        seed: Determines the draws.

    Returns:
        All points reached, and the plain numbers `drawn` and `failed`.
    """
    batches = int(np.clip(MOST_WORK / drawn.work, 1, MORE_BATCHES))
    keys = [jax.random.split(key_for(seed, f"ladder {number}"), NUM_DRAWN) for number in range(batches)]
    z = np.concatenate([density.draw_prior(own)[1] for own in keys])
    z = z[np.isfinite(z).all(axis=1)]
    log_density = evaluate(density, z)
    found = [points, climb_all(density, _best(z, log_density))[0]]
    candidates = z
    for share in () if isinstance(density.twin.model_error, ProcessNoise) else GROWING:
        part = density.until(share)
        values = evaluate(part, candidates)
        if np.isfinite(values).any():
            reached = climb_all(part, _best(candidates, values))[0].z
            candidates = np.concatenate([reached, z])
    values = evaluate(density, candidates)
    if np.isfinite(values).any():
        found.append(climb_all(density, _best(candidates, values))[0])
    failed = batches * NUM_DRAWN - int(np.isfinite(log_density).sum())
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
    return together, {"drawn": batches * NUM_DRAWN, "failed": failed}


def _best(z: np.ndarray, log_density: np.ndarray) -> np.ndarray:
    """The points of the highest log density, as many as climb together, of those where it is finite."""
    order = np.argsort(-np.where(np.isfinite(log_density), log_density, -np.inf), kind="stable")
    return z[order[: min(NUM_CLIMBED, int(np.isfinite(log_density).sum()))]]


@Program
def _climb(density: Density, z: Array, max_steps: Array) -> Climb:
    return climb(density.local, z, max_steps)


@Program
def _value_and_gradient(log_density: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    return jax.vmap(jax.value_and_grad(log_density))(z)


def gradients(log_density: Callable[[Array], Array], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log densities, shape (c,), and gradients, shape (c, d), at points where they are finite, shape (c, d)."""
    if not isinstance(log_density, Density) or log_density.grid.fixed is not None or len(z) > NUM_CLIMBED:
        value, gradient = _value_and_gradient(as_pytree(log_density), z)
    else:  # the first step of a climb is to the point itself, and there is a program for climbs already
        at = inspect_at(log_density, z)
        value, gradient = at.log_density, at.gradient
    return np.asarray(value)[: len(z)], np.asarray(gradient)[: len(z)]


def draw_starts(density: Density, seed: int, progress: Progress) -> Drawn:
    """The first rung: draw from the prior until some draws can be solved.

    Raises:
        NoValidStart: If no prior draw has a finite log density.
    """
    with progress.phase("ladder", "trying the prior", NUM_DRAWN) as phase:
        for batch in range(MOST_BATCHES):
            z = density.draw_prior(jax.random.split(key_for(seed, f"ladder {batch}"), NUM_DRAWN))[1]
            log_density, _, num_steps, _ = survey(density, z)
            finite = np.isfinite(log_density) & np.isfinite(z).all(axis=1)
            drawn = NUM_DRAWN * (batch + 1)
            failed = drawn - int(finite.sum())
            phase.advance(0, f"{failed} of {drawn} cannot be solved")
            if finite.any():
                phase.advance(NUM_DRAWN)
                work = float(num_steps.sum()) + num_steps.size
                return Drawn(_best(z, np.where(finite, log_density, -np.inf)), work, {"drawn": drawn, "failed": failed})
    raise no_start(density, seed, NUM_DRAWN * MOST_BATCHES)


def _by_path(density: Density, modes: tuple[Mode, ...], seed: int, phase: Phase) -> tuple[Mode, ...]:
    """Where no point reached a mode, the Hessian does not do: a normal along a quasi-Newton path from the highest."""
    phase.advance(0, "no point reached a mode; following a quasi-Newton path")
    highest = max(modes, key=lambda mode: mode.log_density)
    found = follow_path(density, highest.z, key_for(seed, "ladder path"))
    return modes if found is None else (Mode(found.centre, found.log_density, found.scale, 1.0),)


def disperse(
    log_density: Callable[[Array], Array], modes: tuple[Mode, ...], num_chains: int, seed: int, attempt: int = 1
) -> np.ndarray:
    """Over-dispersed starts around the modes, drawn nearer wherever the log density is far below its mode's.

    Args:
        log_density: (d,) → scalar.
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
        good = ~settled & (evaluate(log_density, trial) > lowest)
        starts = np.where(good[:, None], trial, starts)
        direction = np.where(good[:, None], 0.0, direction)
        settled |= good
    return starts


# A log density whose twin stops on a mesh instead of at every observation, and whether that is the same one.

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
    times, reached = map(np.asarray, _trace_steps(density, most, np.resize(z, (NUM_TRACED, z.shape[1]))))
    mesh = plan_mesh(times) if reached.all() else None
    if mesh is None or len(mesh) > most:
        return None
    # adaptive steps between the stops would cost a climb five times as much, for points that it turns down anyway
    return dataclasses.replace(density, grid=density.grid.on_mesh(mesh).with_substeps(np.ones(len(mesh) - 1, int)))


@functools.partial(jax.jit, static_argnums=1)
def _trace_steps(density: Density, most: int, z: Array) -> tuple[Array, Array]:
    return jax.vmap(lambda z: trace_steps(density.twin, density.grid, most, density.constrain(z)))(z)


def agree(found: np.ndarray, exact: np.ndarray) -> bool:
    """Whether log densities on a mesh, shape (n,), are those with all stops; what is not finite is not."""
    allowed = NEGLIGIBLE + FORGIVEN * (np.max(exact) - exact)
    return bool((np.abs(found - exact) <= allowed).all())


# Why no start was found: which likelihood or which state is to blame, in words.

PIECES, DEPTH = 64, 3


def no_start(density: Density, seed: int, drawn: int) -> NoValidStart:
    """The error for a prior none of whose draws has a finite log density.

    Args:
        density: The log density.
        seed: The seed of the ladder.
        drawn: How many draws were tried.
    """
    values = jax.vmap(density.sample_prior)(jax.random.split(key_for(seed, "ladder 0"), 64))

    @jax.jit
    @jax.vmap
    def inspect(one: dict[str, Array]) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        predicted = density.predict(one)
        terms = {name: jnp.isfinite(t) for name, t in density.log_likelihood(one, predicted).items()}
        return predicted.solved, terms, dict(predicted.noise_free)

    solved, finite, expected = (jax.tree.map(np.asarray, found) for found in inspect(values))
    terms = {name: fine.reshape(64, -1).all(axis=1) for name, fine in finite.items()}
    stiff = (
        ". A stiff solver has been tried." if density.twin.solver.method == "rodas5p" else ", or use a stiff solver."
    )
    advice = f"Look at `bayestwin check`; tighten the priors, correct the vector field{stiff}"
    advice = "Tighten the priors to values that the model takes." if density.twin.black_box else advice
    never = np.flatnonzero(~solved.reshape(64, -1).any(axis=0))  # experiments, or the telemetry itself
    solved = solved.reshape(64, -1).all(axis=1)
    solvable = int(solved.sum())
    if never.size:
        what = f"none of them can be solved: {_blame(density, int(never[0]), values)}"
    elif solvable == 0:
        what = "each experiment can be solved at some of them, but none of them solves all experiments"
    else:
        guilty = [name for name, fine in terms.items() if not bool((fine & solved).any())]
        listed = ", ".join(f"`{name}`" for name in guilty) or "all observations together"
        what = f"{solvable} of 64 can be solved, but the log likelihood of {listed} is never finite"
        usable = {name: (fine[solved], expected[name][solved]) for name, fine in finite.items()}
        row, advice = _blame_row(density, usable)
        what += row
    sites = ", ".join(f"`{site.name}`" for site in density.sites)
    return NoValidStart(
        f"Twin `{density.twin.name}` has no valid start: not one prior draw has a finite log density.",
        expected=f"a finite log density for some of {drawn} draws of {sites}",
        received=what,
        advice=advice,
    )


def _blame_row(density: Density, usable: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, str]:
    """Words about the row whose observation is impossible most often, and what can be done about it.

    Args:
        density: The log density.
        usable: By observation, for each of k draws that can be solved and each row, whether its log likelihood is
            finite, and what is predicted without noise; shape (k, …, n).
    """
    shares = {name: fine.mean(axis=0) for name, (fine, _) in usable.items()}
    name = min(shares, key=lambda one: shares[one].min())
    place = np.unravel_index(np.argmin(shares[name]), shares[name].shape)
    observed = float(density.bound.observations[name][place])
    predicted = usable[name][1][(slice(None), *place)]
    low, high = float(np.nanmin(predicted)), float(np.nanmax(predicted))
    within = f"in experiment `{density.experiments[place[0]]}` " if density.experiments else ""
    ends = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    row = (
        f"; first of all {within}at t={float(density.bound.times[place]):.6g} (row {place[-1] + 1}), where `{name}` "
        f"was observed to be {observed:.4g} and {ends} is predicted"
    )
    kinds = [type(layer).__name__ for layer in density.twin.observations[name].noise.layers()]
    vanishing = low == high == 0.0
    if "LogNormal" in kinds and high <= 0.0:
        return f"{row}: a value of which {kinds[0]} noise has no logarithm", ZEROS
    if "Proportional" in kinds and vanishing:
        return f"{row}, with a standard deviation of 0", ZEROS
    return row, (
        f"Correct this row or leave it out (an empty cell); or let the noise of `{name}` allow for it, and the priors "
        "predict something near it. `bayestwin check` shows what the prior predicts."
    )


ZEROS = (
    "Where nothing is there, nothing multiplies: leave the row out (an empty cell), write the limit of detection into "
    "it and say so by `bt.Censored(noise, lower=…)`, or take noise with an additive part, "
    "`bt.Proportional(scale, relative)` with a `scale` above 0."
)
"""What to do about values of zero under noise that multiplies."""


def _blame(density: Density, number: int, values: dict[str, Array]) -> str:
    """Words about the first of some draws, naming the experiment where there are several."""
    first = {name: np.asarray(v[0]) for name, v in values.items()}
    if not density.experiments:
        return blame_state(density, {name: float(v) for name, v in first.items()})
    own = {name: float(v[number] if v.ndim else v) for name, v in first.items()}
    return f"in experiment `{density.experiments[number]}` {blame_state(density.alone(number), own)}"


def blame_state(density: Density, values: dict[str, float]) -> str:
    """Follow one solve to where it breaks down, and name the state and the time.

    The interval in which the solver gives up is cut into pieces, and the piece again, so that the time is known to
    about a 10⁵th of it.
    """
    twin, grid = density.twin, density.grid
    if twin.black_box:
        return f"the model says: {twin.black_box.tally['last_failure']}"
    field, state, found = begin(twin, grid, {name: jnp.asarray(value, float) for name, value in values.items()})
    for name, value in zip(twin.layout.entries, np.asarray(field.values(state)), strict=False):
        if not np.isfinite(value):
            return f"state `{name}` is not finite at t=0"
    if not found:
        return "there is no steady state to start from"

    @jax.jit
    def piece(state: Array, ends: Array, begun: Array, coefficients: Array) -> tuple[Array, Array, Array]:
        """Solve over a piece of a whole interval: the state there, whether it was reached, derivatives straight on."""
        inputs_at = inputs_from(begun, coefficients)
        slope = field.slope(inputs_at)
        unknown = jnp.full(field.equations.count, jnp.nan)
        at = Position(state, ends[1] - ends[0], jnp.asarray(True), jnp.zeros((), int), jnp.zeros_like(unknown))
        crossings = Crossings(field, inputs_at) if field.interrupted else None
        if crossings is not None:
            at = crossings.resume(ends[0], at, jnp.zeros(len(twin.triggered)), unknown)
        at = STEPPERS[twin.solver.method](slope, ends[0], ends[1], at, grid.precision, field.size, crossings)
        times = jnp.linspace(ends[0], ends[1], PIECES + 1)
        ahead = jax.vmap(lambda t: slope(t, state + (t - ends[0]) * slope(ends[0], state)))(times)
        return at.state, at.solved & jnp.isfinite(at.state).all(), ahead

    if twin.moving:
        grid = jax.tree.map(np.asarray, move_stops(field, grid)[0])
    state = np.asarray(state)
    usual = 1.0 + np.abs(state)
    spans = zip(grid.edges[:-1], grid.edges[1:], grid.coefficients, grid.amounts, strict=True)
    for start, end, coefficients, amounts in spans:
        ends = np.array([start, end])
        state = np.asarray(field.happen(start, jnp.asarray(state), coefficients[0], amounts))
        following, solved, slopes = piece(state, ends, start, coefficients)
        if solved:
            state = np.asarray(following)
            usual = np.maximum(usual, np.abs(state))
            continue
        for _ in range(DEPTH):
            marks = np.linspace(ends[0], ends[1], PIECES + 1)
            for ends in np.stack([marks[:-1], marks[1:]], axis=1):
                following, solved, slopes = piece(state, ends, start, coefficients)
                if not solved:
                    break
                state = np.asarray(following)
            if solved:  # in smaller pieces, each with as many steps, the solver comes through
                break
        return _verdict(twin, state, ends, np.asarray(slopes), usual)
    return "the solver comes through here"


def _verdict(twin: Twin, state: np.ndarray, ends: np.ndarray, slopes: np.ndarray, usual: np.ndarray) -> str:
    """Words about a piece in which the solver gives up, from the state before it and derivatives along it."""
    for t, derivative in zip(np.linspace(ends[0], ends[1], PIECES + 1), slopes, strict=True):
        for name, change in zip(twin.layout.entries, derivative, strict=False):
            if not np.isfinite(change):
                return f"state `{name}` is not finite at t={t:g}"
    growth = np.abs(state) / usual
    if growth.max() > 1e3:
        return f"state `{(*twin.layout.entries, *twin.switched)[growth.argmax()]}` grows without bound at t={ends[0]:g}"
    return f"the solver gives up at t={ends[0]:g} after {twin.solver.max_steps} steps, though no state blows up"
