"""Robertson's autocatalytic reaction: three rates that lie nine powers of ten apart, the textbook case of stiffness."""

import math

import numpyro.distributions as dist

import bayestwin as bt

MICRO = 1e6
"""The intermediate is observed in µmol/L, the others in mol/L."""


def vector_field(t, x, p, u):
    """A → B slowly; 2 B → B + C very fast; B + C → A + C fast."""
    slow, fast, back = p.k1 * x.A, p.k2 * x.B**2, p.k3 * x.B * x.C
    return {"A": back - slow, "B": slow - fast - back, "C": fast}


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="robertson",
    vector_field=vector_field,
    states={
        "A": bt.State(initial=1.0, unit="mol/L", doc="what is there at first"),
        "B": bt.State(initial=0.0, unit="mol/L", doc="the intermediate, which never gets beyond a few 1e-5"),
        "C": bt.State(initial=0.0, unit="mol/L", doc="the product, which speeds up the way back"),
    },
    parameters={
        "k1": bt.Parameter(about(0.05, 0.7), unit="1/s", doc="rate of A → B"),
        "k2": bt.Parameter(about(2e7, 0.7), unit="L/(mol s)", doc="rate of 2 B → B + C"),
        "k3": bt.Parameter(about(2e4, 0.7), unit="L/(mol s)", doc="rate of B + C → A + C"),
    },
    observations={
        "A": bt.Observation(noise=bt.Gaussian(dist.HalfNormal(0.05)), unit="mol/L", doc="concentration of A"),
        "B_micro": bt.Observation(
            noise=bt.Gaussian(dist.HalfNormal(5.0)),
            of=lambda t, x, p, u: MICRO * x.B,
            unit="umol/L",
            doc="concentration of B",
        ),
        "C": bt.Observation(noise=bt.Gaussian(dist.HalfNormal(0.05)), unit="mol/L", doc="concentration of C"),
    },
    solver=bt.Solver("rodas5p", rtol=1e-6, atol=1e-10),
    time_unit="s",
    doc="A well-stirred vessel, sampled over eight powers of ten of time.",
)
