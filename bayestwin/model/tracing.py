"""Calling the user's functions: named access to states, parameters and inputs, and a first trace that finds mistakes.

Tracing evaluates no numbers: it runs a function once on abstract scalars, so that wrong names and shapes are errors
when the twin is built and not in the middle of a run. And what functions compute has a key, under which what was
compiled for it is found again.
"""

import dataclasses
import difflib
import functools
import inspect
import pathlib
import sys
import sysconfig
import traceback
import types
from collections import namedtuple
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def _trace(function: Callable, owner: str, names: Sequence[tuple[str, ...]]) -> Any:
    scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
    kinds = zip(("states", "parameters", "inputs"), names, strict=True)
    x, p, u = (namespace(kind, group)(*[scalar] * len(group)) for kind, group in kinds)
    try:
        return jax.eval_shape(function, scalar, x, p, u)
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
    first_line = str(reason).strip().splitlines()[:1]
    return InvalidTwin(
        f"{owner} cannot be traced by JAX{_line(function, reason)}.",
        expected="a function `(t, x, p, u)` written with `jax.numpy` (`jnp.where` for `if`)",
        received=f"{type(reason).__name__}: {first_line[0] if first_line else 'no message'}",
        advice="Replace `numpy`/`math` calls and Python branches on values by their `jax.numpy` forms.",
    )


def _line(function: Callable, reason: Exception) -> str:
    """Where in the file of a function something was raised; empty where that is not known."""
    code = getattr(function, "__code__", None)
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


# What functions and data compute, as a key: compiled programs are found again by it, whoever made the objects.
#
# A key is never equal for two things that compute differently: functions are compared by their code and by all that
# they take from outside, numbers and arrays by value, and what is neither is equal only to itself.


class Keyed[T]:
    """A value that compiled programs take as it is, and are found again by its key."""

    __slots__ = ("_hash", "key", "value")

    def __init__(self, value: T, key: Hashable) -> None:
        """Keep both; the key is hashed once."""
        self.value, self.key, self._hash = value, key, hash(key)

    def __eq__(self, other: object) -> bool:
        """Whether both compute the same."""
        return isinstance(other, Keyed) and self._hash == other._hash and self.key == other.key

    def __hash__(self) -> int:
        """The hash of the key."""
        return self._hash


class _Itself:
    """An object that is equal to itself alone, and kept alive so that no other takes its place."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


WORDS = ("doc", "unit", "name", "time_unit")
"""Fields of a twin and its members that compute nothing."""

_JITTED = type(jax.jit(lambda: None))


def key_of(value: Any, seen: tuple[int, ...] = ()) -> Hashable:
    """A key that is equal for values only if they compute the same.

    Args:
        value: Anything a twin is made of: functions, numbers, text, arrays, distributions, dataclasses of these.
        seen: Objects on the way to it.
    """
    if isinstance(value, float):
        return "float", value.hex()  # tells 0.0 from −0.0, and NaN is itself
    if value is None or isinstance(value, bool | int | complex | str | bytes):
        return type(value).__name__, value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        return ("array", array.dtype.str, array.shape, array.tobytes()) if array.dtype != object else _Itself(value)
    if id(value) in seen:
        return "again", seen.index(id(value))
    seen = (*seen, id(value))
    if isinstance(value, tuple | list):
        return _Itself(type(value)), tuple(key_of(one, seen) for one in value)
    if isinstance(value, Mapping):
        return "mapping", tuple((key_of(name, seen), key_of(one, seen)) for name, one in value.items())
    if isinstance(value, functools.partial):
        return "partial", key_of((value.func, value.args, value.keywords), seen)
    if isinstance(value, types.MethodType):
        return "method", key_of((value.__func__, value.__self__), seen)
    if isinstance(value, types.FunctionType):
        return _key_of_function(value, seen)
    if isinstance(value, _JITTED):
        return "jitted", key_of(inspect.unwrap(value), seen)
    ours = type(value).__module__.split(".")[0] == "bayestwin"
    if isinstance(value, types.ModuleType | type) or (_of_library(type(value)) and not ours):
        return _key_of_pytree(value, seen)
    own = dict(getattr(value, "__dict__", {}))
    if dataclasses.is_dataclass(value):  # what is cached beside its fields follows from them
        own = {field.name: own[field.name] for field in dataclasses.fields(value) if field.name in own}
        own = {name: one for name, one in own.items() if not (ours and name in WORDS)}
        return _Itself(type(value)), key_of(own, seen)
    return _Itself(value), key_of(own, seen)


def _key_of_pytree(value: Any, seen: tuple[int, ...]) -> Hashable:
    """Of an object of a library: by its leaves where JAX knows some, as of distributions; else only equal to itself."""
    leaves, structure = jax.tree.flatten(value)
    if any(leaf is value for leaf in leaves):
        return _Itself(value)
    try:
        hash(structure)
    except TypeError:
        return _Itself(value)
    return structure, key_of(leaves, seen)


def _key_of_function(function: types.FunctionType, seen: tuple[int, ...]) -> Hashable:
    if _of_library(function):
        return _Itself(function)
    codes = list(nested_codes(function.__code__))
    loaded = {name for code in codes for name in code.co_names}
    closed = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    outside = {name: function.__globals__[name] for name in sorted(loaded) if name in function.__globals__}
    keys = {name: _key_of_global(one, loaded, seen) for name, one in outside.items()}
    given = key_of((function.__defaults__, function.__kwdefaults__, closed), seen)
    return "function", tuple(_key_of_code(code) for code in codes), given, tuple(keys.items())


def _key_of_global(value: Any, loaded: set[str], seen: tuple[int, ...]) -> Hashable:
    """Of what a function finds by name; of a user's own module what the function may take from it."""
    if not isinstance(value, types.ModuleType) or _of_library(value):
        return key_of(value, seen)
    taken = {name: getattr(value, name) for name in sorted(loaded) if hasattr(value, name)}
    return value.__name__, key_of(taken, (*seen, id(value)))


def _key_of_code(code: types.CodeType) -> Hashable:
    """Of the code of a function without its place in a file, and without the code that is nested in it."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    constants = [one for one in code.co_consts if not isinstance(one, types.CodeType)]
    return code.co_code, code.co_exceptiontable, names, counts, key_of(tuple(map(_plain, constants)))


def _plain(constant: Any) -> Any:
    """A constant of code, where sets stand as tuples."""
    return tuple(sorted(map(repr, constant))) if isinstance(constant, frozenset) else constant


def nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function, and of those that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested_codes(constant)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return (*{paths[name] for name in ("purelib", "platlib", "stdlib")}, str(pathlib.Path(__file__).parents[1]))


def _of_library(value: Any) -> bool:
    """Whether a function, class or module is of an installed package, whose code does not change while it runs."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return False
    file = getattr(module, "__file__", None) or ""
    return module.__name__ in sys.builtin_module_names or file.startswith(_library_folders())
