"""Evidence knows how much it is worth: repeated forecasts count once, groups go together, few tell little."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from bayestwin.assess.evidence import judged, possible, power, ranks

NUM = 40


@pytest.fixture
def make_backtest():
    """A sound forecast of standard normal values, made anew from several origins for the same times."""

    def make(origins: int) -> xr.DataTree:
        rng = np.random.default_rng(5)
        coords = {
            "origin": -np.arange(float(origins))[::-1],
            "horizon": np.arange(1.0, NUM + 1.0),
            "time": (("origin", "horizon"), np.tile(np.arange(1.0, NUM + 1.0), (origins, 1))),
        }
        draws = rng.standard_normal((1, 200, 1, NUM)).repeat(origins, axis=2)
        dims = ("chain", "draw", "origin", "horizon")
        values = rng.standard_normal((1, NUM)).repeat(origins, axis=0)
        units = {"units": "m"}
        predicted = {"level": (dims, draws, units), "level_noise_free": (dims, draws, units)}
        return xr.DataTree.from_dict(
            {
                "predictions": xr.Dataset(predicted, coords),
                "observed_data": xr.Dataset({"level": (dims[2:], values, units)}, coords),
            }
        )

    return make


def test_an_observation_that_was_forecast_five_times_counts_once_in_the_band(make_backtest) -> None:
    once, again = judged(make_backtest(1), None, (0.5, 0.9)), judged(make_backtest(5), None, (0.5, 0.9))
    assert (again["num"] == 5 * NUM).all()
    assert (again["num_distinct"] == NUM).all()
    for name in ("coverage", "band_lower", "band_upper"):
        np.testing.assert_allclose(again[name], once[name])


def test_the_band_of_ranks_does_not_narrow_by_repetition_either(make_backtest) -> None:
    once, again = ranks(make_backtest(1), None, 3), ranks(make_backtest(5), None, 3)
    assert int(again["num"][0]) == 5 * NUM
    np.testing.assert_allclose(again["band_lower"], once["band_lower"])
    np.testing.assert_allclose(again["band_upper"], once["band_upper"])


def test_groups_have_bands_that_hold_together(make_backtest) -> None:
    labels = pd.Series(["a", "b", "c", "d"] * (NUM // 4), pd.Index(np.arange(1.0, NUM + 1.0)), name="load")
    found = judged(make_backtest(1), None, (0.9,), labels)
    assert found.sizes["load"] == 4
    # each of four bands leaves out an eightieth at each end
    lower = scipy.stats.binom.ppf(0.05 / 4 / 2, NUM // 4, 0.9) / (NUM // 4)
    np.testing.assert_allclose(found["band_lower"], lower)
    assert found.attrs["level"] == pytest.approx(1 - 0.05 / 4)


def test_power_is_that_of_counting_misses() -> None:
    # of 8 at 90 %, five are the fewest inside the band; fewer than that at 80 %: a sum over the binomial
    assert power(8, 0.9) == pytest.approx(sum(scipy.stats.binom.pmf(k, 8, 0.8) for k in range(5)))
    assert power(0, 0.9) == 0.0
    assert power(8, 0.9) < 0.1 < power(60, 0.9) < 0.8 < power(200, 0.9)


def test_possible_coverages_are_clopper_and_pearson_s() -> None:
    assert possible(8, 8) == pytest.approx((0.025 ** (1 / 8), 1.0))
    assert possible(0, 8) == pytest.approx((0.0, 1 - 0.025 ** (1 / 8)))
    lower, upper = possible(5, 8)
    assert scipy.stats.binom.sf(4, 8, lower) == pytest.approx(0.025)
    assert scipy.stats.binom.cdf(5, 8, upper) == pytest.approx(0.025)
