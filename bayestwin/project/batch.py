"""Many jobs at once: what a batch consists of, its tasks in watched processes, and the page about it.

A process does one task after the other, so that what is compiled for one serves the next; one that dies loses the task
that it was at, and is replaced.

A task is a function of plain values, which any executor can run anywhere.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bayestwin._base.wording import NARROW, decimals_for, fixed, number, percent, scale_for
from bayestwin.errors import CorruptArtifact, InvalidInput
from bayestwin.project.model import Model, changed, check_ready, load_model, load_telemetry
from bayestwin.project.record import coverage_words, read_record
from bayestwin.project.run import ENDED, REPORT
from bayestwin.project.telemetry import files_of
from bayestwin.report.page import fill
from bayestwin.results.store import write_text_durably

if TYPE_CHECKING:
    from bayestwin.report.page import Picture

# What a batch consists of: one task for each job, or for each telemetry file of a job, known by what goes into it.


class Task(NamedTuple):
    """One calibration of a batch; plain values, so that it can be sent elsewhere.

    Attributes:
        name: What people call it: the model, and the job and telemetry file where these tell it apart.
        model: Folder of the model.
        job: Name of the job file in it.
        telemetry: Telemetry file instead of the job's; empty for the job's own.
        results: Where runs are filed.
        key: Hash of twin, job and telemetry: the name of its run ends with it. The same inputs are the same task.
        folder: Of one asset alone, within the run of its fleet; empty where the task is a run of its own.
        asset: Its name.
    """

    name: str
    model: str
    job: str
    telemetry: str
    results: str
    key: str
    folder: str = ""
    asset: str = ""


class Refused(NamedTuple):
    """What cannot be a task: its name, and why."""

    name: str
    words: str


def plan(
    jobs: Sequence[pathlib.Path], telemetry: Sequence[pathlib.Path], results: pathlib.Path
) -> tuple[tuple[Task, ...], tuple[Refused, ...]]:
    """The tasks of a batch, each looked at before any is begun.

    Args:
        jobs: Job files in model folders, or model folders, whose job is then `job.toml`.
        telemetry: Telemetry files, each of which every job is done with instead of its own; none for their own.
        results: Where runs are filed.

    Returns:
        What can be done, and what cannot.

    Raises:
        InvalidInput: If nothing can be done, or the same is to be done twice.
    """
    tasks: list[Task] = []
    refused: list[Refused] = []
    wrong: list[InvalidInput] = []
    for path in jobs:
        folder, job = (path.parent, path.name) if path.suffix == ".toml" else (path, "job.toml")
        for file in telemetry or [None]:
            try:
                tasks.append(_task(folder, job, file, results))
            except InvalidInput as reason:
                wrong.append(reason)
                refused.append(Refused(f"{path} with {file}" if file else str(path), str(reason)))
    keys = [task.key for task in tasks]
    twice = [task.name for task in tasks if keys.count(task.key) > 1]
    if twice or not (tasks or refused):
        raise InvalidInput(
            "The batch has the same task twice." if twice else "The batch has no tasks.",
            expected="job files such as `models/NAME/job.toml`, each pair of job and telemetry once",
            received=", ".join(f"`{name}`" for name in twice) or "none",
            advice="Name each once.",
        )
    if not tasks:
        raise InvalidInput.all_of(wrong)
    return tuple(tasks), tuple(refused)


def model_of(task: Task) -> Model:
    """The model of a task, with its telemetry."""
    model = load_model(pathlib.Path(task.model), task.job)
    return changed(model, telemetry=pathlib.Path(task.telemetry)) if task.telemetry else model


def run_of(task: Task) -> pathlib.Path | None:
    """The run folder of a task, from this call or an earlier one; None where it was never begun."""
    if task.asset:
        return pathlib.Path(task.folder).parents[1]
    folder = pathlib.Path(task.results) / pathlib.Path(task.model).absolute().name
    return max(folder.glob(f"*-{task.key}"), default=None)


def _task(folder: pathlib.Path, job: str, file: pathlib.Path | None, results: pathlib.Path) -> Task:
    model = load_model(folder, job)
    if file is not None:
        model = changed(model, telemetry=file)
    check_ready(model, load_telemetry(model))
    sources = files_of(model.job, model.folder, model.job_path).values()
    digest = hashlib.sha256()
    for path in (*model.code.values(), folder / job, *sources):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    parts = [model.name, *([pathlib.Path(job).stem] if job != "job.toml" else []), *([file.stem] if file else [])]
    return Task(
        name="/".join(parts),
        model=str(folder.absolute()),
        job=job,
        telemetry=str(file.absolute()) if file else "",
        results=str(results.absolute()),
        key=digest.hexdigest()[:8],
    )


PAUSE = 0.2
"""Seconds between two looks at a process."""

MOST_LEFT = 4 * 2**30
"""Bytes that a process may hold, of which half are left by tasks that are done, where there is no other limit."""

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


class TaskOutcome(NamedTuple):
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


class Worker:
    """A process that does one task after the other."""

    def __init__(self, log: pathlib.Path) -> None:
        """Start it; until its first task it prints to this log."""
        command = [sys.executable, "-m", "bayestwin.project.worker", "-", str(os.getpid())]
        pipe = subprocess.PIPE
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True, close_fds=True
            )

    @property
    def living(self) -> bool:
        """Whether it can do another task."""
        return self.process.poll() is None

    def begin(self, task: Task) -> None:
        """Have it do a task."""
        assert self.process.stdin is not None
        line = json.dumps({"task": task._asdict(), "log": str(_log(task))})
        with contextlib.suppress(BrokenPipeError):  # it has died, as `code` will say
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def code(self, wait: float) -> int | None:
        """The code of its task, or that with which it died, in so many seconds at most; None if it is still at it."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], wait)
        line = self.process.stdout.readline() if ready else b""
        if line.endswith(b"goes on\n"):
            return int(line.split()[0])
        if ready:
            died = self.process.wait()
            return int(line.split()[0]) if line else died
        return None

    def end(self, *, gently: bool) -> None:
        """End it and all that it started; gently lets it keep what it has drawn."""
        with contextlib.suppress(ProcessLookupError):
            if gently:
                os.killpg(self.process.pid, signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(20.0)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Let it end, once its task is done."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


class Workers:
    """Processes that wait for tasks: one is started where none waits."""

    def __init__(self) -> None:
        """There are none yet."""
        self._waiting: list[Worker] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lent(self, task: Task, memory: int | None) -> Iterator[Worker]:
        """A worker for a task that may take so many bytes; it comes back if it lives."""
        with self._lock:
            worker = self._waiting.pop() if self._waiting else None
        # what earlier tasks have left in memory must not count against this one
        if worker is not None and _resident(worker.process.pid) > (memory or MOST_LEFT) / 2:
            worker.close()
            worker = None
        worker = worker or Worker(_log(task))
        yield worker
        if worker.living:
            with self._lock:
                self._waiting.append(worker)
        else:
            worker.close()

    def close(self) -> None:
        """End those that wait."""
        while self._waiting:
            self._waiting.pop().close()


def attempt(
    task: Task, limits: Limits, stop: threading.Event | None = None, workers: Workers | None = None
) -> TaskOutcome:
    """Do a task in another process, again where that dies.

    Args:
        task: The task.
        limits: What it may take.
        stop: Set from elsewhere to interrupt it.
        workers: Of which one does it; by default one that does nothing else.

    Returns:
        What became of it; nothing is raised for what happens to the process.
    """
    begun = time.perf_counter()
    if (status := ended(task)) is not None:
        return TaskOutcome(task, status, str(run_of(task)), 0, 0.0, "")
    number, again = 0, True
    status, words = "interrupted", ""
    own = workers or Workers()
    while again:
        number += 1
        status, words = _one(task, limits, stop, own)
        died = status in ("crashed", "timed out", "out of memory")
        again = died and number <= limits.retries and not (stop is not None and stop.is_set())
    if workers is None:
        own.close()
    run = run_of(task)
    return TaskOutcome(task, status, str(run or ""), number, time.perf_counter() - begun, words)


def ended(task: Task) -> Literal["finished", "failed gates"] | None:
    """How the run of a task ended, or what became of its asset; None where that has not."""
    if task.asset:
        return verdict_of_asset(pathlib.Path(task.folder))
    run = run_of(task)
    if run is None:
        return None
    try:
        status = read_record(run).get("status")
    except CorruptArtifact:
        return None
    return status if status in ENDED else None


ASSET = "asset.json"
"""The file that says of one asset of a fleet that it is done, and what was found."""


def read_asset(folder: pathlib.Path) -> dict[str, Any] | None:
    """What was found of an asset; None where it is not done."""
    path = folder / ASSET
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def verdict_of_asset(folder: pathlib.Path) -> Literal["finished", "failed gates"] | None:
    """What became of an asset, in the words of runs; None where it is not done."""
    known = read_asset(folder)
    return None if known is None else "finished" if known["verdict"] == "passed" else "failed gates"


def _one(task: Task, limits: Limits, stop: threading.Event | None, workers: Workers) -> tuple[Status, str]:
    """One attempt: its end, and why."""
    deadline = time.monotonic() + limits.timeout
    with workers.lent(task, limits.memory) as worker:
        worker.begin(task)
        while (code := worker.code(PAUSE)) is None:
            reason: tuple[Status, str] | None = None
            if stop is not None and stop.is_set():
                reason = "interrupted", "interrupted; a second call goes on with it"
            elif time.monotonic() > deadline:
                reason = "timed out", f"it took longer than {limits.timeout:g} s"
            elif limits.memory is not None and _resident(worker.process.pid) > limits.memory:
                reason = "out of memory", f"it took more than {limits.memory / 2**30:.3g} GiB"
            if reason is not None:
                worker.end(gently=reason[0] == "interrupted")
                return reason
    return _judged(task, code)


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


# A batch from its first task to its page: as many at once as asked for, whatever becomes of any of them.


def carry_out(
    tasks: Sequence[Task],
    limits: Limits,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    work: Callable[[Task], TaskOutcome] | None = None,
    told: Callable[[TaskOutcome], None] | None = None,
) -> tuple[TaskOutcome, ...]:
    """Do all tasks.

    What has finished stays finished: a second call with the same tasks does the rest. Ctrl-C ends the running ones,
    which keep what they have drawn, and returns what there is.

    Args:
        tasks: What to do.
        limits: What each may take.
        workers: How many at once; by default half the cores, since a calibration uses more than one.
        executor: Runs `attempt(task, limits)`; by default threads of this process, each of which waits for a process.
            Anything with the interface of `concurrent.futures`, such as Dask's, can take its place.
        work: What the executor runs in place of `attempt`, where its processes can be lost themselves.
        told: Called with each outcome as it comes in; None for nobody.

    Returns:
        An outcome for each task, in their order.
    """
    stop = threading.Event()
    if executor is not None:
        if work is not None:
            return _gathered(tasks, lambda task: executor.submit(work, task), told, stop)
        return _gathered(tasks, lambda task: executor.submit(attempt, task, limits), told, stop)
    own = Workers()
    # closed while its threads live: a process ends with the thread that started it
    with ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) // 2)) as pool, contextlib.closing(own):
        return _gathered(tasks, lambda task: pool.submit(attempt, task, limits, stop, own), told, stop)


def summary(outcomes: Iterable[TaskOutcome]) -> dict[str, int]:
    """How many tasks ended in which way."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        found[outcome.status] = found.get(outcome.status, 0) + 1
    return found


class Doubts(NamedTuple):
    """What speaks against a task that finished: the gates that warned, and observations whose intervals miss."""

    warned: tuple[str, ...]
    missed: tuple[str, ...]


def doubts(outcome: TaskOutcome) -> Doubts:
    """What the record of a run says against it; of one that did not finish, nothing."""
    told = _record(pathlib.Path(outcome.run)) if outcome.run and outcome.status == "finished" else {}
    gates = [gate for gate in told.get("gates") or () if not gate["passed"]]
    missed = [name for name, kept in (told.get("promises") or {}).items() if kept.get("0.9") is False]
    return Doubts(tuple(gate["name"] for gate in gates if gate["severity"] == "warn"), tuple(missed))


def doubted(outcomes: Sequence[TaskOutcome]) -> dict[str, int]:
    """How many of those that finished have something against them, by what that is; what none has is left out."""
    warned, missed = zip(*map(doubts, outcomes), strict=True) if outcomes else ((), ())
    counts = {"with warnings": sum(map(bool, warned)), "with intervals that miss": sum(map(bool, missed))}
    return {words: number for words, number in counts.items() if number}


def _gathered(
    tasks: Sequence[Task],
    submit: Callable[[Task], Future[TaskOutcome]],
    told: Callable[[TaskOutcome], None] | None,
    stop: threading.Event,
) -> tuple[TaskOutcome, ...]:
    futures = {submit(task): task for task in tasks}
    outcomes: dict[str, TaskOutcome] = {}
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
    return tuple(outcomes.get(t.key, TaskOutcome(t, "interrupted", "", 0, 0.0, never)) for t in tasks)


def _outcome(task: Task, future: Future[TaskOutcome]) -> TaskOutcome:
    """What became of a task, also where the executor itself lost it."""
    reason = future.exception()
    if reason is None:
        return future.result()
    return TaskOutcome(task, "crashed", "", 1, 0.0, f"{type(reason).__name__}: {reason}")


# One page about a batch: what became of each task, with links to the reports of the runs.


class TaskQuantity(NamedTuple):
    """One quantity of a task, in its unit."""

    name: str
    unit: str
    mean: str
    sd: str
    lower: str
    upper: str


def write_page(
    path: pathlib.Path, outcomes: Sequence[TaskOutcome], refused: Sequence[Refused], words: str
) -> pathlib.Path:
    """Write the page.

    Args:
        path: The file; links are counted from its folder.
        outcomes: What became of the tasks.
        refused: What could not be one.
        words: What became of all, in one phrase.
    """
    rows = [_row(outcome, path.parent) for outcome in outcomes]
    rows += [
        {"name": one.name, "status": "bad input", "why": one.words, "attempts": fixed(0, 0), "seconds": "–"}
        | dict.fromkeys(("coverage", "gates", "run", "link"), "")
        | {"warned": [], "missed": False, "said": [], "parameters": []}
        for one in refused
    ]
    told = [(outcome.task.name, _record(pathlib.Path(outcome.run))) for outcome in outcomes if outcome.run]
    parameters = {name: record.get("parameters") or {} for name, record in told}
    page = {"tasks": rows, "words": words, "prob": percent(0.9), "picture": side_by_side(parameters)}
    return write_text_durably(path, fill("batch.html", page))


MOST_DRAWN, MOST_TASKS = 12, 60
"""Quantities and tasks that a picture shows."""


def side_by_side(parameters: Mapping[str, Mapping[str, Any]]) -> "Picture | None":
    """Means and intervals of each quantity that several tasks have in one unit, task by task; None without any.

    Args:
        parameters: By task, what the record of its run says of its quantities.
    """
    from bayestwin.report.page import drawing, picture
    from bayestwin.report.posteriors import Line, Panel, draw_forest  # half a second, which only a page is worth
    from bayestwin.report.prose import listed

    tasks = {name: own for name, own in list(parameters.items())[:MOST_TASKS] if own}
    panels, told = [], []
    for name in dict.fromkeys(quantity for own in tasks.values() for quantity in own):
        known = {task: own[name] for task, own in tasks.items() if name in own}
        if len(known) < 2 or len({str(one["unit"]) for one in known.values()}) > 1 or len(panels) == MOST_DRAWN:
            continue
        first = next(iter(known.values()))
        scale = scale_for(math.nan if first["mean"] is None else first["mean"], str(first["unit"]))
        nothing = dict.fromkeys(("mean", "lower", "upper"))
        ends = {task: [(known.get(task) or nothing)[key] for key in nothing] for task in tasks}
        numbers = {task: [math.nan if one is None else scale.factor * one for one in own] for task, own in ends.items()}
        title = f"{name} ({scale.unit})" if scale.unit else name
        panels.append(Panel(title, tuple(Line(task, mean, low, high) for task, (mean, low, high) in numbers.items())))
        told.append(
            f"{title}: " + ", ".join(f"{t} {number(low)} to {number(up)}" for t, (_, low, up) in numbers.items())
        )
    if not panels:
        return None
    with drawing():
        words = f"{percent(0.9)} equal-tailed intervals of the posterior"
        caption = f"Dots: means. Lines: {words}."
        return picture(draw_forest(panels), "tasks", f"{words}, by task. {listed(told)}.", caption)


def _row(outcome: TaskOutcome, folder: pathlib.Path) -> dict[str, Any]:
    run = pathlib.Path(outcome.run) if outcome.run else None
    record = _record(run)
    gates = [gate for gate in record.get("gates") or () if not gate["passed"]]
    covered = (record.get("summary") or {}).get("coverage") or {}
    report = run / REPORT if run is not None else None
    return {
        "name": outcome.task.name,
        "status": outcome.status,
        "why": outcome.words,
        "attempts": fixed(outcome.attempts, 0),
        "seconds": fixed(outcome.seconds, 0) if outcome.attempts else "–",
        "coverage": coverage_words(covered, good=record.get("promises")).replace(" %", f"{NARROW}%"),
        "gates": ", ".join(gate["name"] for gate in gates if gate["severity"] == "fail"),
        "warned": [gate["name"] for gate in gates if gate["severity"] == "warn"],
        "missed": bool(doubts(outcome).missed),
        "said": [(gate["name"], gate["severity"], gate["sentence"]) for gate in gates],
        "parameters": [_parameter(name, one) for name, one in (record.get("parameters") or {}).items()],
        "run": "" if run is None else run.name,
        "link": os.path.relpath(report, folder) if report is not None and report.is_file() else "",
    }


def _parameter(name: str, told: dict[str, Any]) -> TaskQuantity:
    """One line of the table of parameters, from what the record of a run says."""
    mean, sd, lower, upper = (math.nan if told[k] is None else told[k] for k in ("mean", "sd", "lower", "upper"))
    scale = scale_for(mean, str(told["unit"]))
    texts = (fixed(value * scale.factor, decimals_for(sd * scale.factor)) for value in (mean, sd, lower, upper))
    return TaskQuantity(name, scale.unit or "–", *texts)


def _record(run: pathlib.Path | None) -> dict[str, Any]:
    try:
        return {} if run is None else read_record(run)
    except (CorruptArtifact, json.JSONDecodeError):
        return {}
