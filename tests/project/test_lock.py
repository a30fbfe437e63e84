"""A run has one writer at a time, and a writer that died holds nothing."""

import pathlib
import signal
import subprocess
import sys

import pytest

from bayestwin.errors import RunLocked
from bayestwin.project.record import is_locked, locked

HOLD = """
import pathlib, sys, time
from bayestwin.project.record import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def held_by_another(run: pathlib.Path) -> subprocess.Popen:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_writer_is_refused_and_told_of_the_first(tmp_path: pathlib.Path) -> None:
    holder = held_by_another(tmp_path)
    try:
        assert is_locked(tmp_path)
        with pytest.raises(RunLocked, match=f"process {holder.pid}"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.thorough
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: pathlib.Path) -> None:
    holder = held_by_another(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / ".lock").is_file()
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked_elsewhere(tmp_path)
    assert not is_locked(tmp_path)


def is_locked_elsewhere(run: pathlib.Path) -> bool:
    """As another process sees it."""
    ask = "import pathlib, sys\n"
    ask += "from bayestwin.project.record import is_locked; print(is_locked(pathlib.Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", ask, str(run)], capture_output=True, text=True, check=True)
    return done.stdout == "True\n"
