"""What files must be before they are read, and the package's own source.

A file that others may have made must be local and closed in itself: HDF5 can link to other files and call plug-ins,
which are code; the address of something remote is never opened. The hash of the source is the code version.
"""

import functools
import hashlib
import math
import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import NoReturn

import h5py

from bayestwin import errors

# `Path("http://x")` prints as "http:/x"; netCDF also takes "[dap4]http://x".
_REMOTE = re.compile(r"(?:^|\])[A-Za-z][A-Za-z0-9+.-]+:/")
# Deflate, shuffle and Fletcher-32 are all that `save` uses; others may be plug-ins, which are code.
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
# Deflate shrinks at most 1,032-fold, so that a whole file cannot hold more than this times its size.
_LARGEST_RATIO = 2_000
_SMALL = 64 << 20

MOST_UNPACKED = 4 * 2**30
"""Bytes that an archive may hold: what claims to be more is not opened."""


def without_password(text: str) -> str:
    """Text in which no address shows the password that it may hold."""
    bare = re.sub(r"(//[^/:@\s]*):[^@\s]*@", r"\1:…@", text)
    return re.sub(r"(password=)[^&\s'\"]+", r"\1…", bare, flags=re.IGNORECASE)


def local_path(path: str | os.PathLike[str]) -> Path:
    """Give the path of a local file, or raise `UnsafeArtifact` for the address of anything else."""
    text = os.fspath(path)
    if not _REMOTE.search(text):
        return Path(text)
    raise errors.UnsafeArtifact(
        f"`{without_password(text)}` is the address of something remote.",
        expected="the path of a local file",
        received="a URL",
        advice="Copy the file to a local folder first.",
    )


def refuse_reaching_out(file: h5py.File, path: Path, size: int) -> None:
    """Refuse links, virtual and external datasets, unknown filters and shapes beyond what the file can hold.

    Args:
        file: The open file, of which nothing has been read yet.
        path: Where it lies.
        size: Its length in bytes.

    Raises:
        UnsafeArtifact: It has any of these.
    """
    waiting: list[h5py.Group] = [file]
    seen = {_address(file)}
    declared = 0
    while waiting:
        group = waiting.pop()
        for name in group:
            where = f"{str(group.name).rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                _refuse_unsafe(path, where, f"{type(link).__name__} to another place")
            item = group[name]
            if _address(item) in seen:
                _refuse_unsafe(path, where, "second name of another item")
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _refuse_dataset(item, path, where)
                declared += math.prod(item.shape or ()) * item.dtype.itemsize
            else:
                _refuse_unsafe(path, where, f"{type(item).__name__}")
    if declared > _SMALL + _LARGEST_RATIO * size:
        _refuse_unsafe(path, "/", f"set of shapes that needs {declared:,} bytes, in a file of {size:,} bytes")


def _refuse_dataset(dataset: h5py.Dataset, path: Path, where: str) -> None:
    """Refuse a dataset whose values lie elsewhere or need a filter that is not ours."""
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        _refuse_unsafe(path, where, "virtual dataset, which reads other files")
    if layout.get_external_count():
        _refuse_unsafe(path, where, "dataset with external storage, which reads other files")
    if any(layout.get_filter(index)[0] not in _FILTERS for index in range(layout.get_nfilters())):
        _refuse_unsafe(path, where, "filter that may be a plug-in")


def _refuse_unsafe(path: Path, where: str, what: str) -> NoReturn:
    """Raise for one thing in a file."""
    raise errors.UnsafeArtifact(
        f"`{path}` holds what bayestwin does not open, at `{where}`.",
        expected="groups, and datasets whose values are in the file itself",
        received=f"a {what}",
        advice="Do not open it unless you know where it comes from.",
    )


def _address(item: object) -> int:
    """Give the place of a group or dataset in its file, equal for two names of one item."""
    return h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue]


# The package's own source: its files, and their hash, which is the code version.

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


def check_archive(path: Path, archive: zipfile.ZipFile, *, most_files: int, why: str, within: str) -> None:
    """Refuse an archive that would leave its folder or fill the disk, before anything is written.

    Args:
        path: Where it is.
        archive: The archive, opened.
        most_files: That it may hold.
        why: What it is not, as the message says it.
        within: Where its files should lie, as the message says it.

    Raises:
        UnsafeArtifact: Naming the first entry that is a link or leads elsewhere, or what it holds.
    """
    entries = archive.infolist()
    strange = [one.filename for one in entries if _leaves(one.filename) or stat.S_ISLNK(one.external_attr >> 16)]
    size = sum(one.file_size for one in entries)
    if strange or len(entries) > most_files or size > MOST_UNPACKED:
        raise errors.UnsafeArtifact(
            f"`{path}` is not unpacked: it is not {why}.",
            expected=f"plain files within {within}, at most {most_files:,} of them and {MOST_UNPACKED / 2**30:g} GiB",
            received=f"`{strange[0]}`" if strange else f"{len(entries):,} files of {size / 2**30:.1f} GiB",
            advice="Do not use it unless you know who made it.",
        )


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
