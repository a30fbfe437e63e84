"""A heat exchanger in counter-flow that fouls: outlet temperatures follow what the surface lets through."""

import math

import jax.numpy as jnp
import numpyro.distributions as dist

import bayestwin as bt

HEAT_CAPACITY = 4.18
"""kJ/(kg K), of water."""


def heat(p, u):
    """Heat that passes in steady flow, in kW: effectiveness times the most that could pass."""
    hot, cold = HEAT_CAPACITY * u.flow, HEAT_CAPACITY * p.cold_flow
    least = jnp.minimum(hot, cold)
    ratio = jnp.minimum(least / jnp.maximum(hot, cold), 1.0 - 1e-6)  # of equal flows the formula is a limit
    units = 1.0 / (least * (p.clean + p.fouling))
    left = jnp.exp(-units * (1.0 - ratio))
    return least * (1.0 - left) / (1.0 - ratio * left) * (u.hot_in - u.cold_in)


def vector_field(t, x, p, u):
    """Both outlets approach those of steady flow as fast as water and walls follow."""
    passed = heat(p, u) / HEAT_CAPACITY
    hot, cold = u.hot_in - passed / u.flow, u.cold_in + passed / p.cold_flow
    return {"hot_out": (hot - x.hot_out) / p.lag, "cold_out": (cold - x.cold_out) / p.lag}


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="exchanger",
    vector_field=vector_field,
    states={
        "hot_out": bt.State(initial=dist.Normal(55.0, 5.0), unit="degC", doc="outlet of the hot side"),
        "cold_out": bt.State(initial=dist.Normal(40.0, 5.0), unit="degC", doc="outlet of the cold side"),
    },
    parameters={
        "fouling": bt.Parameter(about(0.01, 0.8), unit="K/kW", doc="resistance of what has settled on the surface"),
        "lag": bt.Parameter(about(0.7, 0.5), unit="h", doc="time in which outlets follow what comes in"),
        "cold_flow": bt.Parameter(about(3.0, 0.1), unit="kg/s", doc="flow of the cold side, which nobody measures"),
        "clean": bt.Parameter(0.05, unit="K/kW", doc="resistance of the clean surface; data sheet"),
    },
    inputs={
        "flow": bt.Input(unit="kg/s", hold="previous", doc="flow of the hot side"),
        "hot_in": bt.Input(unit="degC", hold="previous", doc="inlet of the hot side"),
        "cold_in": bt.Input(unit="degC", hold="previous", doc="inlet of the cold side"),
    },
    observations={
        "hot_out": bt.Observation(
            noise=bt.Gaussian(scale=dist.HalfNormal(0.5)), unit="degC", doc="outlet of the hot side"
        ),
        "cold_out": bt.Observation(
            noise=bt.Gaussian(scale=dist.HalfNormal(0.5)), unit="degC", doc="outlet of the cold side"
        ),
    },
    quantities={
        "passed": bt.Integral(lambda t, x, p, u: heat(p, u), unit="kW h", doc="heat that passed"),
        "hottest": bt.Max("hot_out", unit="degC", doc="hottest outlet of the hot side"),
    },
    time_unit="h",
    doc="A heat exchanger of a plant that warms its feed water by what it sends away, and fouls.",
)
