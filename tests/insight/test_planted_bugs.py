"""Each planted bug of a log density is caught, by name and at a fixed seed, and with nothing planted nothing is."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from planted import NOISE, PLANTED, check, filling, gauge, right

import bayestwin as bt
from bayestwin.assess import failed

NUM = 100

SEEN_IN = {
    "half noise": "log_likelihood",
    "shifted time": "level_squared_error",
    "wrong sign in the Jacobian": "rate",
    "swapped prior": "inflow",
    "dropped observation": "log_likelihood",
}
"""By bug, a quantity that must show it; of a dropped observation, no parameter need do so."""


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=[] if bug == "dropped observation" else pytest.mark.slow) for bug in PLANTED]
)
def test_it_is_caught(bug: str) -> None:
    gates = {gate.name for gate in failed(bt.judge_sbc(check(PLANTED[bug](), seed=0, num=NUM)))}
    assert f"sbc {SEEN_IN[bug]}" in gates


@pytest.mark.slow
def test_nothing_planted_raises_no_more_alarms_than_the_level_says() -> None:
    level, seeds = 0.9, 20
    alarms = sum(bool(failed(bt.judge_sbc(check(right(), seed=seed, num=NUM, level=level)))) for seed in range(seeds))
    assert alarms <= scipy.stats.binom.ppf(0.999, seeds, 1.0 - level)


@pytest.mark.slow
def test_what_a_dropped_observation_leaves_of_parameters_is_uniform() -> None:
    """Less data has a posterior too, and a right one: quantities that do not see the data cannot tell."""
    found = check(PLANTED["dropped observation"](), seed=0, num=NUM)
    assert found["within_band"].sel(quantity=["inflow", "rate", "level_initial"]).all()
    assert np.isfinite(found["rank"]).all()


class Forgetful(bt.Gaussian):
    """Gaussian noise whose log density forgets the first observation, wherever it is used."""

    def log_likelihood(self, observed, value, times, **parameters):
        """All terms but the first."""
        terms = super().log_likelihood(observed, value, times, **parameters)
        return jnp.where(jnp.arange(terms.size) == 0, 0.0, terms)


@pytest.mark.slow
def test_a_bug_that_simulation_and_density_share_is_seen_by_what_goes_past_the_density() -> None:
    """The log likelihood is then wrong as a test quantity, too; squared errors are not."""
    forgetful = {"level": bt.Observation(Forgetful(NOISE), unit="m")}
    twin = dataclasses.replace(filling(), observations=forgetful)
    found = bt.sbc(twin, gauge(), seed=0, num_simulations=NUM)
    assert [gate.name for gate in failed(bt.judge_sbc(found))] == ["sbc level_squared_error"]
