"""Gates give a verdict, and never a pass or a crash, on draws that mean nothing."""

import numpy as np
import pytest

from bayestwin.assess import diagnose, failed

RNG = np.random.default_rng(10)

DEGENERATE = {
    "all NaN": np.full((4, 100), np.nan),
    "one NaN chain": np.where(np.arange(4)[:, None] == 1, np.nan, RNG.normal(size=(4, 100))),
    "all infinite": np.full((4, 100), np.inf),
    "constant": np.full((4, 100), 2.5),
    "constant but for rounding": 2.5 + np.spacing(2.5) * RNG.integers(0, 3, (4, 100)),
    "each chain constant": np.repeat(np.arange(4.0)[:, None], 100, axis=1),
    "each chain constant, one chain": np.full((1, 100), 1.0),
    "four draws": RNG.normal(size=(4, 4)),
    "three draws": RNG.normal(size=(4, 3)),
    "one draw": RNG.normal(size=(4, 1)),
    "one draw, one chain": RNG.normal(size=(1, 1)),
    "no draws": np.empty((4, 0)),
}


@pytest.mark.parametrize("draws", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_a_degenerate_parameter_fails_beside_a_healthy_one(make_posterior, draws):
    gates = diagnose(make_posterior({"healthy": RNG.normal(size=draws.shape), "alpha": draws}))
    assert failed(gates)
    assert all(gate.sentence.endswith(".") for gate in gates)
    assert all(type(gate.value) is float and type(gate.passed) is bool for gate in gates)


def test_no_draws_at_all_are_held_against_none_that_may_be_bad(make_posterior):
    gate = next(one for one in diagnose(make_posterior({"alpha": np.empty((4, 0))})) if one.name == "finite")
    assert (gate.passed, gate.limit) == (False, 0.0)
    assert np.isnan(gate.value)


@pytest.mark.parametrize(("num", "known"), [(3, False), (4, True)])
def test_of_four_draws_a_chain_and_no_fewer_r_hat_is_a_number(make_posterior, num, known):
    gates = diagnose(make_posterior({"alpha": RNG.normal(size=(4, num))}))
    assert np.isfinite(next(gate.value for gate in gates if gate.name == "rhat")) == known


def test_a_constant_parameter_has_no_effective_draws(make_posterior):
    """ArviZ alone gives a constant an ESS of all its draws."""
    gates = {gate.name: gate for gate in diagnose(make_posterior({"alpha": np.full((4, 1000), 2.5)}))}
    for name in ("ess_bulk", "ess_tail", "rhat", "stuck_chain"):
        assert not gates[name].passed
        assert "`alpha`" in gates[name].sentence


def test_constant_energies_do_not_pass(make_posterior, healthy_draws):
    gates = diagnose(make_posterior(healthy_draws(), stats={"energy": np.ones((4, 1000))}))
    assert [gate.name for gate in failed(gates)] == ["bfmi"]
