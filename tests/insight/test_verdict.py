"""Ranks that are off in a known way are told apart; uniform ones pass as often as the level says, exactly."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import bayestwin as bt
from bayestwin.assess import Gate, failed
from bayestwin.insight.sbc import curves, shape_of

NUM = 200


def judged(ranks: np.ndarray, names: list[str], level: float = 0.95, **changes: object) -> tuple[Gate, ...]:
    """Gates on ranks (quantity, simulation), whose chains are in order unless `changes` says otherwise."""
    found = curves(ranks, names, level, seed=0)
    found["ess"] = ("quantity", np.full(len(names), 60.0))
    found["diverging"] = ("simulation", np.zeros(ranks.shape[1]))
    return bt.judge_sbc(found.assign_attrs({"num_draws": 63, "not_solved": 0} | changes))


def uniform(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=NUM)


SHAPES = {
    "too narrow": scipy.stats.beta(0.5, 0.5).ppf,
    "too wide": scipy.stats.beta(3.0, 3.0).ppf,
    "too low": lambda u: u**0.5,
    "too high": lambda u: u**2.0,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_its_name(shape: str) -> None:
    ranks = np.stack([uniform(0), SHAPES[shape](uniform(1))])
    assert shape_of(ranks[1]) == shape
    gates = judged(ranks, ["fine", "off"])
    assert [gate.name for gate in failed(gates)] == ["sbc off"]
    assert shape in next(gate.sentence for gate in gates if gate.name == "sbc off")


def test_a_shift_of_the_likelihood_means_how_draws_agree_with_the_data() -> None:
    low = SHAPES["too high"](uniform())
    likelihood, error, *_ = judged(np.stack([low, 1.0 - low]), ["log_likelihood", "level_squared_error"])
    assert "better than the truth" in likelihood.sentence
    assert "better than the truth" in error.sentence


def test_bands_hold_all_quantities_as_often_as_they_say() -> None:
    """Independent uniform ranks of five quantities; the tolerance is that of the count at 99.9 %."""
    rng, level, trials = np.random.default_rng(7), 0.8, 400
    inside = 0
    first = curves(rng.uniform(size=(5, 100)), list("abcde"), level, seed=3)
    lower, upper, at = (first[name].values for name in ("band_lower", "band_upper", "z"))
    for _ in range(trials):
        ecdf = (rng.uniform(size=(5, 100))[:, :, None] <= at).mean(axis=1)
        inside += bool(((lower <= ecdf) & (ecdf <= upper)).all())
    low, high = scipy.stats.binom.interval(0.999, trials, level)
    assert low <= inside <= high


def test_what_cannot_be_computed_does_not_pass() -> None:
    ranks = np.stack([uniform(0), uniform(1)])
    ranks[1, 7] = np.nan
    (bad,) = failed(judged(ranks, ["fine", "unknown"]))
    assert (bad.name, bad.passed) == ("sbc unknown", False)
    assert np.isnan(bad.value)


def test_chains_divergences_and_priors_are_warned_about() -> None:
    ranks = uniform()[None]
    found = {gate.name: gate for gate in judged(ranks, ["fine"], not_solved=50, num_draws=300)}
    assert [name for name, gate in found.items() if not gate.passed] == ["chains", "prior"]
    assert not failed(found.values())


def test_a_tree_that_was_loaded_is_judged_alike(tmp_path) -> None:
    ranks = np.stack([uniform(0), uniform(1) ** 2.0])
    found = curves(ranks, ["fine", "off"], 0.95, seed=0)
    found["ess"], found["diverging"] = ("quantity", [60.0, 60.0]), ("simulation", np.zeros(NUM))
    found = found.assign_attrs(num_draws=63, not_solved=0)
    loaded = bt.load(bt.save(xr.DataTree(found), tmp_path / "sbc.nc"))
    assert bt.judge_sbc(loaded) == bt.judge_sbc(found)
