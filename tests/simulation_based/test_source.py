"""The code version changes when any file of the package does, and not otherwise."""

import shutil
from pathlib import Path

from bayestwin.simulation_based.source import PACKAGE, source_sha256


def test_it_changes_with_any_line_or_name(tmp_path: Path) -> None:
    copy = tmp_path / "bayestwin"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_sha256(copy)
    assert before == source_sha256() == source_sha256(PACKAGE)
    (copy / "notes.txt").write_text("not code")
    assert source_sha256(copy) == before
    density = copy / "density.py"
    density.write_text(density.read_text() + "\n")
    changed = source_sha256(copy)
    density.rename(copy / "thickness.py")
    assert len({before, changed, source_sha256(copy)}) == 3
