"""What is wrong in a twin's quantities is said when the twin is built, and they change no fingerprint and no key."""

import dataclasses

import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import bayestwin as bt
from bayestwin._base.keys import key_of
from bayestwin.model.describe import fingerprint
from bayestwin.model.quantities import level_of
from bayestwin.model.tracing import namespace

ROOM = bt.Twin(
    name="room",
    vector_field=lambda t, x, p, u: {"indoor": (u.outdoor - x.indoor) / p.tau + u.heating / 1e6},
    states={"indoor": bt.State(dist.Normal(20.0, 1.0), unit="degC")},
    parameters={"tau": bt.Parameter(dist.LogNormal(10.0, 1.0), unit="s")},
    inputs={"outdoor": bt.Input(unit="degC"), "heating": bt.Input(unit="W", hold="previous")},
    observations={"indoor": bt.Observation(noise=bt.Gaussian(0.1), unit="degC")},
)


def with_quantity(quantity: object, name: str = "energy") -> bt.Twin:
    return dataclasses.replace(ROOM, quantities={name: quantity})


@pytest.mark.parametrize(
    ("quantity", "words"),
    [
        (bt.Integral(of="heating", unit="K"), r"unit of quantity `energy` contradicts .*\n.*`\(W\)\*\(s\)`"),
        (bt.Integral(of=lambda t, x, p, u: u.heating, unit="kWh"), "of_unit='W'"),
        (bt.Integral(of=lambda t, x, p, u: u.heating, of_unit="kW", unit="kWh"), "contradicts"),
        (bt.Integral(of="indoor", unit="K*s"), "zero is not the zero of the scale"),
        (bt.Max(of="indoor", unit="W"), "a unit that `degC` converts to"),
        (bt.Max(of=lambda t, x, p, u: x.indoor, unit="K"), "of_unit='degC'"),
        (bt.TimeWhere(lambda t, x, p, u: x.indoor < 16.0, unit="W"), "a unit that `s` converts to"),
        (bt.Integral(of="heat"), "one of `indoor`, `outdoor`, `heating`"),
        (bt.Mean(of=lambda t, x, p, u: x.outdoor), "asks for `outdoor`"),
        (bt.FirstTime("indoor"), r"a function `\(t, x, p, u\)`"),
        (bt.TimeWhere(lambda t, x, p, u: jnp.isfinite(x.indoor)), "not made of comparisons"),
        (bt.Max(of="indoor", unit="Kelwin"), "does not parse"),
        ("heating", "holds something else"),
    ],
)
def test_a_quantity_that_does_not_fit_is_refused(quantity: object, words: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=words):
        with_quantity(quantity)


@pytest.mark.parametrize("name", ["indoor", "heating", "tau", "indoor_state", "time"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=f"The name `{name}` stands for two things"):
        with_quantity(bt.Max(of="indoor", unit="degC"), name)


def test_conditions_are_joined_as_they_are_written() -> None:
    cold = with_quantity(bt.TimeWhere(lambda t, x, p, u: ~(x.indoor > 16.0) | (u.heating <= 0.0)), "cold")
    x, u = namespace("states", ("indoor",)), namespace("inputs", ("outdoor", "heating"))
    level = level_of(cold, cold.quantities["cold"])
    assert level(0.0, x(15.0), None, u(0.0, 500.0)) == 1.0
    assert level(0.0, x(17.5), None, u(0.0, 500.0)) == -1.5
    assert level(0.0, x(17.5), None, u(0.0, -2.0)) == 2.0


def test_a_quantity_changes_neither_fingerprint_nor_what_is_compiled() -> None:
    asked = with_quantity(bt.Integral(of="heating", unit="kWh"))
    assert fingerprint(asked) == fingerprint(ROOM)
    assert key_of(asked) == key_of(ROOM)
