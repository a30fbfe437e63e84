"""Telemetry of a world that the model leaves a driver out of: intervals are too narrow, but not with a model error."""

import functools

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from twins import driven

import bayestwin as bt

PROB = 0.9

ERRORS = {
    "process noise": bt.ProcessNoise({"level": dist.HalfNormal(1.0)}),
    "process noise, extended": bt.ProcessNoise({"level": dist.HalfNormal(1.0)}, filter="extended"),
    "discrepancy": bt.Discrepancy(
        {"level": dist.HalfNormal(2.0)}, {"level": dist.LogNormal(1.0, 0.4)}, kernel="matern32"
    ),
}


def twin() -> bt.Twin:
    """Its noise is known, as from a data sheet: where it is inferred, it takes up what the model leaves out."""
    return driven(observations={"level": bt.Observation(bt.Gaussian(0.1))})


@functools.cache
def telemetry() -> tuple[bt.Telemetry, bt.Telemetry]:
    """To calibrate on, and held out: one point in five, whose errors hardly depend on each other."""
    rng = np.random.default_rng(6)
    times = np.arange(400) * 0.25
    hidden = np.cumsum(rng.random(400) < 0.1) % 2 * 1.5  # someone is in the room, or not
    columns = {"time": times, "stepped": np.sin(times) > 0.0, "sloped": 2.0 + np.cos(0.3 * times)}
    heated = pd.DataFrame(columns).astype(float)
    truth = {"rate": 0.8, "gain": 1.0, "level_initial": 2.0}
    world = bt.read_telemetry(heated.assign(sloped=heated["sloped"] + hidden))
    heated["level"] = bt.simulate(twin(), truth, world, seed=0)["level"].values
    held = np.arange(400) % 5 == 2
    known = bt.read_telemetry(heated.assign(level=heated["level"].where(~held)))
    return known, bt.read_telemetry(heated[held], t0=0.0)


def covered(error: bt.ProcessNoise | bt.Discrepancy | None) -> tuple[float, bool]:
    """The share of what was held out inside its interval, and whether that share is in its band."""
    known, asked = telemetry()
    posterior = bt.calibrate(twin(), known, seed=0, model_error=error, num_samples=500)
    forecast = bt.predict(twin(), posterior, asked, seed=1, model_error=error)
    found = bt.coverage(forecast, asked).sel(observation="level", prob=PROB)
    return float(found["coverage"]), bool(found["within_band"])


@pytest.mark.slow
def test_without_model_error_intervals_are_too_narrow() -> None:
    share, within = covered(None)
    assert share < 0.7
    assert not within


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_with_either_kind_of_model_error_they_cover_again(name: str) -> None:
    share, within = covered(ERRORS[name])
    assert within, share
