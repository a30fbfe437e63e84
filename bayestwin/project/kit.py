"""A run as one archive that makes it again elsewhere, and that archive opened and run in a fresh environment.

It has the run's record, inputs and results, the code, and one command.
"""

import contextlib
import io
import os
import pathlib
import shlex
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bayestwin._base.files import check_archive
from bayestwin.errors import InvalidInput
from bayestwin.project.index import find_any_run
from bayestwin.project.record import ENVIRONMENT, MADE, RECORD, code_path, files_of, read_record
from bayestwin.project.run import CHECKPOINT, ENDED, used_runs
from bayestwin.results.store import write_bytes_durably

RUN, RERUN = "run", "rerun"

MOST_FILES = 10_000
"""Of a kit, unpacked: what claims to be more is not one."""

SCRIPT = """\
#!/bin/sh
# Makes run {run} again in an environment of its own, and says whether it comes out the same. It needs
# Python {python}, or the one that PYTHON names, and the package index that pip is set up for.
set -eu
cd "$(dirname "$0")"
python=${{PYTHON:-python{python}}}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || {{
    echo "error: Python {python} is needed: install it, or name another from 3.12 on by PYTHON=/path/to/python." >&2
    exit 2
}}
if [ ! -f .venv/.complete ]; then
    rm -rf .venv
    "$python" -m venv .venv
    hashes=; if grep -q -- --hash= requirements.lock; then hashes=--require-hashes; fi
    .venv/bin/python -m pip install -qq --disable-pip-version-check --compile --only-binary :all: $hashes \\
        -r requirements.lock
    touch .venv/.complete
fi
{environment}export PYTHONPATH="$PWD/code"
exec .venv/bin/python -c "from bayestwin.cli import app; app()" reproduce run --here "$@"
"""

README = """\
# Run {run} of the model {model}

Everything that it was made from, and what came out:

    sh rerun        makes it again in a new environment, and says whether it comes out the same

`run/` is the run: `run.json` says what it was made of and what came out, `inputs/` holds the twin, the job and the
telemetry, the rest are results. Another folder with a `run.json` is an earlier run that it looked at. `code/` is
bayestwin as it was, `requirements.lock` the versions of all that it needs.
On the kind of host that `run.json` names the results must be the same to the bit, elsewhere within the Monte Carlo
error. `run/inputs/twin.py` is code that is run: look at it first if this comes from someone whom you do not know.
"""


def export(results: pathlib.Path, run: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Pack a run into an archive that makes it again.

    Args:
        results: Where the run is filed, and its code beside it.
        run: Its folder.
        out: The archive to write, `….zip`.

    Raises:
        InvalidInput: If the run did not come to its end, or its inputs, its code or a run that it looked at are not
            there as they were.
    """
    record = read_record(run)
    code = code_path(results, str(record.get("code_sha256")))
    missing = [] if record.get("inputs") else ["its inputs"]
    missing += [] if code.is_file() else [f"its code, `{code}`"]
    missing += [] if record.get("status") in ENDED else [f"an end: its status is “{record.get('status')}”"]
    if missing:
        raise InvalidInput(
            f"Run `{run.name}` cannot be exported.",
            expected="a run that came to its end, with the inputs and the code that it was made from",
            received="without " + "; without ".join(missing),
            advice="Calibrate anew by `bayestwin calibrate`: runs keep inputs and code.",
        )
    files = _files(run, RUN)
    for used in used_runs(run, record):
        files |= _files(used, used.name)
    with zipfile.ZipFile(code) as archive:
        files |= {name: archive.read(name) for name in archive.namelist()}
    files |= {name: text.encode() for name, text in _texts(run.name, record).items()}
    return write_bytes_durably(out, _packed(run.name, files))


def unpack(kit: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Unpack a kit.

    Args:
        kit: The archive.
        folder: Where to; an empty folder.

    Returns:
        The folder with `rerun` in it.

    Raises:
        InvalidInput: If it is no kit.
        UnsafeArtifact: If it would write elsewhere, or more than a kit may hold.
    """
    try:
        with zipfile.ZipFile(kit) as archive:
            why = "what `bayestwin export` writes"
            check_archive(kit, archive, most_files=MOST_FILES, why=why, within="one folder")
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError) as reason:
        raise InvalidInput(
            f"`{kit}` is no kit of a run.",
            expected="an archive that `bayestwin export` wrote",
            received=str(reason),
            advice="Export the run again.",
        ) from reason
    found = sorted(folder.glob(f"*/{RUN}/{RECORD}"))
    if len(found) == 1:
        return found[0].parents[1]
    raise InvalidInput(
        f"`{kit}` is no kit of a run.",
        expected=f"one folder with `{RUN}/{RECORD}` in it",
        received=f"{len(found)} of them",
        advice="Export the run again.",
    )


def _files(run: pathlib.Path, folder: str) -> dict[str, bytes]:
    return {f"{folder}/{name}": (run / name).read_bytes() for name in files_of(run) if not name.endswith(CHECKPOINT)}


def _texts(run: str, record: Mapping[str, Any]) -> dict[str, str]:
    python = ".".join(str(record["versions"]["python"]).split(".")[:2])
    known = record.get("environment") or {}
    environment = "".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in known.items())
    return {
        RERUN: SCRIPT.format(run=run, python=python, environment=environment),
        "README.md": README.format(run=run, model=record.get("model")),
        ".python-version": f"{python}\n",
    }


def _packed(name: str, files: Mapping[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            about = zipfile.ZipInfo(f"{name}/{path}", MADE)
            about.external_attr = (0o755 if path == RERUN else 0o644) << 16
            archive.writestr(about, content, zipfile.ZIP_DEFLATED)
    return body.getvalue()


# A run made again in a fresh environment, by the one command of its kit.


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
