"""The code version: a hash of the package's own source, which changes when any line of it does."""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def source_sha256(package: Path = PACKAGE) -> str:
    """SHA-256 of the names and contents of all Python files of a package."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
