"""PITs of right forecasts stay within the simultaneous band as often as it says, and those of wrong ones leave it."""

import numpy as np
import pytest
import scipy.stats

from bayestwin.assess import pit
from bayestwin.assess.pit import simultaneous_band, transform
from bayestwin.errors import InvalidSetting

NUM_TIMES = 300


@pytest.fixture
def judge(make_forecast, make_telemetry):
    """The verdict on a simulated forecast N(mean + bias, width²) of observations N(mean, 1)."""

    def judge(seed, *, width=1.0, bias=0.0):
        rng = np.random.default_rng(seed)
        mean = rng.normal(0, 5, NUM_TIMES)
        draws = mean + bias + width * rng.normal(size=(2, 100, NUM_TIMES))
        time = np.arange(float(NUM_TIMES))
        observed = make_telemetry({"level": mean + rng.normal(size=NUM_TIMES)}, time)
        return pit(make_forecast({"level": draws}, time), observed, seed=0).sel(observation="level")

    return judge


@pytest.mark.slow
def test_right_forecasts_stay_within_the_band_as_often_as_it_says(judge):
    repeats = 60
    share = np.mean([bool(judge(seed)["within_band"]) for seed in range(repeats)])
    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.thorough
@pytest.mark.parametrize("fault", [{"width": 0.6}, {"width": 1.6}, {"bias": 0.6}])
def test_a_planted_fault_leaves_the_band(judge, fault):
    assert not any(bool(judge(seed, **fault)["within_band"]) for seed in range(5))


def test_the_curve_is_the_share_of_pits_up_to_z(judge):
    low, high = judge(0, bias=1.0)["ecdf"], judge(0, bias=-1.0)["ecdf"]
    # a forecast that is too high has observations low among its draws
    assert float(low.sel(z=0.5)) > 0.7 > 0.3 > float(high.sel(z=0.5))
    assert (np.diff(low) >= 0).all()


@pytest.mark.parametrize(("num", "level"), [(20, 0.9), (150, 0.95), (1000, 0.5)])
def test_the_band_holds_the_whole_curve_with_its_probability(num, level):
    at = np.arange(1, 100) / 100
    lower, upper = simultaneous_band(num, at, level, seed=0)
    rng = np.random.default_rng(41)
    repeats = 4000
    curves = np.stack([np.searchsorted(np.sort(rng.random(num)), at, side="right") for _ in range(repeats)]) / num
    held = np.mean(((lower <= curves + 1e-12) & (curves <= upper + 1e-12)).all(axis=1))
    # both the band and this check are simulations; counts are whole, so that it can hold somewhat more
    error = 3 * np.sqrt(level * (1 - level) * (1 / repeats + 1 / 10_000))
    assert level - error <= held <= level + error + 0.02
    pointwise = scipy.stats.binom.ppf((1 - level) / 2, num, at) / num
    assert (lower <= pointwise).all()


def test_pits_of_counts_are_uniform_though_draws_tie():
    rng = np.random.default_rng(42)
    mean = rng.uniform(0.5, 4.0, 4000)
    found = transform(rng.poisson(mean[:, None], (4000, 50)), rng.poisson(mean), rng)
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3


def test_the_same_seed_gives_the_same_and_a_draw_that_is_not_finite_does_not_count(
    judge, make_forecast, make_telemetry
):
    assert judge(3).identical(judge(3))
    draws = np.random.default_rng(43).normal(size=(1, 40, 6))
    draws[:, :, 2] = draws[0, 0, 3] = np.nan
    tree = make_forecast({"level": draws}, np.arange(6.0))
    found = pit(tree, make_telemetry({"level": np.zeros(6)}, np.arange(6.0)), seed=0)
    assert list(found["num"].values) == [5]
    assert found["failed"].item() == pytest.approx((1 + 1 / 40) / 6)


def test_pits_are_uniform_among_the_draws_that_are_there():
    rng = np.random.default_rng(7)
    ensemble = rng.normal(size=(4000, 50))
    ensemble[:, :25] = np.where(rng.random((4000, 1)) < 0.5, np.nan, ensemble[:, :25])
    assert scipy.stats.kstest(transform(ensemble, rng.normal(size=4000), rng), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("settings", [{"seed": None}, {"seed": 0, "level": 1.0}])
def test_settings_without_meaning_are_refused(make_forecast, make_telemetry, settings):
    tree = make_forecast({"level": np.zeros((1, 5, 3))}, np.arange(3.0))
    with pytest.raises(InvalidSetting):
        pit(tree, make_telemetry({"level": np.zeros(3)}, np.arange(3.0)), **settings)
