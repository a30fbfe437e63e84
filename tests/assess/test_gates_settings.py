"""Every limit can be set, warnings can be made to fail, and coverage on held-out telemetry can be a gate."""

import numpy as np
import pytest
import xarray as xr

from bayestwin.assess import diagnose, failed
from bayestwin.errors import InvalidSetting


@pytest.fixture
def result(make_posterior, healthy_draws) -> xr.DataTree:
    """A healthy result with everything on record that gates look at."""
    tree = make_posterior(healthy_draws())
    audit = {"draws": 192, "tighter": 100.0, "failed": 0, "largest_difference": 0.05, "pareto_k": 0.2}
    tree.attrs |= {"starts": {"modes": 1, "weights": [1.0]}, "tolerance_audit": audit}
    return tree


def coverages(share: float, num: int = 200) -> xr.Dataset:
    """Coverage of one observation at 50 and 90 %, of which the second covers `share`."""
    dims, coords = ("observation", "prob"), {"observation": ["indoor"], "prob": [0.5, 0.9]}
    found = np.array([[0.5, share]])
    low, high = np.array([[0.43, 0.855]]), np.array([[0.57, 0.94]])
    return xr.Dataset(
        {
            "coverage": (dims, found),
            "num": (dims, np.full((1, 2), num)),
            "band_lower": (dims, low),
            "band_upper": (dims, high),
            "joint_lower": (dims, low - 0.01),
            "joint_upper": (dims, high + 0.01),
            "within_joint_band": (dims, (low <= found) & (found <= high)),
            "joint_noticed": (dims, low - 0.05),
            "expected": (dims, np.array([[0.5, 0.9]])),
        },
        coords,
    )


LIMITS = {
    "max_rhat": (1.0001, "rhat"),
    "min_ess_per_chain": (5000, "ess_bulk"),
    "min_chains": (5, "chains"),
    "min_chain_spread": (0.999, "stuck_chain"),
    "max_divergences": (-1, "divergences"),
    "min_bfmi": (9.0, "bfmi"),
    "max_solver_failures": (-0.1, "solver_failures"),
    "max_at_prior_edge": (-0.1, "prior_edge"),
    "max_prior_width": (1e-6, "prior_posterior"),
    "max_modes": (0, "modes"),
}


@pytest.mark.parametrize(("key", "value", "gate"), [(k, *v) for k, v in LIMITS.items()], ids=LIMITS.keys())
def test_a_limit_that_is_moved_fails_its_gate_alone(result, key, value, gate):
    assert failed(diagnose(result, strict=True)) == ()
    found = {one.name: one for one in failed(diagnose(result, strict=True, **{key: value}))}
    assert set(found) - {"ess_tail"} == {gate}
    assert found[gate].limit == pytest.approx(value * (4 if gate == "ess_bulk" else 1))


def test_the_solver_may_err_by_either_limit(result):
    def passes(**limits: float) -> bool:
        return next(gate.passed for gate in diagnose(result, **limits) if gate.name == "tolerance")

    assert passes(max_solver_error=0.01)  # by its Pareto k
    words = next(gate.sentence for gate in diagnose(result, max_solver_error=0.01) if gate.name == "tolerance")
    assert "That is more than 0.01, but" in words
    assert "(Pareto k 0.20, limit 0.7)" in words
    assert passes(max_pareto_k=0.1)  # by its size
    assert not passes(max_solver_error=0.01, max_pareto_k=0.1)


def test_an_approximation_is_held_against_the_limit(result):
    result.attrs |= {"method": "laplace", "approximation": {"pareto_k": 0.5}}
    assert failed(diagnose(result)) == ()
    assert [gate.name for gate in failed(diagnose(result, max_pareto_k=0.4))] == ["approximation"]


def test_several_modes_pass_where_they_are_allowed(result):
    result.attrs["starts"] = {"modes": 2, "weights": [0.7, 0.3]}
    assert [gate.name for gate in failed(diagnose(result, strict=["modes"]))] == ["modes"]
    assert failed(diagnose(result, strict=["modes"], max_modes=2)) == ()


def test_only_the_warnings_that_are_named_fail(result, make_posterior, healthy_draws):
    tree = make_posterior(
        healthy_draws(), prior={name: np.random.default_rng(1).normal(9, 0.1, (1, 500)) for name in ("alpha", "beta")}
    )
    assert failed(diagnose(tree)) == ()
    assert [gate.name for gate in failed(diagnose(tree, strict=["prior_edge"]))] == ["prior_edge"]
    assert failed(diagnose(tree, strict=["prior_posterior"])) == ()


def test_coverage_is_a_gate_only_where_it_is_asked_for(result):
    narrow = coverages(0.7)
    assert "coverage" not in {gate.name for gate in diagnose(result, covered=narrow)}
    warned = diagnose(result, coverage="warn", covered=narrow)[-1]
    assert (warned.name, warned.passed, warned.severity, warned.value) == ("coverage", False, "warn", 1.0)
    assert [gate.name for gate in failed(diagnose(result, coverage="fail", covered=narrow))] == ["coverage"]
    assert [gate.name for gate in failed(diagnose(result, coverage="warn", strict=True, covered=narrow))] == [
        "coverage"
    ]
    assert failed(diagnose(result, coverage="fail", max_coverage_misses=1, covered=narrow)) == ()
    assert failed(diagnose(result, coverage="fail", covered=coverages(0.9))) == ()


@pytest.mark.parametrize(("share", "word"), [(0.7, "too narrow"), (0.99, "too wide")])
def test_the_sentence_on_coverage_says_which_interval_is_off(result, share, word):
    sentence = diagnose(result, coverage="fail", covered=coverages(share))[-1].sentence
    assert f"those of `indoor` are {word}: {100 * share:.3g} % of 200 observations" in sentence
    assert "chance allows 84.5 to 95.0 %" in sentence


def test_coverage_that_is_not_known_does_not_pass(result):
    assert "Hold some out" in failed(diagnose(result, coverage="fail"))[0].sentence
    never = coverages(0.9, num=0)
    never = never.assign(coverage=never["coverage"] * np.nan, within_joint_band=never["within_joint_band"] & False)
    assert "`indoor` was never observed" in failed(diagnose(result, coverage="fail", covered=never))[0].sentence


@pytest.mark.parametrize("setting", [{"strict": ["prior_egde"]}, {"strict": "prior_edge"}, {"coverage": "maybe"}])
def test_a_word_that_means_nothing_is_refused(result, setting):
    with pytest.raises(InvalidSetting, match=f"`{next(iter(setting))}` has no meaning"):
        diagnose(result, **setting)
