"""Events that the state triggers: where in a step one happens, and how that moment depends on what is inferred.

The moment is bracketed by bisection. One Newton step from there, of length zero but with a derivative, makes it move
with the parameters as the implicit function theorem says.

Y. Chen et al. (2021), arXiv:2011.03902.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.dynamics.adaptive import AdaptiveStep, Interrupt, Slope
from bayestwin.dynamics.field import Field, InputsAt
from bayestwin.model.tracing import namespace

HALVINGS = 50
"""Halvings of the bracket: 2⁻⁵⁰ of a step is next to nothing."""

type Triggers = Callable[[Array, Array], Array]
"""`(t, state)` → one number for each event, which crosses zero from below where it happens; shapes (), (s,) → (k,)."""


def triggers_of(field: Field, inputs_at: InputsAt) -> Triggers:
    """The numbers whose crossing zero is an event, in the order of `twin.triggered`."""
    u_of = namespace("inputs", tuple(field.twin.inputs))
    functions = [field.twin.events[name].when for name in field.twin.triggered]

    def triggers(t: Array, state: Array) -> Array:
        x, p = field.named(field.values(state))
        u = u_of(*inputs_at(t))
        return jnp.stack([jnp.asarray(when(t, x, p, u), float) for when in functions])  # type: ignore[misc]

    return triggers


def happen(field: Field, inputs_at: InputsAt, which: Array, t: Array, state: Array) -> Array:
    """The state right after those events that the state triggers, one after the other; whether each is, shape (k,)."""
    inputs = dict(zip(field.twin.inputs, inputs_at(t), strict=True))
    for name, happens in zip(field.twin.triggered, which, strict=True):
        state = jnp.where(happens, field.jump(name, t, state, inputs | {name: jnp.ones(())}), state)
    return state


def build_interrupt(field: Field, inputs_at: InputsAt) -> Interrupt:
    """What ends a step where the state triggers an event.

    Args:
        field: The twin with its parameters.
        inputs_at: Inputs within the interval that is being solved.

    Returns:
        `(take_step, slope, t, state, step, proposed, accepted)` → the step up to the first event within it, the state
        right after, and whether there was one; the step and the state proposed where there was none.
    """
    triggers = triggers_of(field, inputs_at)

    def interrupt(
        take_step: AdaptiveStep, slope: Slope, t: Array, state: Array, step: Array, proposed: Array, accepted: Array
    ) -> tuple[Array, Array, Array]:
        one = jnp.ones_like(t)
        before, falling = jax.jvp(triggers, (t, state), (one, slope(t, state)))
        # right after an event it is at zero; it can happen again once it has fallen, be that within this step
        armed = (before < 0.0) | ((before == 0.0) & (falling < 0.0))
        at_end = armed & (triggers(t + step, proposed) >= 0.0)
        happens = accepted & at_end.any()

        def after(part: Array) -> tuple[Array, Array]:
            there, _ = take_step(slope, t, state, part)
            return triggers(t + part, there), there

        # which events are crossed is what the search saw: so near to zero, asking again may give another answer
        nearest, which = _bracket(
            lambda part: armed & (after(part)[0] >= 0.0), lax.stop_gradient(step), at_end, happens
        )
        level, rate = jax.jvp(lambda part: after(part)[0][jnp.argmax(which)], (nearest,), (one,))
        rate = lax.stop_gradient(jnp.where(rate == 0.0, 1.0, rate))
        part = nearest - (level - lax.stop_gradient(level)) / rate
        levels, there = after(part)
        there = happen(field, inputs_at, which, t + part, there)
        there = across(field, inputs_at, jnp.where(which, 0.0, levels), t + part, there)
        return jnp.where(happens, part, step), jnp.where(happens, there, proposed), happens

    return interrupt


def across(field: Field, inputs_at: InputsAt, before: Array, t: Array, state: Array) -> Array:
    """The state after those events that an input or another event has just triggered by a jump.

    Args:
        field: The twin with its parameters.
        inputs_at: Inputs from now on.
        before: What `triggers_of` gave until now; shape (k,).
        t: Now.
        state: Shape (s,).
    """
    return happen(field, inputs_at, (before < 0.0) & (triggers_of(field, inputs_at)(t, state) >= 0.0), t, state)


def _bracket(crossed: Callable[[Array], Array], step: Array, at_end: Array, happens: Array) -> tuple[Array, Array]:
    """The end of the shortest bracketed part of a step within which some event is crossed, and which are there.

    Args:
        crossed: Which events are crossed after a part of the step; shape (k,).
        step: The whole of it.
        at_end: Which are crossed at its end.
        happens: Whether any is; where none is nothing is looked for.
    """

    def unfinished(loop: tuple[Array, ...]) -> Array:
        return happens & (loop[3] < HALVINGS)

    def halve(loop: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, at_high, number = loop
        middle = (low + high) / 2.0
        there = crossed(lax.stop_gradient(middle))
        beyond = there.any()
        low, high = jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)
        return low, high, jnp.where(beyond, there, at_high), number + 1

    _, high, at_high, _ = lax.while_loop(unfinished, halve, (jnp.zeros_like(step), step, at_end, jnp.zeros((), int)))
    return high, at_high
