"""Why no start was found: which likelihood or which state is to blame, in words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density
from bayestwin.dynamics.adaptive import Position
from bayestwin.dynamics.events import build_interrupt
from bayestwin.dynamics.grid import inputs_from
from bayestwin.dynamics.solve import STEPPERS, begin
from bayestwin.errors import explain
from bayestwin.model.twin import Twin

PIECES, DEPTH = 64, 3


def explain_no_start(density: Density, seed: int, drawn: int) -> str:
    """The message for a prior none of whose draws has a finite log density.

    Args:
        density: The log density.
        seed: The seed of the ladder.
        drawn: How many draws were tried.
    """
    values = jax.vmap(density.sample_prior)(jax.random.split(key_for(seed, "ladder 0"), 64))

    @jax.jit
    @jax.vmap
    def inspect(one: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        predicted = density.predict(one)
        terms = {name: jnp.isfinite(t).all() for name, t in density.log_likelihood(one, predicted).items()}
        return predicted.solved, terms

    solved, terms = (jax.tree.map(np.asarray, found) for found in inspect(values))
    never = np.flatnonzero(~solved.reshape(64, -1).any(axis=0))  # experiments, or the telemetry itself
    solved = solved.reshape(64, -1).all(axis=1)
    num_solved = int(solved.sum())
    if never.size:
        what = f"none of them can be solved: {_blame(density, int(never[0]), values)}"
    elif num_solved == 0:
        what = "each experiment can be solved at some of them, but none of them solves all experiments"
    else:
        guilty = [name for name, fine in terms.items() if not bool((fine & solved).any())]
        listed = ", ".join(f"`{name}`" for name in guilty) or "all observations together"
        what = f"{num_solved} of 64 can be solved, but the log likelihood of {listed} is never finite"
    sites = ", ".join(f"`{site.name}`" for site in density.sites)
    return explain(
        f"Twin `{density.twin.name}` has no valid start: not one prior draw has a finite log density.",
        expected=f"a finite log density for some of {drawn} draws of {sites}",
        received=what,
        advice="Look at `bayestwin check`; tighten the priors, correct the vector field, or use a stiff solver.",
    )


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
    field, state, found = begin(twin, grid, {name: jnp.asarray(value, float) for name, value in values.items()})
    for name, value in zip(twin.states, np.asarray(field.values(state)), strict=False):
        if not np.isfinite(value):
            return f"state `{name}` is not finite at t=0"
    if not found:
        return "there is no steady state to start from"

    @jax.jit
    def piece(state: Array, ends: Array, begun: Array, coefficients: Array) -> tuple[Array, Array, Array]:
        """Solve over a piece of a whole interval: the state there, whether it was reached, derivatives straight on."""
        inputs_at = inputs_from(begun, coefficients)
        slope = field.slope(inputs_at)
        interrupt = build_interrupt(field, inputs_at) if twin.triggered else None
        at = Position(state, ends[1] - ends[0], jnp.asarray(True), jnp.zeros((), int))
        at = STEPPERS[twin.solver.method](slope, ends[0], ends[1], at, twin.solver, field.size, interrupt)
        times = jnp.linspace(ends[0], ends[1], PIECES + 1)
        ahead = jax.vmap(lambda t: slope(t, state + (t - ends[0]) * slope(ends[0], state)))(times)
        return at.state, at.solved & jnp.isfinite(at.state).all(), ahead

    state = np.asarray(state)
    usual = 1.0 + np.abs(state)
    spans = zip(grid.edges[:-1], grid.edges[1:], grid.coefficients, grid.amounts, strict=True)
    for start, end, coefficients, amounts in spans:
        ends = np.array([start, end])
        state = np.asarray(field.happen(start, jnp.asarray(state), coefficients[0], amounts))
        following, solved, _ = piece(state, ends, start, coefficients)
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
        for name, change in zip(twin.states, derivative, strict=False):
            if not np.isfinite(change):
                return f"state `{name}` is not finite at t={t:g}"
    growth = np.abs(state) / usual
    if growth.max() > 1e3:
        return f"state `{(*twin.states, *twin.switched)[growth.argmax()]}` grows without bound at t={ends[0]:g}"
    return f"the solver gives up at t={ends[0]:g} after {twin.solver.max_steps} steps, though no state blows up"
