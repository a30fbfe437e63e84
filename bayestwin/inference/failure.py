"""Why no start was found: which likelihood or which state is to blame, in words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density import Density
from bayestwin.dynamics.adaptive import Position
from bayestwin.dynamics.solve import STEPPERS, right_hand_side
from bayestwin.errors import explain
from bayestwin.seeds import key_for
from bayestwin.tracing import namespace
from bayestwin.twin import Twin

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

    solved, terms = inspect(values)
    num_solved = int(np.asarray(solved).sum())
    if num_solved == 0:
        reason = blame_state(density, {name: float(v[0]) for name, v in values.items()})
        what = f"none of them can be solved: {reason}"
    else:
        guilty = [name for name, fine in terms.items() if not bool((np.asarray(fine) & np.asarray(solved)).any())]
        listed = ", ".join(f"`{name}`" for name in guilty) or "all observations together"
        what = f"{num_solved} of 64 can be solved, but the log likelihood of {listed} is never finite"
    sites = ", ".join(f"`{site.name}`" for site in density.sites)
    return explain(
        f"Twin `{density.twin.name}` has no valid start: not one prior draw has a finite log density.",
        expected=f"a finite log density for some of {drawn} draws of {sites}",
        received=what,
        advice="Look at `bayestwin check`; tighten the priors, correct the vector field, or use a stiff solver.",
    )


def blame_state(density: Density, values: dict[str, float]) -> str:
    """Follow one solve to where it breaks down, and name the state and the time.

    The interval in which the solver gives up is cut into pieces, and the piece again, so that the time is known to
    about a 10⁵th of it.
    """
    twin, grid = density.twin, density.grid
    state = np.array([values.get(f"{n}_initial", spec.initial) for n, spec in twin.states.items()], dtype=float)
    for name, value in zip(twin.states, state, strict=True):
        if not np.isfinite(value):
            return f"state `{name}` is not finite at t=0"
    p = namespace("parameters", tuple(twin.parameters))(
        *[values.get(name, spec.prior) for name, spec in twin.parameters.items()]
    )

    @jax.jit
    def piece(state: Array, ends: Array, whole: Array, left: Array, right: Array) -> tuple[Array, Array, Array]:
        """Solve over a piece of a whole interval: the state there, whether it was reached, derivatives straight on."""
        rate = (right - left) / (whole[1] - whole[0])
        slope = right_hand_side(twin, p, lambda t: left + rate * (t - whole[0]))
        at = Position(state, ends[1] - ends[0], jnp.asarray(True), jnp.zeros((), int))
        at = STEPPERS[twin.solver.method](slope, ends[0], ends[1], at, twin.solver)
        times = jnp.linspace(ends[0], ends[1], PIECES + 1)
        ahead = jax.vmap(lambda t: slope(t, state + (t - ends[0]) * slope(ends[0], state)))(times)
        return at.state, at.solved & jnp.isfinite(at.state).all(), ahead

    usual = 1.0 + np.abs(state)
    for start, end, left, right in zip(grid.edges[:-1], grid.edges[1:], grid.left, grid.right, strict=True):
        ends = np.array([start, end])
        following, solved, _ = piece(state, ends, ends, left, right)
        if solved:
            state = np.asarray(following)
            usual = np.maximum(usual, np.abs(state))
            continue
        for _ in range(DEPTH):
            marks = np.linspace(ends[0], ends[1], PIECES + 1)
            for ends in np.stack([marks[:-1], marks[1:]], axis=1):
                following, solved, slopes = piece(state, ends, np.array([start, end]), left, right)
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
        for name, change in zip(twin.states, derivative, strict=True):
            if not np.isfinite(change):
                return f"state `{name}` is not finite at t={t:g}"
    growth = np.abs(state) / usual
    if growth.max() > 1e3:
        return f"state `{list(twin.states)[growth.argmax()]}` grows without bound at t={ends[0]:g}"
    return f"the solver gives up at t={ends[0]:g} after {twin.solver.max_steps} steps, though no state blows up"
