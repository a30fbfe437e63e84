"""Quantities that observations cannot tell apart are named, with the form in which they appear; others are not."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin._base.process import key_for
from bayestwin.density.density import Density
from bayestwin.insight import identify_verdict
from bayestwin.insight.information import information_of
from bayestwin.insight.ties import coordinates_of, find_ties, values_and_slopes, written

TIMES = np.linspace(0.0, 2.0, 12)


def ties_of(density: Density) -> dict[tuple[str, ...], tuple[str, int, tuple[str, ...]]]:
    """By members: form, number of null directions, and what is determined; at draws of the prior."""
    coordinates = coordinates_of(density, 0)
    z = density.draw_prior(jax.random.split(key_for(0, "points"), 8))[1]
    found = find_ties(information_of(density, 0)(z), *values_and_slopes(density, z), coordinates.spread)
    named = {}
    for tie in found:
        members = tuple(coordinates.names[n] for n in tie.members)
        named[members] = (tie.form, tie.num_null, tuple(written(c, members, tie.form) for c in tie.combinations))
    return named


def field(t, x, p, u):
    """Nine decays beside each other, each tied in another way; the last is observed through nothing."""
    return {
        "product": -x.product / (p.R * p.C),
        "power": -x.power * p.a**2 * p.b,
        "ratio": -x.ratio * p.c / p.d,
        "sum": -x.sum * (p.e + p.f),
        "difference": -x.difference * (p.g - 2.0 * p.h),
        "three": -x.three * p.i * p.j * p.k,
        "scaled": p.m * (p.n - p.o * x.scaled),
        "curved": -x.curved * (p.q * p.r + p.s),
        "hidden": -p.lone * x.hidden,
    }


POSITIVE = ["R", "C", "a", "b", "c", "d", "e", "f", "i", "j", "k", "m", "n", "o", "q", "r", "s", "lone", "unused"]
STATES = ["product", "power", "ratio", "sum", "difference", "three", "scaled", "curved"]


def tied() -> bt.Twin:
    """A twin with all the ties at once."""
    parameters = {name: bt.Parameter(dist.LogNormal(0.0, 0.4)) for name in POSITIVE}
    parameters |= {name: bt.Parameter(dist.Normal(1.0, 0.5)) for name in ("g", "h")}
    observed = {name: bt.Observation(bt.Gaussian(0.1)) for name in STATES}
    observed["gauge"] = bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: p.lone + 0.0 * x.hidden)
    states = {name: bt.State(5.0) for name in STATES} | {"hidden": bt.State(dist.Normal(1.0, 1.0))}
    return bt.Twin(name="tied", vector_field=field, states=states, parameters=parameters, observations=observed)


@pytest.mark.thorough
def test_each_form_is_found() -> None:
    columns = {name: np.ones(12) for name in [*STATES, "gauge"]}
    assert ties_of(bound_density(tied(), telemetry_of({"time": TIMES} | columns))) == {
        ("R", "C"): ("log", 1, ("R · C",)),
        ("a", "b"): ("log", 1, ("a² · b",)),
        ("c", "d"): ("log", 1, ("c / d",)),
        ("e", "f"): ("plain", 1, ("e + f",)),
        ("g", "h"): ("plain", 1, ("g − 2 h",)),
        ("i", "j", "k"): ("log", 2, ("i · j · k",)),
        ("m", "n", "o"): ("log", 1, ("m · o", "n / o")),
        ("q", "r", "s"): ("unknown", 2, ()),
        ("unused",): ("unused", 1, ()),
        ("hidden_initial",): ("unused", 1, ()),
    }


@pytest.mark.thorough
def test_a_gain_and_a_start_that_only_scale_counts_are_tied_though_noise_is_averaged_over_few_records() -> None:
    twin = bt.Twin(
        name="gauge",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.LogNormal(1.0, 0.3))},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 0.4)) for name in ("rate", "gain")},
        observations={"seen": bt.Observation(bt.Poisson(), of=lambda t, x, p, u: p.gain * x.level)},
    )
    density = bound_density(twin, telemetry_of({"time": TIMES, "seen": np.full(12, 3.0)}))
    assert ties_of(density) == {("gain", "level_initial"): ("log", 1, ("gain · level_initial",))}


@pytest.mark.thorough
def test_process_noise_does_not_hide_a_tie() -> None:
    twin = bt.Twin(
        name="noisy",
        vector_field=lambda t, x, p, u: {"level": -x.level / (p.R * p.C)},
        states={"level": bt.State(5.0)},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 0.4)) for name in ("R", "C")},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
        model_error=bt.ProcessNoise(scale={"level": dist.HalfNormal(0.5)}),
    )
    density = bound_density(twin, telemetry_of({"time": TIMES, "level": 5.0 * np.exp(-TIMES)}))
    assert ties_of(density) == {("R", "C"): ("log", 1, ("R · C",))}


def test_what_is_only_weakly_told_is_no_tie() -> None:
    points = np.random.default_rng(0).uniform(1.0, 2.0, (8, 3))
    unit = np.ones_like(points)
    # columns depend on each other: nearly, with little told; all but exactly, with much told; exactly
    for size, share, tied in ((1.0, 1e-3, False), (1e6, 1e-5, False), (300.0, 0.0, True)):
        sensitivities = size * np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, share]])
        information = np.tile(sensitivities.T @ sensitivities, (8, 1, 1))
        assert bool(find_ties(information, points, unit, np.ones(3))) == tied
    weak = np.tile(np.diag([1e6, 1.0, 1e-4]), (8, 1, 1))
    assert find_ties(weak, points, unit, np.ones(3)) == ()


def members(field: object, **parameters: bt.Parameter) -> list[str]:
    """What `identify` fails of three assets with 8 samples each."""
    twin = bt.Twin(
        name="pooled",
        vector_field=field,
        states={"level": bt.State(5.0)},
        parameters=parameters,
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    records = {
        name: telemetry_of({"time": TIMES[::2], "level": 5.0 * np.exp(-rate * TIMES[::2])})
        for name, rate in {"a": 0.8, "b": 1.0, "c": 1.3}.items()
    }
    found = bt.identify(twin, records, seed=0)
    return [gate.sentence for gate in identify_verdict.verdict(found) if not gate.passed and gate.severity == "fail"]


POOLED = bt.Parameter(dist.LogNormal(0.0, 0.5), pooled=dist.HalfNormal(0.5))


@pytest.mark.thorough
def test_what_a_population_says_of_its_members_ties_them_to_nothing() -> None:
    assert members(lambda t, x, p, u: {"level": -p.rate * x.level}, rate=POOLED) == []


@pytest.mark.thorough
def test_a_pooled_quantity_that_only_a_product_shows_is_tied() -> None:
    free = bt.Parameter(dist.LogNormal(0.0, 0.5))
    (sentence,) = members(lambda t, x, p, u: {"level": -p.rate * p.size * x.level}, rate=POOLED, size=free)
    assert "`size`" in sentence
    assert "`rate_typical`" in sentence
