"""Backtests laid flat: forecasts from many origins as points in one row, and back again."""

from __future__ import annotations

import numpy as np
import xarray as xr

AXES = ("origin", "horizon")


def flat(dataset: xr.Dataset) -> xr.Dataset:
    """Lay forecasts from several origins in one row, origin after origin; anything else stays as it is.

    Args:
        dataset: Variables (…, origin, horizon), and the user's time of each forecast as coordinate `time`, missing
            where an origin has no such horizon. Of one origin or horizon alone that dimension may be absent.

    Returns:
        Variables (…, time), where `time` numbers the points and `label`, `origin` and `horizon` say what they are.
    """
    if any(axis not in dataset.coords for axis in AXES):
        return dataset
    whole = dataset.expand_dims([axis for axis in AXES if axis not in dataset.dims])
    row = whole.rename(time="label").stack(time=AXES, create_index=False)
    return row.assign_coords(time=np.arange(row.sizes["time"]))


def by_origin(row: xr.Dataset) -> xr.Dataset:
    """Put points back where `flat` took them from; what has no such points stays as it is."""
    if any(axis not in row.coords for axis in AXES):
        return row
    attrs = {axis: row[axis].attrs for axis in AXES}
    found = row.drop_vars("time").set_index(time=AXES).unstack("time").rename(label="time")
    for axis in AXES:
        found[axis].attrs = attrs[axis]
    return found
