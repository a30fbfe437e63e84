"""What a validation is going to do: settings of the job file, and what follows from the telemetry where it has none.

Whatever makes no sense in them is an error here, before anything is computed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.units import convert
from bayestwin.assess import points, schedule
from bayestwin.assess.evidence import Regime
from bayestwin.assess.grouping import Bins, find_groups, name_of
from bayestwin.density.bind import elapsed
from bayestwin.errors import InvalidJob, InvalidSetting, explain
from bayestwin.project.model import Model, Split
from bayestwin.project.sections import ValidateSection
from bayestwin.telemetry import Telemetry

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
    horizon_bins: Bins
    period: float | None
    origins: Any
    num_origins: int
    backtest: Mapping[str, Any]
    conformal: Any
    seed: int


def make_plan(model: Model, split: Split, held_out: Telemetry, asked: ValidateSection, *, with_backtest: bool) -> Plan:
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
    twin, calibrated = model.twin, split.calibration
    span = _reach(calibrated, twin.time_unit, calibrated.table.index[0])
    settings: dict[str, Any] = {}
    number = 0
    if with_backtest:
        ahead = _reach(held_out, twin.time_unit, calibrated.table.index[-1])
        horizon = asked.horizon or min(ahead, span / 4)
        stages = schedule.stages(twin, calibrated, asked.origins, horizon, asked.gap, asked.window)
        number = len(stages)
        own = {name: getattr(asked, name) for name in ("window", "recalibrate", "gap", "method")}
        job = model.job.calibrate.model_dump(exclude={"seed", "method", "loss"})
        settings = {"horizon": horizon} | own | job
    return Plan(
        asked.prob,
        tuple(sorted({*LEVELS, asked.prob})),
        _regimes(model, calibrated, held_out, asked),
        asked.bins.get("horizon"),
        _period(asked.period, calibrated, twin.time_unit, span),
        asked.origins if with_backtest else 0,
        number,
        settings,
        asked.conformal,
        asked.seed,
    )


def horizon_regime(tree: xr.DataTree, telemetry: Telemetry | None, asked: Bins) -> Mapping[str, Regime]:
    """Groups of horizons, equally wide, so few that each has enough observations; none where one would be all.

    Args:
        tree: A forecast or a backtest.
        telemetry: What was held out; a backtest has its own.
        asked: Bins of the job: their number or edges; None for as many as the observations allow.
    """
    row = points.axis(tree)
    ahead = points.horizons(tree, row)
    if asked is not None and not isinstance(asked, int):
        return {"horizon": Regime("horizon", asked)}
    pairs, labels = points.pairs(tree, row, telemetry), points.labels(row)
    different = [labels[pair.positions].nunique() for pair in pairs.values()]
    fewest = min((n for n in different if n), default=0)
    groups = asked or min(MOST_GROUPS, fewest // LEAST_IN_GROUP)
    if groups < 2 or not ahead.max() > 0:
        return {}
    return {"horizon": Regime("horizon", tuple(np.linspace(0.0, ahead.max(), groups + 1)))}


def _reach(telemetry: Telemetry, unit: str, start: Any) -> float:
    """How long after `start` the telemetry ends, in the twin's unit of time."""
    own = telemetry.units.get("time", unit)
    return float(elapsed(telemetry.table.index[-1:], start, own, unit)[0])


def _regimes(model: Model, calibrated: Telemetry, held_out: Telemetry, asked: ValidateSection) -> dict[str, Regime]:
    """By column, its values over all times and bins that are the same for what was held out and for the backtest."""
    table = pd.concat([calibrated.table, held_out.table])
    for key, names in (("by", asked.by), ("bins", [name for name in asked.bins if name != "horizon"])):
        for name in names:
            if name not in table.columns or (key == "bins" and name not in asked.by):
                expected = ", ".join(f"`{column}`" for column in (table.columns if key == "by" else asked.by))
                message = explain(
                    f"Job file `{model.job_path}` names `{name}` in `{key}` of `[validate]`, which is no column.",
                    expected=(expected or "a column that `by` names") + (", or `horizon`" if key == "bins" else ""),
                    received=f"`{name}`",
                    advice="Name columns of the telemetry, as they are called in the twin.",
                )
                raise InvalidJob(message)
    found = {}
    for name in asked.by:
        values = pd.Series(table[name], name=name)
        groups = find_groups(name_of(values), values.to_numpy(), asked.bins.get(name))
        edges = None if groups.edges is None else tuple(groups.edges)
        found[name] = Regime(values, edges, str(calibrated.units.get(name, "")))
    return found


def _period(asked: float | None, calibrated: Telemetry, unit: str, span: float) -> float | None:
    """The period that the job names, else a day where that can be one."""
    if asked is not None:
        return asked or None
    day = float(convert(np.array(1.0), "day", unit, "the twin's time", InvalidSetting))
    often = np.median(np.diff(elapsed(calibrated.table.index, calibrated.t0, calibrated.units.get("time", unit), unit)))
    return day if span >= 2 * day and often <= day / 4 else None
