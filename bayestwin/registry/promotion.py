"""Promoting a run, from dev to staging to prod, on evidence; and approving of one."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import xarray as xr

from bayestwin.errors import CorruptArtifact, InvalidInput
from bayestwin.exported import FORECAST
from bayestwin.project.job import read_job
from bayestwin.project.record import RECORD, read_record
from bayestwin.project.run import ENDED, POSTERIOR, sha256_of
from bayestwin.project.sections import StageSection
from bayestwin.registry.evidence import GateOutcome, Promotable, judge_run, open_promotable
from bayestwin.registry.log import RegistryEvent, Stages, stages_after
from bayestwin.registry.production import person, reason, runs_of
from bayestwin.registry.shared import append, current_log
from bayestwin.results.store import load

type PromotionStage = Literal["staging", "prod"]


class Promotion(NamedTuple):
    """What came of a promotion.

    Attributes:
        run: Name of the run.
        stage: Where it was to come.
        gates: What all gates said.
        event: What is in the log; None where gates stopped it, and nothing was changed.
    """

    run: str
    stage: str
    gates: tuple[GateOutcome, ...]
    event: RegistryEvent | None

    @property
    def stopped_by(self) -> tuple[GateOutcome, ...]:
        """The gates that did not pass."""
        return tuple(gate for gate in self.gates if gate.verdict != "passed")


def promote(
    model: str | os.PathLike[str],
    results: str | os.PathLike[str] = "results",
    *,
    run: str | None = None,
    to: PromotionStage | None = None,
    why: str = "",
    by: str | None = None,
    force: bool = False,
    job: str = "job.toml",
) -> Promotion:
    """Bring a run into a stage, if all gates that the job names for that stage pass.

    What comes to production comes from staging. `force` overrules gates, and the stage, for a reason; the log keeps
    both. A posterior that is damaged, or that cannot be loaded, nobody can promote.

    Args:
        model: The model folder, whose job file says in `[promote.staging]` and `[promote.prod]` what is required.
        results: Where runs are filed.
        run: Name of the run; by default the one in staging for `to="prod"`, else the newest that came to its end.
        to: Into which stage; by default the one after that in which the run is.
        why: The reason.
        by: Who decides it; by default the name of this user.
        force: Whether to overrule gates that do not pass.
        job: Name of the job file.

    Returns:
        The run, the stage, what all gates said, and the `event` that is in the log: None where gates stopped it.

    Raises:
        InvalidInput: There is no such run, or it is in that stage already.
        CorruptArtifact: Its posterior is damaged or was changed since, or the log was.
        RunLocked: Someone else changed a stage meanwhile.
        InvalidSetting: `force` without a reason.
    """
    asked = read_job(_job_of(model, job)).promote
    runs, who = runs_of(model, results), person(by)
    why = reason(why, "--force") if force else why.strip()
    log = current_log(runs)
    now = stages_after(log.events)
    name = run or (now.staging.run if to == "prod" and now.staging else _newest(runs))
    staged = now.staging is not None and now.staging.run == name
    stage: PromotionStage = to or ("prod" if staged else "staging")
    promotable = open_promotable(runs, name)
    _check_stage(promotable, stage, now)
    posterior = _loaded(promotable)
    section = asked.prod if stage == "prod" else asked.staging
    found = Promotion(name, stage, _judged(promotable, section, stage, log.events, now), None)
    if found.stopped_by and not force:
        return found
    overridden = [gate.name for gate in found.stopped_by]
    documents, unserved = {}, ""
    if stage == "prod":
        # a second, which only production is worth
        from bayestwin.registry.documents import Release, write_documents
        from bayestwin.registry.forecasts import write_forecast

        unserved = write_forecast(pathlib.Path(model), promotable.folder, posterior, job)
        release = Release(promotable, posterior, found.gates, now.production, who, why, overridden)
        documents = write_documents(release)
        documents |= {} if unserved else {FORECAST: sha256_of(promotable.folder / FORECAST)}
        promotable = open_promotable(runs, name)  # its record knows them now
        found = found._replace(gates=_judged(promotable, section, stage, log.events, now))
    replaced = now.production if stage == "prod" else now.staging
    event = append(
        runs,
        log.head,
        event="promote",
        run=name,
        stage=stage,
        replaces=replaced.run if replaced else "",
        who=who,
        why=why,
        overridden=overridden,
        posterior_sha256=promotable.posterior_sha256,
        record_sha256=promotable.record_sha256,
        evidence={
            "gates": [gate._asdict() for gate in found.gates],
            "asked": section.model_dump(mode="json"),
            "documents": documents,
            "not_served": unserved,
        },
    )
    return found._replace(event=event)


def approve(
    model: str | os.PathLike[str],
    results: str | os.PathLike[str] = "results",
    *,
    run: str | None = None,
    to: PromotionStage = "prod",
    why: str = "",
    by: str | None = None,
) -> RegistryEvent:
    """Say that a person approves of a run, with the posterior that it has, for a stage.

    Args:
        model: Its name, or its folder.
        results: Where runs are filed.
        run: Name of the run; by default the one in staging, else the newest that came to its end.
        to: For which stage.
        why: The reason.
        by: Who approves; by default the name of this user.

    Returns:
        The event, which is in the log.

    Raises:
        InvalidInput: There is no such run.
        CorruptArtifact: Its posterior is damaged, or the log was changed.
    """
    runs, who = runs_of(model, results), person(by)
    staging = stages_after(current_log(runs).events).staging
    promotable = open_promotable(runs, run or (staging.run if staging else _newest(runs)))
    return append(
        runs,
        None,
        event="approve",
        run=promotable.name,
        stage=to,
        who=who,
        why=why.strip(),
        posterior_sha256=promotable.posterior_sha256,
        record_sha256=promotable.record_sha256,
    )


def _job_of(model: str | os.PathLike[str], job: str) -> pathlib.Path:
    folder = pathlib.Path(model)
    if folder.is_dir():
        return folder / job
    raise InvalidInput(
        f"There is no model folder `{model}`.",
        expected="a folder with a job file, which says what a promotion requires",
        received="a file" if folder.exists() else "nothing under that path",
        advice="Name the folder; `bayestwin models` lists those there are.",
    )


def _newest(runs: pathlib.Path) -> str:
    """The newest run with a posterior that came to its end."""
    for path in sorted(runs.glob(f"*/{RECORD}"), reverse=True):
        if (path.parent / POSTERIOR).is_file() and _status(path.parent) in ENDED:
            return path.parent.name
    raise InvalidInput(
        f"There is no run of `{runs.name}` to promote.",
        expected=f"a run in `{runs}` that has come to its end, with a posterior",
        received="none",
        advice="Calibrate first by `bayestwin calibrate`.",
    )


def _status(run: pathlib.Path) -> Any:
    try:
        return read_record(run).get("status")
    except CorruptArtifact:
        return None


def _check_stage(run: Promotable, stage: PromotionStage, now: Stages) -> None:
    """Refuse what would change nothing, or take production away without putting anything in its place."""
    production = now.production
    at = "prod" if production and production.run == run.name else None
    at = "staging" if at is None and now.staging and now.staging.run == run.name else at
    if at is None or (at, stage) == ("staging", "prod"):
        if at == "staging" and now.staging and now.staging.posterior_sha256 != run.posterior_sha256:
            raise CorruptArtifact(
                f"The posterior of `{run.name}` is not the one that came to staging.",
                expected=f"the sha256 {now.staging.posterior_sha256[:12]}, as event {now.staging.seq} has it",
                received=run.posterior_sha256[:12],
                advice="Nothing was changed. Restore it from a copy, or promote another run to staging.",
            )
        return
    raise InvalidInput(
        f"Run `{run.name}` of `{run.runs.name}` is in {at} already.",
        expected=f"a run that is not there yet, to bring into {stage}",
        received=f"`{run.name}`",
        advice=f"Name another run by `--run`; `bayestwin history {run.runs.name}` says what is where.",
    )


def _loaded(run: Promotable) -> xr.DataTree:
    """The posterior of a run; refused is one that cannot be loaded, such as a pickle, or that is of another twin."""
    posterior = load(run.folder / POSTERIOR)
    ours, theirs = run.record.get("twin_sha256"), posterior.attrs.get("twin_sha256")
    if ours is None or ours != theirs:
        raise CorruptArtifact(
            f"The posterior of `{run.name}` is of another twin than its record says.",
            expected=f"the twin {str(ours)[:12]}",
            received=str(theirs)[:12],
            advice="Calibrate again.",
        )
    return posterior


def _judged(
    run: Promotable, section: StageSection, stage: PromotionStage, events: Sequence[RegistryEvent], now: Stages
) -> tuple[GateOutcome, ...]:
    found = judge_run(run, section, stage, events, now.production)
    return (_stage_gate(run, now), *found) if stage == "prod" else found


def _stage_gate(run: Promotable, now: Stages) -> GateOutcome:
    """Whether a run comes from staging."""
    if now.staging is not None and now.staging.run == run.name:
        return GateOutcome("stage", "passed", f"It is in staging since event {now.staging.seq}.")
    return GateOutcome("stage", "missing", "It is not in staging: promote it there first.")


def plain(found: Promotion) -> Mapping[str, Any]:
    """What came of a promotion, for JSON."""
    event = None if found.event is None else found.event._asdict()
    return found._asdict() | {"gates": [gate._asdict() for gate in found.gates], "event": event}
