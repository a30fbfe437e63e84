"""Experiments with hostile names, calibrated once, and the pages about them."""

import functools
import pathlib

import numpy as np
import numpyro.distributions as dist
import xarray as xr
from twins import telemetry_of

import bayestwin as bt

EVIL = "<script>alert(1)</script>"
NAMES = ("monday", EVIL, '../"tuesday" & «so»')


def leak() -> bt.Twin:
    """A level that leaks; the rate is each experiment's own, the noise is shared."""
    return bt.Twin(
        name="leak",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.Normal(3.0, 1.0), unit="m")},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", shared=False)},
        observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.3)), unit="m")},
        time_unit="h",
        solver=bt.Solver("tsit5", rtol=1e-4, atol=1e-6),
    )


@functools.cache
def results() -> tuple[xr.DataTree, xr.DataTree, dict[str, bt.Telemetry]]:
    """Posterior, forecast of the first two, and what was held out of these."""
    past, future = {}, {}
    rng = np.random.default_rng(0)
    for place, name in enumerate(NAMES):
        times = 0.1 * np.arange(20)
        level = (2.0 + place) * np.exp(-(0.5 + 0.2 * place) * times) + 0.1 * rng.normal(size=20)
        whole = telemetry_of({"time": times, "level": level})
        past[name] = whole.between(end=whole.table.index[-5])
        future[name] = whole.between(start=whole.table.index[-5])
    del future[NAMES[2]]
    posterior = bt.calibrate(leak(), past, seed=0, method="laplace", num_samples=100, num_chains=2)
    return posterior, bt.predict(leak(), posterior, future, seed=1), future


def write(folder: pathlib.Path) -> pathlib.Path:
    """All pages; returns the one about all."""
    posterior, forecast, future = results()
    return bt.write_reports(posterior, folder, forecast, validation=future)
