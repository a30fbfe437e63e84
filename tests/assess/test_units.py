"""Telemetry in another unit than the forecast's gives the same coverage and scores: both are converted first."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestwin import errors
from bayestwin.assess import coverage, scores
from bayestwin.telemetry import Telemetry, read_telemetry


@pytest.fixture
def forecast() -> xr.DataTree:
    rng = np.random.default_rng(0)
    draws = 20.0 + rng.normal(size=(2, 200, 30))
    dims, attrs = ("chain", "draw", "time"), {"units": "degC"}
    predictions = xr.Dataset(
        {"indoor": (dims, draws, attrs), "indoor_noise_free": (dims, draws, attrs)}, coords={"time": np.arange(30.0)}
    )
    before = xr.Dataset({"indoor": ("time", [20.0], attrs)}, coords={"time": [-1.0]})
    return xr.DataTree.from_dict({"predictions": predictions, "observed_data": before})


@pytest.fixture
def celsius() -> Telemetry:
    values = 20.0 + np.random.default_rng(1).normal(size=30)
    table = pd.DataFrame({"indoor": values}, index=pd.Index(np.arange(30.0), name="time"))
    return read_telemetry(table, units={"indoor": "degC"})


def test_fahrenheit_scores_like_celsius(forecast: xr.DataTree, celsius: Telemetry) -> None:
    fahrenheit = dataclasses.replace(celsius, table=1.8 * celsius.table + 32.0, units={"indoor": "degF"})
    xr.testing.assert_identical(coverage(forecast, fahrenheit), coverage(forecast, celsius))
    xr.testing.assert_allclose(scores(forecast, fahrenheit), scores(forecast, celsius), rtol=1e-12)


def test_a_unit_of_another_dimension_is_refused(forecast: xr.DataTree, celsius: Telemetry) -> None:
    with pytest.raises(errors.InvalidTelemetry, match="`indoor` has the wrong dimension"):
        coverage(forecast, dataclasses.replace(celsius, units={"indoor": "W"}))
