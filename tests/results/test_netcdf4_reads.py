"""The netCDF library reads every kind of file that we write, and finds in it what was put there."""

import pathlib

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt


def trees() -> dict[str, xr.DataTree]:
    """A posterior with groups and words, a forecast at dates, and a table with names along a dimension."""
    rng = np.random.default_rng(3)
    draws = xr.Dataset(
        {"rate": (("chain", "draw"), rng.normal(size=(2, 5)), {"units": "1/h"})},
        coords={"chain": [0, 1], "draw": np.arange(5)},
    )
    stats = xr.Dataset({"diverging": (("chain", "draw"), rng.random((2, 5)) < 0.5)})
    times = pd.date_range("2026-03-28", periods=4, freq="h")
    level = xr.Dataset(
        {"level": (("chain", "draw", "time"), rng.normal(size=(2, 5, 4)))}, coords={"time": times, "chain": [0, 1]}
    )
    named = xr.Dataset(
        {"coverage": (("observation", "prob"), rng.random((2, 2)))},
        coords={"observation": ["hare °C", "lynx"], "prob": [0.5, 0.9]},
    )
    attributes = {"twin": "tank", "job": {"calibrate": {"seed": 0}}, "seed": 0, "interrupted": False}
    posterior = xr.DataTree.from_dict({"/": None, "posterior": draws, "sample_stats": stats})
    posterior.attrs = attributes
    return {
        "posterior": posterior,
        "predictions": xr.DataTree.from_dict({"predictions": level}),
        "table": xr.DataTree(named),
    }


@pytest.mark.parametrize("kind", ["posterior", "predictions", "table"])
def test_the_library_reads_what_was_written(tmp_path: pathlib.Path, kind: str) -> None:
    tree, path = trees()[kind], tmp_path / "file.nc"
    bt.save(tree, path)
    with netCDF4.Dataset(path) as file:
        assert file.data_model == "NETCDF4"
        for node in tree.subtree:
            group = file if node.path == "/" else file[node.path]
            for name, variable in node.to_dataset(inherit=False).variables.items():
                stored = group[name]
                assert stored.dimensions == variable.dims
                values = stored[...]
                if variable.dtype.kind == "M":
                    read = netCDF4.num2date(values, stored.units, stored.calendar, only_use_cftime_datetimes=False)
                    np.testing.assert_array_equal(np.asarray(read, "M8[ns]"), variable.values)
                else:
                    np.testing.assert_array_equal(np.asarray(values, variable.dtype), variable.values)
                assert getattr(stored, "units", None) == variable.attrs.get("units", getattr(stored, "units", None))
