"""Two cascaded tanks that can overflow: a pump fills the upper one, which drains into the lower one."""

import math

import jax.numpy as jnp
import numpyro.distributions as dist

import bayestwin as bt

GRAVITY = 981.0
"""cm/s²."""


def drained(outlet, level):
    """Flow through an outlet at the bottom in cm³/s, by Torricelli's law; an empty tank gives nothing."""
    return outlet * jnp.sqrt(2.0 * GRAVITY * jnp.maximum(level, 1e-6))


def spilt(level, p):
    """Flow over the rim in cm³/s: a rectangular weir of known width, with the usual discharge coefficient of 0.6."""
    head = jnp.maximum(level - p.rim, 0.0)
    return 2.0 / 3.0 * 0.6 * p.spout * math.sqrt(2.0 * GRAVITY) * head * jnp.sqrt(jnp.maximum(head, 1e-12))


def vector_field(t, x, p, u):
    """Water balance of both tanks; a share of what the upper one spills falls into the lower one."""
    over = spilt(x.upper, p)
    between = drained(p.outlet_upper, x.upper)
    upper = p.pump_gain * u.pump - between - over
    lower = between + p.caught * over - drained(p.outlet_lower, x.lower) - spilt(x.lower, p)
    return {"upper": upper / p.area, "lower": lower / p.area}


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="tanks",
    vector_field=vector_field,
    states={
        "upper": bt.State(initial=about(4.0, 0.5), unit="cm", doc="level of the upper tank, which nobody observes"),
        "lower": bt.State(initial=about(4.0, 0.5), unit="cm", doc="level of the lower tank"),
    },
    parameters={
        "outlet_upper": bt.Parameter(about(0.2, 0.5), unit="cm^2", doc="effective outlet of the upper tank"),
        "outlet_lower": bt.Parameter(about(0.2, 0.5), unit="cm^2", doc="effective outlet of the lower tank"),
        "pump_gain": bt.Parameter(about(4.0, 0.5), unit="cm^3/(s V)", doc="flow of the pump by voltage"),
        "caught": bt.Parameter(dist.Beta(2.0, 2.0), doc="share of the upper tank's spill that the lower one catches"),
        "area": bt.Parameter(50.0, unit="cm^2", doc="cross section of each tank, measured"),
        "rim": bt.Parameter(10.0, unit="cm", doc="height of the spout of each tank, measured"),
        "spout": bt.Parameter(5.0, unit="cm", doc="width of the spout, measured"),
    },
    inputs={"pump": bt.Input(unit="V", hold="previous", doc="voltage of the pump")},
    observations={
        "lower": bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(0.2)), unit="cm", doc="level of the lower tank")
    },
    quantities={
        "spilt": bt.Integral(lambda t, x, p, u: spilt(x.upper, p), unit="cm^3", doc="water that the upper tank spills"),
        "highest": bt.Max("upper", unit="cm", doc="highest level of the upper tank"),
        "over": bt.TimeWhere(lambda t, x, p, u: x.upper > p.rim, doc="time for which the upper tank overflows"),
    },
    time_unit="s",
    doc="The laboratory's cascaded tanks: the upper level is not observed, and overflows when the pump runs fast.",
)
