"""Shapley effects are the average over all orders, whatever each group explains; a group without error explains all."""

import itertools

import numpy as np
import pytest

from bayestwin.insight.shares import Redraw, coalitions, correlation, shapley


@pytest.mark.parametrize("players", [("a",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_the_average_over_all_orders(players, seed):
    rng = np.random.default_rng(seed)
    explained = {}
    for group in coalitions(players):  # the smallest first: what a larger group adds is not negative
        explained[group] = rng.uniform(0.0, 1.0, 4) + max(
            (explained[less] for less in explained if less < group), key=np.sum, default=np.zeros(4)
        )
        for less in list(explained):
            if less < group:
                explained[group] = np.maximum(explained[group], explained[less])
    orders = list(itertools.permutations(players))
    naive = {player: np.zeros(4) for player in players}
    for order in orders:
        for place, player in enumerate(order):
            before = explained.get(frozenset(order[:place]), np.zeros(4))
            naive[player] += (explained[frozenset(order[: place + 1])] - before) / len(orders)
    found = shapley(players, explained)
    for player in players:
        np.testing.assert_allclose(found[player], naive[player], rtol=1e-12)
    np.testing.assert_allclose(sum(found.values()), explained[frozenset(players)], rtol=1e-12)


def test_what_is_shared_lies_between_nothing_and_all():
    rng = np.random.default_rng(0)
    common, own, other = rng.normal(size=(3, 20_000, 1))
    assert correlation(common, common).item() == pytest.approx(1.0)
    # sd of a correlation of 20,000 pairs: at most 0.007
    assert correlation(common, other).item() == pytest.approx(0.0, abs=0.03)
    assert correlation(common + own, common + other).item() == pytest.approx(0.5, abs=0.03)
    assert correlation(np.ones((9, 1)), np.ones((9, 1))).item() == 0.0


def test_what_is_drawn_anew_keeps_the_covariance_and_what_is_kept():
    rng = np.random.default_rng(1)
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.5]])
    draws = rng.multivariate_normal(np.zeros(3), covariance, 20_000)
    known = Redraw(draws, {"parameters": np.array([0, 2]), "initial_state": np.array([1])})
    rows = np.arange(len(draws))
    for kept, columns in (("parameters", [0, 2]), ("initial_state", [1])):
        found = known.given(frozenset({kept}), rows, rng)
        np.testing.assert_array_equal(found[:, columns], draws[:, columns])
        np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.05)
        assert not np.allclose(found, draws)
    anew = known.given(frozenset({"inputs"}), rows, rng)
    np.testing.assert_allclose(np.cov(anew.T), covariance, atol=0.05)
    assert abs(np.corrcoef(anew[:, 0], draws[:, 0])[0, 1]) < 0.03
