"""Scoring rules equal their definitions, and the energy score sees what the CRPS cannot: how times hang together."""

import numpy as np
import pytest

from bayestwin.assess import crps, scores
from bayestwin.assess.scores import energy, interval_score

RNG = np.random.default_rng(31)


def test_the_energy_score_equals_the_double_sum():
    ensemble, values = 1e3 + RNG.normal(size=(5, 21)), 1e3 + RNG.normal(size=5)
    far = np.mean([np.linalg.norm(one - values) for one in ensemble.T])
    apart = sum(np.linalg.norm(one - other) for one in ensemble.T for other in ensemble.T)
    expected = (far - apart / (2 * 21 * 20)) / np.sqrt(5)
    # distances come from differences of squares, which costs half of the digits
    assert energy(ensemble, values) == pytest.approx(expected, rel=1e-7)


def test_of_one_time_it_is_the_crps():
    ensemble, values = RNG.normal(size=(1, 50)), RNG.normal(size=1)
    assert energy(ensemble, values) == pytest.approx(crps(ensemble, values)[0], rel=1e-7)


def test_draws_that_forget_from_time_to_time_score_worse_and_have_the_same_crps():
    """Paths are a random level that stays: the honest forecast knows that, the other has the same margins."""
    differences = []
    for _ in range(200):
        honest = np.repeat(RNG.normal(size=(1, 100)), 10, axis=0)
        shuffled = np.stack([RNG.permutation(row) for row in honest])
        values = np.repeat(RNG.normal(), 10)
        np.testing.assert_allclose(crps(honest, values), crps(shuffled, values), rtol=1e-9)
        differences.append(energy(shuffled, values) - energy(honest, values))
    assert np.mean(differences) > 4 * np.std(differences) / np.sqrt(200)


def test_the_energy_score_of_a_forecast_is_that_of_its_path_and_of_a_backtest_the_mean_over_origins(
    make_forecast, make_telemetry, make_backtest
):
    draws, observed = RNG.normal(size=(20, 3, 5)), RNG.normal(size=(3, 5))
    each = [energy(draws[:, origin].T, observed[origin]) for origin in range(3)]
    time = np.arange(5.0)
    forecast, telemetry = (
        make_forecast({"level": draws[None, :, 0]}, time),
        make_telemetry({"level": observed[0]}, time),
    )
    assert scores(forecast, telemetry)["energy"].item() == pytest.approx(each[0], rel=1e-12)
    assert scores(make_backtest(draws, observed))["energy"].item() == pytest.approx(np.mean(each), rel=1e-12)


def test_the_interval_score_is_the_width_and_what_is_missed():
    lower, upper = np.array([[1.0] * 3, [0.5] * 3]), np.array([[2.0] * 3, [2.5] * 3])
    found = interval_score(lower, upper, np.array([1.5, 0.25, 3.0]), np.array([0.5, 0.9]))
    np.testing.assert_allclose(
        found, [[1.0, 1 + 4 * 0.75, 1 + 4 * 1.0], [2.0, 2 + 20 * 0.25, 2 + 20 * 0.5]], rtol=1e-12
    )


@pytest.mark.parametrize("ensemble", [np.empty((0, 5)), np.ones((3, 1)), np.full((3, 5), np.nan)])
def test_nothing_to_score_is_nan(ensemble):
    assert np.isnan(energy(ensemble, np.zeros(len(ensemble))))
