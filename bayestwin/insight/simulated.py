"""Telemetry simulated with values drawn from the prior, and what is asked of each: its truth among draws."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin._base.progress import Phase
from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density
from bayestwin.errors import NoValidStart, explain
from bayestwin.inference.many import given

FEWEST_SOLVED = 0.25
"""Share of the prior draws that must be solved."""


class Simulated(NamedTuple):
    """Data sets drawn from prior and twin, those that can be solved.

    Attributes:
        density: That of the twin which simulated them.
        values: The truth by site; shape (n,) each.
        z: The same, unconstrained; shape (n, d).
        observations: By name, missing where the telemetry misses them; shape (n, times) each.
        num_failed: How many draws of the prior cannot be solved, and were replaced.
    """

    density: Density
    values: Mapping[str, np.ndarray]
    z: np.ndarray
    observations: Mapping[str, np.ndarray]
    num_failed: int

    def first(self, num: int) -> "Simulated":
        """The first `num` of them."""
        values, z, observations = jax.tree.map(lambda rows: rows[:num], (self.values, self.z, self.observations))
        return self._replace(values=values, z=z, observations=observations)


def simulate_many(density: Density, num: int, seed: int, phase: Phase) -> Simulated:
    """Draw data sets from prior and twin.

    Args:
        density: Says what is observed when.
        num: Number of data sets.
        seed: Determines them.
        phase: Told of each data set.

    Raises:
        NoValidStart: If too few draws of the prior can be solved.
    """
    simulate = jax.jit(jax.vmap(_simulator(density)))
    parts: list[tuple[dict, np.ndarray, dict]] = []
    solved = drawn = 0
    while solved < num:
        if drawn * FEWEST_SOLVED >= num:
            raise NoValidStart(_explain_unsolved(density, solved, drawn))
        priors, noises = (jax.random.split(key_for(seed, f"sbc {use} {drawn}"), num) for use in ("prior", "noise"))
        values, z = density.draw_prior(priors)
        made, good = simulate(values, noises)
        good = np.flatnonzero(good)
        parts.append(jax.tree.map(lambda rows, kept=good: np.asarray(rows)[kept], (values, z, made)))
        phase.advance(min(num - solved, good.size))
        solved, drawn = solved + good.size, drawn + num
    values, z, made = jax.tree.map(lambda *rows: np.concatenate(rows)[:num], *parts)
    return Simulated(density, values, z, made, drawn - solved)


def quantities_of(simulated: Simulated, z: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What is asked of each data set and its draws: sites, the log likelihood, and squared errors.

    Both the likelihood and what is observed are those of the simulation: what the density that was drawn from leaves
    out or takes for something else would otherwise be wrong on both sides, and not be seen.

    Args:
        simulated: n data sets.
        z: Draws of the posterior of each; shape (n, s, d).

    Returns:
        By name: of the draws, shape (n, s), and of the truth, shape (n,). `log_likelihood`, and for each observation
        `<name>_squared_error`, the sum of squared differences between what was observed and what is without noise,
        which goes past the code of log densities.
    """
    drawn = jax.jit(jax.vmap(jax.vmap(simulated.density.constrain)))(jnp.asarray(z))
    found = {name: (np.asarray(drawn[name]), truth) for name, truth in simulated.values.items()}

    def told(observed: Mapping[str, Array], z: Array) -> dict[str, Array]:
        own = given(simulated.density, observed)
        expected = own.predict(own.constrain(z)).noise_free
        errors = {name: jnp.where(jnp.isnan(seen), 0.0, seen - expected[name]) for name, seen in observed.items()}
        sums = {f"{name}_squared_error": jnp.sum(error**2) for name, error in errors.items()}
        return {"log_likelihood": own.parts(z)[1]} | sums

    both = jnp.concatenate([jnp.asarray(simulated.z)[:, None], jnp.asarray(z)], axis=1)
    each = jax.vmap(told, in_axes=(None, 0))
    rows = jax.jit(lambda *rows: lax.map(lambda row: each(*row), rows))(simulated.observations, both)
    return found | {name: (np.asarray(row)[:, 1:], np.asarray(row)[:, 0]) for name, row in rows.items()}


def _simulator(density: Density) -> Callable[[Mapping[str, Array], Array], tuple[dict[str, Array], Array]]:
    present = {name: np.isfinite(observed) for name, observed in density.bound.observations.items()}
    unseen = given(density, {})

    def simulate(values: Mapping[str, Array], key: Array) -> tuple[dict[str, Array], Array]:
        """Observations, and whether there are all that are to be there."""
        drawn = unseen.draw(key, values, unseen.predict(values))
        made = {name: jnp.where(there, drawn[name], jnp.nan) for name, there in present.items()}
        complete = [jnp.isfinite(drawn[name]) | ~there for name, there in present.items()]
        return made, jnp.stack([one.all() for one in complete]).all()

    return simulate


def _explain_unsolved(density: Density, solved: int, drawn: int) -> str:
    return explain(
        f"Twin `{density.twin.name}` cannot be simulated at most draws of its prior.",
        expected=f"a solution, and observations that can occur, at {FEWEST_SOLVED:.0%} of them at least",
        received=f"{solved} of {drawn}",
        advice="Narrow the priors to what is plausible: `bayestwin check` shows what they say about the telemetry.",
    )
