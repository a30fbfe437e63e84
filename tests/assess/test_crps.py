"""The CRPS equals its definition: a naive double sum, and the closed form of a Gaussian forecast."""

import math

import numpy as np
import pytest

from bayestwin.assess import crps


def naive(draws, value):
    """Fair CRPS of one observation by its definition."""
    size = len(draws)
    error = sum(abs(x - value) for x in draws) / size
    pairs = sum(abs(x - y) for x in draws for y in draws)
    return error - pairs / (2 * size * (size - 1))


def gaussian(mean, sd, value):
    """CRPS of N(mean, sd²) (Gneiting & Raftery 2007, doi:10.1198/016214506000001437)."""
    z = (value - mean) / sd
    density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return sd * (z * math.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def test_equals_the_double_sum():
    rng = np.random.default_rng(4)
    ensemble = 1e3 + rng.standard_t(3, (6, 41))
    values = 1e3 + rng.normal(0, 3, 6)
    expected = [naive(row, value) for row, value in zip(ensemble, values, strict=True)]
    np.testing.assert_allclose(crps(ensemble, values), expected, rtol=1e-10)


@pytest.mark.parametrize("size", [2, 5, 200])
def test_its_mean_is_that_of_the_gaussian_whatever_the_number_of_draws(size):
    mean, sd, value, repeats = 3.0, 2.0, 4.5, 20_000
    rng = np.random.default_rng(5)
    found = crps(rng.normal(mean, sd, (repeats, size)), np.full(repeats, value))
    error = found.std(ddof=1) / math.sqrt(repeats)
    assert abs(found.mean() - gaussian(mean, sd, value)) < 4 * error


def test_without_spread_it_is_the_absolute_error():
    np.testing.assert_allclose(crps(np.full((2, 7), 3.0), np.array([5.0, 2.5])), [2.0, 0.5], rtol=1e-12)


def test_what_cannot_be_judged_is_nan():
    assert np.isnan(crps(np.array([[1.0, np.nan, 2.0]]), np.array([1.0])))
    assert np.isnan(crps(np.array([[1.0]]), np.array([1.0])))
