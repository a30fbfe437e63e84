"""A kit holds all that makes its run again, and an archive that is no kit does no harm."""

import io
import os
import pathlib
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable

import pytest
from tank_model import Runs, run_command

from bayestwin._base import files
from bayestwin.errors import InvalidInput, UnsafeArtifact
from bayestwin.project.kit import export, unpack


@pytest.fixture
def packed(two_runs: Runs, tmp_path: pathlib.Path) -> pathlib.Path:
    return export(two_runs.results, two_runs.folders[0], tmp_path / "kit.zip")


def test_the_same_run_gives_the_same_archive(two_runs: Runs, packed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = export(two_runs.results, two_runs.folders[0], tmp_path / "again.zip")
    assert again.read_bytes() == packed.read_bytes()


def test_unpacked_it_holds_run_inputs_code_and_lock(packed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = unpack(packed, tmp_path / "unpacked")
    for name in (
        "run/run.json",
        "run/inputs/twin.py",
        "run/posterior.nc",
        "code/bayestwin/density/density.py",
        "README.md",
    ):
        assert (folder / name).is_file()
    lock = (folder / "requirements.lock").read_text(encoding="utf-8")
    assert "jax==" in lock
    assert "://" not in lock
    with zipfile.ZipFile(packed) as archive:
        (script,) = [one for one in archive.infolist() if one.filename.endswith("/rerun")]
    assert script.external_attr >> 16 & stat.S_IXUSR


@pytest.mark.thorough
def test_its_one_command_makes_the_run_again_with_the_code_of_the_kit(
    packed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = unpack(packed, tmp_path / "unpacked")
    # an environment that is complete: making one takes a minute and the network, and is a test of its own
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "code: $PYTHONPATH" >&2\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (folder / ".venv" / ".complete").touch()
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHON": sys.executable}
    done = subprocess.run(["sh", str(folder / "rerun")], env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"code: {folder.resolve() / 'code'}\n" in done.stderr
    assert "comes out the same" in done.stdout


def test_a_run_without_its_code_is_not_exported(copied: Callable[[], Runs], tmp_path: pathlib.Path) -> None:
    runs = copied()
    for path in (runs.results / ".code").iterdir():
        path.unlink()
    code, out, err = run_command(
        "export", runs.folders[0].name, "--results", runs.results, "--out", tmp_path / "kit.zip"
    )
    assert (code, out) == (2, "")
    assert "without its code" in err
    assert not (tmp_path / "kit.zip").exists()


def write_zip(path: pathlib.Path, names: list[str], mode: int = 0o644, content: bytes = b"x") -> pathlib.Path:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            about = zipfile.ZipInfo(name)
            about.external_attr = mode << 16
            archive.writestr(about, content)
    path.write_bytes(body.getvalue())
    return path


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "run/../../escaped", "a\\..\\escaped", "C:/escaped"])
def test_names_that_leave_the_folder_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    path = write_zip(tmp_path / "bad.zip", ["kit/run/run.json", name])
    with pytest.raises(UnsafeArtifact, match="is not unpacked"):
        unpack(path, tmp_path / "kit")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bad.zip"]


def test_links_and_bombs_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = write_zip(tmp_path / "link.zip", ["kit/run/run.json"], mode=stat.S_IFLNK | 0o777, content=b"/etc/passwd")
    with pytest.raises(UnsafeArtifact):
        unpack(link, tmp_path / "kit")
    monkeypatch.setattr(files, "MOST_UNPACKED", 1000)
    bomb = write_zip(tmp_path / "bomb.zip", ["kit/run/run.json"], content=bytes(2000))
    with pytest.raises(UnsafeArtifact):
        unpack(bomb, tmp_path / "kit")


def test_other_files_are_no_kit(tmp_path: pathlib.Path) -> None:
    (tmp_path / "text.zip").write_text("no archive", encoding="utf-8")
    with pytest.raises(InvalidInput, match="is no kit"):
        unpack(tmp_path / "text.zip", tmp_path / "kit")
    with pytest.raises(InvalidInput, match="is no kit"):
        unpack(write_zip(tmp_path / "other.zip", ["a/b"]), tmp_path / "kit")
