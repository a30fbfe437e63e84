"""Adaptive ends miss no more than they say in the long run, whoever chooses the scores, and no path has two votes."""

import numpy as np
import pytest

from bayestwin.assess import conformalize, coverage
from bayestwin.assess.conformal import adaptive, make_ends, split, step_sizes

BOUND = 5.0
RATE = 0.2


def played(tails, choose, rounds, seed=0):
    """Scores that `choose` picks round after round, knowing the ends (lower, upper) that were made for them."""
    rng = np.random.default_rng(seed)
    rule, scores, ends = adaptive(tails, RATE), np.empty(0), np.empty((2, tails.size, 0))
    for _ in range(rounds):
        now = np.array(rule(scores, ends[0], ends[1], np.ones(scores.size)))
        scores = np.append(scores, np.clip(choose(rng, now), -BOUND, BOUND))
        ends = np.concatenate([ends, now[..., None]], axis=-1)
    return scores, ends


def beyond(rng, ends):
    """Just beyond the widest end above wherever that can be, after a start that is known."""
    top = ends[1, -1]
    return rng.normal() if np.isnan(top) or rng.random() < 0.3 else top + 1e-6


def swinging(rng, ends):
    """Beyond one end or the other, whichever is nearer."""
    low, top = ends[0, -1], ends[1, -1]
    if np.isnan(top):
        return rng.normal()
    return top + 1e-6 if top < -low else low - 1e-6


@pytest.mark.parametrize("choose", [beyond, swinging])
def test_an_adversary_gains_no_more_than_the_bound(choose):
    tails, rounds = np.array([0.25, 0.05]), 500
    scores, ends = played(tails, choose, rounds)
    for place, tail in enumerate(tails):
        for sign, made in ((1.0, ends[1, place]), (-1.0, -ends[0, place])):
            own = sign * scores
            judged = ~np.isnan(made)
            steps = step_sizes(own, tail, RATE)[judged]
            excess = np.sum(steps * ((own > made)[judged] - tail))
            assert excess <= 2 * BOUND + steps.max() + 1e-9
    # each is beyond an end wherever it can be: without the sum all of them would be
    assert np.mean((scores < ends[0, -1]) | (scores > ends[1, -1])) < 0.5


def test_the_longer_it_lasts_the_less_the_bound_leaves():
    tails = np.array([0.05])
    scores, ends = played(tails, beyond, 1000)
    judged = ~np.isnan(ends[1, 0])
    missed = (scores > ends[1, 0])[judged]
    steps = step_sizes(scores, 0.05, RATE)[judged]
    shares = [np.sum((steps * missed)[:until]) / np.sum(steps[:until]) for until in (50, 200, 950)]
    room = [(2 * BOUND + steps.max()) / np.sum(steps[:until]) for until in (50, 200, 950)]
    assert room[2] < room[1] / 3
    assert all(share <= 0.05 + extra for share, extra in zip(shares, room, strict=True))
    assert shares[2] < 0.05 + 0.05


def test_a_path_that_misses_moves_ends_as_one_error_does():
    tails, scores = np.array([0.1]), np.random.default_rng(1).normal(size=240)
    scores[-12:] = 9.0  # all of the last path
    origin = np.repeat(np.arange(20.0), 12)
    when = origin + np.tile(np.arange(1, 13) / 12, 20)
    rule = adaptive(tails, RATE)
    made = make_ends(scores, np.zeros(240, dtype=int), origin, when, groups=1, levels=1, rule=rule)
    after, before = made.last[1][0, 0], made.upper[0, -1]
    quantiles = [np.sort(part[-100:])[90] for part in (scores, scores[:-12])]  # the 91st of 100
    votes = step_sizes(scores, 0.1, RATE)[-12:]
    assert after - before == pytest.approx(quantiles[0] - quantiles[1] + 0.9 * votes.mean(), rel=1e-9)


def drifting(rng, origins, horizons):
    """Errors that persist along each path, and grow fivefold from the first origin to the last."""
    noise, found = rng.normal(size=(origins, horizons)), np.empty((origins, horizons))
    found[:, 0] = noise[:, 0]
    for step in range(1, horizons):
        found[:, step] = 0.8 * found[:, step - 1] + 0.6 * noise[:, step]
    return found * np.linspace(0.5, 2.5, origins)[:, None]


def test_paths_with_growing_errors_are_covered_where_split_ends_lag():
    """Mean over repeated records: the miss of one alone is chance."""
    rng, tails = np.random.default_rng(2), np.array([0.1, 0.05])
    origins, horizons, repeats = 60, 6, 12
    origin = np.repeat(np.arange(float(origins)), horizons)
    when = origin + np.tile(np.arange(1, horizons + 1) / horizons, origins)
    found = []
    for _ in range(repeats):
        scores = drifting(rng, origins, horizons).ravel()
        for rule in (split(tails), adaptive(tails, RATE)):
            made = make_ends(scores, np.zeros(scores.size, int), origin, when, groups=1, levels=2, rule=rule)
            judged = ~np.isnan(made.upper[-1])
            found.append(np.mean((made.lower <= scores) & (scores <= made.upper), axis=-1, where=judged))
    missing = (1 - 2 * tails) - np.reshape(found, (repeats, 2, 2))
    error = np.std(missing, axis=0, ddof=1) / np.sqrt(repeats)
    lags, follows = np.mean(missing, axis=0)
    assert (lags > 0.1).all(), lags
    # it reacts after the fact, so while errors grow a little is missing
    assert (follows + 3 * error[1] < lags / 2).all(), (lags, follows)


def test_in_a_backtest_the_bands_agree(make_backtest):
    rng = np.random.default_rng(3)
    observed = drifting(rng, 120, 4)
    tree = make_backtest(rng.normal(size=(300, 120, 4)), observed, ahead=np.arange(1.0, 5.0) / 4)
    split, tracked = (coverage(conformalize(tree, (0.8, 0.9), method=one)) for one in ("split", "adaptive"))
    assert tracked["within_dependent_band"].sel(kind="conformal").all()
    assert not split["within_dependent_band"].sel(kind="conformal").any()
