"""The cache is the user's own: what others could write is refused, since compiled code in it is run."""

import os
import pathlib

import pytest

from bayestwin._base.process import cache_folder, make_private
from bayestwin.errors import StorageFailure


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A home folder with nothing in it, on Linux."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BAYESTWIN_CACHE_DIR", "")  # set but empty is not set
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def test_it_lies_where_the_system_keeps_caches(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == home / ".cache" / "bayestwin"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "bayestwin"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == home / "Library" / "Caches" / "bayestwin"
    monkeypatch.setenv("BAYESTWIN_CACHE_DIR", str(home / "own"))
    assert cache_folder() == home / "own"


@pytest.mark.usefixtures("home")
def test_without_a_home_it_asks_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> pathlib.Path:
        reason = "Could not determine home directory."
        raise RuntimeError(reason)

    monkeypatch.setattr(pathlib.Path, "home", no_home)
    with pytest.raises(StorageFailure, match="Name a folder of your own by BAYESTWIN_CACHE_DIR"):
        cache_folder()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_a_new_folder_is_private_whatever_the_umask(tmp_path: pathlib.Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = make_private(tmp_path / "compiled")
    finally:
        os.umask(before)
    assert folder == (tmp_path / "compiled").resolve()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert make_private(folder) == folder


def test_a_link_above_it_is_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to("disk")
    assert make_private(tmp_path / "home" / "deep" / "compiled") == (tmp_path / "disk/deep/compiled").resolve()


def test_a_link_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "compiled").symlink_to("elsewhere")
    with pytest.raises(StorageFailure, match="Received: a symbolic link"):
        make_private(tmp_path / "compiled")
    (tmp_path / "elsewhere").rmdir()
    with pytest.raises(StorageFailure, match=r"`.*compiled` cannot be used"):
        make_private(tmp_path / "compiled")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_can_write_is_refused_and_left_as_it_is(tmp_path: pathlib.Path, mode: int) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(mode)
    with pytest.raises(StorageFailure, match=rf"Received: a folder that others can write \(mode {mode:o}\)"):
        make_private(tmp_path / "compiled")
    assert (tmp_path / "compiled").stat().st_mode & 0o7777 == mode


def test_a_folder_that_others_can_replace_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "open" / "deep").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StorageFailure, match="open`, in which anyone can put another in its place"):
        make_private(tmp_path / "open" / "deep" / "compiled")
    (tmp_path / "open").chmod(0o1777)  # as /tmp is
    make_private(tmp_path / "open" / "deep" / "compiled")


def test_a_folder_of_another_user_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_private(tmp_path / "compiled")
    me = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: me + 1)
    with pytest.raises(StorageFailure, match=f"Received: a folder of user {me}; you are {me + 1}"):
        make_private(folder)


def test_where_there_is_a_file_it_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "compiled").write_text("")
    for folder in (tmp_path / "compiled", tmp_path / "compiled" / "deep"):
        with pytest.raises(StorageFailure, match=f"`{folder}` cannot be used"):
            make_private(folder)
