"""The posterior of an FMU is that of its equations: as NUTS draws it, and by quadrature over the map that it steps by.

The reference FMUs of the Modelica Association are taken from the folder that `REFERENCE_FMUS` names, built for FMI 2 or
3 (`VanDerPol.fmu`).
"""

import functools
import os
import pathlib

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from test_solve_fmu import solved
from twins import telemetry_of

import bayestwin as bt

TIMES = np.linspace(0.0, 20.0, 41)
PARAMETERS = {"mu": bt.Parameter(dist.LogNormal(0.0, 1.0))}
OBSERVED = {"x0": bt.Observation(bt.Gaussian(scale=dist.HalfNormal(0.5)))}
MOST_SOLVES = 60
"""For each effective draw."""


def noisy(x0: np.ndarray) -> bt.Telemetry:
    return telemetry_of({"time": TIMES, "x0": x0 + 0.1 * np.random.default_rng(0).standard_normal(TIMES.size)})


def check_solves(found: xr.DataTree) -> None:
    told = found.attrs["black_box"]
    assert told["failed"] == 0
    assert told["solves"] <= MOST_SOLVES * min(float(az.ess(found["posterior"][n].values)) for n in ("mu", "x0_scale"))
    assert all(gate.passed for gate in bt.diagnose(found))


@pytest.mark.slow
def test_it_is_what_nuts_draws_from_the_same_equations(oscillator: pathlib.Path) -> None:
    telemetry = noisy(solved(1.3, times=TIMES)[0])
    twin = bt.Twin(
        name="oscillator",
        vector_field=lambda t, x, p, u: {"x0": x.x1, "x1": p.mu * (1.0 - x.x0**2) * x.x1 - x.x0},
        states={"x0": bt.State(2.0), "x1": bt.State(0.0)},
        parameters=PARAMETERS,
        observations=OBSERVED,
    )
    known = bt.calibrate(twin, telemetry, seed=1)["posterior"]
    found = bt.calibrate(bt.Fmu(oscillator, PARAMETERS, outputs=["x0"]).twin(OBSERVED), telemetry, seed=0)
    check_solves(found)
    for name in ("mu", "x0_scale"):
        for power in (1, 2):
            centre = float(known[name].mean())
            ours, theirs = ((one[name].values - centre) ** power for one in (found["posterior"], known))
            error = np.hypot(*(float(az.mcse(one, method="mean")) for one in (ours, theirs)))
            assert abs(ours.mean() - theirs.mean()) < 4.0 * error, (name, power)


@pytest.mark.thorough
def test_a_discrepancy_takes_what_the_fmu_leaves_out(oscillator: pathlib.Path) -> None:
    x0 = solved(1.3, times=TIMES)[0]
    telemetry = noisy(x0 + 0.3 * np.sin(TIMES))
    twin = bt.Fmu(oscillator, PARAMETERS, outputs=["x0"]).twin({"x0": bt.Observation(bt.Gaussian(0.1))})
    error = bt.Discrepancy(scale={"x0": dist.HalfNormal(0.5)}, length={"x0": dist.LogNormal(0.5, 0.4)})
    found = bt.calibrate(twin, telemetry, seed=0, model_error=error, num_samples=200, num_chains=2)
    told = found["posterior_predictive"]["x0_discrepancy"].mean(("chain", "draw")).values
    assert np.corrcoef(told, 0.3 * np.sin(TIMES))[0, 1] > 0.8
    assert np.sqrt(np.mean((told - 0.3 * np.sin(TIMES)) ** 2)) < 0.15
    lower, upper = found["posterior"]["mu"].quantile([0.005, 0.995]).values
    assert lower < 1.3 < upper


@functools.cache
def by_quadrature(seen: tuple[float, ...]) -> dict[str, float]:
    """Mean and variance of `mu` and of the scale, where the oscillator steps by Euler's method in steps of 10 ms."""
    mu, scale = np.linspace(1.1, 1.5, 801), np.exp(np.linspace(np.log(0.04), np.log(0.4), 401))
    x0, x1 = np.full(mu.size, 2.0), np.zeros(mu.size)
    squares = np.zeros(mu.size)
    for k, own in enumerate(seen):
        for _ in range(50 if k else 0):
            x0, x1 = x0 + 0.01 * x1, x1 + 0.01 * (mu * (1.0 - x0**2) * x1 - x0)
        squares += (own - x0) ** 2
    log = -squares[:, None] / (2.0 * scale**2) - len(seen) * np.log(scale)
    log += (-0.5 * np.log(mu) ** 2 - np.log(mu))[:, None] - 0.5 * (scale / 0.5) ** 2 + np.log(scale)
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    found = {}
    for name, values, own in (("mu", mu, weights.sum(axis=1)), ("x0_scale", scale, weights.sum(axis=0))):
        found[name] = float(own @ values)
        found[f"{name} variance"] = float(own @ (values - found[name]) ** 2)
    return found


@pytest.mark.slow
@pytest.mark.skipif("REFERENCE_FMUS" not in os.environ, reason="REFERENCE_FMUS names no folder")
def test_the_reference_fmu_has_the_posterior_of_its_map() -> None:
    path = pathlib.Path(os.environ["REFERENCE_FMUS"]) / "VanDerPol.fmu"
    telemetry = noisy(solved(1.3, times=TIMES)[0])
    found = bt.calibrate(bt.Fmu(path, PARAMETERS).twin(OBSERVED), telemetry, seed=0)
    check_solves(found)
    exact = by_quadrature(tuple(telemetry.table["x0"]))
    for name in ("mu", "x0_scale"):
        draws = found["posterior"][name].values
        squares = (draws - exact[name]) ** 2
        assert abs(draws.mean() - exact[name]) < 4.0 * float(az.mcse(draws, method="mean"))
        assert abs(squares.mean() - exact[f"{name} variance"]) < 4.0 * float(az.mcse(squares, method="mean"))
