"""The last line of a file: the SHA-256 of everything before it.

HDF5 ignores what follows its own end, so that the file opens everywhere as if the line were not there.
"""

import hashlib
import re
from pathlib import Path

from bayestwin import errors

_TRAILER = re.compile(rb"\nbayestwin sha256 ([0-9a-f]{64})\n\Z")
_LENGTH = len(b"\nbayestwin sha256 \n") + 64
_CAUSES = "Likely causes: an interrupted copy, a failing disk, or another program that changed the file."


def trailer(body: bytes) -> bytes:
    """Give the line that seals these bytes."""
    return b"\nbayestwin sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def is_sealed(data: bytes, path: Path) -> bool:
    """Check the sum at the end of a file.

    Args:
        data: The whole file.
        path: Where it lies, for the message.

    Returns:
        True if the file ends with the right sum, False if it ends without any.

    Raises:
        CorruptArtifact: The sum is there and wrong.
    """
    end = _TRAILER.search(data, max(0, len(data) - _LENGTH))
    if end is None:
        return False
    written = end[1].decode()
    actual = hashlib.sha256(memoryview(data)[: end.start()]).hexdigest()
    if actual != written:
        message = errors.explain(
            f"`{path}` was damaged or changed since it was written.",
            expected=f"sha256 {written}, as its last line says",
            received=f"sha256 {actual} of the {end.start()} bytes before that line",
            advice=f"{_CAUSES} Restore it from a copy, or run the job again.",
        )
        raise errors.CorruptArtifact(message)
    return True


def explain_missing(path: Path) -> str:
    """Say that a file of ours has lost its last line."""
    return errors.explain(
        f"`{path}` was cut off, or changed by another program, since it was written.",
        expected="a last line with the sha256 of all before it",
        received="a file of bayestwin without that line",
        advice=f"{_CAUSES} Restore it from a copy, or run the job again.",
    )


def explain_unreadable(path: Path, failure: Exception) -> str:
    """Say that a file starts as HDF5 but cannot be read as such.

    Args:
        path: The file.
        failure: What the reader said.

    Returns:
        The message.
    """
    return errors.explain(
        f"`{path}` is damaged or cut off: it cannot be read to its end.",
        expected="a whole netCDF4 file, sealed by a last line with its sha256",
        received=f"{type(failure).__name__}: {failure}",
        advice=f"{_CAUSES} Restore it from a copy, or run the job again.",
    )
