"""A backtest knows at each origin what was known then: cut in time, gap and window as told, failures kept as data."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from twins import decay, driven, telemetry_of

import bayestwin as bt
from bayestwin._base.process import seed_for
from bayestwin.assess.backtest import cut_stages
from bayestwin.errors import BayestwinError, InvalidSetting, InvalidTelemetry

QUICK = {"method": "laplace", "num_samples": 30, "num_chains": 2, "predictive_draws": 20, "draws": 20}


def record(**changes: np.ndarray) -> pd.DataFrame:
    """Six hours of the driven twin, every quarter of an hour."""
    rng = np.random.default_rng(61)
    hours = np.arange(25) * 0.25
    table = pd.DataFrame({"stepped": np.sin(hours) > 0.0, "sloped": np.cos(hours)}, index=hours).astype(float)
    truth = {"rate": 0.8, "gain": 1.0, "level_initial": 2.0, "level_scale": 0.1}
    made = bt.simulate(driven(), truth, read(table), seed=0)["level"].to_series()
    return table.assign(level=made + 0.0 * rng.random(25), **changes)


def read(table: pd.DataFrame) -> bt.Telemetry:
    return bt.read_telemetry(table.rename_axis("time"))


@functools.cache
def found(**changes: object) -> xr.DataTree:
    """A backtest of the driven twin: read it, and leave it as it is."""
    return bt.backtest(
        driven(), read(record()), **({"origins": (3.0, 4.5), "horizon": 1.0, "seed": 0} | QUICK | changes)
    )


@pytest.mark.thorough
def test_the_result_says_what_was_predicted_and_observed_when() -> None:
    tree = found()
    predicted = tree["predictions"]["level"]
    assert predicted.dims == ("chain", "draw", "origin", "horizon")
    assert list(tree["predictions"]["origin"].values) == [3.0, 4.5]
    assert list(tree["predictions"]["horizon"].values) == [0.25, 0.5, 0.75, 1.0]
    assert predicted.sizes["chain"] * predicted.sizes["draw"] == 20
    times = tree["predictions"]["time"]
    np.testing.assert_allclose(times, [[3.25, 3.5, 3.75, 4.0], [4.75, 5.0, 5.25, 5.5]], rtol=1e-12)
    table = record()
    for group, name in (("observed_data", "level"), ("predictions_constant_data", "sloped")):
        np.testing.assert_array_equal(tree[group][name].values.ravel(), table[name].reindex(times.values.ravel()))
    assert list(tree["origins"]["calibrated_until"].values) == [3.0, 4.5]
    assert list(tree["origins"]["num_calibrated"].values) == [13, 19]
    np.testing.assert_array_equal(tree["origins"]["level_last"], table["level"].loc[[3.0, 4.5]])
    assert list(tree["origins"]["failure"].values) == ["", ""]


def looks_ahead(derive: Callable[[pd.DataFrame], pd.DataFrame]) -> bool:
    """Whether what is predicted at an origin changes with what was observed after it."""
    honest, changed = record(), record()
    changed.loc[changed.index > 3.0, "level"] += 10.0
    before, after = (
        bt.backtest(driven(), read(derive(table)), origins=[3.0], horizon=1.0, seed=0, **QUICK)["predictions"]
        for table in (honest, changed)
    )
    return not before.to_dataset().equals(after.to_dataset())


def test_nothing_observed_after_an_origin_is_used_there() -> None:
    assert not looks_ahead(lambda table: table)


def test_a_planted_leak_is_seen() -> None:
    """An input that was made from the next observation, as by a filter that looks to both sides."""
    assert looks_ahead(lambda table: table.assign(sloped=table["level"].shift(-1).ffill()))


@pytest.mark.parametrize("window", ["expanding", "sliding"])
@pytest.mark.parametrize("gap", [0.0, 0.6])
def test_what_each_stage_is_handed_ends_where_it_should(window: str, gap: float) -> None:
    for stage in cut_stages(driven(), read(record()), 5, 1.0, gap, window):
        known, ahead = stage.known.table, stage.ahead.table
        assert known.index[-1] <= stage.origin - gap < known.index[-1] + 0.25
        assert known.index[-1] < ahead.index[0]
        assert ahead.index[-1] == stage.times[-1] == stage.origin + 1.0
        assert list(ahead.columns) == ["stepped", "sloped"]
        assert stage.known.t0 == stage.ahead.t0 == known.index[0]


def test_each_origin_is_what_calibrate_and_predict_say_of_it() -> None:
    """Also on its own: an origin gets the same seed whatever the others are."""
    lone = bt.backtest(driven(), read(record()), origins=[4.5], horizon=1.0, seed=0, **QUICK)
    np.testing.assert_array_equal(
        lone["predictions"]["level"].sel(origin=4.5), found()["predictions"]["level"].sel(origin=4.5)
    )


def test_a_gap_keeps_what_lies_before_the_origin_from_calibration() -> None:
    tree = found(gap=0.5)
    assert list(tree["origins"]["calibrated_until"].values) == [2.5, 4.0]
    np.testing.assert_allclose(tree["predictions"]["time"].sel(origin=3.0), [3.25, 3.5, 3.75, 4.0], rtol=1e-12)
    np.testing.assert_array_equal(tree["origins"]["level_last"], record()["level"].loc[[2.5, 4.0]])


def test_a_sliding_window_keeps_its_length() -> None:
    tree = found(window="sliding")
    assert list(tree["origins"]["calibrated_from"].values) == [0.0, 1.5]
    assert list(tree["origins"]["num_calibrated"].values) == [13, 13]
    # the first window is that of the expanding one
    np.testing.assert_array_equal(
        tree["predictions"]["level"].sel(origin=3.0), found()["predictions"]["level"].sel(origin=3.0)
    )
    for start in (2.0, {"first": 2.0}):
        known = driven(states={"level": bt.State(start)})
        with pytest.raises(InvalidSetting, match="cannot slide"):
            bt.backtest(known, read(record()), origins=(3.0, 4.5), horizon=1.0, seed=0, window="sliding", **QUICK)


def test_without_recalibration_a_twin_without_model_error_goes_on_from_the_first_origin() -> None:
    tree = found(recalibrate=False)
    posterior_at_first = found()["predictions"]["level_noise_free"].sel(origin=3.0)
    np.testing.assert_array_equal(tree["predictions"]["level_noise_free"].sel(origin=3.0), posterior_at_first)
    longer = bt.backtest(driven(), read(record()), origins=(3.0,), horizon=2.5, seed=0, **QUICK)
    np.testing.assert_allclose(
        tree["predictions"]["level_noise_free"].sel(origin=4.5),
        longer["predictions"]["level_noise_free"].sel(origin=3.0).isel(horizon=slice(6, None)),
        rtol=1e-5,
    )


@functools.cache
def calibrated() -> xr.DataTree:
    """What is known of the driven twin after three hours."""
    settings = {name: value for name, value in QUICK.items() if name != "draws"}
    return bt.calibrate(driven(), read(record()).between(end=3.01), seed=5, **settings)


def test_a_posterior_that_is_there_forecasts_from_where_it_ends_on() -> None:
    tree = bt.backtest(
        driven(), read(record()), origins=(3.0, 4.5), horizon=1.0, seed=0, draws=20, posterior=calibrated()
    )
    future = read(record().drop(columns="level").loc[3.25:4.0])
    seed = seed_for(0, "backtest 3.0")
    expected = bt.predict(driven(), calibrated(), future, seed=seed, draws=20)["predictions"]["level"]
    # to rounding: a backtest leaves room for more times
    np.testing.assert_allclose(tree["predictions"]["level"].sel(origin=3.0).values, expected.values, rtol=1e-9)
    # a later origin is told the inputs, and nothing else
    whole = bt.predict(driven(), calibrated(), read(record().drop(columns="level").loc[3.25:]), seed=1, draws=20)
    np.testing.assert_allclose(
        tree["predictions"]["level_noise_free"].sel(origin=4.5),
        whole["predictions"]["level_noise_free"].sel(time=slice(4.75, 5.5)),
        rtol=1e-5,
    )
    assert tree.attrs["posterior_seed"] == 5
    evenly = bt.backtest(driven(), read(record()), origins=3, horizon=1.0, seed=0, draws=20, posterior=calibrated())
    assert list(evenly["origins"]["origin"].values) == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"origins": (2.75, 4.0)}, "origins from 3.0 on, where the calibration ends"),
        ({"origins": 2, "horizon": 3.5}, "after what the posterior was calibrated on"),
        ({"method": "laplace"}, "calibrates nothing"),
        ({"gap": 0.5}, "calibrates nothing"),
        ({"telemetry": read(record().iloc[2:])}, "2 of its 13 times are not there"),
        ({"telemetry": read(record().assign(level=0.0))}, "not calibrated on the first part of this telemetry"),
    ],
)
def test_a_posterior_that_has_seen_what_came_is_refused(wrong: dict[str, object], words: str) -> None:
    settings = {"telemetry": read(record()), "origins": (3.0,), "horizon": 1.0, "seed": 0, "posterior": calibrated()}
    with pytest.raises(BayestwinError, match=re.escape(words)):
        bt.backtest(driven(), **(settings | wrong))


@pytest.mark.slow
def test_without_recalibration_a_model_error_is_led_by_what_has_been_observed_since() -> None:
    noise = bt.ProcessNoise({"level": 0.5}, initial_scale={"level": 1.0})
    twin = driven(states={"level": bt.State(1.0)}, observations={"level": bt.Observation(bt.Gaussian(0.05))})
    table = record()
    table.loc[table.index > 3.5, "level"] += 2.0  # a jump between the origins
    tree = bt.backtest(
        twin, read(table), origins=(3.0, 4.5), horizon=0.5, seed=0, recalibrate=False, model_error=noise, **QUICK
    )
    last = tree["origins"]["level_last"].sel(origin=4.5)
    ahead = tree["predictions"]["level"].sel(origin=4.5, horizon=0.25).mean()
    assert abs(float(ahead - last)) < 0.75


def test_an_origin_that_fails_is_data() -> None:
    table = record()
    table.loc[table.index <= 3.0, "level"] = np.nan  # nothing was observed before the first origin
    tree = bt.backtest(driven(), read(table), origins=(3.0, 4.5), horizon=1.0, seed=0, **QUICK)
    first, second = tree["origins"]["failure"].values
    assert first.startswith("InvalidTelemetry: ")
    assert second == ""
    assert np.isnan(tree["predictions"]["level"].sel(origin=3.0)).all()
    assert np.isfinite(tree["predictions"]["level"].sel(origin=4.5)).all()
    covered = bt.coverage(tree, prob=0.9, by="origin").sel(observation="level", prob=0.9)
    assert list(covered["num"].values) == [0, 4]  # what was not predicted is neither inside nor outside
    assert list(covered["failed"].values) == [1.0, 0.0]
    with pytest.raises(InvalidTelemetry):  # where all fail there is nothing to return
        bt.backtest(driven(), read(table), origins=(2.0, 3.0), horizon=1.0, seed=0, **QUICK)


@pytest.mark.thorough
def test_dates_and_missing_times_keep_their_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(62)
    hours = np.delete(np.arange(20) * 0.5, 16)
    dates = pd.Timestamp("2026-03-28T22:00") + pd.to_timedelta(hours, unit="h")
    telemetry = telemetry_of({"time": dates, "level": 5.0 * np.exp(-0.2 * hours) + 0.1 * rng.normal(size=19)})
    tree = bt.backtest(decay(), telemetry, origins=2, horizon=2.0, seed=0, **QUICK)
    assert list(tree["predictions"]["horizon"].values) == [0.5, 1.0, 1.5, 2.0]
    missing = tree["predictions"]["time"].isnull()
    assert missing.values.tolist() == [[False] * 4, [True, False, False, False]]
    assert tree["predictions"]["level"].isnull().all(("chain", "draw")).equals(missing)
    np.testing.assert_array_equal(tree["observed_data"]["level"].values[1, 1:], telemetry.table["level"].iloc[-3:])
    assert int(bt.coverage(tree, prob=0.9)["num"].sum()) == 7
    back = bt.load(bt.save(tree, tmp_path / "backtest.nc"))
    xr.testing.assert_identical(back, tree)
    bands = bt.intervals(tree, 0.9)
    assert bands["upper"].dims == ("observation", "prob", "origin", "horizon")
    assert int(bands["upper"].isnull().sum()) == 1
    assert bt.scores(tree)["num"].item() == 7
    assert bt.pit(tree, seed=0)["num"].item() == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": 0},
        {"origins": (6.0,)},
        {"origins": (0.5,), "gap": 1.0},
        {"horizon": 0.0},
        {"horizon": 99.0, "origins": 3},
        {"gap": -1.0},
        {"window": "growing"},
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_calibrated(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting):
        found(**wrong)


@pytest.mark.slow
def test_a_twin_that_covers_its_own_telemetry_does_so_at_every_horizon() -> None:
    hours = np.arange(81) * 0.25
    twin = decay(parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 0.5))})
    truth = {"rate": 0.1, "level_initial": 5.0, "level_scale": 0.3}
    made = bt.simulate(twin, truth, telemetry_of({"time": hours}), seed=3)["level"].to_series()
    tree = bt.backtest(twin, read(made.to_frame()), origins=8, horizon=1.0, seed=0, **(QUICK | {"draws": 60}))
    covered = bt.coverage(tree, prob=(0.5, 0.9), by="horizon")
    assert covered["within_band"].all(), covered["coverage"].values
