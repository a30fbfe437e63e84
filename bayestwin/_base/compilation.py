"""Compiled code: kept from one process to the next, and the time that compiling takes.

JAX traces, lowers and compiles a function when it is first called, which for a calibration takes longer than the
draws do. What is compiled is kept in the user's cache by JAX's own persistent cache, whose keys know the code, JAX's
version, the flags and the processor.
"""

import functools
import os
import pathlib
import warnings

import filelock
import jax
from jax import monitoring

from bayestwin._base.cache import cache_folder, make_private
from bayestwin.errors import InvalidSetting, StorageFailure, explain

SWITCH = "BAYESTWIN_COMPILE_CACHE"

LEAST_SECONDS = 0.05
"""What compiles faster is not kept: it would hardly be read faster."""

MOST_BYTES = 2**30
"""Beyond this size, what was used longest ago is removed."""

STAGES = frozenset(
    {
        "/jax/core/compile/jaxpr_trace_duration",
        "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "/jax/core/compile/backend_compile_duration",
    }
)
"""JAX's events for tracing, lowering, and compiling or reading what was compiled before."""


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


def _wanted() -> bool:
    switch = os.environ.get(SWITCH, "").strip().lower() or "on"
    if switch in ("on", "off"):
        return switch == "on"
    message = explain(
        f"The environment variable {SWITCH} cannot be used.",
        expected="`on` or `off`",
        received=f"`{os.environ[SWITCH]}`",
        advice="Unset it to keep compiled code in your cache.",
    )
    raise InvalidSetting(message)


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
