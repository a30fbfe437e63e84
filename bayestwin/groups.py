"""The groups of a result: arrays → xarray datasets with named dimensions, the user's times, units and words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayestwin.twin import Twin

SCHEMA_VERSION = 1

WORDS = {
    "diverging": "transition diverged",
    "lp": "log density in the unconstrained space",
    "n_steps": "leapfrog steps of the transition",
    "tree_depth": "doublings of the trajectory",
    "acceptance_rate": "mean acceptance along the trajectory",
    "step_size": "leapfrog step size",
    "energy": "Hamiltonian",
    "log_ratio": "log density minus that of the approximation it was drawn from",
    "solver_failed": "a proposed solve failed and was rejected",
    "solver_steps": "solver steps for the draw kept",
}


def sites_dataset(twin: Twin, values: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Parameters, initial states and noise parameters; values have shape (chain, draw)."""
    data = {}
    for site in twin.sites():
        attrs = {"units": site.unit, "long_name": site.doc or site.name, "kind": site.kind}
        data[site.name] = (("chain", "draw"), values[site.name], attrs)
    return _with_draws(xr.Dataset(data))


def stats_dataset(stats: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Sampler statistics; shape (chain, draw)."""
    return _with_draws(xr.Dataset({n: (("chain", "draw"), v, {"long_name": WORDS[n]}) for n, v in stats.items()}))


def series_dataset(
    twin: Twin, found: Mapping[str, np.ndarray], labels: np.ndarray, chains: int, draws: np.ndarray
) -> xr.Dataset:
    """Predicted observations and trajectories.

    Args:
        twin: Gives units and words.
        found: As `Predictor` returns it, (chains · draws) rows; only trajectories are taken.
        labels: The user's times.
        chains: Number of chains.
        draws: Number of each draw kept.
    """
    data = {}
    for name, observation in twin.observations.items():
        words = observation.doc or name
        data[name] = (found[name], observation.unit, f"{words}, a new observation")
        data[f"{name}_noise_free"] = (
            found[f"{name}_noise_free"],
            observation.unit,
            f"{words}, without noise",
        )
    for name, state in twin.states.items():
        data[f"{name}_state"] = (found[f"{name}_state"], state.unit, f"state: {state.doc or name}")
    shaped = {
        name: (
            ("chain", "draw", "time"),
            values.reshape(chains, len(draws), len(labels)),
            {"units": unit, "long_name": words},
        )
        for name, (values, unit, words) in data.items()
    }
    return xr.Dataset(shaped, coords={"chain": np.arange(chains), "draw": draws, "time": labels})


def likelihood_dataset(
    found: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray], labels: np.ndarray, chains: int
) -> xr.Dataset:
    """Log likelihood of each observation that is not missing.

    The dimension is `time` where all observations are present at the same times, else `time_<observation>`.

    Args:
        found: As `Predictor` returns it.
        observed: Observations by name, NaN = missing.
        labels: The user's times.
        chains: Number of chains.
    """
    present = {name: np.isfinite(values) for name, values in observed.items()}
    masks = list(present.values())
    shared = all((mask == masks[0]).all() for mask in masks)
    data, coords = {}, {}
    for name, mask in present.items():
        dim = "time" if shared else f"time_{name}"
        values = found[f"log_likelihood/{name}"]
        values = values.reshape(chains, -1, values.shape[-1])[..., mask]
        data[name] = (("chain", "draw", dim), values, {"long_name": f"log likelihood of {name}"})
        coords[dim] = labels[mask]
    return _with_draws(xr.Dataset(data, coords=coords))


def signals_dataset(specs: Mapping[str, Any], values: Mapping[str, np.ndarray], labels: np.ndarray) -> xr.Dataset:
    """Observed data or inputs, with the units and words of their `Observation` or `Input`."""
    data = {
        name: (("time",), array, {"units": specs[name].unit, "long_name": specs[name].doc or name})
        for name, array in values.items()
    }
    return xr.Dataset(data, coords={"time": labels})


def _with_draws(dataset: xr.Dataset) -> xr.Dataset:
    sizes = dataset.sizes
    return dataset.assign_coords(chain=np.arange(sizes["chain"]), draw=np.arange(sizes["draw"]))
