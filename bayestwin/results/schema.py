"""The groups of a result: arrays → xarray datasets with named dimensions, the user's times, units and words."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.density.bind import Bound
from bayestwin.density.predictor import spread_over
from bayestwin.model.quantities import unit_of
from bayestwin.model.twin import Twin

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


class Axes(NamedTuple):
    """How arrays over time become variables of a result.

    Attributes:
        dims: `time`, and `experiment` before it where there are several.
        coords: The user's times; of several experiments the elapsed times that any of them has.
        places: Of several experiments, for each time of each one: number of the experiment, its place in the arrays,
            its place among the times of the result; shape (3, total). None where arrays stay as they are.
    """

    dims: tuple[str, ...]
    coords: Mapping[str, Any]
    places: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    def spread(self, array: np.ndarray, inner: int = 0) -> np.ndarray:
        """Put an array, shape (…, E, n), at the times of the result, NaN where an experiment has none of its own.

        Args:
            array: The array.
            inner: How many more dimensions it has after these.
        """
        if self.places is None:
            return array
        if inner:
            last = range(-inner, 0)
            return np.moveaxis(self.spread(np.moveaxis(array, last, range(inner))), range(inner), last)
        experiment, own, place = self.places
        found = np.full((*array.shape[:-2], *self.shape), np.nan)
        found[..., experiment, place] = array[..., experiment, own]
        return found


def axes_of(bound: Bound, experiments: tuple[str, ...] = (), attrs: Mapping[str, Any] | None = None) -> Axes:
    """The axes of a result.

    Args:
        bound: Telemetry; of several experiments their stacked one.
        experiments: Their names; none where there is one telemetry alone.
        attrs: What the coordinate `experiment` is to say.
    """
    if not experiments:
        return Axes(("time",), {"time": bound.labels})
    experiment, own = np.nonzero(np.isfinite(bound.labels))
    labels = bound.labels[experiment, own]
    times, place = np.unique(labels, return_inverse=True)
    rows = pd.DataFrame({"experiment": experiment, "time": labels})
    if rows.duplicated().any():  # a time of replicates is there as often as in the experiment that has most of them
        rows["number"] = rows.groupby(["experiment", "time"]).cumcount()
        keys = pd.MultiIndex.from_arrays([labels, rows["number"]])
        both = keys.unique().sort_values()
        times, place = both.get_level_values(0).to_numpy(), both.get_indexer(keys)
    coords = xr.Dataset(
        coords={"experiment": ("experiment", list(experiments), dict(attrs or {})), "time": times}
    ).coords
    return Axes(
        ("experiment", "time"),
        {"experiment": coords["experiment"], "time": coords["time"]},
        np.stack([experiment, own, place]),
    )


def sites_dataset(twin: Twin, values: Mapping[str, np.ndarray], coords: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Parameters, derived ones too, initial states and noise parameters.

    Args:
        twin: Gives units and words.
        values: By site, and by derived parameter; shape (chain, draw), or (chain, draw, experiment).
        coords: Has `experiment`, where there are several.
    """
    data = {}
    shown = [(site.name, site.unit, site.doc, site.kind) for site in twin.sites()]
    shown += [(name, twin.parameters[name].unit, twin.parameters[name].doc, "derived") for name in twin.derived]
    for name, unit, doc, kind in shown:
        dims = ("chain", "draw", "experiment")[: values[name].ndim]
        data[name] = (dims, values[name], {"units": unit, "long_name": doc or name, "kind": kind})
    dataset = _with_draws(xr.Dataset(data))
    return dataset.assign_coords(experiment=(coords or {})["experiment"]) if "experiment" in dataset.dims else dataset


def stats_dataset(stats: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Sampler statistics; shape (chain, draw)."""
    return _with_draws(xr.Dataset({n: (("chain", "draw"), v, {"long_name": WORDS[n]}) for n, v in stats.items()}))


def final_dataset(
    twin: Twin, found: Mapping[str, np.ndarray], chains: int, draws: np.ndarray, label: Any
) -> xr.Dataset:
    """Where each draw has brought the states by the last row; nothing of what is not there.

    Args:
        twin: Gives units and words.
        found: As `Predictor` returns it: `<state>_final`, (chains · draws) rows.
        chains: Number of chains.
        draws: Number of each draw of a chain.
        label: The user's time of that row.
    """
    data = {}
    for name, state in twin.states.items():
        if (values := found.get(f"{name}_final")) is not None:
            shape = (chains, len(draws), *values.shape[1:])
            words = {"units": state.unit, "long_name": f"{state.doc or name} at the last row"}
            data[name] = (("chain", "draw", *state.axes(name)), values.reshape(shape), words)
    labels = {dim: own for name, state in twin.states.items() if name in data for dim, own in state.axes(name).items()}
    coords = {"chain": np.arange(chains), "draw": draws, "time": label, **labels}
    return xr.Dataset(data, coords=coords if data else {})


def series_dataset(
    twin: Twin, found: Mapping[str, np.ndarray], axes: Axes, chains: int, draws: np.ndarray
) -> xr.Dataset:
    """Predicted observations and trajectories.

    Args:
        twin: Gives units and words.
        found: As `Predictor` returns it, (chains · draws) rows; only trajectories are taken.
        axes: Those of the result.
        chains: Number of chains.
        draws: Number of each draw kept.
    """
    data: dict[str, tuple[np.ndarray, str, str]] = {}
    coords = {"chain": np.arange(chains), "draw": draws, **axes.coords}
    inner: dict[str, tuple[str, ...]] = {}
    for name, observation in twin.observations.items():
        words = observation.doc or name
        data[name] = (found[name], observation.unit, f"{words}, a new observation")
        data[f"{name}_noise_free"] = (
            found[f"{name}_noise_free"],
            observation.unit,
            f"{words}, without noise",
        )
        if f"{name}_discrepancy" in found:
            words = f"what is added to {words}: discrepancy"
            data[f"{name}_discrepancy"] = (found[f"{name}_discrepancy"], observation.unit, words)
    for name, state in twin.states.items():
        words = f"state: {state.doc or name}"
        path, whole = found[f"{name}_state"], state.axes(name)
        sizes = path.shape[path.ndim - len(whole) :]
        if sizes != state.shape:
            words += f", at {' × '.join(map(str, sizes))} of its {' × '.join(map(str, state.shape))} places"
        for size, (dim, labels) in zip(sizes, whole.items(), strict=True):
            coords[dim] = labels[spread_over(len(labels), size)]
        data[f"{name}_state"], inner[f"{name}_state"] = (path, state.unit, words), tuple(whole)
    shaped = {}
    for name, (values, unit, words) in data.items():
        own = inner.get(name, ())
        table = axes.spread(values, len(own))
        sizes = table.shape[table.ndim - len(own) :]
        shaped[name] = (
            ("chain", "draw", *axes.dims, *own),
            table.reshape(chains, len(draws), *axes.shape, *sizes),
            {"units": unit, "long_name": words},
        )
    return xr.Dataset(shaped, coords=coords)


def quantities_dataset(twin: Twin, drawn: Mapping[str, np.ndarray], axes: Axes, chains: int) -> xr.Dataset:
    """Quantities of interest, one number for each draw, with what they are and over which times.

    Args:
        twin: Gives units and words.
        drawn: By name; shape (chains · draws,), or (chains · draws, E) of several experiments.
        axes: Those of the predictions.
        chains: Number of chains.
    """
    several = axes.dims[:-1]
    over = {} if several else {end: str(axes.coords["time"][place]) for end, place in (("first", 0), ("last", -1))}
    data = {}
    for name, values in drawn.items():
        quantity = twin.quantities[name]
        told = {"units": unit_of(twin, quantity), "long_name": quantity.doc or name, QUANTITY: type(quantity).__name__}
        meter = getattr(quantity, "meter", None)
        told |= over | ({} if meter is None else {"meter": meter})
        data[name] = (("chain", "draw", *several), values.reshape(chains, -1, *values.shape[1:]), told)
    return xr.Dataset(data)


QUANTITY = "quantity"
"""The attribute by which a quantity of interest is known among predictions: its kind."""


def quantity_names(dataset: xr.Dataset) -> tuple[str, ...]:
    """Names of the quantities of interest among predictions."""
    return tuple(str(name) for name, values in dataset.data_vars.items() if QUANTITY in values.attrs)


def with_failures(dataset: xr.Dataset, axes: Axes) -> xr.Dataset:
    """Predicted trajectories with `num_failed`, how many paths have failed by each time, if any has.

    Args:
        dataset: As of `series_dataset`: a path is NaN from when its solve fails on.
        axes: Those of the result.
    """
    states = [str(name) for name in dataset.data_vars if str(name).endswith("_state")]
    sizes = (dataset.sizes["chain"], dataset.sizes["draw"], *axes.shape)
    gone = np.any([np.isnan(dataset[name].to_numpy()).reshape(*sizes, -1).any(axis=-1) for name in states], axis=0)
    own = np.ones(axes.shape, dtype=bool)
    if axes.places is not None:  # an experiment has times of its own
        experiment, _, place = axes.places
        own[:] = False
        own[experiment, place] = True
    counts = np.where(own, gone.sum(axis=(0, 1)), 0)
    if not counts.any():
        return dataset
    words = f"of {gone.shape[0] * gone.shape[1]} paths, those whose solve has failed by then"
    return dataset.assign(num_failed=(axes.dims, counts, {"long_name": words}))


def likelihood_dataset(
    found: Mapping[str, np.ndarray], bound: Bound, chains: int, draws: np.ndarray, experiments: tuple[str, ...] = ()
) -> xr.Dataset:
    """Log likelihood of each observation that is not missing.

    The dimension is `time` where all observations are present at the same times, else `time_<observation>`. Those of
    several experiments stand in one row, `experiment_time`, whose coordinates say which experiment and time each is of.

    Args:
        found: As `Predictor` returns it.
        bound: Telemetry; its observations are NaN where they are missing.
        chains: Number of chains.
        draws: Number of each draw kept.
        experiments: Their names, where there are several.
    """
    present = {name: np.isfinite(values) for name, values in bound.observations.items()}
    masks = list(present.values())
    shared = all((mask == masks[0]).all() for mask in masks)
    data, coords = {}, {}
    for name, mask in present.items():
        suffix = "" if shared else f"_{name}"
        dim = f"experiment_time{suffix}" if experiments else f"time{suffix}"
        values = found[f"log_likelihood/{name}"]
        values = values.reshape(chains, -1, *mask.shape)[..., mask]
        data[name] = (("chain", "draw", dim), values, {"long_name": f"log likelihood of {name}"})
        coords[f"time{suffix}"] = (dim, bound.labels[mask])
        if experiments:
            coords[f"experiment{suffix}"] = (dim, np.array(experiments)[np.nonzero(mask)[0]])
    return xr.Dataset(data, coords={"chain": np.arange(chains), "draw": draws, **coords})


def signals_dataset(specs: Mapping[str, Any], values: Mapping[str, np.ndarray], axes: Axes) -> xr.Dataset:
    """Observed data or inputs, with the units and words of their `Observation`, `Input` and so on."""
    data = {
        name: (axes.dims, axes.spread(array), {"units": specs[name].unit, "long_name": specs[name].doc or name})
        for name, array in values.items()
    }
    return xr.Dataset(data, coords=axes.coords)


def driven_dataset(twin: Twin, bound: Bound, axes: Axes) -> xr.Dataset:
    """What is known row by row beside the observations: inputs, events, and what noise takes from the telemetry."""
    specs = {**twin.inputs, **twin.events, **twin.noise_columns()}
    return signals_dataset(specs, {**bound.inputs, **bound.events, **bound.columns}, axes)


def _with_draws(dataset: xr.Dataset) -> xr.Dataset:
    sizes = dataset.sizes
    return dataset.assign_coords(chain=np.arange(sizes["chain"]), draw=np.arange(sizes["draw"]))


# The draws of a posterior bound to what its attributes say of them: twin, telemetry and seed vouch for no others.


class Bond(NamedTuple):
    """What a posterior records of its draws.

    Attributes:
        sha256: Hash of names, dimensions and values of the group `posterior`, see `content_sha256`.
        values: How many numbers these are.
    """

    sha256: str
    values: int


def content_sha256(draws: xr.Dataset) -> str:
    """Hash of the variables of a dataset: names, dimensions and values, in whatever order and layout they are held."""
    digest = hashlib.sha256()
    for name in sorted(map(str, draws.data_vars)):
        values = draws[name].transpose(*sorted(map(str, draws[name].dims)))
        array = np.ascontiguousarray(values.to_numpy(), dtype=values.dtype.newbyteorder("<"))
        digest.update(f"{name} {values.dims} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()


def bond(draws: xr.Dataset) -> dict[str, Any]:
    """What the attributes of a result are to say of its draws, so that others are told from them."""
    return {"posterior_sha256": content_sha256(draws), "posterior_values": _num_values(draws)}


def bond_of(tree: xr.DataTree) -> Bond | None:
    """What a result says of its draws; None of results from before that was recorded."""
    if "posterior_sha256" not in tree.attrs or "posterior_values" not in tree.attrs:
        return None
    return Bond(str(tree.attrs["posterior_sha256"]), int(tree.attrs["posterior_values"]))


def derived(tree: xr.DataTree) -> str:
    """How a posterior differs from what was calibrated, in words; empty where it does not, or that is not known."""
    told, draws = bond_of(tree), tree["posterior"].to_dataset()
    if told is None or content_sha256(draws) == told.sha256:
        return ""
    num = _num_values(draws)
    if num < told.values:
        return f"{num:,} of the {told.values:,} numbers that were calibrated are left, and nothing vouches for a part"
    return f"the draws are others than those that were calibrated (SHA-256 {told.sha256[:12]}…)"


def _num_values(draws: xr.Dataset) -> int:
    return sum(int(values.size) for values in draws.data_vars.values())
