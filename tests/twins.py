"""The twins that several tests share, each with telemetry to bind it to."""

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.model.noise import Noise

MODELS = Path(__file__).parents[1] / "models"

# Hudson's Bay Company pelts, thousands, 1900-1920.
HARES = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6]
HARES += [14.6, 16.2, 24.7]
LYNXES = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7]
LYNXES += [10.1, 8.6]
PELTS = {"year": np.arange(1900.0, 1921.0), "hare": HARES, "lynx": LYNXES}


def telemetry_of(columns: Mapping[str, object], **settings: object) -> bt.Telemetry:
    """Telemetry from columns, one of them `time` unless `time=` says otherwise."""
    return bt.read_telemetry(pd.DataFrame(dict(columns)), **settings)


def bound_density(twin: bt.Twin, telemetry: bt.Telemetry) -> Density:
    """The log density of a twin given telemetry."""
    return build_density(twin, bind(twin, telemetry))


def lynx_hare() -> bt.Twin:
    """The twin that ships as `models/lynx_hare`."""
    spec = importlib.util.spec_from_file_location("lynx_hare_twin", MODELS / "lynx_hare" / "twin.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twin


def pelts() -> bt.Telemetry:
    """The Hudson's Bay record."""
    return telemetry_of(PELTS, time="year")


@functools.cache
def lynx_hare_posterior() -> xr.DataTree:
    """The posterior of lynx and hares, calibrated once for all tests: read it, and leave it as it is."""
    return bt.calibrate(lynx_hare(), pelts(), seed=0)


LYNX_HARE_VALUES = {
    "alpha": 0.55,
    "beta": 0.028,
    "gamma": 0.8,
    "delta": 0.024,
    "hare_initial": 34.0,
    "lynx_initial": 5.9,
    "hare_scale": 0.25,
    "lynx_scale": 0.25,
}


def decay_field(t, x, p, u):
    """Exponential decay."""
    return {"level": -p.rate * x.level}


def decay(**changes: object) -> bt.Twin:
    """`level' = −rate · level`, observed with Gaussian noise; both and the noise have priors."""
    settings = {
        "name": "decay",
        "vector_field": decay_field,
        "states": {"level": bt.State(dist.Normal(5.0, 1.0), unit="m", doc="height of the water")},
        "parameters": {"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", doc="rate of the leak")},
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), unit="m", doc="gauge")},
        "time_unit": "h",
    }
    return bt.Twin(**(settings | changes))


def decay_telemetry(num: int = 12, **settings: object) -> bt.Telemetry:
    """Noisy samples of `5 exp(−0.8 t)`, at irregular times from 0 on."""
    rng = np.random.default_rng(8)
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 4.0, num - 1))])
    level = 5.0 * np.exp(-0.8 * times) + 0.1 * rng.standard_normal(num)
    return telemetry_of({"time": times, "level": level}, **settings)


def known_decay() -> bt.Twin:
    """The decay of an unknown level at a known rate: one unknown, and a normal posterior."""
    return decay(
        parameters={"rate": bt.Parameter(0.8)}, observations={"level": bt.Observation(bt.Gaussian(0.3), unit="m")}
    )


@functools.cache
def known_decay_posterior() -> xr.DataTree:
    """Its posterior, calibrated once for all tests: read it, and leave it as it is."""
    return bt.calibrate(known_decay(), decay_telemetry(), seed=3)


def driven_field(t, x, p, u):
    """First-order lag of two inputs."""
    return {"level": p.gain * u.stepped + u.sloped - p.rate * x.level}


def driven(**changes: object) -> bt.Twin:
    """`level' = gain · stepped + sloped − rate · level` with an input of each hold."""
    settings = {
        "name": "driven",
        "vector_field": driven_field,
        "states": {"level": bt.State(dist.Normal(1.0, 1.0))},
        "parameters": {
            "rate": bt.Parameter(dist.LogNormal(0.0, 0.5)),
            "gain": bt.Parameter(dist.Normal(1.0, 0.5)),
        },
        "inputs": {"stepped": bt.Input(hold="previous"), "sloped": bt.Input(hold="linear")},
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)))},
    }
    return bt.Twin(**(settings | changes))


def lag_step(start: float, span: float, rate: float, push: float, slope: float) -> float:
    """Exact solution of `x' = push + slope·s − rate·x` after `span`, from x(0) = `start`."""
    faded = np.exp(-rate * span)
    constant = push / rate * (1.0 - faded)
    ramp = slope * (span / rate - (1.0 - faded) / rate**2)
    return start * faded + constant + ramp


def lag(times: np.ndarray, stepped: np.ndarray, sloped: np.ndarray, start: float, rate: float, gain: float):
    """Exact states of `driven` at its input samples; shape (n,)."""
    states = [start]
    for i, span in enumerate(np.diff(times)):
        slope = (sloped[i + 1] - sloped[i]) / span
        states.append(lag_step(states[-1], span, rate, gain * stepped[i] + sloped[i], slope))
    return np.array(states)


ROBERTSON_RATES = {"k1": 0.04, "k2": 3e7, "k3": 1e4}


def robertson_field(t, x, p, u):
    """Three reactions whose rates are nine powers of ten apart."""
    slow, fast, last = p.k1 * x.a, p.k3 * x.b * x.c, p.k2 * x.b**2
    return {"a": -slow + fast, "b": slow - fast - last, "c": last}


def robertson(**changes: object) -> bt.Twin:
    """Robertson's stiff reaction from a known start, with priors on its three rates, seen in `a` and `c`."""
    noise = bt.Gaussian(dist.HalfNormal(0.05))
    settings = {
        "name": "robertson",
        "vector_field": robertson_field,
        "states": {"a": bt.State(1.0), "b": bt.State(0.0), "c": bt.State(0.0)},
        "parameters": {n: bt.Parameter(dist.LogNormal(np.log(v), 0.5)) for n, v in ROBERTSON_RATES.items()},
        "observations": {"a": bt.Observation(noise), "c": bt.Observation(noise)},
    }
    return bt.Twin(**(settings | changes))


NOISES = {
    "gaussian": bt.Gaussian(dist.HalfNormal(0.5)),
    "lognormal": bt.LogNormal(dist.LogNormal(-1.0, 0.5)),
    "student": bt.StudentT(dist.HalfNormal(0.5), df=dist.Gamma(4.0, 0.5)),
    "poisson": bt.Poisson(),
}


def counted(noise: Noise) -> bt.Twin:
    """The driven twin whose level is seen under `noise` as `5 + level²`, a positive number."""
    return driven(
        observations={"seen": bt.Observation(noise, of=lambda t, x, p, u: 5.0 + x.level**2 + 0.1 * u.stepped)}
    )


def counted_telemetry() -> bt.Telemetry:
    """Counts, three of twelve missing, with both inputs of the driven twin."""
    rng = np.random.default_rng(4)
    seen = np.array([6, 7, np.nan, 9, 5, 8, np.nan, np.nan, 6, 5, 11, 7])
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.05, 1.0, 11))])
    return telemetry_of({"time": times, "seen": seen, "stepped": rng.normal(size=12), "sloped": rng.normal(size=12)})


# The tank: dated, in other units than the twin's, with gaps at different times.
DATES = pd.date_range("2026-03-28T22:00", periods=10, freq="30min", tz="Europe/Berlin")
CELSIUS = 20.0 + 5.0 * np.exp(-np.arange(10) * 0.5)
OUTDOOR = np.linspace(18.0, 22.0, 10)


def tank() -> bt.Twin:
    """A tank that takes the temperature of the room, seen by two sensors, and by a third that never worked."""
    return bt.Twin(
        name="tank",
        vector_field=lambda t, x, p, u: {"water": (u.outdoor - x.water) / p.lag},
        states={"water": bt.State(dist.Normal(25.0, 1.0), unit="degC")},
        parameters={"lag": bt.Parameter(dist.LogNormal(0.7, 0.3), unit="h")},
        inputs={"outdoor": bt.Input(unit="degC")},
        observations={
            "water": bt.Observation(bt.Gaussian(0.1), unit="degC"),
            "bottom": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.water - 1.0, unit="degC"),
            "top": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), of=lambda t, x, p, u: x.water + 1.0, unit="degC"),
        },
        time_unit="h",
    )


def tank_telemetry() -> bt.Telemetry:
    """Five hours across the night in which clocks change, each sensor with gaps of its own."""
    table = pd.DataFrame(
        {"time": DATES, "water": CELSIUS * 1.8 + 32.0, "top": CELSIUS + 274.15, "outdoor": OUTDOOR, "bottom": np.nan}
    )
    table.loc[[2, 3], "water"] = np.nan
    table.loc[[0, 8], "top"] = np.nan
    return bt.read_telemetry(table, units={"water": "degF", "top": "K"})


@functools.cache
def tank_posterior() -> xr.DataTree:
    """The posterior of the tank, calibrated once for all tests: read it, and leave it as it is."""
    return bt.calibrate(tank(), tank_telemetry(), seed=1, num_warmup=150, num_samples=150)
