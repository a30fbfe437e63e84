"""`uncertainty_shares`: which part of the predictive variance comes from which source, at each time."""

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import enough_memory, on_device, require_float64
from bayestwin._base.progress import Progress
from bayestwin._base.seeds import check_seed
from bayestwin.calibrate import root_attributes, thinned, with_model_error
from bayestwin.density.bind import Bound, elapsed
from bayestwin.density.density import Density
from bayestwin.errors import InvalidInput, InvalidSetting, explain
from bayestwin.insight.effects import evaluate, variances
from bayestwin.insight.redraw import Redraw
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.predict import check_belongs, density_ahead
from bayestwin.telemetry import Telemetry


def uncertainty_shares(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry,
    *,
    seed: int,
    inputs: Sequence[Telemetry] | None = None,
    model_error: ModelError | EllipsisType | None = ...,
    draws: int = 1000,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Split the variance of new observations into what each source of uncertainty contributes, at each time.

    By the law of total variance, first the noise of observations is split off (the variance that is left if everything
    else is known), then that of the model error (what is left if parameters, initial states and inputs are known). What
    remains is shared among parameters, initial states and inputs by their Shapley effects (doi:10.1137/15M1048070,
    doi:10.1137/16M1097717): what each explains on average over all orders in which they could become known. These add
    up and are well defined although parameters and initial states depend on each other in the posterior. For that, one
    is drawn given the other as a linear function of it and a residual, in unconstrained coordinates, which is exact for
    a normal posterior and an approximation else.

    Noise parameters, a bias for instance, and those of the model error count as parameters; states that a model error
    integrates out (`initial_scale`) as model error.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it, of one telemetry.
        future: Times and inputs, as for `predict`.
        seed: Determines everything random.
        inputs: An ensemble of equally likely futures that take the place of `future`, with the same times: weather
            forecasts for instance. Without it inputs are taken to be known.
        model_error: As in `calibrate`.
        draws: About how many posterior draws are used. The twin is solved for as many, times 1 where parameters or
            initial states alone are uncertain, 3 for both, 7 with inputs as well, and once more with model error.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Over (observation, time, source): `share`, which adds up to 1, its Monte Carlo standard error `share_error`, and
        `variance` in the squared unit of the observation. The coordinate `horizon` is the time since the last
        observation of the calibration, in the twin's unit. NaN where more than 5 % of the draws cannot be solved.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidInput: If several experiments were calibrated.
        InvalidTelemetry: If a future does not fit the twin or the calibration.
        InvalidSetting: If the ensemble is empty or its members have different times.
        OutOfMemory: If the evaluations do not fit into memory.
    """
    require_float64()
    check_seed(seed)
    twin = with_model_error(twin, model_error)
    check_belongs(twin, posterior)
    _check_one_experiment(posterior)
    futures = _check_ensemble(future, inputs)
    ahead = [density_ahead(twin, posterior, one) for one in futures]
    shifted, bound, density = ahead[0]
    assert isinstance(shifted, Telemetry)
    keep_compiled()
    shown = progress or Progress()
    lower = enough_memory("Lower `draws`, or take fewer times at once.")
    with lower, on_device(device), shown:
        known, rows = _draws_of(density, posterior, draws)
        found = evaluate([one for *_, one in ahead], known, rows, seed, shown)
    # with model error the twin is led through the calibration: only the times that were asked for are told
    places = np.searchsorted(density.bound.times, bound.times)
    parts = [variances(found, name, places) for name in twin.observations]
    coords = {
        "time": bound.labels,
        "source": list(found.sources),
        "horizon": ("time", _horizon(twin, posterior, shifted, bound)),
    }
    attributes = root_attributes(twin, shifted, seed, {"draws": draws}) | {
        "posterior_telemetry_sha256": posterior.attrs["telemetry_sha256"],
        "posterior_seed": posterior.attrs["seed"],
        "input_members": len(futures),
    }
    return _dataset(
        twin, coords, np.stack([pair[0] for pair in parts]), np.stack([pair[1] for pair in parts])
    ).assign_attrs(attributes)


def _dataset(twin: Twin, coords: Mapping[str, Any], variance: np.ndarray, error: np.ndarray) -> xr.Dataset:
    """Variances and errors of shares, shape (observation, source, time), as a result."""
    dims = ("observation", "source", "time")
    units = [observation.unit for observation in twin.observations.values()]
    total = variance.sum(axis=1, keepdims=True)
    share = np.divide(variance, total, out=np.full_like(variance, np.nan), where=total > 0)
    found = xr.Dataset(
        {
            "share": (dims, share, {"units": "", "long_name": "share of the variance of a new observation"}),
            "share_error": (dims, error, {"units": "", "long_name": "Monte Carlo standard error of the share"}),
            "variance": (dims, variance, {"long_name": "variance of a new observation, in its squared unit"}),
        },
        coords={"observation": list(twin.observations), **coords, "units": ("observation", units)},
    )
    found["horizon"].attrs = {
        "units": twin.time_unit,
        "long_name": "time since the last observation that was calibrated",
    }
    return found.transpose("observation", "time", "source")


def _horizon(twin: Twin, posterior: xr.DataTree, shifted: Telemetry, bound: Bound) -> np.ndarray:
    """Time since the last observation of the calibration, in the twin's unit; shape (time,)."""
    past = posterior["observed_data"].to_dataset()
    seen = np.any([past[name].notnull().to_numpy() for name in twin.observations], axis=0)
    last = pd.Index(past["time"].to_numpy()[seen][-1:])
    return bound.times - elapsed(last, shifted.t0, shifted.units.get("time", twin.time_unit), twin.time_unit)


def _draws_of(density: Density, posterior: xr.DataTree, wanted: int) -> tuple[Redraw, np.ndarray]:
    """All draws in unconstrained coordinates, by source, and the numbers of those to use."""
    group = posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], group.sizes["draw"]
    values = {site.name: group[site.name].transpose("chain", "draw").values.ravel() for site in density.sites}
    z = np.asarray(jax.jit(jax.vmap(density.unconstrain))(values))
    initial = np.array([site.kind == "initial" for site in density.sites])
    groups = {"parameters": np.flatnonzero(~initial), "initial_state": np.flatnonzero(initial)}
    rows = np.arange(chains)[:, None] * num + thinned(chains, num, wanted)
    return Redraw(z, groups), rows.ravel()


def _check_one_experiment(posterior: xr.DataTree) -> None:
    if "experiment" in posterior["observed_data"].coords:
        message = explain(
            "Shares of uncertainty are of one telemetry.",
            expected="a posterior of one telemetry",
            received="one of several experiments",
            advice="Calibrate the experiment that you ask about by itself.",
        )
        raise InvalidInput(message)


def _check_ensemble(future: Telemetry, inputs: Sequence[Telemetry] | None) -> list[Telemetry]:
    """The futures that are equally likely.

    Raises:
        InvalidSetting: If there are none, or their times differ.
    """
    if inputs is None:
        return [future]
    times = future.table.index
    other = [number for number, one in enumerate(inputs) if not one.table.index.equals(times)]
    if len(inputs) >= 2 and not other:
        return list(inputs)
    message = explain(
        "`inputs` is no ensemble of futures.",
        expected=f"at least 2 telemetries with the {len(times)} times of `future`",
        received=f"{len(inputs)} telemetries; with other times: {', '.join(map(str, other)) or 'none'}",
        advice="Interpolate all members to the same times, or leave `inputs` out where they are known.",
    )
    raise InvalidSetting(message)
