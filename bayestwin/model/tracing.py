"""Calling the user's functions: named access to states, parameters and inputs, and a first trace that finds mistakes.

Tracing evaluates no numbers: it runs a function once on abstract scalars, so that wrong names and shapes are errors
when the twin is built and not in the middle of a run.
"""

import dataclasses
import difflib
import functools
import inspect
import math
import textwrap
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from bayestwin.errors import InvalidTwin
from bayestwin.model.rewriting import FailedLine, find_line

type Shapes = Mapping[str, tuple[int, ...]]
"""By name, the shape of what it stands for; `()` for a scalar."""


@functools.cache
def namespace(kind: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """A record type whose entries are attributes, `x.a`, and items, `x["a"]`.

    Args:
        kind: What messages call it: "states", …
        names: Of its entries.
    """
    record: Any = namedtuple(kind, names)  # type: ignore[misc]

    def item(self: Any, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    # without slots a name that is misspelt could be assigned to
    return type(kind, (record,), {"__slots__": (), "__getitem__": item})


def by_name(function: Callable, states: tuple[str, ...]) -> Callable[[Any, Any, Any, Any], dict[str, Any]]:
    """A vector field whose derivatives are a dict by state, also where it returns them in the order of the states."""

    @functools.wraps(function)
    def named(t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
        found = function(t, x, p, u)
        return found if isinstance(found, dict) else dict(zip(states, _in_order(found), strict=True))

    return named


def _in_order(found: Any) -> Sequence[Any]:
    """The derivatives in a list, tuple or array."""
    return found if isinstance(found, list | tuple) else [found[number] for number in range(len(found))]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where numbers and arrays of these shapes stand in one flat array, one after the other; s entries in all."""

    shapes: Shapes

    @functools.cached_property
    def places(self) -> Mapping[str, slice]:
        """The entries of each."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()]).tolist()
        begins = [0, *ends[:-1]]
        return {name: slice(*ends) for name, *ends in zip(self.shapes, begins, ends, strict=True)}

    @property
    def size(self) -> int:
        """How many entries there are: s."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def scalar(self) -> bool:
        """Whether all of them are scalars."""
        return not any(self.shapes.values())

    def join(self, values: Sequence[ArrayLike]) -> Array:
        """Values, in order, as one array, shape (s,); what is smaller than its shape is the same in all entries."""
        if self.scalar:
            return jnp.stack([jnp.asarray(value, float) for value in values])
        shaped = zip(values, self.shapes.values(), strict=True)
        return jnp.concatenate([jnp.broadcast_to(jnp.asarray(v, float), shape).ravel() for v, shape in shaped])

    def split(self, flat: Array) -> tuple[Array, ...]:
        """The values of which an array of shape (s,), or longer, is made."""
        if self.scalar:
            return tuple(flat[: self.size])
        shaped = zip(self.places.values(), self.shapes.values(), strict=True)
        return tuple(flat[place].reshape(shape) for place, shape in shaped)

    def repeat(self, values: Sequence[Any]) -> np.ndarray:
        """One value for each name, as often as that has entries; shape (s,)."""
        return np.repeat(np.array(values), [math.prod(shape) for shape in self.shapes.values()])

    def level(self, values: Array) -> Array:
        """In each entry the largest value of all entries of the same name; shape (s,) or longer, as it comes."""
        if self.scalar:
            return values
        own = [values[place] for place in self.places.values()]
        return jnp.concatenate([*[jnp.full(part.shape, part.max()) for part in own], values[self.size :]])

    def least(self, values: np.ndarray) -> dict[str, float]:
        """The smallest value of all entries of each name; shape (s,) or longer."""
        return {name: float(values[place].min()) for name, place in self.places.items()}

    @functools.cached_property
    def entries(self) -> tuple[str, ...]:
        """What each entry is called: `level`, or `level[3]`."""
        found: list[str] = []
        for name, shape in self.shapes.items():
            found += [f"{name}[{', '.join(map(str, place))}]" if shape else name for place in np.ndindex(*shape)]
        return tuple(found)


def trace_vector_field(function: Callable, owner: str, shapes: Sequence[Shapes]) -> None:
    """Trace a vector field and check what it returns.

    Args:
        function: `(t, x, p, u)` → derivatives: a dict, or a list, tuple or array in the order of the states.
        owner: What it belongs to, for messages.
        shapes: Names and shapes of the states, parameters and inputs.

    Raises:
        InvalidTwin: If it does not trace, or does not return for each state what has its shape.
    """
    states = tuple(shapes[0])
    result = _trace(function, owner, shapes)
    if not isinstance(result, dict):
        result = _each(result, owner, states)
    if set(result) != set(states):
        raise InvalidTwin(
            f"{owner} does not return the derivative of each state.",
            expected=f"a dict with the keys {_listed(states)}",
            received=f"a dict with the keys {_listed(result)}",
            advice=_difference(result, states),
        )
    for name, value in result.items():
        _check_shape(value, f"the derivative of `{name}` that {owner} returns", shapes[0][name])


def _each(result: Any, owner: str, states: tuple[str, ...]) -> dict[str, Any]:
    """Derivatives by state, of what a vector field returned in their order."""
    received = type(result).__name__
    found: list[Any] = []
    if isinstance(result, list | tuple) and not hasattr(result, "_fields"):
        found, received = [*result], f"a {received} of {len(result)}"
    elif isinstance(result, jax.ShapeDtypeStruct) and len(result.shape) == 1:
        found, received = [jax.ShapeDtypeStruct((), result.dtype)] * result.shape[0], f"an array of {result.shape[0]}"
    if len(found) != len(states):
        raise InvalidTwin(
            f"{owner} does not return the derivative of each state.",
            expected=f"a dict with the keys {_listed(states)}, or {len(states)} values in this order",
            received=received,
            advice="Return `{name: derivative, …}`.",
        )
    return dict(zip(states, found, strict=True))


def trace_scalar(function: Callable, owner: str, shapes: Sequence[Shapes]) -> None:
    """Trace a function of an observation or event, and check that it returns a scalar.

    Args:
        function: `(t, x, p, u)` → value.
        owner: What it belongs to, for messages.
        shapes: Names and shapes of the states, parameters and inputs.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    _check_shape(_trace(function, owner, shapes), f"what {owner} returns", ())


def trace_initial(function: Any, owner: str, given: Sequence[Shapes], shape: tuple[int, ...], *signatures: str) -> None:
    """Trace where a state starts, and check that it is a scalar, or of the state's shape.

    Args:
        function: `(p)` → value, or of parameters and inputs, `(p, u)` → value.
        owner: What it belongs to, for messages.
        given: Names and shapes of the parameters, and of the inputs where it takes them.
        shape: Of the state.
        signatures: How it may be written; `(p)` where nothing is said.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """

    def started(_t: Any, _x: Any, *rest: Any) -> Any:
        value = function(*rest[: len(given)])
        if not isinstance(value, Distribution):
            return value
        raise InvalidTwin(
            f"{owner[0].upper()}{owner[1:]} makes a prior of inputs.",
            expected="a function `(p, u)` that returns a number, or `(p)` that returns a distribution",
            received=f"{type(value).__name__}, from `(p, u)`",
            advice="A prior around the first value of a column is "
            "`bt.First(column, lambda first: dist.Normal(first, 0.1))`.",
        )

    _check_signature(function, owner, *(signatures or ("(p)",)))
    result = _trace(started, owner, ({}, *given, {})[:3])
    _check_shape(result, f"what {owner} returns", shape, or_scalar=True)


def trace_dependent(
    function: Callable,
    written: Any,
    owner: str,
    names: tuple[str, ...],
    later: tuple[str, ...],
    shape: tuple[int, ...],
    *signatures: str,
) -> tuple[str, ...]:
    """Trace a function of parameters, `(p)` → numbers, and find out which of them it depends on.

    Args:
        function: Of the parameters.
        written: The user's function, of which it is made.
        owner: What it belongs to, for messages.
        names: Parameters that it is given.
        later: All parameters, those that it cannot have included.
        shape: What a value may have that is no scalar.
        signatures: How it may be written.

    Returns:
        Names of the parameters that it depends on.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    _check_signature(written, owner, *signatures)
    given = {}, dict.fromkeys(names, ()), {}
    try:
        found = _trace(lambda t, x, p, u: function(p), owner, given)  # noqa: ARG005
    except InvalidTwin as reason:
        cause, asked = reason.__context__, getattr(reason.__context__, "name", None)
        if isinstance(cause, AttributeError) and asked in later and type(cause.obj).__name__ == "parameters":
            raise InvalidTwin(
                f"{owner[0].upper()}{owner[1:]} asks for `{asked}`, which does not stand before it.",
                expected=f"parameters that stand before it: {_listed(names)}",
                received=f"`{asked}`",
                advice=f"Write it below `{asked}` among the parameters; two cannot follow from each other.",
            ) from None
        raise
    if not isinstance(found, list):
        _check_shape(found, f"what {owner} returns", shape, or_scalar=True)
    traced = jax.make_jaxpr(function)(abstract_arguments(given)[2]).jaxpr
    needed = {atom for atom in traced.outvars if not hasattr(atom, "val")}
    for equation in reversed(traced.eqns):
        if needed.intersection(equation.outvars):
            needed.update(atom for atom in equation.invars if not hasattr(atom, "val"))
    return tuple(name for name, atom in zip(names, traced.invars, strict=True) if atom in needed)


def num_arguments(function: Any) -> int:
    """How many arguments a function has to be given; 1 where Python cannot say."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(one.kind in kinds and one.default is inspect.Parameter.empty for one in known)


def trace_times(function: Callable, owner: str, parameters: Shapes) -> None:
    """Trace the `at=` function of an event, `(p)` → times, and check that it returns one real number or several.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    _check_signature(function, owner, "(p)")
    found = _trace(lambda *given: function(given[2]), owner, ({}, parameters, {}))
    several = isinstance(found, tuple | list) and len(found) > 0
    shape = (len(found), *getattr(next(iter(found)), "shape", ())) if several else getattr(found, "shape", ())
    if len(shape) > 1:
        raise InvalidTwin(
            f"What {owner} returns are not times.",
            expected="one number, or several in a tuple or a vector",
            received=f"shape {shape}",
            advice="Return for example `p.t_dose`, or `(p.first, p.first + 24.0)`.",
        )


def trace_effect(function: Callable, owner: str, shapes: Sequence[Shapes]) -> tuple[str, ...]:
    """Trace the effect of an event, and check what it returns for some of the states and parameters.

    Args:
        function: `(t, x, p, u)` → dict of new values.
        owner: What it belongs to, for messages.
        shapes: Names and shapes of the states, parameters and inputs, the event's own among the last.

    Returns:
        The names of what it changes.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    result = _trace(function, owner, shapes)
    known = {**shapes[0], **shapes[1]}
    if not isinstance(result, dict) or not set(result) <= set(known) or not result:
        raise InvalidTwin(
            f"{owner} does not return new values of states or parameters.",
            expected=f"a dict with some of the keys {_listed(known)}",
            received=f"a dict with the keys {_listed(result)}" if isinstance(result, dict) else type(result).__name__,
            advice="Return `{name: new value, …}` for what changes, and leave out what stays.",
        )
    for name, value in result.items():
        _check_shape(value, f"the new value of `{name}` that {owner} returns", known[name], or_scalar=True)
    return tuple(result)


def abstract_arguments(shapes: Sequence[Shapes]) -> tuple[Any, Any, Any, Any]:
    """The `(t, x, p, u)` of a user's function without numbers, to trace it with.

    Args:
        shapes: Names and shapes of the states, parameters and inputs.
    """
    kind_of = jnp.result_type(float)
    kinds = zip(("states", "parameters", "inputs"), shapes, strict=True)
    x, p, u = (
        namespace(kind, tuple(group))(*[jax.ShapeDtypeStruct(shape, kind_of) for shape in group.values()])
        for kind, group in kinds
    )
    return jax.ShapeDtypeStruct((), kind_of), x, p, u


CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"})
OWN_DERIVATIVE = frozenset({"custom_jvp_call", "custom_vjp_call"})
"""Primitives that call a trace of their own; the second ones bring its derivative."""


def called(equation: Any) -> Any:
    """The trace that an operation calls, or one of them; None where it calls none."""
    return equation.params.get("jaxpr") or equation.params.get("call_jaxpr")


def _trace(function: Callable, owner: str, shapes: Sequence[Shapes], signature: str = "(t, x, p, u)") -> Any:
    _check_signature(function, owner, signature)
    try:
        return jax.eval_shape(function, *abstract_arguments(shapes))
    except InvalidTwin:
        raise
    except Exception as reason:
        raise untraceable(owner, reason) from None  # what JAX adds to it is about JAX


def _check_signature(function: Callable, owner: str, *signatures: str) -> None:
    """That a function takes the arguments that it will be given, in one of these ways."""
    try:
        taken = inspect.signature(function)
    except (TypeError, ValueError):
        return
    wrong = ""
    for signature in signatures:
        try:
            taken.bind(*signature.strip("()").split(", "))
        except TypeError as reason:
            wrong = wrong or f"{reason}"
        else:
            return
    raise InvalidTwin(
        f"{owner[0].upper()}{owner[1:]} takes other arguments.",
        expected=f"a function of {' or '.join(f'`{one}`' for one in signatures)}",
        received=f"one of `{taken}` (TypeError: {wrong})",
        advice="Write all of them, also those that it does not need.",
    )


def untraceable(owner: str, reason: Exception) -> InvalidTwin:
    """The error about a function that cannot be traced: the user's line, and how it should be written.

    Args:
        owner: What it belongs to, for messages.
        reason: What calling it raised.
    """
    group: tuple[str, ...] = getattr(getattr(reason, "obj", None), "_fields", ())
    if isinstance(reason, AttributeError) and group and reason.name and reason.name not in group:
        close = difflib.get_close_matches(reason.name, group, n=1)
        return InvalidTwin(
            f"{owner} asks for `{reason.name}`, which is not one of the {type(reason.obj).__name__}.",
            expected=_listed(group),
            received=f"`{reason.name}`",
            advice=f"Did you mean `{close[0]}`?" if close else "Add it to the twin, or correct the name.",
        )
    line = find_line(reason)
    if line is not None and not line.needed:
        return InvalidTwin(
            f"{owner} fails in line {line.number} of `{line.file}`.",
            expected="a function that can be called with any values",
            received=f"{first_line_of(reason)}, from `{line.text}`",
            advice=_about_delays(reason) or "Correct that line.",
        )
    general = "a function written with `jax.numpy`: `jnp.exp` for `math.exp`, `jnp.where` for `if`"
    if line is None:
        problem, expected, received = ".", general, first_line_of(reason)
    else:
        problem = f": line {line.number} of `{line.file}`."
        expected = _quoted("with `jax.numpy`", line.written) if line.written else general
        received = _quoted(type(reason).__name__ + " from", line.text)
    return InvalidTwin(
        f"{owner} cannot be traced by JAX{problem}",
        expected=expected,
        received=received,
        advice=_about_delays(reason) or (FailedLine._field_defaults["advice"] if line is None else line.advice),
    )


def _quoted(words: str, text: str) -> str:
    """Words and source text: one line in backticks, several below each other."""
    return f"{words} `{text}`" if "\n" not in text else f"{words}\n{textwrap.indent(text, ' ' * 6)}"


def first_line_of(reason: Exception) -> str:
    """What kind of exception it is, and the first line of what it says."""
    lines = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {lines[0] if lines else 'no message'}"


def _about_delays(reason: Exception) -> str:
    """Advice about an input at another time, where that is what fails."""
    if "not callable" in str(reason):
        return (
            "Only the vector field can ask for an input at another time, `u.valve(t - p.dead)`, and only for inputs; "
            "how a state was a while ago is a state of its own, which `bt.delay_line` follows."
        )
    if "__jax_array__" in str(reason):
        return "An input that is asked for at another time is a function: write `u.valve(t)` for what it is now."
    return ""


def _check_shape(value: Any, owner: str, expected: tuple[int, ...], *, or_scalar: bool = False) -> None:
    if isinstance(value, tuple | list):
        value = jax.ShapeDtypeStruct((len(value),), jnp.result_type(float))
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    fine = shape == expected or (or_scalar and shape == ())
    if fine and jnp.issubdtype(dtype, jnp.number) and not jnp.issubdtype(dtype, jnp.complexfloating):
        return
    advice = "Write each one out, or say `bt.State(initial, size=…)` of a state that is an array."
    words = f"real numbers of shape {expected}{', or a real scalar for all of them' if or_scalar else ''}"
    raise InvalidTwin(
        f"{owner[0].upper()}{owner[1:]} has the wrong shape or type.",
        expected=words if expected else "a real scalar",
        received=f"shape {shape}, {dtype}",
        advice="Return an array with one entry for each entry of the state." if expected else advice,
    )


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _difference(result: dict, states: tuple[str, ...]) -> str:
    missing = [name for name in states if name not in result]
    unknown = [name for name in result if name not in states]
    parts = [f"Missing: {_listed(missing)}."] if missing else []
    parts += [f"Not a state: {_listed(unknown)}."] if unknown else []
    return " ".join(parts)
