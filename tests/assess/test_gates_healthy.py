"""A healthy set of chains passes every gate, whatever the seed, and says so in plain words."""

import numpy as np
import pytest

from bayestwin.assess import diagnose, failed

NAMES = (
    "finite",
    "chains",
    "identical_chains",
    "stuck_chain",
    "rhat",
    "ess_bulk",
    "ess_tail",
    "divergences",
    "bfmi",
    "solver_failures",
    "prior_edge",
    "prior_posterior",
)


@pytest.mark.parametrize("seed", range(10))
def test_healthy_chains_pass_every_gate(make_posterior, healthy_draws, seed):
    gates = diagnose(make_posterior(healthy_draws(seed)))
    assert tuple(gate.name for gate in gates) == NAMES
    assert [gate for gate in gates if not gate.passed] == []
    assert failed(gates) == ()


def test_two_chains_are_enough_for_a_verdict(make_posterior, healthy_draws):
    assert failed(diagnose(make_posterior(healthy_draws(chains=2, num_draws=2000)))) == ()


def test_heavy_tails_and_arrays_are_no_fault(make_posterior):
    rng = np.random.default_rng(7)
    draws = {"rate": rng.standard_cauchy((4, 1000)), "weights": rng.normal(size=(4, 1000, 2, 3))}
    assert failed(diagnose(make_posterior(draws))) == ()


def test_sentences_name_the_worst_parameter_and_its_number(make_posterior, healthy_draws):
    gates = {gate.name: gate for gate in diagnose(make_posterior(healthy_draws()))}
    assert gates["rhat"].sentence.startswith("4 of 4 chains agree (largest R̂ 1.00")
    assert "`alpha`" in gates["rhat"].sentence or "`beta`" in gates["rhat"].sentence
    assert gates["solver_failures"].sentence == "0 of 4,000 solves failed."
    assert gates["divergences"].sentence == "0 of 4,000 transitions diverged."
    assert f"{gates['ess_bulk'].value:,.0f}" in gates["ess_bulk"].sentence


def test_values_are_plain_and_the_limits_those_of_the_call(make_posterior, healthy_draws):
    gates = diagnose(make_posterior(healthy_draws()), max_rhat=1.0001, min_ess_per_chain=5000, min_bfmi=9.0)
    assert all(type(gate.value) is float and type(gate.limit) is float for gate in gates)
    assert all(type(gate.passed) is bool for gate in gates)
    assert {gate.name for gate in failed(gates)} == {"rhat", "ess_bulk", "ess_tail", "bfmi"}
    assert {gate.name: gate.limit for gate in gates}["ess_bulk"] == 20_000
