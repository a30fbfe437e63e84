"""What `by` tells apart is what its parts would say alone: horizons, inputs, labels, origins, experiments."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestwin.assess import coverage, pit, scores
from bayestwin.errors import InvalidSetting

TIME = 10.0 + np.arange(24) * 0.5
PAST = pd.DataFrame({"level": [1.0, 2.0]}, index=[8.0, 9.0])


@pytest.fixture
def draws():
    rng = np.random.default_rng(21)
    return {"level": rng.normal(0, 1, (2, 60, 24)), "flow": rng.normal(0, 2, (2, 60, 24))}


@pytest.fixture
def columns():
    rng = np.random.default_rng(22)
    found = {"level": rng.normal(0, 1, 24), "flow": rng.normal(0, 2, 24), "pump": rng.uniform(0, 100, 24)}
    found["level"][[3, 9]] = np.nan
    return found


@pytest.fixture
def tree(make_forecast, draws):
    return make_forecast(draws, TIME, past=PAST)


@pytest.fixture
def telemetry(make_telemetry, columns):
    return make_telemetry(columns, TIME)


JUDGES = {
    "coverage": coverage,
    "scores": lambda tree, one, **by: scores(tree, one, prob=(0.5, 0.9), **by),
    "pit": lambda tree, one, **by: pit(tree, one, seed=0, **by),
}


@pytest.mark.parametrize("word", JUDGES)
def test_each_group_says_what_its_points_say_alone(make_telemetry, tree, telemetry, columns, word):
    edges = (0.0, 20.0, 60.0, 100.0)
    found = JUDGES[word](tree, telemetry, by="pump", bins=edges)
    assert list(found["pump"].values) == ["0 to 20", "20 to 60", "60 to 100"]
    assert list(found["pump_from"].values) == [0.0, 20.0, 60.0]
    for number in range(3):
        inside = (columns["pump"] >= edges[number]) & (columns["pump"] < edges[number + 1])
        part = {name: np.where(inside, values, np.nan) for name, values in columns.items()}
        alone = JUDGES[word](tree, make_telemetry(part, TIME))
        if word == "pit":  # ties are broken by random numbers that are drawn for all points at once
            assert list(found["num"].isel(pump=number).values) == list(alone["num"].values)
        else:
            own = found.isel(pump=number).drop_vars(["pump", "pump_from", "pump_to"])
            joint = [
                name for name in alone.data_vars if "joint" in str(name)
            ]  # with how many others depends on the table
            xr.testing.assert_allclose(own.drop_vars(joint), alone.drop_vars(joint), rtol=1e-12)


def test_the_horizon_counts_from_the_last_observation_that_was_known(tree, telemetry):
    found = coverage(tree, telemetry, 0.9, by="horizon", bins=(1.0, 3.0, 13.0))
    # the calibration ended at 9, the forecast begins at 10
    assert found["num"].sel(observation="flow", prob=0.9).to_series().to_dict() == {"1 to 3": 4, "3 to 13": 20}


def test_dates_are_counted_in_the_unit_of_the_twin(make_forecast, make_telemetry, draws, columns):
    def dates(numbers):
        return pd.Timestamp("2024-03-30") + pd.to_timedelta(numbers, unit="h")

    tree = make_forecast(draws, dates(TIME).to_numpy(), past=PAST.set_index(dates(PAST.index)))
    tree.attrs["time_unit"] = "min"
    found = coverage(
        tree, make_telemetry(columns, dates(TIME).to_numpy()), 0.9, by="horizon", bins=(60.0, 180.0, 780.0)
    )
    assert list(found["num"].sel(observation="flow", prob=0.9).values) == [4, 20]


def test_few_values_are_groups_and_many_are_put_into_four(tree, telemetry, columns):
    labels = pd.Series(np.where(np.arange(24) % 3 == 0, "day", "night"), TIME, name="light")
    found = coverage(tree, telemetry, 0.9, by=labels)
    assert list(found["light"].values) == ["day", "night"]
    assert list(found["num"].sel(observation="flow", prob=0.9).values) == [8, 16]
    quarters = coverage(tree, telemetry, 0.9, by="pump")
    assert list(quarters["num"].sel(observation="flow", prob=0.9).values) == [6, 6, 6, 6]
    assert int(coverage(tree, telemetry, 0.9)["num"].sum()) == int(found["num"].sum()) == int(quarters["num"].sum())


def test_points_without_a_value_are_in_no_group(tree, telemetry):
    labels = pd.Series(["day"] * 5, TIME[:5])
    found = coverage(tree, telemetry, 0.9, by=labels)
    assert list(found["group"].values) == ["day"]
    assert found["num"].sel(observation="level", prob=0.9).item() == 4  # one of five was not observed


def test_the_input_of_a_forecast_is_found_in_the_forecast(tree, telemetry, make_telemetry, columns):
    expected = coverage(tree, telemetry, by="pump", bins=3)
    driven = tree.copy()
    driven["predictions_constant_data"] = xr.DataTree(xr.Dataset({"pump": ("time", columns["pump"])}, {"time": TIME}))
    without = make_telemetry({name: columns[name] for name in ("level", "flow")}, TIME)
    xr.testing.assert_identical(coverage(driven, without, by="pump", bins=3), expected)


def test_origins_of_a_backtest_are_told_apart(make_backtest):
    rng = np.random.default_rng(23)
    observed = rng.normal(size=(5, 4))
    observed[2, 1] = np.nan
    tree = make_backtest(rng.normal(size=(50, 5, 4)), observed)
    by_origin, by_horizon = (coverage(tree, prob=0.9, by=word)["num"].sel(prob=0.9) for word in ("origin", "horizon"))
    assert list(by_origin.sel(observation="level").values) == [4, 4, 3, 4, 4]
    assert list(by_horizon.sel(observation="level").values) == [5, 4, 5, 5]


@pytest.mark.parametrize(
    ("by", "bins", "words"),
    [
        ("observation", None, "dimension anyway"),
        ("weather", None, "There is no `weather`"),
        ("pump", (5.0, 1.0), "does not make groups"),
        ("pump", 0, "does not make groups"),
    ],
)
def test_what_makes_no_groups_is_refused(tree, telemetry, by, bins, words):
    with pytest.raises(InvalidSetting, match=words):
        coverage(tree, telemetry, by=by, bins=bins)
