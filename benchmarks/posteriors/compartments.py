"""A chain of 12 compartments that exchange and, at its end, eliminate by Michaelis–Menten: 26 quantities."""

import math

import numpy as np
import numpyro.distributions as dist

import bayestwin as bt
from posteriors import Posterior
from posteriors.simulated import simulated

SIZE, NOISE_SCALE = 12, 0.5
STATES = [f"x{i + 1}" for i in range(SIZE)]
FORWARD = [f"forward{i + 1}" for i in range(SIZE - 1)]
BACK = [f"back{i + 1}" for i in range(SIZE - 1)]


def vector_field(t, x, p, u):
    """Flow between neighbours, both ways; saturable elimination from the last."""
    amounts = [getattr(x, name) for name in STATES]
    flows = [
        getattr(p, out) * here - getattr(p, back) * after
        for out, back, here, after in zip(FORWARD, BACK, amounts[:-1], amounts[1:], strict=True)
    ]
    flows.append(p.vmax * amounts[-1] / (p.km + amounts[-1]))
    entering = [0.0, *flows[:-1]]
    return {name: come - gone for name, come, gone in zip(STATES, entering, flows, strict=True)}


def rate(centre):
    return bt.Parameter(dist.LogNormal(math.log(centre), 0.5), unit="1/hour")


TWIN = bt.Twin(
    name="compartments",
    vector_field=vector_field,
    states={STATES[0]: bt.State(dist.Normal(100.0, 5.0))} | {name: bt.State(0.0) for name in STATES[1:]},
    parameters={name: rate(1.0) for name in FORWARD}
    | {name: rate(0.4) for name in BACK}
    | {
        "vmax": bt.Parameter(dist.LogNormal(math.log(10.0), 0.5), unit="1/hour"),
        "km": bt.Parameter(dist.LogNormal(math.log(10.0), 0.5)),
    },
    observations={name: bt.Observation(noise=bt.Gaussian(scale=NOISE_SCALE)) for name in STATES[:-1]}
    | {STATES[-1]: bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(1.0)))},
    time_unit="hour",
    doc="A dose that spreads through tissues in a row.",
)


def build() -> Posterior:
    """Thirty times over 30 hours, every compartment observed; true rates drawn from their priors."""
    rng = np.random.default_rng(2)
    truth = {name: float(np.exp(0.4 * rng.standard_normal())) for name in FORWARD}
    truth |= {name: float(0.4 * np.exp(0.4 * rng.standard_normal())) for name in BACK}
    truth |= {"vmax": 8.0, "km": 12.0, "x1_initial": 102.0}
    telemetry = simulated(TWIN, truth, np.linspace(0.25, 30.0, 30), dict.fromkeys(STATES, NOISE_SCALE), seed=2)
    data = {"size": SIZE, "noise_scale": NOISE_SCALE, "x": telemetry.table[STATES].to_numpy().tolist()}
    return Posterior("12 compartments in a row", TWIN, telemetry, data)
