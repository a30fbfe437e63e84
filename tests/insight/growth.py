"""Rooney and Biegler's growth to an asymptote, of which quadrature says what measuring more would do."""

import numpy as np
import numpyro.distributions as dist
from twins import telemetry_of

import bayestwin as bt

HOURS = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
NOMINAL = {"asymptote": 15.0, "rate": 0.5}


def growth_field(t, x, p, u):
    """First-order approach to the asymptote."""
    return {"y": p.rate * (p.asymptote - x.y)}


def growth(scale: object, asymptote: dist.Distribution, rate: dist.Distribution) -> bt.Twin:
    """`y = asymptote (1 − exp(−rate t))`."""
    return bt.Twin(
        name="growth",
        vector_field=growth_field,
        states={"y": bt.State(0.0, unit="mg/l")},
        parameters={
            "asymptote": bt.Parameter(asymptote, unit="mg/l"),
            "rate": bt.Parameter(rate, unit="1/h"),
        },
        observations={"y": bt.Observation(bt.Gaussian(scale), unit="mg/l")},
        time_unit="h",
    )


def level(hours: np.ndarray, asymptote: object, rate: object) -> np.ndarray:
    """The solution."""
    return np.asarray(asymptote) * -np.expm1(-np.asarray(rate) * hours)


def grown(values: np.ndarray, hours: np.ndarray = HOURS) -> bt.Telemetry:
    """Telemetry of what was read at some hours; the state is zero at hour 0."""
    return telemetry_of({"time": hours, "y": values}, t0=0.0)
