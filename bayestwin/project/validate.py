"""`validate`: hold a calibrated run against what it held out and against a backtest, and say how far to trust it.

The plan comes first, from the job and the telemetry; then all that is said, `validation.nc`, and the page.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin._base.units import convert
from bayestwin.assess import backtest, conformalize, draws, intervals, scores
from bayestwin.assess.backtest import cut_stages
from bayestwin.assess.evidence import Evidence, Regime, compared, gather, ranks, together
from bayestwin.assess.grouping import BinEdges, find_groups, name_of
from bayestwin.assess.intervals import expected_shares
from bayestwin.assess.population import scores_of_all
from bayestwin.assess.trust import BACKTEST, HELD_OUT, BacktestTrial, Validated, as_plain, trust
from bayestwin.density.bind import Experiments, elapsed, sha256_of
from bayestwin.errors import BayestwinError, InvalidInput, InvalidJob, InvalidSetting
from bayestwin.inference.method import usual_method
from bayestwin.project.calibrate import Results, inputs_of
from bayestwin.project.model import Model, Split, population_of
from bayestwin.project.predict import judged_by, open_results
from bayestwin.project.record import RECORD, read_record, summary
from bayestwin.project.run import (
    ENDED,
    POSTERIOR,
    PREDICTIONS,
    Carried,
    Given,
    VerbOutcome,
    carry_out,
    find_run,
    newest,
)
from bayestwin.project.sections import ValidateSection
from bayestwin.report.insight import SECTIONS, Found
from bayestwin.report.prose import interrupted
from bayestwin.report.validate import render_validation
from bayestwin.report.validation_tables import doubts, failures_of, reach_words, unchecked
from bayestwin.results.store import load, save, write_text_durably
from bayestwin.telemetry import Telemetry

# What a validation is going to do: settings of the job file, and what follows from the telemetry where it has none.
#
# Whatever makes no sense in them is an error here, before anything is computed.

LEVELS = (0.5, 0.8, 0.9, 0.95)

MOST_GROUPS, LEAST_IN_GROUP = 4, 10
"""Horizons are told apart in up to so many groups, of about so many observations at least."""


class Plan(NamedTuple):
    """What is going to be done.

    Attributes:
        prob: Nominal probability of the interval that counts.
        levels: All that are looked at, increasing.
        regimes: What tells groups of points apart but their horizon.
        horizon_bins: Bins of horizons that the job names; None where it names none.
        period: After which observations repeat themselves; None where nothing is known of one.
        origins: How many, or which; 0 for no backtest.
        num_origins: How many there will be.
        backtest: Other arguments of `bt.backtest`.
        conformal: How intervals are corrected.
        seed: Determines everything random.
    """

    prob: float
    levels: tuple[float, ...]
    regimes: Mapping[str, Regime]
    horizon_bins: BinEdges
    period: float | None
    origins: Any
    num_origins: int
    backtest: Mapping[str, Any]
    conformal: Any
    seed: int


def make_plan(
    model: Model, split: Split, held_out: Telemetry | Experiments, asked: ValidateSection, *, with_backtest: bool
) -> Plan:
    """What is going to be done.

    Args:
        model: The model.
        split: Its telemetry.
        held_out: What was held out.
        asked: The settings.
        with_backtest: Whether there is to be one.

    Raises:
        InvalidSetting: A setting makes no sense for this telemetry.
        InvalidJob: `by` or `bins` names a column that is not there.
    """
    twin, calibrated = model.twin, _longest(split.calibration)
    span = _reach(calibrated, twin.time_unit, calibrated.table.index[0])
    settings: dict[str, Any] = {}
    number = 0
    if with_backtest and isinstance(held_out, Telemetry):
        follows = held_out.table.index[0] > calibrated.table.index[-1]
        begun = calibrated.table.index[-1] if follows else held_out.table.index[0]
        ahead = _reach(held_out, twin.time_unit, begun)
        horizon = asked.horizon or min(ahead, span / 4)
        stages = cut_stages(twin, calibrated, asked.origins, horizon, asked.gap, asked.window)
        number = len(stages)
        own = {name: getattr(asked, name) for name in ("window", "recalibrate", "gap")}
        own["method"] = asked.method or usual_method(derivatives=twin.black_box is None, quick=True)
        job = model.job.calibrate.model_dump(exclude={"seed", "method", "loss"})
        settings = {"horizon": horizon} | own | job
    return Plan(
        asked.prob,
        tuple(sorted({*LEVELS, asked.prob})),
        _regimes(model, split.calibration, held_out, asked),
        asked.bins.get("horizon"),
        _period(asked.period, calibrated, twin.time_unit, span),
        asked.origins if with_backtest else 0,
        number,
        settings,
        asked.conformal,
        asked.seed,
    )


def horizon_regime(
    tree: xr.DataTree, telemetry: Telemetry | Experiments | None, asked: BinEdges
) -> Mapping[str, Regime]:
    """Groups of horizons, equally wide, so few that each has enough observations; none where one would be all.

    Args:
        tree: A forecast or a backtest.
        telemetry: What was held out; a backtest has its own.
        asked: Bins of the job: their number or edges; None for as many as the observations allow.
    """
    if asked is not None and not isinstance(asked, int):
        return {"horizon": Regime("horizon", asked)}
    different: dict[str, int] = {}
    for part, one in draws.parts(tree, telemetry):
        row = draws.axis(part)
        labels = draws.labels(row)
        for name, pair in draws.pairs(part, row, one).items():
            different[name] = different.get(name, 0) + labels[pair.positions].nunique()
    fewest = min((n for n in different.values() if n), default=0)
    groups, furthest = asked or min(MOST_GROUPS, fewest // LEAST_IN_GROUP), furthest_ahead(tree, telemetry)
    if groups < 2 or not furthest > 0:
        return {}
    return {"horizon": Regime("horizon", tuple(np.linspace(0.0, furthest, groups + 1)))}


def furthest_ahead(tree: xr.DataTree, telemetry: Telemetry | Experiments | None) -> float:
    """How far ahead a forecast looks, of a fleet that of the asset where it is furthest; in the twin's unit of time."""
    parts = (part for part, _ in draws.parts(tree, telemetry))
    return max(float(draws.horizons(part, draws.axis(part)).max()) for part in parts)


def _longest(telemetry: Telemetry | Experiments) -> Telemetry:
    """The telemetry; of a fleet that of the asset with the most rows."""
    return telemetry if isinstance(telemetry, Telemetry) else max(telemetry.values(), key=lambda one: len(one.table))


def _reach(telemetry: Telemetry, unit: str, start: Any) -> float:
    """How long after `start` the telemetry ends, in the twin's unit of time."""
    own = telemetry.units.get("time", unit)
    return float(elapsed(telemetry.table.index[-1:], start, own, unit)[0])


def _regimes(
    model: Model, calibrated: Telemetry | Experiments, held_out: Telemetry | Experiments, asked: ValidateSection
) -> dict[str, Regime]:
    """By column, its values over all times and bins that are the same for what was held out and for the backtest."""
    parts = [
        one for part in (calibrated, held_out) for one in ([part] if isinstance(part, Telemetry) else part.values())
    ]
    table = pd.concat([one.table for one in parts])
    fleet = not isinstance(calibrated, Telemetry)
    twice = table.index.duplicated().any() and not fleet  # another recording, on a clock of its own
    for key, names in (("by", asked.by), ("bins", [name for name in asked.bins if name != "horizon"])):
        for name in names:
            if name not in table.columns or (key == "bins" and name not in asked.by):
                expected = ", ".join(f"`{column}`" for column in (table.columns if key == "by" else asked.by))
                known = name in table.columns
                raise InvalidJob(
                    f"Job file `{model.job_path}` names `{name}` in `{key}` of `[validate]`, which "
                    + ("`by` does not name." if known else "is no column."),
                    expected=(expected or "a column that `by` names") + (", or `horizon`" if key == "bins" else ""),
                    received=f"`{name}`",
                    advice=f'Add "{name}" to `by`, which says what regimes are told apart by.'
                    if known
                    else "Name columns of the telemetry, as they are called in the twin.",
                )
    regimes = {}
    for name in asked.by:
        values = pd.Series(table[name], name=name)
        groups = find_groups(name_of(values), values.to_numpy(), asked.bins.get(name))
        edges = None if groups.edges is None else tuple(groups.edges)
        if twice and name not in model.twin.inputs:
            raise InvalidJob(
                f"Job file `{model.job_path}` tells regimes apart by `{name}`, whose times are not unique.",
                expected="an input of the twin, where another recording is judged that has the same times",
                received=f"`{name}`",
                advice="Leave it out of `by` in `[validate]`, or name inputs alone.",
            )
        regimes[name] = Regime(name if twice or fleet else values, edges, str(parts[0].units.get(name, "")))
    return regimes


def _period(asked: float | None, calibrated: Telemetry, unit: str, span: float) -> float | None:
    """The period that the job names, else a day where that can be one."""
    if asked is not None:
        return asked or None
    day = float(convert(np.array(1.0), "day", unit, "the twin's time", InvalidSetting))
    often = np.median(np.diff(elapsed(calibrated.table.index, calibrated.t0, calibrated.units.get("time", unit), unit)))
    return day if span >= 2 * day and often <= day / 4 else None


# All that a validation says of a calibrated run and of its backtest, from their forecasts.


class Trialled(NamedTuple):
    """A backtest that was carried out.

    Attributes:
        tree: What `bt.backtest` returned; None where there is none.
        conformal: What `bt.conformalize` made of it.
        failure: Why there is none although one was asked for, in words.
    """

    tree: xr.DataTree | None = None
    conformal: xr.DataTree | None = None
    failure: str = ""


def judge_all(model: Model, run: Results, plan: Plan, trialled: Trialled, others: Mapping[str, Found]) -> Validated:
    """Hold the forecasts of a run and of its backtest against what came.

    Args:
        model: The model.
        run: The run, with predictions of what it held out.
        plan: What is to be looked at.
        trialled: The backtest.
        others: The newest run of each other verb that came to its end.
    """
    forecast, past, telemetry = run.predictions, run.split.calibration, run.split.held_out
    if forecast is None or telemetry is None:
        message = "only a run that held something out is judged"
        raise ValueError(message)
    made = intervals(forecast, plan.levels, conformal=trialled.conformal)
    parts: dict[str, tuple[xr.DataTree, Telemetry | Experiments | None]] = {HELD_OUT: (forecast, telemetry)}
    both, correction = {}, None
    if trialled.tree is not None and trialled.conformal is not None:
        parts[BACKTEST] = (trialled.tree, None)
        tree = xr.DataTree.from_dict({**_groups(forecast), draws.INTERVALS: _with_expected(made, forecast)})
        tree.attrs = forecast.attrs
        both = {HELD_OUT: _evidence(tree, telemetry, plan), BACKTEST: _evidence(trialled.conformal, None, plan)}
        correction = trialled.conformal["correction"].to_dataset()
    evidence = {part: _evidence(*pair, plan) for part, pair in parts.items()}
    number = compared(evidence, plan.prob)
    # bands of the same width, so that one interval is marked alike wherever it stands
    evidence, both = together(evidence, number), together(both, number)
    pits = {part: ranks(*pair, plan.seed, len(parts)) for part, pair in parts.items()}
    period = plan.period
    scored = {part: scores(*pair, prob=plan.levels, past=past, period=period) for part, pair in parts.items()}  # type: ignore[arg-type]
    if isinstance(telemetry, Mapping):
        scored = {part: scores_of_all(one) for part, one in scored.items()}
    trial = _trial(plan, trialled, evidence.get(BACKTEST))
    verdict = trust(
        run.gates,
        evidence[HELD_OUT],
        trial,
        prob=plan.prob,
        interrupted=interrupted(run.posterior),
        doubts=[*doubts(pits, scored), *failures_of(others)],
        unchecked=unchecked(
            trial=trial,
            regimes=tuple(plan.regimes),
            inputs=tuple(model.twin.inputs),
            ran=tuple(others),
            folder=str(model.folder),
            reach=reach_words(forecast, furthest_ahead(forecast, telemetry)),
        ),
        time_unit=model.twin.time_unit,
    )
    return Validated(
        posterior=run.posterior,
        predictions=forecast,
        telemetry=telemetry,
        gates=run.gates,
        prob=plan.prob,
        held_out=evidence[HELD_OUT],
        trial=trial,
        backtest=trialled.tree,
        intervals=made,
        both=both,
        correction=correction,
        pit=pits,
        scores=scored,
        period=period,
        settings={"origins": plan.num_origins, **plan.backtest} if plan.num_origins else {},
        trust=verdict,
        run=run.run.name,
        job=str(run.record.get("job_file", "")),
    )


def _evidence(tree: xr.DataTree, telemetry: Telemetry | Experiments | None, plan: Plan) -> Evidence:
    regimes = {**horizon_regime(tree, telemetry, plan.horizon_bins), **plan.regimes}
    return gather(tree, telemetry, plan.levels, regimes)


def _with_expected(made: xr.Dataset, forecast: xr.DataTree) -> xr.Dataset:
    """Raw and conformal intervals with what they hold if they are right, as `coverage` has it of raw ones."""
    raw = expected_shares(forecast, made.sel(kind="raw", drop=True))
    parts = {"raw": raw, "conformal": raw["prob"].broadcast_like(raw)}
    expected = xr.concat([parts[str(kind)] for kind in made["kind"].to_numpy()], made["kind"], coords="minimal")
    return made.assign(expected=expected.transpose(*made["lower"].dims).drop_vars("units", errors="ignore"))


def _groups(forecast: xr.DataTree) -> dict[str, xr.Dataset]:
    """What says how far ahead a forecast looks, and by which inputs."""
    names = ("observed_data", "predictions_constant_data")
    return {name: forecast[name].to_dataset() for name in names if name in forecast.children}


def _trial(plan: Plan, trialled: Trialled, evidence: Evidence | None) -> BacktestTrial:
    if trialled.failure:
        return BacktestTrial(None, plan.num_origins, (trialled.failure,) * plan.num_origins)
    if trialled.tree is None:
        return BacktestTrial(None, 0)
    origins = trialled.tree["origins"].to_dataset()
    failures = tuple(str(words) for words in origins["failure"].to_numpy() if str(words))
    failed = [str(words).split(", ") for words in origins["failed_gates"].to_numpy() if str(words)]
    gates = tuple(dict.fromkeys(name for names in failed for name in names))
    unreached = plan.num_origins - origins.sizes["origin"]
    return BacktestTrial(evidence, plan.num_origins, failures, len(failed), unreached, gates)


BACKTEST_FILE, VALIDATION, PAGE = "backtest.nc", "validation.nc", "validation.html"


def validate_model(
    model: Model,
    results: pathlib.Path,
    run: str | None = None,
    *,
    with_backtest: bool = True,
    held_out: pathlib.Path | None = None,
    initial: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Carried[Validated]:
    """Say how far the intervals of a calibrated run can be trusted, and write a page about it.

    Args:
        model: The model.
        results: Where runs are filed.
        run: The run; by default the newest calibration that held something out, of this job if there is one.
        with_backtest: Whether to calibrate again and again, from rolling origins; not done with a fleet.
        held_out: CSV file to judge by instead of what the run held out: what follows its telemetry, or another
            recording.
        initial: In which states that begins, as of `predict`.
        progress: Where progress is shown.

    Returns:
        What was found. The status is `"failed gates"` where the verdict is that intervals must not be trusted.

    Raises:
        InvalidInput: There is no such run, or it held nothing out, or a setting makes no sense.
    """
    asked, with_backtest = model.job.validation, with_backtest and model.job.fleet is None
    if held_out is None:
        calibrated = open_results(model, find_judgeable(results, model, run))
    else:
        calibrated = judged_by(model, open_results(model, find_run(results, model, run)), held_out, initial)
    plan = make_plan(model, calibrated.split, _held_out(model, calibrated), asked, with_backtest=with_backtest)
    settings = asked.model_dump(mode="json", exclude_none=True) | {"backtest": with_backtest}
    others = others_of(results, model, calibrated.posterior)
    looked_at = [calibrated.run, *(results / model.name / other.run for other in others.values())]
    options = {"run": calibrated.run.name, "backtest": with_backtest} | ({"initial": dict(initial)} if initial else {})
    given = Given(options, {} if held_out is None else {"held_out": held_out}, looked_at)

    def work(folder: pathlib.Path, shown: Progress) -> VerbOutcome[Validated]:
        trialled = _backtest(model, calibrated, plan, folder, shown) if with_backtest else Trialled()
        with shown.timed("judge"):
            validated = judge_all(model, calibrated, plan, trialled, others)
        with shown.timed("save"):
            save(validation_tree(validated, settings), folder / VALIDATION)
        with shown.timed("report"):
            provenance = {"validated run": calibrated.run.name, "validation": folder.name}
            page = render_validation(validated, others, folder=str(model.folder), provenance=provenance)
            write_text_durably(folder / PAGE, page)
        stopped = trialled.tree is not None and trialled.tree.attrs["interrupted"]
        status = "interrupted" if stopped else "failed gates" if validated.trust.status == "fail" else "finished"
        return VerbOutcome(validated, status, _figures(validated))

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
    raise _nothing_held_out(model, found.name)


def _held_out(model: Model, found: Results) -> Telemetry | Experiments:
    if found.split.held_out is None:
        raise _nothing_held_out(model, found.run.name)
    return found.split.held_out


def _nothing_held_out(model: Model, run: str) -> InvalidInput:
    return InvalidInput(
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
            model.twin,
            run.split.of_one("validate")[0],
            origins=plan.origins,
            seed=plan.seed,
            progress=shown,
            population=population_of(model),
            **settings,
        )
    except InvalidSetting:
        raise
    except BayestwinError as reason:
        return Trialled(failure=f"{type(reason).__name__}: {reason}")
    with shown.timed("save"):
        save(tree, folder / BACKTEST_FILE)
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


# `validation.nc`: all that a validation found, as groups of one tree.

FRONT = {HELD_OUT: "", BACKTEST: "backtest_"}


def validation_tree(found: Validated, settings: dict[str, Any]) -> xr.DataTree:
    """One tree, bound to twin and telemetry by its attributes.

    Groups are `coverage`, `coverage_by_<name>`, `conformal` and `conformal_by_<name>` (raw and conformal intervals at
    the times at which there are both), `pit`, `scores`, each also of the backtest with `backtest_` before it;
    `intervals`, and the `correction` that conformal ones are made from. In names of columns `_` stands for all but
    letters and digits.
    """
    groups: dict[str, xr.Dataset] = {}
    for word, evidences in (("coverage", found.evidence), ("conformal", found.both)):
        for part, evidence in evidences.items():
            groups[f"{FRONT[part]}{word}"] = evidence.whole
            groups |= {
                f"{FRONT[part]}{word}_by_{_storable(name)}": _renamed(table) for name, table in evidence.by.items()
            }
    for word, tables in (("pit", found.pit), ("scores", found.scores)):
        groups |= {f"{FRONT[part]}{word}": table for part, table in tables.items()}
    groups["intervals"] = found.intervals
    if found.correction is not None:
        groups["correction"] = found.correction
    tree = xr.DataTree.from_dict(groups)
    kept = ("twin", "twin_sha256", "telemetry_sha256", "bayestwin_version", "time_unit")
    tree.attrs = {name: found.posterior.attrs[name] for name in kept if name in found.posterior.attrs}
    tree.attrs |= {
        "held_out_sha256": sha256_of(found.telemetry),
        "seed": settings["seed"],
        "prob": found.prob,
        "settings": settings,
        "verdict": as_plain(found.trust),
    }
    return tree


def _renamed(table: xr.Dataset) -> xr.Dataset:
    """A table whose names can be stored: columns may be called `W/m2` or `pump speed`."""
    names = {str(name) for name in (*table.variables, *table.dims) if _storable(str(name)) != name}
    return table.rename({name: _storable(name) for name in names})


def _storable(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"_{plain}"


# What other verbs have left about a model's twin: the newest run of each that is finished.


def others_of(results: pathlib.Path, model: Model, posterior: xr.DataTree) -> dict[str, Found]:
    """By verb, its newest finished run of the twin that was calibrated; none where it has not been run."""
    found = {}
    for section in SECTIONS:
        run = newest(results, model, section.command, str(posterior.attrs["twin_sha256"]))
        if run is not None:
            found[section.command] = _read(run, section.command, str(posterior.attrs["telemetry_sha256"]))
    return found


def _read(run: pathlib.Path, command: str, telemetry: str) -> Found:
    record = read_record(run)
    same = _same_data(record, telemetry)
    try:
        return Found(run.name, record, load(run / f"{command}.nc"), same_data=same)
    except BayestwinError as reason:
        return Found(run.name, record, None, str(reason), same)


def _same_data(record: Mapping[str, Any], telemetry: str) -> bool | None:
    told = record.get("telemetry_sha256")
    if not isinstance(told, Mapping) or "calibration" not in told:
        return None
    return told["calibration"] == telemetry
