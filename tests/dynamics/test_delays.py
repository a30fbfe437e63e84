"""Inputs that arrive late and events at inferred times: states and derivatives are those of the closed form.

A twin that integrates an input tells what that was: antiderivatives of step functions, lines and splines are known.
"""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace as Named
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline, PPoly

import bayestwin as bt
from bayestwin.density.bind import bind, bind_all
from bayestwin.density.density import build_density
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.solve import solve
from bayestwin.dynamics.switching import take_apart
from bayestwin.errors import InvalidTwin
from bayestwin.model.describe import fingerprint

TIMES = np.array([0.0, 1.0, 2.5, 4.0, 4.5, 7.0, 8.0, 10.0, 12.0])
VALVE = np.array([1.0, 1.0, 3.0, 0.5, 0.5, 2.0, -1.0, 4.0, 4.0])


def late(
    field: Callable, parameters: tuple[str, ...], columns: dict, hold: Any = "previous", **settings: Any
) -> bt.Twin:
    """A twin of one state `a`, driven by inputs of these columns."""
    before = settings.pop("before", None)
    return bt.Twin(
        name="late",
        vector_field=field,
        states={"a": bt.State(settings.pop("initial", 0.0))},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in parameters},
        inputs={name: bt.Input(hold=hold, before=before) for name in columns},
        observations={"a": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        solver=bt.Solver(settings.pop("method", "tsit5"), rtol=1e-9, atol=1e-11),
        **settings,
    )


def record(columns: dict, times: np.ndarray = TIMES) -> bt.Telemetry:
    return bt.read_telemetry(pd.DataFrame({"time": times, **columns, "a": 0.0}))


def grid_of(twin: bt.Twin, columns: dict, times: np.ndarray = TIMES) -> Grid:
    return build_density(twin, bind(twin, record(columns, times))).grid


def agree(twin: bt.Twin, grid: Grid, expected: Callable, values: dict[str, float], **tolerance: float) -> None:
    """States, and their derivatives against differences of the closed form."""

    def states(values: dict) -> tuple[jax.Array, jax.Array]:
        found = solve(twin, grid, values)
        return found.states[:, 0], (found.states[:, 0], found.solved)

    slopes, (found, solved) = jax.jit(jax.jacfwd(states, has_aux=True))(values)
    assert bool(solved)
    assert np.allclose(found, expected(**values), rtol=1e-7, atol=1e-8)
    for name, value in values.items():
        h = 1e-5
        ends = [expected(**values | {name: value + sign * h}) for sign in (-1.0, 1.0)]
        difference = (ends[1] - ends[0]) / (2.0 * h)
        assert np.abs(difference).max() > 0.1, name
        assert np.allclose(slopes[name], difference, rtol=1e-5, atol=1e-6), name


def antiderivative(hold: str, values: np.ndarray = VALVE, before: float | None = None) -> Callable:
    """Of a signal as it is between its samples and beyond them."""
    if hold == "cubic":
        within = CubicSpline(TIMES, values)
    elif hold == "linear":
        within = PPoly(np.stack([np.diff(values) / np.diff(TIMES), values[:-1]]), TIMES)
    else:
        within = PPoly(values[None, :-1], TIMES)
    whole = within.antiderivative()
    start = values[0] if before is None else before
    return lambda s: whole(np.clip(s, 0.0, 12.0)) + start * np.minimum(s, 0.0) + values[-1] * np.maximum(s - 12.0, 0.0)


def integrated(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": p.gain * u.valve(t - p.dead)}


@pytest.mark.parametrize(("hold", "before"), [("previous", -2.0), ("linear", None), ("cubic", -2.0)])
def test_what_arrives_late_is_what_was_sampled(hold: str, before: float | None) -> None:
    twin = late(integrated, ("gain", "dead"), {"valve": VALVE}, hold, before=before)
    whole = antiderivative(hold, before=before)

    def expected(gain: float, dead: float) -> np.ndarray:
        return gain * (whole(TIMES - dead) - whole(-dead))

    agree(twin, grid_of(twin, {"valve": VALVE}), expected, {"gain": 1.3, "dead": 1.7})


def first_order(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": (p.gain * u.valve(t - p.dead) - x.a) / p.lag}


def of_first_order(gain: float, lag: float, dead: float, values: np.ndarray = VALVE) -> np.ndarray:
    """Each jump of a held input sets in after the dead time."""
    jumps = np.diff(values, prepend=0.0)
    passed = np.maximum(TIMES[:, None] - TIMES - dead, 0.0)
    return gain * ((1.0 - np.exp(-passed / lag)) * jumps).sum(axis=1)


def test_dead_time_before_a_lag() -> None:
    twin = late(first_order, ("gain", "lag", "dead"), {"valve": VALVE}, before=0.0)
    agree(twin, grid_of(twin, {"valve": VALVE}), of_first_order, {"gain": 2.0, "lag": 6.0, "dead": 0.8})


def carried(t: Any, x: Any, p: Any, u: Any) -> dict:
    """A pipe, in which what flows faster arrives earlier."""
    return {"a": p.gain * u.valve(t - p.volume / u.flow)}


@pytest.mark.slow
def test_a_delay_that_an_input_sets() -> None:
    columns = {"valve": VALVE, "flow": np.where(TIMES < 4.0, 1.0, 2.0)}
    whole = antiderivative("previous")

    def expected(gain: float, volume: float) -> np.ndarray:
        slow, fast = np.minimum(TIMES, 4.0), np.maximum(TIMES, 4.0)
        first, second = whole(slow - volume) - whole(-volume), whole(fast - volume / 2.0) - whole(4.0 - volume / 2.0)
        return gain * (first + second)

    twin = late(carried, ("gain", "volume"), columns)
    agree(twin, grid_of(twin, columns), expected, {"gain": 0.7, "volume": 1.9})


def own(t: Any, x: Any, p: Any, u: Any) -> dict:
    """The fuller, the later what is let in arrives."""
    return {"a": u.valve(t - p.slow * x.a)}


@pytest.mark.thorough
def test_a_delay_that_the_state_sets() -> None:
    """From nothing to 0.4 at t = 2.5 and to 0.9 at 7; both arrive later by what the level is then."""
    valve = np.where(TIMES < 2.5, 0.0, np.where(TIMES < 7.0, 0.4, 0.9))
    twin = late(own, ("slow",), {"valve": valve}, initial=1.5)

    def expected(slow: float) -> np.ndarray:
        first = 2.5 + 1.5 * slow
        second = (7.0 + slow * (1.5 - 0.4 * first)) / (1.0 - 0.4 * slow)
        return 1.5 + 0.4 * np.clip(TIMES - first, 0.0, second - first) + 0.9 * np.maximum(TIMES - second, 0.0)

    agree(twin, grid_of(twin, {"valve": valve}), expected, {"slow": 0.6})


def test_an_input_is_a_number_too_and_now_is_no_delay() -> None:
    def field(t: Any, x: Any, p: Any, u: Any) -> dict:
        now = 2.0 * u.valve - u.valve(t) + (u.valve > 2.0) - abs(-u.valve) / 1.0
        return {"a": p.gain * u.valve(t - p.dead) + now + jnp.exp(u.valve(t))}

    def plain(t: Any, x: Any, p: Any, u: Any) -> dict:
        return {"a": p.gain * u.then + (u.valve > 2.0) - jnp.abs(u.valve) + u.valve + jnp.exp(u.valve)}

    delayed, by_hand = (late(one, ("gain", "dead"), {"valve": VALVE, "then": VALVE}) for one in (field, plain))
    equations = take_apart(delayed)
    for valve, then in np.random.default_rng(0).uniform(-1.0, 4.0, (9, 2)):
        _, x, p, u = (1.0, Named(a=0.0), Named(gain=1.3, dead=1.7), Named(valve=valve, then=then))
        found = equations.derivative(jnp.asarray(1.0), (0.0,), (1.3, 1.7), (valve, then, then))
        assert np.isclose(found["a"], by_hand.vector_field(1.0, x, p, u)["a"], rtol=1e-12)
    assert equations.lags((1.3, 1.7)).tolist() == [1.7]
    assert delayed.delayed == ("valve",)
    assert by_hand.delayed == ()


def test_switches_and_triggered_events_see_what_arrives() -> None:
    """Three times the valve is open further than 1.5, at 2.5, 7 and 10; each time something is let in and counted."""

    def field(t: Any, x: Any, p: Any, u: Any) -> dict:
        return {"a": jnp.where(u.valve(t - p.dead) > 1.5, p.gain, 0.0) + 0.0 * x.a}

    full = bt.Event(lambda t, x, p, u: {"a": 0.0}, when=lambda t, x, p, u: x.a - 2.0)
    twin = late(field, ("gain", "dead"), {"valve": VALVE}, events={"full": full})

    def expected(gain: float, dead: float) -> np.ndarray:
        spans = ((2.5, 4.0), (7.0, 8.0), (10.0, np.inf))
        let_in = sum(np.clip(TIMES - dead - begin, 0.0, end - begin) for begin, end in spans)
        return (gain * let_in) % 2.0

    agree(twin, grid_of(twin, {"valve": VALVE}), expected, {"gain": 1.1, "dead": 0.9})


def test_a_negative_delay_fails_and_a_long_one_never_arrives() -> None:
    twin = late(integrated, ("gain", "dead"), {"valve": VALVE}, before=0.0)
    grid = grid_of(twin, {"valve": VALVE})
    solved = jax.jit(lambda dead: solve(twin, grid, {"gain": 1.0, "dead": dead}))
    assert not bool(solved(-0.1).solved)
    assert bool(solved(12.5).solved)
    assert np.all(solved(12.5).states == 0.0)


def test_experiments_of_different_lengths() -> None:
    twin = late(integrated, ("gain", "dead"), {"valve": VALVE}, "linear")
    records = {"long": record({"valve": VALVE}), "short": record({"valve": 2.0 * VALVE[:5]}, TIMES[:5])}
    density = build_density(twin, bind_all(twin, records)).filled
    values = {"gain": 1.3, "dead": 1.7}
    found = jax.jit(lambda values: solve(twin, density.grid, values))(values)
    whole = antiderivative("linear")
    expected = 1.3 * (whole(TIMES - 1.7) - whole(-1.7))
    assert bool(found.solved.all())
    assert np.allclose(found.states[0, :9, 0], expected, atol=1e-8)
    assert np.allclose(found.states[1, :5, 0], 2.0 * expected[:5], atol=1e-8)


def dosed(at: Callable, **settings: Any) -> bt.Twin:
    return bt.Twin(
        name="dosed",
        vector_field=lambda t, x, p, u: {"a": -p.rate * x.a},
        states={"a": bt.State(1.0)},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in ("rate", "first", "dose")},
        observations={"a": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        events={
            "service": bt.Event(lambda t, x, p, u: {"a": 0.5 * x.a}, at=(4.0,)),
            "dose": bt.Event(lambda t, x, p, u: {"a": x.a + p.dose * u.dose}, at=at),
        },
        solver=bt.Solver("tsit5", rtol=1e-9, atol=1e-11),
        **settings,
    )


def of_doses(times: list[float], rate: float, dose: float) -> np.ndarray:
    service = np.where(TIMES > 4.0, 0.5, 1.0)
    amount = np.exp(-rate * TIMES) * service
    for t in times:
        share = service if t < 4.0 else 1.0
        amount += np.where(t < TIMES, share * dose * np.exp(-rate * (TIMES - t)), 0.0) if t >= 0.0 else 0.0
    return amount


@pytest.mark.parametrize("kind", [tuple, jnp.array])
def test_events_happen_when_parameters_say_with_exact_derivatives(kind: Callable) -> None:
    twin = dosed(lambda p: kind([p.first + 6.0, p.first, p.first + 50.0, p.first - 9.0]))

    def expected(rate: float, first: float, dose: float) -> np.ndarray:
        return of_doses([first, first + 6.0], rate, dose)

    agree(twin, grid_of(twin, {}), expected, {"rate": 0.3, "first": 2.2, "dose": 5.0})
    assert [event.kind for event in twin.events.values()] == ["scheduled", "inferred"]


def test_what_is_seen_at_the_time_of_an_inferred_event_is_what_was_before() -> None:
    twin = dosed(lambda p: p.first)
    found = jax.jit(lambda values: solve(twin, grid_of(twin, {}), values))({"rate": 0.3, "first": 2.5, "dose": 5.0})
    assert np.allclose(found.states[:, 0], of_doses([2.5], 0.3, 5.0), atol=1e-8)


def test_another_time_another_twin() -> None:
    twins = [dosed(lambda p: p.first), dosed(lambda p: p.first + 1.0)]
    twins += [late(integrated, ("gain", "dead"), {"valve": VALVE}, before=before) for before in (None, 0.0, 1.0)]
    assert len({fingerprint(twin) for twin in twins}) == 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dosed(lambda p: p.second), "asks for `second`"),
        (lambda: dosed(lambda p: jnp.ones((2, 2))), "not times"),
        (lambda: late(lambda t, x, p, u: {"a": x.a(t - 1.0) + u.valve}, (), {"valve": VALVE}), "only for inputs"),
        (lambda: late(lambda t, x, p, u: {"a": jnp.sin(u.valve) + u.valve(t - 1.0)}, (), {"valve": VALVE}), "is now"),
        (lambda: late(integrated, ("gain", "dead"), {"valve": VALVE}, before=np.nan), "`before`"),
        (
            lambda: late(integrated, ("gain", "dead"), {"valve": VALVE}, model_error=bt.ProcessNoise(scale={"a": 0.1})),
            "which is delayed",
        ),
        (lambda: dosed(lambda p: p.first, model_error=bt.ProcessNoise(scale={"a": 0.1})), "whose time is inferred"),
    ],
)
def test_what_cannot_be_said_is_refused(make: Callable, words: str) -> None:
    with pytest.raises(InvalidTwin, match=f"(?s){words}"):
        make()


@pytest.mark.slow
def test_dead_time_is_inferred_as_sharply_as_its_information_says() -> None:
    """Rows a minute apart, a valve that jumps every ten: standard deviations are those of the closed form."""
    rng = np.random.default_rng(27)
    times, valve = np.arange(120.0), np.repeat(rng.choice([0.0, 1.0, 3.0], 12), 10)

    def level(gain: float, lag: float, dead: float) -> np.ndarray:
        passed = np.maximum(times[:, None] - times - dead, 0.0)
        return gain * ((1.0 - np.exp(-passed / lag)) * np.diff(valve, prepend=0.0)).sum(axis=1)

    truth = {"gain": 2.0, "lag": 6.0, "dead": 3.6}
    twin = late(first_order, tuple(truth), {"valve": valve}, before=0.0)
    twin = dataclasses.replace(twin, observations={"a": bt.Observation(bt.Gaussian(scale=dist.HalfNormal(0.5)))})
    table = pd.DataFrame({"time": times, "valve": valve, "a": level(**truth) + 0.05 * rng.normal(size=120)})
    posterior = bt.calibrate(twin, bt.read_telemetry(table), seed=0)["posterior"]
    h = 1e-4
    columns = [(level(**truth | {n: v + h}) - level(**truth | {n: v - h})) / (2.0 * h) for n, v in truth.items()]
    jacobian = np.stack(columns, axis=1) / 0.05
    spread = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    for (name, value), sd in zip(truth.items(), spread, strict=True):
        assert abs(float(posterior[name].mean()) - value) < 4.0 * sd
        assert float(posterior[name].std()) == pytest.approx(sd, rel=0.25)
    assert float(posterior["a_scale"].mean()) == pytest.approx(0.05, abs=4.0 * 0.05 / np.sqrt(240.0))
