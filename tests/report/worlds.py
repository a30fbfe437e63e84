"""Results of validations whose verdict is known: observations planted around a forecast N(0, 1), and a backtest."""

import functools
import pathlib
import types

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.assess import conformalize, coverage, scores
from bayestwin.assess.gates import Gate
from bayestwin.assess.trust import Validated
from bayestwin.project.calibrate import Results
from bayestwin.project.model import Split
from bayestwin.project.validate import Plan, Trialled, judge_all
from bayestwin.telemetry import Telemetry

NUM, ORIGINS, AHEAD = 240, 20, 10
LEVELS = (0.5, 0.8, 0.9, 0.95)
PASSED = (Gate("rhat", True, 1.0, 1.01, "4 of 4 chains agree."),)


def errors_of(rng: np.random.Generator, num: int, memory: float = 0.0) -> np.ndarray:
    """Standard normal errors with that correlation from one to the next."""
    found = rng.normal(size=num)
    for place in range(1, num):
        found[place] = memory * found[place - 1] + np.sqrt(1 - memory**2) * found[place]
    return found


# what was held out as a multiple of what the forecast expects, its memory, how many there are; the backtest's multiple
WORLDS = {
    "holds": (1.0, 0.0, NUM, 1.0),
    "misses": (2.2, 0.0, NUM, 2.2),
    "too wide": (0.3, 0.0, NUM, 0.3),
    "cannot be told": (1.0, 0.995, NUM, 1.0),
    "too few": (1.0, 0.0, 9, 1.0),
    "conformal that fails": (1.0, 0.0, NUM, 0.1),
    "missed far ahead": (0.75, 0.0, NUM, 1.0),
}


def group(values: np.ndarray, dims: tuple[str, ...], coords: dict) -> xr.Dataset:
    """Predictive draws of a forecast N(0, 1), at the shape of `values`."""
    draws = np.random.default_rng(1).normal(size=(2, 200, *values.shape))
    units = {"units": "m"}
    names = ("level", "level_noise_free")
    return xr.Dataset({name: (("chain", "draw", *dims), draws, units) for name in names}, coords)


def telemetry(values: np.ndarray, start: float) -> Telemetry:
    times = pd.Index(start + np.arange(float(len(values))), name="time")
    return Telemetry(pd.DataFrame({"level": values}, index=times), {"level": "m"}, times[0], "planted", "ab" * 32)


@functools.cache
def planted(name: str) -> Validated:
    """What a validation finds in a world of that name."""
    scale, memory, num, trial_scale = WORLDS[name]
    rng = np.random.default_rng(8)
    past, held = telemetry(rng.normal(size=100), -100.0), scale * errors_of(rng, num, memory)
    if name == "missed far ahead":
        held[-60:] *= 2.7
    future = telemetry(held, 0.0)
    known = xr.Dataset({"level": ("time", past.table["level"])}, {"time": past.table.index.to_numpy()})
    times = future.table.index.to_numpy()
    forecast = xr.DataTree.from_dict({"predictions": group(held, ("time",), {"time": times}), "observed_data": known})
    forecast.attrs = {"time_unit": "h", "telemetry_time_unit": "h"}
    origin, ahead, dims = -100.0 + 4 * np.arange(ORIGINS), 1.0 + np.arange(AHEAD), ("origin", "horizon")
    came = trial_scale * rng.normal(size=(ORIGINS, AHEAD))
    coords = {"origin": origin, "horizon": ahead, "time": (dims, origin[:, None] + ahead)}
    words = np.full(ORIGINS, "", dtype=object)
    told = {"failure": words, "failed_gates": words, "level_last": np.zeros(ORIGINS), "calibrated_until": origin}
    told |= {"calibrated_from": np.full(ORIGINS, -100.0), "num_calibrated": np.full(ORIGINS, 50)}
    trial = xr.DataTree.from_dict(
        {
            "predictions": group(came, dims, coords),
            "predictions_constant_data": xr.Dataset(coords=coords),
            "observed_data": xr.Dataset({"level": (dims, came, {"units": "m"})}, coords),
            "origins": xr.Dataset({key: ("origin", value) for key, value in told.items()}, {"origin": origin}),
        }
    )
    trial.attrs = forecast.attrs | {"interrupted": False}
    posterior = xr.DataTree.from_dict({"observed_data": known})
    posterior.attrs = {"twin": "tank", "time_unit": "h"}
    run = Results(
        pathlib.Path("run"),
        posterior,
        forecast,
        PASSED,
        coverage(forecast, future),
        scores(forecast, future),
        Split(past, future),
        {},
    )
    twin = types.SimpleNamespace(inputs={}, time_unit="h")
    settings = {"horizon": 10.0, "gap": 0.0, "recalibrate": True, "window": "expanding", "method": "laplace"}
    plan = Plan(0.9, LEVELS, {}, None, None, ORIGINS, ORIGINS, settings, "split", 0)
    model = types.SimpleNamespace(twin=twin, folder=pathlib.Path("models/tank"))
    return judge_all(model, run, plan, Trialled(trial, conformalize(trial, LEVELS)), {})  # type: ignore[arg-type]
