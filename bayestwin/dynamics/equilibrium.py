"""Equilibria: where the derivative of some states vanishes, as a function of everything it depends on.

Found by pseudo-transient continuation, which follows the dynamics at first and ends as Newton's method, and so leads to
stable equilibria. Its derivative comes from the implicit function theorem, not from the search. Sums that the dynamics
conserve are kept at what they are where the search begins: without them there would be no single equilibrium.

C. T. Kelley & D. E. Keyes (1998), doi:10.1137/S0036142996304796.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin.dynamics.steppers import Slope
from bayestwin.dynamics.switching import take_apart
from bayestwin.errors import InvalidTwin
from bayestwin.model.dependence import brought, parameters, prior_of
from bayestwin.model.tracing import Layout
from bayestwin.model.twin import Twin
from bayestwin.model.types import SteadyState

MOST_STEPS, SETTLED = 200, 1e-12
"""Steps of the search, and the last one's size at which it ends: relative to a state, and to what flows through it in
its own time, which rounding follows where the state itself is next to nothing."""

NUM_PARAMETERS, POINTS_EACH = 4, 4
"""For how many draws of the parameters, and at how many points for each steady state, sums are looked for."""

ROUNDED, TAKES_PART = 1e-10, 1e-6
"""A sum of derivatives that is no more than this share of them is none; and a state whose weight in it is more is in
the sum."""


def find_equilibrium(
    slope: Slope, state: Array, steady: np.ndarray, values: Callable[[Array], Array], num_sums: int | None = 0
) -> tuple[Array, Array]:
    """Solve for the states that are to be steady.

    Args:
        slope: The vector field; taken at time 0.
        state: Where the search begins, and the values of the states that are not steady; shape (s,).
        steady: Numbers of the states to be solved for; shape (k,).
        values: The states' values from such an array, in which some may stand as logarithms.
        num_sums: How many sums of these states are conserved; None to find that out from these very equations, as
            where experiments bring numbers along that switch parts of them off.

    Returns:
        The state, shape (s,), and whether it was found.
    """
    sums = None if num_sums == 0 else _sums_of(slope, state, steady, values, num_sums)
    strength = jnp.zeros(())
    if sums is not None:
        strength = lax.stop_gradient(jnp.linalg.norm(jax.jacfwd(slope, 1)(jnp.zeros(()), state)))
        strength = jnp.where(strength > 0.0, strength, 1.0)  # where nothing moves all stays as it is

    def residual(part: Array, state: Array) -> Array:
        whole = state.at[steady].set(part)
        rates = slope(jnp.zeros(()), whole)[steady]
        if sums is None:
            return rates
        # along what is conserved no rate says anything: there the distance from the total takes its place
        return rates - strength * sums.weights.T @ (sums.weights @ values(whole)[steady] - sums.totals)

    def newton_step(part: Array, pace: Array) -> tuple[Array, Array]:
        """The step, and what it is to be small to; shape (k,) each."""
        at = lax.stop_gradient(state)
        matrix = _settling(jax.jacfwd(residual)(part, at))
        own = jnp.abs(jnp.diag(matrix))
        through = jnp.where(own > 0.0, jnp.abs(matrix) @ jnp.abs(part) / jnp.where(own > 0.0, own, 1.0), 0.0)
        step = jnp.linalg.solve(jnp.eye(len(steady)) / pace - matrix, residual(part, at))
        return step, 1e-8 + jnp.abs(part) + through

    def unfinished(loop: tuple[Array, ...]) -> Array:
        _, _, moved, number = loop
        return (moved > SETTLED) & (number < MOST_STEPS)

    def body(loop: tuple[Array, ...]) -> tuple[Array, ...]:
        part, pace, _, number = loop
        step, size = lax.stop_gradient(newton_step(part, pace))
        ratio = jnp.linalg.norm(residual(part, state)) / jnp.linalg.norm(residual(part + step, state))
        ratio = lax.stop_gradient(jnp.where(jnp.isfinite(ratio), ratio, 2.0))
        moved = jnp.max(jnp.abs(step) / size)
        return part + step, pace * jnp.clip(2.0 * ratio, 0.2, 1e3), moved, number + 1

    start = lax.stop_gradient(state[steady])
    # a first step no longer than the fastest of the dynamics, so that the search does not leave its basin at once
    pace = 1.0 / (1e-300 + jnp.linalg.norm(jax.jacfwd(residual)(start, lax.stop_gradient(state))))
    beginning = (start, lax.stop_gradient(pace), jnp.asarray(jnp.inf), jnp.zeros((), int))
    part, _, moved, _ = lax.while_loop(unfinished, body, beginning)
    matrix = _settling(lax.stop_gradient(jax.jacfwd(residual)(part, state)))
    left = residual(lax.stop_gradient(part), state)
    # of length next to zero; its derivative is that of the equilibrium
    part = lax.stop_gradient(part) - jnp.linalg.solve(matrix, left)
    return state.at[steady].set(part), (moved <= SETTLED) & jnp.isfinite(part).all()


def _settling(matrix: Array) -> Array:
    """A Jacobian, shape (k, k), in which each state that nothing depends on, not even itself, stays where it is.

    So does what is left of a complex whose parts are absent. One that goes on growing never settles.
    """
    alone = (matrix == 0.0).all(axis=0)
    strength = jnp.linalg.norm(matrix)
    return matrix - jnp.diag(jnp.where(alone, jnp.where(strength > 0.0, strength, 1.0), 0.0))


class Sums(NamedTuple):
    """Sums of the k steady states that stay as they are.

    Attributes:
        weights: Of each state in each sum; shape (c, k), or (k, k) where how many there are is not known beforehand,
            with zeros for those that are none.
        totals: What each sum is; shape (c,) or (k,).
    """

    weights: Array
    totals: Array


def _sums_of(slope: Slope, state: Array, steady: np.ndarray, values: Callable, num_sums: int | None) -> Sums:
    """The sums that are conserved for these parameters, with their derivatives.

    A weight vector `c` has `c · f(x) = 0` at all x. With `F` the rates at some points, one in each row, `F c = 0`, so
    that `c` moves with the parameters by `−F⁺ (dF) c`.
    """
    begun = values(state)
    spread = _multipliers(len(steady))

    def rates(factors: Array) -> Array:
        """Of values, not of logarithms, where these are some times what they are, or than one."""
        typical = jnp.where(begun[steady] == 0.0, 1.0, jnp.abs(begun[steady]))
        point = state.at[steady].set(jnp.where(logs[steady], jnp.log(factors * typical), factors * typical))
        of_values = jax.jvp(values, (point,), (slope(jnp.zeros(()), point),))[1]
        return of_values[steady]

    logs = lax.stop_gradient(values(jnp.zeros_like(state)) == 1.0)
    found = jax.vmap(rates)(jnp.asarray(spread))
    found = jnp.where(jnp.isfinite(found), found, 0.0)
    fixed = lax.stop_gradient(found)
    rows = 1.0 / jnp.maximum(jnp.abs(fixed).max(axis=1, keepdims=True), 1e-300)
    largest = jnp.abs(fixed * rows).max(axis=0)
    columns = (1.0 / jnp.where(largest > 0.0, largest, 1.0))[None]
    left, sizes, right = jnp.linalg.svd(fixed * rows * columns, full_matrices=False)
    if num_sums is None:
        conserved = sizes <= ROUNDED * jnp.maximum(sizes.max(), 1e-300)
        inverse = right.T @ (jnp.where(conserved, 0.0, 1.0 / jnp.where(conserved, 1.0, sizes))[:, None] * left.T)
        kept = jnp.where(conserved[:, None], right, 0.0)
    else:
        rank = len(steady) - num_sums
        inverse, kept = right[:rank].T @ (left[:, :rank].T / sizes[:rank, None]), right[rank:]
    null = kept - (inverse @ ((found * rows * columns) @ kept.T)).T
    weights = null * columns
    lengths = lax.stop_gradient(jnp.linalg.norm(weights, axis=1, keepdims=True))
    weights /= jnp.where(lengths > 0.0, lengths, 1.0)
    return Sums(weights, weights @ begun[steady])


def _multipliers(num: int) -> np.ndarray:
    """Points at which sums of so many states are looked for; shape (n, num)."""
    return np.exp(np.random.default_rng(0).normal(size=(POINTS_EACH * num + 4, num)))


# How many sums a twin conserves, whatever its parameters: found out once, before anything is solved.


def count_sums(twin: Twin) -> int | None:
    """How many sums of the steady states of a twin are conserved; None where that depends on the experiment.

    Raises:
        InvalidTwin: If there are some, and what they amount to is not said.
    """
    specs = {name: spec.initial for name, spec in twin.states.items() if isinstance(spec.initial, SteadyState)}
    layout = Layout({name: twin.states[name].shape for name in specs})
    if specs and (brought(twin) or any(spec.under for spec in specs.values())) and _all_said(specs):
        return None
    if layout.size < 2:
        return 0
    with jax.ensure_compile_time_eval():  # the same for all values of what is traced
        rates = np.asarray(_look_around(Keyed(twin, key_of(twin))))
    usable = [one[np.isfinite(one).all(axis=1)] for one in rates]
    nulls = [_null_space(one) for one in usable if len(one) >= layout.size]
    least = min(nulls, key=len, default=np.empty((0, layout.size)))
    num = len(least)
    entries = np.abs(least).max(axis=0, initial=0.0) > TAKES_PART
    taking_part = [name for name, place in layout.places.items() if entries[place].any()]
    unsaid = [name for name in taking_part if specs[name].guess is None]
    if num and unsaid:
        raise InvalidTwin(
            f"The steady state of twin `{twin.name}` depends on a total that is not said.",
            expected="`bt.SteadyState(guess)` for each state of a sum that the equations conserve, where the guesses "
            "add up to the total",
            received=f"no guess for {', '.join(f'`{name}`' for name in unsaid)}; conserved is a sum of "
            f"{', '.join(f'`{name}`' for name in taking_part)}",
            advice="Give each its part, for example `bt.SteadyState(10.0)` for one and `bt.SteadyState(0.0)` for the "
            "others; an inferred total is `bt.SteadyState(lambda p: p.total)`.",
        )
    return num


def _all_said(specs: dict[str, SteadyState]) -> bool:
    """Whether each state says where the search begins, so that totals are known whatever is conserved."""
    return all(spec.guess is not None for spec in specs.values())


def _null_space(rates: np.ndarray) -> np.ndarray:
    """Weights with which columns, each scaled, add up to nothing in every row; shape (n, k) → (c, k)."""
    scaled = rates / np.maximum(np.abs(rates).max(axis=1, keepdims=True), 1e-300)
    largest = np.abs(scaled).max(axis=0)
    _, sizes, right = np.linalg.svd(scaled / np.where(largest > 0.0, largest, 1.0), full_matrices=False)
    return right[sizes <= ROUNDED * sizes.max()]


@Program
def _look_around(twin: Keyed[Twin]) -> Array:
    """Rates of the k steady states at points around one; shape (d, n, k)."""
    specs = twin.value
    steady = [name for name, spec in specs.states.items() if isinstance(spec.initial, SteadyState)]
    layout, equations = Layout({name: specs.states[name].shape for name in steady}), take_apart(specs)

    def one(key: Array) -> Array:
        told = brought(specs)
        num_keys = len(specs.parameters) + len(specs.states) + len(specs.inputs) + len(told)
        keys = iter(jax.random.split(key, num_keys))

        def drawn(shape: tuple[int, ...] = ()) -> Array:
            return jnp.exp(jax.random.normal(next(keys), shape))

        values: dict[str, Any] = {name: drawn() for name in told}
        for site in specs.sites():
            if site.kind == "parameter":
                values[site.name] = jnp.asarray(prior_of(specs, site, values).sample(next(keys)), float)
        p = parameters(specs, values)
        around = {name: drawn(state.shape) for name, state in specs.states.items()}
        u = equations.as_ever({name: drawn() for name in specs.inputs})

        def rates(factors: Array) -> Array:
            x = around | {
                name: around[name] * factor for name, factor in zip(steady, layout.split(factors), strict=True)
            }
            found = equations.derivative(jnp.zeros(()), tuple(x.values()), p, u)
            return layout.join([found[name] for name in steady])

        return jax.vmap(rates)(jnp.asarray(_multipliers(layout.size)))

    return jax.vmap(one)(jax.random.split(jax.random.key(0), NUM_PARAMETERS))
