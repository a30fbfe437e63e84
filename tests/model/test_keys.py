"""Two twins share what was compiled only if they compute the same: keys see all that functions take from outside."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import decay, lynx_hare

import bayestwin as bt
from bayestwin._base.keys import key_of

SOURCE = """
import jax.numpy as jnp
{before}
def field(t, x, p, u):
    {inside}
    return {{"level": {value}}}
"""


def field(value: str = "-p.rate * x.level", before: str = "", inside: str = "pass", **given: Any) -> Callable:
    """A vector field of a module of its own."""
    module = types.ModuleType("some_twin")
    vars(module).update(given)
    exec(SOURCE.format(before=before, inside=inside, value=value), vars(module))
    return vars(module)["field"]


class Table:
    """Something of the user's own, which may change."""

    def __init__(self, gain: float) -> None:
        self.gain = gain


def closed_over(value: Any) -> Callable:
    return lambda t, x, p, u: {"level": -value * x.level}


def helper(gain: float) -> types.ModuleType:
    module = types.ModuleType("helper")
    exec(f"def rate():\n    return {gain}", vars(module))
    return module


DIFFERENT = {
    "an operation": (field(), field("-p.rate + x.level")),
    "a number": (field("-2.0 * x.level"), field("-2.5 * x.level")),
    "the sign of zero": (field("x.level / 0.0"), field("x.level / -0.0")),
    "a whole number": (field("x.level ** 2"), field("x.level ** 2.0")),
    "a global": (field("-gain * x.level", "gain = 2.0"), field("-gain * x.level", "gain = 3.0")),
    "a global array": (
        field("-gain[0] * x.level", gain=np.array([2.0, 1.0])),
        field("-gain[0] * x.level", gain=np.array([3.0, 1.0])),
    ),
    "a helper": (
        field("rate() * x.level", "def rate(): return 1.0"),
        field("rate() * x.level", "def rate(): return 2.0"),
    ),
    "a module of helpers": (field("h.rate() * x.level", h=helper(1.0)), field("h.rate() * x.level", h=helper(2.0))),
    "an attribute": (field("table.gain * x.level", table=Table(1.0)), field("table.gain * x.level", table=Table(2.0))),
    "a default": (
        field("rate() * x.level", "def rate(a=1.0): return a"),
        field("rate() * x.level", "def rate(a=2.0): return a"),
    ),
    "inside": (field(inside="f = lambda y: y + 1.0"), field(inside="f = lambda y: y + 2.0")),
    "a closure": (closed_over(1.0), closed_over(2.0)),
    "a closure over an array": (closed_over(jnp.ones(())), closed_over(2.0 * jnp.ones(()))),
    "a partial": (functools.partial(field(), 1.0), functools.partial(field(), 2.0)),
    "jitted": (jax.jit(closed_over(1.0)), jax.jit(closed_over(2.0))),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_computes_something_else_has_another_key(case: str) -> None:
    first, second = DIFFERENT[case]
    assert key_of(first) != key_of(second)


SAME = {
    "a function": field,
    "a global": lambda: field("-gain * x.level", "gain = 2.0"),
    "a helper": lambda: field("rate() * x.level", "def rate(): return 1.0"),
    "a module of helpers": lambda: field("h.rate() * x.level", h=helper(1.0)),
    "a closure over an array": lambda: closed_over(jnp.arange(3.0)),
    "jitted": lambda: jax.jit(closed_over(1.0)),
    "a whole twin": lynx_hare,
}


@pytest.mark.parametrize("case", SAME)
def test_what_is_made_again_has_the_same_key(case: str) -> None:
    first, second = SAME[case](), SAME[case]()
    assert first is not second
    assert key_of(first) == key_of(second)
    assert hash(key_of(first)) == hash(key_of(second))


def test_an_object_that_nothing_is_known_of_is_like_itself_alone() -> None:
    assert key_of(Table(1.0)) != key_of(Table(1.0))
    table = Table(1.0)
    before = key_of(table)
    assert before == key_of(table)
    table.gain = 2.0
    assert before != key_of(table)


CHANGES = {
    "a prior": {"parameters": {"rate": bt.Parameter(dist.LogNormal(0.0, 0.4))}},
    "a family": {"parameters": {"rate": bt.Parameter(dist.HalfNormal(1.0))}},
    "a known number": {"parameters": {"rate": bt.Parameter(0.5)}},
    "noise": {"observations": {"level": bt.Observation(bt.StudentT(dist.HalfNormal(0.1)))}},
    "a setting of the noise": {"observations": {"level": bt.Observation(bt.StudentT(dist.HalfNormal(0.1), df=5.0))}},
    "a positive state": {"states": {"level": bt.State(dist.LogNormal(1.0, 0.5), positive=True)}},
    "a model error": {"model_error": bt.ProcessNoise({"level": 0.1})},
}


def test_each_change_of_a_twin_has_a_key_of_its_own() -> None:
    twins = [decay(), *(decay(**change) for change in CHANGES.values())]
    assert len({key_of(twin) for twin in twins}) == len(twins)


def test_words_change_nothing() -> None:
    twin = decay()
    parameters = {name: dataclasses.replace(one, doc="said better") for name, one in twin.parameters.items()}
    assert key_of(dataclasses.replace(twin, doc="a tank", parameters=parameters)) == key_of(twin)
