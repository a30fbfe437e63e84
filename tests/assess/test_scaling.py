"""Scores and values belong to each other, side by side: what falls below is counted in the spread below."""

import numpy as np
import pytest

from bayestwin.assess.intervals import scale_of

RNG = np.random.default_rng(71)


def test_a_score_gives_back_its_value_on_both_sides():
    scale = scale_of(RNG.exponential(2.0, (40, 200)))
    values = RNG.normal(1.0, 3.0, 40)
    np.testing.assert_allclose(scale.value(scale.score(values)), values, rtol=1e-12)


def test_one_spread_away_is_the_quantile_on_that_side():
    draws = RNG.exponential(2.0, (1, 20_000))
    scale = scale_of(draws)
    low, high = np.quantile(draws, [0.158655, 0.841345])
    assert scale.value(np.array([-1.0])) == pytest.approx(low, rel=1e-6)
    assert scale.value(np.array([1.0])) == pytest.approx(high, rel=1e-6)
    assert scale.above > 2 * scale.below


def test_draws_without_spread_make_every_error_infinite():
    scale = scale_of(np.full((3, 10), 2.0))
    np.testing.assert_array_equal(scale.score(np.array([1.0, 2.0, 3.0])), [-np.inf, 0.0, np.inf])
    np.testing.assert_array_equal(scale.value(np.array([-np.inf, 1.0, np.inf])), [-np.inf, 2.0, np.inf])
