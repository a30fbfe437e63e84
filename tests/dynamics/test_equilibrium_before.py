"""A start in equilibrium may be one under other circumstances, and some experiments may conserve what others do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.dynamics.equilibrium import find_equilibrium
from bayestwin.errors import InvalidTwin


def before(p):
    """What held until t0."""
    return {"forth": p.rest}


def exchange(under=before, rest: object = None, **starts: bt.State) -> bt.Twin:
    """A goes to B and back; at rest by another rate, of which each experiment has its own."""

    def vector_field(t, x, p, u):
        flow = p.forth * x.A - p.back * x.B
        return {"A": -flow, "B": flow}

    a = bt.State(bt.SteadyState(lambda p: p.total, under=under))
    b = bt.State(bt.SteadyState(0.5, under=under, then=lambda p, x: x.B + 0.25))
    return bt.Twin(
        "exchange",
        vector_field,
        states={"A": a, "B": b} | starts,
        parameters={
            "forth": bt.Parameter(0.8),
            "back": bt.Parameter(dist.LogNormal(0.0, 1.0)),
            "total": bt.Parameter(dist.LogNormal(0.0, 1.0)),
            "rest": bt.Parameter(rest or {"still": 0.3, "off": 0.0, "frozen": 0.1}),
            "on": bt.Parameter(1.0),
        },
        observations={"A": bt.Observation(bt.Gaussian(0.1)), "B": bt.Observation(bt.Gaussian(0.1))},
    )


def record(time: float) -> bt.Telemetry:
    return bt.read_telemetry(pd.DataFrame({"A": [1.0], "B": [1.0]}, index=pd.Index([time], name="time")), t0=0.0)


def test_the_start_is_the_equilibrium_until_then_and_what_is_set_anew() -> None:
    twin = exchange()
    density = build_density(twin, bind_all(twin, {name: record(0.0) for name in ("still", "off", "frozen")}))

    def starts(back: float, total: float) -> jax.Array:
        return density.predict({"back": back, "total": total}).states[:, 0]

    def by_hand(back: float, total: float) -> np.ndarray:
        rest, whole = np.array([0.3, 0.0, 0.1]), total + 0.5
        return np.stack([whole * back / (back + rest), whole * rest / (back + rest) + 0.25], axis=1)

    for back, total in ((0.6, 1.4), (3.0, 0.2)):
        np.testing.assert_allclose(jax.jit(starts)(back, total), by_hand(back, total), rtol=1e-9, atol=1e-12)
        step = 1e-6
        for place, slopes in enumerate(jax.jit(jax.jacfwd(starts, (0, 1)))(back, total)):
            moved = [by_hand(*(np.array([back, total]) + sign * step * np.eye(2)[place])) for sign in (1, -1)]
            np.testing.assert_allclose(slopes, (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_an_experiment_in_which_nothing_moves_keeps_everything() -> None:
    """Each state is a sum of its own that is conserved, where elsewhere their total alone is."""

    def nothing(p):
        return {"forth": p.rest, "on": p.rest}

    def vector_field(t, x, p, u):
        flow = p.on * (p.forth * x.A - p.back * x.B)
        return {"A": -flow, "B": flow}

    twin = exchange(under=nothing, rest={"moves": 0.4, "rests": 0.0})
    starts = {"A": bt.State(bt.SteadyState(1.5, under=nothing)), "B": bt.State(bt.SteadyState(0.5, under=nothing))}
    twin = bt.Twin("exchange", vector_field, starts, twin.parameters, twin.observations)
    density = build_density(twin, bind_all(twin, {name: record(0.0) for name in ("moves", "rests")}))
    predicted = jax.jit(lambda back: density.predict({"back": back, "total": 1.0}))(0.6)
    assert predicted.solved.all()
    np.testing.assert_allclose(predicted.states[:, 0], [[1.2, 0.8], [1.5, 0.5]], rtol=1e-9)


def test_one_past_for_all_states_and_names_that_there_are() -> None:
    with pytest.raises(InvalidTwin, match="under different circumstances"):
        exchange(B=bt.State(bt.SteadyState(0.5)))
    with pytest.raises(InvalidTwin, match="`under=` of state `A` does not return new values"):
        exchange(under=lambda p: {"forward": p.rest})
    with pytest.raises(InvalidTwin, match=r"(?s)`then=` of state `A`.*\(p, x\)"):
        exchange(A=bt.State(bt.SteadyState(1.0, under=before, then=lambda p: p.total)))


def binding(t, s, rates: np.ndarray) -> jax.Array:
    """A receptor binds a drug that is not there, whose complex is changed, and a partner that is there little."""
    receptor, drug, complex_, changed, partner, bound = s
    drugged = rates[0] * receptor * drug - rates[1] * complex_
    change = rates[2] * complex_ - rates[3] * changed
    joined = rates[4] * receptor * partner - rates[5] * bound
    return jnp.stack([-drugged - joined, -drugged, drugged - change, change, -joined, joined])


@pytest.mark.parametrize("little", [0.3, 1e-9])
def test_what_is_not_there_does_not_hide_an_equilibrium(little: float) -> None:
    """Where a state is nothing but rounding no step is small to it; what there is little of is right all the same."""

    @jax.jit
    def found(rates: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = jnp.asarray([0.5, 0.0, 0.0, 0.0, little, 0.0])
        slope = functools.partial(binding, rates=rates)
        return find_equilibrium(slope, start, np.arange(6), lambda values: values, None)

    for seed in range(30):
        rates = 10.0 ** np.random.default_rng(seed).uniform(-3.0, 4.0, 6)
        state, there = found(rates)
        ratio = rates[5] / rates[4]
        half = 0.5 + little + ratio
        bound = 2.0 * 0.5 * little / (half + np.sqrt(half**2 - 2.0 * little))
        assert there
        np.testing.assert_allclose(state[5], bound, rtol=1e-6)
        np.testing.assert_allclose(state[0] + state[5], 0.5, rtol=1e-9)
        np.testing.assert_allclose(state[1:4], 0.0, atol=1e-12)


@pytest.mark.parametrize("growth", [0.0, 0.1])
def test_what_nothing_depends_on_stays_unless_it_grows(growth: float) -> None:
    """A complex that never falls apart, of a drug that is not there, is at rest; with a source it never is."""

    def slope(t, s):
        receptor, drug, _ = s
        return jnp.stack([0.3 - 0.6 * receptor - receptor * drug, -2.0 * drug, receptor * drug**2 + growth])

    state, there = find_equilibrium(slope, jnp.asarray([2.0, 0.0, 0.7]), np.arange(3), lambda values: values, 0)
    assert bool(there) is (growth == 0.0)
    if there:
        np.testing.assert_allclose(state, [0.5, 0.0, 0.7], rtol=1e-12, atol=1e-15)
