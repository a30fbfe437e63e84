"""Of several events that the state triggers each happens when it is due, whatever else there is, and in its turn."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.survey import evaluate
from bayestwin.dynamics.choice import with_method
from bayestwin.dynamics.solve import solve

EMPTY = bt.Event(lambda t, x, p, u: {"level": 0.0}, when=lambda t, x, p, u: x.level - 2.0)
NEVER = bt.Event(lambda t, x, p, u: {"level": 50.0}, when=lambda t, x, p, u: x.level - 40.0)
FLOODED = bt.Event(lambda t, x, p, u: {"level": 1.0}, when=lambda t, x, p, u: p.inflow - 90.0 + 0.0 * x.level)
TIMES = np.arange(0.25, 30.0, 0.25)
LOSS = 0.3


def siphon(**events: bt.Event) -> Density:
    """A tank that fills, leaks, and empties itself at a level of 2."""
    twin = bt.Twin(
        name="siphon",
        vector_field=lambda t, x, p, u: {"level": p.inflow - LOSS * x.level},
        states={"level": bt.State(0.0)},
        parameters={"inflow": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        events=events,
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    telemetry = bt.read_telemetry(pd.DataFrame({"time": TIMES, "level": 1.0}), t0=0.0)
    return build_density(with_method(twin, "tsit5"), bind(twin, telemetry))


def closed(inflow: np.ndarray) -> np.ndarray:
    """Log densities in closed form; shape (n,)."""
    period = -np.log(1.0 - 2.0 * LOSS / inflow) / LOSS
    level = inflow[:, None] / LOSS * (1.0 - np.exp(-LOSS * np.mod(TIMES, period[:, None])))
    likelihood = np.sum(-0.5 * ((level - 1.0) / 0.1) ** 2 - np.log(0.1 * np.sqrt(2.0 * np.pi)), axis=1)
    return likelihood - 0.5 * np.log(inflow) ** 2 - 0.5 * np.log(2.0 * np.pi)


LISTS = {
    "alone": {"empty": EMPTY},
    "after another": {"never": NEVER, "empty": EMPTY},
    "before another": {"empty": EMPTY, "never": NEVER},
    "between others": {"never": NEVER, "empty": EMPTY, "flooded": FLOODED},
}


@pytest.mark.parametrize("case", LISTS)
def test_an_event_happens_whatever_is_listed_beside_it(case: str) -> None:
    inflow = 1.0 + 0.2 * np.random.default_rng(1).uniform(-1.0, 1.0, 256)
    period = -np.log(1.0 - 2.0 * LOSS / inflow) / LOSS
    # where an observation falls on the very moment, before or after is anybody's guess
    apart = np.abs(np.mod(TIMES / period[:, None] + 0.5, 1.0) - 0.5).min(axis=1) > 1e-5
    found = evaluate(siphon(**LISTS[case]), np.log(inflow)[:, None])
    assert apart.sum() > 200
    np.testing.assert_allclose(found[apart], closed(inflow)[apart], atol=0.2)


def counting(**events: bt.Event) -> bt.Twin:
    """Two tanks of which the first fills at a rate, and a counter; nothing is observed in between."""
    return bt.Twin(
        name="tanks",
        vector_field=lambda t, x, p, u: {"first": p.inflow, "second": 0.0 * x.second, "count": 0.0 * x.count},
        states={name: bt.State(0.0) for name in ("first", "second", "count")},
        parameters={"inflow": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        events=events,
        observations={name: bt.Observation(bt.Gaussian(0.1)) for name in ("first", "second", "count")},
        solver=bt.Solver("tsit5"),
    )


def ends(twin: bt.Twin, end: float, inflow: float = 1.0) -> dict[str, float]:
    """Its states at one time, with no stop before."""
    table = pd.DataFrame({"time": [end], **{name: [0.0] for name in twin.states}})
    density = build_density(twin, bind(twin, bt.read_telemetry(table, t0=0.0)))
    found = jax.jit(lambda inflow: solve(twin, density.grid, {"inflow": inflow}))(jnp.asarray(inflow))
    assert found.solved
    return dict(zip(twin.states, np.asarray(found.states[-1]), strict=True))


def full(limit: float) -> dict:
    return {"when": lambda t, x, p, u: x.first - limit}


def test_events_at_one_moment_happen_one_after_the_other() -> None:
    twin = counting(
        note=bt.Event(lambda t, x, p, u: {"count": x.count + 1.0, "second": x.first}, **full(1.0)),
        empty=bt.Event(lambda t, x, p, u: {"first": 0.0}, **full(1.0)),
    )
    # at 1, 2 and 3 it is noted how much there is, and then let out
    assert ends(twin, 3.5) == pytest.approx({"first": 0.5, "second": 1.0, "count": 3.0}, abs=1e-6)


def test_what_an_event_brings_about_happens_at_the_same_moment() -> None:
    pour = bt.Event(lambda t, x, p, u: {"first": 0.0, "second": x.second + x.first}, **full(1.0))
    spill = bt.Event(lambda t, x, p, u: {"second": 0.0, "count": x.count + 1.0}, when=lambda t, x, p, u: x.second - 1.5)
    for events in ({"pour": pour, "spill": spill}, {"spill": spill, "pour": pour}):
        # poured at 1, …, 5; the second tank holds 2 at each second one, and spills
        assert ends(counting(**events), 5.25) == pytest.approx({"first": 0.25, "second": 1.0, "count": 2.0}, abs=1e-6)


def test_two_thresholds_of_a_thermostat_are_both_kept() -> None:
    """Heated below 19 until 21, as a parameter that events switch; the time in each state is known in closed form."""
    twin = bt.Twin(
        name="thermostat",
        vector_field=lambda t, x, p, u: {"warmth": -0.1 * (x.warmth - 10.0) + 2.0 * p.heating},
        states={"warmth": bt.State(20.0)},
        parameters={"heating": bt.Parameter(1.0), "scale": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        events={
            "on": bt.Event(lambda t, x, p, u: {"heating": 1.0}, when=lambda t, x, p, u: 19.0 - x.warmth),
            "off": bt.Event(lambda t, x, p, u: {"heating": 0.0}, when=lambda t, x, p, u: x.warmth - 21.0),
        },
        observations={"warmth": bt.Observation(bt.Gaussian("scale"))},
        solver=bt.Solver("tsit5", rtol=1e-9, atol=1e-9),
    )
    warming, cooling = np.log(11.0 / 9.0) / 0.1, np.log(11.0 / 9.0) / 0.1
    first = np.log(10.0 / 9.0) / 0.1  # from 20 to 21, towards 30
    times = np.sort(np.random.default_rng(0).uniform(0.0, 60.0, 40))
    table = pd.DataFrame({"time": times, "warmth": 20.0})
    density = build_density(twin, bind(twin, bt.read_telemetry(table, t0=0.0)))
    found = solve(twin, density.grid, {"scale": 1.0})
    since = np.mod(times - first, warming + cooling)
    cooled, warmed = 10.0 + 11.0 * np.exp(-0.1 * since), 30.0 - 11.0 * np.exp(-0.1 * (since - cooling))
    before = 30.0 - 10.0 * np.exp(-0.1 * times)
    expected = np.where(times < first, before, np.where(since < cooling, cooled, warmed))
    np.testing.assert_allclose(found.states[:, 0], expected, atol=1e-5)
