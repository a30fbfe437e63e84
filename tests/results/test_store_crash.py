"""A file is the old one or the new one, whole, whatever dies when; what cannot be written is an error."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from bayestwin import errors
from bayestwin.results.store import check_writable, load, save, sweep_orphans, write_text_durably

ROOT = Path(__file__).parents[2]

# What the programs below begin with: versions of a result that tell themselves apart in every number.
VERSIONS = """
import os, resource, signal, sys, time
from pathlib import Path
import numpy as np
import xarray as xr
from bayestwin import errors
from bayestwin.results import store

NOISE = np.random.default_rng(0).normal(size=(4, 50_000))

def version(number):
    posterior = xr.Dataset({"alpha": (("chain", "draw"), NOISE + number)})
    tree = xr.DataTree.from_dict({"posterior": posterior})
    tree.attrs = {"schema_version": 1, "number": number}
    return tree

folder = Path(sys.argv[1])
target = folder / "posterior.nc"
"""

KILLED = """
import json

def identity():
    seen = target.stat()
    return seen.st_ino, seen.st_mtime_ns

def being_written():
    return any(path.stat().st_size for path in folder.glob(".bayestwin-*") if path.exists())

rng = np.random.default_rng(7)
fsync = os.fsync
store.save(version(0), target)
for turn in range(int(sys.argv[2])):
    number, old = store.load(target).attrs["number"], identity()
    store.sweep_orphans(folder)
    child = os.fork()
    if child == 0:
        # A slow disk, so that writing takes as long as the delays below.
        os.fsync = lambda descriptor: (time.sleep(0.002), fsync(descriptor))
        while True:
            number += 1
            store.save(version(number), target)
    # In every second turn, wait until bytes are being written: most of the time goes into making them.
    while not being_written() if turn % 2 else identity() == old:
        time.sleep(0.0002)
    time.sleep(rng.uniform(0, 0.006 if turn % 2 else 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    orphans = len(list(folder.glob(".bayestwin-*")))
    loaded = store.load(target)
    whole = np.array_equal(loaded["posterior"]["alpha"], NOISE + loaded.attrs["number"])
    print(json.dumps({"whole": whole, "orphans": orphans, "number": loaded.attrs["number"]}), flush=True)
"""


def small(value: float = 1.0) -> xr.DataTree:
    """A result of a few bytes."""
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"alpha": (("chain", "draw"), [[value]])})})


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which may die."""
    command = [sys.executable, "-c", VERSIONS + program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def temporaries(folder: Path) -> list[str]:
    """The names in a folder that are not results."""
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.thorough
def test_sigkill_at_any_moment_leaves_a_whole_version(tmp_path):
    turns = 24
    killed = run(KILLED, tmp_path, turns)
    assert killed.returncode == 0, killed.stderr
    seen = [json.loads(line) for line in killed.stdout.splitlines()]
    assert len(seen) == turns
    assert all(one["whole"] for one in seen)
    numbers = [one["number"] for one in seen]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= turns // 2
    # The test is worth its name only if some died while they wrote; each leaves one orphan at most.
    assert sum(one["orphans"] for one in seen) >= 4
    assert max(one["orphans"] for one in seen) == 1


def test_death_before_the_rename_leaves_the_old_file_and_an_orphan_that_is_swept(tmp_path):
    died = run(
        "store.save(version(1), target)\nos.replace = lambda *_: os._exit(9)\nstore.save(version(2), target)",
        tmp_path,
    )
    assert died.returncode == 9, died.stderr
    assert load(tmp_path / "posterior.nc").attrs["number"] == 1
    assert len(temporaries(tmp_path)) == 1
    save(small(), tmp_path / "other.nc")
    assert temporaries(tmp_path) == []
    assert load(tmp_path / "posterior.nc").attrs["number"] == 1


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path):
    program = """
import stat
def told(function, words):
    def wrapper(*arguments):
        print(words(*arguments), flush=True)
        return function(*arguments)
    return wrapper
def kind(descriptor):
    return "sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file"
os.fsync = told(os.fsync, kind)
os.replace = told(os.replace, lambda *_: "rename")
store.save(version(1), target)
"""
    assert run(program, tmp_path).stdout.splitlines() == ["sync file", "rename", "sync folder"]


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path):
    program = """
import fcntl
flock = fcntl.flock
def late(descriptor, operation):
    fcntl.flock = flock
    for path in folder.glob(".bayestwin-*"):
        path.unlink()
        print("swept")
    flock(descriptor, operation)
fcntl.flock = late
store.save(version(1), target)
"""
    raced = run(program, tmp_path)
    assert raced.stdout == "swept\n", raced.stderr
    assert load(tmp_path / "posterior.nc").attrs["number"] == 1
    assert os.listdir(tmp_path) == ["posterior.nc"]


def test_the_file_of_a_living_writer_is_not_swept(tmp_path):
    program = """
replace = os.replace
def slowly(*names):
    print("written", flush=True)
    sys.stdin.readline()
    replace(*names)
os.replace = slowly
store.save(version(1), target)
"""
    command = [sys.executable, "-c", VERSIONS + program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        assert len(temporaries(tmp_path)) == 1
        assert sweep_orphans(tmp_path) == []
        save(small(), tmp_path / "other.nc")
        assert len(temporaries(tmp_path)) == 1
        writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert load(tmp_path / "posterior.nc").attrs["number"] == 1
    assert temporaries(tmp_path) == []


def test_a_full_disk_keeps_the_old_file(tmp_path):
    program = """
store.save(version(1), target)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    store.save(version(2), target)
except errors.StorageFailure as failure:
    print(failure)
"""
    full = run(program, tmp_path)
    assert full.returncode == 0, full.stderr
    assert f"There is no space for `{tmp_path / 'posterior.nc'}`" in full.stdout
    assert "Free some space" in full.stdout
    assert load(tmp_path / "posterior.nc").attrs["number"] == 1
    assert os.listdir(tmp_path) == ["posterior.nc"]


def test_a_full_disk_keeps_the_old_text(tmp_path):
    path = write_text_durably(tmp_path / "run.json", "{}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(errors.StorageFailure, match="no space"):
            write_text_durably(path, "x" * 1001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "{}"
    assert os.listdir(tmp_path) == ["run.json"]


def test_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "new" / "folder" / "report.html"
    assert write_text_durably(path, "°C\r\nnext\n") == path
    assert path.read_bytes() == "°C\r\nnext\n".encode()
    assert os.listdir(path.parent) == ["report.html"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    path = write_text_durably(tmp_path / "run.json", "{}")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "latest.nc").symlink_to(tmp_path / "results" / "posterior.nc")
    save(small(3.0), tmp_path / "latest.nc")
    assert (tmp_path / "latest.nc").is_symlink()
    assert float(load(tmp_path / "results" / "posterior.nc")["posterior"]["alpha"][0, 0]) == 3.0


def test_a_reader_keeps_what_it_has_opened(tmp_path):
    path = save(small(1.0), tmp_path / "posterior.nc")
    with xr.open_datatree(path) as lazy, netCDF4.Dataset(path) as opened:
        save(small(2.0), path)
        assert float(lazy["posterior"]["alpha"][0, 0]) == 1.0
        assert float(opened["posterior"]["alpha"][0, 0]) == 1.0
    assert float(load(path)["posterior"]["alpha"][0, 0]) == 2.0


def beneath_a_file(folder: Path) -> Path:
    (folder / "file").write_text("kept")
    return folder / "file" / "results"


# Modes do not stop root; but nobody can make a folder beneath a file, or beneath /proc.
NOT_WRITABLE = {"beneath a file": beneath_a_file, "beneath /proc": lambda _: Path("/proc/results")}


@pytest.mark.parametrize("where", NOT_WRITABLE)
def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_work_starts(tmp_path, where):
    folder = NOT_WRITABLE[where](tmp_path)
    with pytest.raises(errors.StorageFailure, match="Cannot write") as caught:
        check_writable(folder)
    assert str(folder) in str(caught.value)
    with pytest.raises(errors.StorageFailure, match="Cannot write"):
        save(small(), folder / "posterior.nc")
    with pytest.raises(errors.StorageFailure, match="Cannot write"):
        write_text_durably(folder / "run.json", "{}")


def test_a_folder_that_exists_but_takes_no_file_is_an_error():
    with pytest.raises(errors.StorageFailure, match="Cannot write"):
        check_writable("/proc")


def test_a_full_disk_is_found_before_the_work_starts(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(errors.StorageFailure, match="no space"):
            check_writable(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_can_be_written_to_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "results" / "room"
    assert check_writable(str(folder)) == folder
    (folder / ".bayestwin-0.tmp").touch()
    check_writable(folder)
    assert os.listdir(folder) == []


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "posterior.nc").mkdir()
    with pytest.raises(errors.StorageFailure, match="Cannot write"):
        save(small(), tmp_path / "posterior.nc")
    assert os.listdir(tmp_path) == ["posterior.nc"]


def test_sweeping_leaves_the_files_of_others_alone(tmp_path):
    for name in (".bayestwin-notes", "x.tmp", ".hidden"):
        (tmp_path / name).write_text("kept")
    (tmp_path / ".bayestwin-0.tmp").touch()
    assert sweep_orphans(tmp_path) == [tmp_path / ".bayestwin-0.tmp"]
    assert sorted(os.listdir(tmp_path)) == [".bayestwin-notes", ".hidden", "x.tmp"]


def test_numbers_are_whole_after_many_versions(tmp_path):
    for value in np.linspace(0, 1, 10):
        path = save(small(value), tmp_path / "posterior.nc")
        assert float(load(path)["posterior"]["alpha"][0, 0]) == value
    assert os.listdir(tmp_path) == ["posterior.nc"]
