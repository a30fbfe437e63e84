"""Long equations, whose formulas are computed form by form, give what they give when they are written out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin.dynamics import operations
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.switching import take_apart
from bayestwin.model.dependence import parameters

NUM = 6
PLACES = range(NUM)
NAMES = [f"x{n}" for n in range(NUM)]


def ring(t: Any, x: Any, p: Any, u: Any) -> dict:
    """Each species feeds the next two by one law, all of them one, which dies; whole numbers and a power among it."""
    flows = [p.k * x[n] * x[(n + 1) % NUM] / (p.half + x[n]) for n in PLACES]
    rates = [flows[n - 1] - flows[n] + 2 * flows[(n + 3) % NUM] - p.loss * x[n] ** 2 for n in PLACES]
    rates[0] = sum(flows) - jnp.sqrt(x[0]) + u.feed - x[0] ** p.order
    rates[-1] = 0
    return dict(zip(NAMES, rates, strict=True))


def gated(t: Any, x: Any, p: Any, u: Any) -> dict:
    """The same with a dose between two times, a valve of a state, and a whole number that a comparison chooses."""
    rates = ring(t, x, p, u)
    rates["x1"] = rates["x1"] + p.dose * jnp.where(t < p.begin, 0, 1) * jnp.where(t - 7.5 < 0, 1, 0)
    rates["x2"] = rates["x2"] - 3 * (x[2] > 1.0) * x[3] - p.loss * jnp.maximum(x[4] - 1.0, 0.0)
    return rates


def twin_of(field: Callable, events: dict | None = None, *, positive: bool = False) -> bt.Twin:
    names = ("k", "half", "loss", "order", "dose", "begin")
    return bt.Twin(
        name="ring",
        vector_field=field,
        states={name: bt.State(1.0, positive=positive and name != "x0") for name in NAMES},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in names},
        inputs={"feed": bt.Input(hold="linear")},
        observations={"x0": bt.Observation(bt.Gaussian(0.1))},
        events=events or {},
    )


@pytest.fixture(params=["plain", "positive", "gated", "switched"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Field, Field]:
    """A field that is computed form by form, and the same one as it is written."""
    events = {"change": bt.Event(lambda t, x, p, u: {"loss": 2.0 * p.loss}, at=(1.0,))}
    twin = {
        "plain": twin_of(ring),
        "positive": twin_of(ring, positive=True),
        "gated": twin_of(gated),
        "switched": twin_of(ring, events),
    }[request.param]
    values = {name: 0.3 + 0.2 * n for n, name in enumerate(twin.parameters)}
    written = Field(twin, parameters(twin, values))
    assert not written.long
    monkeypatch.setattr(operations, "LONG", 10)
    together = Field(twin, parameters(twin, values))
    assert together.long
    return together, written


def points(field: Field) -> list[tuple[jax.Array, jax.Array]]:
    rng = np.random.default_rng(0)
    num = len(field.logs)
    return [(jnp.asarray(t), jnp.asarray(rng.uniform(0.2, 2.0, num))) for t in (0.0, 3.0, 7.4, 7.6, 20.0)]


def feed(t: Any) -> jax.Array:
    return jnp.asarray([0.5 + 0.1 * t])


def looked_at(field: Field) -> Callable:
    """All that a solver asks of a field, as one program: rates, their derivatives, and rates and gaps when held."""

    @jax.jit
    def look(t: jax.Array, state: jax.Array) -> tuple:
        slope, num = field.slope(feed), field.equations.count
        held = [field.hold(feed, t, state, jnp.full(num, mode)) for mode in (0.0, 1.0)]
        return slope(t, state), jax.jacfwd(slope, 1)(t, state), jax.jacrev(slope, 1)(t, state), held

    return look


def test_rates_derivatives_and_gaps_are_the_same(both: tuple[Field, Field]) -> None:
    together, written = map(looked_at, both)
    for t, state in points(both[0]):
        found, expected = jax.tree.leaves(together(t, state)), jax.tree.leaves(written(t, state))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_formulas_of_one_form_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LONG", 10)
    alike = take_apart(twin_of(ring)).alike
    assert alike is not None
    shapes = [part.places.shape for stage in alike.stages for part in stage]
    assert (5, NUM) in shapes  # the flows: of a rate, two species, a half, and the first species again


def test_a_trajectory_is_the_same_however_its_field_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across switches and an event, with its derivative."""
    events = {"change": bt.Event(lambda t, x, p, u: {"loss": 2.0 * p.loss, "x3": x.x3 + 1.0}, at=(1.0,))}
    found = []
    for least in (10_000, 10):
        monkeypatch.setattr(operations, "LONG", least)
        twin = twin_of(gated, events)
        record = telemetry_of({"time": np.linspace(0.0, 12.0, 13), "feed": np.full(13, 0.1)})
        values = {"k": 0.3, "half": 0.5, "loss": 0.4, "order": 1.5, "dose": 0.7, "begin": 2.25}
        found.append(bt.simulate(twin, values, record, seed=0)["x3_state"].to_numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    assert np.ptp(found[0]) > 0.1


def test_equations_that_are_short_or_more_than_formulas_stay_as_they_are() -> None:
    def looks_up(t: Any, x: Any, p: Any, u: Any) -> dict:
        table = jnp.arange(3.0)
        return {name: -p.k * jnp.interp(x[n], table, table) * x[n] for n, name in enumerate(NAMES)}

    assert take_apart(twin_of(ring)).alike is None
    assert take_apart(twin_of(looks_up)).alike is None
