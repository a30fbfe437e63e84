"""What a file must be before any of its values is read: local, whole, of ours, of a known schema, closed in itself.

A file is netCDF4 followed by one line with the SHA-256 of all before it. HDF5 ignores what follows its own end, so
that the file opens everywhere as if the line were not there.
"""

import hashlib
import io
import pickletools
import re
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from bayestwin import errors
from bayestwin.results.durable import LOCKLESS, without_locks

#: The version of the layout of files, stored as the root attribute `schema_version`.
SCHEMA_VERSION = 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TRAILER = re.compile(rb"\nbayestwin sha256 ([0-9a-f]{64})\n\Z")
_LENGTH = len(b"\nbayestwin sha256 \n") + 64
_CAUSES = "Likely causes: an interrupted copy, a full or failing disk, or another program that changed the file."
_WRITTEN = "a netCDF4 file written by `bayestwin.save`"
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".dill"}
_PICKLE_LIMIT = 1 << 20


def read_whole(path: Path) -> bytes:
    """Read a regular file, or raise `InvalidArtifact` if there is none, `StorageFailure` if it cannot be read."""
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
        if failure.errno in LOCKLESS:
            message = without_locks(path, failure)
        raise errors.StorageFailure(message) from failure
    message = errors.explain(
        f"There is no file `{path}`.",
        expected="a file written by `bayestwin.save`",
        received=received,
        advice=f"Check the path; it is taken relative to `{Path.cwd()}`.",
    )
    raise errors.InvalidArtifact(message)


def trailer(body: bytes) -> bytes:
    """Give the line that seals these bytes."""
    return b"\nbayestwin sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def is_sealed(data: bytes, path: Path) -> bool:
    """Tell whether a file ends with its sum; raise `CorruptArtifact` if that is there and wrong."""
    end = _TRAILER.search(data, max(0, len(data) - _LENGTH))
    if end is None:
        return False
    written = end[1].decode()
    actual = hashlib.sha256(memoryview(data)[: end.start()]).hexdigest()
    if actual != written:
        refuse_damaged(
            f"`{path}` was damaged or changed since it was written.",
            expected=f"sha256 {written}, as its last line says",
            received=f"sha256 {actual} of the {end.start()} bytes before that line",
        )
    return True


def refuse_damaged(problem: str, *, received: str, expected: str = f"{_WRITTEN}, with its last line") -> NoReturn:
    """Raise `CorruptArtifact`."""
    advice = f"{_CAUSES} Restore it from a copy, or run the job again."
    raise errors.CorruptArtifact(errors.explain(problem, expected=expected, received=received, advice=advice))


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
    received = f"{len(data)} bytes" if data else "an empty file (0 bytes)"
    if _SIGNATURE.startswith(data):
        refuse_damaged(f"`{path}` is cut off at its very start.", received=received)
    received = f"a file that starts with {data[:8]!r}"
    if _looks_pickled(data) or path.suffix.lower() in _PICKLE_SUFFIXES:
        message = errors.explain(
            f"`{path}` is a pickle, which can run any code when it is opened.",
            expected=_WRITTEN,
            received=received,
            advice="Where it was made, load it, if you trust it, and write it with `bayestwin.save`.",
        )
        raise errors.UnsafeArtifact(message)
    _refuse_foreign(path, received)


def refuse_other_schema(file: h5py.File, path: Path) -> None:
    """Refuse a file that says no schema of ours (`InvalidArtifact`), or a newer one (`NewerSchema`)."""
    found = np.asarray(file.attrs.get("schema_version"))
    if found.size != 1 or found.dtype.kind not in "iu":
        _refuse_foreign(path, "a valid HDF5 file without a `schema_version`, which something else wrote")
    if found.item() > SCHEMA_VERSION:
        message = errors.explain(
            f"`{path}` was written by a newer version of bayestwin.",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            received=f"schema_version {found.item()}",
            advice="Upgrade: `pip install --upgrade bayestwin`.",
        )
        raise errors.NewerSchema(message)


def _refuse_foreign(path: Path, received: str) -> NoReturn:
    """Raise for a file that something else wrote."""
    message = errors.explain(
        f"`{path}` is not a file of bayestwin.",
        expected=_WRITTEN,
        received=received,
        advice="Check the path. If xarray opens it, save the tree with `bayestwin.save`.",
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
