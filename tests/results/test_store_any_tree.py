"""Any tree of numbers, booleans, times and text comes back to the bit; an odd one does too, or is refused."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_files import assert_same

from bayestwin import errors
from bayestwin.results.store import SCHEMA_VERSION, load, save

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text("abzAZ_019αé", min_size=1, max_size=6).filter(str.isidentifier)
ATTRIBUTES = st.dictionaries(NAMES, JSON, max_size=4)
# What is odd: names and text of any kind, and names that HDF5, netCDF or xarray keep for themselves.
RESERVED = ["dtype", "calendar", "_FillValue", "scale_factor", "coordinates", "NAME", "json_attributes", "time_zone"]
ODD_NAMES = NAMES | st.text(min_size=1, max_size=4).filter(lambda name: "/" not in name)
ODD_ATTRIBUTES = st.dictionaries(
    st.text(max_size=3) | st.sampled_from(["units", *RESERVED]),
    JSON | st.text(max_size=3) | st.sampled_from(["s since start", "days since 2000-01-01", "bool", "a"]),
    max_size=2,
)
NUMBERS = ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
TIMES_AND_TEXT = ["M8[s]", "M8[ms]", "M8[us]", "M8[ns]", "m8[s]", "m8[ns]", "U"]
DTYPES = st.sampled_from(NUMBERS + TIMES_AND_TEXT)


@st.composite
def variables(draw: st.DrawFn, sizes: dict[str, int], attributes: st.SearchStrategy) -> xr.Variable:
    """A variable along some of the dimensions, with any bits, NaN and NaT among them."""
    dims = draw(st.permutations(list(sizes)))[: draw(st.integers(0, len(sizes)))]
    shape = tuple(sizes[dim] for dim in dims)
    dtype = np.dtype(draw(DTYPES))
    count = int(np.prod(shape))
    if dtype.kind == "U":
        texts = draw(st.lists(TEXT, min_size=count, max_size=count))
        values = np.array(texts, dtype=str).reshape(shape)
    elif dtype.kind == "b":
        values = draw(st.integers(0, 1)) == np.arange(count).reshape(shape) % 2
    else:
        raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        values = np.frombuffer(raw, dtype).reshape(shape).copy()
        if dtype.kind == "M":  # xarray refuses years beyond 9999, and nanoseconds more than 292 years apart
            values = values.view("i8") // (4 if dtype == np.dtype("M8[ns]") else 2**30)
            values = values.view(dtype)
        if count and dtype.kind in "mM" and draw(st.booleans()):
            values.flat[0] = "NaT"
    return xr.Variable(dims, values, draw(attributes))


@st.composite
def trees(draw: st.DrawFn, names: st.SearchStrategy, attributes: st.SearchStrategy) -> xr.DataTree:
    """A tree of up to three groups, some empty, with coordinates of several kinds."""
    groups = {"/": xr.Dataset(attrs={**draw(attributes), "schema_version": SCHEMA_VERSION})}
    for group in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        sizes = draw(st.dictionaries(names, st.integers(0, 3), max_size=3))
        held_names = draw(st.lists(names, max_size=4, unique=True))
        held = {name: draw(variables(sizes, attributes)) for name in held_names if name not in sizes}
        dataset = xr.Dataset(held, attrs=draw(attributes))
        for dim in dataset.sizes:
            if draw(st.booleans()):
                kind = draw(st.sampled_from(["f8", "f4", "i8", "i2", "U", "M8[ns]"]))
                coordinate = np.arange(dataset.sizes[dim]).astype(object).astype(kind)
                dataset = dataset.assign_coords({dim: xr.Variable([dim], coordinate, draw(attributes))})
        dataset = dataset.set_coords([name for name in held if draw(st.booleans())])
        groups[group] = dataset
    return xr.DataTree.from_dict(groups)


@pytest.mark.thorough
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(trees(NAMES, ATTRIBUTES))
def test_any_tree_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.nc"
    assert_same(load(save(tree, path)), tree)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(trees(ODD_NAMES, ODD_ATTRIBUTES))
@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
def test_an_odd_tree_comes_back_or_is_refused(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "odd.nc"
    try:
        save(tree, path)
    except errors.InvalidInput:
        return
    assert_same(load(path), tree)
