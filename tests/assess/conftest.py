"""Synthetic results for the tests of `assess`: small trees, shaped as by `calibrate` and `predict`."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestwin.telemetry import Telemetry

type Draws = Mapping[str, np.ndarray]


@pytest.fixture
def make_forecast() -> Callable[..., xr.DataTree]:
    """A forecast from draws (chain, draw, time) by observation."""

    def make(
        draws: Draws,
        time: np.ndarray,
        *,
        noise_free: Draws | None = None,
        past: pd.DataFrame | None = None,
        group: str = "predictions",
        units: str = "degC",
    ) -> xr.DataTree:
        dims = ("chain", "draw", "time")
        variables = {name: (dims, values, {"units": units}) for name, values in draws.items()}
        noise_free = noise_free or {name: np.zeros_like(values) for name, values in draws.items()}
        variables |= {f"{name}_noise_free": (dims, noise_free[name], {"units": units}) for name in draws}
        some = next(iter(variables.values()))
        variables["water_state"] = (dims, np.zeros_like(some[1]), {})
        groups = {group: xr.Dataset(variables, coords={"time": time})}
        if past is not None:
            groups["observed_data"] = xr.Dataset.from_dataframe(past.rename_axis("time"))
        return xr.DataTree.from_dict(groups)

    return make


@pytest.fixture
def make_telemetry() -> Callable[..., Telemetry]:
    """Telemetry from columns and times."""

    def make(columns: Draws, time: np.ndarray) -> Telemetry:
        table = pd.DataFrame(columns, index=pd.Index(time, name="time"))
        units = dict.fromkeys(columns, "degC")
        return Telemetry(table=table, units=units, t0=time[0], source="test", sha256="")

    return make


@pytest.fixture
def make_posterior() -> Callable[..., xr.DataTree]:
    """A posterior from draws (chain, draw) by parameter, with statistics of a healthy run and a prior."""

    def make(draws: Draws, *, stats: Draws | None = None, prior: Draws | None = None) -> xr.DataTree:
        shape = next(iter(draws.values())).shape
        rng = np.random.default_rng(99)
        healthy = {
            "diverging": np.zeros(shape, dtype=bool),
            "energy": rng.normal(size=shape),
            "solver_failed": np.zeros(shape, dtype=bool),
        }
        prior = prior or {name: rng.normal(0, 10, (1, 1000)) for name in draws}
        groups = {
            "posterior": as_dataset(draws),
            "sample_stats": as_dataset({**healthy, **(stats or {})}),
            "prior": as_dataset(prior),
        }
        return xr.DataTree.from_dict(groups)

    return make


@pytest.fixture
def healthy_draws() -> Callable[..., dict[str, np.ndarray]]:
    """Draws of two parameters by four chains that agree, with the autocorrelation of a good sampler."""

    def make(seed: int = 0, chains: int = 4, num_draws: int = 1000) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        found = {}
        for name in ("alpha", "beta"):
            noise = rng.normal(size=(chains, num_draws))
            for draw in range(1, num_draws):
                noise[:, draw] = 0.2 * noise[:, draw - 1] + np.sqrt(1 - 0.2**2) * noise[:, draw]
            found[name] = 0.5 + 0.1 * noise
        return found

    return make


def as_dataset(draws: Draws) -> xr.Dataset:
    """Arrays (chain, draw, …) with named dimensions and numbered chains."""
    variables = {}
    for name, values in draws.items():
        extra = tuple(f"{name}_{axis}" for axis in range(values.ndim - 2))
        variables[name] = (("chain", "draw", *extra), values)
    return xr.Dataset(variables, coords={"chain": np.arange(next(iter(draws.values())).shape[0])})


@pytest.fixture
def make_backtest() -> Callable[..., xr.DataTree]:
    """A backtest of one observation `level`, from draws (draw, origin, horizon) and what was observed.

    Origins lie at 0, 1, 2, … hours, horizons as many hours after them, or as told.
    """

    def make(
        draws: np.ndarray, observed: np.ndarray, *, inputs: Draws | None = None, ahead: np.ndarray | None = None
    ) -> xr.DataTree:
        origins, horizons = observed.shape
        dims, attrs = ("origin", "horizon"), {"units": "m"}
        ahead = np.arange(1.0, horizons + 1.0) if ahead is None else ahead
        origin = np.arange(float(origins))
        coords = {"origin": origin, "horizon": ahead, "time": (dims, origin[:, None] + ahead)}
        predictions = {name: (("chain", "draw", *dims), draws[None], attrs) for name in ("level", "level_noise_free")}
        last = {"level_last": ("origin", np.zeros(origins))}
        span = {"calibrated_from": ("origin", np.full(origins, -10.0)), "calibrated_until": ("origin", origin)}
        tree = xr.DataTree.from_dict(
            {
                "predictions": xr.Dataset(predictions, coords),
                "observed_data": xr.Dataset({"level": (dims, observed, attrs)}, coords),
                "predictions_constant_data": xr.Dataset({n: (dims, v) for n, v in (inputs or {}).items()}, coords),
                "origins": xr.Dataset(last | span, {"origin": origin}),
            }
        )
        tree.attrs = {"time_unit": "h", "telemetry_time_unit": "h"}
        return tree

    return make
