"""What gates advise knows what was done, and what chains show: mirrored labels, populations, ridges."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from bayestwin._base.wording import NARROW
from bayestwin.assess.diagnose import diagnose
from bayestwin.assess.gates import Chains, Gate, mirrored
from bayestwin.inference.climb import Mode, ridges
from bayestwin.report.prose import start_words

RNG = np.random.default_rng(4)
FAST, SLOW = (8.0, 1.0), (0.5, 0.02)
"""Centre and width of two rates: as numbers they are 50 times as wide as each other."""


def gates_of(tree: xr.DataTree) -> dict[str, Gate]:
    return {gate.name: gate for gate in diagnose(tree)}


def around(*places: tuple[float, float], num: int = 400) -> np.ndarray:
    """Draws of four chains, each around its own place."""
    return np.stack([centre + width * RNG.normal(size=num) for centre, width in places])


def biexponential(swapped: tuple[bool, ...]) -> dict[str, np.ndarray]:
    """Two rates and two amplitudes of a sum of two exponentials, whose labels are swapped in some chains."""
    return {
        "k1": around(*[SLOW if one else FAST for one in swapped]),
        "k2": around(*[FAST if one else SLOW for one in swapped]),
        "a1": around(*[(3.0, 0.1) if one else (1.0, 0.1) for one in swapped]),
        "a2": around(*[(1.0, 0.1) if one else (3.0, 0.1) for one in swapped]),
        "sigma": around(*[(0.1, 0.01)] * len(swapped)),
    }


@pytest.mark.parametrize("swapped", [(False, False, True, True), (False, True, False, True), (False, True, True, True)])
def test_mirrored_labels_are_told_from_chains_that_are_stuck(make_posterior: Callable, swapped: tuple) -> None:
    found = gates_of(make_posterior(biexponential(swapped)))
    assert found["stuck_chain"].passed
    assert found["stuck_chain"].value >= found["stuck_chain"].limit
    assert not found["rhat"].passed
    kept, others = (", ".join(str(n) for n, one in enumerate(swapped) if one is which) for which in (False, True))
    for name in ("stuck_chain", "rhat"):
        sentence = found[name].sentence
        assert "two modes with mirrored labels" in sentence
        assert f"what is `k1` in chain {kept} is `k2` in chain {others}" in sentence
        assert f"what is `a1` in chain {kept} is `a2` in chain {others}" in sentence
        assert "`sigma`" not in sentence
    assert "smc" not in found["rhat"].sentence
    assert "does not tell `k1` from `k2`" in found["rhat"].sentence


def test_a_chain_that_is_stuck_stays_stuck_under_any_label(make_posterior: Callable) -> None:
    draws = biexponential((False, False, True, True))
    draws["sigma"][3] = 0.1  # mirrored as well, and it does not move
    found = gates_of(make_posterior(draws))["stuck_chain"]
    assert not found.passed
    assert "`sigma` does not move" in found.sentence
    alone = biexponential((False,) * 4)
    alone["k1"][2] = around(SLOW)[0]  # at the other's place, and the other is not at its
    assert mirrored(Chains(tuple("0123"), alone)) is None
    found = gates_of(make_posterior(alone))["stuck_chain"]
    assert not found.passed
    assert "Chain 2 is stuck" in found.sentence


def test_chains_that_agree_and_chains_in_three_places_are_not_mirrored() -> None:
    assert mirrored(Chains(tuple("0123"), biexponential((False,) * 4))) is None
    apart = {"a": around((0, 1), (20, 1), (40, 1)), "b": around((20, 1), (40, 1), (0, 1))}
    assert mirrored(Chains(tuple("012"), apart)) is None
    assert mirrored(Chains(("0",), {"a": around((0, 1)), "b": around((20, 1))})) is None


def with_attrs(tree: xr.DataTree, **attrs: object) -> xr.DataTree:
    tree.attrs |= attrs
    return tree


def test_smc_is_not_answered_by_smc(make_posterior: Callable) -> None:
    draws = {"a": around((0, 1), (0, 1), (9, 1), (9, 1)), "b": around(*[(0, 1)] * 4)}
    by_nuts, by_smc = (
        gates_of(with_attrs(make_posterior(draws), method=method))["rhat"].sentence for method in ("nuts", "smc")
    )
    assert '`method="smc"`' in by_nuts
    assert "smc" not in by_smc
    assert "have lost one" in by_smc
    assert "Take more particles than these 400 (`num_samples`)" in by_smc


def test_more_draws_are_asked_for_by_their_number(make_posterior: Callable) -> None:
    few = gates_of(make_posterior({"a": RNG.normal(size=(4, 60))}))["ess_bulk"]
    asked = int(few.sentence.partition("num_samples=")[2].partition("`")[0])
    assert 60 * few.limit / few.value <= asked <= 66 * few.limit / few.value


def test_a_stiff_solver_is_not_advised_twice_and_a_warm_up_is_counted(make_posterior: Callable) -> None:
    draws = {"a": RNG.normal(size=(4, 400))}
    bad = {"solver_failed": RNG.random((4, 400)) < 0.3, "energy": np.cumsum(RNG.normal(size=(4, 400)), axis=1)}
    tree = make_posterior(draws, stats=bad)
    assert "Try a stiff solver" in gates_of(tree)["solver_failures"].sentence
    tree = with_attrs(tree, solver_choice={"method": "rodas5p"}, num_warmup=750)
    found = gates_of(tree)
    assert "They were solved by the stiff solver: try more steps" in found["solver_failures"].sentence
    assert "a longer warm-up than 750 (`num_warmup`)" in found["bfmi"].sentence


def modes_at(*places: float, height: Callable[[float], float]) -> tuple[Mode, ...]:
    return tuple(Mode(np.array([z]), float(height(z)), np.eye(1), 1.0 / len(places)) for z in places)


def test_points_of_one_ridge_are_one_mode_however_far_apart() -> None:
    """Log density log sigmoid(z): flat towards the bound of a uniform prior; and two peaks eight widths apart."""

    def flat(z: jnp.ndarray) -> jnp.ndarray:
        return jnp.log(1.0 / (1.0 + jnp.exp(-z[0])))

    def peaks(z: jnp.ndarray) -> jnp.ndarray:
        return jnp.logaddexp(-0.5 * z[0] ** 2, -0.5 * (z[0] - 8.0) ** 2)

    def of(function: Callable) -> Callable[[float], float]:
        return lambda z: function(jnp.array([z]))

    assert ridges(flat, modes_at(4.0, 9.0, 15.0, 22.0, 40.0, height=of(flat))) == [[0, 1, 2, 3, 4]]
    assert ridges(peaks, modes_at(0.0, 8.0, height=of(peaks))) == [[0], [1]]
    assert ridges(peaks, modes_at(0.0, 8.0, 0.5, 7.5, height=of(peaks))) == [[0, 2], [1, 3]]
    assert ridges(peaks, modes_at(0.0, height=of(peaks))) == [[0]]


def climbed(**starts: object) -> dict[str, object]:
    return {"optimised": 16, "converged": 16, "highest": 5, "modes": 5, "weights": [0.2] * 5} | starts


def test_a_ridge_is_said_as_one(make_posterior: Callable) -> None:
    draws = {"a": RNG.normal(size=(4, 400))}
    one = climbed(visited=[0.9, 0.1, 0.0, 0.0, 0.0], ridges=[[0, 1, 2, 3, 4]])
    gate = gates_of(with_attrs(make_posterior(draws), starts=one))["modes"]
    assert gate.passed
    assert gate.value == 1.0
    assert "5 points of one ridge" in gate.sentence
    two = gates_of(with_attrs(make_posterior(draws), starts=one | {"ridges": [[0, 1, 2], [3, 4]]}))["modes"]
    assert not two.passed
    assert two.severity == "fail"  # no draw in either of the other
    assert "found 2 modes, which share the posterior by 60 %, 40 %" in two.sentence
    five = gates_of(with_attrs(make_posterior(draws), starts=climbed()))["modes"]
    assert "found 5 modes" in five.sentence


def test_a_page_counts_modes_as_the_gate_does(make_posterior: Callable) -> None:
    draws = {"a": RNG.normal(size=(4, 400))}

    def words(**starts: object) -> str:
        starts = climbed(drawn=64, failed=0, **starts)
        return " ".join(start_words(with_attrs(make_posterior(draws), starts=starts))).replace(NARROW, " ")

    assert "at 5 points of one ridge" in words(ridges=[[0, 1, 2, 3, 4]])
    assert "2 modes share the posterior (60 %, 40 % by" in words(ridges=[[0, 1, 2], [3, 4]])
    assert "5 modes share the posterior (20 %, 20 %, 20 %, 20 %, 20 % by" in words()
    assert "One mode holds all" in words(modes=1, weights=[1.0])


def test_chains_on_one_ridge_are_slow_and_not_in_several_modes(make_posterior: Callable) -> None:
    draws = {"a": around((0, 1), (0, 1), (9, 1), (9, 1))}
    tree = with_attrs(make_posterior(draws), starts=climbed(ridges=[[0, 1, 2, 3, 4]]))
    assert "found one mode" in gates_of(tree)["rhat"].sentence
