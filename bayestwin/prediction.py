"""Prediction: what a calibrated twin says about new times and inputs."""

import dataclasses
from types import EllipsisType

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.bind import Bound, bind, elapsed
from bayestwin.calibration import root_attributes, thinned, with_model_error
from bayestwin.compilation import keep_compiled
from bayestwin.density import Density
from bayestwin.describe import fingerprint
from bayestwin.dynamics.grid import build_grid
from bayestwin.dynamics.probe import with_method
from bayestwin.errors import InvalidArtifact, InvalidTelemetry, explain
from bayestwin.groups import series_dataset, signals_dataset
from bayestwin.model_error import ModelError
from bayestwin.predictive import Predictor
from bayestwin.progress import Progress
from bayestwin.seeds import check_seed, key_for
from bayestwin.setting import enough_memory, on_device, require_float64
from bayestwin.telemetry import Telemetry
from bayestwin.twin import Twin


def predict(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry,
    *,
    seed: int,
    model_error: ModelError | EllipsisType | None = ...,
    draws: int = 1000,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Predict at the times of `future`, driven by its inputs.

    The twin is solved from the start of the calibration: the inputs of the calibration are taken from the posterior
    and continued by those of `future`, which win where both have the same time. A twin with model error is led by the
    observations of the calibration as long as they last, and goes on from what is known there.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        future: Times, inputs, and perhaps observations, which are not looked at.
        seed: Determines the noise of new observations.
        model_error: As in `calibrate`.
        draws: About how many posterior draws are used.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Groups `predictions` (for each observation a new observation `<name>`, which has all uncertainty, and
        `<name>_noise_free`, which has that of parameters and initial states alone; `<state>_state` trajectories),
        `predictions_constant_data` (inputs), and `observed_data` of the calibration.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidTelemetry: If `future` does not fit the twin, starts before the calibration does, or leaves the inputs
            unknown for a while after it.
        OutOfMemory: If the trajectories do not fit into memory.
    """
    require_float64()
    check_seed(seed)
    twin = with_model_error(twin, model_error)
    check_belongs(twin, posterior)
    future = _from_same_start(posterior, future)
    bound = bind(twin, future, observed=False)._replace(observations={})
    knots, signals = _continued(twin, posterior, future, bound)
    group = posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], group.sizes["draw"]
    kept = thinned(chains, num, draws)
    values = {site.name: group[site.name].values[:, kept].reshape(-1) for site in twin.sites()}
    led = bound if twin.model_error is None else _with_past(twin, posterior, future, bound)
    grid = build_grid(twin, led.times, knots, signals, signals)
    keep_compiled()
    shown = progress or Progress()
    lower = enough_memory("Lower `draws`, or predict fewer times at once.")
    with lower, on_device(device), shown, shown.phase("predict", "predicting", chains * len(kept)) as phase:
        # as the calibration was solved, whatever the solver is that the twin leaves to be chosen
        chosen = with_method(twin, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
        found = Predictor(Density(chosen, led, grid, twin.sites()))(values, key_for(seed, "predictions"), phase)
    rows = np.searchsorted(led.times, bound.times)
    found = {name: array[:, rows] for name, array in found.items() if array.ndim == 2}
    tree = xr.DataTree.from_dict(
        {
            "predictions": series_dataset(twin, found, bound.labels, chains, group["draw"].values[kept]),
            "predictions_constant_data": signals_dataset(
                {**twin.inputs, **twin.events}, {**bound.inputs, **bound.events}, bound.labels
            ),
            "observed_data": posterior["observed_data"].to_dataset(),
        }
    )
    tree.attrs = root_attributes(twin, future, seed, {"draws": draws}) | {
        "posterior_telemetry_sha256": posterior.attrs["telemetry_sha256"],
        "posterior_seed": posterior.attrs["seed"],
    }
    return tree


def check_belongs(twin: Twin, posterior: xr.DataTree) -> None:
    """Refuse a posterior of another twin, or of this twin before its equations, priors or units were changed."""
    ours, theirs = fingerprint(twin), posterior.attrs.get("twin_sha256")
    if ours == theirs:
        return
    message = explain(
        f"This posterior does not belong to twin `{twin.name}` as it is now.",
        expected=f"a posterior of a twin with fingerprint {ours[:12]}",
        received=f"one of twin `{posterior.attrs.get('twin', '?')}` with fingerprint {str(theirs)[:12]}",
        advice="Calibrate again: equations, priors, units or solver are different.",
    )
    raise InvalidArtifact(message)


def _from_same_start(posterior: xr.DataTree, future: Telemetry) -> Telemetry:
    """The future telemetry, with times counted from where the calibration's were."""
    dated = np.issubdtype(posterior["observed_data"]["time"].dtype, np.datetime64)
    if dated != future.dated:
        message = explain(
            "The times of `future` are of another kind than those of the calibration.",
            expected="dates" if dated else "numbers",
            received="dates" if future.dated else "numbers",
            advice="Use the same kind of time in both.",
        )
        raise InvalidTelemetry(message)
    ours = "" if dated else future.units.get("time", posterior.attrs["time_unit"])
    theirs = posterior.attrs["telemetry_time_unit"]
    if ours != theirs:
        message = explain(
            "The times of `future` are in another unit than those of the calibration.",
            expected=f"`{theirs}`",
            received=f"`{ours}`",
            advice=f"Count them in `{theirs}`, and say so by `units={{'time': '{theirs}'}}`.",
        )
        raise InvalidTelemetry(message)
    start = posterior.attrs["t0"]
    return dataclasses.replace(future, t0=pd.Timestamp(start) if dated else float(start))


def _with_past(twin: Twin, posterior: xr.DataTree, future: Telemetry, bound: Bound) -> Bound:
    """The times of calibration and future together, with what was observed in the calibration."""
    past = posterior["observed_data"].to_dataset()
    unit = future.units.get("time", twin.time_unit)
    earlier = elapsed(pd.Index(past["time"].values), future.t0, unit, twin.time_unit)
    times = np.union1d(earlier, bound.times)
    observations = {name: np.full(len(times), np.nan) for name in twin.observations}
    for name, values in observations.items():
        values[np.searchsorted(times, earlier)] = past[name].values
    return bound._replace(times=times, observations=observations)


def _continued(
    twin: Twin, posterior: xr.DataTree, future: Telemetry, bound: Bound
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs and events of the calibration, continued by those of the future: elapsed times, and values by name."""
    ahead = {**bound.inputs, **bound.events}
    if not ahead:
        return bound.times, {}
    past = posterior["constant_data"].to_dataset()
    unit = future.units.get("time", twin.time_unit)
    earlier = elapsed(pd.Index(past["time"].values), future.t0, unit, twin.time_unit)
    if any(spec.beyond == "error" for spec in twin.inputs.values()):
        _check_no_gap(past["time"].values, earlier, bound)
    keep = ~np.isin(earlier, bound.times)
    times = np.concatenate([earlier[keep], bound.times])
    order = np.argsort(times)
    return times[order], {n: np.concatenate([past[n].values[keep], values])[order] for n, values in ahead.items()}


def _check_no_gap(labels: np.ndarray, earlier: np.ndarray, bound: Bound) -> None:
    """Refuse to interpolate inputs over a gap that is much longer than their samples are ever apart."""
    gap = bound.times[0] - earlier[-1]
    longest = max((np.diff(times).max() for times in (earlier, bound.times) if times.size > 1), default=gap)
    if gap <= 2.0 * longest:
        return
    message = explain(
        f"The inputs are unknown between {labels[-1]} and {bound.labels[0]}.",
        expected=f"samples at most {longest:g} apart, as elsewhere",
        received=f"a gap of {gap:g}, in the twin's time unit",
        advice="The twin is solved from the start of the calibration: let `future` begin where that ended.",
    )
    raise InvalidTelemetry(message)
