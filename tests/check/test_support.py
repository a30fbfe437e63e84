"""Forecasts that leave what calibration has seen are told apart from those that stay in it, in words."""

import functools
import itertools

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay_telemetry, known_decay, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin.check.range import BEYOND
from bayestwin.check.support import MORE_LEVERAGE
from bayestwin.errors import InvalidSetting

CALIBRATED, AHEAD = 480, 48
FORECASTS = {"inside": 200, "level": 40, "rate": 40, "combination": 40, "state": 40}


def room_field(t, x, p, u):
    """One mass between a heater and the air outdoors."""
    return {"indoor": (u.outdoor - x.indoor) / p.tau + p.gain * u.heating}


@functools.cache
def room() -> bt.Twin:
    return bt.Twin(
        name="one_mass",
        vector_field=room_field,
        states={"indoor": bt.State(dist.Normal(20.0, 3.0), unit="degC")},
        parameters={
            "tau": bt.Parameter(dist.LogNormal(np.log(10.0), 0.3), unit="h"),
            "gain": bt.Parameter(dist.LogNormal(0.0, 0.3), unit="K/h/kW"),
        },
        inputs={"outdoor": bt.Input(unit="degC"), "heating": bt.Input(unit="kW", hold="previous")},
        observations={"indoor": bt.Observation(bt.Gaussian(0.2), unit="degC")},
        time_unit="h",
    )


def day(times: np.ndarray) -> np.ndarray:
    """The temperature outdoors on a mean day."""
    return 10.0 + 5.0 * np.sin(2.0 * np.pi * times / 24.0)


def weather(rng: np.random.Generator, first: int, num: int, before: float = 0.0) -> dict[str, np.ndarray]:
    """Days that differ, and a heater that does more the colder it is; `before` is how the hour before differed."""
    times, noise = first + np.arange(num, dtype=float), np.empty(num)
    for k in range(num):
        noise[k] = before = 0.9 * before + 0.4 * rng.standard_normal()
    outdoor = day(times) + noise
    heating = np.clip(1.0 - 0.1 * (outdoor - 10.0) + 0.1 * rng.standard_normal(num), 0.0, 2.0)
    return {"time": times, "outdoor": outdoor, "heating": heating}


@functools.cache
def past() -> dict[str, np.ndarray]:
    return weather(np.random.default_rng(0), 0, CALIBRATED)


@functools.cache
def calibrated() -> xr.DataTree:
    signals = past()
    truth = {"tau": 10.0, "gain": 1.0, "indoor_initial": 20.0}
    seen = bt.simulate(room(), truth, telemetry_of(signals), seed=0)["indoor"].values
    return bt.calibrate(room(), telemetry_of({**signals, "indoor": seen}), seed=0, method="laplace", num_samples=50)


def planned(kind: str, number: int) -> dict[str, np.ndarray]:
    """Two days ahead as all were, or with an excursion of half a day."""
    before = past()["outdoor"][-1] - day(past()["time"][-1])
    found = weather(np.random.default_rng([19, number]), CALIBRATED, AHEAD, before)
    rows = slice(12, 24)
    if kind == "level":
        found["outdoor"][rows] -= 12.0
    elif kind == "rate":
        found["outdoor"][rows] = 10.0 + 4.0 * (-1.0) ** np.arange(12)
    elif kind == "combination":  # more and more the heater is on when it is warm, and off when it is cold
        share, against = np.linspace(0.0, 1.0, AHEAD), np.clip(1.0 + 0.1 * (found["outdoor"] - 10.0), 0.0, 2.0)
        found["heating"] = (1.0 - share) * found["heating"] + share * against
    return found


def stays(signals: dict[str, np.ndarray]) -> bool:
    """Whether no input is higher, lower or faster than it ever was: then a forecast is one inside."""
    for name in ("outdoor", "heating"):
        seen, new = past()[name], np.append(past()[name][-1], signals[name])
        if new.min() < seen.min() or new.max() > seen.max() or abs(np.diff(new)).max() > abs(np.diff(seen)).max():
            return False
    return True


def seen_as(kind: str, found: xr.Dataset) -> bool:
    """Whether an excursion is told, and as what it is; of a forecast inside whether anything is told."""
    beyond, outdoor = found["beyond"], found["beyond"].sel(quantity="outdoor").values
    if kind == "level":
        return bool(outdoor[14:20].all())  # after the fall, when nothing is fast any more
    if kind == "rate":
        return bool(outdoor[14:20].all() and not found["outside"].sel(quantity="outdoor").values[14:20].any())
    if kind == "state":
        return bool(beyond.sel(quantity="indoor").values[0])
    if kind == "combination":
        apart = (found["leverage"] > MORE_LEVERAGE) & ~(found["outside"] > BEYOND).any("quantity")
        return bool(apart.any() and found["new"].values[apart.values].all())
    return bool(found["new"].any())


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORECASTS)
def test_excursions_are_told_and_forecasts_inside_are_not(kind: str) -> None:
    told = 0
    plans = (planned(kind, number) for number in itertools.count())
    fitting = (plan for plan in plans if kind not in ("inside", "state") or stays(plan))
    for number, plan in enumerate(itertools.islice(fitting, FORECASTS[kind])):
        future = telemetry_of(plan)
        initial = {"indoor": 32.0} if kind == "state" else None
        forecast = bt.predict(room(), calibrated(), future, seed=number, initial=initial, draws=20)
        told += seen_as(kind, bt.extrapolation(room(), calibrated(), forecast))
    if kind == "inside":
        assert told <= 0.05 * FORECASTS[kind]
    else:
        assert told >= 0.95 * FORECASTS[kind]


def test_what_is_new_is_said_of_each_quantity_and_time() -> None:
    signals = planned("level", 3)
    forecast = bt.predict(room(), calibrated(), telemetry_of(signals), seed=1, draws=20)
    found = bt.extrapolation(room(), calibrated(), forecast, limits={"heating": {"high": 0.1}})
    assert found["quantity"].values.tolist() == ["outdoor", "heating", "indoor"]
    beyond = found["beyond"].sel(quantity="outdoor").values
    assert beyond[12:24].any()
    assert not beyond[:12].any()
    assert found["new"].values.sum() >= beyond.sum()
    first, *_, last = found.attrs["sentences"]
    assert first.startswith("`outdoor` is ")
    assert "calibrated was" in first
    assert last.startswith("`heating` is outside the operating range")


def test_a_twin_without_inputs_goes_on_within_what_its_state_was() -> None:
    twin, posterior = known_decay(), known_decay_posterior()
    later = telemetry_of({"time": decay_telemetry().table.index[-1] + np.linspace(0.2, 1.0, 5)}, t0=0.0)
    found = bt.extrapolation(twin, posterior, bt.predict(twin, posterior, later, seed=0))
    assert found.attrs["sentences"] == []


def test_several_experiments_are_refused() -> None:
    twin = known_decay()
    posterior = bt.calibrate(twin, {"a": decay_telemetry()}, seed=0, method="laplace", num_samples=50)
    later = telemetry_of({"time": [5.0, 6.0]}, t0=0.0)
    forecast = bt.predict(twin, posterior, {"a": later}, seed=0)
    with pytest.raises(InvalidSetting, match="one telemetry"):
        bt.extrapolation(twin, posterior, forecast)
