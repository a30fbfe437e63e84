"""A share that nothing could have put outside its band is no evidence: "cannot be told" is a verdict of its own."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from bayestwin.assess import coverage
from bayestwin.assess.coverage import _noticed_below, can_tell, coverage_gate, dependent_band, kept

PROB = (0.5, 0.8, 0.9, 0.95)


def correlated(rng: np.random.Generator, num: int, memory: float) -> np.ndarray:
    """Standard normal errors with that correlation from one to the next."""
    errors = rng.normal(size=num)
    for place in range(1, num):
        errors[place] = memory * errors[place - 1] + np.sqrt(1 - memory**2) * errors[place]
    return errors


@pytest.fixture
def judged(make_forecast, make_telemetry):
    """The table and the gate of a forecast N(0, 1) whose errors are given."""

    def judge(errors: np.ndarray):
        time = np.arange(len(errors), dtype=float)
        draws = np.random.default_rng(7).normal(size=(2, 400, len(errors)))
        covered = coverage(make_forecast({"level": draws}, time), make_telemetry({"level": errors}, time), PROB)
        return covered, coverage_gate(covered, 0)

    return judge


def test_many_independent_rows_tell_and_say_what_they_would_have_noticed(judged):
    covered, gate = judged(np.random.default_rng(2).normal(size=400))
    assert gate.passed
    assert bool(can_tell(covered).all())
    assert "would have been noticed (with a chance of 80 %)" in gate.sentence


@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_a_thousand_rows_that_follow_each_other_are_worth_a_few(judged, scale):
    """Each error lasts for hundreds of rows: whatever lies inside, the band has room for it."""
    covered, gate = judged(scale * correlated(np.random.default_rng(6), 1024, 0.999))
    assert bool(covered["within_joint_band"].all())
    assert not gate.passed
    assert gate.severity == "warn"
    assert "cannot be told: 1,024 held-out observations of `level`, whose errors follow each other" in gate.sentence
    assert [kept(covered.isel(observation=0, prob=place)) for place in range(4)] == [None] * 4


def test_a_handful_of_rows_cannot_tell(judged):
    _, gate = judged(np.random.default_rng(3).normal(size=8))
    assert not gate.passed
    assert "cannot be told: 8 held-out observations of `level` are too few" in gate.sentence


def test_a_handful_that_all_lie_outside_is_a_miss_all_the_same(judged):
    covered, gate = judged(np.full(8, 9.0))
    assert "do not cover as promised" in gate.sentence
    assert kept(covered.isel(observation=0, prob=2)) is False


@pytest.mark.parametrize("num", [30, 100, 400])
@pytest.mark.parametrize("prob", PROB)
def test_what_is_said_to_be_noticed_is_noticed(num, prob):
    """Counts of intervals that hold so little in truth lie below the band with 80 %, but for a step of the counts."""
    lower, _ = dependent_band(np.array([float(num)]), np.array([prob]), 0.9875)
    true = float(_noticed_below(xr.DataArray(lower), xr.DataArray([float(num)]))[0])
    most = np.ceil(lower[0] * num - 1e-9) - 1
    found = scipy.stats.binom.cdf(most, num, true)
    step = scipy.stats.binom.pmf(most + 1, num, true) + scipy.stats.binom.pmf(most, num, true)
    assert abs(found - 0.8) <= step
    assert scipy.stats.binom.cdf(most, num, true - 0.05) > 0.8


def test_where_no_share_is_low_enough_for_the_band_nothing_is_noticed():
    lower = xr.DataArray([0.0, 0.0, 0.5])
    noticed = _noticed_below(lower, xr.DataArray([0.0, 3.0, 40.0])).to_numpy()
    assert noticed[:2].tolist() == [0.0, 0.0]
    assert 0.0 < noticed[2] < 0.5
