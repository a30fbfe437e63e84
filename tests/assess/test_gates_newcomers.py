"""Faults that hide in a posterior fail the gate named after them, with a sentence that says where and what to do.

Four of them pass `az.diagnose` without a word, which the tests show as well.
"""

from collections.abc import Callable

import arviz as az
import numpy as np
import pytest
import xarray as xr

from bayestwin.assess import Gate, diagnose, failed

type Draws = dict[str, np.ndarray]
type Make = Callable[..., xr.DataTree]


@pytest.fixture
def draws(healthy_draws: Callable[..., Draws]) -> Draws:
    return healthy_draws()


def prior_that_excludes(make: Make, draws: Draws) -> xr.DataTree:
    """A prior that excludes the data: all draws lie beyond the prior's 99 % quantile, at 0.2."""
    rng = np.random.default_rng(35)
    return make(draws, prior={"alpha": rng.normal(0, 0.08, (1, 1000)), "beta": rng.normal(0, 10, (1, 1000))})


def stuck(make: Make, draws: Draws) -> xr.DataTree:
    """One chain never moves from where it started."""
    return make(draws | {"alpha": np.where(np.arange(4)[:, None] == 2, 0.55, draws["alpha"])})


def identical(make: Make, draws: Draws) -> xr.DataTree:
    """Identical chains: each chain is given the random numbers of the first."""
    return make({name: np.repeat(values[:1], 4, axis=0) for name, values in draws.items()})


def single(make: Make, draws: Draws) -> xr.DataTree:
    """Only one chain was run."""
    return make({name: values[:1] for name, values in draws.items()})


def all_divergent(make: Make, draws: Draws) -> xr.DataTree:
    """Every transition diverges."""
    return make(draws, stats={"diverging": np.ones((4, 1000), dtype=bool)})


def divergent_in_a_corner(make: Make, draws: Draws) -> xr.DataTree:
    """Some transitions diverge, where one parameter is small."""
    return make(draws, stats={"diverging": draws["beta"] < np.quantile(draws["beta"], 0.02)})


def several_modes(make: Make, draws: Draws) -> xr.DataTree:
    """Two chains are at another mode than the other two."""
    return make(draws | {"alpha": draws["alpha"] + np.array([[0.0], [5.0], [0.0], [5.0]])})


def uninformative(make: Make, draws: Draws) -> xr.DataTree:
    """The data say nothing: the posterior of `beta` is its prior."""
    rng = np.random.default_rng(41)
    prior = {"alpha": rng.normal(0, 10, (1, 1000)), "beta": rng.normal(0.5, 0.1, (1, 1000))}
    return make(draws, prior=prior)


def all_nan(make: Make, draws: Draws) -> xr.DataTree:
    """Draws that were lost, as by a kill while the file was written."""
    return make(draws | {"alpha": np.full((4, 1000), np.nan)})


def constant(make: Make, draws: Draws) -> xr.DataTree:
    """No chain has moved in one parameter."""
    return make(draws | {"alpha": np.full((4, 1000), 2.5)})


def unsolvable_corner(make: Make, draws: Draws) -> xr.DataTree:
    """Solver failures in a corner: where one parameter is large, solves fail."""
    return make(draws, stats={"solver_failed": draws["alpha"] > np.quantile(draws["alpha"], 0.97)})


def slow_energies(make: Make, draws: Draws) -> xr.DataTree:
    """One parameter walks up and down, and the energy with it."""
    walk = np.cumsum(np.random.default_rng(1).normal(size=(4, 1000)), axis=1)
    return make(draws | {"beta": walk}, stats={"energy": walk + 0.1 * draws["alpha"]})


FAULTS = {
    "prior excludes the data": (prior_that_excludes, "prior_edge", "`alpha`", "widen the prior"),
    "stuck chain": (stuck, "stuck_chain", "Chain 2 is stuck (1 of 4 chains are): `alpha`", "another seed"),
    "identical chains": (identical, "identical_chains", "`alpha`, `beta`", "a seed of its own"),
    "single chain": (single, "chains", "1 chain was run", "num_chains=4"),
    "single chain, NaN R̂": (
        single,
        "rhat",
        "there is only one chain (`alpha`)",
        "Mend what the gates before this one found",
    ),
    "all divergent": (all_divergent, "divergences", "4,000 of 4,000 transitions diverged", "no draw can be used"),
    "some divergent": (divergent_in_a_corner, "divergences", "where `beta` is small", "prior of `beta`"),
    "several modes": (several_modes, "rhat", "about `alpha`", "a tighter prior of `alpha`"),
    "prior ≈ posterior": (uninformative, "prior_posterior", "next to nothing about `beta`", "Give it a known value"),
    "all NaN": (all_nan, "finite", "4,000 of 4,000 draws of `alpha`", "Look for a logarithm"),
    "constant": (constant, "stuck_chain", "`alpha` does not move", "another seed"),
    "constant, ESS": (constant, "ess_bulk", "middle of `alpha`", "calibrate again"),
    "solver failures": (unsolvable_corner, "solver_failures", "where `alpha` is large", "rodas5p"),
    "E-BFMI": (slow_energies, "bfmi", "limit 0.3", "that of `beta` first"),
}

BLIND = {"all NaN": all_nan, "constant": constant, "single chain": single, "identical chains": identical}


def judged(tree: xr.DataTree) -> dict[str, Gate]:
    """Gates that did not pass, those that otherwise only warn included."""
    return {gate.name: gate for gate in failed(diagnose(tree, strict=True))}


@pytest.mark.parametrize(("inject", "gate", "where", "advice"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_fails_its_gate_and_says_where_and_what_to_do(make_posterior, draws, inject, gate, where, advice):
    sentence = judged(inject(make_posterior, draws))[gate].sentence
    assert where in sentence
    assert advice in sentence
    assert sentence.endswith(".")


def test_chains_in_different_modes_are_told_with_their_means(make_posterior, draws):
    sentence = judged(several_modes(make_posterior, draws))["rhat"].sentence
    means = [f"{label}: {draws['alpha'][label].mean() + 5.0 * (label % 2):.4g}" for label in range(4)]
    assert f"means by chain: {', '.join(means)}." in sentence


@pytest.mark.parametrize("inject", BLIND.values(), ids=BLIND.keys())
def test_what_arviz_does_not_see_fails(make_posterior, draws, inject):
    tree = inject(make_posterior, draws)
    with np.errstate(all="ignore"):
        assert not az.diagnose(tree, show_diagnostics=False)
    assert failed(diagnose(tree))


def test_the_draws_that_faults_are_injected_into_pass(make_posterior, draws):
    assert judged(make_posterior(draws)) == {}


@pytest.mark.parametrize("seed", range(20))
def test_divergences_that_lie_anywhere_are_put_nowhere(make_posterior, draws, seed):
    """Five transitions of 4,000 at random: chance alone must not accuse a parameter."""
    diverging = np.zeros(4000, dtype=bool)
    diverging[np.random.default_rng(seed).choice(4000, 5, replace=False)] = True
    sentence = judged(make_posterior(draws, stats={"diverging": diverging.reshape(4, 1000)}))["divergences"].sentence
    assert "mostly where" not in sentence
