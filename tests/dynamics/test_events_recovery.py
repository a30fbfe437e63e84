"""Slow: with each kind of event, what is drawn from priors lies in its intervals as often as they say."""

import numpy as np
import numpyro.distributions as dist
import pytest
from recovery import check_recovery
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.density.density import Density

SOLVER = bt.Solver("tsit5", rtol=1e-6, atol=1e-8)
NOISE = {"level": bt.Observation(bt.Gaussian(0.1))}


def dosed() -> Density:
    """Doses that the telemetry tells, of which an unknown share arrives."""
    twin = bt.Twin(
        name="dosed",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.LogNormal(0.0, 0.2))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.3)), "share": bt.Parameter(dist.Beta(8.0, 4.0))},
        observations=NOISE,
        events={"dose": bt.Event(lambda t, x, p, u: {"level": x.level + p.share * u.dose})},
        solver=SOLVER,
    )
    times = np.linspace(0.0, 6.0, 25)
    dose = np.where(np.isin(np.arange(25), [4, 12, 13]), 3.0, np.nan)
    return bound_density(twin, telemetry_of({"time": times, "level": np.ones(25), "dose": dose}))


def serviced() -> Density:
    """A service at a known time that changes a rate by an unknown factor."""
    twin = bt.Twin(
        name="serviced",
        vector_field=lambda t, x, p, u: {"level": 1.0 - p.rate * x.level},
        states={"level": bt.State(dist.LogNormal(0.0, 0.2))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.3)), "gain": bt.Parameter(dist.LogNormal(0.7, 0.3))},
        observations=NOISE,
        events={"service": bt.Event(lambda t, x, p, u: {"rate": p.gain * p.rate}, at=(2.3,))},
        solver=SOLVER,
    )
    return bound_density(twin, telemetry_of({"time": np.linspace(0.0, 6.0, 25), "level": np.ones(25)}))


def switched() -> Density:
    """A tank that is emptied to an unknown level whenever it is full, which the state tells."""
    twin = bt.Twin(
        name="switched",
        vector_field=lambda t, x, p, u: {"level": p.inflow - 0.1 * x.level},
        states={"level": bt.State(dist.LogNormal(-0.5, 0.1))},
        parameters={"inflow": bt.Parameter(dist.LogNormal(0.0, 0.1)), "rest": bt.Parameter(dist.Beta(8.0, 12.0))},
        observations=NOISE,
        events={"full": bt.Event(lambda t, x, p, u: {"level": p.rest}, when=lambda t, x, p, u: x.level - 2.0)},
        solver=SOLVER,
    )
    return bound_density(twin, telemetry_of({"time": np.linspace(0.0, 3.0, 25), "level": np.ones(25)}))


@pytest.mark.slow
@pytest.mark.parametrize("build", [dosed, serviced, switched])
def test_intervals_hold_the_truth_as_often_as_they_say(build) -> None:
    check_recovery(build(), 7)
