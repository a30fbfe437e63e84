"""Coverage counts what lies inside, observation by observation, at exactly equal times."""

import math

import numpy as np
import pandas as pd
import pytest

from bayestwin.assess import coverage
from bayestwin.assess.coverage import coverage_gate
from bayestwin.errors import InvalidSetting, InvalidTelemetry

TIME = np.arange(40) * 0.25
PROB = (0.5, 0.9)


@pytest.fixture
def draws():
    """Predictive draws of two observations, shape (2 chains, 100 draws, 40 times)."""
    rng = np.random.default_rng(2)
    return {"indoor": rng.normal(20, 2, (2, 100, 40)), "flow": rng.normal(5, 1, (2, 100, 40))}


@pytest.fixture
def columns():
    """Observations of both, some missing."""
    rng = np.random.default_rng(3)
    found = {"indoor": rng.normal(20, 2, 40), "flow": rng.normal(5, 1, 40)}
    found["indoor"][[0, 7, 8, 39]] = np.nan
    return found


def test_counts_equal_a_loop(make_forecast, make_telemetry, draws, columns):
    found = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), PROB)
    for name, values in columns.items():
        for prob in PROB:
            inside = counted = 0
            for step, value in enumerate(values):
                if not math.isnan(value):
                    tail = (1 - prob) / 2
                    lower, upper = np.quantile(draws[name][..., step], [tail, 1 - tail])
                    inside += lower <= value <= upper
                    counted += 1
            here = found.sel(observation=name, prob=prob)
            assert here["num_inside"] == inside
            assert here["num"] == counted
            assert here["coverage"] == pytest.approx(inside / counted, rel=1e-12)


def test_band_holds_the_binomial_probability_and_no_narrower_one_does(make_forecast, make_telemetry, draws, columns):
    found = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), PROB, level=0.9)
    for name in columns:
        for prob in PROB:
            here = found.sel(observation=name, prob=prob)
            num = int(here["num"])
            share = float(here["expected"])  # a little less than `prob`: there are but so many draws
            assert 0 <= prob - share <= 2 * prob / (draws[name].shape[0] * draws[name].shape[1] + 1)
            mass = [math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num + 1)]
            lower, upper = round(num * float(here["band_lower"])), round(num * float(here["band_upper"]))
            assert sum(mass[:lower]) < 0.05 <= sum(mass[: lower + 1])
            assert sum(mass[upper + 1 :]) <= 0.05 < sum(mass[upper:])
            assert bool(here["within_band"]) == (lower <= int(here["num_inside"]) <= upper)


def test_every_variable_has_observation_and_prob(make_forecast, make_telemetry, draws, columns):
    found = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), PROB, kind="hdi")
    names = {"coverage", "num", "num_inside", "expected", "band_lower", "band_upper", "within_band"}
    names |= {"num_effective", "freedom", "dependent_lower", "dependent_upper", "within_dependent_band"}
    names |= {"joint_lower", "joint_upper", "within_joint_band", "joint_noticed"}
    assert set(found.data_vars) == names
    assert all(found[name].dims == ("observation", "prob") for name in names)
    assert found["within_band"].dtype == bool
    told = {"kind": "highest-density interval", "group": "predictions", "level": 0.95, "joint_level": 1 - 0.05 / 4}
    assert found.attrs == pytest.approx(told)


def test_telemetry_may_hold_some_of_the_times_in_any_order_of_date_units(make_forecast, make_telemetry, draws, columns):
    dates = pd.date_range("2024-03-30", periods=40, freq="15min").to_numpy()
    part = np.r_[30:35, 3:9]
    telemetry = make_telemetry(
        {name: values[part] for name, values in columns.items()}, dates[part].astype("datetime64[us]")
    )
    found = coverage(make_forecast(draws, dates.astype("datetime64[ns]")), telemetry, PROB)
    rest = {name: np.where(np.isin(np.arange(40), part), values, np.nan) for name, values in columns.items()}
    expected = coverage(make_forecast(draws, TIME), make_telemetry(rest, TIME), PROB)
    assert found["num"].sel(observation="indoor", prob=0.5) == 9
    assert found.equals(expected)


def test_a_time_missing_in_the_forecast_is_an_error_naming_it(make_forecast, make_telemetry, draws, columns):
    shifted = TIME.copy()
    shifted[12] = np.nextafter(TIME[12], 100)
    with pytest.raises(InvalidTelemetry, match=r"`indoor` was observed at 3\.0000000000000004, a time"):
        coverage(make_forecast(draws, TIME), make_telemetry(columns, shifted), PROB)
    columns["indoor"][12] = columns["flow"][12] = np.nan  # nothing is lost with that row any more
    assert coverage(make_forecast(draws, TIME), make_telemetry(columns, shifted), PROB)["num"].max() == 39


def test_a_forecast_with_a_time_twice_is_of_replicates(make_forecast, make_telemetry, draws, columns):
    twice = TIME.copy()
    twice[1] = twice[0]
    replicates = coverage(make_forecast(draws, twice), make_telemetry(columns, twice), PROB)
    np.testing.assert_array_equal(
        replicates["num_inside"],
        coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), PROB)["num_inside"],
    )
    with pytest.raises(InvalidTelemetry, match="a time that is not in the forecast"):
        coverage(make_forecast(draws, twice), make_telemetry(columns, TIME), PROB)


def test_nothing_observed_is_an_error_and_one_of_two_is_not_within_its_band(
    make_forecast, make_telemetry, draws, columns
):
    missing = np.full(40, np.nan)
    with pytest.raises(InvalidTelemetry, match="nothing to compare"):
        coverage(make_forecast(draws, TIME), make_telemetry({"indoor": missing, "outdoor": TIME}, TIME))
    found = coverage(make_forecast(draws, TIME), make_telemetry({"flow": columns["flow"]}, TIME))
    indoor = found.sel(observation="indoor")
    assert (indoor["num"] == 0).all()
    assert np.isnan(indoor["coverage"]).all()
    assert not indoor["within_band"].any()


def test_draws_that_are_missing_do_not_make_an_interval_narrow(make_forecast, make_telemetry, draws, columns):
    columns["flow"] = np.full(40, 5.0)  # the centre of the draws: always inside
    draws["flow"][0, 3, 10:] = np.nan
    found = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), 0.9).sel(observation="flow")
    assert found["num"] == found["num_inside"] == 40
    assert found["failed"] == pytest.approx(30 / 40 / 200)
    # of 199 draws an interval holds what it would of so many
    fewer = {name: values.reshape(1, 200, 40)[:, 1:] for name, values in draws.items()}
    fewer["flow"] = np.nan_to_num(fewer["flow"], nan=5.0)
    whole = coverage(make_forecast(fewer, TIME), make_telemetry(columns, TIME), 0.9)["expected"]
    share = (10 * 0.9 * 199 / 201 + 30 * whole.sel(observation="flow").item()) / 40
    assert found["expected"] == pytest.approx(share, rel=1e-12)


def test_an_observation_where_no_draw_is_left_is_not_counted_and_not_called_outside(
    make_forecast, make_telemetry, draws, columns
):
    columns["flow"] = np.full(40, 5.0)
    draws["flow"][..., 10:] = np.nan
    found = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), 0.9)
    assert found["num"].sel(observation="flow") == found["num_inside"].sel(observation="flow") == 10
    np.testing.assert_allclose(found["failed"], [0.0, 0.75])
    draws["flow"][:] = np.nan
    never = coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), 0.9)
    assert never["num"].sel(observation="flow") == 0
    sentence = coverage_gate(never, 0).sentence
    assert "not one draw is there" in sentence
    assert "narrow" not in sentence


def test_an_observation_that_was_never_observed_is_not_said_to_have_no_draws(
    make_forecast, make_telemetry, draws, columns
):
    draws["indoor"][0, 3, 10:] = np.nan  # draws fail elsewhere
    columns["flow"][:] = np.nan
    sentence = coverage_gate(coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), 0.9), 0).sentence
    assert "`flow` was never observed there" in sentence


@pytest.mark.parametrize("level", [0, 1, 95, np.nan])
def test_a_level_that_is_no_probability_is_refused(make_forecast, make_telemetry, draws, columns, level):
    with pytest.raises(InvalidSetting, match="`level`"):
        coverage(make_forecast(draws, TIME), make_telemetry(columns, TIME), level=level)


def test_what_lies_on_an_end_of_its_interval_lies_inside(make_forecast, make_telemetry):
    # whole numbers, whose intervals end where observations often are: an eleventh of the draws on each of 0 to 10
    draws = np.tile(np.arange(11.0), 20).reshape(2, 110, 1) + np.zeros((1, 1, 11))
    forecast = make_forecast({"count": draws}, np.arange(11.0))
    found = coverage(forecast, make_telemetry({"count": np.arange(11.0)}, np.arange(11.0)), prob=(0.6, 0.8))
    # from 2 to 8 and from 1 to 9, with their ends
    assert found["num_inside"].sel(observation="count").to_numpy().tolist() == [7, 9]
