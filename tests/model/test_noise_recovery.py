"""Slow: under each noise model, what is drawn from priors lies in its intervals as often as they say."""

import numpy as np
import numpyro.distributions as dist
import pytest
from noise_models import CASES, SMALL, Case
from recovery import check_recovery
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.density.density import Density

TIMES = np.concatenate([[0.0], np.sort(np.random.default_rng(1).uniform(0.0, 3.0, 29))])

MODELS = CASES | {
    "autocorrelated": CASES["gaussian"]._replace(noise=bt.Autocorrelated(SMALL, dist.LogNormal(-0.5, 0.4))),
    "autocorrelated, with a nugget": CASES["gaussian"]._replace(
        noise=bt.Autocorrelated(SMALL, dist.LogNormal(-0.5, 0.4), dist.LogNormal(-2.5, 0.3))
    ),
    "shared scale": CASES["gaussian"]._replace(noise=bt.Gaussian("sigma")),
}


def leaking(case: Case) -> Density:
    """A decaying tank, seen under a noise model, by two sensors if they share `sigma`."""
    shared = "sigma" in case.noise.parameters.values()
    seen = {"seen": bt.Observation(case.noise, of=lambda t, x, p, u: case.scale(x.level))}
    twin = bt.Twin(
        name="leaking",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.LogNormal(np.log(5.0), 0.2))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.3))}
        | ({"sigma": bt.Parameter(SMALL)} if shared else {}),
        observations=seen | ({"again": bt.Observation(case.noise, of=lambda t, x, p, u: -x.level)} if shared else {}),
        solver=bt.Solver("tsit5", rtol=1e-5, atol=1e-7),
    )
    # every fifth is missing
    columns = {name: np.where(np.arange(TIMES.size) % 5 == 4, np.nan, 1.0) for name in twin.observations}
    return bound_density(twin, telemetry_of({"time": TIMES} | columns))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    density = leaking(MODELS[name])
    check_recovery(density, 5)
