"""A direct-current motor with friction: voltage drives current, current drives the shaft, friction holds it back."""

import math

import jax.numpy as jnp
import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """Kirchhoff's law for the winding, Newton's for the shaft; dry friction turns its sign smoothly near standstill."""
    friction = p.viscous * x.speed + p.dry * jnp.tanh(x.speed / p.creep)
    return {
        "current": (u.voltage - p.resistance * x.current - p.constant * x.speed) / p.inductance,
        "speed": (p.constant * x.current - friction) / p.inertia,
    }


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="motor",
    vector_field=vector_field,
    states={
        "current": bt.State(initial=0.0, unit="A", doc="current of the winding; none before it is switched on"),
        "speed": bt.State(initial=0.0, unit="rad/s", doc="speed of the shaft, which stands still at first"),
    },
    parameters={
        "resistance": bt.Parameter(about(1.0, 0.2), unit="ohm", doc="of the winding; data sheet: 1"),
        "inductance": bt.Parameter(about(2e-3, 0.5), unit="H", doc="of the winding; data sheet: 2 mH"),
        "constant": bt.Parameter(about(0.05, 0.2), unit="V s/rad", doc="back-EMF by speed, and torque by current"),
        "inertia": bt.Parameter(about(1e-4, 0.7), unit="kg m^2", doc="of rotor and load"),
        "viscous": bt.Parameter(about(1e-4, 1.0), unit="N m s/rad", doc="friction that grows with speed"),
        "dry": bt.Parameter(about(0.01, 0.7), unit="N m", doc="friction that does not"),
        "creep": bt.Parameter(1.0, unit="rad/s", doc="speed over which dry friction turns its sign"),
    },
    inputs={"voltage": bt.Input(unit="V", hold="previous", doc="voltage at the terminals")},
    observations={
        "current": bt.Observation(noise=bt.Gaussian(dist.HalfNormal(0.2)), unit="A", doc="current of the winding"),
        "speed": bt.Observation(noise=bt.Gaussian(dist.HalfNormal(2.0)), unit="rad/s", doc="speed of the shaft"),
    },
    time_unit="s",
    doc="A small brushed motor that is switched back and forth.",
)

# For `bayestwin compare models/motor`: what each kind of friction is worth.
ablations = {"no dry friction": {"dry": 0.0}, "no viscous friction": {"viscous": 0.0}}
