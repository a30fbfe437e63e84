"""Quantities of interest in forecasts: their draws, their intervals, first times that never come, and meters."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.telemetry import Telemetry

HOURS = pd.date_range("2026-01-01", periods=72, freq="h", name="time")


def decay(t, x, p, u):
    """A store that loses its content at a constant relative rate, and is fed."""
    return {"content": u.feed - p.rate * x.content}


STORE = bt.Twin(
    name="store",
    vector_field=decay,
    states={"content": bt.State(10.0, unit="kWh")},
    parameters={"rate": bt.Parameter(dist.LogNormal(-3.0, 0.5), unit="1/h")},
    inputs={"feed": bt.Input(unit="kW", hold="previous")},
    observations={"content": bt.Observation(noise=bt.Gaussian(0.2), unit="kWh")},
    time_unit="h",
)
QUANTITIES = {
    "fed": bt.Integral(of="feed", unit="MJ", meter="fed_meter", doc="energy that was fed"),
    "lost": bt.Integral(of=lambda t, x, p, u: p.rate * x.content, unit="kWh", meter="lost_meter"),
    "low_at": bt.FirstTime(lambda t, x, p, u: x.content < 5.0),
    "mean": bt.Mean(of="content", unit="kWh"),
    "held": bt.FromRows(lambda t, x, p, u: x.content.mean(), unit="kWh"),
}
RATE = 0.05


def record() -> pd.DataFrame:
    feed = np.where(np.arange(72) < 36, 0.3, 0.1)
    table = pd.DataFrame({"feed": feed}, index=HOURS)
    made = bt.simulate(STORE, {"rate": RATE}, bt.read_telemetry(table), seed=0)
    content = made["content_state"].to_numpy()
    fed = np.concatenate([[0.0], np.cumsum(feed)[:-1]])
    return table.assign(
        content=made["content"].to_numpy(), fed_meter=7.0 + fed, lost_meter=100.0 + fed - (content - 10.0)
    )


@pytest.fixture(scope="module")
def telemetry() -> Telemetry:
    units = {"feed": "kW", "content": "kWh", "fed_meter": "kWh", "lost_meter": "kWh"}
    return bt.read_telemetry(record(), units=units)


@pytest.fixture(scope="module")
def posterior(telemetry: Telemetry) -> xr.DataTree:
    return bt.calibrate(STORE, telemetry.between(end=HOURS[36]), seed=0, num_chains=2, num_samples=200)


@pytest.fixture(scope="module")
def forecast(telemetry: Telemetry, posterior: xr.DataTree) -> xr.DataTree:
    asked = dataclasses.replace(STORE, quantities=QUANTITIES)
    return bt.predict(asked, posterior, telemetry.between(start=HOURS[36]), seed=1)


def test_a_posterior_from_before_predicts_quantities_and_all_else_stays(forecast, posterior, telemetry) -> None:
    plain = bt.predict(STORE, posterior, telemetry.between(start=HOURS[36]), seed=1)
    for name, values in plain["predictions"].data_vars.items():
        xr.testing.assert_identical(values, forecast["predictions"][name])


def test_each_draw_has_its_own(forecast, posterior) -> None:
    found = forecast["predictions"].to_dataset()
    rate = posterior["posterior"]["rate"].to_numpy()
    begin, end = (found["content_state"].isel(time=place).to_numpy() for place in (0, -1))
    # closed form of a constant feed of 0.1 kW over 35 h
    np.testing.assert_allclose(found["fed"], 0.1 * 35 * 3.6, rtol=1e-9)
    np.testing.assert_allclose(found["lost"], 3.5 - (end - begin), rtol=1e-5)
    np.testing.assert_allclose(found["mean"], found["lost"] / rate / 35.0, rtol=1e-8)
    np.testing.assert_allclose(found["held"], found["content_state"].mean("time"), rtol=1e-9)
    assert found["fed"].attrs == {
        "units": "MJ",
        "long_name": "energy that was fed",
        "quantity": "Integral",
        "first": "2026-01-02T12:00:00.000000000",
        "last": "2026-01-03T23:00:00.000000000",
        "meter": "fed_meter",
    }


def test_a_first_time_is_that_of_the_closed_form_or_never_comes(forecast, posterior) -> None:
    found = forecast["predictions"].to_dataset()
    rate = posterior["posterior"]["rate"].to_numpy()
    begin = found["content_state"].isel(time=0).to_numpy()
    rest = 0.1 / rate
    expected = np.where(begin < 5.0, 0.0, np.log((begin - rest) / (5.0 - rest)) / rate)
    expected = np.where(expected <= 35.0, expected, np.inf)
    np.testing.assert_allclose(found["low_at"], expected, rtol=1e-5, atol=1e-5)


def test_intervals_and_meters(forecast, telemetry) -> None:
    found = bt.quantities(forecast, prob=(0.5, 0.9), telemetry=telemetry)
    drawn = forecast["predictions"]["lost"].to_numpy()
    np.testing.assert_allclose(found["median"].sel(quantity="lost"), np.median(drawn))
    np.testing.assert_allclose(found["lower"].sel(quantity="lost", prob=0.9), np.quantile(drawn, 0.05))
    row = record()
    assert found["measured"].sel(quantity="lost") == pytest.approx(np.ptp(row["lost_meter"].iloc[36:]))
    assert found["measured"].sel(quantity="fed") == pytest.approx(np.ptp(row["fed_meter"].iloc[36:]) * 3.6)
    inside = found["inside"].sel(quantity="lost", prob=0.9)
    lower, upper = (found[end].sel(quantity="lost", prob=0.9) for end in ("lower", "upper"))
    assert bool(inside) == bool(lower <= np.ptp(row["lost_meter"].iloc[36:]) <= upper)
    assert np.isnan(found["inside"].sel(quantity="mean")).all()
    assert list(found["units"].values) == ["MJ", "kWh", "h", "kWh", "kWh"]


def test_a_first_time_that_never_comes_counts_as_later() -> None:
    drawn = np.array([[1.0, 2.0, 3.0, np.inf, np.inf, np.nan]])
    attrs = {"units": "h", "quantity": "FirstTime"}
    data = {"low_at": (("chain", "draw"), drawn, attrs)}
    found = bt.quantities(xr.DataTree.from_dict({"predictions": xr.Dataset(data)}), prob=0.9)
    assert found["never"] == pytest.approx(0.4)
    assert found["unsolved"] == pytest.approx(1 / 6)
    assert found["median"] == 3.0
    assert found["lower"] == 1.0
    assert found["upper"] == np.inf


def test_a_meter_that_counts_backwards_is_refused(forecast) -> None:
    table = record()
    table.loc[HOURS[50], "lost_meter"] = 0.0
    with pytest.raises(bt.errors.InvalidTelemetry, match="`lost_meter` counts backwards"):
        bt.quantities(forecast, telemetry=bt.read_telemetry(table, units={"lost_meter": "kWh", "fed_meter": "kWh"}))


def test_a_forecast_without_quantities_is_refused(posterior, telemetry) -> None:
    plain = bt.predict(STORE, posterior, telemetry.between(start=HOURS[36]), seed=1, draws=20)
    with pytest.raises(bt.errors.InvalidInput, match="holds no quantities"):
        bt.quantities(plain)


def test_they_survive_a_file(forecast, tmp_path) -> None:
    bt.save(forecast, tmp_path / "forecast.nc")
    again = bt.load(tmp_path / "forecast.nc")
    xr.testing.assert_identical(bt.quantities(again), bt.quantities(forecast))


@pytest.mark.slow
def test_a_start_that_is_given_and_process_noise(telemetry, posterior) -> None:
    asked = dataclasses.replace(STORE, quantities={name: QUANTITIES[name] for name in ("lost", "mean", "low_at")})
    week = bt.read_telemetry(record()[["feed"]].shift(freq="100D"), units={"feed": "kW"})
    plan = bt.predict(asked, posterior, week, seed=2, initial={"content": 8.0}, draws=40)["predictions"]
    end = plan["content_state"].isel(time=-1)
    np.testing.assert_allclose(plan["lost"], 0.3 * 36 + 0.1 * 35 - (end - 8.0), rtol=1e-5)
    noisy = dataclasses.replace(asked, model_error=bt.ProcessNoise({"content": 0.1}))
    again = bt.calibrate(noisy, telemetry.between(end=HOURS[36]), seed=0, num_chains=2, num_samples=100)
    found = bt.predict(noisy, again, telemetry.between(start=HOURS[36]), seed=1)["predictions"]
    path = found["content_state"].to_numpy()
    np.testing.assert_allclose(found["mean"], np.trapezoid(path, axis=-1) / 35.0, rtol=1e-9)
    first = np.argmax(path < 5.0, axis=-1).astype(float)
    late = np.where((path < 5.0).any(axis=-1), first, np.inf)
    assert (np.isinf(found["low_at"]) == np.isinf(late)).all()
    there = np.isfinite(late)
    assert (np.abs(found["low_at"].to_numpy()[there] - late[there]) <= 1.0).all()


@pytest.mark.slow
def test_several_experiments_each_have_their_own() -> None:
    table = record()
    records = {n: bt.read_telemetry(table.iloc[k : k + 24][["feed", "content"]]) for n, k in (("a", 0), ("b", 30))}
    twin = dataclasses.replace(STORE, states={"content": bt.State(dist.Normal(8.0, 3.0), unit="kWh")})
    asked = dataclasses.replace(twin, quantities={name: QUANTITIES[name] for name in ("lost", "held", "low_at")})
    posterior = bt.calibrate(twin, records, seed=0, num_chains=2, num_samples=100)
    found = bt.predict(asked, posterior, records, seed=1)
    own = found["predictions"]["lost"]
    assert own.dims == ("chain", "draw", "experiment")
    state = found["predictions"]["content_state"]
    for name, one in records.items():
        feed = one.table["feed"].to_numpy()[:-1].sum()
        path = state.sel(experiment=name).dropna("time", how="all")
        expected = feed - (path.isel(time=-1) - path.isel(time=0))
        np.testing.assert_allclose(own.sel(experiment=name), expected, rtol=1e-5)
        np.testing.assert_allclose(found["predictions"]["held"].sel(experiment=name), path.mean("time"), rtol=1e-9)
    assert bt.quantities(found, prob=0.9)["median"].dims == ("experiment", "quantity")
