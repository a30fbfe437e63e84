"""Inputs are never made up: a forecast that leaves them unknown after the calibration is refused."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.model.describe import fingerprint


def vector_field(t, x, p, u):
    return {"level": p.rate * u.inflow - x.level}


@pytest.fixture(scope="module")
def twin() -> bt.Twin:
    return bt.Twin(
        name="tank",
        vector_field=vector_field,
        states={"level": bt.State(initial=0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        inputs={"inflow": bt.Input(hold="linear")},
        observations={"level": bt.Observation(noise=bt.Gaussian(scale=0.1))},
    )


@pytest.fixture(scope="module")
def posterior(twin: bt.Twin) -> xr.DataTree:
    """Ten draws of `rate` beside eleven seconds of inputs: all that `predict` reads of a calibration."""
    draws = xr.Dataset({"rate": (("chain", "draw"), np.ones((1, 10)))}, coords={"chain": [0], "draw": np.arange(10)})
    times = {"time": np.arange(11.0)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": draws,
            "observed_data": xr.Dataset({"level": ("time", np.zeros(11))}, coords=times),
            "constant_data": xr.Dataset({"inflow": ("time", np.ones(11))}, coords=times),
        }
    )
    tree.attrs = {
        "twin_sha256": fingerprint(twin),
        "t0": "0.0",
        "time_unit": "s",
        "telemetry_time_unit": "s",
        "telemetry_sha256": "",
        "seed": 0,
    }
    return tree


def future(first: float) -> bt.Telemetry:
    times = pd.Index(first + np.arange(3.0), name="time")
    return bt.read_telemetry(pd.DataFrame({"inflow": 1.0}, index=times))


@pytest.mark.parametrize("first", [11.0, 12.0, 4.0])
def test_a_forecast_that_continues_or_overlaps_is_made(twin: bt.Twin, posterior: xr.DataTree, first: float) -> None:
    """With constant inflow 1 and rate 1 the level is 1 − exp(−t), whatever the solver's way there."""
    found = bt.predict(twin, posterior, future(first), seed=0)["predictions"]["level_noise_free"]
    expected = 1.0 - np.exp(-(first + np.arange(3.0)))
    np.testing.assert_allclose(found.isel(chain=0), np.broadcast_to(expected, (10, 3)), rtol=1e-5)


def test_a_forecast_after_a_gap_is_refused(twin: bt.Twin, posterior: xr.DataTree) -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match=r"unknown between 10 and 100"):
        bt.predict(twin, posterior, future(100.0), seed=0)
