"""Dates, units and gaps of telemetry come back as they were sent, and a forecast goes on from the calibration."""

import numpy as np
import pandas as pd
import pytest
from twins import (
    CELSIUS,
    DATES,
    OUTDOOR,
    lynx_hare,
    lynx_hare_posterior,
    pelts,
    tank,
    tank_posterior,
)

import bayestwin as bt

UTC = DATES.tz_convert("UTC").tz_localize(None).to_numpy()


def test_dates_are_kept_in_utc() -> None:
    dated = tank_posterior()
    for group in ("observed_data", "constant_data", "posterior_predictive", "prior_predictive"):
        np.testing.assert_array_equal(dated[group]["time"], UTC)
    assert dated.attrs["t0"] == "2026-03-28 21:00:00"


def test_units_are_converted_where_telemetry_enters() -> None:
    dated = tank_posterior()
    observed = dated["observed_data"].to_dataset()
    present = np.isfinite(observed["water"].values)
    assert np.flatnonzero(~present).tolist() == [2, 3]
    np.testing.assert_allclose(observed["water"].values[present], CELSIUS[present])
    np.testing.assert_allclose(observed["top"].values[1:8], CELSIUS[1:8] + 1.0)
    assert observed["water"].attrs["units"] == "degC"
    np.testing.assert_array_equal(dated["constant_data/outdoor"], OUTDOOR)


def test_each_observation_has_the_log_likelihood_of_the_times_at_which_it_was_observed() -> None:
    dated = tank_posterior()
    found = dated["log_likelihood"].to_dataset()
    assert found["water"].dims == ("chain", "draw", "time_water")
    assert found["top"].dims == ("chain", "draw", "time_top")
    np.testing.assert_array_equal(found["time_water"], np.delete(UTC, [2, 3]))
    np.testing.assert_array_equal(found["time_top"], np.delete(UTC, [0, 8]))
    assert np.isfinite(found["water"]).all()
    assert np.isfinite(found["top"]).all()
    # a sensor that never worked has none, and is predicted all the same
    assert found["bottom"].shape == (4, 150, 0)
    assert np.isfinite(dated["posterior_predictive/bottom"]).all()


@pytest.mark.thorough
def test_a_forecast_has_its_groups_and_goes_on_from_the_calibration() -> None:
    dated = tank_posterior()
    ahead = pd.date_range(UTC[-1], periods=4, freq="1h")[1:]
    future = bt.read_telemetry(pd.DataFrame({"time": ahead, "outdoor": [22.0, 30.0, 30.0]}))
    forecast = bt.predict(tank(), dated, future, seed=0, draws=100)
    assert set(forecast.children) == {"predictions", "predictions_constant_data", "observed_data"}
    np.testing.assert_array_equal(forecast["predictions"]["time"], ahead.to_numpy())
    assert set(forecast["predictions"].data_vars) == {
        *("water", "water_noise_free", "top", "top_noise_free", "bottom", "bottom_noise_free", "water_state")
    }
    assert forecast["predictions"].sizes["chain"] * forecast["predictions"].sizes["draw"] == 100
    # a draw's forecast starts where its trajectory in the calibration ended: predict again at that time
    both = bt.read_telemetry(pd.DataFrame({"time": [UTC[-1], *ahead], "outdoor": [22.0, 22.0, 30.0, 30.0]}))
    again = bt.predict(tank(), dated, both, seed=0, draws=100)["predictions"].to_dataset()
    draws = again["draw"].values
    last = dated["posterior_predictive/water_state"].sel(draw=draws).isel(time=-1)
    np.testing.assert_allclose(again["water_state"].isel(time=0), last, rtol=1e-6)
    np.testing.assert_allclose(
        again["water_state"].isel(time=slice(1, None)), forecast["predictions/water_state"], rtol=1e-6
    )


def test_a_posterior_of_a_changed_twin_is_refused() -> None:
    dated = tank_posterior()
    with pytest.raises(bt.errors.InvalidArtifact, match=r"(?s)`lynx_hare`.*Received: .*`tank`.*Calibrate again"):
        bt.predict(lynx_hare(), dated, pelts(), seed=0)


def test_a_future_counted_otherwise_is_refused() -> None:
    dated = tank_posterior()
    numbers = bt.read_telemetry(pd.DataFrame({"time": [1.0, 2.0], "outdoor": [20.0, 20.0]}))
    with pytest.raises(bt.errors.InvalidTelemetry, match=r"(?s)another kind.*Expected: dates.*Received: numbers"):
        bt.predict(tank(), dated, numbers, seed=0)
    days = bt.read_telemetry(pd.DataFrame({"time": [700_000.0, 700_001.0]}), units={"time": "day"})
    with pytest.raises(bt.errors.InvalidTelemetry, match=r"(?s)another unit.*Expected: `year`.*Received: `day`"):
        bt.predict(lynx_hare(), lynx_hare_posterior(), days, seed=0)


def test_a_future_before_the_calibration_is_refused() -> None:
    dated = tank_posterior()
    early = bt.read_telemetry(pd.DataFrame({"time": pd.to_datetime(["2026-03-01"]), "outdoor": [20.0]}))
    with pytest.raises(bt.errors.InvalidTelemetry, match="before the initial state holds"):
        bt.predict(tank(), dated, early, seed=0)
