"""Files that are the old ones or the new ones, whole, whatever dies when.

Bytes go to a temporary file in the same folder, to the disk, and then take the name of the old file in one
step. A temporary file is locked while its writer lives: the system drops the lock of a dead process, whatever
killed it, so that an orphan is told from a file that is being written.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bayestwin import errors

_PREFIX, _SUFFIX = ".bayestwin-", ".tmp"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Linux's own ENOTSUPP (524), which Python has no name for, is what some network file systems answer to locks.
LOCKLESS = {errno.ENOTSUP, errno.ENOLCK, 524}
_UNSUPPORTED = LOCKLESS | {errno.EINVAL, errno.ENOSYS}


def write_bytes_durably(path: str | os.PathLike[str], *parts: bytes) -> Path:
    """Replace a file by these bytes, or leave it as it was.

    Args:
        path: The file; through a symbolic link the file behind it is replaced. A missing folder is made.
        *parts: What the file holds, one after the other.

    Returns:
        The path that was written.

    Raises:
        StorageFailure: It cannot be written. The old file is then as it was, and nothing is left beside it.
    """
    location = Path(path)
    with _explained(location):
        target = Path(os.path.realpath(location))
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_orphans(target.parent)
        with _temporary(target.parent) as (temporary, descriptor):
            with open(descriptor, "wb", closefd=False) as stream:
                stream.writelines(parts)
            os.fsync(descriptor)
            os.replace(temporary, target)
        _sync_folder(target.parent)
    return location


def write_text_durably(path: str | os.PathLike[str], text: str) -> Path:
    """Replace a text file, in UTF-8 with the line ends as given, or leave it as it was.

    Args:
        path: The file.
        text: All of what it holds.

    Returns:
        The path that was written.

    Raises:
        StorageFailure: It cannot be written. The old file is then as it was.
    """
    return write_bytes_durably(path, text.encode())


def check_writable(folder: str | os.PathLike[str]) -> Path:
    """Make sure that results can be written to a folder, before a long computation starts.

    Makes the folder if it is missing, writes a small file to the disk, and removes it.

    Args:
        folder: Where results will go.

    Returns:
        The folder.

    Raises:
        StorageFailure: It cannot be made or written to.
    """
    location = Path(folder)
    with _explained(location):
        location.mkdir(parents=True, exist_ok=True)
        sweep_orphans(location)
        with _temporary(location) as (_, descriptor):
            os.write(descriptor, b"bayestwin can write here\n")
            os.fsync(descriptor)
    return location


def sweep_orphans(folder: Path) -> list[Path]:
    """Remove temporary files that dead processes left in a folder; those of living ones stay.

    Args:
        folder: The folder, not those within it.

    Returns:
        What was removed.
    """
    removed = []
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        # Gone in between, being written (the lock is held), or not ours to touch: let it be.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
            finally:
                os.close(descriptor)
    return removed


def without_locks(path: Path, failure: OSError) -> errors.StorageFailure:
    """The error where a file system does not lock files, as some network file systems do not."""
    return errors.StorageFailure(
        f"The file system of `{path}` does not lock files.",
        expected="a file system that does, so that no two processes write one file",
        received=f"{failure.strerror} (errno {failure.errno})",
        advice="What was there is untouched. Choose a folder on a local disk, by `--results`, and copy it later.",
    )


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, int]]:
    """Make a locked temporary file, and remove it at the end if it still has that name."""
    path, descriptor = _create(folder)
    try:
        yield path, descriptor
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _create(folder: Path) -> tuple[Path, int]:
    """Make and lock a new file, again if another process swept it before it was locked."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        # Not `tempfile`: its files can be read by their owner alone, and would stay so under the new name.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file, waiting for a sweep that looks at it; without locks nothing is swept either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as failure:
        if failure.errno not in _UNSUPPORTED:
            raise


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as failure:
        if failure.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the file system into one that says what to do."""
    try:
        yield
    except OSError as failure:
        error = errors.StorageFailure(
            f"Cannot write `{path}`.",
            expected="a folder that can be written to",
            received=f"{failure.strerror} (errno {failure.errno})",
            advice="What was there is untouched. Check the permissions, or choose another local folder.",
        )
        if failure.errno in _NO_SPACE:
            error = errors.StorageFailure(
                f"There is no space for `{path}`.",
                expected="room for the whole file, on the disk and in the quota",
                received=f"{failure.strerror} (errno {failure.errno})",
                advice="What was there is untouched. Free some space, or choose another local folder.",
            )
        if failure.errno in LOCKLESS:
            error = without_locks(path, failure)
        raise error from failure


# A model folder that is made: nothing is written over, and it is there whole or not at all.


def check_free(folder: Path, advice: str) -> None:
    """Refuse a name under which something lies already.

    Args:
        folder: The model folder to make.
        advice: What else to do.

    Raises:
        InvalidInput: If so.
    """
    if os.path.lexists(folder):
        there = "a model folder" if (folder / "twin.py").is_file() else "a folder" if folder.is_dir() else "a file"
        raise errors.InvalidInput(
            f"There is something under `{folder}` already.",
            expected="a name that is free: nothing is written over",
            received=there,
            advice=advice,
        )


def write_model_folder(folder: Path, texts: Mapping[str | Path, str], advice: str) -> None:
    """Make a model folder of these files.

    Args:
        folder: The folder, which is not there.
        texts: By their paths in it.
        advice: What to do where it cannot be written.

    Raises:
        StorageFailure: If it cannot be written; nothing of it is left then.
    """
    unfinished = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        for path, text in texts.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text, encoding="utf-8", newline="\n")
        unfinished.rename(folder)
    except OSError as reason:
        raise errors.StorageFailure(
            f"The model folder `{folder}` cannot be made.",
            expected="a folder that can be written to",
            received=reason.strerror or str(reason),
            advice=advice,
        ) from reason
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
