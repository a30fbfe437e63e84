"""The band for dependent errors keeps its level where the binomial one does not, and still catches what is wrong."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bayestwin.assess import coverage
from bayestwin.assess.coverage import LEAST_FREQUENCIES, SPECTRUM, dependent_band, num_effective, worth_of

PROB = np.array([0.5, 0.8, 0.9, 0.95])
LEVEL = 0.95
REPEATS = 300


def autoregressive(rng, shape, correlation):
    """Standard normal errors along the last axis, neighbours of which are correlated."""
    noise, found = rng.normal(size=shape), np.empty(shape)
    found[..., 0] = noise[..., 0]
    for step in range(1, shape[-1]):
        found[..., step] = correlation * found[..., step - 1] + math.sqrt(1 - correlation**2) * noise[..., step]
    return found


def along_time(blocks, ahead, correlation):
    """One series of errors, cut into blocks."""
    return lambda rng: autoregressive(rng, (REPEATS, blocks * ahead), correlation).reshape(REPEATS, blocks, ahead)


def along_paths(blocks, ahead, correlation):
    """Errors depend on each other along the path from one origin, and not between origins."""
    return lambda rng: autoregressive(rng, (REPEATS, blocks, ahead), correlation)


def shared(blocks, ahead, correlation):
    """Half of the variance is what all errors of an origin have in common, which persists from origin to origin."""

    def make(rng):
        common = autoregressive(rng, (REPEATS, blocks), correlation)[..., None]
        return math.sqrt(0.5) * (common + rng.normal(size=(REPEATS, blocks, ahead)))

    return make


def outside(make, width=1.0, seed=0):
    """How often coverage of N(0, width²) lies outside the dependent band, and the binomial one; shape (2, prob)."""
    errors = np.abs(make(np.random.default_rng(seed)))
    blocks, ahead = errors.shape[1:]
    block = np.repeat(np.arange(blocks), ahead)
    found = np.zeros((2, PROB.size))
    for place, prob in enumerate(PROB):
        stretch = errors.reshape(REPEATS, -1) / (width * scipy.stats.norm.ppf((1 + prob) / 2))
        share = np.mean(stretch <= 1.0, axis=-1)
        num = np.array([num_effective(one, block, prob, LEVEL) for one in stretch])
        whole = np.full(REPEATS, float(block.size))
        for row, worth in enumerate((num, whole)):
            lower, upper = dependent_band(worth, np.full(REPEATS, prob), LEVEL)
            found[row, place] = np.mean((share < lower) | (share > upper))
    return found


LIMIT = 1 - LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / REPEATS)
"""More than that are not chance, if the band holds its level."""


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize(("blocks", "ahead"), [(4, 12), (20, 6), (100, 1), (60, 12)])
def test_a_sound_forecast_stays_inside_however_its_errors_persist(blocks, ahead, correlation):
    dependent, binomial = outside(along_time(blocks, ahead, correlation))
    assert (dependent <= LIMIT).all(), dependent
    if correlation == 0.95:
        assert (binomial > LIMIT).any(), binomial


@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(("blocks", "ahead"), [(8, 6), (40, 12)])
def test_a_sound_forecast_stays_inside_however_errors_of_a_path_depend(blocks, ahead, correlation):
    dependent, _ = outside(along_paths(blocks, ahead, correlation))
    assert (dependent <= LIMIT).all(), dependent


def test_what_an_origin_has_in_common_with_the_next_is_seen():
    dependent, binomial = outside(shared(40, 12, 0.8))
    assert (dependent <= LIMIT).all(), dependent
    assert (binomial > 0.3).all(), binomial


@pytest.mark.parametrize(
    ("make", "least"),
    [(along_time(100, 1, 0.5), 0.9), (along_paths(40, 12, 0.9), 0.9), (along_paths(20, 6, 0.5), 0.3)],
)
def test_noise_at_half_is_caught(make, least):
    dependent, _ = outside(make, width=0.5)
    assert (dependent > least).all(), dependent


def test_the_number_is_what_a_plain_sum_gives():
    rng = np.random.default_rng(1)
    block, stretch = np.repeat([3, 5, 6, 9], [2, 5, 1, 4]), rng.exponential(1.0, 12)
    inside = stretch <= np.sort(stretch)[8]  # 0.75 of 12
    blocks, freedom = 4, LEAST_FREQUENCIES
    sums = [np.sum(inside[block == one] - inside.mean()) for one in (3, 5, 6, 9)]
    waves = [
        sum(s * math.cos(math.pi * k * (b + 0.5) / blocks) for b, s in enumerate(sums)) for k in range(1, freedom + 1)
    ]
    variance = 2.0 * sum(wave**2 for wave in waves) / freedom / 12**2
    shrunk = (scipy.stats.norm.ppf(0.95) / scipy.stats.t.ppf(0.95, freedom)) ** 2
    expected = min(12, 0.75 * 0.25 / variance) * shrunk
    assert num_effective(stretch, block, 0.75, 0.9) == pytest.approx(expected, rel=1e-12)


def test_few_blocks_are_worth_no_more_than_their_neighbours_say():
    stretch = np.random.default_rng(5).permutation(np.arange(200.0))
    stretch[:160] = np.sort(stretch[:160])  # neighbours are alike, blocks share no mean
    block = np.tile([0, 1], 100)
    ranks = scipy.stats.rankdata(stretch) - 100.5
    correlation = sum(one * other for one, other in itertools.pairwise(ranks)) / sum(ranks**2)
    assert correlation > 0.5
    assert worth_of(stretch, block, 0.5)[0] == pytest.approx(200 * (1 - correlation) / (1 + correlation), rel=1e-12)


def test_of_independent_blocks_as_many_frequencies_are_read_as_is_recommended():
    stretch = np.random.default_rng(6).exponential(1.0, 100)
    assert worth_of(stretch, np.arange(100), 0.5)[1] == int(SPECTRUM * 100 ** (2 / 3)) == 8


@pytest.mark.parametrize("num", [1, 7, 40, 400])
def test_of_as_many_independent_observations_the_band_is_the_binomial_one(num):
    lower, upper = dependent_band(np.full(4, float(num)), PROB, LEVEL)
    least, most = scipy.stats.binom.ppf([[0.025], [0.975]], num, PROB)
    # the ends lie between whole numbers
    np.testing.assert_array_equal(np.ceil(num * lower - 1e-9), least)
    np.testing.assert_array_equal(np.floor(num * upper + 1e-9), most)


def test_fewer_independent_observations_have_a_wider_band():
    lower, upper = dependent_band(np.linspace(0.0, 60.0, 121)[:, None], np.broadcast_to(PROB, (121, 4)), LEVEL)
    assert (np.diff(lower, axis=0) >= -1e-12).all()
    assert (np.diff(upper, axis=0) <= 1e-12).all()
    assert (lower[0] == 0.0).all()
    assert (upper[0] == 1.0).all()


def test_a_backtest_is_judged_by_origin(make_backtest):
    rng = np.random.default_rng(2)
    observed = rng.normal(size=(30, 1)) + 0.01 * rng.normal(size=(30, 6))  # one error a path
    tree = make_backtest(rng.normal(size=(400, 30, 6)), observed, ahead=np.arange(1.0, 7.0) / 10)
    found = coverage(tree, prob=PROB)
    assert (found["num"] == 180).all()
    assert (found["num_effective"] < 31).all()
    assert (found["within_dependent_band"] | ~found["within_band"]).all()
    alone = coverage(tree, prob=PROB, by="origin", bins=30)
    assert (alone["num_effective"] == 0).all()
    assert (alone["dependent_upper"] - alone["dependent_lower"] == 1.0).all()


def test_all_inside_or_never_observed(make_forecast, make_telemetry):
    rng = np.random.default_rng(3)
    time, draws = np.arange(50.0), {name: rng.normal(size=(1, 200, 50)) for name in ("level", "flow")}
    telemetry = make_telemetry({"level": np.zeros(50), "flow": np.full(50, np.nan)}, time)
    found = coverage(make_forecast(draws, time), telemetry, 0.9).isel(prob=0)
    level, flow = found.sel(observation="level"), found.sel(observation="flow")
    assert level["coverage"] == 1.0
    assert 0 < level["num_effective"] <= 50
    assert np.isnan(flow["num_effective"])
    assert np.isnan(flow["dependent_lower"])
    assert not flow["within_dependent_band"]


def test_where_an_interval_has_no_width_or_no_end_the_band_is_there(make_forecast, make_telemetry):
    time, draws = np.arange(20.0), np.zeros((1, 30, 20))
    draws[..., :5] = np.nan
    observed = np.where(np.arange(20) < 15, 0.0, 1.0)
    found = coverage(make_forecast({"level": draws}, time), make_telemetry({"level": observed}, time), 0.9)
    assert int(found["num_inside"].item()) == 10
    assert np.isfinite(found["num_effective"]).all()


def test_labels_are_told_apart_by_their_own_blocks(make_forecast, make_telemetry):
    rng = np.random.default_rng(4)
    time, draws = np.arange(60.0), {"level": rng.normal(size=(1, 200, 60))}
    tree, telemetry = make_forecast(draws, time), make_telemetry({"level": rng.normal(size=60)}, time)
    labels = pd.Series(np.where(np.arange(60) == 0, "first", "later"), time, name="when")
    found = coverage(tree, telemetry, 0.9, by=labels)["num_effective"].squeeze()
    assert found.sel(when="first") == 0
    assert found.sel(when="later") > 10
