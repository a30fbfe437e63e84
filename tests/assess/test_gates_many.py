"""Of many quantities the largest R̂ is held against what chance makes of it, and no further."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from bayestwin.assess import diagnose
from bayestwin.assess.gates import Gate
from bayestwin.inference.method import FALSE_ALARM, MAX_RHAT, rhat_by_chance
from bayestwin.inference.nuts import more_would_help

type Make = Callable[..., xr.DataTree]


def rhat_of(tree: xr.DataTree, **settings: float) -> Gate:
    (found,) = [gate for gate in diagnose(tree, **settings) if gate.name == "rhat"]
    return found


def agreeing(num_quantities: int, num_draws: int, seed: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed).normal(size=(num_quantities, 4, num_draws))
    return {f"effect_{number}": own for number, own in enumerate(draws)}


@pytest.mark.thorough
@pytest.mark.parametrize(("num_quantities", "num_draws"), [(145, 100), (30, 100)])
def test_chains_that_agree_raise_no_more_alarms_than_promised(
    make_posterior: Make, num_quantities: int, num_draws: int
) -> None:
    gates = [rhat_of(make_posterior(agreeing(num_quantities, num_draws, seed))) for seed in range(20)]
    assert sum(not gate.passed for gate in gates) <= scipy.stats.binom.ppf(0.999, 20, FALSE_ALARM)
    above = [gate for gate in gates if gate.value > MAX_RHAT]
    assert len(above) > 10  # what is not allowed for their number fails most of the time
    (sentence,) = {gate.sentence.partition(", and ")[2][5:] for gate in above if gate.passed}
    assert sentence == f" where {num_quantities} quantities are looked at)."


def test_a_chain_that_sits_elsewhere_is_found_among_many(make_posterior: Make) -> None:
    draws = agreeing(145, 250, 3)
    draws["effect_77"][2] += 1.0
    gate = rhat_of(make_posterior(draws))
    assert not gate.passed
    assert "most about `effect_77`" in gate.sentence
    assert gate.value > 1.5 * gate.limit - 0.5


def test_where_chains_disagree_few_effective_draws_are_no_excuse() -> None:
    assert rhat_by_chance(145, 4, 5.0) == rhat_by_chance(145, 4, 400.0) < 1.035
    assert rhat_by_chance(1, 4, 1_000.0) < MAX_RHAT
    assert rhat_by_chance(10, 4, 1_000.0) < MAX_RHAT


def test_who_asks_for_more_is_held_to_it(make_posterior: Make) -> None:
    assert not rhat_of(make_posterior(agreeing(30, 250, 1)), max_rhat=1.0001).passed


def test_the_sampler_goes_on_for_nothing_that_the_gate_lets_pass() -> None:
    draws = np.stack(list(agreeing(145, 250, 5).values())).transpose(2, 1, 0)
    assert not more_would_help(draws)
    draws[:, 0, 3] += 0.5
    assert more_would_help(draws)
