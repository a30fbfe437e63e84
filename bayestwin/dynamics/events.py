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
    """The state right after the event of that number among those that the state triggers."""
    inputs = dict(zip(field.twin.inputs, inputs_at(t), strict=True))

    def effect(name: str) -> Callable[[Array, Array], Array]:
        return lambda t, state: field.jump(name, t, state, inputs | {name: jnp.ones(())})

    return lax.switch(which, [effect(name) for name in field.twin.triggered], t, state)


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
        happens = accepted & (armed & (triggers(t + step, proposed) >= 0.0)).any()

        def after(part: Array) -> tuple[Array, Array]:
            there, _ = take_step(slope, t, state, part)
            return triggers(t + part, there), there

        nearest = _bracket(lambda part: armed & (after(part)[0] >= 0.0), lax.stop_gradient(step), happens)
        which = jnp.argmax(armed & (after(nearest)[0] >= 0.0))
        level, rate = jax.jvp(lambda part: after(part)[0][which], (nearest,), (one,))
        rate = lax.stop_gradient(jnp.where(rate == 0.0, 1.0, rate))
        part = nearest - (level - lax.stop_gradient(level)) / rate
        there = happen(field, inputs_at, which, t + part, after(part)[1])
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
    crossed = (before < 0.0) & (triggers_of(field, inputs_at)(t, state) >= 0.0)
    for number in range(len(field.twin.triggered)):
        state = jnp.where(crossed[number], happen(field, inputs_at, jnp.asarray(number), t, state), state)
    return state


def _bracket(crossed: Callable[[Array], Array], step: Array, happens: Array) -> Array:
    """The end of the shortest bracketed part of a step within which some event is crossed; without derivatives."""

    def unfinished(loop: tuple[Array, Array, Array]) -> Array:
        return happens & (loop[2] < HALVINGS)

    def halve(loop: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, number = loop
        middle = (low + high) / 2.0
        beyond = lax.stop_gradient(crossed(middle)).any()
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high), number + 1

    return lax.while_loop(unfinished, halve, (jnp.zeros_like(step), step, jnp.zeros((), int)))[1]
