"""Conformal intervals cover as often as they say where raw ones do not, and never use what was not known yet."""

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestwin.assess import conformalize, coverage, intervals
from bayestwin.assess.conformal import conformal_quantile
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.results.store import load, save

PROB = (0.5, 0.9)


def simulated(seed, origins=200, horizons=3, *, width=0.4, noise=None):
    """Draws N(0, width²), (draw, origin, horizon), of what is skewed: an exponential less its median, or `noise`."""
    rng = np.random.default_rng(seed)
    observed = rng.exponential(1.0, (origins, horizons)) - math.log(2.0) if noise is None else noise(rng)
    return width * rng.normal(size=(300, *observed.shape)), observed


@pytest.mark.parametrize(("scores", "tail", "rank"), [(9, 0.1, 9), (19, 0.05, 19), (99, 0.05, 95), (7, 0.25, 6)])
def test_the_quantile_is_that_of_finite_samples(scores, tail, rank):
    values = np.random.default_rng(0).permutation(scores) + 1.0
    assert conformal_quantile(values, tail) == rank == math.ceil((scores + 1) * (1 - tail) - 1e-9)
    assert np.isnan(conformal_quantile(values[: math.ceil(1 / tail) - 2], tail))


@pytest.mark.parametrize("method", ["split", "adaptive"])
@pytest.mark.parametrize("width", [0.4, 3.0])
def test_intervals_too_narrow_or_too_wide_cover_as_they_say(make_backtest, method, width):
    found = coverage(conformalize(make_backtest(*simulated(1, width=width)), PROB, method=method))
    assert list(found["kind"].values) == ["raw", "conformal"]
    raw, conformal = found.sel(kind="raw"), found.sel(kind="conformal")
    assert not raw["within_band"].any()
    assert conformal["within_band"].all(), conformal["coverage"].values
    assert raw["num"].equals(conformal["num"].drop_vars("kind").assign_coords(kind="raw"))


def test_each_end_misses_as_often_as_the_other(make_backtest):
    tree = conformalize(make_backtest(*simulated(2, origins=600)), 0.8)["intervals"].to_dataset()
    observed = simulated(2, origins=600)[1]
    ends = tree.sel(kind="conformal", prob=0.8, observation="level")
    judged = np.isfinite(ends["lower"].values)
    for missed in (observed < ends["lower"].values, observed > ends["upper"].values):
        share, num = missed[judged].mean(), judged.sum()
        assert abs(share - 0.1) < 4 * math.sqrt(0.1 * 0.9 / num)
    # what is observed is skewed to above and so are the intervals
    distance = ends - ends["median"]
    assert (distance["upper"].mean() > -1.5 * distance["lower"].mean()).item()


@pytest.mark.parametrize("method", ["split", "adaptive"])
def test_what_comes_after_an_origin_changes_nothing_there(make_backtest, method):
    draws, observed = simulated(3, origins=80)
    changed = observed.copy()
    times = np.arange(80.0)[:, None] + np.arange(1.0, 4.0)
    changed[times > 50.0] = 1e3
    before, after = (
        conformalize(make_backtest(draws, one), PROB, method=method)["intervals"].to_dataset()
        for one in (observed, changed)
    )
    early = slice(0.0, 50.0)
    xr.testing.assert_identical(after.sel(origin=early), before.sel(origin=early))
    assert not after.sel(origin=51.0).equals(before.sel(origin=51.0))


def test_too_few_scores_give_no_end_and_are_not_counted(make_backtest):
    tree = conformalize(make_backtest(*simulated(4, origins=40, horizons=1)), PROB)
    ends = tree["intervals"].to_dataset().sel(kind="conformal", observation="level", horizon=1.0)
    known = np.maximum(np.arange(40) - 0, 0)
    np.testing.assert_array_equal(tree["intervals"]["known"].sel(observation="level", horizon=1.0), known)
    for prob, needed in ((0.5, 3), (0.9, 19)):
        np.testing.assert_array_equal(np.isnan(ends["lower"].sel(prob=prob)), known < needed)
        counted = coverage(tree)["num"].sel(observation="level", prob=prob)
        assert (counted == 40 - needed).all()


def test_groups_are_right_each_for_itself_where_all_together_are_not(make_backtest):
    """Errors grow with the horizon, which the draws do not know."""

    def growing(rng):
        return rng.normal(size=(400, 3)) * np.array([0.3, 1.0, 3.0])

    tree = make_backtest(*simulated(5, width=1.0, noise=growing))
    pooled = coverage(conformalize(tree, PROB), by="horizon").sel(kind="conformal")
    apart = coverage(conformalize(tree, PROB, by="horizon"), by="horizon").sel(kind="conformal")
    assert not pooled["within_band"].isel(horizon=[0, 2]).any()
    assert apart["within_band"].all(), apart["coverage"].values


def test_regimes_of_an_input_have_their_own(make_backtest):
    rng = np.random.default_rng(6)
    load = rng.uniform(0, 10, (300, 2))
    observed = rng.normal(size=(300, 2)) * np.where(load > 5.0, 2.0, 0.5)
    tree = make_backtest(rng.normal(size=(300, 300, 2)), observed, inputs={"load": load})
    found = conformalize(tree, 0.9, by="load", bins=(0.0, 5.0, 10.0))
    assert coverage(found, by="load", bins=(0.0, 5.0, 10.0)).sel(kind="conformal")["within_band"].all()
    upper = found["correction"]["upper"].sel(observation="level", prob=0.9)
    assert list(upper["load"].values) == ["0 to 5", "5 to 10"]
    assert upper.values == pytest.approx([0.5 * 1.645, 2.0 * 1.645], rel=0.25)


def test_adaptive_ends_follow_a_drift_that_split_ones_lag_behind(make_backtest):
    def drifting(rng):
        return rng.normal(size=(500, 1)) * np.linspace(0.5, 5.0, 500)[:, None]

    tree = make_backtest(*simulated(7, width=1.0, noise=drifting))
    split, adaptive = (
        coverage(conformalize(tree, 0.9, method=method)).sel(kind="conformal") for method in ("split", "adaptive")
    )
    assert not split["within_band"].any()
    assert adaptive["within_band"].all(), adaptive["coverage"].values


def test_intervals_of_one_probability_lie_within_those_of_a_higher_one(make_backtest):
    tree = make_backtest(*simulated(8, noise=lambda rng: rng.standard_t(2, (200, 3))))
    for method in ("split", "adaptive"):
        found = conformalize(tree, (0.9, 0.5, 0.52), method=method)["intervals"].sel(kind="conformal")
        lower, upper = (found[end].sel(prob=[0.5, 0.52, 0.9]).diff("prob") for end in ("lower", "upper"))
        assert not (lower > 1e-12).any()
        assert not (upper < -1e-12).any()
        assert not (found["lower"] > found["upper"]).any()


def test_later_forecasts_are_corrected_by_what_was_learnt(make_backtest, make_forecast, make_telemetry):
    learnt = conformalize(make_backtest(*simulated(9)), PROB)
    rng = np.random.default_rng(10)
    time = np.arange(400.0)
    forecast = make_forecast({"level": 5.0 + 0.4 * rng.normal(size=(1, 300, 400))}, time)
    later = make_telemetry({"level": 5.0 + rng.exponential(1.0, 400) - math.log(2.0)}, time)
    found = intervals(forecast, PROB, conformal=learnt)
    assert found["upper"].dims == ("kind", "observation", "prob", "time")
    xr.testing.assert_identical(found["upper"].sel(kind="raw", drop=True), intervals(forecast, PROB)["upper"])
    xr.testing.assert_equal(intervals(forecast, PROB[::-1], conformal=learnt), found.sel(prob=list(PROB[::-1])))
    covered = coverage(found, later)
    assert not covered["within_band"].sel(kind="raw").any()
    assert covered["within_band"].sel(kind="conformal").all(), covered["coverage"].values


def test_later_forecasts_are_corrected_by_horizon_and_not_where_none_was_seen(make_backtest, make_forecast):
    def growing(rng):
        return rng.normal(size=(400, 3)) * np.array([0.3, 1.0, 3.0])

    learnt = conformalize(make_backtest(*simulated(11, width=1.0, noise=growing)), PROB, by="horizon")
    draws = np.random.default_rng(12).normal(size=(1, 50, 4))
    past = pd.DataFrame({"level": [0.0]}, index=[0.0])
    found = intervals(
        make_forecast({"level": draws}, np.array([1.0, 2.0, 3.0, 4.0]), past=past), PROB, conformal=learnt
    )
    ends = found["upper"].sel(kind="conformal", observation="level")
    assert ends.sel(time=[1.0, 2.0, 3.0], prob=0.9).values == pytest.approx([0.5, 1.64, 4.9], rel=0.4)
    assert np.isnan(ends.sel(time=4.0)).all()


def test_what_does_not_fit_is_refused(make_backtest, make_forecast):
    tree = make_backtest(*simulated(13, origins=30))
    forecast = make_forecast({"level": np.zeros((1, 5, 3))}, np.arange(3.0))
    with pytest.raises(InvalidInput, match="backtest"):
        conformalize(forecast)
    with pytest.raises(InvalidSetting, match="`method`"):
        conformalize(tree, method="magic")
    with pytest.raises(InvalidSetting, match="`rate`"):
        conformalize(tree, rate=0.0)
    with pytest.raises(InvalidSetting, match=r"prob 0\.8"):
        intervals(forecast, 0.8, conformal=conformalize(tree, PROB))
    with pytest.raises(InvalidInput, match="`conformal`"):
        intervals(forecast, PROB, conformal=tree)


def test_a_file_gives_back_the_same(make_backtest, make_forecast, tmp_path):
    learnt = conformalize(make_backtest(*simulated(14, origins=40)), PROB, by="horizon")
    back = load(save(learnt, tmp_path / "conformal.nc"))
    del back.attrs["schema_version"]  # the tree made here has none
    xr.testing.assert_identical(back, learnt)
    past = pd.DataFrame({"level": [0.0]}, index=[0.0])
    forecast = make_forecast({"level": simulated(15, origins=1)[0].reshape(1, 300, 3)}, np.arange(1.0, 4.0), past=past)
    xr.testing.assert_identical(intervals(forecast, PROB, conformal=back), intervals(forecast, PROB, conformal=learnt))


def test_draws_that_are_missing_at_late_horizons_leave_conformal_ends(make_backtest):
    rng = np.random.default_rng(12)
    draws, observed = rng.normal(size=(100, 40, 3)), rng.normal(size=(40, 3))
    draws[:20, :, 2] = np.nan
    draws[:, 7] = np.nan  # an origin that gave no forecast
    found = conformalize(make_backtest(draws, observed), 0.5)["intervals"].to_dataset()
    raw = intervals(make_backtest(draws[20:], observed), 0.5)
    np.testing.assert_allclose(found["lower"].sel(kind="raw", horizon=3.0), raw["lower"].sel(horizon=3.0))
    assert np.isfinite(found["upper"].sel(kind="conformal", horizon=3.0)[..., 20:]).all()
    np.testing.assert_allclose(found["failed"].squeeze("observation")[0], [0.0, 0.0, 0.2])
    covered = coverage(make_backtest(draws, observed), prob=0.5)
    assert covered["num"].item() == 39 * 3  # what no draw predicts is not called outside
