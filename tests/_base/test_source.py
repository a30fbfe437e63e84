"""The code version changes when any file of the package does, and not otherwise."""

import shutil
from pathlib import Path

from bayestwin._base.files import PACKAGE, source_sha256


def hash_now(package: Path) -> str:
    """Without what was kept of an earlier call: in one process the code does not change."""
    return source_sha256.__wrapped__(package)


def test_it_changes_with_any_line_or_name(tmp_path: Path) -> None:
    copy = tmp_path / "bayestwin"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_sha256(copy)
    assert before == source_sha256() == source_sha256(PACKAGE)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "density.pyc").write_bytes(b"made from it")
    assert hash_now(copy) == before
    density = copy / "density" / "density.py"
    density.write_text(density.read_text() + "\n")
    changed = hash_now(copy)
    density.rename(density.with_name("thickness.py"))
    assert len({before, changed, hash_now(copy)}) == 3
