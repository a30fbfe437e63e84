"""Prediction: what a calibrated twin says about new times and inputs, or from states that are given."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress, computing
from bayestwin.calibrate import check_belongs, experiment_attributes, root_attributes, thinned, with_model_error
from bayestwin.density.bind import Bound, Experiments, bind, check_experiments, each, elapsed, first_value, rows_in_both
from bayestwin.density.density import Density, build_density, join
from bayestwin.density.predictor import Predictor, num_stored
from bayestwin.density.quantities import quantities_of
from bayestwin.density.rows import rows_before
from bayestwin.dynamics.choice import with_method
from bayestwin.dynamics.grid import Grid, build_grid
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.model.dependence import brought, parameters
from bayestwin.model.describe import prior_text
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.model.types import First
from bayestwin.results.schema import (
    Axes,
    axes_of,
    content_sha256,
    driven_dataset,
    quantities_dataset,
    series_dataset,
    with_failures,
)
from bayestwin.results.support import knows_what_was_seen, mark, support
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
    chosen = with_method(anew, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
    return future, bound, build_density(anew, bound).solved_as(chosen)


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


LOWER = "Lower `draws`, or predict fewer times at once."


def predict(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry | Experiments,
    *,
    seed: int,
    initial: Start | None = None,
    model_error: ModelError | EllipsisType | None = ...,
    draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Predict at the times of `future`, driven by its inputs.

    The twin is solved from the start of the calibration: the inputs of the calibration are taken from the posterior
    and continued by those of `future`, which win where both have the same time. A twin with model error, or with noise
    that remembers, is led by the observations of the calibration and goes on from what is known at their end.

    A `future` that has times of the calibration, and observed something else at most of them, is another recording with
    a clock of its own: it starts anew at its own first time. What was inferred of initial states is not about it; they
    are drawn from their priors unless `initial` says more.

    Experiments of names that were not calibrated are **unseen assets**, which begin at their own first times: what all
    share comes from the posterior, and what each has of its own from its prior there, be it that of the population.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        future: Times, inputs, and perhaps observations, which are not looked at; where several experiments were
            calibrated, those of each one that is wanted, by its name.
        seed: Determines the noise of new observations.
        initial: Where the twin starts anew, at the first time of `future`: by state a number or a distribution, in
            its unit. The calibration then gives the parameters alone, and `future` may be at any time.
        model_error: As in `calibrate`.
        draws: About how many posterior draws are used. By default 1,000, or the 100 or more that fit in 800 MB.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Groups `predictions` (for each observation a new observation `<name>`, which has all uncertainty, and
        `<name>_noise_free`, which has that of parameters and initial states alone, with a discrepancy
            `<name>_discrepancy`, which is added to it; `<state>_state` trajectories; and the twin's quantities, one
            number for each draw, from the first time of `future` to its last),
        `predictions_constant_data` (inputs), and `observed_data` of the calibration, if it saw these assets. A path
        whose solve fails is NaN from then on: `num_failed` counts them by time, and the root attribute `failed_paths`
        in all. `starts_anew` says how a forecast begins that does so, by state, and `unseen` names unseen assets.
        The coordinate `extrapolation` has the codes of `bt.extrapolation`, the root attribute `beyond` its words.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidSetting: If `initial` leaves a state out or does not fit the twin.
        InvalidTelemetry: If `future` does not fit the twin, starts before the calibration does, leaves the inputs
            unknown for a while after it, or has inputs that are made of observations not known yet.
        OutOfMemory: If the trajectories do not fit into memory.
    """
    computation = computing(LOWER, seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    check_belongs(twin, posterior)
    group = posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], group.sizes["draw"]
    another = initial is None and is_another_recording(twin, posterior, future)
    if another:
        initial = own_start(twin, future)  # type: ignore[arg-type]
    if initial is not None:
        check_start(twin, posterior, initial, future)
    begun = functools.partial(_begun, posterior, future, initial, another=another)
    future, bound, density = begun(twin, remembered=True)
    given = {} if initial is None else {"initial": {name: prior_text(value) for name, value in initial.items()}}
    attributes = root_attributes(twin, future, seed, {"draws": draws} | given)
    axes = axes_of(bound, density.experiments, experiment_attributes(attributes))
    kept = thinned(chains, num, num_stored(density, math.prod(axes.shape), draws))
    unseen = _unseen(posterior, future)
    values = _values_ahead(density, group.isel(draw=kept), unseen=bool(unseen), anew=initial is not None)
    if initial is not None:
        values = start_values(twin, initial, chains * len(kept), seed, values, bound.known) | values
    if unseen:
        values = density.draw_rest(jax.random.split(key_for(seed, "unseen"), chains * len(kept)), values)
    drawn = group["draw"].values[kept]
    with computation as shown:
        predictions = paths_dataset(density, bound, values, axes, chains, drawn, seed, lambda own: begun(own)[2], shown)
    tree = xr.DataTree.from_dict(
        {"predictions": predictions, "predictions_constant_data": driven_dataset(twin, bound, axes)}
        | ({} if unseen else {"observed_data": posterior["observed_data"].to_dataset()})
    )
    starts = {} if initial is None else {"starts_anew": given["initial"]}
    starts |= {"unseen": list(unseen)} if unseen else {}
    tree.attrs = attributes | _origin(posterior) | starts | _failed_paths(predictions)
    return mark(tree, support(twin, posterior, tree, {})) if knows_what_was_seen(posterior) else tree


def paths_dataset(
    density: Density,
    bound: Bound,
    values: Mapping[str, np.ndarray],
    axes: Axes,
    chains: int,
    draws: np.ndarray,
    seed: int,
    density_of: Callable[[Twin], Density],
    shown: Progress,
) -> xr.Dataset:
    """The group `predictions`, for draws of all sites.

    Args:
        density: What is predicted by; it may have more times than are wanted.
        bound: What is wanted.
        values: By site; chains · draws of each.
        axes: Those of the result.
        chains: How many there are.
        draws: Number of each draw of a chain.
        seed: Determines the noise of new observations.
        density_of: What the twin with the integrals of its quantities is predicted by.
        shown: Where progress is shown.
    """
    twin, num = density.twin, chains * len(draws)
    with shown.phase("predict", "predicting", num) as phase:
        found = Predictor(density)(values, key_for(seed, "predictions"), phase, numbers=np.arange(num))
    rows = None
    if density.bound.times.shape[-1] != bound.times.shape[-1]:
        rows = paired(pd.Index(bound.times), pd.Index(density.bound.times))
        found = {name: array[:, rows] for name, array in found.items() if array.ndim > 1}
    asked = {}
    if twin.quantities:
        with shown.phase("quantities", "quantities of interest", num) as phase:
            asked = quantities_of(density, values, found, density_of, phase, rows)
        asked = {name: np.broadcast_to(own, (num, *own.shape[1:])) for name, own in asked.items()}
    predictions = with_failures(series_dataset(twin, found, axes, chains, draws), axes)
    return predictions.assign(quantities_dataset(twin, asked, axes, chains))


def _origin(posterior: xr.DataTree) -> dict[str, Any]:
    """What says of which posterior a prediction is."""
    told = {f"posterior_{name}": posterior.attrs[name] for name in ("telemetry_sha256", "seed")}
    return told | {"posterior_sha256": content_sha256(posterior["posterior"].to_dataset())}


def _begun(
    posterior: xr.DataTree,
    future: Any,
    initial: Start | None,
    twin: Twin,
    *,
    another: bool,
    remembered: bool = False,
) -> tuple[Any, Bound, Density]:
    """What a future is predicted by, be it that of the calibration or one that begins from given states."""
    if initial is None:
        return density_ahead(twin, posterior, future, remembered=remembered)
    return restarted(twin, posterior, initial, future, another=another)


def _values_ahead(density: Density, group: xr.Dataset, *, unseen: bool, anew: bool) -> dict[str, np.ndarray]:
    """Draws of the sites that a prediction takes from the posterior, by name; draws first."""
    if density.experiments and "experiment" in group.dims and not unseen:
        group = group.sel(experiment=list(density.experiments))
    sites = [site for site in density.sites if (site.shared or not unseen) and not (anew and site.kind == "initial")]
    drawn = {site.name: group[site.name].values for site in sites}
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in drawn.items()}


def _failed_paths(predictions: xr.Dataset) -> dict[str, Any]:
    """How many paths fail, what share of all that is, and since when; of several experiments the worst."""
    if "num_failed" not in predictions:
        return {}
    counts, of = predictions["num_failed"], predictions.sizes["chain"] * predictions.sizes["draw"]
    first = counts["time"].to_numpy()[
        np.flatnonzero(counts.to_numpy().reshape(-1, counts.sizes["time"]).any(axis=0))[0]
    ]
    num = int(counts.max())
    return {"failed_paths": {"num": num, "of": of, "share": num / of, "since": _moment(first)}}


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
    # as the calibration was solved, whatever the solver is that the twin leaves to be chosen
    chosen = with_method(twin, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
    return future, bound, density.solved_as(chosen)


class _Past(NamedTuple):
    """The calibration, or one experiment of it, as far as its future goes on from there.

    Attributes:
        signals: Inputs and events; over the user's times, and over elapsed times for an experiment.
        elapsed: Whether these are elapsed times.
        dated: Whether the user's times are dates.
        unit: That of the user's times; empty for dates.
        t0: The user's time from which on time is counted.
        known: Numbers that it brought along, by name.
    """

    signals: xr.Dataset
    elapsed: bool
    dated: bool
    unit: str
    t0: str
    known: Mapping[str, float]


def _past_of(posterior: xr.DataTree, name: str | None) -> _Past:
    attrs, signals = posterior.attrs, posterior["constant_data"].to_dataset()
    if name is None:
        dated = np.issubdtype(posterior["observed_data"]["time"].dtype, np.datetime64)
        return _Past(signals, False, dated, attrs["telemetry_time_unit"], attrs["t0"], known_in(posterior))
    own = signals.sel(experiment=name).dropna("time", how="all") if signals.data_vars else signals
    t0 = attrs["t0"][name]
    return _Past(own, True, not _is_number(t0), attrs["telemetry_time_unit"][name], t0, known_in(posterior, name))


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
        shifted, bound, grid = _one_ahead(twin, _past_of(posterior, None), future)
        return shifted, Density(twin, bound, grid, twin.sites())
    if _unseen(posterior, future):
        assert not isinstance(future, Telemetry)
        check_experiments(future)
        return future, build_density(twin, each(functools.partial(bind, twin, observed=False), future))
    _check_named(names, future)
    assert not isinstance(future, Telemetry)
    found = {
        name: each(functools.partial(_one_ahead, twin, _past_of(posterior, name)), {name: one})[name]
        for name, one in future.items()
    }
    shifted, bounds, grids = ({name: one[part] for name, one in found.items()} for part in range(3))
    return shifted, join(twin, bounds, grids)  # type: ignore[return-value]


def _unseen(posterior: xr.DataTree, future: Any) -> tuple[str, ...]:
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


def _one_ahead(twin: Twin, past: _Past, future: Telemetry) -> tuple[Telemetry, Bound, Grid]:
    shifted = _from_same_start(twin, past, future)
    bound = bind(twin, shifted, observed=False, known=past.known)._replace(observations={})
    knots, signals = _continued(twin, past, shifted, bound)
    return shifted, bound, build_grid(twin, bound.times, knots, signals, signals, bound.known)


def from_same_start(twin: Twin, posterior: xr.DataTree, future: Telemetry) -> Telemetry:
    """Telemetry of the record that was calibrated, with times counted from where those of the calibration were.

    Raises:
        InvalidTelemetry: If its times are of another kind, or in another unit.
    """
    return _from_same_start(twin, _past_of(posterior, None), future)


def _from_same_start(twin: Twin, past: _Past, future: Telemetry) -> Telemetry:
    """The future telemetry, with times counted from where the calibration's were."""
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
    knots, signals = _continued(twin, _past_of(posterior, None), future, bound)
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


def _continued(twin: Twin, past: _Past, future: Telemetry, bound: Bound) -> tuple[np.ndarray, dict[str, np.ndarray]]:
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


def _moment(label: Any) -> str:
    """A time as a person writes it: dates without the digits of their nanoseconds."""
    return said(label.astype("datetime64[s]")) if isinstance(label, np.datetime64) else f"{label:g}"


def _check_no_gap(labels: np.ndarray, earlier: np.ndarray, bound: Bound) -> None:
    """Refuse to interpolate inputs over a gap that is much longer than their samples are ever apart."""
    gap = bound.times[0] - earlier[-1]
    longest = max((np.diff(times).max() for times in (earlier, bound.times) if times.size > 1), default=gap)
    if gap <= 2.0 * longest:
        return
    raise InvalidTelemetry(
        f"The inputs are unknown between {_moment(labels[-1])} and {_moment(bound.labels[0])}.",
        expected=f"samples at most {longest:g} apart, as elsewhere",
        received=f"a gap of {gap:g}, in the twin's time unit",
        advice="The twin is solved from the start of the calibration: let `future` begin where that ended, or say by "
        "`initial=` in which state it starts anew.",
    )
