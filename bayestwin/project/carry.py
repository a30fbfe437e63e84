"""A batch from its first task to its page: as many at once as asked for, whatever becomes of any of them."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait

from bayestwin.project.batch import Limits, Outcome, attempt
from bayestwin.project.tasks import Task


def carry_out(
    tasks: Sequence[Task],
    limits: Limits,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    told: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """Do all tasks.

    What has finished stays finished: a second call with the same tasks does the rest. Ctrl-C ends the running ones,
    which keep what they have drawn, and returns what there is.

    Args:
        tasks: What to do.
        limits: What each may take.
        workers: How many at once; by default half the cores, since a calibration uses more than one.
        executor: Runs `attempt(task, limits)`; by default threads of this process, each of which waits for a process.
            Anything with the interface of `concurrent.futures`, such as Dask's, can take its place.
        told: Called with each outcome as it comes in; None for nobody.

    Returns:
        An outcome for each task, in their order.
    """
    stop = threading.Event()
    if executor is not None:
        return _gathered(tasks, lambda task: executor.submit(attempt, task, limits), told, stop)
    with ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) // 2)) as pool:
        return _gathered(tasks, lambda task: pool.submit(attempt, task, limits, stop), told, stop)


def summary(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many tasks ended in which way."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        found[outcome.status] = found.get(outcome.status, 0) + 1
    return found


def _gathered(
    tasks: Sequence[Task],
    submit: Callable[[Task], Future[Outcome]],
    told: Callable[[Outcome], None] | None,
    stop: threading.Event,
) -> tuple[Outcome, ...]:
    futures = {submit(task): task for task in tasks}
    outcomes: dict[str, Outcome] = {}
    pending = set(futures)
    while pending:
        try:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            stop.set()
            pending = {future for future in pending if not future.cancel()}
            continue
        for future in done:
            outcome = _outcome(futures[future], future)
            outcomes[outcome.task.key] = outcome
            if told is not None:
                told(outcome)
    never = "interrupted before it was begun"
    return tuple(outcomes.get(t.key, Outcome(t, "interrupted", "", 0, 0.0, never)) for t in tasks)


def _outcome(task: Task, future: Future[Outcome]) -> Outcome:
    """What became of a task, also where the executor itself lost it."""
    reason = future.exception()
    if reason is None:
        return future.result()
    return Outcome(task, "crashed", "", 1, 0.0, f"{type(reason).__name__}: {reason}")
