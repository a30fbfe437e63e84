"""What a vector field knows of other times than now: inputs asked for there, and how a state was a while ago.

For inputs, `u.valve(t - p.dead)`, the trace has an operation of its own for each such question; what it answers depends
on telemetry, and is known where the twin is solved. The past of a state is a state itself.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive

from bayestwin.model.tracing import Shapes, abstract_arguments

ASKED = Primitive("input_at")
"""An input at a time: `ASKED.bind(time, name=…)`."""


@ASKED.def_abstract_eval
def _(time: Any, *, name: str) -> Any:
    del name
    return ShapedArray((), time.dtype)


class TimedInput:
    """An input as the vector field of a twin with delays has it: a number in sums and products, and a function of time.

    As an argument of a function it is written out, as `u.valve(t)`.
    """

    def __init__(self, name: str, value: Any, asked: set[str]) -> None:
        """Keep what it is now, and where to note that it was asked for."""
        self.name, self.value, self._asked = name, value, asked

    def __jax_array__(self) -> Array:
        """What it is now; functions of JAX ask for it, and refuse it."""
        return self.value

    def __call__(self, time: Any) -> Array:
        """What it is at a time."""
        self._asked.add(self.name)
        return ASKED.bind(jnp.asarray(time, float), name=self.name)


def _forward(function: Callable) -> Callable:
    return lambda self, *other: function(self.value, *[getattr(one, "value", one) for one in other])


def _backward(function: Callable) -> Callable:
    return lambda self, other: function(other, self.value)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(TimedInput, f"__{_name}__", _forward(getattr(operator, _name)))
    setattr(TimedInput, f"__r{_name}__", _backward(getattr(operator, _name)))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs"):
    setattr(TimedInput, f"__{_name}__", _forward(getattr(operator, _name)))


def as_numbers(u: Any) -> Any:
    """Inputs as observations have them: what each is now."""
    return u._replace(**{name: one.value for name, one in u._asdict().items() if isinstance(one, TimedInput)})


def with_timed_inputs(function: Callable, delayed: Sequence[str], asked: set[str] | None = None) -> Callable:
    """A user's `(t, x, p, u)` that gets some inputs as functions of time too.

    Args:
        function: The user's function.
        delayed: Names of these inputs.
        asked: Where names of those that are asked for at a time are noted.
    """
    noted = set() if asked is None else asked

    @functools.wraps(function)
    def given(t: Any, x: Any, p: Any, u: Any) -> Any:
        return function(t, x, p, u._replace(**{name: TimedInput(name, getattr(u, name), noted) for name in delayed}))

    return given


MOST_FIELDS = 256


@functools.lru_cache(MOST_FIELDS)
def delayed_inputs(function: Callable, named: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]) -> tuple[str, ...]:
    """Which inputs a vector field asks for at other times than now, in the order of the twin; a cache of traces.

    Args:
        function: The vector field.
        named: Names and shapes of the states, parameters and inputs.
    """
    shapes = [dict(group) for group in named]
    inputs, found = tuple(shapes[2]), set[str]()
    while True:
        try:
            jax.eval_shape(with_timed_inputs(function, sorted(found)), *abstract_arguments(shapes))
        except Exception as reason:  # a number was called, or else whoever checks the function says what is wrong
            asked, refused = set[str](), set[str]()
            for name in inputs:
                words = _try(function, sorted({*found, name}), asked, shapes)
                refused |= {name} if "__jax_array__" in words and "not callable" in str(reason) else set()
            new = (asked or refused) - found
            if new:
                found |= new
                continue
        return tuple(name for name in inputs if name in found)


def _try(function: Callable, delayed: Sequence[str], asked: set[str], shapes: Sequence[Shapes]) -> str:
    """Trace as far as it goes, and note what is asked for; the words of what it ends with."""
    try:
        jax.eval_shape(with_timed_inputs(function, delayed, asked), *abstract_arguments(shapes))
    except Exception as reason:  # as above
        return str(reason)
    return ""


def delay_line(now: Any, past: Array, delay: Any) -> Array:
    """The derivative of a state that holds how something was up to `delay` ago; `past[-1]` is how it was then.

    What was passes along a line, `∂w/∂t = ∂w/∂s` with `w(t, 0) = now`, which is followed by its values at the Chebyshev
    points of `[-delay, 0]`. So delay differential equations are solved as ordinary ones, and the delay may be inferred:

        def vector_field(t, x, p, u):
            rate = p.growth * x.level * (1.0 - x.past[-1] / p.capacity)
            return {"level": rate, "past": bt.delay_line(x.level, x.past, p.delay)}

        states = {"level": bt.State(2.0), "past": bt.State(2.0, size=15)}

    Its initial values are the history before `t0`. More entries follow faster changes: with 15 the error above is about
    1e-5 of the level, where a chain of 15 first-order lags is off by a fifth.

    Args:
        now: What enters the line, a scalar.
        past: How it was, the latest first; shape (n,), with n of 2 or more.
        delay: Length of the line, positive, in the twin's unit of time.

    Returns:
        Shape (n,).

    Raises:
        TypeError: If `past` is no array of two or more.

    A. Bellen & S. Maset (2000), doi:10.1007/s002110050001; D. Breda, S. Maset & R. Vermiglio (2005),
    doi:10.1137/030601600.
    """
    if jnp.ndim(past) != 1 or len(past) < 2:
        message = f"`delay_line` needs a state that is an array of two or more, not one of shape {jnp.shape(past)}."
        raise TypeError(message)
    values = jnp.concatenate([jnp.atleast_1d(now), past])
    return _slopes(len(past)) @ values * (2.0 / delay)


def _slopes(num: int) -> np.ndarray:
    """From values at the `num + 1` Chebyshev points of [-1, 1], the last first, slopes at all but that one."""
    number = np.arange(num + 1)
    points = np.cos(np.pi * number / num)
    weights = np.where(number % num == 0, 2.0, 1.0) * (-1.0) ** number
    found = np.outer(weights, 1.0 / weights) / (points[:, None] - points + np.eye(num + 1))
    return (found - np.diag(found.sum(axis=1)))[1:]
