"""The binomial band keeps its promise: calibrated forecasts stay inside it, planted faults fall outside."""

import numpy as np
import pytest

from bayestwin.assess import coverage

NUM_TIMES = 400
PROB = (0.5, 0.8, 0.9, 0.95)


def simulate(seed, *, width=1.0, bias=0.0):
    """Draws (2, 200, time) of a forecast N(mean, width²), and observations from N(mean, 1)."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 5, NUM_TIMES)
    draws = mean + bias + width * rng.normal(size=(2, 200, NUM_TIMES))
    return draws, mean + rng.normal(size=NUM_TIMES)


@pytest.fixture
def within(make_forecast, make_telemetry):
    """Whether the coverage at each `prob` of a simulated forecast lies within its band."""

    def judge(seed, **fault):
        draws, observed = simulate(seed, **fault)
        time = np.arange(NUM_TIMES, dtype=float)
        return coverage(make_forecast({"level": draws}, time), make_telemetry({"level": observed}, time), PROB)[
            "within_band"
        ].to_numpy()[0]

    return judge


@pytest.mark.thorough
def test_calibrated_forecasts_stay_within_the_band_as_often_as_it_says(within):
    repeats = 60
    share = np.mean([within(seed) for seed in range(repeats)])
    # The four levels of one forecast are correlated: count the forecasts, not the levels, in the error.
    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.parametrize("fault", [{"width": 0.5}, {"width": 1.5}, {"bias": 1.0}])
def test_a_planted_fault_falls_outside_at_every_prob(within, fault):
    assert not any(within(seed, **fault).any() for seed in range(5))
