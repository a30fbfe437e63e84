"""One writer a run: a lock that the system drops when its holder dies, so that none is ever stale."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import filelock

from bayestwin.errors import RunLocked, StorageFailure, explain
from bayestwin.results.durable import without_locks

LOCK = ".lock"


@contextlib.contextmanager
def locked(run: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a run.

    Args:
        run: Its folder.

    Raises:
        RunLocked: If another process holds it.
        StorageFailure: If the file system does not lock files.
    """
    path = run / LOCK
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as reason:
        message = explain(
            f"Run `{run.name}` is being written by another process.",
            expected="one writer at a time",
            received=_holder(path),
            advice="Wait until it has ended, or begin a run of your own.",
        )
        raise RunLocked(message) from reason
    except OSError as reason:
        raise StorageFailure(without_locks(run, reason)) from reason
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")  # for people: what counts is the system's lock
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def is_locked(run: pathlib.Path) -> bool:
    """Whether a living process is writing a run; where files cannot be locked none has begun to."""
    if not (run / LOCK).is_file():
        return False
    lock = filelock.FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _holder(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text(encoding="utf-8").strip():
            return f"the lock of process {text}"
    return "the lock of another process"
