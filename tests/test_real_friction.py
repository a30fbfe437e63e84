"""A real record of dry friction, by default settings: climbs arrive, gates pass, and a maximum is one."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.optimize import minimize
from shared_data import SHARED, needs
from twins import bound_density

import bayestwin as bt

pytestmark = [pytest.mark.slow, needs("emps")]

ENOUGH = 12
"""Climbs, of 16, that have to lead to the mode."""


def axis() -> tuple[bt.Twin, bt.Telemetry]:
    """An electro-mechanical axis with dry friction that is smooth within a millimetre a second, 2,485 rows."""
    drive, speed = 35.1507, 1e-3

    def field(t, x, p, u):
        friction = p.viscous * x.velocity + p.dry * jnp.tanh(x.velocity / speed) + p.offset
        return {"position": x.velocity, "velocity": (drive * u.voltage - friction) / p.mass}

    twin = bt.Twin(
        name="axis",
        vector_field=field,
        states={
            "position": bt.State(bt.First("position"), unit="m"),
            "velocity": bt.State(0.0, unit="m/s"),
        },
        parameters={
            "mass": bt.Parameter(dist.LogNormal(jnp.log(100.0), 0.5), unit="kg"),
            "viscous": bt.Parameter(dist.LogNormal(jnp.log(200.0), 0.5), unit="N*s/m"),
            "dry": bt.Parameter(dist.LogNormal(jnp.log(20.0), 0.5), unit="N"),
            "offset": bt.Parameter(dist.Normal(0.0, 10.0), unit="N"),
        },
        inputs={"voltage": bt.Input(unit="V", hold="linear")},
        observations={"position": bt.Observation(bt.Gaussian(dist.HalfNormal(0.01)), unit="m")},
    )
    table = pd.read_csv(SHARED / "emps" / "emps_train_100Hz.csv").rename(columns={"qm": "position", "vir": "voltage"})
    return twin, bt.read_telemetry(table[["t", "position", "voltage"]], time="t")


def test_a_calibration_passes_its_hard_gates() -> None:
    posterior = bt.calibrate(*axis(), seed=0)
    assert posterior.attrs["starts"]["highest"] >= ENOUGH
    assert [gate for gate in bt.diagnose(posterior) if not gate.passed and gate.severity == "fail"] == []


def test_a_maximum_is_one() -> None:
    """Quasi-Newton steps from there, which know nothing of climbs, gain less than a tenth of log density."""
    twin, telemetry = axis()
    found = bt.calibrate(twin, telemetry, seed=0, method="map")
    density = bound_density(twin, telemetry).solved_as(twin)
    values = {site.name: float(found["posterior"][site.name].squeeze()) for site in twin.sites()}
    begin = np.asarray(density.unconstrain(values))

    @jax.jit
    @jax.value_and_grad
    def of_values(z: jax.Array) -> jax.Array:
        return density(z) - density.constrain_with_log_det(z)[1]

    def fall(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = of_values(z)
        return -float(value), -np.asarray(gradient)

    reached = minimize(fall, begin, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    assert fall(begin)[0] - reached.fun < 0.1
