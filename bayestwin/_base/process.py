"""What must hold of the process while anything is computed: float64, the device asked for, enough memory.

Also what a process keeps and hears: the user's cache folder, Ctrl-C between two pieces of work, and random keys, each
by name from one seed.
"""

import contextlib
import os
import pathlib
import signal
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import jax
import numpy as np
from jax import Array

from bayestwin.errors import InvalidSetting, OutOfMemory, StorageFailure


def require_float64() -> None:
    """Stop where JAX computes in single precision.

    Raises:
        InvalidSetting: With the way to switch float64 on.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    raise InvalidSetting(
        "JAX computes in float32 here: adaptive solvers and their derivatives lose their way in it.",
        expected="float64",
        received="jax_enable_x64 = False",
        advice='Call `jax.config.update("jax_enable_x64", True)` before anything else, or unset JAX_ENABLE_X64.',
    )


def on_device(device: str | None) -> contextlib.AbstractContextManager:
    """A context in which JAX computes on a device.

    Args:
        device: `"cpu"`, `"gpu"`, or None for JAX's default.

    Raises:
        InvalidSetting: If there is no such device; nothing falls back silently.
    """
    if device is None:
        return contextlib.nullcontext()
    try:
        return jax.default_device(jax.devices(device)[0])
    except RuntimeError as reason:
        there = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise InvalidSetting(
            f"There is no device `{device}` here.",
            expected="a device that JAX finds",
            received=f"`{device}`; found: {there}",
            advice='Install `bayestwin[gpu]` on a machine with a GPU, or pass `device="cpu"`.',
        ) from reason


def mapped_share() -> float:
    """How many of the memory areas that Linux lets a process have it has, as a share; 0 where nothing counts them."""
    try:
        with open("/proc/self/maps", "rb") as areas, open("/proc/sys/vm/max_map_count", encoding="ascii") as most:
            return areas.read().count(b"\n") / int(most.read())
    except (OSError, ValueError):
        return 0.0


@contextlib.contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """A context in which running out of memory is an error that says what to do.

    Args:
        advice: What to lower.

    Raises:
        OutOfMemory: In place of what Python, NumPy and XLA raise.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as reason:
        if not isinstance(reason, MemoryError) and "RESOURCE_EXHAUSTED" not in str(reason):
            raise
        raise OutOfMemory(
            "There is not enough memory.",
            expected="that what is computed fits into the memory of the device",
            received=(str(reason).strip() or type(reason).__name__).splitlines()[0],
            advice=advice,
        ) from reason


# Ctrl-C that is heard between two pieces of work, and not in the middle of one.
#
# Python raises `KeyboardInterrupt` wherever it happens to be. Within a finaliser or a callback of the garbage
# collector it is printed and forgotten, and then work that was to stop goes on.


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Do one piece of work, and hear a first Ctrl-C after it; a second one is raised at once.

    Where Ctrl-C does not raise, or in another thread than the main one, everything stays as it is.

    Raises:
        KeyboardInterrupt: At the end, if there was a Ctrl-C.
    """
    heard = threading.Event()

    def hear(_signal: int, _frame: FrameType | None) -> None:
        if heard.is_set():
            raise KeyboardInterrupt
        heard.set()

    in_main = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT)
    if not in_main or usual is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if heard.is_set():
        raise KeyboardInterrupt


# The user's own folder for what can be had again: downloaded data and compiled code.


def cache_folder() -> pathlib.Path:
    """`BAYESTWIN_CACHE_DIR`, by default the system's place for caches.

    Raises:
        StorageFailure: If neither is known.
    """
    if own := os.environ.get("BAYESTWIN_CACHE_DIR"):
        return pathlib.Path(own)
    try:
        home = pathlib.Path.home()
    except RuntimeError as reason:  # as in containers whose user has no name
        raise StorageFailure(
            "There is no folder for caches.",
            expected="a home folder, or BAYESTWIN_CACHE_DIR",
            received="neither",
            advice="Name a folder of your own by BAYESTWIN_CACHE_DIR.",
        ) from reason
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "bayestwin"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "bayestwin"


def make_private(folder: pathlib.Path) -> pathlib.Path:
    """Make a folder that nobody but the user can write, or check that it is one.

    Args:
        folder: The folder; those above it are made too, and may be links.

    Returns:
        Its absolute path, without links.

    Raises:
        StorageFailure: If it cannot be made, is a link, belongs to someone else, or others can write or replace it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder = folder.parent.resolve() / folder.name
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        above = {parent: parent.stat().st_mode for parent in folder.parents}
    except OSError as reason:
        raise _refused(folder, reason.strerror or str(reason)) from reason
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(folder, "a symbolic link" if stat.S_ISLNK(found.st_mode) else "something that is no folder")
    if found.st_uid != os.geteuid():
        raise _refused(folder, f"a folder of user {found.st_uid}; you are {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(folder, f"a folder that others can write (mode {stat.S_IMODE(found.st_mode):o})")
    for parent, mode in above.items():
        # with the sticky bit, as on /tmp, others can add to a folder but not rename what is not theirs
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _refused(folder, f"a folder in `{parent}`, in which anyone can put another in its place")
    return folder


def _refused(folder: pathlib.Path, received: str) -> StorageFailure:
    return StorageFailure(
        f"`{folder}` cannot be used.",
        expected="a folder that only you can write",
        received=received,
        advice="Remove it, or name another place by BAYESTWIN_CACHE_DIR.",
    )


# Randomness: one seed in, one independent key for each named use.


def check_seed(seed: object) -> None:
    """Refuse what is not a seed: `None` or a float would be a different run each time, or an error far from here.

    Raises:
        InvalidSetting: If it is not an integer from 0 to 2⁶³ − 1.
    """
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 2**63:
        return
    raise InvalidSetting(
        "`seed` cannot be used.",
        expected="an integer from 0 to 2**63 - 1",
        received=f"{seed!r}",
        advice="Any will do, e.g. `seed=0`; the same one gives the same result.",
    )


def key_for(seed: int, use: str) -> Array:
    """The random key of one use, e.g. `key_for(seed, "warmup")`; the same seed and use give the same key."""
    return _key(np.asarray(seed), np.uint32(zlib.crc32(use.encode())))


@jax.jit
def _key(seed: Array, use: Array) -> Array:
    return jax.random.fold_in(jax.random.key(seed), use)


def seed_for(seed: int, use: str) -> int:
    """The seed of one use, for what takes a seed and is done many times over."""
    return int(np.random.SeedSequence([seed, zlib.crc32(use.encode())]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_same_device[**P, R](work: Callable[P, R]) -> Callable[P, R]:
    """The same work on the device of the thread that asks: that is a setting of a thread, not of those it starts."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]

    def there(*given: P.args, **named: P.kwargs) -> R:
        with jax.default_device(device):
            return work(*given, **named)

    return there


def side_by_side[T, R](work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do work that leaves Python to compiled programs on all cores; after Ctrl-C what has not begun is left out."""
    one = on_same_device(work)
    with ThreadPoolExecutor(num_cores()) as pool:
        jobs = [pool.submit(one, item) for item in items]
        try:
            return [job.result() for job in jobs]
        finally:
            pool.shutdown(cancel_futures=True)
