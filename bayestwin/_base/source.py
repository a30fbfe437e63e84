"""The package's own source: its files, and their hash, which is the code version."""

import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def source_files(package: Path = PACKAGE) -> dict[str, bytes]:
    """Contents of every file of a package by its path within it, in order; without byte code."""
    found = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in sorted(found)}


@functools.cache
def source_sha256(package: Path = PACKAGE) -> str:
    """SHA-256 of the names and contents of all files of a package: it changes when any line of them does."""
    digest = hashlib.sha256()
    for name, content in source_files(package).items():
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
