"""What the verbs do with a model folder: calibrate it, predict what was held out, judge, report, and record it all."""

import hashlib
import pathlib
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, coverage, diagnose, failed, scores
from bayestwin.errors import InvalidInput, explain
from bayestwin.model.describe import fingerprint
from bayestwin.project.beside import BESIDE, calibrate_beside, models_beside
from bayestwin.project.carrying import recorded
from bayestwin.project.checked import checked_telemetry
from bayestwin.project.figures import summary
from bayestwin.project.filing import Calibrated, calibrate_into, share_into
from bayestwin.project.inputs import keep_inputs, recorded_model
from bayestwin.project.lock import locked
from bayestwin.project.model import Model, Split, load_telemetry
from bayestwin.project.readiness import check_ready
from bayestwin.project.record import begin_record, end_record, read_record, timings_of, write_record
from bayestwin.project.run import CHECKPOINT, ENDED, REPORT, new_run
from bayestwin.project.sections import Job
from bayestwin.results.store import write_text_durably


class Results(NamedTuple):
    """What is known after a run.

    Attributes:
        run: Its folder.
        posterior: The posterior.
        predictions: Predictions at the held-out times; None if nothing is held out.
        gates: The verdict on the posterior.
        coverage: Shares inside intervals: of held-out observations, or of the calibration's own if none are held out.
        scores: Errors on held-out observations; None if nothing is held out.
        split: The telemetry.
        record: The content of `run.json`.
        beside: What was calibrated under other model errors, by name.
        shares: Where the uncertainty of the predictions comes from; None where the job does not ask.
    """

    run: pathlib.Path
    posterior: xr.DataTree
    predictions: xr.DataTree | None
    gates: tuple[Gate, ...]
    coverage: xr.Dataset
    scores: xr.Dataset | None
    split: Split
    record: dict[str, Any]
    beside: Mapping[str, Calibrated] = types.MappingProxyType({})
    shares: xr.Dataset | None = None

    @property
    def status(self) -> str:
        """As `status_of`."""
        return status_of(self.posterior, self.gates)


def calibrate_model(
    model: Model,
    results: pathlib.Path,
    *,
    compare_model_errors: bool = False,
    device: str | None = None,
    suffix: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Run a model's job: calibrate, save, predict, judge, report.

    Bad input is an error before a run begins; a run that begins leaves a record whatever happens to it.

    Args:
        model: The model folder.
        results: Where runs are filed.
        compare_model_errors: Whether to calibrate under each of the model's `model_errors` as well.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        suffix: What the name of the run ends with; by default something random.
        progress: Where progress is shown.

    Returns:
        What came out; the run folder holds it as files.
    """
    split = load_telemetry(model)
    check_ready(model, split, device)
    others = models_beside(model, split, device) if compare_model_errors else {}
    run = new_run(results, model, suffix)
    with locked(run):
        record = begin_record(run, "calibrate", inputs_of(model, split, others))
        return _carry_out(model, others, split, run, record, device, progress or Progress())


def resume_run(
    model: Model | None, run: pathlib.Path, *, device: str | None = None, progress: Progress | None = None
) -> Results:
    """Go on with a run that was killed or interrupted, with the job that it was begun with.

    Args:
        model: The model that it calibrates; None for what the run kept of it.
        run: The run folder.
        device: As it was begun with.
        progress: Where progress is shown.

    Returns:
        What came out: to the bit what the run would have given had it not been interrupted.

    Raises:
        InvalidInput: If the run has come to its end, or the twin or the telemetry is another one now.
        RunLocked: If the run is still being written.
    """
    record = read_resumable(run)
    model = recorded_model(run, record) if model is None else model._replace(job=Job.model_validate(record["job"]))
    split = load_telemetry(model)
    others = models_beside(model, split, device) if BESIDE in record else {}
    _check_same(run, record, inputs_of(model, split, others))
    check_ready(model, split, device)
    kept = {name: value for name, value in record.items() if name not in ("error", "ended", "outputs", "timings")}
    record = kept | {"status": "running", "resumed": int(record.get("resumed", 0)) + 1}
    with locked(run):
        write_record(run, record)
        return _carry_out(model, others, split, run, record, device, progress or Progress())


def _carry_out(
    model: Model,
    others: Mapping[str, Model],
    split: Split,
    run: pathlib.Path,
    record: dict[str, Any],
    device: str | None,
    shown: Progress,
) -> Results:
    with recorded(run, shown):
        record = keep_inputs(run, model, record)
        job = record["job"]
        posterior, predictions = calibrate_into(run, model, split, job, device=device, progress=shown)
        if posterior.attrs["interrupted"]:
            others = {}
        beside = calibrate_beside(others, split, run, job, device=device, progress=shown)
        shares = share_into(run, model, split, posterior, device=device, progress=shown)
        with shown.timed("report"):
            found = judge(model, run, posterior, predictions, split, record)
            found = found._replace(
                record=record | {"status": found.status, "timings": timings_of(shown)}, beside=beside, shares=shares
            )
            write_report(found)
    if found.status in ENDED:
        for path in run.rglob(CHECKPOINT):
            path.unlink()
    outcome = {
        "gates": [gate._asdict() for gate in found.gates],
        "timings": timings_of(shown),
        "summary": summary(found.coverage, found.scores),
    }
    return found._replace(record=end_record(run, record, found.status, **outcome))


def read_resumable(run: pathlib.Path) -> dict[str, Any]:
    """The record of a run that can be gone on with.

    Raises:
        InvalidInput: If there is no such run, or it has come to its end.
    """
    record = read_record(run)
    status = record.get("status")
    if record.get("command") == "calibrate" and status not in ENDED:
        return record
    message = explain(
        f"There is no run to resume in `{run}`.",
        expected="the folder of a calibration that was killed or interrupted",
        received=f"a run with the status “{status}”" if record else "no run: there is no record in it",
        advice="`bayestwin report MODEL` shows a run that came to its end.",
    )
    raise InvalidInput(message)


def _check_same(run: pathlib.Path, record: dict[str, Any], now: dict[str, Any]) -> None:
    """Draws of another twin or of other telemetry must not be mixed with those that are there."""
    names = [name for name in ("twin_sha256", "telemetry_sha256", BESIDE) if record.get(name) != now.get(name)]
    if names:
        message = explain(
            f"Run `{run.name}` cannot be resumed: what it calibrates has changed since it was begun.",
            expected="; ".join(f"{name} {record.get(name)}" for name in names),
            received="; ".join(f"{name} {now.get(name)}" for name in names),
            advice="Restore the twin and the telemetry, or begin a new run by `bayestwin calibrate`.",
        )
        raise InvalidInput(message)


def judge(
    model: Model,
    run: pathlib.Path,
    posterior: xr.DataTree,
    predictions: xr.DataTree | None,
    split: Split,
    record: dict[str, Any],
) -> Results:
    """Gates, coverage and scores of a posterior and its predictions."""
    limits = model.job.gates.model_dump()
    if predictions is None or split.held_out is None:
        gates = diagnose(posterior, **limits)
        return Results(run, posterior, None, gates, coverage(posterior, split.calibration), None, split, record)
    covered = coverage(predictions, split.held_out)
    scored = scores(predictions, split.held_out)
    gates = diagnose(posterior, **limits, covered=covered)
    return Results(run, posterior, predictions, gates, covered, scored, split, record)


def status_of(posterior: xr.DataTree, gates: tuple[Gate, ...]) -> str:
    """What became of a run: "finished", "failed gates" or "interrupted"; only the first is to be relied on."""
    if posterior.attrs["interrupted"]:
        return "interrupted"
    return "failed gates" if failed(gates) else "finished"


def write_report(found: Results) -> pathlib.Path:
    """Write `report.html` into the run folder."""
    from bayestwin.report import render_report  # half a second, which only a report is worth

    page = render_report(
        found.posterior,
        found.predictions,
        validation=found.split.held_out,
        gates=found.gates,
        provenance={k: v for k, v in found.record.items() if k not in ("gates", "summary", "outputs")},
        beside=found.beside,
        shares=found.shares,
        checked=checked_telemetry(found.run.absolute().parent, found.posterior.attrs["telemetry_sha256"]),
    )
    return write_text_durably(found.run / REPORT, page)


def inputs_of(model: Model, split: Split, others: Mapping[str, Model] = types.MappingProxyType({})) -> dict[str, Any]:
    """What a record says that its run was made of: model, twin, job and telemetry, with their hashes."""
    found = {
        "model": model.name,
        "twin": model.twin.name,
        "twin_sha256": fingerprint(model.twin),
        "job_file": model.job_path.name,
        "job": model.job.model_dump(mode="json", exclude_none=True),
        "job_sha256": hashlib.sha256(model.job_path.read_bytes()).hexdigest(),
        "telemetry_sha256": {
            "calibration": split.calibration.sha256,
            "held_out": None if split.held_out is None else split.held_out.sha256,
        },
        "telemetry_notices": list(split.calibration.notices),
    }
    return found | ({BESIDE: {name: fingerprint(other.twin) for name, other in others.items()}} if others else {})
