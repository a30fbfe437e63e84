"""Lynx and snowshoe hare: Lotka–Volterra, with the priors of posteriordb's `hudson_lynx_hare-lotka_volterra`."""

import math

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """Hares are born and eaten; lynx starve, and breed on the hares they eat."""
    hare = (p.alpha - p.beta * x.lynx) * x.hare
    lynx = (-p.gamma + p.delta * x.hare) * x.lynx
    return {"hare": hare, "lynx": lynx}


def rate(centre, spread):
    """A positive rate: normal, truncated at zero."""
    return dist.TruncatedNormal(centre, spread, low=0.0)


POPULATION = dist.LogNormal(math.log(10.0), 1.0)
SCATTER = dist.LogNormal(-1.0, 1.0)

twin = bt.Twin(
    name="lynx_hare",
    vector_field=vector_field,
    states={
        "hare": bt.State(initial=POPULATION, unit="thousand", doc="hares"),
        "lynx": bt.State(initial=POPULATION, unit="thousand", doc="lynx"),
    },
    parameters={
        "alpha": bt.Parameter(rate(1.0, 0.5), unit="1/year", doc="birth rate of hares"),
        "beta": bt.Parameter(rate(0.05, 0.05), unit="1/(year thousand)", doc="hares eaten, per lynx"),
        "gamma": bt.Parameter(rate(1.0, 0.5), unit="1/year", doc="death rate of lynx"),
        "delta": bt.Parameter(rate(0.05, 0.05), unit="1/(year thousand)", doc="lynx born, per hare"),
    },
    observations={
        "hare": bt.Observation(noise=bt.LogNormal(scale=SCATTER), unit="thousand", doc="hare pelts"),
        "lynx": bt.Observation(noise=bt.LogNormal(scale=SCATTER), unit="thousand", doc="lynx pelts"),
    },
    time_unit="year",
    doc="Two populations of northern Canada, seen through the pelts that trappers sold.",
)
