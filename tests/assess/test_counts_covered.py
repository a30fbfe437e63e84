"""Whole numbers lie on the ends of their intervals, few draws end short: a right forecast passes all the same."""

import numpy as np
import pytest

from bayestwin.assess import coverage
from bayestwin.assess.coverage import coverage_gate

PROB = (0.5, 0.8, 0.9, 0.95)
REPEATS = 40


@pytest.fixture
def gates(make_forecast, make_telemetry):
    """How many forecasts are said not to cover, drawn by one function and held against what another one draws."""

    def judge(forecast, truth, num_draws=400, num=120):
        time = np.arange(num, dtype=float)
        found = []
        for seed in range(REPEATS):
            rng = np.random.default_rng(seed)
            draws = forecast(rng, (2, num_draws // 2, num)).astype(float)
            telemetry = make_telemetry({"level": truth(rng, num).astype(float)}, time)
            found.append(coverage_gate(coverage(make_forecast({"level": draws}, time), telemetry, PROB), 0))
        return sum("do not cover" in gate.sentence for gate in found)

    return judge


MOST = 2 + 3 * np.sqrt(REPEATS * 0.05 * 0.95)
"""Forecasts that are right and leave the joint band of 95 %, and three standard errors more."""


@pytest.mark.parametrize("rate", [0.3, 2.0, 10.0])
def test_draws_of_the_true_poisson_cover(gates, rate):
    assert gates(lambda rng, shape: rng.poisson(rate, shape), lambda rng, num: rng.poisson(rate, num)) <= MOST


@pytest.mark.thorough
@pytest.mark.parametrize("num_draws", [20, 60])
def test_few_draws_of_the_truth_cover(gates, num_draws):
    normal = np.random.Generator.standard_normal
    assert gates(normal, normal, num_draws) <= MOST


@pytest.mark.thorough
def test_binomial_counts_cover(gates):
    assert gates(lambda rng, shape: rng.binomial(4, 0.3, shape), lambda rng, num: rng.binomial(4, 0.3, num)) <= MOST


@pytest.mark.thorough
@pytest.mark.parametrize("rate", [2.0, 10.0])
def test_counts_that_scatter_twice_as_much_are_noticed(gates, rate):
    twice = gates(
        lambda rng, shape: rng.poisson(rate, shape),
        lambda rng, num: rng.negative_binomial(rate / 3, 1 / 4, num),
        num=400,
    )
    assert twice >= REPEATS - MOST
