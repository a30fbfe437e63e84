"""What a posterior's future is predicted by: the density of new times and their inputs, and where it begins.

From where the calibration began, with its inputs before those of the future; from where each draw had brought the
states by the end of the record, which costs what is new alone; or from states that are given.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin.density.bind import Bound, Experiments, bind, check_experiments, each, elapsed, first_value, rows_in_both
from bayestwin.density.density import Density, build_density, join
from bayestwin.density.rows import rows_before
from bayestwin.dynamics.choice import with_method
from bayestwin.dynamics.grid import Grid, build_grid
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.model.dependence import brought, parameters
from bayestwin.model.twin import Twin
from bayestwin.model.types import First
from bayestwin.telemetry import Telemetry, said
from bayestwin.telemetry.leakage import refuse_ahead
from bayestwin.telemetry.times import paired

# A calibrated twin started anew: where a future begins, from states that are given instead of those it ended in.

type Start = Mapping[str, float | dist.Distribution]
"""By state, its value at the first time of a future, or what is known of it."""


def check_start(twin: Twin, posterior: xr.DataTree, initial: Start, future: object) -> None:
    """Refuse a start that leaves open where a state begins, or what it is a start of.

    Raises:
        InvalidSetting: If a state is unknown or left out, or the future is that of several experiments.
    """
    needed = [site.owner for site in twin.sites() if site.kind == "initial"]
    wrong = [name for name in initial if name not in twin.states] + [name for name in needed if name not in initial]
    if wrong:
        raise InvalidSetting(
            f"`initial` does not say where twin `{twin.name}` starts.",
            expected="a number or a distribution for each of " + ", ".join(f"`{name}`" for name in needed),
            received=", ".join(f"`{name}`" for name in initial) or "nothing",
            advice=f"Correct `{wrong[0]}`. States without a prior may be left out: they start as the twin says.",
        )
    several = "experiment" in posterior["posterior"].dims
    if several or not isinstance(future, Telemetry):
        raise InvalidSetting(
            "A start from given states is that of one telemetry.",
            expected="a bt.Telemetry as `future`, and the posterior of one experiment",
            received=f"{type(future).__name__}{', and several experiments' if several else ''}",
            advice="Call `predict` for each experiment, with `posterior.sel(experiment=…)`.",
        )


def restarted(
    twin: Twin, posterior: xr.DataTree, initial: Start, future: Telemetry, *, another: bool = False
) -> tuple[Telemetry, Bound, Density]:
    """What a future is predicted by that begins from given states.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        initial: See `check_start`; in the units of the states.
        future: Times and inputs; the states hold at its first time.
        another: Whether it is another recording, whose first values are not those of the calibrated one.

    Returns:
        The future with times counted from there; its times, inputs and events; and the density.

    Raises:
        InvalidTelemetry: If the future does not fit the twin.
    """
    states = {
        name: dataclasses.replace(state, initial=initial[name]) if name in initial else state
        for name, state in twin.states.items()
    }
    anew = dataclasses.replace(twin, states=states)
    future = future.with_table(future.table, t0=future.table.index[0])
    firsts = {name for name, (spec, _) in brought(twin).items() if isinstance(spec, First)}
    begun_here = firsts if another else firsts & {f"{name}_initial" for name in twin.states}
    known = {name: number for name, number in known_in(posterior).items() if name not in begun_here}
    bound = bind(anew, future, observed=False, known=known)._replace(observations={})
    return future, bound, build_density(anew, bound).solved_as(with_method(anew, _method(posterior)))


def is_another_recording(twin: Twin, posterior: xr.DataTree, future: object) -> bool:
    """Whether telemetry has the times of the calibration, and observed something else at most of them.

    Such a record has a clock of its own, as usual in laboratories. Records are told apart by what is in them: rows
    that are in both mean that this is the calibrated one.
    """
    known = posterior["observed_data"].to_dataset()
    if not isinstance(future, Telemetry) or "experiment" in known.coords:
        return False
    if future.dated != np.issubdtype(known["time"].dtype, np.datetime64):
        return False
    units = {name: observation.unit for name, observation in twin.observations.items()}
    shared, same = rows_in_both(known, future, units)
    return shared > 0 and same <= shared / 2


def own_start(twin: Twin, future: Telemetry) -> dict[str, Any]:
    """How another recording begins: each state as the twin knows it, or as its prior says.

    Raises:
        InvalidTelemetry: If a prior is made of a first value, and there is none.
    """
    found = {}
    for site in twin.sites():
        if site.kind == "initial":
            prior = site.prior
            if isinstance(prior, First) and prior.prior is not None:
                prior = prior.prior(first_value(future, site.name, prior.column, site.unit))
            found[site.owner] = prior
    return found


def known_in(posterior: xr.DataTree, experiment: str | None = None) -> dict[str, float]:
    """Numbers that the calibrated record brought along, by name; of one experiment where there were several.

    Args:
        posterior: As `calibrate` returned it, or one experiment taken out of it.
        experiment: Its name.
    """
    known = posterior.attrs.get("known", {})
    if not known:
        return {}
    coordinate = posterior["posterior"].coords.get("experiment")
    if experiment is None and coordinate is not None and coordinate.ndim == 0:
        experiment = str(coordinate.item())
    return {name: number if experiment is None else number[experiment] for name, number in known.items()}


def start_values(
    twin: Twin,
    initial: Mapping[str, Any],
    num: int,
    seed: int,
    given: Mapping[str, np.ndarray],
    known: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Draws of the initial states that are given as distributions, or as functions of parameters, by site.

    Args:
        twin: The twin.
        initial: See `check_start`, and `own_start`.
        num: How many draws.
        seed: Determines them.
        given: Draws of the parameters, by name; shape (num,) each.
        known: Numbers that the record brings along, by name.
    """
    keys = jax.random.split(key_for(seed, "initial"), len(twin.states))
    found = {}
    for name, key in zip(twin.states, keys, strict=True):
        prior = initial.get(name)
        if isinstance(prior, dist.Distribution):
            found[f"{name}_initial"] = np.asarray(prior.sample(key, (num,)))
        elif callable(prior):

            def draw(key: jax.Array, own: Mapping[str, Any], prior: Any = prior) -> Any:
                return prior(parameters(twin, {**known, **own})).sample(key)

            found[f"{name}_initial"] = np.asarray(jax.vmap(draw)(jax.random.split(key, num), given))
    return found


# From the end of the record: what each draw has made of the past is in its states there, and nowhere else.

FINAL = "final_state"
"""The group of a posterior that says where each draw has brought the states by the last row."""


def can_go_on(twin: Twin, posterior: xr.DataTree, future: object, num: int | None) -> bool:
    """Whether a future can be predicted from where draws have brought the states, without what was before.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it; those of before 0.3 do not know their last states.
        future: What is to be predicted.
        num: How many draws are asked for; None for as many as usual.
    """
    if not twin.forgetful or FINAL not in posterior.children or not isinstance(future, Telemetry):
        return False
    there, drawn = (posterior[name].to_dataset()["draw"].values for name in (FINAL, "posterior"))
    enough = len(there) == len(drawn) or num is None or num <= len(there) * posterior[FINAL].sizes["chain"]
    begins = from_same_start(twin, past_of(posterior), future).table.index[0] > final_time(posterior)
    return bool(enough and np.isin(there, drawn).all() and begins)


def final_time(posterior: xr.DataTree) -> Any:
    """The user's time at which draws have brought the states where `final_states` says.

    A posterior may have been told inputs beyond that, as a backtest does, so that it is not that of its last row.
    """
    return posterior[FINAL].to_dataset()["time"].values[()]


def resumed(
    twin: Twin, posterior: xr.DataTree, future: Telemetry, *, observed: bool = False
) -> tuple[Telemetry, Bound, Density]:
    """What a future is predicted by from the end of the record, as `can_go_on` has said; see `final_states`.

    It costs what is new, however long the record before was.

    Args:
        twin: The twin that was calibrated; states that were added to it start as they say.
        posterior: As `calibrate` returned it.
        future: Times and inputs.
        observed: Whether the density is to be that of what was observed there, as far as it was.

    Returns:
        The future telemetry, with times counted as the calibration counts them; its times, inputs and events; and the
        density, of the twin that starts at the last row before.
    """
    kept = posterior[FINAL].data_vars
    states = {
        n: dataclasses.replace(s, initial=dist.Normal(), pooled=None) if n in kept else s
        for n, s in twin.states.items()
    }
    anew = with_method(dataclasses.replace(twin, states=states), _method(posterior))
    shifted, bound, grid = laid_out_from_end(twin, past_of(posterior), future, observed=observed)
    return shifted, bound, Density(anew, bound, grid, anew.sites()).solved_as(anew)


def laid_out_from_end(
    twin: Twin, past: "Past", future: Telemetry, *, observed: bool = False
) -> tuple[Telemetry, Bound, Grid]:
    """The future telemetry, its times, inputs and events, and the stops from the end of the record on: see `resumed`.

    Args:
        twin: The twin that was calibrated.
        past: The calibration, with the time at which its states are known.
        future: As of `predict`.
        observed: As of `resumed`.
    """
    shifted, bound, knots, signals = _bound_ahead(twin, past, future, observed=observed)
    last, unit = pd.Index([past.last]), shifted.units.get("time", twin.time_unit)
    start = float(elapsed(last, shifted.t0, unit, twin.time_unit)[0])
    return shifted, bound, build_grid(twin, bound.times, knots, signals, signals, bound.known, start=start)


def final_states(posterior: xr.DataTree, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Where these draws of all chains have brought the states, as initial values.

    Args:
        posterior: As `calibrate` returned it.
        draws: Labels of draws that are kept there.

    Returns:
        By `<state>_initial`, draws of all chains first.
    """
    own = posterior[FINAL].to_dataset().sel(draw=draws).transpose("chain", "draw", ...)
    return {f"{n}_initial": one.to_numpy().reshape(-1, *one.shape[2:]) for n, one in own.data_vars.items()}


def _method(posterior: xr.DataTree) -> Any:
    """As the calibration was solved, whatever the solver is that the twin leaves to be chosen."""
    return posterior.attrs.get("solver_choice", {}).get("method", "auto")


# From the start of the calibration.


def density_ahead(
    twin: Twin, posterior: xr.DataTree, future: Telemetry | Experiments, *, remembered: bool = False, led: bool = True
) -> tuple[Telemetry | Experiments, Bound, Density]:
    """What a posterior's future is predicted by.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        future: As of `predict`.
        remembered: Whether noise that remembers goes on from what was observed in the calibration.
        led: Whether what was observed leads a twin with a model error; if not, it starts in states that are known.

    Returns:
        The future telemetry, with times counted as the calibration counts them; its times, inputs and events; and the
        density, which with model error, or where it is led, has the times of the calibration as well.

    Raises:
        InvalidTelemetry: As `predict`.
    """
    future, density = _ahead(twin, posterior, future)
    bound = density.bound
    remembers = remembered and not all(observation.noise.independent for observation in twin.observations.values())
    if bound.since and not isinstance(future, Telemetry):
        raise InvalidTelemetry(
            "What is read over the time between rows cannot be predicted for several experiments yet.",
            expected="one telemetry, or observations that are values at a time",
            received=", ".join(f"`{name}`" for name in bound.since),
            advice="Predict the integral of it, which is a state of the twin, or calibrate experiments one by one.",
        )
    remembers |= bool(bound.since)  # the first row is read from the last one before it on
    if ((led and twin.model_error is not None) or remembers) and isinstance(future, Telemetry):
        density = _led(posterior, future, density)
    return future, bound, density.solved_as(with_method(twin, _method(posterior)))


class Past(NamedTuple):
    """The calibration, or one experiment of it, as far as its future goes on from there.

    Attributes:
        signals: Inputs and events; over the user's times, and over elapsed times for an experiment.
        elapsed: Whether these are elapsed times.
        dated: Whether the user's times are dates.
        unit: That of the user's times; empty for dates.
        t0: The user's time from which on time is counted.
        known: Numbers that it brought along, by name.
        last: The user's time at which its last states are known; None where they are not.
    """

    signals: xr.Dataset
    elapsed: bool
    dated: bool
    unit: str
    t0: str
    known: Mapping[str, float]
    last: Any = None


def past_of(posterior: xr.DataTree, name: str | None = None) -> Past:
    """The calibration of a posterior, or one experiment of it."""
    attrs, signals = posterior.attrs, posterior["constant_data"].to_dataset()
    if name is None:
        dated = np.issubdtype(posterior["observed_data"]["time"].dtype, np.datetime64)
        last = final_time(posterior) if FINAL in posterior.children else None
        return Past(signals, False, dated, attrs["telemetry_time_unit"], attrs["t0"], known_in(posterior), last)
    own = signals.sel(experiment=name).dropna("time", how="all") if signals.data_vars else signals
    t0 = attrs["t0"][name]
    return Past(own, True, not _is_number(t0), attrs["telemetry_time_unit"][name], t0, known_in(posterior, name))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ahead(
    twin: Twin, posterior: xr.DataTree, future: Telemetry | Experiments
) -> tuple[Telemetry | Experiments, Density]:
    """The future telemetry, with times counted as the calibration counts them, and what it is predicted by."""
    known = posterior["observed_data"].to_dataset()
    names = tuple(map(str, known["experiment"].values)) if "experiment" in known.dims else ()
    if not names and isinstance(future, Telemetry):
        shifted, bound, grid = _one_ahead(twin, past_of(posterior), future)
        return shifted, Density(twin, bound, grid, twin.sites())
    if unseen_in(posterior, future):
        assert not isinstance(future, Telemetry)
        check_experiments(future)
        return future, build_density(twin, each(functools.partial(bind, twin, observed=False), future))
    _check_named(names, future)
    assert not isinstance(future, Telemetry)
    found = {
        name: each(functools.partial(_one_ahead, twin, past_of(posterior, name)), {name: one})[name]
        for name, one in future.items()
    }
    shifted, bounds, grids = ({name: one[part] for name, one in found.items()} for part in range(3))
    return shifted, join(twin, bounds, grids)  # type: ignore[return-value]


def unseen_in(posterior: xr.DataTree, future: Any) -> tuple[str, ...]:
    """Names of a future's experiments, where several were calibrated and none of these is among them."""
    known = posterior["observed_data"].to_dataset()
    if "experiment" not in known.dims or not isinstance(future, Mapping):
        return ()
    names = tuple(future)
    return () if set(names) & set(map(str, known["experiment"].values)) else names


def _check_named(names: tuple[str, ...], future: object) -> None:
    """Refuse a future of which it is not clear which experiment goes on in it."""
    if names and not isinstance(future, Telemetry):
        check_experiments(future)
        unknown = [name for name in future if name not in names]  # type: ignore[union-attr]
        if not unknown:
            return
        received = ", ".join(f"`{name}`" for name in unknown)
    else:
        received = "telemetry of no named experiment" if names else "experiments, where one telemetry was calibrated"
    expected = f"one for any of {', '.join(f'`{name}`' for name in names)}, by name" if names else "a bt.Telemetry"
    raise InvalidTelemetry(
        "`future` does not go on from what was calibrated.",
        expected=expected,
        received=received,
        advice="Where a forecast starts, and each experiment's own values, come from the calibration.",
    )


def _one_ahead(twin: Twin, past: Past, future: Telemetry) -> tuple[Telemetry, Bound, Grid]:
    shifted, bound, knots, signals = _bound_ahead(twin, past, future)
    return shifted, bound, build_grid(twin, bound.times, knots, signals, signals, bound.known)


def _bound_ahead(
    twin: Twin, past: Past, future: Telemetry, *, observed: bool = False
) -> tuple[Telemetry, Bound, np.ndarray, dict[str, np.ndarray]]:
    """The future telemetry, its arrays, and inputs and events from the start of the calibration on."""
    shifted = from_same_start(twin, past, future)
    bound = bind(twin, shifted, observed=False, known=past.known)
    bound = bound if observed else bound._replace(observations={})
    return shifted, bound, *_continued(twin, past, shifted, bound)


def from_same_start(twin: Twin, past: Past, future: Telemetry) -> Telemetry:
    """Telemetry of the record that was calibrated, with times counted from where those of the calibration were.

    Raises:
        InvalidTelemetry: If its times are of another kind, or in another unit.
    """
    dated = past.dated
    if dated != future.dated:
        raise InvalidTelemetry(
            "The times of `future` are of another kind than those of the calibration.",
            expected="dates" if dated else "numbers",
            received="dates" if future.dated else "numbers",
            advice="Use the same kind of time in both.",
        )
    ours = "" if dated else future.units.get("time", twin.time_unit)
    theirs = past.unit
    if ours != theirs:
        raise InvalidTelemetry(
            "The times of `future` are in another unit than those of the calibration.",
            expected=f"`{theirs}`",
            received=f"`{ours}`",
            advice=f"Count them in `{theirs}`, and say so by `units={{'time': '{theirs}'}}`.",
        )
    return dataclasses.replace(future, t0=pd.Timestamp(past.t0) if dated else float(past.t0))


def _led(posterior: xr.DataTree, future: Telemetry, density: Density) -> Density:
    """The density of the future, led by what was observed in the calibration."""
    twin, bound = density.twin, density.bound
    led = _with_past(twin, posterior, future, bound)
    knots, signals = _continued(twin, past_of(posterior), future, bound)
    return dataclasses.replace(density, bound=led, grid=build_grid(twin, led.times, knots, signals, signals, led.known))


def _with_past(twin: Twin, posterior: xr.DataTree, future: Telemetry, bound: Bound) -> Bound:
    """The times of calibration and future together, with what was observed in the calibration."""
    past = posterior["observed_data"].to_dataset()
    unit = future.units.get("time", twin.time_unit)
    earlier = elapsed(pd.Index(past["time"].values), future.t0, unit, twin.time_unit)
    times = np.sort(np.concatenate([earlier[~np.isin(earlier, bound.times)], bound.times]))
    both = [paired(pd.Index(own), pd.Index(times)) for own in (earlier, bound.times)]
    observations = {name: np.full(len(times), np.nan) for name in twin.observations}
    for name, values in observations.items():
        values[both[0]] = past[name].values
    columns = {name: np.full(len(times), np.nan) for name in bound.columns}
    for name, values in columns.items():
        values[both[0]] = posterior["constant_data"][name].values
        values[both[1]] = bound.columns[name]
    since = rows_before(twin, times, observations, np.isin(times, bound.times))
    for name, own in bound.since.items():  # those of the future go by its own rows and readings
        since[name][both[1]] = np.where(own >= 0, both[1][own], since[name][both[1][0]])
    return bound._replace(times=times, observations=observations, columns=columns, since=since)


def _continued(twin: Twin, past: Past, future: Telemetry, bound: Bound) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs and events of the calibration, continued by those of the future: elapsed times, and values by name."""
    ahead = {**bound.inputs, **bound.events}
    if not ahead:
        return bound.times, {}
    labels = past.signals["time"].values
    unit = future.units.get("time", twin.time_unit)
    earlier = labels if past.elapsed else elapsed(pd.Index(labels), future.t0, unit, twin.time_unit)
    if any(spec.beyond == "error" for spec in twin.inputs.values()):
        _check_no_gap(labels, earlier, bound)
    refuse_ahead(future, twin.inputs, twin.observations, last=earlier[-1], times=bound.times, time_unit=twin.time_unit)
    keep = ~np.isin(earlier, bound.times)
    times = np.concatenate([earlier[keep], bound.times])
    order = np.argsort(times)
    return times[order], {
        n: np.concatenate([past.signals[n].values[keep], values])[order] for n, values in ahead.items()
    }


def moment(label: Any) -> str:
    """A time as a person writes it: dates without the digits of their nanoseconds."""
    return said(label.astype("datetime64[s]")) if isinstance(label, np.datetime64) else f"{label:g}"


def _check_no_gap(labels: np.ndarray, earlier: np.ndarray, bound: Bound) -> None:
    """Refuse to interpolate inputs over a gap that is much longer than their samples are ever apart."""
    gap = bound.times[0] - earlier[-1]
    longest = max((np.diff(times).max() for times in (earlier, bound.times) if times.size > 1), default=gap)
    if gap <= 2.0 * longest:
        return
    raise InvalidTelemetry(
        f"The inputs are unknown between {moment(labels[-1])} and {moment(bound.labels[0])}.",
        expected=f"samples at most {longest:g} apart, as elsewhere",
        received=f"a gap of {gap:g}, in the twin's time unit",
        advice="The twin is solved from the start of the calibration: let `future` begin where that ended, or say by "
        "`initial=` in which state it starts anew.",
    )
