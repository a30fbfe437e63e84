"""Arrays of sensitivities → xarray datasets with named dimensions, the user's times, units and words."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin.density.density import Density
from bayestwin.insight.marginals import Marginal
from bayestwin.insight.sobol import Indices
from bayestwin.results.schema import Axes

ORDERS = ("first", "total")

MAX_WIDTH = 0.3
"""An interval of an index over all times that is wider than this says little: of a prior with long tails, a few points
make most of the variance, and even the intervals miss it."""


class Setting(NamedTuple):
    """What predictions are of: the twin with its times, and how these become dimensions."""

    density: Density
    axes: Axes

    @property
    def present(self) -> np.ndarray:
        """Which of the times of the density are real; shape (T,), or (E, T), where short experiments are padded."""
        labels = self.density.bound.labels
        return np.isfinite(labels) if self.density.experiments else np.ones(len(labels), dtype=bool)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values at the times that are present, shape (…, M), as an array whose last axes are those of the result."""
        whole = np.full((*values.shape[:-1], *self.present.shape), np.nan)
        whole[..., self.present] = values
        return self.axes.spread(whole)


def sobol_dataset(
    setting: Setting,
    quantities: tuple[str, ...],
    estimates: Mapping[str, tuple[Indices, Indices, Indices]],
    joint_sd: Mapping[str, np.ndarray],
) -> xr.Dataset:
    """The group `sobol`.

    Args:
        setting: The twin and its times.
        quantities: Names, in the order of the indices.
        estimates: By observation: the indices, and the ends of their intervals.
        joint_sd: By observation, standard deviations in the posterior itself; without any where there is none.
    """
    dims = ("order", "observation", "quantity")
    found: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}
    for part, (end, words) in enumerate((("", ""), ("_lower", "lower end of "), ("_upper", "upper end of "))):
        each = np.stack([setting.spread(estimate[part].each) for estimate in estimates.values()], axis=1)
        overall = np.stack([estimate[part].overall for estimate in estimates.values()], axis=1)
        found[f"sobol{end}"] = ((*dims, *setting.axes.dims), each, {"long_name": f"{words}Sobol index"})
        found[f"overall{end}"] = (dims, overall, {"long_name": f"{words}Sobol index over all times"})
    wide = (found["overall_upper"][1] - found["overall_lower"][1]).max(axis=(0, 2))
    words = f"whether no interval over all times is wider than {MAX_WIDTH:g}"
    found["reliable"] = (("observation",), wide <= MAX_WIDTH, {"long_name": words})
    varying = ("observation", *setting.axes.dims)
    sd = np.stack([setting.spread(estimate[0].sd) for estimate in estimates.values()])
    found["sd"] = (varying, sd, {"long_name": "standard deviation of the prediction, quantities independent"})
    if joint_sd:
        whole = np.stack([setting.axes.spread(joint_sd[name]) for name in estimates])
        found["joint_sd"] = (varying, whole, {"long_name": "standard deviation of the prediction in the posterior"})
    return xr.Dataset(found, coords={"order": list(ORDERS)} | _coords(setting, quantities, tuple(estimates)))


def local_dataset(
    setting: Setting,
    slopes: Mapping[str, np.ndarray],
    centre: Mapping[str, np.ndarray],
    marginals: Mapping[str, Marginal],
) -> xr.Dataset:
    """The group `local`.

    Args:
        setting: The twin and its times.
        slopes: By observation, derivatives with respect to the quantities; shape (d, T) or (d, E, T).
        centre: By quantity, where they were taken.
        marginals: By quantity, how far it varies.
    """
    shape = setting.present.shape[:-1]
    own = ("quantity", *setting.axes.dims[:-1])
    at = np.stack([np.broadcast_to(value, shape) for value in centre.values()])
    scale = np.stack([np.broadcast_to(marginal.spread, shape) for marginal in marginals.values()])
    dims = ("observation", "quantity", *setting.axes.dims)
    derivative = np.stack([setting.axes.spread(array) for array in slopes.values()])
    found = xr.Dataset(
        {
            "derivative": (dims, derivative, {"long_name": "derivative of the prediction by the quantity"}),
            "centre": (own, at, {"long_name": "value at which the derivative is taken"}),
            "scale": (own, scale, {"long_name": "standard deviation of the quantity"}),
        },
        coords=_coords(setting, tuple(centre), tuple(slopes)),
    )
    words = "change of the prediction for one standard deviation of the quantity"
    scaled = (found["derivative"] * found["scale"]).transpose(*dims)
    found["scaled"] = scaled.assign_attrs(long_name=words)
    found["scaled_rms"] = _rms(scaled, setting).assign_attrs(long_name=f"{words}, root mean square over time")
    return found


def _rms(scaled: xr.DataArray, setting: Setting) -> xr.DataArray:
    """Over all times that there are; NaN where one of these is NaN."""
    there = xr.DataArray(setting.spread(np.ones(int(setting.present.sum()))), dims=setting.axes.dims).notnull()
    squares = (scaled**2).where(there, 0.0)
    return (squares.sum(setting.axes.dims, skipna=False) / int(there.sum())) ** 0.5


def _coords(setting: Setting, quantities: tuple[str, ...], observations: tuple[str, ...]) -> dict[str, object]:
    twin = setting.density.twin
    unit = {site.name: site.unit for site in setting.density.sites}
    return {
        "observation": list(observations),
        "quantity": list(quantities),
        "units": ("observation", [twin.observations[name].unit for name in observations]),
        "quantity_units": ("quantity", [unit[name] for name in quantities]),
        **setting.axes.coords,
    }
