"""Baselines say what simple methods would have predicted, from what the calibration knew and nothing after it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestwin.assess import scores
from bayestwin.errors import InvalidSetting

HOURS = np.arange(72.0)
SPLIT = 48


@pytest.fixture
def columns():
    """A level that repeats itself every day and follows the pump, without noise."""
    pump = np.random.default_rng(51).uniform(0, 1, 72)
    return {"level": 3.0 + np.sin(2 * np.pi * HOURS / 24), "flow": 2.0 + 5.0 * pump, "pump": pump}


@pytest.fixture
def judge(make_forecast, make_telemetry, columns):
    """Scores of a forecast of the last day, with the record of two days before it as what was calibrated."""

    def judge(past_columns=None, **settings):
        rng = np.random.default_rng(52)
        draws = {name: columns[name][SPLIT:] + rng.normal(size=(1, 40, 24)) for name in ("level", "flow")}
        known = pd.DataFrame({name: columns[name][:SPLIT] for name in draws}, index=HOURS[:SPLIT])
        tree = make_forecast(draws, HOURS[SPLIT:], past=known)
        tree.attrs = {"time_unit": "h", "telemetry_time_unit": "h"}
        tree["predictions_constant_data"] = xr.DataTree(
            xr.Dataset({"pump": ("time", columns["pump"][SPLIT:], {"units": "degC"})}, {"time": HOURS[SPLIT:]})
        )
        future = make_telemetry({name: values[SPLIT:] for name, values in columns.items()}, HOURS[SPLIT:])
        return scores(tree, future, past=make_telemetry(past_columns or columns, HOURS), **settings)

    return judge


def test_what_repeats_itself_is_predicted_by_the_day_before_and_what_follows_the_pump_by_regression(judge):
    found = judge(period=24.0)
    assert float(found["seasonal_rmse"].sel(observation="level")) < 1e-9
    assert float(found["linear_rmse"].sel(observation="flow")) < 1e-9
    # the forecast has errors of the mean of 40 draws, the baselines here have none
    assert float(found["seasonal_skill"].sel(observation="level")) < -1e3
    assert 0.5 < float(found["linear_rmse"].sel(observation="level")) < 1.0  # the pump says nothing about it
    assert float(found["seasonal_rmse"].sel(observation="flow")) > 1.0


def test_skill_is_one_minus_the_ratio_of_errors(judge):
    found = judge(period=24.0)
    for word in ("seasonal", "linear"):
        expected = 1 - found["rmse"] / found[f"{word}_rmse"]
        np.testing.assert_allclose(found[f"{word}_skill"], expected, rtol=1e-12)


def test_nothing_after_the_calibration_is_used(judge, columns):
    changed = {name: values.copy() for name, values in columns.items()}
    for name in ("level", "flow"):
        changed[name][SPLIT:] = 1e6
    xr.testing.assert_identical(judge(changed, period=24.0), judge(period=24.0))
    changed["level"][SPLIT - 1] = 1e6
    assert not judge(changed, period=24.0).equals(judge(period=24.0))


def test_after_half_a_unit_of_time_what_repeats_itself_is_the_last_value(judge):
    found = judge(period=0.5)
    np.testing.assert_allclose(found["seasonal_rmse"], found["persistence_rmse"], rtol=1e-12)


def test_an_input_that_is_not_known_throughout_explains_nothing(judge, columns):
    gap = columns | {"pump": np.where(HOURS == 3, np.nan, columns["pump"])}
    assert np.isnan(judge(gap)["linear_rmse"]).all()
    assert np.isfinite(judge()["linear_rmse"]).all()


def test_two_periods_ahead_the_last_known_one_is_taken(judge):
    found = judge(period=12.0)
    expected = np.sin(2 * np.pi * HOURS[36:48] / 24)
    error = np.tile(expected, 2) - np.sin(2 * np.pi * HOURS[48:] / 24)
    assert float(found["seasonal_rmse"].sel(observation="level")) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)


def test_each_origin_of_a_backtest_has_its_own(make_backtest, make_telemetry):
    times = np.arange(-10.0, 9.0)
    level = np.random.default_rng(53).normal(size=19)
    origins, ahead = np.arange(6.0), np.arange(1.0, 4.0)
    observed = pd.Series(level, times).reindex((origins[:, None] + ahead).ravel()).to_numpy().reshape(6, 3)
    tree = make_backtest(np.zeros((20, 6, 3)), observed)
    past = dataclasses.replace(make_telemetry({"level": level}, times), units={"level": "m"})
    found = scores(tree, past=past, period=4.0)
    # four hours before a time that lies one to three hours ahead, all of which is known
    error = pd.Series(level, times).reindex((origins[:, None] + ahead - 4.0).ravel()).to_numpy() - observed.ravel()
    assert float(found["seasonal_rmse"].item()) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert float(found["persistence_rmse"].item()) == pytest.approx(np.sqrt(np.mean(observed**2)), rel=1e-12)
    assert np.isnan(found["linear_rmse"]).all()  # there is no input


@pytest.mark.parametrize("period", [0.0, -1.0, np.nan])
def test_a_period_that_is_none_is_refused(judge, period):
    with pytest.raises(InvalidSetting, match="`period`"):
        judge(period=period)


def test_intervals_are_scored_where_prob_is_given(judge):
    found = judge(prob=(0.5, 0.9))
    assert found["width"].dims == found["interval_score"].dims == ("observation", "prob")
    assert (found["width"].sel(prob=0.5) < found["width"].sel(prob=0.9)).all()
    assert (found["interval_score"] >= found["width"]).all()
    assert "width" not in judge()
