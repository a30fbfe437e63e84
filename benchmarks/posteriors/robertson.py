"""Robertson's kinetics, stiff: 6 quantities, 3 states, rates that lie nine orders of magnitude apart.

H. H. Robertson (1966), The solution of a set of reaction rate equations.
"""

import math

import numpy as np
import numpyro.distributions as dist

import bayestwin as bt
from posteriors import Posterior
from posteriors.simulated import simulated

TRUTH = {"k1": 0.04, "k2": 3e7, "k3": 1e4}
NOISE = {"A": 0.01, "B_magnified": 0.02, "C": 0.01}
B_MAGNIFIED = 1e4
"""The intermediate is 10⁴ times rarer than the others; it is observed in units of 10⁻⁴."""


def vector_field(t, x, p, u):
    """A → B, 2 B → B + C, B + C → A + C."""
    first, second, third = p.k1 * x.A, p.k2 * x.B**2, p.k3 * x.B * x.C
    return {"A": third - first, "B": first - second - third, "C": second}


def around(centre):
    """A rate known to a factor of about two."""
    return dist.LogNormal(math.log(centre), 0.7)


def noise():
    return bt.Gaussian(scale=dist.HalfNormal(0.05))


TWIN = bt.Twin(
    name="robertson",
    vector_field=vector_field,
    states={"A": bt.State(1.0), "B": bt.State(0.0), "C": bt.State(0.0)},
    parameters={
        "k1": bt.Parameter(around(0.05), unit="1/s"),
        "k2": bt.Parameter(around(2e7), unit="1/s"),
        "k3": bt.Parameter(around(2e4), unit="1/s"),
    },
    observations={
        "A": bt.Observation(noise=noise()),
        "B_magnified": bt.Observation(noise=noise(), of=lambda t, x, p, u: B_MAGNIFIED * x.B),
        "C": bt.Observation(noise=noise()),
    },
    solver=bt.Solver("rodas5p", rtol=1e-6, atol=1e-10),
    doc="The textbook example of a stiff reaction.",
)


def build() -> Posterior:
    """Forty times, evenly spaced in log time."""
    times = np.geomspace(1e-3, 1e4, 40)
    telemetry = simulated(TWIN, TRUTH, times, NOISE, seed=1)
    data = {name: telemetry.table[name].tolist() for name in TWIN.observations}
    return Posterior("Robertson's kinetics, stiff", TWIN, telemetry, data)
