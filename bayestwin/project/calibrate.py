"""What `calibrate` does with a model folder: calibrate, predict what was held out, judge, report, and record it all.

Also the calibrations under other model errors, and what an earlier `check` said of the same data.
"""

import hashlib
import json
import pathlib
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, coverage, diagnose, failed, scores
from bayestwin.assess.population import of_all, scores_of_all
from bayestwin.calibrate import calibrate, with_model_error
from bayestwin.check import read_limits
from bayestwin.check.range import supported
from bayestwin.density.bind import bind, sha256_of
from bayestwin.density.density import build_density
from bayestwin.density.discrepancy import build_discrepancies
from bayestwin.errors import InvalidArtifact, InvalidInput, InvalidTwin
from bayestwin.insight.shares import uncertainty_shares
from bayestwin.model.describe import fingerprint
from bayestwin.predict import predict
from bayestwin.project.model import Model, Split, check_ready, load_telemetry, population_of
from bayestwin.project.record import (
    RECORD,
    begin_record,
    end_record,
    locked,
    parameter_figures,
    promises,
    read_record,
    summary,
    timings_of,
    write_record,
)
from bayestwin.project.run import (
    ASSETS,
    CHECKPOINT,
    ENDED,
    POSTERIOR,
    PREDICTIONS,
    REPORT,
    SHARES,
    keep_inputs,
    new_run,
    recorded,
    recorded_model,
)
from bayestwin.project.sections import Job
from bayestwin.report.reading import Calibrated
from bayestwin.report.tables import EarlierCheck
from bayestwin.results.store import load, save, write_text_durably
from bayestwin.results.support import mark
from bayestwin.telemetry import Telemetry

# One calibration as files in a folder: the posterior, and predictions of what was held out.


def calibrate_into(
    folder: pathlib.Path, model: Model, split: Split, job: dict[str, Any], *, device: str | None, progress: Progress
) -> Calibrated:
    """Calibrate a model, predict what was held out, and save both.

    Args:
        folder: Where the files go, and the checkpoint meanwhile.
        model: Gives the twin and the settings.
        split: The telemetry.
        job: Recorded with the posterior.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    posterior = calibrate(
        model.twin,
        split.calibration,
        population=population_of(model),
        device=device,
        progress=progress,
        job=job,
        checkpoint=folder / CHECKPOINT,
        **model.job.calibrate.model_dump(),
    )
    with progress.timed("save"):
        save(posterior, folder / POSTERIOR)
    if split.held_out is None:
        return posterior, None
    settings = model.job.predict.model_dump()
    predictions = predict(model.twin, posterior, split.held_out, device=device, progress=progress, **settings)
    mark_by_card(model, posterior, predictions)
    with progress.timed("save"):
        save(predictions, folder / PREDICTIONS)
    return posterior, predictions


def mark_by_card(model: Model, posterior: xr.DataTree, predictions: xr.DataTree) -> None:
    """Say in predictions, in place, what lies beyond the operating range of the card as well, if it has one."""
    limits = read_limits(model.folder / "card.md", model.twin)
    if limits:  # what lies beyond what was calibrated `predict` has said already
        mark(predictions, supported(model.twin, posterior, predictions, limits))


def read_calibrated(folder: pathlib.Path) -> Calibrated:
    """What `calibrate_into` left in a folder."""
    path = folder / PREDICTIONS
    return load(folder / POSTERIOR), load(path) if path.is_file() else None


def share_into(
    folder: pathlib.Path,
    model: Model,
    split: Split,
    posterior: xr.DataTree,
    *,
    device: str | None,
    progress: Progress,
) -> xr.Dataset | None:
    """Say where the uncertainty of what was held out comes from, and save that, if the job asks for it.

    Args:
        folder: Where the file goes.
        model: Gives the twin and the settings.
        split: The telemetry.
        posterior: What was calibrated.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    if split.held_out is None or not model.job.report.shares:
        return None
    settings = model.job.predict.model_dump()
    _, held_out = split.of_one("calibrate` with `shares = true")
    assert held_out is not None
    dataset = uncertainty_shares(model.twin, posterior, held_out, device=device, progress=progress, **settings)
    if np.isfinite(dataset["share"]).any():  # a file with nothing in it could not be told from a damaged one
        tree = xr.DataTree.from_dict({"uncertainty_shares": dataset})
        tree.attrs = dataset.attrs
        with progress.timed("save"):
            save(tree, folder / SHARES)
    return dataset


def read_shares(folder: pathlib.Path) -> xr.Dataset | None:
    """What `share_into` left in a folder; None where it left nothing."""
    path = folder / SHARES
    return load(path)["uncertainty_shares"].to_dataset() if path.is_file() else None


class OfAssets(NamedTuple):
    """Coverage and scores of each asset of a fleet, along the dimension `experiment`; as of `Results`."""

    coverage: xr.Dataset
    scores: xr.Dataset | None


class Results(NamedTuple):
    """What is known after a run.

    Attributes:
        run: Its folder.
        posterior: The posterior.
        predictions: Predictions at the held-out times; None if nothing is held out.
        gates: The verdict on the posterior.
        coverage: Shares inside intervals: of held-out observations, or of the calibration's own if none are held out;
            of a fleet those of all assets together.
        scores: Errors on held-out observations, likewise; None if nothing is held out.
        split: The telemetry.
        record: The content of `run.json`.
        beside: What was calibrated under other model errors, by name.
        shares: Where the uncertainty of the predictions comes from; None where the job does not ask.
        assets: The same of each asset of a fleet; None where there is one telemetry.
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
    assets: OfAssets | None = None

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
    if model.job.fleet is not None and not model.job.fleet.pool:
        raise InvalidInput(
            f"Job file `{model.job_path}` has assets calibrated one by one.",
            expected="`bayestwin fleet`, which does that",
            received="`pool = false` in `[fleet]`",
            advice=f"Run `bayestwin fleet {model.folder}`, or leave `pool` out to calibrate all of them together.",
        )
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
        "promises": promises(found.coverage),
        **({} if found.assets is None else {"assets": by_asset(found.assets)}),
        "parameters": parameter_figures(posterior),
        "solver": dict(posterior.attrs["solver_choice"]),
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
    raise InvalidInput(
        f"There is no run to resume in `{run}`.",
        expected="the folder of a calibration that was killed or interrupted",
        received=f"a run with the status “{status}”" if record else "no run: there is no record in it",
        advice="`bayestwin report MODEL` shows a run that came to its end.",
    )


def _check_same(run: pathlib.Path, record: dict[str, Any], now: dict[str, Any]) -> None:
    """Draws of another twin or of other telemetry must not be mixed with those that are there."""
    names = [name for name in ("twin_sha256", "telemetry_sha256", BESIDE) if record.get(name) != now.get(name)]
    if names:
        raise InvalidInput(
            f"Run `{run.name}` cannot be resumed: what it calibrates has changed since it was begun.",
            expected="; ".join(f"{name} {record.get(name)}" for name in names),
            received="; ".join(f"{name} {now.get(name)}" for name in names),
            advice="Restore the twin and the telemetry, or begin a new run by `bayestwin calibrate`.",
        )


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
        each = OfAssets(coverage(posterior, split.calibration), None)  # type: ignore[arg-type]
        whole = each if isinstance(split.calibration, Telemetry) else OfAssets(of_all(each.coverage), None)
        gates = diagnose(posterior, **limits)
    else:
        each = OfAssets(coverage(predictions, split.held_out), scores(predictions, split.held_out))  # type: ignore[arg-type]
        whole = each
        if not isinstance(split.held_out, Telemetry) and each.scores is not None:
            whole = OfAssets(of_all(each.coverage), scores_of_all(each.scores))
        gates = diagnose(posterior, **limits, covered=whole.coverage, predictions=predictions)
    known = Results(run, posterior, predictions, gates, *whole, split, record)
    return known if whole is each else known._replace(assets=each)


def by_asset(found: OfAssets) -> dict[str, Any]:
    """Coverage and scores of each asset, as `summary` has them of all."""
    told = {}
    for name in found.coverage["experiment"].to_numpy():
        scored = None if found.scores is None else found.scores.sel(experiment=name, drop=True)
        told[str(name)] = summary(found.coverage.sel(experiment=name, drop=True), scored)
    return told


def status_of(posterior: xr.DataTree, gates: tuple[Gate, ...]) -> str:
    """What became of a run: "finished", "failed gates" or "interrupted"; only the first is to be relied on."""
    if posterior.attrs["interrupted"]:
        return "interrupted"
    return "failed gates" if failed(gates) else "finished"


def write_report(found: Results) -> pathlib.Path:
    """Write `report.html` into the run folder."""
    from bayestwin.report import render_report, write_reports  # half a second, which only a report is worth

    provenance = {k: v for k, v in found.record.items() if k not in ("gates", "summary", "outputs", "assets")}
    held_out = found.split.held_out
    checked = checked_telemetry(found.run.absolute().parent, found.posterior.attrs["telemetry_sha256"])
    if not isinstance(found.split.calibration, Telemetry):
        return write_reports(
            found.posterior,
            found.run / ASSETS,
            found.predictions,
            validation=None if isinstance(held_out, Telemetry) else held_out,
            gates=found.gates,
            provenance=provenance,
            overview=found.run / REPORT,
            checked=checked,
        )
    page = render_report(
        found.posterior,
        found.predictions,
        validation=found.split.of_one("report")[1],
        gates=found.gates,
        provenance=provenance,
        beside=found.beside,
        shares=found.shares,
        checked=checked,
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
            "calibration": sha256_of(split.calibration),
            "held_out": None if split.held_out is None else sha256_of(split.held_out),
        },
        "telemetry_notices": notices_of(split),
    }
    if not isinstance(split.calibration, Telemetry):
        found |= {"assets_sha256": {name: one.sha256 for name, one in split.calibration.items()}}
        found |= {"set_aside": dict(split.set_aside)}
    return found | ({BESIDE: {name: fingerprint(other.twin) for name, other in others.items()}} if others else {})


def notices_of(split: Split) -> list[str]:
    """What was done to telemetry when it was read; of a fleet of which assets, and which are left out."""
    if isinstance(split.calibration, Telemetry):
        return list(split.calibration.notices)
    whose: dict[str, list[str]] = {}
    for name, one in split.calibration.items():
        for notice in one.notices:
            whose.setdefault(notice, []).append(f"`{name}`")
    told = [f"Of {len(names)} assets ({', '.join(names)}): {notice}" for notice, names in whose.items()]
    return [*split.set_aside.values(), *told]


# Calibrations beside the one of a run: the same telemetry under other model errors, each in a folder of its own.

BESIDE = "beside"
"""Folder within that of the run, and what its record calls them."""


def models_beside(model: Model, split: Split, device: str | None = None) -> dict[str, Model]:
    """The model under each of its `model_errors`, by name; the one that its twin has already is left out.

    Raises:
        InvalidInput: If there is none, or one does not fit the twin.
    """
    calibration, _ = split.of_one("calibrate --compare-model-errors")
    models = {}
    for name, error in model.model_errors.items():
        try:
            other = model._replace(twin=with_model_error(model.twin, error))
            check_ready(other, split, device)
            density = build_density(other.twin, bind(other.twin, calibration))
            build_discrepancies(density.twin, density.bound, density.grid)
        except InvalidTwin as reason:
            raise reason.within(f"Model error `{name}` of `{model.folder / 'twin.py'}`") from reason
        if fingerprint(other.twin) != fingerprint(model.twin):
            models[name] = other
    if models:
        return models
    raise InvalidInput(
        f"`{model.folder / 'twin.py'}` names no model errors to compare.",
        expected="a mapping of names to model errors that the twin does not have already",
        received="only the twin's own" if model.model_errors else "no variable `model_errors`, or an empty one",
        advice='Write beneath the twin, say, `model_errors = {"none": None, "discrepancy": bt.Discrepancy(…)}`.',
    )


def calibrate_beside(
    models: Mapping[str, Model],
    split: Split,
    run: pathlib.Path,
    job: dict[str, Any],
    *,
    device: str | None,
    progress: Progress,
) -> dict[str, Calibrated]:
    """Calibrate each model into a folder of its own, one after the other.

    Raises:
        KeyboardInterrupt: If one was interrupted; what it left can be gone on with.
    """
    found = {}
    for name, model in models.items():
        with progress.part(f"{BESIDE}/{name}") as shown:
            made = calibrate_into(run / BESIDE / name, model, split, job, device=device, progress=shown)
        if made[0].attrs["interrupted"]:
            raise KeyboardInterrupt
        found[name] = made
    return found


def read_beside(run: pathlib.Path) -> dict[str, Calibrated]:
    """What an earlier run calibrated beside its own, in the order of its record."""
    there = {path.parent.name: path.parent for path in sorted((run / BESIDE).glob(f"*/{POSTERIOR}"))}
    order = [name for name in read_record(run).get(BESIDE, {}) if name in there]
    return {name: read_calibrated(there[name]) for name in dict.fromkeys([*order, *there])}


# What `bayestwin check` has left about telemetry: its newest run on the same data, and the findings in it.

FINDINGS = "findings.json"
LARGEST = 20_000_000
"""Bytes of a file of findings that are read at most."""


def checked_telemetry(folder: pathlib.Path, telemetry_sha256: str) -> EarlierCheck | None:
    """The findings of the newest run of `check` on some telemetry; None where there is none.

    Args:
        folder: Where the runs of the model lie, `results/<model>`.
        telemetry_sha256: Of the telemetry that was calibrated.
    """
    for path in sorted(folder.glob(f"*/{RECORD}"), reverse=True):
        try:
            record = read_record(path.parent)
        except InvalidArtifact:
            continue
        told = record.get("telemetry_sha256")
        same = isinstance(told, Mapping) and told.get("calibration") == telemetry_sha256
        if record.get("command") == "check" and record.get("status") in ENDED and same:
            return _read(path.parent)
    return None


def _read(run: pathlib.Path) -> EarlierCheck:
    path = run / FINDINGS
    try:
        if path.stat().st_size > LARGEST:
            return EarlierCheck(run.name, trouble=f"`{FINDINGS}` is larger than any that `check` writes.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as reason:
        return EarlierCheck(run.name, trouble=f"`{FINDINGS}`: {reason}")
    items = told.get("findings") if isinstance(told, Mapping) else told
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return EarlierCheck(run.name, trouble=f"`{FINDINGS}` does not hold a list of findings.")
    return EarlierCheck(run.name, items)
