"""Each planted bug of a log density is caught, by name and at a fixed seed, and with nothing planted nothing is."""

import numpy as np
import pytest
import scipy.stats
from planted import PLANTED, check, right

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
