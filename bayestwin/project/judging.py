"""All that a validation says of a calibrated run and of its backtest, from their forecasts."""

from typing import NamedTuple

import xarray as xr

from bayestwin.assess import intervals, points, scores
from bayestwin.assess.evidence import Evidence, gather, ranks, together
from bayestwin.assess.trial import Trial
from bayestwin.assess.trust import trust
from bayestwin.assess.validated import BACKTEST, HELD_OUT, Validated
from bayestwin.project.calibrate import Results
from bayestwin.project.model import Model
from bayestwin.project.plan import Plan, horizon_regime
from bayestwin.report.doubts import doubts, reach_words, unchecked
from bayestwin.report.verdict import interrupted
from bayestwin.telemetry import Telemetry


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


def judge_all(model: Model, run: Results, plan: Plan, trialled: Trialled, ran: tuple[str, ...]) -> Validated:
    """Hold the forecasts of a run and of its backtest against what came.

    Args:
        model: The model.
        run: The run, with predictions of what it held out.
        plan: What is to be looked at.
        trialled: The backtest.
        ran: Other verbs that there is a finished run of.
    """
    forecast, telemetry = run.predictions, run.split.held_out
    if forecast is None or telemetry is None:
        message = "only a run that held something out is judged"
        raise ValueError(message)
    made = intervals(forecast, plan.levels, conformal=trialled.conformal)
    parts: dict[str, tuple[xr.DataTree, Telemetry | None]] = {HELD_OUT: (forecast, telemetry)}
    both, correction = {}, None
    if trialled.tree is not None and trialled.conformal is not None:
        parts[BACKTEST] = (trialled.tree, None)
        tree = xr.DataTree.from_dict({**_groups(forecast), points.INTERVALS: made})
        tree.attrs = forecast.attrs
        both = {HELD_OUT: _evidence(tree, telemetry, plan), BACKTEST: _evidence(trialled.conformal, None, plan)}
        correction = trialled.conformal["correction"].to_dataset()
    evidence = {part: _evidence(*pair, plan) for part, pair in parts.items()}
    evidence = together(evidence, plan.prob)
    both = {part: together({part: one}, plan.prob)[part] for part, one in both.items()}
    pits = {part: ranks(*pair, plan.seed, len(parts)) for part, pair in parts.items()}
    past, period = run.split.calibration, plan.period
    scored = {part: scores(*pair, prob=plan.levels, past=past, period=period) for part, pair in parts.items()}
    trial = _trial(plan, trialled, evidence.get(BACKTEST))
    ahead = points.horizons(forecast, points.axis(forecast))
    verdict = trust(
        run.gates,
        evidence[HELD_OUT],
        trial,
        prob=plan.prob,
        interrupted=interrupted(run.posterior),
        doubts=doubts(pits, scored),
        unchecked=unchecked(
            trial=trial,
            regimes=tuple(plan.regimes),
            inputs=tuple(model.twin.inputs),
            ran=ran,
            folder=str(model.folder),
            reach=reach_words(forecast, ahead),
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


def _evidence(tree: xr.DataTree, telemetry: Telemetry | None, plan: Plan) -> Evidence:
    regimes = {**horizon_regime(tree, telemetry, plan.horizon_bins), **plan.regimes}
    return gather(tree, telemetry, plan.levels, regimes)


def _groups(forecast: xr.DataTree) -> dict[str, xr.Dataset]:
    """What says how far ahead a forecast looks, and by which inputs."""
    names = ("observed_data", "predictions_constant_data")
    return {name: forecast[name].to_dataset() for name in names if name in forecast.children}


def _trial(plan: Plan, trialled: Trialled, evidence: Evidence | None) -> Trial:
    if trialled.failure:
        return Trial(None, plan.num_origins, (trialled.failure,) * plan.num_origins)
    if trialled.tree is None:
        return Trial(None, 0)
    origins = trialled.tree["origins"].to_dataset()
    failures = tuple(str(words) for words in origins["failure"].to_numpy() if str(words))
    failed = [str(words).split(", ") for words in origins["failed_gates"].to_numpy() if str(words)]
    gates = tuple(dict.fromkeys(name for names in failed for name in names))
    unreached = plan.num_origins - origins.sizes["origin"]
    return Trial(evidence, plan.num_origins, failures, len(failed), unreached, gates)
