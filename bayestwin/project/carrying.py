"""A run of any verb that computes: a folder, a record that is there whatever happens, and what the verb left in it."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bayestwin._base.progress import Progress
from bayestwin.errors import BayestwinError, InvalidArtifact
from bayestwin.project.given import NOTHING, Given, hashes_of
from bayestwin.project.inputs import keep_inputs
from bayestwin.project.lock import locked
from bayestwin.project.model import Model
from bayestwin.project.record import begin_record, end_record, read_record, timings_of
from bayestwin.project.run import CHECKPOINT, new_run


class Outcome[T](NamedTuple):
    """What a verb found.

    Attributes:
        found: Its result.
        status: `"finished"`, `"failed gates"` or `"interrupted"`; only the first is to be relied on.
        figures: What its record says beside: key figures, as plain values.
    """

    found: T
    status: str
    figures: Mapping[str, Any]


class Carried[T](NamedTuple):
    """A run that came to its end.

    Attributes:
        run: Its folder.
        found: The result of the verb.
        status: As in `Outcome`.
        record: The content of `run.json`.
    """

    run: pathlib.Path
    found: T
    status: str
    record: dict[str, Any]


def carry_out[T](
    model: Model,
    results: pathlib.Path,
    command: str,
    inputs: Mapping[str, Any],
    work: Callable[[pathlib.Path, Progress], Outcome[T]],
    progress: Progress | None = None,
    given: Given = NOTHING,
) -> Carried[T]:
    """Do a verb's work in the folder of a new run, and record it.

    Args:
        model: The model that it is about.
        results: Where runs are filed.
        command: The verb.
        inputs: What it is made of: see `inputs_of`.
        work: Computes, writes its files into the folder that it is given, and says what it found.
        progress: Where progress is shown.
        given: What the verb was given beside the model and its job.

    Raises:
        StorageFailure: If the folder cannot be written; this comes before anything is computed.
    """
    shown = progress or Progress()
    run = new_run(results, model)
    with locked(run):
        known = {"options": dict(given.options), "uses": hashes_of(given.runs)}
        record = begin_record(run, command, {**inputs, **known})
        with recorded(run, shown):
            record = keep_inputs(run, model, record, given.files)
            found, status, figures = work(run, shown)
        record = end_record(run, record, status, timings=timings_of(shown), **figures)
    return Carried(run, found, status, record)


@contextlib.contextmanager
def recorded(run: pathlib.Path, shown: Progress) -> Iterator[None]:
    """Work on a run that has begun; where it fails or Ctrl-C ends it, its record says so, and the error where it lies.

    Args:
        run: Its folder.
        shown: Has timed what was done.
    """
    try:
        yield
    except BaseException as reason:
        ended = "interrupted" if isinstance(reason, KeyboardInterrupt) else "failed"
        what = str(reason) if isinstance(reason, BayestwinError) else repr(reason)
        record = read_record(run)
        reason.add_note(f"What is left of this run lies in `{run}`.")
        resumable = record["command"] == "calibrate" and (run / CHECKPOINT).is_file()
        if resumable and not isinstance(reason, InvalidArtifact):
            reason.add_note(f"Go on with it by `bayestwin resume {run}`.")
        end_record(run, record, ended, error=what, timings=timings_of(shown))
        raise
