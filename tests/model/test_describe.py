"""A twin's fingerprint changes with everything that changes its posterior, and with nothing else."""

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import NOISES, counted, decay, driven, lynx_hare

import bayestwin as bt
from bayestwin.model.describe import describe, fingerprint, noise_text, prior_text, what_differs

SCALE = 1.0
TABLE = np.array([1.0, 2.0])


def helper(level: object) -> object:
    return SCALE * level


def by_helper(t, x, p, u):
    return {"level": -p.rate * helper(x.level) + TABLE.sum() + jnp.zeros(())}


def doubled(t, x, p, u, factor=2.0):
    return {"level": -factor * p.rate * x.level}


def closed_over(number: float) -> Callable:
    return lambda t, x, p, u: {"level": -number * p.rate * x.level}


CHANGES = {
    "prior": {"parameters": {"rate": bt.Parameter(dist.LogNormal(0.0, 0.5000000001), unit="1/h")}},
    "initial": {"states": {"level": bt.State(dist.Normal(5.0, 1.1), unit="m")}},
    "unit": {"states": {"level": bt.State(dist.Normal(5.0, 1.0), unit="cm")}},
    "noise": {"observations": {"level": bt.Observation(bt.StudentT(dist.HalfNormal(0.5)), unit="m")}},
    "noise parameter": {"observations": {"level": bt.Observation(bt.Gaussian(0.5), unit="m")}},
    "of": {
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), lambda t, x, p, u: 1.0 * x.level)}
    },
    "time unit": {"time_unit": "s"},
    "method": {"solver": bt.Solver("rodas5p")},
    "tolerance": {"solver": bt.Solver(rtol=1e-7)},
    "steps": {"solver": bt.Solver(max_steps=999)},
    "equations": {"vector_field": lambda t, x, p, u: {"level": -p.rate * x.level * 1.0}},
}


def test_each_change_of_the_twin_changes_it() -> None:
    found = [fingerprint(decay(**change)) for change in CHANGES.values()]
    assert len({fingerprint(decay()), *found}) == len(CHANGES) + 1
    assert fingerprint(decay()) == fingerprint(decay())


SAID = {
    "prior": [],  # six digits of it are told
    "initial": ["state `level`"],
    "unit": ["state `level`"],
    "noise": ["observation `level`"],
    "noise parameter": ["observation `level`"],
    "of": ["observation `level`"],
    "time unit": ["the unit of time"],
    "method": ["the solver"],
    "tolerance": ["the solver"],
    "steps": [],
    "equations": ["the vector field"],
}


def test_what_differs_between_two_twins_is_named() -> None:
    for kind, change in CHANGES.items():
        assert what_differs(describe(decay(**change)), describe(decay())) == SAID[kind], kind
    more = decay(parameters=decay().parameters | {"extra": bt.Parameter(1.0)})
    assert what_differs(describe(more), describe(decay())) == ["parameter `extra`"]
    assert what_differs(describe(decay()), describe(more)) == ["parameter `extra`"]
    assert what_differs(describe(decay(doc="Another word.")), describe(decay())) == []


@pytest.mark.parametrize("setting", [{"hold": "previous"}, {"beyond": "hold"}, {"unit": "m"}])
def test_how_an_input_is_held_changes_it(setting: dict) -> None:
    inputs = driven().inputs | {"sloped": bt.Input(**setting)}
    assert fingerprint(driven()) != fingerprint(driven(inputs=inputs))


def test_words_do_not_change_it() -> None:
    told = decay(
        states={"level": bt.State(dist.Normal(5.0, 1.0), unit="m", doc="how high the water stands")},
        doc="Another word for the same tank.",
    )
    assert fingerprint(told) == fingerprint(decay())


def changes(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> bool:
    before = fingerprint(decay(vector_field=by_helper))
    monkeypatch.setitem(globals(), name, value)
    return fingerprint(decay(vector_field=by_helper)) != before


def test_what_the_vector_field_takes_from_its_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changes(monkeypatch, "TABLE", np.array([1.0, 2.5]))
    # used by the helper alone
    assert changes(monkeypatch, "SCALE", 1.5)
    assert changes(monkeypatch, "helper", lambda level: level**2)
    assert not changes(monkeypatch, "unrelated", 3.0)


def test_what_the_vector_field_is_bound_to_counts() -> None:
    assert fingerprint(decay(vector_field=closed_over(1.0))) != fingerprint(decay(vector_field=closed_over(2.0)))
    partial = [functools.partial(doubled, factor=factor) for factor in (1.0, 2.0)]
    assert len({fingerprint(decay(vector_field=field)) for field in partial}) == 2


@pytest.mark.thorough
def test_it_is_the_same_in_another_process() -> None:
    program = "import sys; sys.path[:0] = ['tests', 'tests/model']; from twins import *; import test_describe as here\n"
    program += "print(here.fingerprint(lynx_hare()), here.fingerprint(decay(vector_field=here.by_helper)))"
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.split() == [fingerprint(lynx_hare()), fingerprint(decay(vector_field=by_helper))]


def test_words_about_a_twin_are_not_its_equations() -> None:
    plain, told = decay(), dataclasses.replace(decay(), doc="Another tank.")
    assert describe(told)["doc"] == "Another tank."
    assert describe(plain)["doc"] == "Exponential decay."
    assert describe(plain)["equations"].startswith("def decay_field(t, x, p, u):")


@pytest.mark.parametrize(
    ("prior", "text"),
    [
        (dist.Normal(1.0, 0.5), "Normal(1, 0.5)"),
        (dist.TruncatedNormal(1.0, 0.5, low=0.0), "Normal(1, 0.5) truncated to > 0"),
        (dist.TruncatedNormal(1.0, 0.5, high=2.0), "Normal(1, 0.5) truncated to < 2"),
        (dist.TruncatedNormal(1.0, 0.5, low=0.0, high=2.0), "Normal(1, 0.5) truncated to (0, 2)"),
        (dist.Uniform(0.0, 3.0), "Uniform(0, 3)"),
        (dist.Beta(2.0, 3.0), "Beta(2, 3)"),
        (
            dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.AffineTransform(1.0, 2.0)),
            "TransformedDistribution(Normal(0, 1), AffineTransform(loc=1, scale=2))",
        ),
        (26.7, "26.7 (known)"),
    ],
)
def test_priors_in_words(prior: object, text: str) -> None:
    assert prior_text(prior) == text


def test_noise_in_words() -> None:
    assert noise_text(bt.StudentT(dist.HalfNormal(0.5))) == "StudentT(scale ~ HalfNormal(0.5), df = 4)"
    assert noise_text(bt.Poisson()) == "Poisson()"
    words = describe(counted(NOISES["lognormal"]))["observations"][0]
    assert words["noise"] == "LogNormal(scale ~ LogNormal(-1, 0.5))"
    assert "5.0 + x.level**2" in words["of"]
