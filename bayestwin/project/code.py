"""The code that a run was made with: its hash, and a copy of it beside the runs, one for each version of the code."""

import importlib.metadata
import io
import pathlib
import zipfile

from bayestwin._base.source import PACKAGE, source_files, source_sha256
from bayestwin.results.store import check_writable, write_bytes_durably

CODE = ".code"
"""Folder beneath that of all results."""

LOCK = "requirements.lock"

MADE = (1980, 1, 1, 0, 0, 0)
"""The time that archives say: the same files give the same bytes."""


def keep_code(results: pathlib.Path) -> str:
    """Make sure that a copy of the code lies beside the runs.

    Args:
        results: Where runs are filed.

    Returns:
        The hash of the code.
    """
    sha256 = source_sha256()
    path = code_path(results, sha256)
    if not path.is_file():
        check_writable(path.parent)
        write_bytes_durably(path, _archive())
    return sha256


def code_path(results: pathlib.Path, sha256: str) -> pathlib.Path:
    """Where the copy of a version of the code lies."""
    return results / CODE / f"{sha256}.zip"


def _archive() -> bytes:
    """The package, what makes its version known without installing it, and the versions of all that it needs."""
    version = importlib.metadata.version("bayestwin")
    metadata = f"Metadata-Version: 2.1\nName: bayestwin\nVersion: {version}\n"
    files = {f"code/bayestwin/{name}": content for name, content in source_files().items()}
    files[f"code/bayestwin-{version}.dist-info/METADATA"] = metadata.encode()
    files[LOCK] = _lock()
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, MADE), content, zipfile.ZIP_DEFLATED)
    return body.getvalue()


def _lock() -> bytes:
    """The lock that the clone has, with hashes; else the versions that are installed, without."""
    own = PACKAGE.parent / LOCK
    if own.is_file():
        return own.read_bytes()
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items()) if name and name != "bayestwin"]
    return "".join(lines).encode()
