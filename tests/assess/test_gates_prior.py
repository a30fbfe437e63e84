"""A posterior at its prior's edge, or as wide as its prior, is named with a warning and fails nothing."""

import numpy as np
import pytest
import scipy.stats

from bayestwin.assess import diagnose, failed


@pytest.fixture
def warnings(make_posterior):
    """Gates that did not pass, of the two that compare prior and posterior."""

    def judge(posterior, prior):
        gates = diagnose(make_posterior(posterior, prior=prior))
        assert failed(gates) == ()
        assert {gate.name for gate in gates if gate.severity == "warn"} == {"prior_edge", "prior_posterior"}
        return {gate.name: gate for gate in gates if not gate.passed}

    return judge


def normal(seed, mean, sd, shape=(4, 1000)):
    return np.random.default_rng(seed).normal(mean, sd, shape)


@pytest.mark.parametrize(("mean", "end"), [(4.0, "high"), (-4.0, "low")])
def test_a_prior_that_excludes_the_data_is_named(warnings, mean, end):
    posterior = {"R_out": normal(1, mean, 0.1), "C_in": normal(2, 0.0, 0.1)}
    prior = {name: normal(3, 0.0, 1.0, (1, 1000)) for name in posterior}
    found = warnings(posterior, prior)
    assert set(found) == {"prior_edge"}
    assert "`R_out`" in found["prior_edge"].sentence
    assert f"{end} end" in found["prior_edge"].sentence
    assert "`C_in`" not in found["prior_edge"].sentence
    assert found["prior_edge"].value == 1.0


def test_a_posterior_piled_up_at_a_bound_is_named(warnings):
    rng = np.random.default_rng(4)
    piled = 1 - rng.exponential(0.03, (4, 1000))
    found = warnings({"share": piled}, {"share": rng.uniform(0, 1, (1, 2000))})
    assert "`share`" in found["prior_edge"].sentence


@pytest.mark.parametrize("seed", range(5))
def test_a_parameter_that_the_data_say_nothing_about_is_named(warnings, seed):
    posterior = {"C_in": normal(seed, 3.0, 0.5), "R_in": normal(seed + 50, 0.0, 2.0)}
    prior = {name: normal(seed + 99, 0.0, 2.0, (1, 1000)) for name in posterior}
    found = warnings(posterior, prior)
    assert set(found) == {"prior_posterior"}
    assert "say next to nothing about `R_in`." in found["prior_posterior"].sentence
    assert found["prior_posterior"].value == pytest.approx(1.0, abs=0.15)


def test_a_posterior_that_moved_has_learnt_something_however_wide(warnings):
    assert warnings({"R_in": normal(1, 1.0, 1.0)}, {"R_in": normal(2, 0.0, 1.0, (1, 1000))}) == {}


def test_without_prior_draws_it_says_so(make_posterior, healthy_draws):
    tree = make_posterior(healthy_draws()).filter(lambda node: node.name != "prior")
    gates = {gate.name: gate for gate in diagnose(tree)}
    for name in ("prior_edge", "prior_posterior"):
        assert not gates[name].passed
        assert gates[name].severity == "warn"
        assert "no prior draws" in gates[name].sentence
    assert failed(gates.values()) == ()


@pytest.mark.parametrize("decades", [1.0, 10.0])
def test_width_counts_on_the_scale_on_which_the_prior_is_spread(warnings, decades):
    """A prior over decades: a posterior that is half of them wide has learnt something, and all of them has not."""
    rng = np.random.default_rng(7)
    prior = {"rate": 10.0 ** rng.uniform(0.0, decades, (1, 2000))}
    half = {"rate": 10.0 ** rng.uniform(0.3 * decades, 0.7 * decades, (4, 1000))}
    assert warnings(half, prior) == {}
    found = warnings({"rate": 10.0 ** rng.uniform(0.0, decades, (4, 1000))}, prior)
    assert set(found) == {"prior_posterior"}
    assert found["prior_posterior"].value == pytest.approx(1.0, abs=0.1)


def of_fleet(effects):
    """Posterior and prior of one parameter that each of several units has a value of."""
    rng, num = np.random.default_rng(8), len(effects)
    names = [f"unit {number}" for number in range(num)]
    posterior = {f"R[{name}]": rng.normal(effect, 0.1, (4, 1000)) for name, effect in zip(names, effects, strict=True)}
    return posterior, {name: rng.normal(0.0, 1.0, (1, 1000)) for name in posterior}


@pytest.mark.thorough
def test_of_many_units_some_are_at_the_edge_by_chance(warnings):
    """The greatest of 60 effects that are drawn from the prior lies beyond its 1 % quantile in half of all fleets."""
    alarms = sum(
        "prior_edge" in warnings(*of_fleet(np.random.default_rng(seed).normal(0.0, 1.0, 60))) for seed in range(40)
    )
    # two in a hundred at each end of 1 / 60 of 1 %, and some more since posteriors are not points: 95 % of fleets pass
    assert alarms <= scipy.stats.binom.ppf(0.999, 40, 0.05)


def test_a_unit_that_is_beyond_what_so_many_reach_is_named(warnings):
    effects = np.random.default_rng(9).normal(0.0, 0.7, 60)
    effects[17] = 5.0
    found = warnings(*of_fleet(effects))
    assert "`R[unit 17]`." in found["prior_edge"].sentence
    assert "over 60 with the same prior" in found["prior_edge"].sentence
    assert "let `R` come from one population, `pooled=" in found["prior_edge"].sentence
    assert "widen the prior" not in found["prior_edge"].sentence


def test_one_that_is_far_from_its_population_is_looked_at(warnings):
    effects = np.random.default_rng(9).normal(0.0, 0.7, 60)
    effects[17] = 5.0
    posterior, prior = of_fleet(effects)
    for name in ("R_typical", "R_spread"):
        posterior |= {name: np.random.default_rng(1).normal(0.0, 0.1, (4, 1000))}
        prior |= {name: np.random.default_rng(2).normal(0.0, 1.0, (1, 1000))}
    sentence = warnings(posterior, prior)["prior_edge"].sentence
    assert "see what is different about `R[unit 17]`, or widen the prior of `R_spread`." in sentence
