"""States of any scale are solved as exactly as those of about one: the unit that is written does not matter."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.integrate import solve_ivp
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.calibrate import calibrate
from bayestwin.density.survey import evaluate
from bayestwin.inference.method import Draws
from bayestwin.inference.solver import audit_tolerance

DEFAULT = bt.Solver()
TIMES = np.arange(5.0, 121.0, 5.0)


def enzyme(unit: float, solver: bt.Solver = DEFAULT, noise: float = 4.0) -> bt.Twin:
    """Substrate to product by an enzyme; concentrations in `unit` nmol/L."""

    def field(t, x, p, u):
        on, off, cat = p.kon * x.S * x.E, p.koff * x.ES, p.kcat * x.ES
        return {"S": -on + off, "E": -on + off + cat, "ES": on - off - cat, "P": cat}

    initial = {"S": 500.0 * unit, "E": 2.0 * unit, "ES": 0.0, "P": 0.0}
    return bt.Twin(
        name="enzyme",
        vector_field=field,
        states={name: bt.State(value) for name, value in initial.items()},
        parameters={
            "kon": bt.Parameter(dist.LogNormal(np.log(1e-2 / unit), 0.3)),
            "koff": bt.Parameter(1.0),
            "kcat": bt.Parameter(dist.LogNormal(np.log(5.0), 0.3)),
        },
        observations={"P": bt.Observation(bt.Gaussian(noise * unit))},
        solver=solver,
    )


def product() -> np.ndarray:
    """Of nmol/L, by SciPy."""

    def field(t, y):
        on, off, cat = 1e-2 * y[0] * y[1], y[2], 5.0 * y[2]
        return [-on + off, -on + off + cat, on - off - cat, cat]

    found = solve_ivp(field, (0, 120), [500.0, 2.0, 0, 0], t_eval=TIMES, rtol=1e-11, atol=1e-13, method="LSODA")
    return found.y[3]


@pytest.mark.thorough
@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1.0, 1e9])
def test_the_unit_of_a_concentration_does_not_matter(unit: float) -> None:
    telemetry = telemetry_of({"time": TIMES, "P": np.zeros_like(TIMES)}, t0=0.0)
    found = bt.simulate(enzyme(unit), {"kon": 1e-2 / unit, "kcat": 5.0}, telemetry, seed=0)["P_noise_free"]
    np.testing.assert_allclose(found.values / unit, product(), rtol=2e-5)


def spring(scale: float) -> bt.Twin:
    """A mass that swings by micrometres, and its temperature in kelvin."""
    return bt.Twin(
        name="spring",
        vector_field=lambda t, x, p, u: {
            "place": x.speed,
            "speed": -p.stiffness * x.place,
            "heat": -0.01 * (x.heat - 290.0) + 0.0 * x.place,
        },
        states={"place": bt.State(scale), "speed": bt.State(0.0), "heat": bt.State(310.0)},
        parameters={"stiffness": bt.Parameter(dist.LogNormal(0.0, 0.1))},
        observations={"place": bt.Observation(bt.Gaussian(0.01 * scale)), "heat": bt.Observation(bt.Gaussian(0.1))},
        solver=bt.Solver("tsit5"),
    )


@pytest.mark.parametrize("scale", [1e-6, 1e-10])
def test_a_small_state_beside_a_large_one(scale: float) -> None:
    times = np.linspace(0.5, 30.0, 40)
    telemetry = telemetry_of({"time": times, "place": np.zeros(40), "heat": np.zeros(40)}, t0=0.0)
    found = bt.simulate(spring(scale), {"stiffness": 1.0}, telemetry, seed=0)
    np.testing.assert_allclose(found["place_noise_free"].values / scale, np.cos(times), atol=1e-4)


def record() -> bt.Telemetry:
    noisy = product() + np.random.default_rng(0).normal(0.0, 0.02, TIMES.size)
    return telemetry_of({"time": TIMES, "P": 1e-9 * noisy}, t0=0.0)


@pytest.mark.thorough
def test_a_calibration_and_its_forecast_see_the_scale_and_say_so() -> None:
    twin = enzyme(1e-9, noise=0.02)
    posterior = calibrate(twin, record(), seed=0, method="laplace", num_samples=200, predictive_draws=40)
    assert set(posterior.attrs["atol_by_scale"]) == {"S", "E", "ES", "P"}
    assert max(posterior.attrs["atol_by_scale"].values()) < 1e-13
    kcat = posterior["posterior"]["kcat"]
    assert abs(float(kcat.mean()) - 5.0) < 4 * float(kcat.std())
    assert posterior.attrs["tolerance_audit"]["largest_difference"] < 0.1
    ahead = telemetry_of({"time": TIMES + 120.0, "P": np.full(TIMES.size, np.nan)}, t0=0.0)
    paths = bt.predict(twin, posterior, ahead, seed=0, draws=20)["predictions"]["P_noise_free"].values
    assert (np.diff(paths, axis=-1) >= 0).all()  # all substrate becomes product, and no error of a step undoes that


@pytest.mark.thorough
def test_the_audit_sees_a_tolerance_that_hides_the_states() -> None:
    """A hundredth of 2e-8 hides nanomoles as 2e-8 does, and both solves would agree."""
    largest = []
    for solver in (bt.Solver("tsit5", atol=2e-8), bt.Solver("tsit5", atol=1e-15)):
        density = bound_density(enzyme(1e-9, solver, noise=20.0), record())
        z = density.draw_prior(jax.random.split(jax.random.key(0), 64))[1]
        drawn = Draws(z[None], {"lp": evaluate(density, z)[None]}, {})
        largest.append(audit_tolerance(density, drawn, Progress(show=False))["largest_difference"])
    assert largest[0] > 1.0
    assert largest[1] < 0.01
