"""Predictive draws read from a result as plain arrays, and joined with telemetry at exactly equal times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

NOISE_FREE = "_noise_free"
"""Suffix of the variable that holds an observation's value without observation noise."""


class Observed(NamedTuple):
    """What telemetry holds of one observation, at the times of a forecast.

    Attributes:
        positions: Places on the forecast's time axis, shape (n,).
        values: The observations there, shape (n,), none of them NaN.
    """

    positions: np.ndarray
    values: np.ndarray


def predictive(tree: xr.DataTree) -> tuple[str, xr.Dataset]:
    """Name and content of the group that holds predictive draws: `predictions`, else `posterior_predictive`.

    Raises:
        InvalidInput: The tree has neither group, or the group has no observation.
    """
    for group in ("predictions", "posterior_predictive"):
        if group in tree.children:
            dataset = tree[group].to_dataset()
            if not observations(dataset):
                raise errors.InvalidInput(
                    errors.explain(
                        f"The group `{group}` holds no observation.",
                        expected=f"pairs of variables such as `indoor` and `indoor{NOISE_FREE}`",
                        received=", ".join(str(name) for name in dataset.data_vars) or "an empty group",
                        advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
                    )
                )
            if 0 in (dataset.sizes.get("chain", 0), dataset.sizes.get("draw", 0)):
                raise errors.InvalidInput(
                    errors.explain(
                        f"The group `{group}` holds no draws.",
                        expected="variables (chain, draw, time) with at least one draw",
                        received=f"{dict(dataset.sizes)}",
                        advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
                    )
                )
            return group, dataset
    raise errors.InvalidInput(
        errors.explain(
            "The result holds no predictive draws.",
            expected="a group `predictions` (from `predict`) or `posterior_predictive` (from `calibrate`)",
            received=", ".join(tree.children) or "a tree without groups",
            advice="Pass what `predict` or `calibrate` returned, or a file that `save` wrote.",
        )
    )


def observations(dataset: xr.Dataset) -> tuple[str, ...]:
    """Names of the observations: the variables that also have a noise-free version."""
    return tuple(str(name) for name in dataset.data_vars if f"{name}{NOISE_FREE}" in dataset.data_vars)


def samples(dataset: xr.Dataset, variable: str) -> np.ndarray:
    """All chains' draws of one variable, shape (time, samples); what is not finite becomes NaN."""
    table = dataset[variable].transpose("time", "chain", "draw").to_numpy().astype(float)
    table = table.reshape(table.shape[0], -1)
    table[~np.isfinite(table)] = np.nan
    return table


def units(dataset: xr.Dataset, names: tuple[str, ...]) -> xr.DataArray:
    """Unit of each observation as text, empty where none is known; dimension `observation`."""
    return xr.DataArray([str(dataset[name].attrs.get("units", "")) for name in names], dims="observation")


def observed(dataset: xr.Dataset, telemetry: Telemetry, name: str) -> Observed:
    """The observations `name` of the telemetry, placed on the dataset's times.

    Times are joined where they are exactly equal: a join that rounds or drops would count wrong pairs. Values are
    converted to the forecast's unit.

    Raises:
        InvalidTelemetry: An observation at a time that is not in the forecast, or in a unit of another dimension.
        InvalidInput: The forecast holds a time twice.
    """
    times = pd.Index(dataset["time"].to_numpy())
    if not times.is_unique:
        raise errors.InvalidInput(
            errors.explain(
                "The forecast holds a time twice.",
                expected="every time once",
                received=f"{times[times.duplicated()][0]} more than once",
                advice="Predict at each time once.",
            )
        )
    if name not in telemetry.table.columns:
        return Observed(np.empty(0, dtype=int), np.empty(0))
    values = telemetry.in_unit(name, str(dataset[name].attrs.get("units", "")))
    column = pd.Series(values, index=telemetry.table.index).dropna()
    positions = times.get_indexer(column.index)
    if np.any(positions < 0):
        strays = column.index[positions < 0]
        raise errors.InvalidTelemetry(
            errors.explain(
                f"`{name}` was observed at {strays[0]}, a time that is not in the forecast.",
                expected=f"times exactly equal to some of the forecast's {len(times)} ({_ends(times)})",
                received=f"{len(strays)} of {len(column)} observations at other times ({_ends(strays)})",
                advice="Predict at the times of this telemetry, or pass the part of it that was predicted.",
            )
        )
    return Observed(positions, column.to_numpy(dtype=float))


def require_some(pairs: dict[str, Observed], telemetry: Telemetry) -> None:
    """Raise where none of the observations of a forecast was observed.

    Raises:
        InvalidTelemetry: Not one observation to compare the forecast with.
    """
    if any(pair.values.size for pair in pairs.values()):
        return
    columns = ", ".join(f"`{column}`" for column in telemetry.table.columns) or "none"
    raise errors.InvalidTelemetry(
        errors.explain(
            "The telemetry holds nothing to compare the forecast with.",
            expected=f"values of {', '.join(f'`{name}`' for name in pairs)}",
            received=f"{len(telemetry.table)} rows with the columns {columns}, and no such value in them",
            advice="Pass telemetry of the predicted times, its columns named as the twin's observations.",
        )
    )


def _ends(times: pd.Index) -> str:
    return f"{times[0]} to {times[-1]}" if len(times) else "none"
