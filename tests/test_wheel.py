"""The wheel alone, in an empty folder: a new model, its calibration and its report, without a file of the clone.

The fresh environment needs what bayestwin needs, but neither the clone nor a network. `--system-site-packages` would
show it the base interpreter's packages and not those of this environment, so a `.pth` file names the folder in which
this environment's packages lie. The editable bayestwin of this environment is a `.pth` file in that folder, and such
files are followed only in an environment's own folder: the clone stays out. The wheel goes in first, so that pip sees
nothing to take away. An audit hook then writes down every file of the clone that Python opens.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.wheel

ROOT = pathlib.Path(__file__).resolve().parents[1]

HOOK = """
import os
import sys

ROOT, LOG = {root!r}, {log!r}
PACKAGES = {packages!r}


def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], str | os.PathLike):
        path = os.path.realpath(os.fspath(arguments[0]))
        if path.startswith(ROOT + os.sep) and not path.startswith(PACKAGES):
            os.write(DESCRIPTOR, (path + "\\n").encode())


DESCRIPTOR = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(watch)
"""


class Installed(NamedTuple):
    """An environment with the wheel in it.

    Attributes:
        wheel: The wheel.
        bin: Where its programs lie.
        packages: Where its packages lie.
        folder: A folder with nothing in it.
        opened: File with the paths in the clone that were opened, one a line.
    """

    wheel: pathlib.Path
    bin: pathlib.Path
    packages: pathlib.Path
    folder: pathlib.Path
    opened: pathlib.Path


def call(*arguments: object, cwd: pathlib.Path) -> str:
    """What a program prints that must succeed, in an environment that names neither the clone nor this one."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [str(one) for one in arguments],
        cwd=cwd,
        env=kept | {"BAYESTWIN_CACHE_DIR": str(cwd.parent / "cache")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this clone, built and installed."""
    root = tmp_path_factory.mktemp("wheel").resolve()
    folder = root / "empty"
    folder.mkdir()
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", root, ROOT, cwd=folder)
    (wheel,) = root.glob("bayestwin-*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", root / "venv", cwd=folder)
    python = root / "venv" / "bin" / "python"
    quiet = (
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    )
    call(sys.executable, *quiet, wheel, cwd=folder)
    (packages,) = (root / "venv" / "lib").glob("python*/site-packages")
    own = os.path.realpath(sysconfig.get_path("purelib"))
    (packages / "dependencies.pth").write_text(f"{own}\n", encoding="utf-8")
    hook = HOOK.format(root=str(ROOT), log=str(root / "opened"), packages=own)
    (packages / "sitecustomize.py").write_text(hook, encoding="utf-8")
    return Installed(wheel, python.parent, packages, folder, root / "opened")


def test_the_wheel_holds_all_of_the_package_and_says_what_it_is(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    own = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bayestwin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert own == {name for name in names if ".dist-info/" not in name}
    assert "bayestwin/project/templates/new_model/twin.py.txt" in own
    assert "Project-URL: Homepage, https://" in metadata
    assert "diffrax" not in metadata.partition("Provides-Extra")[0]


def test_a_model_is_made_calibrated_and_reported_in_an_empty_folder(installed: Installed) -> None:
    command = installed.bin / "bayestwin"
    program = "import bayestwin as bt; print(bt.__file__, bt.__version__)"
    where = call(installed.bin / "python", "-c", program, cwd=installed.folder)
    path, version = where.split()
    assert pathlib.Path(path).is_relative_to(installed.packages)
    assert installed.wheel.name.startswith(f"bayestwin-{version}-")
    call(command, "new", "boiler", cwd=installed.folder)
    assert "models/boiler" in call(command, "models", cwd=installed.folder)
    call(command, "calibrate", "models/boiler", cwd=installed.folder)
    (run,) = (installed.folder / "results" / "boiler").iterdir()
    (run / "report.html").unlink()
    call(command, "report", "models/boiler", cwd=installed.folder)
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    assert (run / "posterior.nc").is_file()
    assert installed.opened.read_text(encoding="utf-8") == ""


def test_the_hook_would_have_seen_a_file_of_the_clone(installed: Installed) -> None:
    before = installed.opened.read_text(encoding="utf-8")
    try:
        call(installed.bin / "python", "-c", f"open({str(ROOT / 'README.md')!r}).close()", cwd=installed.folder)
        assert installed.opened.read_text(encoding="utf-8") == f"{before}{ROOT / 'README.md'}\n"
    finally:
        installed.opened.write_text(before, encoding="utf-8")
