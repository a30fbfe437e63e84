"""A driven, damped pendulum: 6 quantities, 2 states, 10,000 observations of its angle."""

import math

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import bayestwin as bt
from posteriors import Posterior
from posteriors.simulated import simulated

TRUTH = {"damping": 0.3, "stiffness": 4.0, "drive": 1.0, "angle_initial": 1.0, "speed_initial": 0.0}
DRIVE_FREQUENCY = 1.3


def vector_field(t, x, p, u):
    """Gravity, friction and a torque of known frequency."""
    torque = p.drive * jnp.cos(DRIVE_FREQUENCY * t)
    return {"angle": x.speed, "speed": torque - p.damping * x.speed - p.stiffness * jnp.sin(x.angle)}


TWIN = bt.Twin(
    name="pendulum",
    vector_field=vector_field,
    states={
        "angle": bt.State(dist.Normal(0.0, 1.0), unit="rad"),
        "speed": bt.State(dist.Normal(0.0, 1.0), unit="rad/s"),
    },
    parameters={
        "damping": bt.Parameter(dist.LogNormal(math.log(0.3), 0.5), unit="1/s"),
        "stiffness": bt.Parameter(dist.LogNormal(math.log(4.0), 0.3), unit="1/s^2"),
        "drive": bt.Parameter(dist.LogNormal(math.log(1.0), 0.5), unit="1/s^2"),
    },
    observations={"angle": bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(0.5)), unit="rad")},
    doc="A pendulum that is pushed in a steady rhythm.",
)


def build() -> Posterior:
    """A hundred seconds at 100 Hz."""
    telemetry = simulated(TWIN, TRUTH, np.arange(1, 10_001) / 100.0, {"angle": 0.1}, seed=3)
    data = {"angle": telemetry.table["angle"].tolist(), "frequency": DRIVE_FREQUENCY}
    return Posterior("driven pendulum, 10,000 observations", TWIN, telemetry, data)
