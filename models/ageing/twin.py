"""Capacity fade of a lithium-ion cell: cycles at the temperature at which they are made use it up."""

import math

import jax.numpy as jnp
import numpyro.distributions as dist

import bayestwin as bt

GAS_CONSTANT = 8.314e-3
"""kJ/(mol K)."""
REFERENCE = 298.15
"""K: 25 degC."""


def vector_field(t, x, p, u):
    """A cycle counts for as much as it would take at 25 degC to do the same damage (Arrhenius)."""
    kelvin = u.temperature + 273.15
    return {"worn": u.cycles * jnp.exp(p.activation / GAS_CONSTANT * (1.0 / REFERENCE - 1.0 / kelvin))}


def capacity(t, x, p, u):
    """Charge of the full cell in A h; what is lost grows with a power of the cycles."""
    return p.new * (1.0 - p.fade * (x.worn / 1000.0) ** p.exponent)


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="ageing",
    vector_field=vector_field,
    states={"worn": bt.State(initial=3.0, unit="count", doc="cycles at 25 degC that wear as much; formation took 3")},
    parameters={
        "new": bt.Parameter(dist.Normal(2.3, 0.05), unit="A h", doc="capacity of the new cell; data sheet: 2.3"),
        "fade": bt.Parameter(about(0.1, 0.7), doc="share of the capacity that 1000 cycles at 25 degC cost"),
        "exponent": bt.Parameter(about(0.6, 0.3), doc="power of the cycles; 0.5 where diffusion limits the loss"),
        "activation": bt.Parameter(dist.Normal(50.0, 20.0), unit="kJ/mol", doc="activation energy of wear"),
    },
    inputs={
        "cycles": bt.Input(unit="count/day", hold="previous", doc="full equivalent cycles a day, until the next row"),
        "temperature": bt.Input(unit="degC", hold="linear", doc="temperature of the cell"),
    },
    observations={
        "capacity": bt.Observation(
            noise=bt.Gaussian(scale=dist.HalfNormal(0.03)), of=capacity, unit="A h", doc="capacity at a check-up"
        ),
    },
    time_unit="day",
    doc="A lithium iron phosphate cell over four years of use, its capacity checked each week.",
)
