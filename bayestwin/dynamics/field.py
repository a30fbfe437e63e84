"""A twin as functions of one plain array, which is what solvers work on.

That array has the twin's states, positive ones as their logarithms, and then each parameter that an event changes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.dynamics.adaptive import Slope, larger
from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin

type InputsAt = Callable[[Array], Array]
"""Time → inputs, shape (q,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """A twin with its parameters filled in; the solver's array has shape (s,).

    Attributes:
        twin: The twin.
        p: Parameters, as they are at the start.
    """

    twin: Twin
    p: Any

    @functools.cached_property
    def logs(self) -> np.ndarray:
        """Which entries are logarithms; shape (s,)."""
        return np.array([state.positive for state in self.twin.states.values()] + [False] * len(self.twin.switched))

    def pack(self, values: Array) -> Array:
        """The solver's array for values of the twin's states at the start."""
        switched = [jnp.asarray(getattr(self.p, name), float) for name in self.twin.switched]
        return self._logarithms(jnp.concatenate([values, jnp.stack(switched)]) if switched else values)

    def values(self, state: Array) -> Array:
        """Values of the twin's states, and of the parameters that events change; any leading axes, then (s,)."""
        if not self.logs.any():
            return state
        return jnp.where(self.logs, jnp.exp(jnp.where(self.logs, state, 0.0)), state)

    def named(self, values: Array) -> tuple[Any, Any]:
        """States and parameters by name, from what `values` gives at one time."""
        x = namespace("states", tuple(self.twin.states))(*values[: len(self.twin.states)])
        switched = values[len(self.twin.states) :]
        return x, self.p._replace(**dict(zip(self.twin.switched, switched, strict=True)))

    def slope(self, inputs_at: InputsAt) -> Slope:
        """The vector field: `(t, (s,)) → (s,)`."""
        u_of = namespace("inputs", tuple(self.twin.inputs))

        def slope(t: Array, state: Array) -> Array:
            x, p = self.named(self.values(state))
            derivative = self.twin.vector_field(t, x, p, u_of(*inputs_at(t)))
            rates = [
                jnp.asarray(derivative[name] / getattr(x, name) if spec.positive else derivative[name], float)
                for name, spec in self.twin.states.items()
            ]
            return jnp.stack(rates + [jnp.zeros(())] * len(self.twin.switched))

        return slope

    def jump(self, name: str, t: Array, state: Array, inputs: Mapping[str, Array]) -> Array:
        """The state right after an event.

        Args:
            name: Of the event.
            t: When.
            state: Right before; shape (s,).
            inputs: By name, and under the event's own name its value.
        """
        x, p = self.named(self.values(state))
        u = namespace("inputs", tuple(inputs))(*inputs.values())
        changed = self.twin.events[name].effect(t, x, p, u)
        before = {**x._asdict(), **{key: getattr(p, key) for key in self.twin.switched}}
        after = [jnp.asarray(changed.get(key, value), float) for key, value in before.items()]
        return self._logarithms(jnp.stack(after))

    def happen(self, t: Array, state: Array, inputs: Array, amounts: Array) -> Array:
        """The state after the events of known time that happen at t, one after the other.

        Args:
            t: Now.
            state: Shape (s,).
            inputs: From now on; shape (q,).
            amounts: With which value each event happens, NaN where it does not; shape (e,).
        """
        named = dict(zip(self.twin.inputs, inputs, strict=True))
        for name, amount in zip(self.twin.timed, amounts, strict=True):
            happens = jnp.isfinite(amount)
            after = self.jump(name, t, state, named | {name: jnp.where(happens, amount, 0.0)})
            state = jnp.where(happens, after, state)
        return state

    def size(self, before: Array, after: Array) -> Array:
        """What an error is relative to; logarithms have none."""
        return jnp.where(self.logs, 1.0, larger(before, after))

    def _logarithms(self, values: Array) -> Array:
        if not self.logs.any():
            return values
        return jnp.where(self.logs, jnp.log(jnp.where(self.logs, values, 1.0)), values)
