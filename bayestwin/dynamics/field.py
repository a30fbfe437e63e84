"""A twin as functions of one plain array, which is what solvers work on.

That array has the twin's states, positive ones as their logarithms, and then each parameter that an event changes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin.dynamics.signals import Signals
from bayestwin.dynamics.steppers import Slope, larger
from bayestwin.dynamics.switching import Delay, Equations, take_apart
from bayestwin.model.dependence import parameters
from bayestwin.model.tracing import Layout, namespace
from bayestwin.model.twin import Twin

type InputsAt = Callable[[Array], Array]
"""Time → inputs, shape (q,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """A twin with its parameters filled in; the solver's array has shape (s,).

    Attributes:
        twin: The twin.
        p: Parameters, as they are at the start.
        signals: Samples of the inputs that it asks for at other times than now, if there are any.
    """

    twin: Twin
    p: Any
    signals: Signals | None = None

    @functools.cached_property
    def equations(self) -> Equations:
        """Its vector field, taken apart."""
        if self.signals is None:
            return take_apart(self.twin)
        num, powers = self.signals.coefficients.shape[1:]
        return take_apart(self.twin, (num - 1, powers))

    @property
    def interrupted(self) -> bool:
        """Whether anything can happen within a step."""
        return bool(self.twin.triggered) or self.equations.count > 0

    @functools.cached_property
    def _whole(self) -> Layout:
        """Where states, and parameters that events change, stand in the solver's array."""
        return Layout({**self.twin.layout.shapes, **dict.fromkeys(self.twin.switched, ())})

    @functools.cached_property
    def logs(self) -> np.ndarray:
        """Which entries are logarithms; shape (s,)."""
        positive = self.twin.layout.repeat([state.positive for state in self.twin.states.values()])
        return np.append(positive, [False] * len(self.twin.switched)).astype(bool)

    @functools.cached_property
    def counted(self) -> np.ndarray:
        """Which entries are integrals; shape (s,)."""
        integrals = self.twin.layout.repeat([name in self.twin.integrals for name in self.twin.states])
        return np.append(integrals, np.zeros(len(self.twin.switched), bool))

    def anew(self, state: Array) -> Array:
        """The state with integrals that begin again, so that each stretch is as exact as it is long; shape (s,)."""
        return jnp.where(self.counted, 0.0, state) if self.counted.any() else state

    def pack(self, states: Sequence[ArrayLike]) -> Array:
        """The solver's array for the twin's states at the start."""
        switched = [getattr(self.p, name) for name in self.twin.switched]
        return self._logarithms(self._whole.join([*states, *switched]))

    def values(self, state: Array) -> Array:
        """Values of the twin's states, and of the parameters that events change; any leading axes, then (s,)."""
        if not self.logs.any():
            return state
        return jnp.where(self.logs, jnp.exp(jnp.where(self.logs, state, 0.0)), state)

    def named(self, values: Array) -> tuple[Any, Any]:
        """States and parameters by name, from what `values` gives at one time."""
        layout = self.twin.layout
        x = namespace("states", tuple(self.twin.states))(*layout.split(values))
        switched = dict(zip(self.twin.switched, values[layout.size :], strict=True))
        if not (switched and self.twin.derived):
            return x, self.p._replace(**switched)
        stay = {name: value for name, value in self.p._asdict().items() if name not in self.twin.derived}
        return x, parameters(self.twin, {**stay, **switched})

    def slope(self, inputs_at: InputsAt) -> Slope:
        """The vector field: `(t, (s,)) → (s,)`."""
        if self.long:
            _ = self.told
            return lambda t, state: self._all_rates(inputs_at, t, state, None)[0]
        function = self.equations.derivative if self.equations.delicate else self.twin.derivative

        def slope(t: Array, state: Array) -> Array:
            x, p, u = self.operands(inputs_at, t, state)
            return self._rates(function(t, x, p, u), x)

        return slope

    def hold(self, inputs_at: InputsAt, t: Array, state: Array, modes: Array) -> tuple[Array, Array]:
        """The vector field, shape (s,), while its switches stay as they are, and their gaps; shape (k,), as modes."""
        if self.long:
            return self._all_rates(inputs_at, t, state, modes)
        x, p, u = self.operands(inputs_at, t, state)
        derivative, gaps = self.equations.hold(t, x, p, u, modes)
        return self._rates(derivative, x), gaps

    def arguments(self, inputs_at: InputsAt, t: Array, state: Array) -> tuple[Any, Any, Any]:
        """States, parameters and inputs by name, as the user's functions take them."""
        x, p = self.named(self.values(state))
        return x, p, namespace("inputs", tuple(self.twin.inputs))(*inputs_at(t)[: len(self.twin.inputs)])

    def operands(self, inputs_at: InputsAt, t: Array, state: Array) -> tuple[Any, Any, Any]:
        """What `equations` takes: as `arguments`, and after the inputs what answers each delay."""
        x, p, u = self.arguments(inputs_at, t, state)
        if self.signals is None:
            return x, p, u
        return x, p, self.equations.answered(inputs_at(t), self.samples_of)

    def samples_of(self, delay: Delay) -> tuple[Array, Array]:
        """Times and coefficients of the samples of what is asked for."""
        assert self.signals is not None
        row = self.twin.delayed.index(delay.name)
        return jnp.asarray(self.signals.times)[row], jnp.asarray(self.signals.coefficients)[row]

    @functools.cached_property
    def long(self) -> bool:
        """Whether the equations are computed as arrays: see `operations.put_together`."""
        return self.twin.layout.scalar and self.equations.alike is not None

    @functools.cached_property
    def told(self) -> Array:
        """Parameters as they are at the start as one array, shape (p,); to be asked for before there are loops."""
        return _flat(self.p)

    def _all_rates(self, inputs_at: InputsAt, t: Array, state: Array, modes: Array | None) -> tuple[Array, Array]:
        """As `hold`, of long equations, without a number by itself; no mode is held where None is given."""
        values, num = self.values(state), self.twin.layout.size
        inputs = inputs_at(t)[: len(self.twin.inputs)]
        arguments = [jnp.asarray(t, float)[None], values[:num], self._parameters_at(values), inputs]
        found, gaps = self.equations.compute(jnp.concatenate(arguments), modes)
        rates = found[np.array([self.equations.names.index(name) for name in self.twin.states])]
        if self.logs.any():
            rates /= jnp.where(self.logs[:num], values[:num], 1.0)
        return jnp.concatenate([rates, jnp.zeros(len(self.twin.switched))]), gaps

    def _parameters_at(self, values: Array) -> Array:
        """All parameters, shape (p,), from what `values` gives at one time."""
        if not self.twin.switched:
            return self.told
        if self.twin.derived:
            return _flat(self.named(values)[1])
        places = [list(self.twin.parameters).index(name) for name in self.twin.switched]
        return self.told.at[np.array(places)].set(values[self.twin.layout.size :])

    def _rates(self, derivative: Mapping[str, Any], x: Any) -> Array:
        rates = [
            jnp.asarray(derivative[name] / getattr(x, name) if spec.positive else derivative[name], float)
            for name, spec in self.twin.states.items()
        ]
        return self._whole.join([*rates, *[0.0] * len(self.twin.switched)])

    def jump(self, name: str, t: Array, state: Array, inputs: Mapping[str, Array]) -> Array:
        """The state right after an event.

        Args:
            name: Of the event.
            t: When.
            state: Right before; shape (s,).
            inputs: By name, and under the event's own name its value.
        """
        values = self.values(state)
        x, p = self.named(values)
        u = namespace("inputs", tuple(inputs))(*inputs.values())
        changed = self.twin.events[name].effect(t, x, p, u)
        for key, value in changed.items():
            entries = jnp.broadcast_to(jnp.asarray(value, float), self._whole.shapes[key]).ravel()
            values = values.at[self._whole.places[key]].set(entries)
        return self._logarithms(values)

    def happen(self, t: Array, state: Array, inputs: Array, amounts: Array) -> Array:
        """The state after the events of known time that happen at t, one after the other.

        Args:
            t: Now.
            state: Shape (s,).
            inputs: From now on; shape (q,).
            amounts: With which value each event happens, NaN where it does not; shape (e,).
        """
        named = dict(zip(self.twin.inputs, inputs, strict=False))
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


def _flat(p: Any) -> Array:
    """Parameters by name as one array; shape (p,)."""
    return jnp.stack([jnp.asarray(one, float) for one in p]) if p else jnp.zeros(0)
