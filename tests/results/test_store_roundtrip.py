"""What `save` wrote, `load` gives back: bits, dtypes, names, orders, attributes; others read the file too."""

import datetime as dt
import hashlib
import os
import shutil
import subprocess
import time
import zoneinfo
from pathlib import Path

import arviz as az
import h5py
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from stored_files import assert_attributes, assert_same

from bayestwin.results.store import SCHEMA_VERSION, load, save

CHAINS, DRAWS, TIMES = 2, 50, 30
ROOT = {
    "bayestwin_version": "0.1.0",
    "schema_version": SCHEMA_VERSION,
    "twin": "räum",
    "twin_sha256": "ab" * 32,
    "seed": 0,
    "job": "{}",
    "t0": "",
    "description": {
        "name": "räum",
        "equations": 'def vector_field(t, x, p, u):\n    """Heat °C."""\n    return {"a": -x.a}\n',
        "states": [{"name": "a", "unit": "degC", "doc": "", "initial": "Normal(25, 7)"}],
        "inputs": [],
    },
    "starts": {"drawn": 64, "failed": 3, "log_density": [-1.5, float("-inf"), float("nan")]},
    "interrupted": False,
    "parent": None,
    "tolerance": 0.1,
    "largest": 2**63 - 1,
    "beyond": 2**64,
}


def result() -> xr.DataTree:
    """A tree as `calibrate` returns it."""
    rng = np.random.default_rng(1)
    draws = {"chain": np.arange(CHAINS), "draw": np.arange(DRAWS)}
    clock = pd.date_range("2024-03-01 00:00:00.123456789", periods=TIMES, freq="15min", unit="ns")
    sampled, over_time = ("chain", "draw"), ("chain", "draw", "time")

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape)

    gaps = normal(TIMES)
    gaps[3:7] = np.nan
    groups = {
        "/": xr.Dataset(attrs=ROOT),
        "posterior": xr.Dataset(
            {
                "R_out": (
                    sampled,
                    normal(CHAINS, DRAWS),
                    {"units": "K/W", "long_name": "envelope to outdoor"},
                ),
                "delay": (sampled, normal(CHAINS, DRAWS), {"units": "s"}),
                "period": (sampled, normal(CHAINS, DRAWS), {"units": "days"}),
            },
            draws,
        ),
        "sample_stats": xr.Dataset(
            {
                "diverging": (
                    sampled,
                    rng.random((CHAINS, DRAWS)) < 0.1,
                    {"long_name": "diverging", "units": "1"},
                ),
                "n_steps": (sampled, rng.integers(1, 8, (CHAINS, DRAWS))),
                "lp": (sampled, normal(CHAINS, DRAWS)),
            },
            draws,
        ),
        "prior": xr.Dataset(),
        "posterior_predictive": xr.Dataset(
            {"indoor": (over_time, normal(CHAINS, 5, TIMES), {"units": "degC"})},
            {
                "chain": np.arange(CHAINS),
                "draw": np.arange(5) * 10,
                "time": ("time", clock, {"long_name": "time"}),
            },
        ),
        "observed_data": xr.Dataset({"indoor": ("time", gaps, {"units": "degC"})}, {"time": clock}),
        "constant_data": xr.Dataset({"outdoor": ("time", normal(TIMES))}, {"time": np.arange(TIMES) * 0.1}),
    }
    return xr.DataTree.from_dict(groups)


def test_a_result_comes_back_identical(tmp_path):
    tree = result()
    path = save(tree, tmp_path / "posterior.nc")
    assert path == tmp_path / "posterior.nc"
    assert_same(load(path), tree)
    xr.testing.assert_identical(load(path)["posterior"].to_dataset(), tree["posterior"].to_dataset())
    assert list(load(path).attrs) == list(ROOT)


def test_saving_changes_nothing_in_memory(tmp_path):
    tree = result()
    save(tree, tmp_path / "posterior.nc")
    assert_same(tree, result())


def test_the_same_tree_gives_the_same_bytes_at_another_time(tmp_path):
    first = save(result(), tmp_path / "first.nc").read_bytes()
    time.sleep(1.1)  # HDF5 counts seconds
    assert save(result(), tmp_path / "second.nc").read_bytes() == first
    assert save(load(tmp_path / "first.nc"), tmp_path / "third.nc").read_bytes() == first


def test_the_last_line_is_the_sum_of_all_before(tmp_path):
    data = save(result(), tmp_path / "posterior.nc").read_bytes()
    body, line = data[:-83], data[-83:]
    assert line == b"\nbayestwin sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def test_arviz_and_xarray_read_the_file_without_our_help(tmp_path):
    tree = result()
    path = save(tree, tmp_path / "posterior.nc")
    with xr.open_datatree(path) as opened:
        summary = az.summary(opened)
        assert list(summary.index) == ["R_out", "delay", "period"]
        xr.testing.assert_equal(opened.load(), tree)
        assert opened["posterior"]["period"].attrs["units"] == "days"
        assert opened["sample_stats"]["diverging"].dtype == bool
        assert opened.attrs["twin"] == "räum"
    assert list(az.summary(load(path)).index) == list(summary.index)


def test_netcdf_reads_groups_dimensions_and_values(tmp_path):
    tree = result()
    path = save(tree, tmp_path / "posterior.nc")
    with netCDF4.Dataset(path) as opened:
        assert list(opened.groups) == [name for name in tree.children]
        assert opened["posterior"]["R_out"].dimensions == ("chain", "draw")
        np.testing.assert_array_equal(opened["posterior"]["R_out"][...], tree["posterior"]["R_out"].values)
        assert "_FillValue" not in opened["observed_data"]["indoor"].ncattrs()


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="needs ncdump, in Debian's netcdf-bin")
def test_the_header_reads_well_in_ncdump(tmp_path):
    path = save(result(), tmp_path / "posterior.nc")
    text = subprocess.run(["ncdump", "-h", path], capture_output=True, text=True, check=True).stdout
    lines = {line.strip() for line in text.splitlines()}
    for line in (
        'string :twin = "räum" ;',
        ":seed = 0LL ;",
        'string :interrupted = "false" ;',
        "double R_out(chain, draw) ;",
        'string R_out:units = "K/W" ;',
        "draw = 50 ;",
        "int64 time(time) ;",
        'string time:units = "nanoseconds since 1970-01-01" ;',
    ):
        assert line in lines, line
    assert "Heat °C." in text
    assert "_FillValue" not in text
    assert text.index("group: posterior {") < text.index("group: sample_stats {") < text.index("group: prior {")


def test_no_handle_stays_open(tmp_path):
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("needs /proc")
    save(result(), tmp_path / "posterior.nc")
    before = {os.readlink(handle) for handle in handles.iterdir() if handle.exists()}
    loaded = load(tmp_path / "posterior.nc")
    after = {os.readlink(handle) for handle in handles.iterdir() if handle.exists()}
    assert after == before
    (tmp_path / "posterior.nc").unlink()
    assert np.isfinite(loaded["posterior"]["R_out"].values).all()


def test_times_with_a_zone_become_utc(tmp_path):
    paris = pd.date_range("2024-03-31 00:00", periods=5, freq="h", tz="Europe/Paris")
    python = [stamp.to_pydatetime() for stamp in paris]
    python[2] = dt.datetime(2024, 3, 31, 0, 0, tzinfo=zoneinfo.ZoneInfo("UTC"))
    tree = xr.DataTree.from_dict(
        {
            "observed_data": xr.Dataset(
                {"seen": ("time", np.array(python, dtype=object))},
                {"time": paris, "first": paris[0], "other": ("time", paris + pd.Timedelta("1s"))},
            )
        }
    )
    data = load(save(tree, tmp_path / "times.nc"))["observed_data"]
    utc = paris.tz_convert("UTC").tz_localize(None).to_numpy()
    for name, expected in {"time": utc, "other": utc + np.timedelta64(1, "s"), "first": utc[0]}.items():
        np.testing.assert_array_equal(data[name].values, expected)
        assert data[name].dtype.kind == "M"
        assert data[name].attrs == {"time_zone": "UTC"}
    assert data["seen"].values[2] == np.datetime64("2024-03-31T00:00")
    assert data["seen"].attrs == {"time_zone": "UTC"}
    assert set(data.coords) == {"time", "first", "other"}


def test_groups_inherit_and_nest(tmp_path):
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"weight": (("step", "asset"), np.eye(2))}, {"asset": ["b", "a"]}),
            "/z": xr.Dataset({"gain": (("lag", "asset"), np.ones((3, 2)))}),
            "/z/deep": xr.Dataset({"gain": (("asset", "lag"), np.ones((2, 3)))}),
            "/a": xr.Dataset({"gain": (("asset", "lag"), np.ones((2, 4)))}, {"lag": np.arange(4.0)}),
            "/b": xr.Dataset({"gain": ("step", [0.5, 1.5])}, {"step": [10, 20]}),
        }
    )
    tree.attrs = {"schema_version": SCHEMA_VERSION}
    loaded = load(save(tree, tmp_path / "nested.nc"))
    xr.testing.assert_identical(loaded, tree)
    assert_same(loaded, tree)
    with xr.open_datatree(tmp_path / "nested.nc") as opened:
        xr.testing.assert_equal(opened.load(), tree)
    part = load(save(tree["z"], tmp_path / "part.nc"))
    assert part["asset"].values.tolist() == ["b", "a"]
    assert list(part.children) == ["deep"]


def test_numbers_of_numpy_and_tuples_come_back_as_pythons(tmp_path):
    tree = xr.DataTree(xr.Dataset(attrs={"a": np.int32(3), "b": np.float64(0.1), "c": np.bool_(True), "d": (1, "x")}))
    tree.attrs |= {"e": np.arange(3), "f": {"g": np.array([0.5])}, "schema_version": np.int64(1)}
    assert_attributes(
        load(save(tree, tmp_path / "attributes.nc")).attrs,
        {"a": 3, "b": 0.1, "c": True, "d": [1, "x"], "e": [0, 1, 2], "f": {"g": [0.5]}, "schema_version": 1},
    )


def test_text_of_many_kinds_comes_back(tmp_path):
    texts = ["", " ", "\n", "null", "3", "°C", "é", "e\u0301", "x" * 100_000, "€" * 100_000]
    attributes = {f"text{index}": text for index, text in enumerate(texts)} | {
        "nested": [*texts, "\0", "a\0b", "ends\0"],
        "keys": dict.fromkeys(texts),
    }
    tree = xr.DataTree(xr.Dataset({"label": ("name", texts), "one": "°C"}, attrs=attributes))
    tree.attrs["schema_version"] = SCHEMA_VERSION
    assert_same(load(save(tree, tmp_path / "texts.nc")), tree)
    objects = tree.copy()
    objects["label"] = objects["label"].astype(object)
    assert_same(load(save(objects, tmp_path / "objects.nc")), tree)


def test_what_a_file_once_said_of_values_is_not_applied_again(tmp_path):
    tree = result()
    tree["posterior"]["R_out"].encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -1}
    tree["observed_data"]["time"].encoding = {"units": "days since 2000-01-01", "dtype": "int64"}
    assert_same(load(save(tree, tmp_path / "posterior.nc")), result())


def test_a_variable_may_have_the_name_of_another_ones_dimension(tmp_path):
    tree = xr.DataTree(xr.Dataset({"x": ("y", [1.0, 2.0]), "a": ("x", [1.0])}, attrs={"schema_version": 1}))
    assert_same(load(save(tree, tmp_path / "x.nc")), tree)
    with xr.open_datatree(tmp_path / "x.nc") as opened:
        xr.testing.assert_equal(opened.load(), tree)


def test_a_variable_may_have_the_name_of_a_group(tmp_path):
    named = xr.Dataset({"prior": ("time", [1.0, 2.0])})
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"schema_version": 1}), "prior": named, "observed_data": named})
    assert_same(load(save(tree, tmp_path / "named.nc")), tree)


def test_units_that_name_times_leave_numbers_alone(tmp_path):
    units = ["s", "h", "days", "hours", "seconds", "ns", "min"]
    values = np.array([0.5, np.nan, 1e9])
    variables = {f"v{index}": ("time", values, {"units": unit}) for index, unit in enumerate(units)}
    whole = {f"w{index}": ("time", np.arange(3), {"units": unit}) for index, unit in enumerate(units)}
    tree = xr.DataTree(xr.Dataset(variables | whole, {"time": ("time", [0.0, 0.1, 0.3], {"units": "s"})}))
    tree.attrs["schema_version"] = SCHEMA_VERSION
    assert_same(load(save(tree, tmp_path / "units.nc")), tree)
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_datatree(tmp_path / "units.nc", engine=engine) as opened:
            xr.testing.assert_identical(opened.load(), tree)
            assert opened["v0"].dtype == float


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 300_001])
@pytest.mark.parametrize("shape", [(-1,), (1, -1), (-1, 1)])
def test_arrays_of_every_size_come_back_in_checked_chunks(tmp_path, size, shape):
    values = np.random.default_rng(size).normal(size=size).reshape(shape if size else (0,) * len(shape))
    dims = ["a", "b"][: len(shape)]
    tree = xr.DataTree(xr.Dataset({"x": (dims, values)}, attrs={"schema_version": SCHEMA_VERSION}))
    path = save(tree, tmp_path / "sizes.nc")
    assert_same(load(path), tree)
    with h5py.File(path) as file:
        stored = file["x"]
        assert stored.fletcher32
        assert stored.shuffle
        assert stored.compression == "gzip"
        assert np.prod(stored.chunks) * 8 <= 2**20
