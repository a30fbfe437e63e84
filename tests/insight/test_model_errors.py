"""Twins whose observations depend on each other are checked too: process noise, a discrepancy, noise that remembers."""

import numpy as np
import numpyro.distributions as dist
import pytest
from planted import filling
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin.assess import failed

KNOWN = {"level": bt.Observation(bt.Gaussian(0.2), unit="m")}
REMEMBERING = {"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.5), 1.0, 0.1), unit="m")}

CASES = {
    "process noise": (
        decay(states={"level": bt.State(5.0, unit="m")}, observations=KNOWN),
        bt.ProcessNoise({"level": dist.HalfNormal(1.0)}, initial_scale={"level": 1.0}),
        100,
    ),
    "discrepancy": (
        filling(0.2),
        bt.Discrepancy(scale={"level": dist.HalfNormal(1.0)}, length={"level": dist.LogNormal(0.5, 0.3)}),
        40,
    ),
    "noise that remembers": (decay(observations=REMEMBERING), None, 100),
}


def ten() -> bt.Telemetry:
    """Ten times, at one of which nothing is observed."""
    seen = np.where(np.arange(10) == 4, np.nan, 1.0)
    return telemetry_of({"time": np.linspace(0.0, 4.0, 10), "level": seen})


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_its_ranks_are_uniform(case: str) -> None:
    twin, error, num = CASES[case]
    found = bt.sbc(twin, ten(), seed=0, num_simulations=num, model_error=error)
    assert failed(bt.judge_sbc(found)) == ()
