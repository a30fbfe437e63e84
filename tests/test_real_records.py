"""Real records, by default settings: climbs arrive, gates pass, and a maximum is one."""

from collections.abc import Callable

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

pytestmark = pytest.mark.slow

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


def home() -> tuple[bt.Twin, bt.Telemetry]:
    """An occupied home of air, envelope and heater, each disturbed, 4,181 rows, of which one in forty is an outlier.

    Process noise on all three, inputs held and innovations that are exponential beyond three standard deviations are
    the conventions under which this record was published; the states at the start are integrated out. What is typical
    of each parameter was set after a posterior with wider priors had been seen.
    """

    def field(t, x, p, u):
        indoor = (x.heater - x.indoor) / p.R_heater + (x.envelope - x.indoor) / p.R_inner + p.aperture * u.sun
        envelope = (x.indoor - x.envelope) / p.R_inner + (u.outdoor - x.envelope) / p.R_outer
        heater = (x.indoor - x.heater) / p.R_heater + p.emission * u.medium
        return {"indoor": indoor / p.C_air, "envelope": envelope / p.C_envelope, "heater": heater / p.C_heater}

    typical = {
        "C_air": (1.0, "kW*h/K"),
        "C_envelope": (10.0, "kW*h/K"),
        "C_heater": (0.5, "kW*h/K"),
        "R_heater": (0.5, "K/kW"),
        "R_inner": (0.5, "K/kW"),
        "R_outer": (5.0, "K/kW"),
        "emission": (0.2, "kW/K"),
        "aperture": (3.0, "m^2"),
    }
    units = {"sun": "kW/m^2", "outdoor": "degC", "indoor": "degC", "medium": "degC"}
    twin = bt.Twin(
        name="home",
        vector_field=field,
        time_unit="h",
        states={
            "indoor": bt.State(bt.First("indoor"), unit="degC"),
            "envelope": bt.State(18.0, unit="degC"),
            "heater": bt.State(20.0, unit="degC"),
        },
        parameters={
            name: bt.Parameter(dist.LogNormal(jnp.log(value), 0.5), unit=unit)
            for name, (value, unit) in typical.items()
        },
        inputs={name: bt.Input(unit=units[name], hold="previous") for name in ("sun", "outdoor", "medium")},
        observations={"indoor": bt.Observation(bt.Gaussian(dist.HalfNormal(0.1)), unit="degC")},
        model_error=bt.ProcessNoise(
            scale={
                "indoor": dist.HalfNormal(0.3),
                "envelope": dist.HalfNormal(0.5),
                "heater": dist.HalfNormal(1.0),
            },
            initial_scale={"indoor": 0.1, "envelope": 3.0, "heater": 5.0},
            innovations="huber",
        ),
    )
    names = {"Ps": "sun", "Ta": "outdoor", "yTi": "indoor", "Thm": "medium"}
    table = pd.read_csv(SHARED / "dutch_home" / "home_1.csv", sep=";").rename(columns=names)
    return twin, bt.read_telemetry(table[["t", *units]], time="t", units=units)


RECORDS = pytest.mark.parametrize(
    "record", [pytest.param(axis, marks=needs("emps")), pytest.param(home, marks=needs("dutch_home"))]
)


@RECORDS
def test_a_calibration_passes_its_hard_gates(record: Callable[[], tuple[bt.Twin, bt.Telemetry]]) -> None:
    posterior = bt.calibrate(*record(), seed=0)
    assert posterior.attrs["starts"]["highest"] >= ENOUGH
    assert [gate for gate in bt.diagnose(posterior) if not gate.passed and gate.severity == "fail"] == []


@RECORDS
def test_a_maximum_is_one(record: Callable[[], tuple[bt.Twin, bt.Telemetry]]) -> None:
    """Quasi-Newton steps from there, which know nothing of climbs, gain less than a tenth of log density."""
    twin, telemetry = record()
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
