"""Bets on PITs are a martingale while these are uniform, grow soon after they are not, and say since when."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayestwin.monitor.martingale import BETS, FURTHEST, began, bet, fewest, mean_of, scores

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
"""What a standard normal score is on average: exact for what bets are made of, as far as they are smooth."""


@pytest.mark.parametrize("before", [0.0, -1.3, 2.5])
@pytest.mark.parametrize(("kind", "number"), [(kind, k) for kind, bets in BETS.items() for k in range(len(bets))])
def test_a_bet_is_a_density_whatever_came_before(kind: str, number: int, before: float) -> None:
    one = BETS[kind][number]
    total = quad(lambda z: float(np.exp(one(np.array(z), np.array(before)) + norm.logpdf(z))), -40, 40, limit=400)[0]
    assert total == pytest.approx(1.0, abs=1e-7)


def test_what_bets_grow_to_is_one_on_average_after_each_reading() -> None:
    weights = WEIGHTS / WEIGHTS.sum()
    near = np.flatnonzero(weights > 1e-14)
    for first in (-1.0, 0.4, 2.0):  # what comes next leaves what there is as it is, on average
        now = np.exp(bet(np.array([first])).log_e[-1])
        after = sum(weights[k] * np.exp(bet(np.array([first, NODES[k]])).log_e[-1]) for k in near)
        assert after == pytest.approx(now, rel=1e-3)  # the tails beyond the nodes, of bets on a larger spread


def test_a_false_alarm_is_as_rare_as_promised_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    highest = np.array([bet(rng.standard_normal(200)).log_e.max() for _ in range(400)])
    for alpha in (0.2, 0.05):
        share = np.mean(highest >= -np.log(alpha))
        assert share <= alpha + 3.0 * np.sqrt(alpha * (1.0 - alpha) / 400)
    assert np.mean(highest >= np.log(2.0)) > 0.05  # and it is a bet


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("level", lambda z: z + 1.0),
        ("spread", lambda z: 1.8 * z),
        ("spread", lambda z: 0.5 * z),
        ("serial", lambda z: np.convolve(z, 0.8 ** np.arange(40))[: z.size] * 0.6),
    ],
)
def test_each_kind_of_change_raises_the_alarm_soon_and_its_time_is_found(kind: str, changed: object) -> None:
    z = np.random.default_rng(3).standard_normal(400)
    z[250:] = changed(z[250:])
    grown = bet(z)
    assert grown.log_e[:250].max() < np.log(20.0) <= grown.log_e[:340].max()
    assert max(grown.by_kind, key=lambda one: grown.by_kind[one][-1]) == kind
    most, first, last = began(z)
    assert first <= most <= last
    assert first - 5 <= 250 <= last + 5
    assert last - first < 80


def test_scores_have_the_digits_of_the_smaller_tail() -> None:
    z = np.array([-7.0, -1.0, 0.0, 2.0, 7.5])
    np.testing.assert_allclose(scores(norm.logcdf(z), norm.logsf(z)), z, rtol=1e-10, atol=1e-12)
    assert scores(np.array([-1e5, 0.0]), np.array([0.0, -1e5])).tolist() == [-FURTHEST, FURTHEST]


def test_too_few_readings_are_those_that_could_not_raise_an_alarm() -> None:
    for alpha, num in itertools.product((0.05, 0.001), (1, 4)):
        count = fewest(alpha, num)
        assert bet(np.full(count, 3.0)).log_e[-1] - np.log(num) >= -np.log(alpha)
        assert count == 1 or bet(np.full(count - 1, 3.0)).log_e[-1] - np.log(num) < -np.log(alpha)
    assert fewest(0.05) < fewest(0.001)
    assert bet(np.empty(0)).log_e.size == 0
    np.testing.assert_allclose(mean_of([np.log([1.0, 3.0]), np.log([3.0, 5.0])]), np.log([2.0, 4.0]))
