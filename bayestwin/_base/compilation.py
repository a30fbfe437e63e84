"""Compiled code: found again in the process that made it, kept for the next one, and the time that it takes.

JAX traces, lowers and compiles a function when it is first called, which for a calibration takes longer than the draws
do. What is compiled is kept in the user's cache by JAX's own persistent cache, whose keys know the lowered code, JAX's
version, the flags and the processor. Tracing and lowering take as long again, and are kept here: as exported programs
under the keys of what they compute.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import pathlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
from jax import monitoring
from jax.core import Tracer

from bayestwin._base.files import source_sha256
from bayestwin._base.keys import PURE, TRACING, Itself, key_of
from bayestwin._base.process import cache_folder, make_private, mapped_share, side_by_side
from bayestwin.errors import InvalidSetting, StorageFailure

SWITCH = "BAYESTWIN_COMPILE_CACHE"

LEAST_SECONDS = 0.05
"""What compiles faster is not kept: it would hardly be read faster."""

MOST_BYTES, MOST_PROGRAM_BYTES = 2**30, 2**27
"""Beyond these sizes of compiled code and of exported programs, what was used longest ago is removed."""

STAGES = frozenset(
    {
        "/jax/core/compile/jaxpr_trace_duration",
        "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "/jax/core/compile/backend_compile_duration",
    }
)
"""JAX's events for tracing, lowering, and compiling or reading what was compiled before."""


_keeping: set[pathlib.Path] = set()
"""The folder where this process keeps what it compiles, if it does."""


def keep_compiled() -> None:
    """From now on keep compiled code in the user's cache, for every function of this process.

    Nothing changes where `BAYESTWIN_COMPILE_CACHE` is `off`, or where JAX has been given a cache already. Where the
    folder is not private there is a warning and no cache: whoever can write it can have code run as the user.

    Raises:
        InvalidSetting: If `BAYESTWIN_COMPILE_CACHE` is neither `on` nor `off`.
    """
    theirs = "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not _wanted() or theirs:
        return
    try:
        folder = make_private(cache_folder() / "compiled")
        _drop_unfinished(folder)
    except (StorageFailure, OSError, NotImplementedError) as reason:  # these two where files cannot be locked
        words = f"Compiled code is not kept, so each process compiles anew ({SWITCH}=off silences this). {reason}"
        warnings.warn(words, stacklevel=3)
        return
    # A bound also makes JAX lock the folder while it reads or writes, so that processes can share it.
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _keeping.add(folder)


def _wanted() -> bool:
    switch = os.environ.get(SWITCH, "").strip().lower() or "on"
    if switch in ("on", "off"):
        return switch == "on"
    raise InvalidSetting(
        f"The environment variable {SWITCH} cannot be used.",
        expected="`on` or `off`",
        received=f"`{os.environ[SWITCH]}`",
        advice="Unset it to keep compiled code in your cache.",
    )


def _drop_unfinished(folder: pathlib.Path) -> None:
    """Remove entries whose writer died: JAX would stumble over each of them again and again.

    JAX writes an entry, then the time of its last use, both under this lock.
    """
    with filelock.FileLock(folder / ".lockfile", timeout=10.0):
        for entry in folder.glob("*-cache"):
            if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists():
                entry.unlink()


class CompileClock:
    """Counts the seconds in which JAX was tracing, lowering or compiling, on any thread."""

    def __init__(self) -> None:
        """Nothing is counted before JAX reports to `add`."""
        self._spans: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """Seconds so far; a stage counts when it has ended."""
        return sum(end - begin for begin, end in self._spans)

    def add(self, event: str, start_time: float, end_time: float, **_: object) -> None:
        """Count one stage, but no second twice: JAX reports a function that is traced within its caller, then that."""
        if event not in STAGES:
            return
        while self._spans and self._spans[-1][0] >= start_time:
            self._spans.pop()
        begin = max(start_time, self._spans[-1][1]) if self._spans else start_time
        self._spans.append((begin, max(begin, end_time)))


@functools.cache
def compile_clock() -> CompileClock:
    """The one clock of this process, which listens to JAX from the first call on."""
    clock = CompileClock()
    monitoring.register_event_time_span_listener(clock.add)
    return clock


# Programs: functions as JAX compiles them, exported as they were lowered and read again by the next process.
#
# A program is found by what it takes (structure, shapes, and the keys of what is not an array), by the sources of this
# package and by the versions of the libraries that trace it. Where a key holds something that has no name in another
# process, as a class that a user wrote, JAX compiles it as usual and nothing is kept.

SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
"""Of JAX, which decide what is traced."""

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Of XLA's compiler: its YNN library, left out here, makes slow kernels of sums over few entries."""

MOST_LOADED = 512
"""Programs of one function that a process holds; beyond it, what was used longest ago is dropped."""

MOST_MAPPED = 0.6
"""Share of the memory areas of a process at which compiled code is dropped, to be read again from the cache.

XLA takes some 200 for each program, Linux gives 65,530 by default, and where none is left the process dies of a
segmentation fault: after the calibration of about 40 different twins.
"""


@functools.cache
def compiler_options() -> Mapping[str, Any]:
    """Our options of the compiler, as far as this version of XLA has them."""
    try:
        jax.jit(lambda value: value, compiler_options=OPTIONS).lower(jax.ShapeDtypeStruct((), jnp.float32)).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return OPTIONS


class Nameless(Exception):
    """A key holds something that another process cannot find by a name."""


class Program[T]:
    """A function of pytrees of arrays, compiled when it is first called, as by `jax.jit`.

    Every process computes the same bits, whether it exported the program or read it.

    Attributes:
        options: Of the compiler, beside those of all programs.
    """

    def __init__(self, function: Callable[..., T], options: Mapping[str, Any] | None = None) -> None:
        """Nothing is traced before the first call."""
        functools.update_wrapper(self, function)
        self.options = dict(options or {})
        self._function = function
        self._part = jax.jit(function)
        self._exported = functools.lru_cache(MOST_LOADED)(self._export)

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        """Call the function; within another one that is being traced it becomes a part of that."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        if traced or jax.config.jax_disable_jit or jax.config.jax_debug_nans:  # type: ignore[attr-defined]
            return self._part(*args, **kwargs)
        platform = _platform()
        leaves = [_argument(leaf, platform) for leaf in leaves]
        kinds = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        found = self._exported(structure, kinds, platform, *(str(getattr(jax.config, name)) for name in SETTINGS))
        return self._jitted(*args, **kwargs) if found is None else found(leaves)

    @functools.cached_property
    def _jitted(self) -> Callable[..., T]:
        return self._compiled(self._function)

    def _compiled[R](self, function: Callable[..., R]) -> Callable[..., R]:
        return jax.jit(function, compiler_options={**compiler_options(), **self.options} or None)

    def _export(
        self, structure: Any, kinds: tuple, platform: str, *settings: str
    ) -> Callable[[Sequence[Any]], T] | None:
        """The program for arrays of these kinds: read if it was kept, else exported; None where there can be none."""
        function = (self._function.__module__, self._function.__qualname__)
        words = (*function, structure, tuple(map(str, kinds)), platform, settings)
        try:
            name = hashlib.sha256(_sources() + b"".join(_spelled(words))).hexdigest()
        except Nameless:
            return None
        if mapped_share() > MOST_MAPPED:
            jax.clear_caches()
        kept = [folder / f"{name}.program" for folder in _keeping]
        program = next(filter(None, map(_read, kept)), None)
        if program is None:
            try:
                program = self._lower(structure, kinds, platform)
            except ValueError:  # there are calls in it whose form may change, and JAX exports none of these
                return None
            for path in kept:
                _write(path, *program)
        exported, result = program

        def call(*leaves: Any) -> Any:
            return exported.call(*leaves)

        call.__name__ = self._function.__name__
        run = self._compiled(call)
        return lambda leaves: jax.tree.unflatten(result, run(*leaves))

    def _lower(self, structure: Any, kinds: tuple, platform: str) -> tuple[Any, Any]:
        """Trace and lower: the exported program, whose arguments and results are flat, and the structure of these."""
        from jax import export  # takes a while to import

        structures = []

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = jax.tree.unflatten(structure, leaves)
            leaves_found, found = jax.tree.flatten(self._function(*args, **kwargs))
            structures.append(found)
            return leaves_found

        given = [jax.ShapeDtypeStruct(*kind) for kind in kinds]
        exported = export.export(jax.jit(flat), platforms=[platform])(*given)
        return exported, structures[-1]


def _platform() -> str:
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    return getattr(device, "platform", None) or jax.default_backend()


def _argument(leaf: Any, platform: str) -> Any:
    """An array as programs take it; results of a program are bound to a device, and would be compiled for again."""
    if isinstance(leaf, np.ndarray):
        return leaf
    if isinstance(leaf, jax.Array) and (platform != "cpu" or jnp.issubdtype(leaf.dtype, jax.dtypes.extended)):
        return leaf
    return np.asarray(leaf)  # on a CPU without a copy


@functools.cache
def _sources() -> bytes:
    """All of this package and the versions of what traces it: a change of any makes other programs."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in TRACING]
    return "; ".join([sys.version, source_sha256(), *versions]).encode()


def _spelled(key: Any) -> Iterator[bytes]:
    """What a key says, in bytes that are the same in every process.

    Raises:
        Nameless: If it holds something that is equal to itself alone and has no name.
    """
    if isinstance(key, tuple):
        yield b"(%d" % len(key)
        for one in key:
            yield from _spelled(one)
    elif isinstance(key, jax.tree_util.PyTreeDef):
        node = key.node_data()
        yield b"tree"
        yield from _spelled(key_of(node))
        yield from _spelled(tuple(key.children()))
    elif isinstance(key, Itself):
        yield f"named {_name_of(key.value)};".encode()
    elif key is None or isinstance(key, bool | int | complex | str | bytes):
        yield f"{type(key).__name__} {key!r};".encode()
    else:
        yield from _spelled(key_of(key))


def _name_of(value: Any) -> str:
    """The name by which another process finds what a library has.

    Raises:
        Nameless: If it has none, or is of a library that may be another one there.
    """
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    names = [getattr(value, name, None) for name in ("__qualname__", "__name__")]
    path = "" if isinstance(value, types.ModuleType) else next(filter(None, names), None)
    if path is None or module.partition(".")[0] not in (*TRACING, *PURE, "bayestwin"):
        raise Nameless(module)
    found: Any = sys.modules.get(module)
    for part in filter(None, path.split(".")):
        found = getattr(found, part, None)
    if found is not value and inspect.unwrap(found) is not value and value is not type(None):
        raise Nameless(path)
    return f"{module}:{path}"


def _read(path: pathlib.Path) -> tuple[Any, Any] | None:
    """A program that was kept, if it is there and whole: the exported one, and the structure of its results."""
    from jax import export

    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    checked, _, content = content.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checked:
        return None
    outline, _, lowered = content.partition(b"\n")
    return export.deserialize(bytearray(lowered)), jax.tree.structure(_from_outline(json.loads(outline)))


def _write(path: pathlib.Path, exported: Any, structure: Any) -> None:
    """Keep a program, as far as it can be written, and drop what was used longest ago."""
    try:
        outline = json.dumps(_outline(jax.tree.unflatten(structure, range(structure.num_leaves))))
    except Nameless:
        return
    content = outline.encode() + b"\n" + bytes(exported.serialize())
    beside = path.with_name(f"{path.stem}-{os.getpid()}")
    try:
        beside.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        beside.replace(path)
        there = sorted((one.stat().st_mtime, one.stat().st_size, one) for one in path.parent.glob("*.program"))
        excess = sum(size for _, size, _ in there) - MOST_PROGRAM_BYTES
        for _, size, one in there:
            if excess <= 0:
                break
            one.unlink(missing_ok=True)
            excess -= size
    except OSError:  # the disk is full, or another process dropped what was to be dropped
        return


def _outline(tree: Any) -> Any:
    """A tree of results as JSON has it: dicts, tuples and named tuples of libraries.

    Raises:
        Nameless: If there is anything else in it.
    """
    if isinstance(tree, dict) and all(isinstance(name, str) for name in tree):
        return {"dict": {name: _outline(one) for name, one in tree.items()}}
    if isinstance(tree, tuple | list):
        return {"parts": [_outline(one) for one in tree], "of": _name_of(type(tree))}
    if tree is None or isinstance(tree, int):
        return tree
    raise Nameless(type(tree).__name__)


def _from_outline(outline: Any) -> Any:
    """What `_outline` told."""
    if not isinstance(outline, dict):
        return outline
    if "dict" in outline:
        return {name: _from_outline(one) for name, one in outline["dict"].items()}
    parts, (module, _, name) = map(_from_outline, outline["parts"]), outline["of"].partition(":")
    kind = getattr(importlib.import_module(module), name)
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


# Few numbers in, few numbers out, for many points at once: always in batches of one size, so that each function is
# compiled once for any number of points.

BATCH = 64


def in_batches[T](function: Callable[[Any], T], rows: Any, size: int = BATCH) -> T:
    """Apply a function to any number of rows, at least one; leading axes of what it gives are rows.

    Args:
        function: Takes and gives `size` rows at a time.
        rows: Arrays with one leading axis.
        size: Of a batch. Batches smaller than `BATCH` are those of much work, which goes on side by side on the cores.
    """
    num = len(jax.tree.leaves(rows)[0])
    batches = -(-num // size)
    padded = jax.tree.map(lambda own: np.resize(own, (batches, size, *own.shape[1:])), rows)

    def batch(number: int) -> T:
        return jax.tree.map(np.asarray, function(jax.tree.map(lambda own: own[number], padded)))

    first = batch(0)  # compiled ahead of the others, which would each do it
    found = (side_by_side if size < BATCH else map)(batch, range(1, batches))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], first, *found)
