"""Synthetic results for the report's tests: they look like real ones and cost no calibration.

Draws are planted around a known truth and pushed through a small RK4 or an exact step, so that intervals,
residuals and coverage behave as those of a good calibration do.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import several
import xarray as xr
from described import FIRST, LYNX_HARE, PELTS, ROOM, describe_lynx_hare, describe_room

from bayestwin.report import render_report
from bayestwin.telemetry import Telemetry

type Arrays = dict[str, np.ndarray]
type Units = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Case:
    """One asset's posterior, forecast and held-out telemetry."""

    posterior: xr.DataTree
    forecast: xr.DataTree
    validation: Telemetry


HARES = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6]
HARES += [14.6, 16.2, 24.7]
LYNXES = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7]
LYNXES += [10.1, 8.6]


def as_group(variables: Arrays, time: np.ndarray | None, units: Units, words: Units) -> xr.Dataset:
    """Name the dimensions of arrays shaped (chain, draw[, time]), or (time,)."""
    data = {}
    for name, values in variables.items():
        dims = ("time",) if values.ndim == 1 else ("chain", "draw", "time")[: values.ndim]
        attrs = {"units": units.get(name, ""), "long_name": words.get(name, "")}
        data[name] = (dims, values, attrs)
    first = next(iter(variables.values()))
    coords = {} if first.ndim == 1 else {"chain": np.arange(first.shape[0]), "draw": np.arange(first.shape[1])}
    return xr.Dataset(data, coords=coords if time is None else {**coords, "time": time})


def sample_stats(rng: np.random.Generator, shape: tuple[int, int]) -> xr.Dataset:
    """Those statistics that a report reads, without trouble but for three failed solves."""
    failed = np.zeros(shape, bool)
    failed[0, :3] = True
    stats = {
        "diverging": np.zeros(shape, bool),
        "energy": 44 + rng.gamma(4, 1.5, shape),
        "solver_failed": failed,
    }
    return as_group(stats, None, {}, {})


def hudson_bay(draws: Arrays, years: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve Lotka–Volterra for every draw by RK4, ten steps a year; results gain the dimension time."""

    def slope(hare: np.ndarray, lynx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rise = (draws["alpha"] - draws["beta"] * lynx) * hare
        return rise, (-draws["gamma"] + draws["delta"] * hare) * lynx

    state = (draws["hare_initial"], draws["lynx_initial"])
    path = [state]
    step = 0.1
    for _ in range(10 * (len(years) - 1)):
        one = slope(*state)
        two = slope(*(s + step / 2 * k for s, k in zip(state, one, strict=True)))
        three = slope(*(s + step / 2 * k for s, k in zip(state, two, strict=True)))
        four = slope(*(s + step * k for s, k in zip(state, three, strict=True)))
        slopes = zip(state, one, two, three, four, strict=True)
        state = tuple(s + step / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in slopes)
        path.append(state)
    return np.stack([p[0] for p in path[::10]], -1), np.stack([p[1] for p in path[::10]], -1)


def root_attrs(description: dict, seed: int) -> dict:
    """Attributes that every result carries."""
    told = {"bayestwin_version": "0.1.0", "schema_version": 1, "seed": seed, "job": "{}", "t0": "1900.0"}
    sums = {"twin_sha256": "3f" * 32, "telemetry_sha256": "a7" * 32}
    return (
        told | sums | {"twin": description["name"], "time_unit": description["time_unit"], "description": description}
    )


def calibration_attrs(rng: np.random.Generator) -> dict:
    """Attributes that only `calibrate` writes."""
    best = -np.sort(np.concatenate([np.zeros(11), rng.gamma(1.2, 6, 4)])) - 37.2
    starts = {
        "drawn": 64,
        "failed": 3,
        "optimised": 16,
        "converged": 15,
        "log_density": best.tolist(),
        "modes": 1,
    }
    return {"starts": starts, "solver": "Tsit5", "num_warmup": 300, "interrupted": False}


def predictive(clean: Arrays, scatter: Callable[[str, np.ndarray], np.ndarray], states: Arrays) -> Arrays:
    """The three kinds of variables of a predictive group."""
    noisy = {name: scatter(name, values) for name, values in clean.items()}
    free = {f"{name}_noise_free": values for name, values in clean.items()}
    return noisy | free | {f"{name}_state": values for name, values in states.items()}


@pytest.fixture(scope="session")
def lynx_hare() -> Case:
    """Eight quantities, 4 × 1,000 draws, 15 years of calibration and 6 held out."""
    rng = np.random.default_rng(20)
    shape, years = (4, 1000), np.arange(1900.0, 1921.0)
    lean = np.array([1, 0.8, -1, -0.9, -0.3, 0.2, 0, 0])  # alpha and beta move against gamma and delta
    rates = rng.multivariate_normal(
        np.zeros(8), 0.45 * np.diag([1, 1, 1, 1, 0.3, 0.3, 0.3, 0.3]) + 0.55 * np.outer(lean, lean), shape
    )
    draws = {
        name: mean * np.exp(sd / mean * rates[..., i]) for i, (name, (mean, sd, *_)) in enumerate(LYNX_HARE.items())
    }
    prior = {
        name: np.abs(rng.normal(mean, 0.5 if mean > 0.1 else 0.05, (1, 1000))) for name, (mean, *_) in LYNX_HARE.items()
    }
    prior |= {f"{a}_initial": rng.lognormal(np.log(10), 1, (1, 1000)) for a in ("hare", "lynx")}
    few = {name: values[:, ::4] for name, values in draws.items()}
    hare, lynx = hudson_bay(few, years)

    def scatter(name: str, values: np.ndarray) -> np.ndarray:
        return values * np.exp(few[f"{name}_scale"][..., None] * rng.normal(size=values.shape))

    clean = {"hare": hare, "lynx": lynx}
    whole = predictive(clean, scatter, clean)
    table = pd.DataFrame({"hare": HARES, "lynx": LYNXES}, index=pd.Index(years, name="time"))
    units = {name: unit for name, (_, _, unit, _) in LYNX_HARE.items()} | {"hare": PELTS, "lynx": PELTS}
    units |= {f"{a}_noise_free": PELTS for a in clean} | {f"{a}_state": PELTS for a in clean}
    words = {name: doc for name, (*_, doc) in LYNX_HARE.items()}
    description = describe_lynx_hare()
    observed = {name: table[name].to_numpy()[:15] for name in ("hare", "lynx")}
    groups = {
        "posterior": as_group(draws, None, units, words),
        "sample_stats": sample_stats(rng, shape),
        "prior": as_group(prior, None, units, words),
        "posterior_predictive": as_group({k: v[..., :15] for k, v in whole.items()}, years[:15], units, words),
        "observed_data": as_group(observed, years[:15], units, words),
    }
    posterior = xr.DataTree.from_dict(groups)
    posterior.attrs = root_attrs(description, 7) | calibration_attrs(rng)
    return Case(posterior, *forecast_of(posterior, whole, table, 15, units))


@pytest.fixture(scope="session")
def small(lynx_hare: Case) -> Case:
    """The same with three quantities only: quick to draw, for tests of words."""
    groups = {name: node.to_dataset() for name, node in lynx_hare.posterior.children.items()}
    for name in ("posterior", "prior"):
        groups[name] = groups[name][["alpha", "beta", "hare_scale"]]
    posterior = xr.DataTree.from_dict(groups)
    posterior.attrs = lynx_hare.posterior.attrs
    return Case(posterior, lynx_hare.forecast, lynx_hare.validation)


def forecast_of(
    posterior: xr.DataTree,
    whole: Arrays,
    table: pd.DataFrame,
    split: int,
    units: Units,
    inputs: tuple[str, ...] = (),
) -> tuple[xr.DataTree, Telemetry]:
    """The forecast from row `split` on, and the telemetry that it is held against."""
    later = table.index.to_numpy()[split:]
    groups = {
        "predictions": as_group({k: v[..., split:] for k, v in whole.items()}, later, units, {}),
        "observed_data": posterior["observed_data"].to_dataset(),
    }
    if inputs:
        held = {name: table[name].to_numpy()[split:] for name in inputs}
        groups["predictions_constant_data"] = as_group(held, later, units, {})
    forecast = xr.DataTree.from_dict(groups)
    forecast.attrs = root_attrs(posterior.attrs["description"], 8)
    known = {name: units[name] for name in table.columns}
    return forecast, Telemetry(table.iloc[split:], known, table.index[split], "synthetic.csv", "c4" * 32)


def warm_up(draws: Arrays, outdoor: np.ndarray, heating: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Solve the two-state room for every draw by Euler steps of `step` seconds."""
    envelope, indoor = draws["envelope_initial"], draws["indoor_initial"]
    path = [(envelope, indoor)]
    for ambient, power in zip(outdoor[:-1], heating[:-1], strict=True):
        flow = (envelope - indoor) / draws["R_in"]
        loss = (ambient - envelope) / draws["R_out"]
        envelope = envelope + step * (loss - flow) / draws["C_env"]
        indoor = indoor + step * (flow + power) / draws["C_in"]
        path.append((envelope, indoor))
    return np.stack([p[0] for p in path], -1), np.stack([p[1] for p in path], -1)


@pytest.fixture(scope="session")
def room() -> Case:
    """Seven quantities, 15-minute dates: 20 days of calibration with a 6 h gap, 10 days held out."""
    rng = np.random.default_rng(3)
    days, shape = 30, (4, 1000)
    dates = pd.date_range("2026-01-05", periods=96 * days, freq="15min", name="time")
    hours = np.arange(len(dates)) / 4
    drift = np.convolve(rng.normal(size=len(dates) + 191), np.ones(192) / 192, "valid")
    outdoor = 6 + 4 * np.sin((hours - 9) * 2 * np.pi / 24) + 20 * drift
    heating = 1100.0 * ((hours % 24 > 6) & (hours % 24 < 22)) * (rng.random(len(dates)) < 0.7)
    draws = {name: rng.normal(mean, sd, shape) for name, (mean, sd, *_) in ROOM.items()}
    draws["C_in"] += 0.6 * 0.9e4 / 0.00002 * (draws["R_in"] - 0.00198)
    prior = {name: rng.lognormal(*bounds, (1, 1000)) for name, (*_, bounds) in ROOM.items() if bounds}
    prior |= {name: rng.normal(*bounds, (1, 1000)) for name, bounds in FIRST.items()}
    prior["indoor_scale"] = np.abs(rng.normal(0, 0.5, (1, 1000)))
    few = {name: values[:, ::8] for name, values in draws.items()}
    envelope, indoor = warm_up(few, outdoor, heating, 900.0)
    truth = {name: np.asarray(mean) for name, (mean, *_) in ROOM.items()}
    measured = warm_up(truth, outdoor, heating, 900.0)[1] + rng.normal(0, 0.15, len(dates))
    measured[1000:1024] = np.nan

    def scatter(name: str, values: np.ndarray) -> np.ndarray:
        return values + few[f"{name}_scale"][..., None] * rng.normal(size=values.shape)

    whole = predictive({"indoor": indoor}, scatter, {"envelope": envelope, "indoor": indoor})
    table = pd.DataFrame({"indoor": measured, "outdoor": outdoor, "heating": heating}, index=dates)
    units = {name: unit for name, (_, _, unit, *_) in ROOM.items()}
    units |= {"indoor": "degC", "outdoor": "degC", "heating": "W", "indoor_noise_free": "degC"}
    units |= {"indoor_state": "degC", "envelope_state": "degC"}
    words = {name: doc for name, (_, _, _, doc, _) in ROOM.items()}
    split = 96 * 20
    early = dates.to_numpy()[:split]
    groups = {
        "posterior": as_group(draws, None, units, words),
        "sample_stats": sample_stats(rng, shape),
        "prior": as_group(prior, None, units, words),
        "posterior_predictive": as_group({k: v[..., :split] for k, v in whole.items()}, early, units, words),
        "observed_data": as_group({"indoor": measured[:split]}, early, units, words),
        "constant_data": as_group({"outdoor": outdoor[:split], "heating": heating[:split]}, early, units, words),
    }
    posterior = xr.DataTree.from_dict(groups)
    posterior.attrs = root_attrs(describe_room(), 0) | calibration_attrs(rng) | {"t0": str(dates[0])}
    return Case(posterior, *forecast_of(posterior, whole, table, split, units, ("outdoor", "heating")))


@pytest.fixture(scope="session")
def pages(lynx_hare: Case, room: Case) -> dict[str, str]:
    """The reports about both, by name."""
    provenance = {"seconds": {"calibrate": 14.218}, "versions": {"jax": "0.12.0"}, "packages": ["a", "b"]}
    found = {}
    for case in (lynx_hare, room):
        held = {"validation": case.validation, "provenance": provenance}
        found[case.posterior.attrs["twin"]] = render_report(case.posterior, case.forecast, **held)
    return found


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder with the pages about several experiments of `several.py`."""
    folder = tmp_path_factory.mktemp("experiments")
    several.write(folder)
    return folder
