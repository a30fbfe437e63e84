"""Of 200 random twins whose truth is known, none is told a wrong number in silence beyond what chance allows."""

import functools
import importlib
import pathlib
import sys
from types import ModuleType
from typing import Any

import pytest
import scipy.stats

BENCHMARKS = str(pathlib.Path(__file__).parents[1] / "benchmarks")

pytestmark = pytest.mark.slow


@functools.cache
def honesty() -> ModuleType:
    sys.path.insert(0, BENCHMARKS)
    try:
        return importlib.import_module("honesty")
    finally:
        sys.path.remove(BENCHMARKS)


@functools.cache
def outcomes() -> list[Any]:
    found = honesty().sweep(200, list(honesty().KINDS), shown=lambda _: None)
    return [outcome for some in found.values() for outcome in some]


def test_every_one_is_simulated_as_scipy_does() -> None:
    assert [one for one in outcomes() if not one.error <= honesty().EXACT] == []


@pytest.mark.parametrize("prob", [0.5, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(prob: float) -> None:
    ranks = honesty().one_site(outcomes())
    low, high = honesty().band(len(ranks), prob)
    assert len(ranks) == 200
    assert low <= honesty().inside(ranks, prob) <= high


def test_no_more_lie_far_outside_in_silence_than_chance_allows() -> None:
    judged = sum(len(one.ranks) for one in outcomes() if not one.gates)
    assert judged > 400
    assert honesty().silent(outcomes()) <= scipy.stats.binom.ppf(0.999, judged, 1.0 - honesty().CERTAIN)
