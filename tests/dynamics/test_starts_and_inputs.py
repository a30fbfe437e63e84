"""Initial states in equilibrium or from parameters, and inputs that are smooth or repeat themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.dynamics.equilibrium import count_sums
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.signals import SampledSignal, extended
from bayestwin.dynamics.solve import begin, solve
from bayestwin.dynamics.steppers import Precision

TIMES = np.linspace(0.0, 6.0, 13)

NOTHING = np.empty((1, 0))
GRID = Grid(TIMES[:2], np.empty((1, 1, 0)), np.array([1]), NOTHING, NOTHING, Precision(1e-6, 1e-8, 1000))
"""Of a twin without inputs and events."""


def twin_of(vector_field, states: dict, **settings) -> bt.Twin:
    return bt.Twin(
        name="plant",
        vector_field=vector_field,
        states=states,
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0)), "feed": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={name: bt.Observation(noise=bt.Gaussian(scale=0.1)) for name in states},
        solver=bt.Solver(rtol=1e-10, atol=1e-12),
        **settings,
    )


def states_of(twin: bt.Twin, **columns):
    """Its states as a function of both parameters."""
    table = pd.DataFrame({name: 0.0 for name in twin.observations} | columns, index=TIMES)
    grid = build_density(twin, bind(twin, bt.read_telemetry(table, t0=0.0))).grid

    def states(values: jax.Array) -> jax.Array:
        found = solve(twin, grid, {"rate": values[0], "feed": values[1]})
        return jnp.where(found.solved, found.states, jnp.nan)

    return states


VALUES = jnp.array([0.5, 2.0])


@pytest.mark.thorough
@pytest.mark.parametrize("positive", [False, True])
def test_an_equilibrium_stays_and_moves_with_the_parameters(positive: bool) -> None:
    """`feed = rate · level²` holds where `level = √(feed / rate)`."""
    level = bt.State(bt.SteadyState(guess=1.0), positive=positive)
    twin = twin_of(lambda t, x, p, u: {"level": p.feed - p.rate * x.level**2}, {"level": level})
    states = states_of(twin)
    assert np.allclose(states(VALUES)[:, 0], 2.0, rtol=1e-9)
    exact = [-0.5 * 2.0 / 0.5, 0.5 * 2.0 / 2.0]
    assert np.allclose(jax.jacfwd(states)(VALUES)[:, 0], np.tile(exact, (len(TIMES), 1)), rtol=1e-8)


@pytest.mark.thorough
def test_an_equilibrium_of_fast_dynamics_is_not_left_by_the_first_step() -> None:
    """Window, queue and its average in a router: stable, and fast beside the unit of time."""

    def router(t, x, p, u):
        trip = 0.1 + x.queue / 4000.0
        drop = 1e-3 * x.average
        return {
            "window": (1.0 - 0.5 * drop * x.window**2) / trip,
            "queue": 50.0 * x.window / trip - 4000.0,
            "average": 100.0 * (x.queue - x.average),
        }

    guesses = {"window": 10.0, "queue": 100.0, "average": 100.0}
    twin = twin_of(router, {n: bt.State(bt.SteadyState(guess), positive=True) for n, guess in guesses.items()})
    window, queue, average = states_of(twin)(VALUES)[-1]
    assert np.isclose(queue, average, rtol=1e-6)
    assert np.isclose(window, 80.0 * (0.1 + queue / 4000.0), rtol=1e-6)
    assert np.isclose(window**2 * queue, 2000.0, rtol=1e-6)


def test_only_the_states_that_are_steady_are_solved_for() -> None:
    """`level` begins where it balances a reserve that is not itself in equilibrium."""
    states = {"level": bt.State(bt.SteadyState()), "reserve": bt.State(3.0)}
    twin = twin_of(lambda t, x, p, u: {"level": x.reserve - p.rate * x.level, "reserve": -p.feed * x.reserve}, states)
    assert np.allclose(states_of(twin)(VALUES)[0], [6.0, 3.0], rtol=1e-10)


def test_where_there_is_no_equilibrium_the_solve_fails() -> None:
    twin = twin_of(lambda t, x, p, u: {"level": 1.0 + x.level**2}, {"level": bt.State(bt.SteadyState())})
    assert np.isnan(states_of(twin)(VALUES)).all()


def turning(t, x, p, u):
    """A and B turn into each other."""
    rate = p.rate * x.a - p.feed * x.b
    return {"a": -rate, "b": rate}


def binding(t, x, p, u):
    """A and B bind, and what they become falls apart: A and B are each conserved, free and bound."""
    rate = p.rate * x.a * x.b - p.feed * x.ab
    return {"a": -rate, "b": -rate, "ab": rate}


def vessels(t, x, p, u):
    """Contents of two vessels, the second one as large as `feed`, even out: what is conserved depends on that."""
    flow = p.rate * (x.a - x.b)
    return {"a": -flow, "b": flow / p.feed}


def bound(rate, feed):
    """Of 4 and 5 in all: (4 − ab)(5 − ab) rate = feed ab."""
    half = (9.0 + feed / rate) / 2.0
    ab = half - jnp.sqrt(half**2 - 20.0)
    return jnp.stack([4.0 - ab, 5.0 - ab, ab])


CLOSED = {
    "vessels": (
        vessels,
        {"a": lambda p: 4.0 * p.rate, "b": 1.0},
        lambda rate, feed: (4.0 * rate + feed) / (1.0 + feed) * jnp.ones(2),
    ),
    "binding": (binding, {"a": 3.0, "b": 4.0, "ab": lambda p: 1.0 + 0.0 * p.rate}, bound),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", ["vessels", pytest.param("binding", marks=pytest.mark.slow)])
def test_a_sum_that_is_conserved_is_that_of_the_guesses(case: str) -> None:
    field, guesses, expected = CLOSED[case]
    twin = twin_of(field, {name: bt.State(bt.SteadyState(guess)) for name, guess in guesses.items()})

    def start(values: jax.Array) -> tuple:
        _, state, found = begin(twin, GRID, {"rate": values[0], "feed": values[1]})
        return state, (state, found)

    @jax.jit
    @jax.vmap
    def both(values: jax.Array) -> tuple:
        def closed(values: jax.Array) -> jax.Array:
            return expected(*values)

        return jax.jacfwd(start, has_aux=True)(values), closed(values), jax.jacfwd(closed)(values)

    (slopes, (states, found)), exact, exact_slopes = both(np.exp(np.random.default_rng(0).normal(0.0, 1.5, (20, 2))))
    assert bool(found.all())  # none of them fails
    assert np.allclose(states, exact, rtol=1e-9)
    assert np.allclose(slopes, exact_slopes, rtol=1e-7, atol=1e-9)


def test_logarithms_have_conserved_sums_too() -> None:
    twin = twin_of(turning, {name: bt.State(bt.SteadyState(5.0), positive=True) for name in ("a", "b")})
    state, found = jax.jit(lambda rate: begin(twin, GRID, {"rate": rate, "feed": 2.0})[1:])(0.5)
    assert bool(found)
    assert np.allclose(jnp.exp(state), [8.0, 2.0], rtol=1e-9)


def test_an_unknown_total_is_refused_and_an_open_system_has_none() -> None:
    states = {"a": bt.State(bt.SteadyState(10.0)), "b": bt.State(bt.SteadyState())}
    with pytest.raises(bt.errors.InvalidTwin, match=r"(?s)total that is not said.*no guess for `b`.*sum of `a`, `b`"):
        begin(twin_of(turning, states), GRID, {"rate": 1.0, "feed": 1.0})

    def leaking(t, x, p, u):
        return turning(t, x, p, u) | {"b": p.rate * x.a - p.feed * x.b + 1e-3 * (1.0 - x.b)}

    assert count_sums(twin_of(leaking, states)) == 0


def test_an_initial_state_can_follow_from_the_parameters() -> None:
    twin = twin_of(lambda t, x, p, u: {"level": 0.0 * x.level}, {"level": bt.State(lambda p: p.feed / p.rate)})
    states = states_of(twin)
    assert np.allclose(states(VALUES), 4.0)
    assert np.allclose(jax.jacfwd(states)(VALUES)[3, 0], [-8.0, 2.0])
    assert [site.name for site in twin.sites()] == ["rate", "feed"]


def test_a_smooth_input_is_the_cubic_spline_through_its_samples() -> None:
    """The integral of the input is known: that of the spline."""
    signal = np.sin(TIMES)
    twin = twin_of(
        lambda t, x, p, u: {"level": u.flow}, {"level": bt.State(0.0)}, inputs={"flow": bt.Input(hold="cubic")}
    )
    exact = CubicSpline(TIMES, signal).antiderivative()(TIMES)
    assert np.allclose(states_of(twin, flow=signal)(VALUES)[:, 0], exact, atol=1e-12)
    straight = np.append(0.0, np.cumsum(signal[1:] + signal[:-1]) / 4.0)
    assert np.abs(exact - straight).max() > 0.01


def test_a_periodic_input_goes_on_as_it_was() -> None:
    """Seen for two periods of 2, and asked for during three."""
    signal = pd.Series(np.where((TIMES % 2.0) < 1.0, 1.0, 0.0), index=TIMES).where(TIMES <= 4.0)
    twin = twin_of(
        lambda t, x, p, u: {"level": u.pulse},
        {"level": bt.State(0.0)},
        inputs={"pulse": bt.Input(hold="previous", beyond="periodic", period=2.0)},
    )
    level = states_of(twin, pulse=signal)(VALUES)[:, 0]
    assert np.allclose(level, TIMES // 2.0 + np.minimum(TIMES % 2.0, 1.0), atol=1e-9)


@pytest.mark.parametrize("period", [0.5, 2.0])
def test_what_repeats_itself_does_so_up_to_the_end_and_no_further(period: float) -> None:
    spec, times = bt.Input(beyond="periodic", period=period), period * np.array([0.0, 0.25, 0.75, 1.0])
    found = extended("pulse", spec, SampledSignal(times, np.array([1.0, 2.0, 3.0, 1.0])), 3.5 * period)
    later = [number + part for number in (1.0, 2.0, 3.0) for part in (0.25, 0.75, 1.0)]
    assert found.times.tolist() == pytest.approx([*times, *(period * np.array(later))])
    assert found.values.tolist() == [1.0, 2.0, 3.0, 1.0] + 3 * [2.0, 3.0, 1.0]


def test_a_signal_cannot_repeat_what_was_not_seen() -> None:
    spec = bt.Input(beyond="periodic", period=3.0)
    with pytest.raises(bt.errors.InvalidTelemetry, match="cannot repeat"):
        extended("pulse", spec, SampledSignal(np.array([0.0, 1.0]), np.array([1.0, 2.0])), 5.0)


@pytest.mark.parametrize("settings", [{"beyond": "periodic"}, {"period": 2.0}, {"beyond": "periodic", "period": -1.0}])
def test_a_period_that_makes_no_sense_is_refused(settings: dict) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match="how it repeats itself"):
        twin_of(lambda t, x, p, u: {"level": u.flow}, {"level": bt.State(0.0)}, inputs={"flow": bt.Input(**settings)})


@pytest.mark.slow
def test_what_is_observed_at_rest_tells_as_much_as_the_equilibrium_by_hand() -> None:
    """Three readings of B, of 10 in all: only the ratio of the rates is seen."""
    record = bt.read_telemetry(pd.DataFrame({"time": [0.0, 1.0, 2.0], "b": [5.0, 5.1, 4.9]}))

    def ratio(**states: bt.State) -> np.ndarray:
        twin = bt.Twin(
            name="ab",
            vector_field=turning,
            states=states,
            parameters={name: bt.Parameter(dist.LogNormal(0.0, 0.5)) for name in ("rate", "feed")},
            observations={"b": bt.Observation(bt.Gaussian(0.1))},
        )
        posterior = bt.calibrate(twin, record, seed=0, method="laplace")["posterior"]
        return np.asarray(posterior["rate"] / posterior["feed"])

    found = ratio(a=bt.State(bt.SteadyState(10.0)), b=bt.State(bt.SteadyState(0.0)))
    by_hand = ratio(
        a=bt.State(lambda p: 10.0 * p.feed / (p.rate + p.feed)), b=bt.State(lambda p: 10.0 * p.rate / (p.rate + p.feed))
    )
    assert np.allclose(found, by_hand, rtol=1e-5)
    assert found.std() == pytest.approx(0.0230, rel=0.05)
