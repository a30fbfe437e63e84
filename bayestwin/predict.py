"""Prediction: what a calibrated twin says about new times and inputs, or from states that are given."""

import functools
import math
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress, computing
from bayestwin.calibrate import check_belongs, experiment_attributes, root_attributes, thinned, with_model_error
from bayestwin.density.ahead import (
    FINAL,
    Start,
    can_go_on,
    check_start,
    density_ahead,
    final_states,
    is_another_recording,
    moment,
    own_start,
    restarted,
    resumed,
    start_values,
    unseen_in,
)
from bayestwin.density.bind import Bound, Experiments
from bayestwin.density.density import Density
from bayestwin.density.predictor import Predictor, num_stored
from bayestwin.density.quantities import quantities_of
from bayestwin.model.describe import prior_text
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
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
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.times import paired

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

    A twin all of whose past is in its states goes on from where each draw had brought them by the last row. Others, and
    where `future` begins before that, are solved from the start of the calibration, whose inputs those of `future`
    continue. With a model error, or noise that remembers, observations of the calibration lead the twin up to its end.

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
    another = initial is None and is_another_recording(twin, posterior, future)
    if another:
        initial = own_start(twin, future)  # type: ignore[arg-type]
    if initial is not None:
        check_start(twin, posterior, initial, future)
    goes_on = initial is None and can_go_on(twin, posterior, future, draws)
    begun = functools.partial(_begun, posterior, future, initial, another=another, goes_on=goes_on)
    group = group.sel(draw=posterior[FINAL]["draw"].values) if goes_on else group
    chains, num = group.sizes["chain"], group.sizes["draw"]
    future, bound, density = begun(twin)
    given = {} if initial is None else {"initial": {name: prior_text(value) for name, value in initial.items()}}
    attributes = root_attributes(twin, future, seed, {"draws": draws} | given)
    axes = axes_of(bound, density.experiments, experiment_attributes(attributes))
    kept = thinned(chains, num, num_stored(density, math.prod(axes.shape), draws))
    unseen = unseen_in(posterior, future)
    drawn, anew = group["draw"].values[kept], goes_on or initial is not None
    values = _values_ahead(density, group.isel(draw=kept), unseen=bool(unseen), anew=anew)
    values |= final_states(posterior, drawn) if goes_on else {}
    if initial is not None:
        values = start_values(twin, initial, chains * len(kept), seed, values, bound.known) | values
    if unseen:
        values = density.draw_rest(jax.random.split(key_for(seed, "unseen"), chains * len(kept)), values)
    with computation as shown:
        predictions = paths_dataset(density, bound, values, axes, chains, drawn, seed, lambda own: begun(own)[2], shown)
    tree = xr.DataTree.from_dict(
        {"predictions": predictions, "predictions_constant_data": driven_dataset(twin, bound, axes)}
        | ({} if unseen else {"observed_data": posterior["observed_data"].to_dataset()})
    )
    starts = {"starts_anew": given["initial"]} if given else {"unseen": list(unseen)} if unseen else {}
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
    goes_on: bool,
) -> tuple[Any, Bound, Density]:
    """What a future is predicted by, be it that of the calibration or one that begins from given states."""
    if goes_on:
        return resumed(twin, posterior, future)
    if initial is None:
        return density_ahead(twin, posterior, future, remembered=True)
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
    return {"failed_paths": {"num": num, "of": of, "share": num / of, "since": moment(first)}}
