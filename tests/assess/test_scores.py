"""Scores equal their definitions, and skill is measured against the last value before the forecast."""

import numpy as np
import pandas as pd
import pytest

from bayestwin.assess import scores
from bayestwin.assess.draws import ANEW
from bayestwin.errors import InvalidTelemetry

TIME = np.array([10.0, 11.0, 12.5, 13.0, 20.0])
OBSERVED = np.array([2.0, np.nan, 0.0, -4.0, 6.0])
PAST = pd.DataFrame(
    {"level": [1.0, 3.0, np.nan, 99.0], "flow": [np.nan] * 4}, index=[0.0, 8.0, 9.5, 10.5]
)  # 3.0 is the last value before the forecast starts at 10.0


@pytest.fixture
def draws():
    """Skewed draws, whose mean and median differ, shape (2 chains, 80 draws, 5 times)."""
    rng = np.random.default_rng(6)
    return rng.exponential(3.0, (2, 80, 5)) + np.array([0, 1, -2, -5, 4])


@pytest.fixture
def found(make_forecast, make_telemetry, draws):
    tree = make_forecast({"level": draws}, TIME, past=PAST)
    return scores(tree, make_telemetry({"level": OBSERVED}, TIME)).sel(observation="level")


def test_errors_equal_a_loop_over_what_was_observed(found, draws):
    squares, absolutes, relatives = [], [], []
    for step, value in enumerate(OBSERVED):
        if np.isnan(value):
            continue
        point = draws[..., step].ravel()
        squares.append((np.mean(point) - value) ** 2)
        absolutes.append(abs(np.median(point) - value))
        if value != 0:
            relatives.append(abs((np.median(point) - value) / value))
    assert found["num"] == 4
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-12)
    assert found["mae"] == pytest.approx(np.mean(absolutes), rel=1e-12)
    assert found["mape"] == pytest.approx(100 * np.mean(relatives), rel=1e-12)
    assert found["mape"].attrs["units"] == "%"
    assert found["units"] == "degC"


def test_persistence_holds_the_last_value_before_the_forecast(found):
    error = 3.0 - OBSERVED[~np.isnan(OBSERVED)]
    assert found["persistence_rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert found["persistence_mae"] == pytest.approx(np.mean(abs(error)), rel=1e-12)
    assert found["skill"] == pytest.approx(1 - float(found["rmse"] / found["persistence_rmse"]), rel=1e-12)


def test_dates_work_as_numbers_do(make_forecast, make_telemetry, draws, found):
    def dates(numbers):
        return pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers, unit="h")

    past = PAST.set_index(dates(PAST.index))
    tree = make_forecast({"level": draws}, dates(TIME).to_numpy(), past=past)
    again = scores(tree, make_telemetry({"level": OBSERVED}, dates(TIME).to_numpy()))
    assert again.sel(observation="level").equals(found)


def test_without_a_value_before_the_forecast_there_is_no_baseline(make_forecast, make_telemetry, draws):
    telemetry = make_telemetry({"level": OBSERVED, "flow": OBSERVED}, TIME)
    both = scores(make_forecast({"level": draws, "flow": draws}, TIME, past=PAST), telemetry)
    for name in ("persistence_rmse", "persistence_mae", "skill"):
        assert np.isnan(both[name].sel(observation="flow"))
        assert np.isfinite(both[name].sel(observation="level"))
    assert both["rmse"].sel(observation="flow") == both["rmse"].sel(observation="level")
    assert np.isnan(scores(make_forecast({"level": draws}, TIME), telemetry)["skill"]).all()
    anew = make_forecast({"level": draws}, TIME, past=PAST)
    anew.attrs[ANEW] = {"level": 20.0}
    assert np.isnan(scores(anew, telemetry)["persistence_rmse"]).all()


def test_a_draw_that_is_not_finite_is_left_out_and_told(make_forecast, make_telemetry, draws):
    telemetry = make_telemetry({"level": OBSERVED}, TIME)
    lost = draws.copy()
    lost[1, 2] = np.inf
    found = scores(make_forecast({"level": lost}, TIME), telemetry, prob=0.5)
    others = np.delete(draws.reshape(1, -1, draws.shape[-1]), draws.shape[1] + 2, axis=1)
    expected = scores(make_forecast({"level": others}, TIME), telemetry, prob=0.5)
    assert found["failed"].item() == pytest.approx(1 / draws[..., 0].size)
    for name in expected.data_vars:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_a_path_that_ends_early_counts_as_long_as_it_is_there(make_forecast, make_telemetry, draws):
    telemetry = make_telemetry({"level": OBSERVED}, TIME)
    lost = draws.copy()
    lost[1, 2, -1] = np.nan
    found = scores(make_forecast({"level": lost}, TIME), telemetry)
    errors = np.array([np.nanmean(lost[..., i]) for i in range(len(TIME))]) - OBSERVED
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.nanmean(errors**2)), rel=1e-12)
    lost[..., -1] = np.nan  # where no draw is left nothing is compared
    fewer = scores(make_forecast({"level": lost}, TIME), telemetry)
    assert fewer["num"].item() == found["num"].item() - 1
    assert np.isfinite(fewer["rmse"]).all()


def test_unobserved_times_and_observations_do_not_count(make_forecast, make_telemetry, draws):
    draws[:, :, 1] = np.nan  # the time at which nothing was observed
    tree = make_forecast({"level": draws, "flow": draws}, TIME)
    found = scores(tree, make_telemetry({"level": OBSERVED}, TIME))
    assert np.isfinite(found["rmse"].sel(observation="level"))
    assert list(found["num"].values) == [4, 0]
    assert np.isnan(found["rmse"].sel(observation="flow"))
    with pytest.raises(InvalidTelemetry, match="nothing to compare"):
        scores(tree, make_telemetry({"other": OBSERVED}, TIME))
