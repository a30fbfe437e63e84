"""`validate`: hold a calibrated run against what it held out and against a backtest, and say how far to trust it."""

import pathlib
from typing import Any

from bayestwin._base.progress import Progress
from bayestwin.assess import backtest, conformalize
from bayestwin.assess.trust import as_plain
from bayestwin.assess.validated import Validated
from bayestwin.errors import BayestwinError, InvalidInput, InvalidSetting, explain
from bayestwin.project.calibrate import Results, inputs_of
from bayestwin.project.carrying import Carried, Outcome, carry_out
from bayestwin.project.figures import summary
from bayestwin.project.given import Given
from bayestwin.project.judging import Trialled, judge_all
from bayestwin.project.model import Model
from bayestwin.project.others import others_of
from bayestwin.project.plan import Plan, make_plan
from bayestwin.project.predict import open_results
from bayestwin.project.record import RECORD, read_record
from bayestwin.project.run import ENDED, POSTERIOR, PREDICTIONS, find_run
from bayestwin.project.validation_tree import validation_tree
from bayestwin.report.validate import render_validation
from bayestwin.results.store import save, write_text_durably
from bayestwin.telemetry import Telemetry

BACKTEST, VALIDATION, PAGE = "backtest.nc", "validation.nc", "validation.html"


def validate_model(
    model: Model,
    results: pathlib.Path,
    run: str | None = None,
    *,
    with_backtest: bool = True,
    progress: Progress | None = None,
) -> Carried[Validated]:
    """Say how far the intervals of a calibrated run can be trusted, and write a page about it.

    Args:
        model: The model.
        results: Where runs are filed.
        run: The run; by default the newest calibration that held something out, of this job if there is one.
        with_backtest: Whether to calibrate again and again, from rolling origins.
        progress: Where progress is shown.

    Returns:
        What was found. The status is `"failed gates"` where the verdict is that intervals must not be trusted.

    Raises:
        InvalidInput: There is no such run, or it held nothing out, or a setting makes no sense.
    """
    asked = model.job.validation
    calibrated = open_results(model, find_judgeable(results, model, run))
    plan = make_plan(model, calibrated.split, _held_out(model, calibrated), asked, with_backtest=with_backtest)
    settings = asked.model_dump(mode="json", exclude_none=True) | {"backtest": with_backtest}
    others = others_of(results, model, calibrated.posterior)
    looked_at = [calibrated.run, *(results / model.name / other.run for other in others.values())]
    given = Given({"run": calibrated.run.name, "backtest": with_backtest}, runs=looked_at)

    def work(folder: pathlib.Path, shown: Progress) -> Outcome[Validated]:
        trialled = _backtest(model, calibrated, plan, folder, shown) if with_backtest else Trialled()
        with shown.timed("judge"):
            found = judge_all(model, calibrated, plan, trialled, tuple(others))
        with shown.timed("save"):
            save(validation_tree(found, settings), folder / VALIDATION)
        with shown.timed("report"):
            provenance = {"validated run": calibrated.run.name, "validation": folder.name}
            page = render_validation(found, others, folder=str(model.folder), provenance=provenance)
            write_text_durably(folder / PAGE, page)
        stopped = trialled.tree is not None and trialled.tree.attrs["interrupted"]
        status = "interrupted" if stopped else "failed gates" if found.trust.status == "fail" else "finished"
        return Outcome(found, status, _figures(found))

    return carry_out(model, results, "validate", inputs_of(model, calibrated.split), work, progress, given)


def find_judgeable(results: pathlib.Path, model: Model, run: str | None) -> pathlib.Path:
    """The run that is to be validated.

    Raises:
        InvalidInput: There is none, or it held nothing out.
    """
    if run is None:
        folders = [path.parent for path in (results / model.name).glob(f"*/{RECORD}")]
        whole = [one for one in folders if (one / POSTERIOR).is_file() and (one / PREDICTIONS).is_file()]
        records = {one: read_record(one) for one in whole}
        fitting = [one for one, record in records.items() if record.get("status") in ENDED]
        if fitting:
            return max(fitting, key=lambda one: (records[one].get("job_file") == model.job_path.name, one.name))
    found = find_run(results, model, run)
    if (found / PREDICTIONS).is_file():
        return found
    raise InvalidInput(_nothing_held_out(model, found.name))


def _held_out(model: Model, found: Results) -> Telemetry:
    if found.split.held_out is None:
        raise InvalidInput(_nothing_held_out(model, found.run.name))
    return found.split.held_out


def _nothing_held_out(model: Model, run: str) -> str:
    return explain(
        f"Run `{run}` of `{model.folder}` held nothing out, so there is nothing to hold its intervals against.",
        expected="a run that was calibrated on the first part of its telemetry and predicted the rest",
        received="a calibration on all telemetry",
        advice=f"Run `bayestwin calibrate {model.folder} --hold-out-from TIME` first, or set `hold_out_from`.",
    )


def _backtest(model: Model, run: Results, plan: Plan, folder: pathlib.Path, shown: Progress) -> Trialled:
    """Backtest on what was calibrated alone: what was held out must not teach the conformal intervals."""
    settings = dict(plan.backtest)
    try:
        tree = backtest(
            model.twin, run.split.calibration, origins=plan.origins, seed=plan.seed, progress=shown, **settings
        )
    except InvalidSetting:
        raise
    except BayestwinError as reason:
        return Trialled(failure=f"{type(reason).__name__}: {reason}")
    with shown.timed("save"):
        save(tree, folder / BACKTEST)
    return Trialled(tree, conformalize(tree, plan.levels, method=plan.conformal))


def _figures(found: Validated) -> dict[str, Any]:
    """What the record says: the verdict, gates, and key figures of both kinds of forecasts."""
    figures = {
        part.replace(" ", "_"): summary(evidence.whole, found.scores[part]) for part, evidence in found.evidence.items()
    }
    return {
        "verdict": as_plain(found.trust),
        "gates": [gate._asdict() for gate in found.gates],
        "summary": figures,
    }
