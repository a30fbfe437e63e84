"""A process of its own for an FMU: it is started, asked for solves, and replaced where it dies or does not answer.

What the FMU does to its process, a crash, an exit or an endless loop, is one solve that failed, with its reason.
"""

import atexit
import collections
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np

MOST_DEATHS = 20
"""Deaths of the process, one after the other with no solve between that succeeded, after which none is started again:
each start takes half a second, and it would go on for every draw."""

MOST_KEPT = 2**26
"""Bytes of the outputs of solves that are kept, in case they are asked for again: 64 MiB. Draws are solved while they
are made, and once more for predictions."""

STARTING = 60.0
"""Seconds that a process may take to load the FMU."""

WORKER = pathlib.Path(__file__).with_name("worker.py")


@dataclasses.dataclass
class Counts:
    """What was asked of an FMU, and what came of it.

    Attributes:
        solves: Solves that the FMU was asked for; what was kept from before is not among them.
        failed: Those of them that came to no end, for any of the reasons below or because the FMU said so.
        crashed: Those in which its process died.
        timed_out: Those that took longer than they may.
        processes: Processes that were started.
        last_failure: The reason of the last that failed, in the FMU's own words where it has some.
    """

    solves: int = 0
    failed: int = 0
    crashed: int = 0
    timed_out: int = 0
    processes: int = 0
    last_failure: str = ""


class FmuProcess:
    """The process of one FMU; one solve at a time, from whichever thread."""

    def __init__(self, told: dict[str, Any], most_seconds: float) -> None:
        """Start nothing yet.

        Args:
            told: What the worker is told: `folder`, value references of `parameters`, `inputs` and `outputs`, and
                `tolerance`.
            most_seconds: That one solve may take.
        """
        self.counts, self.fresh, self._repeated = Counts(), False, False
        self._told, self._most_seconds = told, most_seconds
        self._worker: subprocess.Popen | None = None
        self._pipe: Any = None
        self._plan: bytes | None = None
        self._deaths, self._lost = 0, ""
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[tuple[bytes, bytes], np.ndarray] = collections.OrderedDict()
        self._place = tempfile.mkdtemp(prefix="bayestwin-fmu-")  # where it runs, and may write
        atexit.register(self.close)

    def solve(self, plan: bytes, values: np.ndarray, *, keep: bool = True) -> np.ndarray:
        """Outputs, shape (n, s), NaN from where on the solve failed; of one that died there are none at all.

        The first that succeeds is solved once more: where a reset leaves something behind, each has a new instance.

        Args:
            plan: As `packed` makes it.
            values: Of the parameters.
            keep: Whether what is known from before is given again.
        """
        asked = np.ascontiguousarray(values, float).tobytes()
        with self._lock:
            if keep and (plan, asked) in self._kept:
                self._kept.move_to_end((plan, asked))
                return self._kept[plan, asked]
            found = self._counted(plan, asked)
            if not self._repeated and len(found) and np.isfinite(found).all():
                self._repeated = True
                if not self.fresh and not np.array_equal(found, self._counted(plan, asked)):
                    self.fresh = True  # what a reset leaves behind
                    found = self._counted(plan, asked)
            self._keep((plan, asked), found)
            return found

    def _counted(self, plan: bytes, asked: bytes) -> np.ndarray:
        """Outputs of one more solve."""
        self.counts.solves += 1
        found, reason = self._ask(plan, asked)
        if found is None or not np.isfinite(found).all():
            self.counts.failed += 1
            self.counts.last_failure = reason or "an output is not a finite number"
        return np.empty((0, len(self._told["outputs"]))) if found is None else found

    def _ask(self, plan: bytes, asked: bytes) -> tuple[np.ndarray | None, str]:
        """What the worker answers: outputs, if there are some, and what the FMU had to say."""
        if self._deaths >= MOST_DEATHS:
            return None, f"its process was lost {MOST_DEATHS} times in a row: {self._lost}"
        try:
            if self._worker is None:
                self._start()
            if self._plan != plan:
                self._exchange(b"p" + plan, STARTING)
                self._plan = plan
            answer = self._exchange((b"n" if self.fresh else b"s") + asked, self._most_seconds)
        except TimeoutError:
            self.counts.timed_out += 1
            self._clear_up()
            self._lost = f"it did not answer within {self._most_seconds:g} s"
            return None, self._lost
        except (EOFError, OSError):
            self.counts.crashed += 1
            self._lost = self._clear_up()
            return None, self._lost
        except RuntimeError as reason:  # the FMU refused
            if self._plan is None:  # it could not even be loaded
                self._clear_up()
                self._lost = str(reason)
            return None, str(reason)
        self._deaths = 0
        length = int.from_bytes(answer[:4], "big")
        words, numbers = answer[4 : 4 + length].decode("utf-8", "replace"), answer[4 + length :]
        return np.frombuffer(numbers).reshape(-1, len(self._told["outputs"])), words

    def _start(self) -> None:
        ours, theirs = Pipe()
        with theirs:
            self._worker = subprocess.Popen(
                [sys.executable, "-P", str(WORKER), str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for those who ask, and ends them between two solves
            )
        self._pipe, self._plan = ours, None
        self.counts.processes += 1
        self._exchange(b"i" + json.dumps(self._told).encode(), STARTING)

    def _exchange(self, message: bytes, seconds: float) -> bytes:
        assert self._pipe is not None
        self._pipe.send_bytes(message)
        if not self._pipe.poll(seconds):
            raise TimeoutError
        answer = self._pipe.recv_bytes()
        if answer[:1] == b"f":
            raise RuntimeError(answer[1:].decode("utf-8", "replace"))
        return answer[1:]

    def _clear_up(self) -> str:
        """Clear up after a process that is dead, or is to be; how it ended, in words."""
        self._deaths += 1
        worker = self._stop()
        code = None if worker is None else worker.returncode
        if code is None:
            return "its process could not be reached"
        return f"its process died of {signal.Signals(-code).name}" if code < 0 else f"it ended its process, code {code}"

    def _stop(self) -> subprocess.Popen | None:
        worker, pipe = self._worker, self._pipe
        self._worker = self._pipe = None
        if pipe is not None:
            pipe.close()
        if worker is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(0.2)  # it may be dying, and then tells of what
            worker.kill()
            worker.wait()
        return worker

    def _keep(self, key: tuple[bytes, bytes], found: np.ndarray) -> None:
        size = max(found.nbytes, 1)
        if size > MOST_KEPT:
            return
        self._kept[key] = found
        while len(self._kept) > max(1, MOST_KEPT // size):
            self._kept.popitem(last=False)

    def close(self) -> None:
        """End the process, and remove what it wrote."""
        with self._lock:
            self._stop()
        shutil.rmtree(self._place, ignore_errors=True)


def packed(points: np.ndarray, inputs: np.ndarray, save: np.ndarray) -> bytes:
    """A plan for the worker: communication points, inputs at the first and in each step, and which points are saved."""
    content = io.BytesIO()
    np.savez(content, points=points, inputs=inputs, save=save)
    return content.getvalue()
