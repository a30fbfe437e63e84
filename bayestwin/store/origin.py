"""Where the bytes of a file come from: local paths only, and only those that start as HDF5 does."""

import io
import os
import pickletools
import re
from pathlib import Path

from bayestwin import errors

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# `Path("http://x")` prints as "http:/x"; netCDF also takes "[dap4]http://x".
_REMOTE = re.compile(r"(?:^|\])[A-Za-z][A-Za-z0-9+.-]+:/")
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".dill"}
_PICKLE_LIMIT = 1 << 20


def local_path(path: str | os.PathLike[str]) -> Path:
    """Give the path of a local file, refusing addresses of anything else.

    Args:
        path: What the user typed.

    Returns:
        The same as a path.

    Raises:
        UnsafeArtifact: It is a URL.
    """
    text = os.fspath(path)
    if _REMOTE.search(text):
        message = errors.explain(
            f"`{text}` is the address of something remote.",
            expected="the path of a local file",
            received="a URL",
            advice="Copy the file to a local folder first.",
        )
        raise errors.UnsafeArtifact(message)
    return Path(text)


def read_whole(path: Path) -> bytes:
    """Read a regular file into memory.

    Args:
        path: The file.

    Returns:
        All its bytes.

    Raises:
        InvalidArtifact: There is no file of that name.
        StorageFailure: It is there but cannot be read.
    """
    try:
        if path.is_file():
            return path.read_bytes()
        received = "something that is not a regular file" if path.exists() else "nothing of that name"
    except OSError as failure:
        message = errors.explain(
            f"Cannot read `{path}`.",
            expected="a file that this user may read",
            received=f"{failure.strerror} (errno {failure.errno})",
            advice="Check its permissions and the file system, or copy it to a local folder.",
        )
        raise errors.StorageFailure(message) from failure
    message = errors.explain(
        f"There is no file `{path}`.",
        expected="a file written by `bayestwin.save`",
        received=received,
        advice=f"Check the path; it is taken relative to `{Path.cwd()}`.",
    )
    raise errors.InvalidArtifact(message)


def refuse_other_formats(data: bytes, path: Path) -> None:
    """Refuse what does not start as HDF5 does.

    Args:
        data: The whole file.
        path: Where it lies.

    Raises:
        CorruptArtifact: It is empty, or shorter than HDF5's signature.
        UnsafeArtifact: It is a pickle.
        InvalidArtifact: It is of any other format.
    """
    if data.startswith(_SIGNATURE):
        return
    if _SIGNATURE.startswith(data):
        message = errors.explain(
            f"`{path}` is cut off at its very start.",
            expected="a netCDF4 file, sealed by a last line with its sha256",
            received=f"{len(data)} bytes" if data else "an empty file (0 bytes)",
            advice="Likely causes: an interrupted copy or a full disk. Restore it, or run the job again.",
        )
        raise errors.CorruptArtifact(message)
    if _looks_pickled(data) or path.suffix.lower() in _PICKLE_SUFFIXES:
        message = errors.explain(
            f"`{path}` is a pickle, which can run any code when it is opened.",
            expected="a netCDF4 file written by `bayestwin.save`",
            received=f"a file that starts with {data[:8]!r}",
            advice="Where it was made, load it, if you trust it, and write it with `bayestwin.save`.",
        )
        raise errors.UnsafeArtifact(message)
    message = errors.explain(
        f"`{path}` is not a file of bayestwin.",
        expected="a netCDF4 file written by `bayestwin.save`",
        received=f"a file that starts with {data[:8]!r}",
        advice="Check the path.",
    )
    raise errors.InvalidArtifact(message)


def _looks_pickled(data: bytes) -> bool:
    """Tell a pickle by its first bytes or, for the oldest protocols, by parsing without running it."""
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return True
    if len(data) > _PICKLE_LIMIT or not data.endswith(b"."):
        return False
    try:
        for _ in pickletools.genops(io.BytesIO(data)):
            pass
    except Exception:  # of any kind: the parser meets bytes of any kind
        return False
    return True
