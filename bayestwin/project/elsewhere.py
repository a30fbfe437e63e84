"""A run made again in a fresh environment, by the one command of its kit."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence

from bayestwin.project.index import find_any_run
from bayestwin.project.kit import RERUN, RUN, export, unpack
from bayestwin.project.record import ENVIRONMENT


@contextlib.contextmanager
def opened(results: pathlib.Path, name: str, *, kit: bool) -> Iterator[pathlib.Path]:
    """The folder of a run, from its id, its path, or an archive that `export` wrote.

    Args:
        results: Where runs are filed.
        name: Id, path or archive.
        kit: Whether the folder is to lie in a kit that was unpacked, which is gone in the end.

    Raises:
        InvalidInput: If there is no such run, or it cannot be exported.
        UnsafeArtifact: If an archive would write elsewhere, or too much.
    """
    archive = pathlib.Path(name)
    packed = archive.is_file() and zipfile.is_zipfile(archive)
    if not packed and not kit:
        yield find_any_run(results, name)
        return
    with tempfile.TemporaryDirectory(prefix="bayestwin-kit-") as temporary:
        place = pathlib.Path(temporary)
        if not packed:
            folder = find_any_run(results, name)
            archive = export(folder.parents[1], folder, place / "kit.zip")
        yield unpack(archive, place / "kit") / RUN


def rerun(kit: pathlib.Path, options: Sequence[str] = ()) -> int:
    """Run the one command of a kit that was unpacked, with no settings of this process that change bits.

    Args:
        kit: Its folder.
        options: Passed on to `bayestwin reproduce`.

    Returns:
        The exit code: 0 where the run comes out the same. What the command prints is printed.
    """
    plain = {name: value for name, value in os.environ.items() if name not in (*ENVIRONMENT, "PYTHONPATH")}
    return subprocess.run(["sh", RERUN, *options], cwd=kit, env=plain, check=False).returncode
