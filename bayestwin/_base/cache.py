"""The user's own folder for what can be had again: downloaded data and compiled code."""

import os
import pathlib
import stat
import sys

from bayestwin.errors import StorageFailure, explain


def cache_folder() -> pathlib.Path:
    """`BAYESTWIN_CACHE_DIR`, by default the system's place for caches.

    Raises:
        StorageFailure: If neither is known.
    """
    if own := os.environ.get("BAYESTWIN_CACHE_DIR"):
        return pathlib.Path(own)
    try:
        home = pathlib.Path.home()
    except RuntimeError as reason:  # as in containers whose user has no name
        message = explain(
            "There is no folder for caches.",
            expected="a home folder, or BAYESTWIN_CACHE_DIR",
            received="neither",
            advice="Name a folder of your own by BAYESTWIN_CACHE_DIR.",
        )
        raise StorageFailure(message) from reason
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "bayestwin"
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA", home)) / "bayestwin" / "Cache"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "bayestwin"


def make_private(folder: pathlib.Path) -> pathlib.Path:
    """Make a folder that nobody but the user can write, or check that it is one.

    Args:
        folder: The folder; those above it are made too, and may be links.

    Returns:
        Its absolute path, without links.

    Raises:
        StorageFailure: If it cannot be made, is a link, belongs to someone else, or others can write or replace it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder = folder.parent.resolve() / folder.name
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        above = {parent: parent.stat().st_mode for parent in folder.parents}
    except OSError as reason:
        raise _refused(folder, reason.strerror or str(reason)) from reason
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(folder, "a symbolic link" if stat.S_ISLNK(found.st_mode) else "something that is no folder")
    if sys.platform == "win32":  # what lies below a user's folder is that user's own there
        return folder
    if found.st_uid != os.geteuid():
        raise _refused(folder, f"a folder of user {found.st_uid}; you are {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(folder, f"a folder that others can write (mode {stat.S_IMODE(found.st_mode):o})")
    for parent, mode in above.items():
        # with the sticky bit, as on /tmp, others can add to a folder but not rename what is not theirs
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _refused(folder, f"a folder in `{parent}`, in which anyone can put another in its place")
    return folder


def _refused(folder: pathlib.Path, received: str) -> StorageFailure:
    message = explain(
        f"`{folder}` cannot be used.",
        expected="a folder that only you can write",
        received=received,
        advice="Remove it, or name another place by BAYESTWIN_CACHE_DIR.",
    )
    return StorageFailure(message)
