"""Evidence knows how much it is worth: repeated forecasts count once, groups go together, few tell little."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from bayestwin.assess import pit
from bayestwin.assess.coverage import jointly
from bayestwin.assess.evidence import blunt, judged, possible, ranks

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


def test_ranks_are_sound_where_they_are_so_in_the_band_of_their_own_number(make_backtest) -> None:
    sound = ranks(make_backtest(1), None, 3)
    # at the first steps both the share and its band are 0
    assert sound["ecdf"][0, 0] == sound["band_lower"][0, 0] == 0.0
    assert bool(sound["within_band"][0])
    assert bool(pit(make_backtest(1), seed=3)["within_band"][0])


def test_groups_have_bands_that_hold_together(make_backtest) -> None:
    labels = pd.Series(["a", "b", "c", "d"] * (NUM // 4), pd.Index(np.arange(1.0, NUM + 1.0)), name="load")
    found = judged(make_backtest(1), None, (0.9,), labels)
    assert found.sizes["load"] == 4
    # each of four bands leaves out an eightieth at each end
    lower = scipy.stats.binom.ppf(0.05 / 4 / 2, NUM // 4, 0.9) / (NUM // 4)
    np.testing.assert_allclose(found["band_lower"], lower)
    assert found.attrs["level"] == pytest.approx(1 - 0.05 / 4)


def judged_counts(inside: list[int], num: int, level: float) -> xr.Dataset:
    """Shares of independent observations inside a 90 % interval, with the band of probability `level`."""
    dims, shape = ("observation", "prob"), (len(inside), 1)
    counts = xr.DataArray(np.array(inside)[:, None], {"prob": [0.9]}, dims)
    full = {"num": num, "num_distinct": num, "num_effective": float(num), "freedom": 1e4, "expected": 0.9}
    found = {name: (dims, np.full(shape, value)) for name, value in full.items()}
    return jointly(xr.Dataset(found | {"coverage": counts / num}, attrs={"level": level}), level, 1)


def test_possible_coverages_are_clopper_and_pearson_s() -> None:
    found = judged_counts([8, 0, 5, 1], 8, 0.95)
    lower, upper = (end.to_numpy()[:, 0] for end in possible(found))
    assert (lower[0], upper[0]) == pytest.approx((0.025 ** (1 / 8), 1.0), rel=1e-3)
    assert (lower[1], upper[1]) == pytest.approx((0.0, 1 - 0.025 ** (1 / 8)), rel=1e-3)
    assert scipy.stats.binom.sf(4, 8, lower[2]) == pytest.approx(0.025, rel=2e-3)
    assert scipy.stats.binom.sf(0, 8, lower[3]) == pytest.approx(0.025, rel=2e-3)
    assert scipy.stats.binom.cdf(5, 8, upper[2]) == pytest.approx(0.025, rel=2e-3)


@pytest.mark.parametrize("level", [0.95, 0.999])
def test_what_is_possible_holds_the_promise_where_and_only_where_the_share_lies_in_its_band(level: float) -> None:
    found = judged_counts(list(range(101)), 100, level)
    lower, upper = possible(found)
    np.testing.assert_array_equal((lower <= 0.9) & (upper >= 0.9), found["within_joint_band"])


def test_counts_that_would_not_show_twice_the_misses_are_blunt() -> None:
    assert [bool(blunt(judged_counts([0], num, 0.95)).item()) for num in (8, 60, 400)] == [True, True, False]
    # of 400, so many intervals that miss twice as often leave the band as the sum over the binomial says
    lowest = scipy.stats.binom.ppf(0.025, 400, 0.9)
    assert scipy.stats.binom.cdf(lowest - 1, 400, 0.8) > 0.8 > scipy.stats.binom.cdf(48, 60, 0.8)


def test_a_thousand_that_follow_each_other_are_worth_as_many_in_the_band_as_in_what_is_possible() -> None:
    """761 observations worth 33: true coverage is not known to a few percent."""
    plain = judged_counts([700], 761, 0.95)
    few = jointly(plain.assign(num_effective=plain["num_effective"] * 33 / 761), 0.95, 1)
    lower, upper = (float(end.item()) for end in possible(few))
    assert lower < 0.80
    assert upper > 0.975
    assert float(few["joint_upper"].item()) - float(few["joint_lower"].item()) > 0.15
