"""What ends a step, events that the state triggers and switches, and how that moment depends on what is inferred.

The moment is bracketed by bisection. One Newton step from there, of length zero but with a derivative, makes it move
with the parameters as the implicit function theorem says.

Y. Chen et al. (2021), arXiv:2011.03902.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics.field import Field, InputsAt
from bayestwin.dynamics.steppers import AdaptiveStep, Position, Slope, invert
from bayestwin.dynamics.switching import ABOVE, BELOW, SLIDING

HALVINGS = 50
"""Halvings of the bracket: 2⁻⁵⁰ of a step is next to nothing."""

NEAR = 1e-10
"""A gap that closes within this share of a step is closed: what was found as zero is zero but for rounding."""


class Held(NamedTuple):
    """What the equations say while their switches stay as they are.

    Attributes:
        slope: The right-hand side; shape (s,).
        gaps: How far each switch is from changing; shape (k,).
        rates: How fast these change along the slope; shape (k,).
        share: How much of the slope is that above a surface, where the state slides along it; shape (k,).
    """

    slope: Array
    gaps: Array
    rates: Array
    share: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Crossings:
    """Looks for events and switches within the steps of one interval; e events, k modes, s states.

    A level is negative while nothing happens and crosses zero from below where something does: an event, a switch that
    changes its side or its whole number, or a state that leaves the surface of a switch along which it slides.

    Attributes:
        field: The twin with its parameters.
        inputs_at: Inputs within the interval.
    """

    field: Field
    inputs_at: InputsAt

    def slope_in(self, modes: Array) -> Slope:
        """The right-hand side while its switches stay as they are; shape (k,)."""
        if not len(self.field.equations.slide):
            return lambda t, state: self.field.hold(self.inputs_at, t, state, modes)[0]
        return lambda t, state: self._hold(t, state, modes).slope

    @property
    def compact(self) -> bool:
        """Whether the right-hand side is so long that steps are to be compact: where each is of several sides."""
        return len(self.field.equations.slide) > 0

    def triggers(self, t: Array, state: Array) -> Array:
        """The numbers whose crossing zero is an event, in the order of `twin.triggered`; shape (e,)."""
        x, p, u = self.field.arguments(self.inputs_at, t, state)
        functions = [self.field.twin.events[name].when for name in self.field.twin.triggered]
        levels = [jnp.asarray(when(t, x, p, u), float) for when in functions]  # type: ignore[misc]
        return jnp.stack(levels) if levels else jnp.zeros(0)

    def gaps(self, t: Array, state: Array, modes: Array) -> Array:
        """How far each switch is from changing; shape (k,)."""
        return self.field.hold(self.inputs_at, t, state, _one_side(modes))[1]

    def resume(self, t: Array, now: Position, levels: Array, gaps: Array) -> Position:
        """Where the solver stands after inputs or known events may have jumped.

        Args:
            t: Now.
            now: With the state after the jump, and the modes before it.
            levels: What `triggers` gave before it; shape (e,).
            gaps: What `gaps` gave before it, NaN at the very start; shape (k,).
        """
        state = self._across(levels, t, now.state)
        return now._replace(state=state, modes=self._settle_all(t, state, now.modes, gaps))

    def __call__(
        self, take_step: AdaptiveStep, t: Array, now: Position, step: Array, proposed: Array, accepted: Array
    ) -> tuple[Array, Array, Array, Array]:
        """The step up to the first event or switch within a proposed one, if there is any.

        As `steppers.Interrupt` says.
        """
        slope, one = self.slope_in(now.modes), jnp.ones_like(t)

        def levels(t: Array, state: Array) -> Array:
            return self._levels(t, state, now.modes)[0]

        before, falling = self._levels(t, now.state, now.modes)
        at_end = levels(t + step, proposed)
        armed, late = self._armed(before, falling, at_end, step)
        at_end = (armed & (at_end >= 0.0)) | late
        happens = accepted & at_end.any()

        def after(part: Array) -> tuple[Array, Array]:
            there, _ = take_step(slope, t, now.state, part)
            return levels(t + part, there), there

        def locate(_: tuple[Array, ...]) -> tuple[Array, ...]:
            # which levels are crossed is what the search saw: so near to zero, asking again may give another answer
            nearest, which = _bracket(lambda part: (armed & (after(part)[0] >= 0.0)) | late, step, at_end)
            first = jnp.argmax(which)
            (level, there), (rate, drift) = jax.jvp(after, (nearest,), (one,))
            rate = lax.stop_gradient(jnp.where(rate[first] == 0.0, 1.0, rate[first]))
            # of length zero, but with a derivative; a switch that is late changes when it is seen, whatever is inferred
            moved = jnp.where(late[first], 0.0, (level[first] - lax.stop_gradient(level[first])) / rate)
            part, there = nearest - moved, there - drift * moved
            there, modes = self._happen(which, t + part, level, there, now.modes)
            return jnp.asarray(True), part, there, modes

        # a loop of one turn at most: where nothing happens in a whole batch, nothing is computed
        found = (~happens, step, proposed, now.modes)
        _, part, there, modes = lax.while_loop(lambda loop: ~loop[0], locate, found)
        return part, there, modes, happens

    @property
    def _num_events(self) -> int:
        return len(self.field.twin.triggered)

    def _armed(self, before: Array, falling: Array, at_end: Array, step: Array) -> tuple[Array, Array]:
        """Which levels may be crossed within a step, and which switches should have changed before it.

        Right after something has happened its level is at zero. It can happen again once that has fallen, be that
        within this step.
        """
        is_switch = np.arange(len(before)) >= self._num_events
        near = jnp.where(is_switch, jnp.abs(before) <= NEAR * jnp.abs(falling) * step, before == 0.0)
        armed = jnp.where(near, falling < 0.0, before < 0.0)
        outside = jnp.where(near, falling > 0.0, (before > 0.0) & (at_end > before))
        return armed, jnp.asarray(is_switch) & ~armed & (at_end > 0.0) & outside

    def _levels(self, t: Array, state: Array, modes: Array) -> tuple[Array, Array]:
        """The levels, and how fast they change; shape (e + k,) each. Where a state slides the second is not right."""
        held, equations = self._hold(t, state, modes), self.field.equations
        events = jax.jvp(self.triggers, (t, state), (jnp.ones_like(t), held.slope))
        lower, upper = modes - (equations.to_zero & (modes <= 0.0)), modes + 1.0 - (equations.to_zero & (modes < 0.0))
        beyond = held.gaps - upper > lower - held.gaps
        sign = jnp.where(equations.sides, jnp.where(modes == ABOVE, -1.0, 1.0), jnp.where(beyond, 1.0, -1.0))
        whole = jnp.where(beyond, held.gaps - upper, lower - held.gaps)
        level = jnp.where(equations.sides, sign * held.gaps, whole)
        level = jnp.where(modes == SLIDING, jnp.maximum(-held.share, held.share - 1.0), level)
        return jnp.concatenate([events[0], level]), jnp.concatenate([events[1], sign * held.rates])

    def _hold(self, t: Array, state: Array, modes: Array) -> Held:
        """The right-hand side and the gaps. Along a surface both sides are mixed so that its gap stays at zero."""
        base, able = _one_side(modes), self.field.equations.slide

        def along(slope: Array) -> Array:
            """How fast the gaps change along a slope."""
            gaps = lambda t, state: self.field.hold(self.inputs_at, t, state, base)[1]  # noqa: E731
            return jax.jvp(gaps, (t, state), (jnp.ones_like(t), slope))[1]

        if not len(able):
            slope, gaps = self.field.hold(self.inputs_at, t, state, base)
            return Held(slope, gaps, along(slope), jnp.zeros_like(gaps))
        on_top = np.zeros((1 + len(able), len(modes)), bool)
        on_top[np.arange(len(able)) + 1, able] = True
        held = jax.vmap(lambda modes: self.field.hold(self.inputs_at, t, state, modes))
        slopes, gaps = held(jnp.where(on_top, ABOVE, base))
        rates = jax.vmap(along)(slopes)
        sliding = modes[able] == SLIDING
        gained, drawn = slopes[1:] - slopes[:1], rates[1:] - rates[:1]
        share = _mix(sliding, drawn[:, able].T, -rates[0, able])
        whole = jnp.zeros_like(gaps[0]).at[able].set(share)
        return Held(slopes[0] + share @ gained, gaps[0], rates[0] + share @ drawn, whole)

    def _happen(self, which: Array, t: Array, levels: Array, state: Array, modes: Array) -> tuple[Array, Array]:
        """State and modes after what happens now; shapes (e + k,), (), (e + k,), (s,), (k,)."""
        num, held = self._num_events, self._hold(t, state, modes)
        state = self._jump(which[:num], t, state)
        state = self._across(jnp.where(which, 0.0, levels)[:num], t, state)
        left = jnp.where(held.share >= SLIDING, ABOVE, BELOW)
        side = jnp.where(modes == SLIDING, left, ABOVE + BELOW - modes)
        whole = modes + jnp.where(held.gaps > modes, 1.0, -1.0)
        changed = jnp.where(which[num:], jnp.where(self.field.equations.sides, side, whole), modes)
        changed = self._follow(t, state, changed, held.gaps)
        settling = which[num:] & (modes != SLIDING)
        return state, self._settle(t, state, changed, settling)

    def _settle_all(self, t: Array, state: Array, modes: Array, gaps: Array) -> Array:
        """The modes after a jump."""
        modes = self._follow(t, state, modes, gaps)
        held = self._hold(t, state, modes)
        left = jnp.where(held.share < 0.0, BELOW, jnp.where(held.share > 1.0, ABOVE, SLIDING))
        on_surface = (held.gaps == 0.0) & (modes != SLIDING)
        return self._settle(t, state, jnp.where(modes == SLIDING, left, modes), on_surface)

    def _follow(self, t: Array, state: Array, modes: Array, gaps: Array) -> Array:
        x, p, u = self.field.operands(self.inputs_at, t, state)
        return self.field.equations.follow(t, x, p, u, modes, gaps)

    def _settle(self, t: Array, state: Array, modes: Array, which: Array) -> Array:
        """To which side of their surfaces switches lead the state that lies on them, or along them; shape (k,)."""
        able = self.field.equations.slide
        if not len(able):
            return modes

        def rate(number: ArrayLike, side: ArrayLike) -> Array:
            return self._hold(t, state, modes.at[number].set(side)).rates[number]

        numbers, sides = np.tile(able, 2), np.repeat([BELOW, ABOVE], len(able))
        below, above = jax.vmap(rate)(numbers, sides).reshape(2, -1)
        towards = jnp.where(below + above > 0.0, ABOVE, BELOW)
        found = jnp.where((below > 0.0) & (above < 0.0), SLIDING, towards)
        apart = ((below < 0.0) & (above > 0.0)) | ((below == 0.0) & (above == 0.0))
        found = jnp.where(apart, modes[able], found)
        return modes.at[able].set(jnp.where(which[able], found, modes[able]))

    def _across(self, before: Array, t: Array, state: Array) -> Array:
        """The state after those events that an input or another event has just triggered by a jump; shape (e,)."""
        return self._jump((before < 0.0) & (self.triggers(t, state) >= 0.0), t, state)

    def _jump(self, which: Array, t: Array, state: Array) -> Array:
        """The state right after some events that it triggers, one after the other; whether each is, shape (e,)."""
        inputs = dict(zip(self.field.twin.inputs, self.inputs_at(t), strict=False))  # delayed ones come after them
        for name, happens in zip(self.field.twin.triggered, which, strict=True):
            state = jnp.where(happens, self.field.jump(name, t, state, inputs | {name: jnp.ones(())}), state)
        return state


def _one_side(modes: Array) -> Array:
    """Modes in which what slides is held below its surface."""
    return jnp.where(modes == SLIDING, BELOW, modes)


def _mix(sliding: Array, matrix: Array, wanted: Array) -> Array:
    """The shares of the sides above for which gaps stay as they are, 0 where nothing slides; shapes (i,), (i, i)."""
    wanted = jnp.where(sliding, wanted, 0.0)
    if len(wanted) == 1:
        return wanted / jnp.where(sliding, matrix[0], 1.0)
    return invert(jnp.where(sliding[:, None] & sliding[None], matrix, jnp.eye(len(wanted)))) @ wanted


def _bracket(crossed: Callable[[Array], Array], step: Array, at_end: Array) -> tuple[Array, Array]:
    """The end of the shortest bracketed part of a step within which some level is crossed, and which are there.

    Args:
        crossed: Which levels are crossed after a part of the step; shape (e + k,).
        step: The whole of it.
        at_end: Which are crossed at its end.
    """
    step = lax.stop_gradient(step)

    def halve(_: int, loop: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, at_high = loop
        middle = (low + high) / 2.0
        there = crossed(lax.stop_gradient(middle))
        beyond = there.any()
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high), jnp.where(beyond, there, at_high)

    _, high, at_high = lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(step), step, at_end))
    return high, at_high
