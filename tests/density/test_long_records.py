"""What is stored of long records is bounded: of fewer draws, which are those that would have been stored anyway."""

import numpy as np
import pytest
import xarray as xr
from twins import decay_telemetry, known_decay

import bayestwin as bt
from bayestwin.density import predictor
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.inference.method import SETTINGS

QUICK = {"seed": 0, "method": "laplace", "num_samples": 400, "num_chains": 2}


def calibrated(**settings: int) -> xr.DataTree:
    return bt.calibrate(known_decay(), decay_telemetry(), **QUICK, **settings)


@pytest.fixture
def short_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the trajectories of 160 draws of the record, and for the log likelihoods of 480."""
    record = decay_telemetry().table
    monkeypatch.setattr(predictor, "MOST_STORED", 160 * 3 * len(record))


def test_draws_that_do_not_fit_are_left_out_and_the_others_are_what_they_were(short_of_room, monkeypatch) -> None:
    bounded = calibrated()
    monkeypatch.undo()
    whole = calibrated(predictive_draws=160)
    assert bounded["posterior_predictive"].sizes["draw"] == 80
    assert bounded["posterior"].sizes["draw"] == bounded["sample_stats"].sizes["draw"] == 400
    xr.testing.assert_identical(bounded["posterior"].to_dataset(), whole["posterior"].to_dataset())
    xr.testing.assert_identical(
        bounded["posterior_predictive"].to_dataset(), whole["posterior_predictive"].to_dataset()
    )
    xr.testing.assert_identical(
        bounded["log_likelihood"].to_dataset(),
        whole["log_likelihood"].to_dataset().isel(draw=np.unique(np.linspace(0, 399, 80).round().astype(int))),
    )


def test_who_asks_for_a_number_of_draws_gets_them(short_of_room) -> None:
    posterior = calibrated(predictive_draws=800)
    assert posterior["posterior_predictive"].sizes["draw"] == 400
    forecast = bt.predict(known_decay(), posterior, decay_telemetry(), seed=1, draws=800)
    assert forecast["predictions"].sizes["draw"] == 400


def test_a_forecast_is_bounded_as_well_and_never_below_what_intervals_need(short_of_room, monkeypatch) -> None:
    posterior = calibrated()
    forecast = bt.predict(known_decay(), posterior, decay_telemetry(), seed=1)
    assert forecast["predictions"].sizes["draw"] == 80
    monkeypatch.setattr(predictor, "MOST_STORED", 1)
    fewest = bt.predict(known_decay(), posterior, decay_telemetry(), seed=1)
    assert fewest["predictions"].sizes["draw"] * 2 == predictor.FEWEST_DRAWS


def test_what_leaves_observations_out_goes_by_the_draws_that_there_are(short_of_room) -> None:
    posterior = calibrated()
    same = posterior["posterior"].to_dataset().sel(draw=posterior["log_likelihood"]["draw"])
    part = xr.DataTree.from_dict({**{n: g.to_dataset() for n, g in posterior.children.items()}, "posterior": same})
    part.attrs = posterior.attrs
    assert bt.influence(posterior).equals(bt.influence(part))
    twin = known_decay()
    assert bt.power_scaling(twin, posterior).equals(bt.power_scaling(twin, part))
    assert np.isfinite(bt.compare({"one": posterior, "other": posterior})["elpd"]).all()


def test_of_a_long_record_few_draws_are_solved_at_once() -> None:
    twin = known_decay()
    short, long = (build_density(twin, bind_all(twin, decay_telemetry(num))) for num in (12, 60_000))
    assert predictor.at_once(short) == predictor.AT_ONCE
    assert 1 <= predictor.at_once(long) <= predictor.MOST_KEPT / (6 * 60_000)


def test_the_setting_may_be_left_open() -> None:
    setting = next(setting for setting in SETTINGS if setting.name == "predictive_draws")
    assert [setting.fits(value) for value in (None, 1, 0)] == [True, True, False]
