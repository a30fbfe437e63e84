"""Python's own constructs for values that are not known before a twin is solved: branches, `and`, `max`, assignments.

Each does what Python does where all values are known; where one is not, both ways are gone and a value is chosen.
"""

import contextvars
import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

GIVEN: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("given")
"""Parameters and inputs by name, for functions that take them from around instead of as arguments."""


class _Unset:
    """What a name stands for before it has a value."""


class _Nowhere:
    """What a function returns where it raised: no number."""


UNSET, NOWHERE = _Unset(), _Nowhere()


def given(name: str) -> Any:
    """A parameter or input that the function takes from around."""
    return GIVEN.get()[name]


def now(value: Callable[[], Any]) -> Any:
    """A variable, or that it has no value yet."""
    try:
        return value()
    except NameError:
        return UNSET


def truth(value: Any) -> Any:
    """A test as `jnp.where` takes it, or as Python does."""
    if not _is_traced(value):
        return bool(value)
    array = jnp.asarray(value)
    if array.size != 1:
        raise TypeError("The truth value of an array with more than one element is ambiguous.")
    return array.reshape(()) != 0


class Sites(dict[int, list[Any]]):
    """What both branches of each choice were computed from, at a draw that took one and at one that took the other.

    Where a branch is not taken, what is computed in it is thrown away, but its derivative times nothing would be NaN
    where it has none, as that of a root has below zero. So it is computed there from values at which it was taken.
    """

    recording = False

    @property
    def full(self) -> bool:
        """Whether both branches of all choices that were met were taken."""
        return all(None not in own for own in self.values())

    def record(self, number: int, taken: bool, values: Sequence[Any]) -> None:
        """Keep what a branch is computed from, of the first draw that takes it."""
        if self.recording:
            own = self.setdefault(number, [None, None])
            if own[not taken] is None:
                own[not taken] = [jax.tree.map(lambda one: one if callable(one) else np.array(one), v) for v in values]

    def known(self, number: int, taken: bool, holds: Any, values: Sequence[Any]) -> list[Any]:
        """What a branch is computed from, where it is taken, and values at which it was where it is not."""
        example = self.get(number, [None, None])[not taken]
        return (
            list(values) if example is None else [_instead(holds, *pair) for pair in zip(values, example, strict=True)]
        )


def _instead(holds: Any, value: Any, example: Any) -> Any:
    """A value where it is used, else one that was."""
    leaves, structure = jax.tree.flatten(value)
    others = jax.tree.leaves(example)
    if len(others) != len(leaves):
        return value
    found = [
        jnp.where(holds, leaf, other) if _is_traced(leaf) and jnp.shape(leaf) == np.shape(other) else leaf
        for leaf, other in zip(leaves, others, strict=True)
    ]
    return jax.tree.unflatten(structure, found)


def choose(
    test: Any,
    yes: Callable[..., Any],
    no: Callable[..., Any],
    values: Sequence[Any] = (),
    sites: Sites | None = None,
    number: int = 0,
) -> Any:
    """What one branch makes of the values or the other, both of which are computed where the test is not known yet."""
    told = truth(test)
    if isinstance(told, bool):
        if sites is not None:
            sites.record(number, told, values)
        return (yes if told else no)(*values)
    found = []
    for branch, taken in ((yes, True), (no, False)):
        own = values if sites is None else sites.known(number, taken, told if taken else ~told, values)
        found.append(branch(*map(_copied, own)))
    return _merged(told, *found)


def both(first: Any, second: Callable[[], Any]) -> Any:
    """`first and second`."""
    return choose(first, second, lambda: first)


def either(first: Any, second: Callable[[], Any]) -> Any:
    """`first or second`."""
    return choose(first, lambda: first, second)


def negated(value: Any) -> Any:
    """`not value`."""
    told = truth(value)
    return not told if isinstance(told, bool) else ~told


def stored(held: Any, place: Any, value: Any) -> Any:
    """The same with another value at a place, by itself: nothing is changed that others hold."""
    if isinstance(held, list | dict):
        held = copy.copy(held)
        held[place] = value
        return held
    if not isinstance(held, np.ndarray | jax.Array):
        raise TypeError(f"nothing can be assigned to a part of a {type(held).__name__}")
    array = jnp.asarray(held)
    new = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.integer) and jnp.issubdtype(new.dtype, jnp.floating):
        new = jnp.trunc(new)  # as NumPy does, without a word
    at = array.at[place]
    shape = jax.eval_shape(at.get).shape
    if new.size == 1 and new.shape != shape:
        new = new.reshape(())
    return at.set(new.astype(array.dtype))


def item(held: Any, place: Any) -> Any:
    """What is at a place that may not be known yet."""
    traced = any(map(_is_traced, place if isinstance(place, tuple) else (place,)))
    return jnp.asarray(held)[place] if traced and isinstance(held, list | tuple | np.ndarray) else held[place]


def largest(*values: Any, **options: Any) -> Any:
    """`max`."""
    return _reduced(max, jnp.maximum, values, options)


def smallest(*values: Any, **options: Any) -> Any:
    """`min`."""
    return _reduced(min, jnp.minimum, values, options)


def to_float(value: Any = 0.0) -> Any:
    """`float`."""
    return jnp.asarray(value, float).reshape(()) if _is_traced(value) else float(value)


def to_int(value: Any = 0, *more: Any) -> Any:
    """`int`."""
    return jnp.trunc(jnp.asarray(value)).astype(int).reshape(()) if _is_traced(value) else int(value, *more)


def to_bool(value: Any = False) -> Any:
    """`bool`."""
    return truth(value)


def rounded(value: Any, digits: int | None = None) -> Any:
    """`round`."""
    return jnp.round(value, digits or 0) if _is_traced(value) else round(value, digits)


def in_order(values: Any, **options: Any) -> Any:
    """`sorted`."""
    values = list(values)
    return list(jnp.sort(jnp.stack(values))) if any(map(_is_traced, values)) else sorted(values, **options)


def holds_any(values: Any) -> Any:
    """`any`."""
    return functools.reduce(lambda a, b: either(a, lambda: b), values, False)


def holds_all(values: Any) -> Any:
    """`all`."""
    return functools.reduce(lambda a, b: both(a, lambda: b), values, True)


def to_power(base: Any, exponent: Any) -> Any:
    """`math.pow`."""
    return jnp.power(base, exponent) if _is_traced(base) or _is_traced(exponent) else math.pow(base, exponent)


def logarithm(value: Any, base: Any = None) -> Any:
    """`math.log`."""
    return jnp.log(value) if base is None else jnp.log(value) / jnp.log(base)


def near(a: Any, b: Any, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> Any:
    """`math.isclose`."""
    return jnp.abs(a - b) <= jnp.maximum(rel_tol * jnp.maximum(jnp.abs(a), jnp.abs(b)), abs_tol)


def _reduced(plain: Callable, pairwise: Callable, values: Sequence[Any], options: Mapping[str, Any]) -> Any:
    values = list(values[0]) if len(values) == 1 else list(values)
    if options or not any(map(_is_traced, values)):
        return plain(values, **options)
    return functools.reduce(pairwise, values)


def _is_traced(value: Any) -> bool:
    return isinstance(value, Tracer)


def _copied(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, list | dict | set) else value


def _merged(test: Any, yes: Any, no: Any) -> Any:
    """What holds where a test does, and what does elsewhere, entry by entry."""
    if yes is no or yes is UNSET or no is UNSET:
        return yes if no is UNSET else no
    if yes is NOWHERE or no is NOWHERE:
        there = no if yes is NOWHERE else yes
        gone = jax.tree.map(lambda leaf: jnp.full(jnp.shape(leaf), jnp.nan), there)
        return _merged(test, gone if yes is NOWHERE else there, gone if no is NOWHERE else there)
    if isinstance(yes, dict) and isinstance(no, dict) and set(yes) == set(no):
        return {name: _merged(test, yes[name], no[name]) for name in yes}
    if isinstance(yes, list | tuple) and isinstance(no, list | tuple) and len(yes) == len(no):
        merged = [_merged(test, *pair) for pair in zip(yes, no, strict=True)]
        return tuple(merged) if isinstance(yes, tuple) and isinstance(no, tuple) else merged
    if yes is None or no is None or isinstance(yes, str) or isinstance(no, str):
        raise TypeError("what is chosen between by a value that is not known yet has to be numbers")
    return jnp.where(test, *map(jnp.asarray, (yes, no)))
