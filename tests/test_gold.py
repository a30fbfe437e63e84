"""The posterior of `models/lynx_hare` is posteriordb's reference posterior, whatever the seed."""

from typing import NamedTuple

import arviz as az
import numpy as np
import pytest
import xarray as xr
from twins import MODELS, PELTS, lynx_hare, lynx_hare_posterior, pelts

import bayestwin as bt


class Reference(NamedTuple):
    """One quantity of the reference posterior: mean and sd, and the Monte Carlo error of each."""

    mean: float
    sd: float
    error_of_mean: float
    error_of_sd: float


# posteriordb, `hudson_lynx_hare-lotka_volterra`: 10 chains of 1,000 draws by Stan at rtol 1e-5 and atol 1e-3.
# The errors are those that ArviZ 1.3 gives for these draws (`az.mcse` with `method="mean"` and `method="sd"`).
GOLD = {
    "alpha": Reference(0.546864, 0.0630548, 6.3e-4, 4.8e-4),
    "beta": Reference(0.0277473, 0.00415472, 4.1e-5, 3.3e-5),
    "gamma": Reference(0.800095, 0.0893702, 8.8e-4, 7.2e-4),
    "delta": Reference(0.0240859, 0.00352809, 3.5e-5, 2.9e-5),
    "hare_initial": Reference(34.0352, 2.9169, 0.029, 0.022),
    "lynx_initial": Reference(5.9359, 0.530552, 0.0053, 0.0044),
    "hare_scale": Reference(0.248057, 0.0432627, 4.4e-4, 3.9e-4),
    "lynx_scale": Reference(0.251017, 0.0435903, 4.4e-4, 4.0e-4),
}


def check_against_gold(tree: xr.DataTree) -> None:
    draws = tree["posterior"].to_dataset()
    off = {}
    for name, gold in GOLD.items():
        ours = draws[name].values
        error = np.hypot(az.mcse(ours, method="mean"), gold.error_of_mean)
        off[f"mean of {name}"] = (ours.mean() - gold.mean) / error
        error = np.hypot(az.mcse(ours, method="sd"), gold.error_of_sd)
        off[f"sd of {name}"] = (ours.std() - gold.sd) / error
    assert {name: z for name, z in off.items() if not abs(z) <= 4.0} == {}
    assert set(draws) == set(GOLD)
    assert int(tree["sample_stats/diverging"].sum()) == 0
    assert int(tree["sample_stats/solver_failed"].sum()) == 0
    rhat = az.rhat(draws)
    assert {name: float(rhat[name]) for name in GOLD if not rhat[name] <= 1.01} == {}


def test_it_agrees_with_gold() -> None:
    check_against_gold(lynx_hare_posterior())


def test_its_gates_pass() -> None:
    assert not [gate for gate in bt.diagnose(lynx_hare_posterior()) if gate.severity == "fail" and not gate.passed]


def test_it_is_explored_fast() -> None:
    # the Laplace metric makes trees shallow: 7 leapfrogs a draw is what was measured, 35 what a diagonal metric needs
    assert float(lynx_hare_posterior()["sample_stats/n_steps"].mean()) < 10
    assert float(az.ess(lynx_hare_posterior()["posterior"].to_dataset()).to_array().min()) > 2000


def test_the_record_that_ships_is_that_of_the_tests() -> None:
    shipped = bt.read_telemetry(MODELS / "lynx_hare" / "data" / "hudson_bay.csv", time="year").table
    for name in ("hare", "lynx"):
        np.testing.assert_array_equal(shipped[name], PELTS[name])
    np.testing.assert_array_equal(shipped.index, PELTS["year"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_it_agrees_with_gold_for_ten_seeds_in_a_row(seed: int) -> None:
    check_against_gold(bt.calibrate(lynx_hare(), pelts(), seed=seed))
