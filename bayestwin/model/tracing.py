"""Calling the user's functions: named access to states, parameters and inputs, and a first trace that finds mistakes.

Tracing evaluates no numbers: it runs a function once on abstract scalars, so that wrong names and shapes are errors
when the twin is built and not in the middle of a run.
"""

import difflib
import functools
import inspect
import traceback
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bayestwin.errors import InvalidTwin


@functools.cache
def namespace(kind: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """A record type with one attribute for each name; `kind` is what messages call it ("states", …)."""
    return namedtuple(kind, names)  # type: ignore[misc]


def trace_vector_field(function: Callable, owner: str, names: Sequence[tuple[str, ...]]) -> None:
    """Trace a vector field and check what it returns.

    Args:
        function: `(t, x, p, u)` → dict of derivatives.
        owner: What it belongs to, for messages.
        names: Names of the states, parameters and inputs.

    Raises:
        InvalidTwin: If it does not trace, or does not return one scalar for each state.
    """
    states = names[0]
    result = _trace(function, owner, names)
    if not isinstance(result, dict) or set(result) != set(states):
        received = _listed(result) if isinstance(result, dict) else type(result).__name__
        raise InvalidTwin(
            f"{owner} does not return the derivative of each state.",
            expected=f"a dict with the keys {_listed(states)}",
            received=f"a dict with the keys {received}" if isinstance(result, dict) else received,
            advice=_difference(result, states) if isinstance(result, dict) else "Return `{name: derivative, …}`.",
        )
    for name, value in result.items():
        _check_scalar(value, f"the derivative of `{name}` that {owner} returns")


def trace_scalar(function: Callable, owner: str, names: Sequence[tuple[str, ...]]) -> None:
    """Trace a function of an observation or event, and check that it returns a scalar.

    Args:
        function: `(t, x, p, u)` → value.
        owner: What it belongs to, for messages.
        names: Names of the states, parameters and inputs.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    _check_scalar(_trace(function, owner, names), f"what {owner} returns")


def trace_initial(function: Callable, owner: str, parameters: tuple[str, ...]) -> None:
    """Trace the `initial=` function of a state, `(p)` → value, and check that it returns a scalar.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    _check_scalar(_trace(lambda *given: function(given[2]), owner, ((), parameters, ())), f"what {owner} returns")


def trace_times(function: Callable, owner: str, parameters: tuple[str, ...]) -> None:
    """Trace the `at=` function of an event, `(p)` → times, and check that it returns one real number or several.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    found = _trace(lambda *given: function(given[2]), owner, ((), parameters, ()))
    several = isinstance(found, tuple | list) and len(found) > 0
    shape = (len(found), *getattr(found[0], "shape", ())) if several else getattr(found, "shape", ())
    if len(shape) > 1:
        raise InvalidTwin(
            f"What {owner} returns are not times.",
            expected="one number, or several in a tuple or a vector",
            received=f"shape {shape}",
            advice="Return for example `p.t_dose`, or `(p.first, p.first + 24.0)`.",
        )


def trace_effect(function: Callable, owner: str, names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Trace the effect of an event, and check that it returns a scalar for some of the states and parameters.

    Args:
        function: `(t, x, p, u)` → dict of new values.
        owner: What it belongs to, for messages.
        names: Names of the states, parameters and inputs, the event's own among the last.

    Returns:
        The names of what it changes.

    Raises:
        InvalidTwin: If it does not trace, or returns something else.
    """
    result = _trace(function, owner, names)
    known = (*names[0], *names[1])
    if not isinstance(result, dict) or not set(result) <= set(known) or not result:
        raise InvalidTwin(
            f"{owner} does not return new values of states or parameters.",
            expected=f"a dict with some of the keys {_listed(known)}",
            received=f"a dict with the keys {_listed(result)}" if isinstance(result, dict) else type(result).__name__,
            advice="Return `{name: new value, …}` for what changes, and leave out what stays.",
        )
    for name, value in result.items():
        _check_scalar(value, f"the new value of `{name}` that {owner} returns")
    return tuple(result)


def abstract_arguments(names: Sequence[tuple[str, ...]]) -> tuple[Any, Any, Any, Any]:
    """The `(t, x, p, u)` of a user's function without numbers, to trace it with.

    Args:
        names: Names of the states, parameters and inputs.
    """
    scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
    kinds = zip(("states", "parameters", "inputs"), names, strict=True)
    x, p, u = (namespace(kind, group)(*[scalar] * len(group)) for kind, group in kinds)
    return scalar, x, p, u


CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"})
OWN_DERIVATIVE = frozenset({"custom_jvp_call", "custom_vjp_call"})
"""Primitives that call a trace of their own; the second ones bring its derivative."""


def called(equation: Any) -> Any:
    """The trace that an operation calls, or one of them; None where it calls none."""
    return equation.params.get("jaxpr") or equation.params.get("call_jaxpr")


def _trace(function: Callable, owner: str, names: Sequence[tuple[str, ...]]) -> Any:
    try:
        return jax.eval_shape(function, *abstract_arguments(names))
    except AttributeError as reason:
        groups: dict[str, tuple[str, ...]] = dict(zip(("states", "parameters", "inputs"), names, strict=True))
        group = groups.get(type(reason.obj).__name__)
        if group is None:
            raise _does_not_trace(owner, function, reason) from reason
        close = difflib.get_close_matches(reason.name or "", group, n=1)
        raise InvalidTwin(
            f"{owner} asks for `{reason.name}`, which is not one of the {type(reason.obj).__name__}.",
            expected=_listed(group),
            received=f"`{reason.name}`",
            advice=f"Did you mean `{close[0]}`?" if close else "Add it to the twin, or correct the name.",
        ) from reason
    except Exception as reason:
        raise _does_not_trace(owner, function, reason) from reason


def _does_not_trace(owner: str, function: Callable, reason: Exception) -> InvalidTwin:
    advice = "Replace `numpy`/`math` calls and Python branches on values by their `jax.numpy` forms."
    if "not callable" in str(reason):
        advice = (
            "Only the vector field can ask for an input at another time, `u.valve(t - p.dead)`, and only for inputs."
        )
    if "__jax_array__" in str(reason):
        advice = "An input that is asked for at another time is a function: write `u.valve(t)` for what it is now."
    return InvalidTwin(
        f"{owner} cannot be traced by JAX{_line(function, reason)}.",
        expected="a function `(t, x, p, u)` written with `jax.numpy` (`jnp.where` for `if`)",
        received=first_line_of(reason),
        advice=advice,
    )


def first_line_of(reason: Exception) -> str:
    """What kind of exception it is, and the first line of what it says."""
    lines = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {lines[0] if lines else 'no message'}"


def _line(function: Callable, reason: Exception) -> str:
    """Where in the file of a function something was raised; empty where that is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(reason.__traceback__)
        if code is not None and frame.filename == code.co_filename != __file__
    ]
    return f": line {lines[-1]} of `{code.co_filename}`" if code is not None and lines else ""


def _check_scalar(value: Any, owner: str) -> None:
    if isinstance(value, tuple | list):
        value = jax.ShapeDtypeStruct((len(value),), jnp.result_type(float))
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape == () and jnp.issubdtype(dtype, jnp.number) and not jnp.issubdtype(dtype, jnp.complexfloating):
        return
    raise InvalidTwin(
        f"{owner[0].upper()}{owner[1:]} has the wrong shape or type.",
        expected="a real scalar",
        received=f"shape {shape}, {dtype}",
        advice="Write vectors and matrices out as scalar states and parameters.",
    )


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _difference(result: dict, states: tuple[str, ...]) -> str:
    missing = [name for name in states if name not in result]
    unknown = [name for name in result if name not in states]
    parts = [f"Missing: {_listed(missing)}."] if missing else []
    parts += [f"Not a state: {_listed(unknown)}."] if unknown else []
    return " ".join(parts)
