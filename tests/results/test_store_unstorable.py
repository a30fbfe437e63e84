"""`save` refuses what `load` could not give back, and leaves the old file as it was."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from stored_files import small_result

from bayestwin import errors
from bayestwin.results.store import SCHEMA_VERSION, load, save


def posterior_with(variable: object, name: object = "x", dim: str = "d") -> xr.DataTree:
    """A tree with one variable in a group that is not checked for NaN."""
    return xr.DataTree.from_dict({"g": xr.Dataset({name: (dim, variable)})})


NOT_STORABLE = {
    "complex": posterior_with(np.zeros(2, complex)),
    "half": posterior_with(np.zeros(2, "f2")),
    "objects": posterior_with(np.array([1, "a"], object)),
    "mixed times": posterior_with(np.array([pd.Timestamp(0), pd.Timestamp(0, tz="UTC")], object)),
    "times and text": posterior_with(np.array([pd.Timestamp(0), "later"], object)),
    "text with NUL": posterior_with(np.array(["a\0b", "c"])),
    "lone surrogate": posterior_with(np.array(["\ud800", "c"])),
    "name with slash": xr.DataTree(xr.Dataset({"d": ("a/b", [1.0])})),
    "name of a number": posterior_with([1.0], name=3),
    "empty name": posterior_with([1.0], name=""),
    "name that ends in a blank": posterior_with([1.0], name="a "),
    "dot": posterior_with([1.0], name=".."),
    "dimension": posterior_with([1.0], dim="a\n"),
    "coordinate with a blank": xr.DataTree(xr.Dataset(coords={"a b": 1.0})),
    "two things to a name": xr.DataTree.from_dict({"/": xr.Dataset({"x": ("g", [1.0])}), "g": xr.Dataset()}),
    "levels": xr.DataTree(
        xr.Dataset(coords=xr.Coordinates.from_pandas_multiindex(pd.MultiIndex.from_tuples([(0, 1)]), "m"))
    ),
    "object attribute": xr.DataTree(xr.Dataset(attrs={"a": object()})),
    "date attribute": xr.DataTree(xr.Dataset(attrs={"a": np.datetime64("2024-01-01", "ns")})),
    "nested object": xr.DataTree(xr.Dataset(attrs={"a": {"b": [Path("x")]}})),
    "keys of numbers": xr.DataTree(xr.Dataset(attrs={"a": {1: 2}})),
    "name of an attribute": xr.DataTree(xr.Dataset(attrs={1: 2})),
    "attribute with NUL": xr.DataTree(xr.Dataset(attrs={"a": "b\0"})),
    "attribute with a lone surrogate": xr.DataTree(xr.Dataset(attrs={"a": ["\ud800"]})),
    "reserved by netCDF": xr.DataTree(xr.Dataset(attrs={"DIMENSION_LIST": "a"})),
    "reserved by xarray": xr.DataTree(xr.Dataset({"x": ("d", [1.0, 2.0], {"scale_factor": 2.0})})),
    "reserved by us": xr.DataTree(xr.Dataset(attrs={"json_attributes": "a"})),
    "numbers that would become dates": xr.DataTree(
        xr.Dataset({"x": ("time", [0.5, 1.5], {"units": "days since 2000-01-01"})})
    ),
    "units since nothing": xr.DataTree(xr.Dataset({"x": ("time", [0.5, 1.5], {"units": "hours since start"})})),
    "units that clash": xr.DataTree(xr.Dataset({"x": ("d", np.zeros(2, "M8[ns]"), {"units": "s"})})),
    "newer schema": small_result(schema_version=SCHEMA_VERSION + 1),
    "schema of text": small_result(schema_version="1"),
    "not a tree": xr.Dataset(),
    "nothing": None,
}


@pytest.mark.parametrize("what", NOT_STORABLE)
def test_what_would_not_come_back_is_not_saved(tmp_path, what):
    path = tmp_path / "posterior.nc"
    old = save(small_result(), path).read_bytes()
    with pytest.raises(errors.InvalidInput) as caught:
        save(NOT_STORABLE[what], path)
    assert "Expected:" in str(caught.value)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["posterior.nc"]


def test_a_posterior_that_is_not_finite_is_not_saved(tmp_path):
    tree = small_result()
    tree["posterior"]["beta"][0, 7] = np.nan
    with pytest.raises(errors.InvalidInput, match=r"`beta` \(1 of 3000 values\)"):
        save(tree, tmp_path / "posterior.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_without_a_schema_gets_ours(tmp_path):
    tree = small_result()
    del tree.attrs["schema_version"]
    assert load(save(tree, tmp_path / "posterior.nc")).attrs["schema_version"] == SCHEMA_VERSION
    assert "schema_version" not in tree.attrs
