"""One task in a process of its own, watched: a function of plain values, which any executor can run anywhere."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Literal, NamedTuple

from bayestwin.errors import CorruptArtifact
from bayestwin.project.record import read_record
from bayestwin.project.run import ENDED
from bayestwin.project.tasks import Task, run_of

PAUSE = 0.2
"""Seconds between two looks at a process."""

type Status = Literal["finished", "failed gates", "failed", "crashed", "timed out", "out of memory", "interrupted"]


class Limits(NamedTuple):
    """What a task may take.

    Attributes:
        timeout: Seconds of one attempt.
        memory: Bytes of resident memory; None for no limit.
        retries: Further attempts after a crash, a time-out or too much memory; each goes on from what was drawn.
    """

    timeout: float = 3600.0
    memory: int | None = None
    retries: int = 1


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        task: Which one.
        status: What became of it.
        run: Its run folder; empty where it was never begun.
        attempts: How many processes worked on it; 0 where an earlier call had finished it.
        seconds: How long they took.
        words: Why it did not finish; empty where it did.
    """

    task: Task
    status: Status
    run: str
    attempts: int
    seconds: float
    words: str


def attempt(task: Task, limits: Limits, stop: threading.Event | None = None) -> Outcome:
    """Do a task in a process of its own, again where it dies.

    Args:
        task: The task.
        limits: What it may take.
        stop: Set from elsewhere to interrupt it.

    Returns:
        What became of it; nothing is raised for what happens to the process.
    """
    begun = time.perf_counter()
    if (status := ended(task)) is not None:
        return Outcome(task, status, str(run_of(task)), 0, 0.0, "")
    number, again = 0, True
    status, words = "interrupted", ""
    while again:
        number += 1
        status, words = _one(task, limits, stop)
        died = status in ("crashed", "timed out", "out of memory")
        again = died and number <= limits.retries and not (stop is not None and stop.is_set())
    run = run_of(task)
    return Outcome(task, status, str(run or ""), number, time.perf_counter() - begun, words)


def ended(task: Task) -> Literal["finished", "failed gates"] | None:
    """How the run of a task ended; None where it has not."""
    run = run_of(task)
    if run is None:
        return None
    try:
        status = read_record(run).get("status")
    except CorruptArtifact:
        return None
    return status if status in ENDED else None


def _one(task: Task, limits: Limits, stop: threading.Event | None) -> tuple[Status, str]:
    """One process: its end, and why."""
    command = [sys.executable, "-m", "bayestwin.project.worker", json.dumps(task._asdict()), str(os.getpid())]
    with _log(task).open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
        deadline = time.monotonic() + limits.timeout
        reason: tuple[Status, str] | None = None
        while process.poll() is None and reason is None:
            time.sleep(PAUSE)
            if stop is not None and stop.is_set():
                reason = "interrupted", "interrupted; a second call goes on with it"
            elif time.monotonic() > deadline:
                reason = "timed out", f"it took longer than {limits.timeout:g} s"
            elif limits.memory is not None and _resident(process.pid) > limits.memory:
                reason = "out of memory", f"it took more than {limits.memory / 2**30:.3g} GiB"
        if reason is not None:
            _end(process, gently=reason[0] == "interrupted")
            return reason
    return _judged(task, process.returncode)


def _judged(task: Task, code: int) -> tuple[Status, str]:
    if (status := ended(task)) is not None:
        return status, ""
    lines = _log(task).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = "\n".join(lines[-6:]) or f"exit code {code}"
    if code == 130:
        return "interrupted", last
    if code < 0 or code not in (1, 2):
        return "crashed", f"signal {signal.Signals(-code).name}" if code < 0 else last
    # an error of ours says the same at every attempt; anything else raised is a crash
    return ("crashed", last) if "Traceback" in "\n".join(lines[-60:]) else ("failed", last)


def _log(task: Task) -> pathlib.Path:
    """What its processes print."""
    folder = pathlib.Path(task.results) / ".batch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{task.key}.log"


def _resident(pid: int) -> int:
    """Bytes of resident memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    return 0


def _end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """End a process and all that it started; gently lets it keep what it has drawn."""
    with contextlib.suppress(ProcessLookupError):
        if gently:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20.0)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
