"""Assets that were left out are predicted as if never seen, and the population makes the intervals hold and narrow."""

import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import xarray as xr
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.insight import unseen

QUICK = {"method": "laplace", "num_samples": 200, "num_chains": 2, "predictive_draws": 20}


def cooling(**pooling: object) -> bt.Twin:
    """Decay from a known level, at rates of which `pooling` says what they have in common."""
    return decay(
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 1.0), **pooling)},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )


def fleet(num: int = 12, spread: float = 0.2, seed: int = 1) -> dict[str, bt.Telemetry]:
    """Assets whose rates are log-normal around 0.6, each with times of its own."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(num):
        rate = 0.6 * np.exp(spread * rng.normal())
        times = np.concatenate([[0.0], np.sort(rng.uniform(0.2, 4.0, 5))])
        level = 5.0 * np.exp(-rate * times) + 0.1 * rng.normal(size=len(times))
        found[f"asset {number}"] = telemetry_of({"time": times, "level": level})
    return found


@pytest.fixture(scope="module")
def found() -> xr.DataTree:
    return bt.leave_assets_out(cooling(pooled=dist.HalfNormal(0.5)), fleet(), seed=0, folds=4, **QUICK)


def test_each_asset_is_predicted_once_at_its_own_times(found: xr.DataTree) -> None:
    predictions, told = found["predictions"].to_dataset(), found["leave_assets_out"].to_dataset()
    assert sorted(predictions["experiment"].values) == sorted(fleet())
    assert told["fold"].to_series().to_dict() == {f"asset {number}": number % 4 for number in range(12)}
    for name, telemetry in fleet().items():
        own = predictions["level"].sel(experiment=name).notnull().all(("chain", "draw"))
        np.testing.assert_allclose(own["time"].values[own.values], telemetry.table.index)


def test_it_is_the_prediction_of_an_asset_that_the_calibration_never_saw(found: xr.DataTree) -> None:
    telemetry, out = fleet(), ["asset 1", "asset 5", "asset 9"]
    seed = unseen.seed_for(0, "leave assets out 1")
    twin = cooling(pooled=dist.HalfNormal(0.5))
    posterior = bt.calibrate(
        twin, {name: own for name, own in telemetry.items() if name not in out}, seed=seed, **QUICK
    )
    by_hand = bt.predict(twin, posterior, {name: telemetry[name] for name in out}, seed=seed)["predictions"]["level"]
    same = found["predictions"]["level"].sel(experiment=out).sel(time=by_hand["time"])
    np.testing.assert_array_equal(same.transpose(*by_hand.dims).values, by_hand.values)


def test_what_was_observed_of_an_asset_does_not_move_its_own_prediction(found: xr.DataTree) -> None:
    telemetry = fleet()
    table = telemetry["asset 1"].table.reset_index(names="time")
    telemetry["asset 1"] = telemetry_of({"time": table["time"], "level": table["level"] + 3.0})
    moved = bt.leave_assets_out(cooling(pooled=dist.HalfNormal(0.5)), telemetry, seed=0, folds=4, **QUICK)
    for name, same in (("asset 1", True), ("asset 2", False)):
        before, after = (one["predictions"]["level"].sel(experiment=name).values for one in (found, moved))
        assert np.array_equal(before, after, equal_nan=True) == same


@pytest.mark.thorough
def test_a_population_makes_intervals_hold_and_narrow(found: xr.DataTree) -> None:
    """Rows of one asset lie high or low together, so that what counts is the number of assets."""
    telemetry = fleet()
    apart = bt.leave_assets_out(cooling(shared=False), telemetry, seed=0, folds=4, **QUICK)
    widths = []
    for tree in (found, apart):
        intervals = bt.intervals(tree, prob=0.9)
        widths.append(float((intervals["upper"] - intervals["lower"]).mean()))
    assert widths[0] < widths[1] / 2.0
    inside = bt.coverage(found, telemetry)["coverage"].sel(prob=0.9, observation="level").values
    low = scipy.stats.binom.ppf(0.001, 12, 0.9) / 12
    assert inside.mean() >= low


@pytest.mark.thorough
def test_a_spread_that_is_taken_for_nothing_is_seen(found: xr.DataTree) -> None:
    """Assets as if all were alike: the check that a population holds has to be able to fail."""
    telemetry = fleet(spread=0.4)
    alike = bt.leave_assets_out(cooling(), telemetry, seed=0, folds=4, **QUICK)
    inside = bt.coverage(alike, telemetry)["coverage"].sel(prob=0.9, observation="level").values
    assert inside.mean() < scipy.stats.binom.ppf(0.001, 12, 0.9) / 12


def test_one_asset_or_senseless_folds_are_refused() -> None:
    with pytest.raises(InvalidTelemetry, match="nothing to leave out"):
        bt.leave_assets_out(cooling(), decay_telemetry(), seed=0)
    with pytest.raises(InvalidTelemetry, match="nothing to leave out"):
        bt.leave_assets_out(cooling(), {"one": decay_telemetry()}, seed=0)
    for folds in (1, 13, 2.5):
        with pytest.raises(InvalidSetting, match="from 2 to 12"):
            bt.leave_assets_out(cooling(), fleet(), seed=0, folds=folds)


def test_what_is_done_is_returned_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate, calls = unseen.calibrate, []

    def impatient(*given: object, **settings: object) -> xr.DataTree:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calibrate(*given, **settings)

    monkeypatch.setattr(unseen, "calibrate", impatient)
    part = bt.leave_assets_out(cooling(pooled=dist.HalfNormal(0.5)), fleet(), seed=0, folds=4, **QUICK)
    assert part.attrs["interrupted"]
    assert part["predictions"].sizes["experiment"] == 6
    bt.coverage(part, {name: fleet()[name] for name in part.attrs["unseen"]})
