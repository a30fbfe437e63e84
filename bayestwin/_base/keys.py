"""What functions and data compute, as a key: compiled programs are found again by it, whoever made the objects.

A key is never equal for two things that compute differently: functions are compared by their code and by all that they
take from outside, numbers and arrays by value, and what is neither is equal only to itself.
"""

import dataclasses
import dis
import functools
import inspect
import itertools
import pathlib
import sys
import sysconfig
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import jax
import numpy as np


class Keyed[T]:
    """A value that compiled programs take as it is, and are found again by its key: a pytree without leaves."""

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


jax.tree_util.register_pytree_node(Keyed, lambda keyed: ((), keyed), lambda keyed, _: keyed)


class Itself:
    """An object that is equal to itself alone, and kept alive so that no other takes its place."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


TRACING = ("jax", "jaxlib", "numpy", "numpyro", "blackjax")
"""Libraries whose versions decide what is traced; what is found in them by name is the same in the next process."""

PURE = (
    "builtins",
    "cmath",
    "collections",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
)
"""Modules of Python's own that compute the same from the same."""

WORDS = ("doc", "unit", "name", "time_unit", "numbers", "quantities")
"""Fields of a twin and its members that compute nothing, or nothing of what is calibrated, or are arguments of what is
compiled."""

_JITTED = type(jax.jit(lambda: None))


NOTHING: Mapping[int, Hashable] = types.MappingProxyType({})


def key_of(value: Any, seen: tuple[int, ...] = (), standing: Mapping[int, Hashable] = NOTHING) -> Hashable:
    """A key that is equal for values only if they compute the same.

    Args:
        value: Anything a twin is made of: functions, numbers, text, arrays, distributions, dataclasses of these.
        seen: Objects on the way to it.
        standing: Keys that stand for what compiled programs take as arguments, by the identity of the object; not
            where a function takes it from outside.
    """
    if id(value) in standing:
        return standing[id(value)]
    if isinstance(value, float):
        return "float", value.hex()  # tells 0.0 from −0.0, and NaN is itself
    if value is None or isinstance(value, bool | int | complex | str | bytes):
        return type(value).__name__, value
    if isinstance(value, Keyed):
        return value.key
    if isinstance(value, np.dtype):
        return "dtype", value.str
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        return ("array", array.dtype.str, array.shape, array.tobytes()) if array.dtype != object else Itself(value)
    if id(value) in seen:
        return "again", seen.index(id(value))
    seen = (*seen, id(value))
    if isinstance(value, tuple | list):
        return Itself(type(value)), tuple(key_of(one, seen, standing) for one in value)
    if isinstance(value, Mapping):
        return "mapping", tuple((key_of(name, seen), key_of(one, seen, standing)) for name, one in value.items())
    if isinstance(value, functools.partial):
        return "partial", key_of((value.func, value.args, value.keywords), seen)
    if isinstance(value, types.MethodType):
        return "method", key_of((value.__func__, value.__self__), seen)
    if isinstance(value, types.FunctionType):
        return _key_of_function(value, seen)
    if isinstance(value, _JITTED):
        return "jitted", key_of(inspect.unwrap(value), seen)
    ours = type(value).__module__.split(".")[0] == "bayestwin"
    if isinstance(value, types.ModuleType | type) or (of_library(type(value)) and not ours):
        return _key_of_pytree(value, seen)
    own = dict(getattr(value, "__dict__", {}))
    if dataclasses.is_dataclass(value):  # what is cached beside its fields follows from them
        own = {field.name: own[field.name] for field in dataclasses.fields(value) if field.name in own}
        own = {name: one for name, one in own.items() if not (ours and name in WORDS)}
        return Itself(type(value)), key_of(own, seen, standing)
    return Itself(value), key_of(own, seen)


def _key_of_pytree(value: Any, seen: tuple[int, ...]) -> Hashable:
    """Of an object of a library: by its leaves where JAX knows some; else only equal to itself."""
    kind = type(value)
    if hasattr(kind, "gather_pytree_data_fields"):  # a distribution of NumPyro, whose leaves come in any order
        fields = sorted({*kind.gather_pytree_data_fields(), *kind.gather_pytree_aux_fields()})
        return Itself(kind), tuple((name, key_of(vars(value).get(name), seen)) for name in fields)
    leaves, structure = jax.tree.flatten(value)
    if any(leaf is value for leaf in leaves):
        return Itself(value)
    try:
        hash(structure)
    except TypeError:
        return Itself(value)
    return structure, key_of(leaves, seen)


def _key_of_function(function: types.FunctionType, seen: tuple[int, ...]) -> Hashable:
    if of_library(function):
        return Itself(function)
    codes = list(nested_codes(function.__code__))
    loaded = {name for code in codes for name in code.co_names}
    closed = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    outside = {name: function.__globals__[name] for name in sorted(loaded) if name in function.__globals__}
    keys = {name: _key_of_global(one, loaded, seen) for name, one in outside.items()}
    given = key_of((function.__defaults__, function.__kwdefaults__, closed), seen)
    unseen = tuple(Itself(code) for code in codes if _reaches_out(code, function.__globals__))
    return "function", tuple(_key_of_code(code) for code in codes), given, tuple(keys.items()), unseen


READERS = {
    "open",
    "eval",
    "exec",
    "__import__",
    "globals",
    "load",
    "loadtxt",
    "genfromtxt",
    "fromfile",
    "memmap",
    "random",
}
"""What makes a function compute what its code does not say; as built-in names, or taken from an array library."""


MOST_CODES = 1024
"""Functions whose instructions a process remembers."""


def _reaches_out(code: types.CodeType, names: Mapping[str, Any]) -> bool:
    """Whether code takes from files, imports or chance, which its key does not see."""
    instructions = _instructions(code)
    for one, following in itertools.pairwise([*instructions, *instructions[-1:]]):
        if one.opname == "IMPORT_NAME" and str(one.argval).partition(".")[0] not in (*TRACING, *PURE):
            return True
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = names.get(one.argval)
            taken = following.argval if isinstance(value, types.ModuleType) else one.argval
            if taken in READERS and (value is None or isinstance(value, types.ModuleType)):
                return True
    return False


@functools.lru_cache(MOST_CODES)
def _instructions(code: types.CodeType) -> tuple[dis.Instruction, ...]:
    """What code does, read once: keys are made anew for each density."""
    return tuple(one for one in dis.get_instructions(code) if one.opname not in ("CACHE", "PUSH_NULL"))


def _key_of_global(value: Any, loaded: set[str], seen: tuple[int, ...]) -> Hashable:
    """Of what a function finds by name; of a user's own module what the function may take from it."""
    if not isinstance(value, types.ModuleType) or of_library(value):
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


def of_library(value: Any) -> bool:
    """Whether a function, class or module is of an installed package, whose code does not change while it runs."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return False
    file = getattr(module, "__file__", None) or ""
    return module.__name__ in sys.builtin_module_names or file.startswith(_library_folders())
