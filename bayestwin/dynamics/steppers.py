"""The loop over adaptive steps from one stop to the next, and the methods of a step: an explicit and a stiff one.

A loop that ends at the next stop needs no buffer for saved times and no search for the next kink, which under `vmap`
over chains and tangents is where the time goes: see `benchmarks/solve.py`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

SAFETY, SHRINK_LEAST, GROW_MOST = 0.9, 0.2, 10.0

NONE: Any = np.zeros(0)
"""The modes of equations without switches."""

type Slope = Callable[[Array, Array], Array]
"""`(t, state)` → derivative; shapes (), (s,) → (s,)."""

type AdaptiveStep = Callable[..., tuple[Array, Array]]
"""`(slope, t, state, step, compact=False)` → the proposed state, and an estimate of its error of order `step ** 5`.

Compact, its stages are one loop: slower to run, and several times faster to compile."""


type Size = Callable[[Array, Array], Array]
"""The state before and after a step → what an error of it is relative to; shape (s,) each."""


def larger(before: Array, after: Array) -> Array:
    """The larger of the absolute values: what an error usually is relative to."""
    return jnp.maximum(jnp.abs(before), jnp.abs(after))


class Interrupt(Protocol):
    """Looks for what happens within a step, and ends the step there; see `bayestwin.dynamics.events`."""

    @property
    def compact(self) -> bool:
        """Whether the right-hand side is so long that steps are to be compact."""
        ...

    def slope_in(self, modes: Array) -> Slope:
        """The right-hand side while its switches stay as they are; shape (k,)."""
        ...

    def __call__(
        self, take_step: AdaptiveStep, t: Array, now: "Position", step: Array, proposed: Array, accepted: Array
    ) -> tuple[Array, Array, Array, Array]:
        """The step that is taken in place of a proposed one, state and switches after it, and whether it is shorter.

        Args:
            take_step: One step of the method.
            t: Time of `now`.
            now: Where the solver stands.
            step: The step.
            proposed: The state after it; shape (s,).
            accepted: Whether it was precise enough; nothing is looked for where it was not.
        """
        ...


class Precision(NamedTuple):
    """How exactly to solve; numbers, or arrays where a compiled program takes them as arguments.

    Attributes:
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, of all entries of the solver's array or of each.
        max_steps: Most steps of one interval.
    """

    rtol: ArrayLike
    atol: ArrayLike
    max_steps: ArrayLike

    def tightened(self, factor: Any) -> "Precision":
        """Both tolerances divided by a factor, with room for the steps that this takes."""
        precision: Any = self
        return Precision(precision.rtol / factor, precision.atol / factor, 10 * precision.max_steps)


class Position(NamedTuple):
    """Where the solver stands.

    Attributes:
        state: The state; shape (s,).
        step: The step it would take next, in the twin's time unit.
        solved: Whether every interval so far was solved.
        num_steps: Steps taken so far, rejected ones included.
        modes: How each switch of the equations stands; shape (k,).
    """

    state: Array
    step: Array
    solved: Array
    num_steps: Array
    modes: Array = NONE


def march(
    take_step: AdaptiveStep,
    slope: Slope,
    start: Array,
    end: Array,
    at: Position,
    precision: Precision,
    size: Size = larger,
    interrupt: Interrupt | None = None,
) -> Position:
    """Solve from `start` to `end`.

    The step size carries no derivative: the result is differentiated as the sequence of steps that was taken. Only
    the time of an event that the state triggers has a derivative, and so has the step that leads on from it.

    Args:
        take_step: One step of the method.
        slope: The right-hand side.
        start: Time of `at`.
        end: Time to reach.
        at: Where the solver stands; it is left there once an interval has failed.
        precision: Tolerances and the most steps for this interval.
        size: What the relative tolerance is relative to.
        interrupt: Ends a step early where an event is triggered or the equations switch.

    Returns:
        Where the solver stands then; `solved` is False where it did not reach `end`.
    """
    smallest = 1e-12 * (end - start)
    # a step that suited an interval a million times shorter says nothing about this one
    at = at._replace(step=jnp.maximum(at.step, 1e-6 * (end - start)))

    def unfinished(loop: tuple[Array, Position, Array]) -> Array:
        t, now, taken = loop
        return now.solved & (t < end) & (taken < precision.max_steps) & (now.step > smallest)

    def body(loop: tuple[Array, Position, Array]) -> tuple[Array, Position, Array]:
        t, now, taken = loop
        t, now = attempt(take_step, slope, t, end, now, precision, size, interrupt)
        return t, now, taken + 1

    t, at, _ = lax.while_loop(unfinished, body, (start, at, jnp.zeros((), int)))
    return at._replace(solved=at.solved & (t >= end))


def trace(
    take_step: AdaptiveStep, slope: Slope, end: Array, at: Position, precision: Precision, size: Size, most: int
) -> tuple[Array, Array]:
    """The steps that fit the solution from 0 to `end`, with no stop between.

    Args:
        take_step: One step of the method.
        slope: The right-hand side.
        end: Time to reach.
        at: Where the solver stands at time 0.
        precision: Its tolerances.
        size: What the relative tolerance is relative to.
        most: Steps after which to give up.

    Returns:
        The time after each step, `end` where there was none any more, shape (most,); and whether `end` was reached.
    """

    def unfinished(loop: tuple[Array, Position, Array, Array]) -> Array:
        t, now, _, num = loop
        return now.solved & (t < end) & (num < most) & (now.num_steps < 2 * most) & (now.step > 1e-12 * end)

    def body(loop: tuple[Array, Position, Array, Array]) -> tuple[Array, Position, Array, Array]:
        t, now, times, num = loop
        after, now = attempt(take_step, slope, t, end, now, precision, size, None)
        return after, now, times.at[num].set(after), num + (after > t)

    start = (jnp.zeros_like(end), at, jnp.full(most, end), jnp.zeros((), int))
    t, at, times, _ = lax.while_loop(unfinished, body, start)
    return times, at.solved & (t >= end)


def attempt(
    take_step: AdaptiveStep,
    slope: Slope,
    t: Array,
    end: Array,
    now: Position,
    precision: Precision,
    size: Size,
    interrupt: Interrupt | None,
) -> tuple[Array, Position]:
    """Try one step: where the solver stands afterwards, at the same time if the step was rejected."""
    last = now.step >= end - t
    step = jnp.where(last, end - t, lax.stop_gradient(now.step))
    if interrupt is not None:
        slope = interrupt.slope_in(now.modes)
        take_step = functools.partial(take_step, compact=interrupt.compact)
    proposed, error = take_step(slope, t, now.state, step)
    scale = precision.atol + precision.rtol * size(now.state, proposed)
    norm = jnp.sqrt(jnp.mean(lax.stop_gradient(error / scale) ** 2))
    accepted = norm <= 1.0
    factor = jnp.clip(SAFETY * jnp.maximum(norm, 1e-10) ** -0.2, SHRINK_LEAST, GROW_MOST)
    suggested = lax.stop_gradient(step) * jnp.where(jnp.isfinite(norm), factor, SHRINK_LEAST)
    # a step cut short by `end` says little about the step that fits: do not shrink because of it
    following = jnp.where(accepted & last, jnp.maximum(now.step, suggested), suggested)
    modes = now.modes
    if interrupt is not None:
        part = functools.partial(take_step, compact=True)
        step, proposed, modes, stopped = interrupt(part, t, now, step, proposed, accepted)
        last &= ~stopped
    t = jnp.where(accepted, jnp.where(last, end, t + step), t)
    state = jnp.where(accepted, proposed, now.state)
    return t, Position(state, following, now.solved, now.num_steps + 1, modes)


def _stages(stage: Callable[..., Array], state: Array, rows: tuple[np.ndarray, ...]) -> Array:
    """All stages of a step in a loop: each from those before it, zero from itself on, and its row of each array."""

    def body(number: Array, found: Array) -> Array:
        return found.at[number].set(stage(found, *(jnp.asarray(row)[number] for row in rows)))

    num = len(rows[0])
    return lax.fori_loop(0, num, body, jnp.zeros((num, *state.shape)))


def _square(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows of a tableau, filled up with zeros."""
    return np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])


def weighted(weights: Sequence[float], vectors: Sequence[Array]) -> Array:
    """The sum of vectors, each times its weight; those of weight 0 are left out."""
    terms = [weight * vector for weight, vector in zip(weights, vectors, strict=True) if weight != 0.0]
    return sum(terms[1:], start=terms[0])


# One explicit Runge–Kutta step, Tsit5.
#
# C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.

# As diffrax has them to the bit; diffrax itself takes a second to import.
NODES = (0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
WEIGHTS = (*STAGES[-1], 0.0)
ERRORS = (
    0.0017800110522257773,
    0.0008164344596567463,
    -0.007880878010261994,
    0.1447110071732629,
    -0.5823571654525552,
    0.45808210592918686,
    -0.015151515151515152,
)


def take_tsit5_step(slope: Slope, t: Array, state: Array, step: Array, *, compact: bool = False) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    if compact:
        slopes = _stages(
            lambda found, node, stage: slope(t + node * step, state + step * (stage @ found)),
            state,
            (np.array((0.0, *NODES)), _square(((), *STAGES))),
        )
        return state + step * (np.array(WEIGHTS) @ slopes), step * (np.array(ERRORS) @ slopes)
    slopes = [slope(t, state)]
    for node, stage in zip(NODES, STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * weighted(stage, slopes)))
    return state + step * weighted(WEIGHTS, slopes), step * weighted(ERRORS, slopes)


advance_tsit5 = functools.partial(march, take_tsit5_step)


# One interval of the grid by the Rosenbrock method Rodas5P, for stiff twins: order 5(4), L-stable, eight stages.
#
# With J = ∂f/∂y, W = I / (γh) − J and f_t = ∂f/∂t, all at the start of a step of size h, the stages u_i and the step
# are
#
#     W u_i = f(t + c_i h, y + Σ_j a_ij u_j) + Σ_j C_ij u_j / h + d_i h f_t,   y ← y + Σ_i m_i u_i,   error = u_8.
#
# All stages share one W, and nothing is iterated: see `benchmarks/stiff.py` for what that is worth.
#
# G. Steinebach (2023), Construction of Rosenbrock–Wanner method Rodas5P, doi:10.1007/s10543-023-00967-x.

GAMMA = 0.21193756319429014
STIFF_NODES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
RATES = (GAMMA, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0)
_SIXTH = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)
STIFF_WEIGHTS = (*_SIXTH, 1.0, 1.0, 1.0)
STIFF_STAGES = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _SIXTH,
    (*_SIXTH, 1.0),
    (*_SIXTH, 1.0, 1.0),
)
COUPLINGS = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        *(30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783),
        *(-19.097331116725623, -28.087943162872662),
    ),
    (
        *(37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047),
        *(-40.06618937091002, -54.66780262877968, -9.48861652309627),
    ),
)


def take_rodas5p_step(
    slope: Slope, t: Array, state: Array, step: Array, *, compact: bool = False
) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error, which are not finite where W is singular."""
    jacobian = jax.jacfwd(slope, argnums=1)(t, state)
    drift = jax.jvp(lambda t: slope(t, state), (t,), (jnp.ones_like(t),))[1]
    matrix = jnp.eye(state.size) / (GAMMA * step) - jacobian
    inverse = invert(lax.stop_gradient(matrix))
    if compact:

        def one(found: Array, node: Array, rate: Array, stage: Array, coupling: Array) -> Array:
            right = slope(t + node * step, state + stage @ found) + rate * step * drift + coupling @ found / step
            return _solve(inverse, matrix, right)

        rows = (np.array(STIFF_NODES), np.array(RATES), _square(STIFF_STAGES), _square(COUPLINGS))
        every = _stages(one, state, rows)
        return state + np.array(STIFF_WEIGHTS) @ every, every[-1]
    found: list[Array] = []
    for node, rate, stage, coupling in zip(STIFF_NODES, RATES, STIFF_STAGES, COUPLINGS, strict=True):
        at = state + weighted(stage, found) if found else state
        right = slope(t + node * step, at) + rate * step * drift
        if found:
            right = right + weighted(coupling, found) / step
        found.append(_solve(inverse, matrix, right))
    return state + weighted(STIFF_WEIGHTS, found), found[-1]


advance_rodas5p = functools.partial(march, take_rodas5p_step)

LARGE = 32
"""Rows of a matrix from which on LAPACK inverts it faster: see `benchmarks/scaling.py`."""


def invert(matrix: Array) -> Array:
    """The inverse of a matrix, of a small one by Gauss–Jordan elimination with partial pivoting; shape (s, s).

    Under `vmap` every entry of the batch goes through the same few array operations, where LAPACK would be called
    once for each; with more than `LARGE` rows it is. Not finite where the matrix is singular or not finite itself.
    """
    size = len(matrix)
    if size > LARGE:
        return jnp.linalg.inv(matrix)
    rows = jnp.arange(size)

    def eliminate(k: Array, both: Array) -> Array:
        pivot = jnp.argmax(jnp.where(rows >= k, jnp.abs(both[:, k]), -1.0))
        both = both[jnp.where(rows == k, pivot, jnp.where(rows == pivot, k, rows))]
        row = both[k] / both[k, k]
        return jnp.where((rows == k)[:, None], row, both - jnp.outer(both[:, k], row))

    both = jnp.concatenate([matrix, jnp.eye(size)], axis=1)
    return lax.fori_loop(0, size, eliminate, both, unroll=size <= 16)[:, size:]


@jax.custom_jvp
def _solve(inverse: Array, matrix: Array, right: Array) -> Array:
    """The x of `matrix @ x = right`, whose derivative needs none of the elimination's."""
    del matrix
    return inverse @ right


@_solve.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    (inverse, matrix, right), (_, of_matrix, of_right) = primals, tangents
    x = _solve(inverse, matrix, right)
    return x, inverse @ (of_right - of_matrix @ x)


# Derivatives of a solve with respect to few quantities: all tangents in one batched forward pass.
#
# An adaptive solver is a loop whose length depends on its data, which reverse mode cannot go through. Its Jacobian by
# forward mode is cheap for few quantities; wrapped here it serves forward and reverse mode alike.

type WithRecord = Callable[..., tuple[Array, Any]]
"""(k,) → a result to differentiate, and a record of integers and flags that has no derivative; what else it takes has
none either."""


def through_jacobian(function: WithRecord) -> WithRecord:
    """Make `function` differentiable in both modes, by forming its Jacobian in forward mode.

    Args:
        function: Differentiable in forward mode.

    Returns:
        The same function; `jax.grad`, `jax.jvp` and their compositions work on its result.
    """

    @jax.custom_jvp
    def wrapped(theta: Array, *given: Any) -> tuple[Array, Any]:
        return function(theta, *given)

    @wrapped.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
        (theta, *given), (direction, *_) = primals, tangents

        def along(basis: Array) -> tuple[Array, Array, Any]:
            return jax.jvp(lambda theta: function(theta, *given), (theta,), (basis,), has_aux=True)

        basis = jnp.eye(theta.shape[0], dtype=theta.dtype)
        value, jacobian, record = jax.vmap(along, out_axes=(None, 0, None))(basis)
        # a failed solve has no derivative; zero keeps NaN out of everything that is masked out later
        jacobian = jnp.where(jnp.isfinite(jacobian), jacobian, 0.0)
        no_tangent = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), record)
        return (value, record), (jnp.tensordot(direction, jacobian, axes=1), no_tangent)

    return wrapped
