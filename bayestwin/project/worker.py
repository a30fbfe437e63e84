"""The process that does tasks: `python -m bayestwin.project.worker TASK PARENT`; it ends with its parent.

The task is JSON. Where it is `-`, tasks are lines of the standard input, each with the log that it is to print to, and
the code of each is a line of the standard output: what was compiled for one task serves the next.
"""

import ctypes
import json
import os
import pathlib
import signal
import sys
import traceback

from bayestwin._base.progress import Progress
from bayestwin.errors import BayestwinError, InvalidInput
from bayestwin.project.batch import Task, model_of, run_of
from bayestwin.project.calibrate import calibrate_model, resume_run
from bayestwin.project.each import work_on_asset
from bayestwin.project.record import read_record
from bayestwin.project.run import ENDED

FAILED_GATES, BAD_INPUT, INTERRUPTED = 1, 2, 130


def work(task: Task) -> int:
    """Do a task: go on with its run if there is one that has not ended, else begin one.

    Returns:
        The exit code: 0 done, 1 failed gates or another failure that may pass, 2 bad input, 130 interrupted.
    """
    quiet = Progress(show=False)
    try:
        if task.asset:
            return 0 if work_on_asset(task) == "passed" else FAILED_GATES
        run = run_of(task)
        record = {} if run is None else read_record(run)
        if run is not None and record.get("status") in ENDED:
            status = str(record["status"])
        elif run is not None and record:
            status = resume_run(model_of(task), run, progress=quiet).status
        else:
            status = calibrate_model(model_of(task), pathlib.Path(task.results), suffix=task.key, progress=quiet).status
    except InvalidInput as reason:
        sys.stderr.write(f"{reason}\n")
        return BAD_INPUT
    except BayestwinError as reason:
        sys.stderr.write(f"{reason}\n")
        return FAILED_GATES
    except KeyboardInterrupt:
        return INTERRUPTED
    return {"finished": 0, "interrupted": INTERRUPTED}.get(status, FAILED_GATES)


def work_on() -> None:
    """Do the tasks of the standard input, one after the other, until there are none or something unforeseen happens."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    for line in sys.stdin:
        asked = json.loads(line)
        with pathlib.Path(asked["log"]).open("ab") as log:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(log.fileno(), stream.fileno())
        try:
            code, foreseen = work(Task(**asked["task"])), True
        except Exception:
            traceback.print_exc()
            code, foreseen = FAILED_GATES, False
        sys.stdout.flush()
        sys.stderr.flush()
        goes_on = foreseen and code != INTERRUPTED
        answers.write(f"{code} {'goes on' if goes_on else 'ends'}\n")
        answers.flush()
        if not goes_on:
            return


def end_with_parent(parent: int) -> None:
    """Die when the parent does, even by SIGKILL: else an orphan would hold the run that a second call goes on with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that
        os._exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    if sys.argv[1] == "-":
        work_on()
    else:
        sys.exit(work(Task(**json.loads(sys.argv[1]))))
