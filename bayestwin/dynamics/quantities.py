"""What a path does between its stops: largest and smallest values, and when conditions hold, found within solver steps.

Within a step the path is the polynomial that has its values, slopes and curvatures at both ends, of one order more than
the step. Each function of it is cut at its turning point, where its rate changes sign; either part is monotone, so that
a change of sign at its ends is one crossing. Nothing is sampled.

T. R. Chandrupatla (1997), doi:10.1016/S0965-9978(96)00051-8.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics.events import Crossings
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid, hermite, inputs_from
from bayestwin.dynamics.moving import move_stops
from bayestwin.dynamics.solve import begin
from bayestwin.dynamics.steppers import AdaptiveStep, Position, Slope, attempt, take_rodas5p_step, take_tsit5_step
from bayestwin.model.twin import Twin
from bayestwin.model.types import Observed

NARROWEST, MOST_TURNS = 1e-11, 60
"""Shares of a step to which a moment is found, and the most turns that the search takes."""


class Watched(NamedTuple):
    """What is looked for along a path.

    Attributes:
        integrals: States that begin at zero with the window.
        functions: `(t, x, p, u)` → numbers, k in all; those that stand for a condition are positive where it holds.
        conditions: Which of them are conditions.
    """

    integrals: tuple[str, ...]
    functions: tuple[Observed, ...]
    conditions: tuple[bool, ...]


class Occurrences(NamedTuple):
    """What has been seen of k functions so far; shape (k,) each.

    Attributes:
        highest: The largest value.
        lowest: The smallest value.
        lasted: For how long it was positive.
        first: When it was so first; infinite where it was not.
        run: For how long it has been so without a break.
        longest: The longest time for which it was.
    """

    highest: Array
    lowest: Array
    lasted: Array
    first: Array
    run: Array
    longest: Array


class Followed(NamedTuple):
    """What became of a path within a window, from the first saved time to the last one.

    Attributes:
        seen: Of the functions.
        integrals: By the order of `Watched.integrals`; shape (i,).
        length: Of the window.
        solved: Whether the path reached its end.
    """

    seen: Occurrences
    integrals: Array
    length: Array
    solved: Array


def follow(twin: Twin, grid: Grid, values: Mapping[str, ArrayLike], watched: Watched) -> Followed:
    """Solve a twin, and look for what happens between its first and its last saved time.

    Args:
        twin: The twin, with the integrals among its states.
        grid: Where to stop; of several experiments where its arrays have a leading axis.
        values: As of `solve`.
        watched: What is looked for.
    """
    if jnp.ndim(grid.edges) == 2:
        axes = {name: 0 if jnp.ndim(value) else None for name, value in values.items()}
        one = functools.partial(follow, twin, watched=watched)
        return jax.vmap(one, in_axes=(0, axes))(jax.tree.map(jnp.asarray, grid), dict(values))
    field, state, found = begin(twin, grid, values)
    if twin.moving:
        grid, _, known = move_stops(field, grid)
        found &= known
    path = _Path(field, watched, take_rodas5p_step if twin.solver.method == "rodas5p" else take_tsit5_step)
    edges, save = jnp.asarray(grid.edges), jnp.asarray(grid.save)
    number = jnp.arange(len(grid.edges) - 1)
    inside = (number >= save[0]) & (number < save[-1])
    first = jnp.diff(edges).max() if len(edges) > 1 else jnp.ones(())
    at = Position(state, first, found, jnp.zeros((), int), jnp.zeros(field.equations.count))
    nothing = jnp.zeros(len(watched.functions))
    seen = Occurrences(nothing - jnp.inf, nothing + jnp.inf, nothing, nothing + jnp.inf, nothing, nothing)
    levels, gaps = jnp.zeros(len(twin.triggered)), jnp.full(field.equations.count, jnp.nan)
    spans = (
        edges[:-1],
        edges[1:],
        jnp.asarray(grid.coefficients),
        jnp.asarray(grid.amounts),
        inside,
        number == save[0],
    )
    (at, _, _, seen), _ = lax.scan(functools.partial(path.interval, grid), (at, levels, gaps, seen), spans)
    begins, ends = edges[save[0]], edges[save[-1]]
    integrals = jnp.where(save[0] == save[-1], 0.0, path.integrals(at.state))
    solved = at.solved & jnp.isfinite(at.state).all()
    seen = seen._replace(first=seen.first - begins)
    return Followed(seen, integrals, ends - begins, solved)


class _Path:
    """A twin with its parameters, and what is looked for along its path."""

    def __init__(self, field: Field, watched: Watched, take_step: AdaptiveStep) -> None:
        self.field, self.watched, self.take_step = field, watched, take_step
        places = field.twin.layout.places
        self.counted = jnp.array([places[name].start for name in watched.integrals], int)

    def integrals(self, state: Array) -> Array:
        """Their values; shape (i,)."""
        return state[self.counted]

    def interval(self, grid: Grid, loop: tuple[Any, ...], span: tuple[Array, ...]) -> tuple[tuple[Any, ...], None]:
        """From one stop to the next, as `solve` goes there."""
        (at, levels, gaps, seen), (start, end, coefficients, amounts, inside, begins) = loop, span
        field, inputs_at = self.field, inputs_from(start, coefficients)
        state = field.anew(field.happen(start, at.state, coefficients[0], amounts))
        at = at._replace(state=jnp.where(begins, state.at[self.counted].set(0.0), state))
        crossings = Crossings(field, inputs_at) if field.interrupted else None
        if crossings is not None:
            at = crossings.resume(start, at, levels, gaps)
        at, seen = self._march(start, end, at, seen, inside, inputs_at, crossings, grid)
        if crossings is not None:
            levels, gaps = crossings.triggers(end, at.state), crossings.gaps(end, at.state, at.modes)
        return (at, levels, gaps, seen), None

    def _march(
        self,
        start: Array,
        end: Array,
        at: Position,
        seen: Occurrences,
        inside: Array,
        inputs_at: Callable[[Array], Array],
        crossings: Crossings | None,
        grid: Grid,
    ) -> tuple[Position, Occurrences]:
        """As `steppers.march`, and after each step what was seen within it."""
        smallest, precision = 1e-12 * (end - start), grid.precision
        at = at._replace(step=jnp.maximum(at.step, 1e-6 * (end - start)))
        whole = self.field.slope(inputs_at)

        def unfinished(loop: tuple[Array, Position, Array, Occurrences]) -> Array:
            t, now, taken, _ = loop
            return now.solved & (t < end) & (taken < precision.max_steps) & (now.step > smallest)

        def body(loop: tuple[Array, Position, Array, Occurrences]) -> tuple[Array, Position, Array, Occurrences]:
            t, now, taken, seen = loop
            after, new = attempt(self.take_step, whole, t, end, now, precision, self.field.size, crossings)
            slope = whole if crossings is None else crossings.slope_in(now.modes)

            if self.watched.functions:
                seen = _if_any(
                    inside & (after > t), lambda: self._look(seen, t, after, now.state, slope, inputs_at), seen
                )
            return after, new, taken + 1, seen

        t, at, _, seen = lax.while_loop(unfinished, body, (start, at, jnp.zeros((), int), seen))
        return at._replace(solved=at.solved & (t >= end)), seen

    def _look(
        self, seen: Occurrences, t: Array, after: Array, state: Array, slope: Slope, inputs_at: Callable[[Array], Array]
    ) -> Occurrences:
        """What has been seen after one more step: it is taken again, since an event may have ended it."""
        close = self.take_step(slope, t, state, after - t, compact=True)[0]

        def derivatives(t: Array, state: Array) -> tuple[Array, Array]:
            first = slope(t, state)
            return first, jax.jvp(slope, (t, state), (jnp.ones_like(t), first))[1]

        ends = [(state, *derivatives(t, state)), (close, *derivatives(after, close))]
        powers = jnp.array([1.0, after - t, (after - t) ** 2])[:, None]
        known = jnp.stack([powers * jnp.stack(end) for end in ends], axis=1).reshape(6, -1)
        return _Step(self, t, after - t, known, inputs_at).look(seen)


class _Step(NamedTuple):
    """One step of a path: the path within it, and the k functions along that; parts of it are from 0 to 1.

    Attributes:
        path: Whose it is.
        t: When it begins.
        length: How long it is.
        known: Value, slope and curvature, in units of the step, each at its start and its end; shape (6, s).
        inputs_at: Inputs by time.
    """

    path: _Path
    t: Array
    length: Array
    known: Array
    inputs_at: Callable[[Array], Array]

    def values(self, part: Array) -> Array:
        """The functions at a part of the step; shape (k,)."""
        t, state = self.t + part * self.length, jnp.stack(hermite(part)) @ self.known
        x, p, u = self.path.field.arguments(self.inputs_at, t, state)
        return jnp.stack([jnp.asarray(one(t, x, p, u), float) for one in self.path.watched.functions])

    def rates(self, part: Array) -> tuple[Array, Array]:
        """Their values, and how fast they change; shape (k,) each."""
        return jax.jvp(self.values, (part,), (jnp.ones_like(part),))

    def own_values(self, parts: Array) -> Array:
        """Each function at a part of its own; shape (k,)."""
        return jnp.diagonal(jax.vmap(self.values)(parts))

    def own_rates(self, parts: Array) -> Array:
        """How fast each function changes at a part of its own; shape (k,)."""
        return jnp.diagonal(jax.vmap(lambda part: self.rates(part)[1])(parts))

    def look(self, seen: Occurrences) -> Occurrences:
        """What has been seen after this step."""
        begin, rising = self.rates(jnp.zeros(()))
        close, falling = self.rates(jnp.ones(()))
        turns = rising * falling < 0.0
        start, end = jnp.zeros_like(begin), jnp.ones_like(begin)
        turn = _root(self.own_rates, (start, rising), (end, falling), turns)
        middle = jnp.where(turns, _if_any(turns.any(), lambda: self.own_values(turn), close), close)
        peaks = jnp.stack([begin, middle, close])
        seen = seen._replace(
            highest=jnp.maximum(seen.highest, peaks.max(axis=0)), lowest=jnp.minimum(seen.lowest, peaks.min(axis=0))
        )
        conditions = jnp.array(self.path.watched.conditions)
        for first, last, since, until in ((begin, middle, start, turn), (middle, close, turn, end)):
            before, after = first >= 0.0, last >= 0.0
            crossed = (before != after) & conditions
            at = _root(self.own_values, (since, first), (until, last), crossed)
            seen = _noted(seen, self.t, jnp.stack([since, at, until]) * self.length, before, after)
        return seen


def _root(
    function: Callable[[Array], Array], low: tuple[Array, Array], high: tuple[Array, Array], wanted: Array
) -> Array:
    """Where k functions change sign, by Chandrupatla's method; the upper end where none is wanted; shape (k,).

    Its derivative is that of the implicit function: a search by brackets has none.

    Args:
        function: From places, shape (k,), to the value of each function at its own.
        low: Where each bracket begins, and the values there; shape (k,) each.
        high: Where it ends, likewise.
        wanted: Which of them change within their brackets; shape (k,).
    """

    def search(function: Callable[[Array], Array], _: Array) -> Array:
        return _searched(function, *lax.stop_gradient((low, high)), wanted)

    def along(linear: Callable[[Array], Array], shift: Array) -> Array:
        return shift / _apart(linear(jnp.ones_like(shift)))

    return jnp.where(wanted, lax.custom_root(function, low[0], search, along), high[0])


def _searched(
    function: Callable[[Array], Array], low: tuple[Array, Array], high: tuple[Array, Array], wanted: Array
) -> Array:
    """As `_root`, without derivatives; anything where none is wanted."""

    def unfinished(loop: tuple[Any, ...]) -> Array:
        number, (a, fa), (b, fb), *_ = loop
        open_ = wanted & (jnp.abs(b - a) > NARROWEST) & (fa != 0.0) & (fb != 0.0)
        return open_.any() & (number < MOST_TURNS)

    def body(loop: tuple[Any, ...]) -> tuple[Any, ...]:
        number, (a, fa), (b, fb), (c, fc), part = loop
        place = a + part * (b - a)
        value = function(place)
        same = jnp.sign(value) == jnp.sign(fa)
        c, fc = jnp.where(same, a, b), jnp.where(same, fa, fb)
        b, fb = jnp.where(same, b, a), jnp.where(same, fb, fa)
        a, fa = place, value
        xi, phi = (a - b) / _apart(c - b), (fa - fb) / _apart(fc - fb)
        inverse = (phi**2 < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
        slopes = _apart(fb - fa), _apart(fb - fc), _apart(fc - fa)
        quadratic = fa / slopes[0] * fc / slopes[1] + (c - a) / _apart(b - a) * fa / slopes[2] * fb / -slopes[1]
        least = 0.5 * NARROWEST / _apart(jnp.abs(b - a))
        part = jnp.clip(jnp.where(inverse, quadratic, 0.5), jnp.minimum(least, 0.5), jnp.maximum(1.0 - least, 0.5))
        return number + 1, (a, fa), (b, fb), (c, fc), part

    begun = (jnp.zeros((), int), high, low, low, jnp.full_like(low[0], 0.5))
    _, (a, fa), (b, fb), *_ = lax.while_loop(unfinished, body, begun)
    return jnp.where(jnp.abs(fa) < jnp.abs(fb), a, b)


def _apart(difference: Array) -> Array:
    """A difference by which can be divided."""
    return jnp.where(difference == 0.0, 1.0, difference)


def _if_any[T](wanted: Array, compute: Callable[[], T], otherwise: T) -> T:
    """What is computed where it is wanted; a loop of one turn at most, which a batch of which none wants it skips."""
    loop = (~wanted, otherwise)
    return lax.while_loop(lambda loop: ~loop[0], lambda _: (jnp.asarray(True), compute()), loop)[1]


def _noted(seen: Occurrences, t: Array, moments: Array, before: Array, after: Array) -> Occurrences:
    """What has been seen after one more piece of a step, in which each condition changes once at most.

    Args:
        seen: Before it.
        t: When the step begins.
        moments: Since then, when the piece begins, where the condition changes, when it ends; shape (3, k).
        before: Whether each condition holds when it begins; shape (k,).
        after: Whether it does when it ends; shape (k,).
    """
    since, at, until = moments
    held = jnp.where(before, jnp.where(after, until, at) - since, jnp.where(after, until - at, 0.0))
    began = jnp.where(before, t + since, jnp.where(after, t + at, jnp.inf))
    whole = jnp.where(before, seen.run + held, 0.0)
    return seen._replace(
        lasted=seen.lasted + held,
        first=jnp.minimum(seen.first, began),
        run=jnp.where(after, jnp.where(before, whole, held), 0.0),
        longest=jnp.maximum(seen.longest, jnp.maximum(whole, held)),
    )
