"""Rolling-origin backtests: a twin is calibrated on what was known at each origin, and predicts what came after it.

First the record is cut into what each origin may know and is to predict; then each origin is calibrated and predicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin._base.process import seed_for
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.assess.diagnose import diagnose
from bayestwin.assess.gates import failed
from bayestwin.assess.scores import LAST
from bayestwin.calibrate import calibrate, check_belongs, root_attributes, with_model_error
from bayestwin.density.bind import bind, elapsed, room_for
from bayestwin.model.twin import Twin
from bayestwin.model.types import First, SteadyState
from bayestwin.predict import predict
from bayestwin.results.schema import axes_of, driven_dataset, signals_dataset
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.leakage import refuse_ahead

# What each origin of a backtest may know and is to predict: telemetry cut in time, and nothing computed yet.

WINDOWS = ("expanding", "sliding")

ROUNDING = 1e-9
"""Times nearer than this share of the horizon are the same."""


class Stage(NamedTuple):
    """One origin.

    Attributes:
        origin: The last time that is known, in the user's terms.
        known: What may be calibrated.
        ahead: Times and inputs from there on, without any observation.
        times: The times to be predicted, part of those ahead; shape (n,).
        horizons: Time since the origin, in the twin's unit; shape (n,).
    """

    origin: Any
    known: Telemetry
    ahead: Telemetry
    times: np.ndarray
    horizons: np.ndarray


def cut_stages(
    twin: Twin,
    telemetry: Telemetry,
    origins: int | Sequence[Any],
    horizon: float,
    gap: float,
    window: str,
    since: Any = None,
) -> list[Stage]:
    """Cut telemetry for each origin, in the order of time; arguments and errors are those of `backtest`.

    No origin lies before `since`, a time of the telemetry, if it is given.
    """
    _check(horizon, gap, window)
    if window == "sliding":
        _check_slides(twin)
    index = telemetry.table.index
    _check_unique(index)
    unit = telemetry.units.get("time", twin.time_unit)
    at = elapsed(index, telemetry.t0, unit, twin.time_unit)
    first = None if since is None else float(elapsed(pd.Index([since]), telemetry.t0, unit, twin.time_unit)[0])
    if isinstance(origins, int | np.integer):
        labels = _evenly(index, at, int(origins), horizon, first)
    else:
        labels = pd.Index([telemetry.moment(origin, "origins") for origin in origins]).unique().sort_values()
    starts = elapsed(labels, telemetry.t0, unit, twin.time_unit)
    if first is not None and len(starts) and starts[0] < first - ROUNDING * horizon:
        raise errors.InvalidSetting(
            "An origin lies within what the posterior was calibrated on: its forecast would know what came.",
            expected=f"origins from {telemetry.shown(since)} on, where the calibration ends",
            received=telemetry.shown(labels[0]),
            advice="Choose later origins, or calibrate on an earlier part; without `posterior` each origin calibrates.",
        )
    span = starts[0] - gap - at[0] if len(starts) else 0.0
    slack = ROUNDING * horizon
    stages = []
    for label, start in zip(labels, starts, strict=True):
        known = at <= start - gap + slack
        if window == "sliding":
            known &= at >= start - gap - span - slack
        wanted = (at > start + slack) & (at <= start + horizon + slack)
        if not known.any() or not wanted.any():
            raise _nowhere(label, telemetry, "before it" if not known.any() else "ahead of it")
        ahead = (at > at[known][-1]) & (at <= at[wanted][-1])
        t0 = index[known][0] if window == "sliding" else telemetry.t0
        horizons = np.round((at[wanted] - start) / horizon, 9) * horizon
        driven = _cut(telemetry, ahead, t0, tuple(twin.observations))
        last = float(at[known][-1])
        refuse_ahead(driven, twin.inputs, twin.observations, last=last, times=at[ahead], time_unit=twin.time_unit)
        stages.append(Stage(label, _cut(telemetry, known, t0, ()), driven, index[wanted].to_numpy(), horizons))
    return stages


def _check_unique(index: pd.Index) -> None:
    if not index.is_unique:
        raise errors.InvalidTelemetry(
            "A backtest cannot be made of telemetry with replicates yet.",
            expected="one row a time",
            received=f"{int(index.duplicated().sum())} rows that repeat a time",
            advice="Take their mean when they are read, `duplicates='mean'`.",
        )


def _cut(telemetry: Telemetry, rows: np.ndarray, t0: Any, without: Sequence[str]) -> Telemetry:
    """Some rows of telemetry, without some columns."""
    table = telemetry.table.loc[rows].drop(columns=[name for name in without if name in telemetry.table])
    return telemetry.with_table(table, t0=t0)


def _evenly(index: pd.Index, at: np.ndarray, count: int, horizon: float, first: float | None) -> pd.Index:
    """Samples at which `count` evenly spaced origins lie, from the first one or the middle of the record on."""
    middle, last = at[0] + 0.5 * (at[-1] - at[0]) if first is None else first, at[-1] - horizon
    if count < 1 or last < middle:
        part = "in the second half of the telemetry" if first is None else "after what the posterior was calibrated on"
        raise errors.InvalidSetting(
            "`origins` cannot be placed.",
            expected=f"at least one, with the horizon {part}",
            received=f"{count} origins, a horizon of {horizon:g} and telemetry over {at[-1] - at[0]:g}",
            advice="Shorten the horizon, or say at which times the origins lie.",
        )
    # the last sample that is not later
    places = np.searchsorted(at, np.linspace(middle, last, count) + ROUNDING * horizon, side="right") - 1
    return index[np.unique(places)]


def _check(horizon: float, gap: float, window: str) -> None:
    expected = {
        "horizon": ("a positive number, in the twin's unit of time", horizon, horizon > 0),
        "gap": ("a number that is not negative, in the twin's unit of time", gap, gap >= 0),
        "window": (" or ".join(f'"{word}"' for word in WINDOWS), window, window in WINDOWS),
    }
    for name, (words, received, fine) in expected.items():
        if not fine:
            raise errors.InvalidSetting(
                f"`{name}` makes no sense.",
                expected=words,
                received=f"{received!r}",
                advice="`bt.backtest` says what it means.",
            )


def _check_slides(twin: Twin) -> None:
    """Refuse a window that slides away from where an initial state is known or an event scheduled."""
    anywhere = dist.Distribution | SteadyState | First
    fixed = [
        f"the initial state of `{name}`"
        for name, one in twin.states.items()
        if not (one.derived or isinstance(one.initial, anywhere))
    ]
    fixed += [f"the time of `{name}`" for name, one in twin.events.items() if one.kind in ("scheduled", "inferred")]
    if fixed:
        raise errors.InvalidSetting(
            f"The window cannot slide: twin `{twin.name}` knows what holds at the start of its telemetry alone.",
            expected="priors for initial states, which hold wherever a window starts, and no scheduled event",
            received=", ".join(fixed),
            advice='Use `window="expanding"`, or give a prior.',
        )


def _nowhere(label: Any, telemetry: Telemetry, where: str) -> errors.InvalidSetting:
    origin, first, last = (telemetry.shown(moment) for moment in (label, *telemetry.table.index[[0, -1]]))
    return errors.InvalidSetting(
        f"There is no telemetry {where} at origin {origin}.",
        expected=f"origins within {first} to {last}, with `gap` before and `horizon` after them",
        received=origin,
        advice="Choose other origins, or a shorter gap.",
    )


PREDICTED = ("predictions", "predictions_constant_data")

FAILURES = (errors.InvalidTelemetry, errors.SolverFailure, errors.OutOfMemory)
"""What can go wrong at one origin and not at the next."""


class OriginOutcome(NamedTuple):
    """What became of one origin.

    Attributes:
        forecast: What was predicted and by which inputs, at the times of the stage; None where something failed.
        failure: Why, in words; empty where nothing did.
        gates: Names of the failed gates of its posterior.
    """

    forecast: Mapping[str, xr.Dataset] | None
    failure: str = ""
    gates: tuple[str, ...] = ()


def backtest(
    twin: Twin,
    telemetry: Telemetry,
    *,
    origins: int | Sequence[Any],
    horizon: float,
    seed: int,
    window: Literal["expanding", "sliding"] = "expanding",
    recalibrate: bool = True,
    gap: float = 0.0,
    draws: int = 200,
    posterior: xr.DataTree | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Forecast from several origins, each time as if what came later were not known yet.

    At each origin the twin is calibrated on observations up to `gap` before it, and predicts those after it, up to
    `horizon` ahead. Observations after an origin are not handed to anything that is done for it. Inputs ahead are:
    the forecasts are those of a twin whose inputs are known, and do not say how well these can be forecast.

    Each calibration starts afresh, from the prior: a start from the posterior before it would save little, and would
    not find a mode that new observations bring up.

    Args:
        twin: The twin.
        telemetry: All there is.
        origins: The last times that are known, in the telemetry's own terms; or a number of them, evenly spaced from
            the middle of the telemetry to where `horizon` still fits.
        horizon: How far ahead to predict, in the twin's unit of time.
        seed: Determines everything random; an origin gets the same whatever the others are.
        window: `"expanding"` calibrates on all that is known, `"sliding"` on as long a time as the first origin has.
            The prior of initial states then holds where each window starts, from where time is counted.
        recalibrate: Whether to calibrate at each origin, or once, at the first. Parameters and initial states are then
            those of the first, and only a model error, which follows what was observed, makes a later origin different.
        gap: Time before each origin that is not calibrated, in the twin's unit of time.
        draws: About how many predictive draws are kept of each origin.
        posterior: What `calibrate` returned for the first part of this record: nothing is calibrated then. All origins
            have its parameters and initial states, as those after the first do without `recalibrate`, and lie at or
            after its last time; evenly spaced ones are placed there.
        progress: Where progress is shown; by default on a terminal only.
        **settings: Those of `calibrate`; `method="laplace"` takes seconds for each origin.

    Returns:
        `predictions` (chain, draw, origin, horizon), as `predict` has them, NaN where an origin failed;
        `observed_data` and `predictions_constant_data` (origin, horizon); `origins`: the first and last times
        calibrated, the number of observations among them, `failure` and `failed_gates` in words, and the last value
        known of each observation. `horizon` is the time since the origin, in the twin's unit; `time` (origin, horizon)
        is the user's, missing where an origin has nothing at that distance. `coverage`, `scores`, `pit`, `intervals`
        and `conformalize` take it as it is.

    Raises:
        InvalidSetting: Origins, horizon, gap or window make no sense, or a setting of `calibrate`; with `posterior`
            also an origin that it has seen more than, or a setting of a calibration.
        InvalidArtifact: If `posterior` belongs to another twin.
        InvalidTelemetry: The telemetry does not fit the twin at any origin; likewise other errors of `calibrate`.
    """
    computation = computing(seed=seed, progress=progress)
    twin = with_model_error(twin, settings.pop("model_error", ...))
    since = None if posterior is None else _calibrated_until(twin, telemetry, posterior, settings, window, gap)
    stages = cut_stages(twin, telemetry, origins, horizon, gap, window, since)
    if posterior is not None:
        recalibrate = False
        settings = {}
    room = room_for(len(telemetry.table))  # origins come one after the other: each knows more than the one before it
    with computation as shown, room, shown.phase("backtest", "backtesting", len(stages)) as phase:
        outcomes = _forecasts(twin, stages, seed, recalibrate, draws, settings, phase, posterior)
    job = {"origins": len(stages), "horizon": horizon, "window": window, "recalibrate": recalibrate, "gap": gap}
    tree = _assembled(twin, telemetry, stages[: len(outcomes)], outcomes)
    tree.attrs = root_attributes(twin, telemetry, seed, job | {"draws": draws} | settings)
    tree.attrs["interrupted"] = len(outcomes) < len(stages)
    if posterior is not None:
        names = ("telemetry_sha256", "seed")
        tree.attrs |= {f"posterior_{name}": posterior.attrs[name] for name in names}
    return tree


def _forecasts(
    twin: Twin,
    stages: Sequence[Stage],
    seed: int,
    recalibrate: bool,
    draws: int,
    settings: Mapping[str, Any],
    phase: Phase,
    posterior: xr.DataTree | None,
) -> list[OriginOutcome]:
    """What becomes of each origin, up to where Ctrl-C ends it; arguments and errors are those of `backtest`."""
    outcomes: list[OriginOutcome] = []
    error: BaseException = KeyboardInterrupt()
    quiet: dict[str, Any] = {"progress": Progress(show=False)}
    for stage in stages:
        own = seed_for(seed, f"backtest {stage.origin}")
        try:
            if recalibrate or posterior is None:
                posterior = calibrate(twin, stage.known, seed=own, **settings, **quiet)
            if posterior.attrs["interrupted"]:
                break
            led = posterior if recalibrate else _told(twin, posterior, stage.known)
            bare = dataclasses.replace(twin, quantities={})
            forecast = predict(bare, led, stage.ahead, seed=own, draws=draws, **quiet)
            found = {group: forecast[group].to_dataset().sel(time=stage.times) for group in PREDICTED}
            outcomes.append(OriginOutcome(found, gates=tuple(gate.name for gate in failed(diagnose(posterior)))))
        except FAILURES as reason:
            outcomes.append(OriginOutcome(None, f"{type(reason).__name__}: {reason}"))
            error = reason
        phase.advance(1, f"origin {stage.origin}" + (" failed" if outcomes[-1].failure else ""))
    if not any(outcome.forecast for outcome in outcomes):
        raise error
    return outcomes


def _calibrated_until(
    twin: Twin, telemetry: Telemetry, posterior: xr.DataTree, settings: Mapping[str, Any], window: str, gap: float
) -> Any:
    """The last time that a posterior has seen, if it can be that of all origins."""
    check_belongs(twin, posterior)
    stray = [*settings, *(["window"] if window != "expanding" else []), *(["gap"] if gap else [])]
    several = "experiment" in posterior["observed_data"].dims
    if stray or several:
        raise errors.InvalidSetting(
            "A backtest with a `posterior` calibrates nothing.",
            expected="the posterior of one telemetry, and no setting of a calibration or of what it is to know",
            received="one of several experiments" if several else ", ".join(f"`{name}`" for name in stray),
            advice="Leave out `posterior`, or all that belongs to a calibration.",
        )
    known = posterior["observed_data"].to_dataset()
    times = known.indexes["time"]
    missing = times.difference(telemetry.table.index)
    if len(missing) or not _same_values(twin, telemetry, known):
        lost = f"{len(missing):,} of its {len(times):,} times are not there"
        raise errors.InvalidTelemetry(
            "The posterior was not calibrated on the first part of this telemetry.",
            expected="the record that was calibrated, and what was recorded after it",
            received=lost if len(missing) else "other observations at the same times",
            advice="Pass the whole record. What another recording says is asked by `bt.predict` with `initial=`.",
        )
    return times[-1]


def _same_values(twin: Twin, telemetry: Telemetry, known: xr.Dataset) -> bool:
    """Whether telemetry observed what was calibrated."""
    for name, observation in twin.observations.items():
        seen, ours = known[name].to_numpy(), _values(telemetry, name, observation.unit, known.indexes["time"])
        both = np.isfinite(seen) & np.isfinite(ours)
        if not np.allclose(seen[both], ours[both], rtol=1e-9, atol=0.0):
            return False
    return True


def _told(twin: Twin, posterior: xr.DataTree, known: Telemetry) -> xr.DataTree:
    """The posterior of an earlier origin, told what has been observed since."""
    bound = bind(twin, known)
    axes = axes_of(bound)
    told = posterior.copy()
    told["observed_data"] = xr.DataTree(signals_dataset(twin.observations, bound.observations, axes))
    told["constant_data"] = xr.DataTree(driven_dataset(twin, bound, axes))
    return told


def _assembled(
    twin: Twin, telemetry: Telemetry, stages: Sequence[Stage], outcomes: Sequence[OriginOutcome]
) -> xr.DataTree:
    """One tree of all origins."""
    ahead = np.unique(np.concatenate([stage.horizons for stage in stages]))
    places = [np.searchsorted(ahead, stage.horizons) for stage in stages]
    labels = pd.Index([stage.origin for stage in stages])
    missing = np.datetime64("NaT", "ns") if telemetry.dated else np.nan
    times = np.full((len(stages), len(ahead)), missing)
    for row, (stage, place) in enumerate(zip(stages, places, strict=True)):
        times[row, place] = stage.times
    coords = {
        "origin": ("origin", labels.to_numpy(), {"long_name": "last time that was known"}),
        "horizon": ("horizon", ahead, {"units": twin.time_unit, "long_name": "time since the origin"}),
        "time": (("origin", "horizon"), times),
    }

    def spread(parts: Sequence[np.ndarray | None]) -> np.ndarray:
        shape = next(part.shape[:-1] for part in parts if part is not None)
        tree = np.full((*shape, *times.shape), np.nan)
        for row, (part, place) in enumerate(zip(parts, places, strict=True)):
            if part is not None:
                tree[..., row, place] = part
        return tree

    groups: dict[str, xr.Dataset] = {}
    for group in PREDICTED:
        made = [one.forecast[group].transpose(..., "time") for one in outcomes if one.forecast is not None]
        # of large arrays each forecast keeps as many entries as there is room for
        aligned = iter(xr.align(*made, join="inner", exclude=["time"]))
        parts = [None if one.forecast is None else next(aligned) for one in outcomes]
        like = next(part for part in parts if part is not None)
        tree = {
            str(name): (
                (*values.dims[:-1], "origin", "horizon"),
                spread([None if part is None else part[name].to_numpy() for part in parts]),
                values.attrs,
            )
            for name, values in like.data_vars.items()
            if name != "num_failed"
        }
        if any(part is not None and "num_failed" in part for part in parts):
            counts = [
                None if p is None else p.get("num_failed", xr.DataArray(np.zeros(p.sizes["time"]))).to_numpy()
                for p in parts
            ]
            tree["num_failed"] = (("origin", "horizon"), spread(counts), {})
        groups[group] = xr.Dataset(
            tree, {n: like[n] for n, own in like.coords.items() if "time" not in own.dims} | coords
        )
    observed = {
        name: (("origin", "horizon"), spread([_values(telemetry, name, one.unit, stage.times) for stage in stages]))
        for name, one in twin.observations.items()
    }
    groups["observed_data"] = xr.Dataset(
        {name: (*parts, {"units": twin.observations[name].unit}) for name, parts in observed.items()}, coords
    )
    groups["origins"] = _records(twin, stages, outcomes, labels)
    return xr.DataTree.from_dict(groups)


def _values(telemetry: Telemetry, name: str, unit: str, times: np.ndarray | pd.Index) -> np.ndarray:
    """What was observed at some times of the telemetry; NaN where nothing was, also of what it does not hold at all."""
    if name not in telemetry.table.columns:
        return np.full(len(times), np.nan)
    return pd.Series(telemetry.in_unit(name, unit), telemetry.table.index).reindex(times).to_numpy()


def _records(twin: Twin, stages: Sequence[Stage], outcomes: Sequence[OriginOutcome], labels: pd.Index) -> xr.Dataset:
    """What is to be known of each origin."""
    tables = [stage.known.table for stage in stages]
    known = [
        {n: _values(stage.known, n, one.unit, stage.known.table.index) for n, one in twin.observations.items()}
        for stage in stages
    ]
    found = {
        "calibrated_from": [table.index[0] for table in tables],
        "calibrated_until": [table.index[-1] for table in tables],
        "num_calibrated": [sum(int(np.isfinite(v).sum()) for v in one.values()) for one in known],
        "failure": [outcome.failure for outcome in outcomes],
        "failed_gates": [", ".join(outcome.gates) for outcome in outcomes],
    }
    for name in twin.observations:
        finite = [one[name][np.isfinite(one[name])] for one in known]
        found[f"{name}{LAST}"] = [values[-1] if values.size else np.nan for values in finite]
    columns = {name: ("origin", pd.Index(values).to_numpy()) for name, values in found.items()}
    return xr.Dataset(columns, {"origin": labels.to_numpy()})
