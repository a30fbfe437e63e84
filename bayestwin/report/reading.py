"""A result cut into stretches of time: what was calibrated on, and what was forecast or held out after it."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.dates import date2num

from bayestwin.assess import intervals
from bayestwin.assess.recorded import record
from bayestwin.report.style import LIGHT
from bayestwin.telemetry import Telemetry

PROBS = (0.5, 0.9)
"""Nominal probabilities of the bands in pictures over time, the narrow one first."""


class TimeAxis(NamedTuple):
    """How time is written: as dates, or as numbers in `unit`."""

    dated: bool
    unit: str


class Part(NamedTuple):
    """One stretch of time.

    Attributes:
        label: `calibration`, `held out`, or `forecast` where nothing was held out.
        colour: Of its bands.
        names: The observations.
        bands: Median and intervals by observation (see `assess.intervals`); None where none were predicted.
        hidden: The same for states that are not observed; None where there are none.
        discrepancy: The same for discrepancies, as `<observation>_discrepancy`; None where there are none.
        observed: Observations (time), NaN where missing; without variables where there are none.
        inputs: Inputs (time); without variables where there are none.
        draws: Predictive draws (chain, draw, time); without variables where there are none.
    """

    label: str
    colour: str
    names: tuple[str, ...]
    bands: xr.Dataset | None
    hidden: xr.Dataset | None
    discrepancy: xr.Dataset | None
    observed: xr.Dataset
    inputs: xr.Dataset
    draws: xr.Dataset

    def between(self, window: tuple[float, float] | None) -> "Part":
        """The part whose times, as numbers, lie in `window`; the whole for None."""
        if window is None:
            return self
        found = {name: getattr(self, name) for name in ("bands", "hidden", "discrepancy", "observed", "inputs")}
        return self._replace(**{name: None if data is None else _cut(data, window) for name, data in found.items()})


def split(posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None) -> tuple[Part, ...]:
    """The calibration part and, if there is a forecast or held-out telemetry, the part after it.

    Args:
        posterior: Result of `calibrate`.
        forecast: Result of `predict`, or None.
        validation: Telemetry that was held out, or None.
    """
    observed = group(posterior, "observed_data")
    names = tuple(str(name) for name in observed.data_vars)
    holds = {entry["name"]: entry.get("hold", "") for entry in record(posterior, "description").get("inputs", ())}
    calibrated = _part("calibration", LIGHT["calibrated"], posterior, names, observed)
    first = calibrated._replace(inputs=_held(group(posterior, "constant_data"), holds))
    if forecast is None and validation is None:
        return (first,)
    table = xr.Dataset() if validation is None else _signals(validation, posterior)
    label = "forecast" if validation is None else "held out"
    later = _part(label, LIGHT["heldout"], forecast, names, table[[name for name in names if name in table]])
    inputs = group(forecast, "predictions_constant_data")
    if not inputs.data_vars:
        inputs = table[[name for name in holds if name in table]]
    return (first, later._replace(inputs=_held(inputs, holds)))


def _signals(telemetry: Telemetry, posterior: xr.DataTree) -> xr.Dataset:
    """Observations and inputs of telemetry, in the units of the posterior."""
    known = {**group(posterior, "observed_data").data_vars, **group(posterior, "constant_data").data_vars}
    columns = [name for name in known if name in telemetry.table.columns]
    values = {name: ("time", telemetry.in_unit(str(name), known[name].attrs.get("units", ""))) for name in columns}
    return xr.Dataset(values, coords={"time": telemetry.table.index.to_numpy()})


def time_axis(posterior: xr.DataTree) -> TimeAxis:
    """Whether the user's times are dates, and the unit of times that are numbers."""
    time = posterior["observed_data"]["time"].to_numpy()
    told = posterior.attrs.get("telemetry_time_unit")  # of several experiments by name: their times are the twin's
    unit = told if isinstance(told, str) else posterior.attrs.get("time_unit", "")
    return TimeAxis(bool(np.issubdtype(time.dtype, np.datetime64)), str(unit))


def as_numbers(time: xr.DataArray) -> np.ndarray:
    """Times as matplotlib counts them, shape (time,)."""
    values = time.to_numpy()
    return date2num(values) if np.issubdtype(values.dtype, np.datetime64) else values.astype(float)


def group(tree: xr.DataTree | None, name: str) -> xr.Dataset:
    """One group of a result; an empty dataset where it is missing."""
    return tree[name].to_dataset() if tree is not None and name in tree.children else xr.Dataset()


def _part(label: str, colour: str, tree: xr.DataTree | None, names: tuple[str, ...], observed: xr.Dataset) -> Part:
    draws = group(tree, "predictions" if label != "calibration" else "posterior_predictive")
    bands = intervals(xr.DataTree.from_dict({"predictions": draws}), prob=PROBS) if draws.data_vars else None
    states = [str(name).removesuffix("_state") for name in draws.data_vars if str(name).endswith("_state")]
    hidden = _noiseless({state: draws[f"{state}_state"] for state in states if state not in names})
    errors = [f"{name}_discrepancy" for name in names]
    discrepancy = _noiseless({name: draws[name] for name in errors if name in draws})
    return Part(label, colour, names, bands, hidden, discrepancy, observed, xr.Dataset(), draws)


def _noiseless(draws: dict[str, xr.DataArray]) -> xr.Dataset | None:
    """Intervals of what is inferred and has no noise of its own; None where there is nothing."""
    if not draws:
        return None
    # `intervals` knows what to read by its noise-free twin.
    twice = draws | {f"{name}_noise_free": values for name, values in draws.items()}
    return intervals(xr.DataTree.from_dict({"predictions": xr.Dataset(twice)}), prob=PROBS, of="noise_free")


def _held(inputs: xr.Dataset, holds: dict[str, str]) -> xr.Dataset:
    """Inputs with the way each is held between samples as an attribute."""
    marked = {name: values.assign_attrs(hold=holds.get(str(name), "")) for name, values in inputs.data_vars.items()}
    return inputs.assign(marked)


def _cut(dataset: xr.Dataset, window: tuple[float, float]) -> xr.Dataset:
    if "time" not in dataset.coords:
        return dataset
    time = as_numbers(dataset["time"])
    return dataset.isel(time=np.flatnonzero((time >= window[0]) & (time <= window[1])))
