"""A posterior at its prior's edge, or as wide as its prior, is named with a warning and fails nothing."""

import numpy as np
import pytest

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
