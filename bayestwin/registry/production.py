"""What is in production, what was, and going back to it: all that needs the log alone, and nothing heavy."""

import datetime
import getpass
import hashlib
import os
import pathlib
from typing import TYPE_CHECKING

from bayestwin.errors import CorruptArtifact, InvalidInput, InvalidSetting
from bayestwin.registry.log import (
    LOG,
    POINTER,
    InStage,
    RegistryEvent,
    Stages,
    events_until,
    read_log,
    stages_after,
)
from bayestwin.registry.shared import append, current_log

if TYPE_CHECKING:
    from bayestwin.check import Finding

POSTERIOR, RECORD = "posterior.nc", "run.json"
"""Names in the folder of a run; what has them in `project` is heavy."""

type ModelName = str | os.PathLike[str]
"""A model by its name, or its folder: runs are filed under the folder's own name."""


def history(model: ModelName, results: str | os.PathLike[str] = "results") -> tuple[RegistryEvent, ...]:
    """All that was done with the runs of a model, the first event first; the log is verified.

    Args:
        model: Its name, or its folder.
        results: Where runs are filed.

    Raises:
        InvalidInput: There are no runs of such a model.
        CorruptArtifact: The log was changed; it says which line.
    """
    return current_log(runs_of(model, results)).events


def stages(
    model: ModelName, results: str | os.PathLike[str] = "results", at: datetime.datetime | None = None
) -> Stages:
    """What of a model is in production and what is its candidate, now or at an earlier moment.

    Args:
        model: Its name, or its folder.
        results: Where runs are filed.
        at: The moment; without a zone it is taken for UTC. Where a clock went back, an event counts as no earlier than
            those before it.

    Raises:
        InvalidInput: There are no runs of such a model.
        CorruptArtifact: The log was changed; it says which line.
    """
    events = history(model, results)
    if at is None:
        return stages_after(events)
    return stages_after(events_until(events, at if at.tzinfo else at.replace(tzinfo=datetime.UTC)))


def rollback(
    model: ModelName, results: str | os.PathLike[str] = "results", *, why: str, by: str | None = None
) -> RegistryEvent:
    """Go back to what was in production before.

    Args:
        model: Its name, or its folder.
        results: Where runs are filed.
        why: The reason.
        by: Who decides that; by default the name of this user.

    Returns:
        The event, which is in the log.

    Raises:
        InvalidInput: Nothing was in production before.
        CorruptArtifact: The posterior of what was is missing or damaged, or the log was changed. Production is then
            what it was.
        RunLocked: Someone else changed it meanwhile.
        InvalidSetting: There is no reason.
    """
    runs, who, why = runs_of(model, results), person(by), reason(why, "rollback")
    log = current_log(runs)
    productions = stages_after(log.events).productions
    if len(productions) < 2:
        raise InvalidInput(
            f"There is no production of `{runs.name}` to go back to.",
            expected="one that was promoted before the present one",
            received=f"`{productions[-1].run}`, which is the first" if productions else "no production at all",
            advice=f"`bayestwin history {runs.name}` lists what was done; promote another run instead.",
        )
    before = productions[-2]
    check_unchanged(runs, before)
    return append(
        runs,
        log.head,
        event="rollback",
        run=before.run,
        stage="prod",
        replaces=productions[-1].run,
        who=who,
        why=why,
        posterior_sha256=before.posterior_sha256,
        record_sha256=_sha256(runs / before.run / RECORD),
    )


def check_unchanged(runs: pathlib.Path, held: InStage) -> pathlib.Path:
    """The posterior of a run in a stage, which must be the one that came there.

    Raises:
        CorruptArtifact: It is missing, or another one.
    """
    path = runs / held.run / POSTERIOR
    found = _sha256(path)
    if found != held.posterior_sha256:
        raise CorruptArtifact(
            f"`{path}` is {'not the posterior that was promoted' if found else 'missing'}.",
            expected=f"the sha256 {held.posterior_sha256[:12]}, as event {held.seq} has it",
            received=found[:12] or "no file",
            advice="Nothing was changed. Restore the file from a copy, or promote another run.",
        )
    return path


def examine_logs(results: pathlib.Path) -> tuple["Finding", ...]:
    """What is wrong with the logs of all models, and with what is in production or can be gone back to.

    Args:
        results: Where runs are filed; it need not be there.
    """
    from bayestwin.check import Finding  # half a second, which only `doctor` spends

    findings = []
    for runs in sorted({path.parent for name in (LOG, POINTER) for path in results.glob(f"*/{name}")}):
        try:
            productions = stages_after(read_log(runs).events).productions
        except CorruptArtifact as reason:
            findings.append(Finding("registry", "fail", runs.name, reason.summary, {}))
            continue
        for one in productions:
            try:
                check_unchanged(runs, one)
            except CorruptArtifact as reason:
                words = "is in production" if one is productions[-1] else "was, and cannot be gone back to"
                sentence = f"{reason.summary} Run `{one.run}` {words}."
                findings.append(Finding("registry", "fail", runs.name, sentence, {"run": one.run}))
    return tuple(findings)


def runs_of(model: ModelName, results: str | os.PathLike[str]) -> pathlib.Path:
    """The folder with the runs of a model.

    Raises:
        InvalidInput: There is none.
    """
    name = os.path.basename(os.path.abspath(model))
    folder = pathlib.Path(results) / name
    if not folder.is_dir():
        raise InvalidInput(
            f"There is no run of `{model}`.",
            expected=f"a folder `{folder}` with its runs",
            received="nothing under that path",
            advice="Calibrate first by `bayestwin calibrate`, or say by `--results` where runs are filed.",
        )
    return folder


def person(name: str | None) -> str:
    """Who does something: the name as told, or that of this user.

    Raises:
        InvalidSetting: It is empty, or there is none.
    """
    try:
        told = getpass.getuser() if name is None else name
    except (OSError, KeyError):
        told = ""
    if told.strip():
        return told.strip()
    raise InvalidSetting(
        "It is not known who does this.",
        expected="the name of a person",
        received="none",
        advice="Say it by `--by NAME`.",
    )


def reason(why: str, verb: str) -> str:
    """A reason, which must be there.

    Raises:
        InvalidSetting: It is empty.
    """
    if why.strip():
        return why.strip()
    raise InvalidSetting(
        f"`{verb}` needs a reason, which the log keeps.",
        expected='words, such as `--why "the new sensor reads 2 K too high"`',
        received="none",
        advice="Say why.",
    )


def _sha256(path: pathlib.Path) -> str:
    """Hash of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
