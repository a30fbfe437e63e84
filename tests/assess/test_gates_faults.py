"""Every planted fault fails the gate that is named after it, with a sentence that says where it is."""

import re

import numpy as np
import pytest

from bayestwin.assess import diagnose, failed
from bayestwin.errors import InvalidInput


@pytest.fixture
def draws(healthy_draws):
    return healthy_draws()


def failures(tree):
    """Sentences of the failed gates by name."""
    return {gate.name: gate.sentence for gate in failed(diagnose(tree))}


def test_a_chain_that_does_not_move_is_stuck(make_posterior, draws):
    draws["alpha"][2] = 3.25
    found = failures(make_posterior(draws))
    assert {"stuck_chain", "rhat"} <= set(found)
    assert "Chain 2 is stuck (1 of 4 chains are): `alpha` does not move in it" in found["stuck_chain"]
    assert ", 2: 3.25, 3: " in found["stuck_chain"]


def test_a_chain_that_hardly_moves_is_stuck_where_it_agrees_on_average(make_posterior, draws):
    draws["beta"][1] = 0.5 + (draws["beta"][1] - 0.5) / 50
    found = failures(make_posterior(draws))
    assert "Chain 1 is stuck" in found["stuck_chain"]
    assert re.search(r"`beta` spreads (2|1\.9|2\.1) % as wide", found["stuck_chain"])


def test_three_stuck_chains_of_four_are_not_taken_for_the_norm(make_posterior, draws):
    draws["alpha"][:3] = np.array([[1.0], [2.0], [3.0]])
    assert "(3 of 4 chains are)" in failures(make_posterior(draws))["stuck_chain"]


def test_several_modes_disagree_with_the_means_by_chain(make_posterior, draws):
    draws["alpha"][[1, 3]] += 5.0
    found = failures(make_posterior(draws))
    assert "stuck_chain" not in found
    assert "`alpha`" in found["rhat"]
    assert "several modes" in found["rhat"]
    for label, values in enumerate(draws["alpha"]):
        assert f"{label}: {values.mean():.4g}" in found["rhat"]


@pytest.mark.parametrize("rounding", [0.0, 1e-9])
def test_identical_chains_fail_by_name(make_posterior, draws, rounding):
    for values in draws.values():
        values[3] = values[0] * (1 + rounding)
    found = failures(make_posterior(draws))
    assert set(found) == {"identical_chains"}  # R̂ and ESS see nothing
    assert "chain 3 of 0" in found["identical_chains"]


def test_chains_that_share_one_parameter_only_are_no_copies(make_posterior, draws):
    draws["alpha"][3] = draws["alpha"][0]
    assert failures(make_posterior(draws)) == {}


def test_four_times_the_same_chain_fails(make_posterior, draws):
    found = failures(make_posterior({name: np.repeat(values[:1], 4, 0) for name, values in draws.items()}))
    assert "3 of 4 chains are copies" in found["identical_chains"]


def test_one_chain_fails_and_its_rhat_too(make_posterior, draws):
    found = failures(make_posterior({name: values[:1] for name, values in draws.items()}))
    assert set(found) == {"chains", "rhat"}
    assert "only one chain" in found["rhat"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_draw_that_is_not_finite_fails_and_is_counted(make_posterior, draws, bad):
    draws["beta"][1, 17] = bad
    found = failures(make_posterior(draws))
    assert found["finite"].startswith("1 of 4,000 draws of `beta` are NaN or infinite")
    assert {"finite", "rhat", "ess_bulk", "ess_tail", "stuck_chain"} <= set(found)


@pytest.mark.parametrize("name", ["diverging", "solver_failed"])
def test_all_divergent_or_unsolved_fails(make_posterior, draws, name):
    found = failures(make_posterior(draws, stats={name: np.ones((4, 1000), dtype=bool)}))
    assert set(found) == {{"diverging": "divergences", "solver_failed": "solver_failures"}[name]}
    assert "4,000 of 4,000" in next(iter(found.values()))


def test_one_divergence_fails_and_names_its_chain(make_posterior, draws):
    diverging = np.zeros((4, 1000), dtype=bool)
    diverging[2, 5] = True
    sentence = failures(make_posterior(draws, stats={"diverging": diverging}))["divergences"]
    assert sentence.startswith("1 of 4,000 transitions diverged (chain 2: 1): ")


@pytest.mark.parametrize(("count", "passes"), [(40, True), (41, False)])
def test_solver_failures_pass_up_to_their_share(make_posterior, draws, count, passes):
    solver_failed = np.zeros(4000, dtype=bool)
    solver_failed[:count] = True
    found = failures(make_posterior(draws, stats={"solver_failed": solver_failed.reshape(4, 1000)}))
    assert ("solver_failures" not in found) == passes


def test_energies_that_move_slowly_fail(make_posterior, draws):
    energy = np.random.default_rng(8).normal(size=(4, 1000))
    energy[1] = np.cumsum(energy[1])
    assert "(chain 1, limit 0.3)" in failures(make_posterior(draws, stats={"energy": energy}))["bfmi"]


def test_too_few_effective_draws_fail(make_posterior):
    rng = np.random.default_rng(9)
    values = rng.normal(size=(4, 1000))
    for draw in range(1, 1000):
        values[:, draw] = 0.97 * values[:, draw - 1] + np.sqrt(1 - 0.97**2) * values[:, draw]
    found = failures(make_posterior({"alpha": values}))
    assert {"ess_bulk", "ess_tail"} <= set(found)
    assert "times as many" in found["ess_bulk"]


def test_a_statistic_that_is_missing_does_not_pass(make_posterior, draws):
    tree = make_posterior(draws)
    tree["sample_stats"] = tree["sample_stats"].to_dataset().drop_vars(["energy", "diverging"])
    assert set(failures(tree)) == {"bfmi", "divergences"}
    assert set(failures(tree.filter(lambda node: node.name != "sample_stats"))) == {
        "bfmi",
        "divergences",
        "solver_failures",
    }


@pytest.mark.parametrize("name", ["diverging", "solver_failed", "energy"])
def test_a_statistic_that_is_nan_does_not_pass(make_posterior, draws, name):
    assert len(failures(make_posterior(draws, stats={name: np.full((4, 1000), np.nan)}))) == 1


def test_a_tree_without_draws_of_parameters_is_refused(make_forecast, make_posterior, draws):
    with pytest.raises(InvalidInput, match="`posterior` is not a set of draws"):
        diagnose(make_forecast({"level": np.zeros((2, 5, 3))}, np.arange(3.0)))
    with pytest.raises(InvalidInput, match="Received: no variable or chain"):
        diagnose(make_posterior({"alpha": np.empty((0, 100))}))
    tree = make_posterior(draws)
    tree["posterior"] = tree["posterior"].to_dataset().assign(scale=3.0)
    with pytest.raises(InvalidInput, match="Received: variables without them: scale"):
        diagnose(tree)


@pytest.mark.parametrize(("modes", "words"), [(1, "found one mode"), (3, "several modes"), (None, "several modes")])
def test_advice_on_chains_that_disagree_knows_what_climbs_found(make_posterior, modes, words):
    rng = np.random.default_rng(5)
    apart = rng.normal(size=(4, 200)) + np.array([[0.0], [0.0], [0.0], [3.0]])
    posterior = make_posterior({"rate": apart})
    if modes is not None:
        posterior.attrs["starts"] = {"modes": modes, "optimised": 16, "converged": 16, "highest": 16}
    gate = next(gate for gate in diagnose(posterior) if gate.name == "rhat")
    assert not gate.passed
    assert words in gate.sentence
    assert ("more draws do not" in gate.sentence) == (modes != 1)


@pytest.mark.parametrize("aimed", [0.8, 0.95, 0.99])
def test_what_was_tried_is_not_advised_again(make_posterior, aimed):
    rng = np.random.default_rng(6)
    diverging = rng.uniform(size=(4, 200)) < 0.05
    posterior = make_posterior({"rate": rng.normal(size=(4, 200))}, stats={"diverging": diverging})
    posterior.attrs["sampling"] = {"target_acceptance": aimed}
    gate = next(gate for gate in diagnose(posterior) if gate.name == "divergences")
    assert ("Calibrate with a higher `target_acceptance`" in gate.sentence) == (aimed < 0.95)
    assert (f"`target_acceptance` of {aimed:g} did not cure it" in gate.sentence) == (aimed >= 0.95)


@pytest.mark.parametrize(("gain", "passed"), [(20.0, False), (0.5, False), (1e-6, True)])
def test_most_probable_values_that_are_no_maximum_fail(make_posterior, gain, passed):
    posterior = make_posterior({"rate": np.ones((1, 1))})
    posterior.attrs |= {"method": "map", "starts": {"modes": 1, "optimised": 16, "converged": 1, "still_to_gain": gain}}
    gate = next(gate for gate in diagnose(posterior) if gate.name == "maximum")
    assert (gate.passed, gate.severity) == (passed, "fail")


def test_a_ladder_on_which_no_climb_arrived_warns(make_posterior):
    posterior = make_posterior({"rate": np.random.default_rng(7).normal(size=(4, 200))})
    posterior.attrs["starts"] = {"modes": 1, "optimised": 16, "converged": 0, "highest": 16, "still_to_gain": 41.0}
    gate = next(gate for gate in diagnose(posterior) if gate.name == "modes")
    assert not gate.passed
    assert "None of 16 climbs arrived at a mode" in gate.sentence
    assert "about 41 of log density" in gate.sentence


def drifting() -> np.ndarray:
    """All chains go the same way: their means and variances are equal, those of their halves are not."""
    return np.linspace(-1.0, 1.0, 500) + np.random.default_rng(0).normal(0.0, 0.5, (4, 500))


def of_unequal_width() -> np.ndarray:
    """One chain is a third as wide as the others, about the same middle."""
    return np.random.default_rng(1).normal(size=(4, 500)) * np.array([[1.0], [1.0], [1.0], [0.33]])


def apart_without_a_variance() -> np.ndarray:
    """One chain lies elsewhere, and draws that lie far out hide it from any mean."""
    return np.random.default_rng(2).standard_cauchy((4, 500)) + np.array([[0.0], [0.0], [0.0], [1.5]])


@pytest.mark.parametrize("made", [drifting, of_unequal_width, apart_without_a_variance], ids=lambda made: made.__name__)
def test_r_hat_is_that_of_halves_of_chains_and_of_ranks_and_folded_ranks(make_posterior, made) -> None:
    draws = made()
    between, within = draws.mean(axis=1).var(ddof=1), draws.var(axis=1, ddof=1).mean()
    assert np.sqrt(1.0 + between / within) < 1.01  # the plain one sees nothing
    gate = next(gate for gate in diagnose(make_posterior({"rate": draws})) if gate.name == "rhat")
    assert not gate.passed
    assert gate.value > 1.03
