"""Why no start was found: which likelihood or which state is to blame, in words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density import Density
from bayestwin.dynamics.solve import right_hand_side
from bayestwin.errors import explain
from bayestwin.seeds import key_for
from bayestwin.tracing import namespace


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
    """Follow one solve step by step, and name the state and the time at which it breaks down."""
    twin, grid = density.twin, density.grid
    state = np.array([values.get(f"{n}_initial", spec.initial) for n, spec in twin.states.items()], dtype=float)
    for name, value in zip(twin.states, state, strict=True):
        if not np.isfinite(value):
            return f"state `{name}` is not finite at t=0"
    p = namespace("parameters", tuple(twin.parameters))(
        *[values.get(name, spec.prior) for name, spec in twin.parameters.items()]
    )
    for start, end, left, right in zip(grid.edges[:-1], grid.edges[1:], grid.left, grid.right, strict=True):
        rate = (right - left) / (end - start)
        slope = jax.jit(
            right_hand_side(twin, p, lambda t, left=left, rate=rate, start=start: left + rate * (t - start))
        )
        for t in np.linspace(start, end, 65)[:-1]:
            derivative = np.asarray(slope(jnp.asarray(t), jnp.asarray(state)))
            state = state + derivative * (end - start) / 64
            for name, change, value in zip(twin.states, derivative, state, strict=True):
                if not np.isfinite(change) or not np.isfinite(value):
                    return f"state `{name}` is not finite at t={t:g}"
    return f"the solver gives up within {twin.solver.max_steps} steps between two stops, though no state blows up"
