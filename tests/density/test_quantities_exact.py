"""Quantities of interest are exact to the solver: integrals, extremes and times agree with SciPy's events at 1e-8."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from twins import telemetry_of

import bayestwin as bt

HOURS = np.arange(0.0, 49.0, 6.0)
"""Rows so far apart that whatever is sampled at them is wrong."""


def swing(t, x, p, u):
    """A damped swing around a level that an input sets."""
    return {"angle": x.speed, "speed": -p.stiffness * (x.angle - u.level) - 0.05 * x.speed - 0.02 * x.angle**3}


QUANTITIES = {
    "work": bt.Integral(of=lambda t, x, p, u: p.stiffness * x.speed**2, unit=""),
    "mean": bt.Mean(of="angle", unit="rad"),
    "peak": bt.Max(of="angle", unit="rad"),
    "lowest": bt.Min(of=lambda t, x, p, u: x.angle - u.level, unit="rad"),
    "above": bt.TimeWhere(lambda t, x, p, u: x.angle > 0.7),
    "longest": bt.LongestWhere(lambda t, x, p, u: (x.angle > 0.2) & (x.speed < 0.3)),
    "first": bt.FirstTime(lambda t, x, p, u: x.angle < -0.4),
    "never": bt.FirstTime(lambda t, x, p, u: x.angle - 50.0),
    "rows": bt.FromRows(lambda t, x, p, u: (x.angle * u.level).sum() + t[-1]),
}

TWIN = bt.Twin(
    name="swing",
    vector_field=swing,
    states={"angle": bt.State(1.0, unit="rad"), "speed": bt.State(0.0, unit="rad/h")},
    parameters={"stiffness": bt.Parameter(dist.LogNormal(0.0, 1.0))},
    inputs={"level": bt.Input(unit="rad", hold="previous")},
    observations={"angle": bt.Observation(noise=bt.Gaussian(0.1), unit="rad")},
    time_unit="h",
    quantities=QUANTITIES,
)
LEVELS = np.array([0.3, 0.3, -0.2, 0.5, 0.5, 0.0, 0.1, 0.4, 0.4])
STIFFNESS = 1.7


def record() -> bt.Telemetry:
    return telemetry_of({"time": HOURS, "level": LEVELS})


def reference() -> tuple[np.ndarray, list]:
    """Integrals at the end, and a dense solution of each interval, by SciPy."""
    state, pieces = np.array([1.0, 0.0, 0.0, 0.0]), []
    for start, end, level in zip(HOURS[:-1], HOURS[1:], LEVELS[:-1], strict=True):

        def field(t, y, level=level):
            angle, speed = y[:2]
            pull = -STIFFNESS * (angle - level) - 0.05 * speed - 0.02 * angle**3
            return [speed, pull, STIFFNESS * speed**2, angle]

        found = solve_ivp(field, (start, end), state, method="DOP853", rtol=1e-13, atol=1e-13, dense_output=True)
        state = found.y[:, -1]
        pieces.append((start, end, level, found.sol))
    return state, pieces


def fine(pieces: list, function) -> tuple[np.ndarray, np.ndarray]:
    """A function (angle, speed, level) at 20,000 times of each interval."""
    times = [np.linspace(start, end, 20_001) for start, end, *_ in pieces]
    values = [function(*sol(t)[:2], level) for t, (_, _, level, sol) in zip(times, pieces, strict=True)]
    return np.concatenate(times), np.concatenate(values)


def crossings(pieces: list, function) -> np.ndarray:
    """When a function (angle, speed, level) changes its sign, refined by Brent's method."""
    found = []
    for start, end, level, sol in pieces:
        times = np.linspace(start, end, 20_001)
        values = function(*sol(times)[:2], level)

        def at(t, sol=sol, level=level):
            return function(*sol(t)[:2], level)

        places = np.flatnonzero(np.sign(values[:-1]) != np.sign(values[1:]))
        found += [brentq(at, times[place], times[place + 1], xtol=1e-14) for place in places]
    return np.array(found)


def held(times: np.ndarray, function, pieces: list) -> np.ndarray:
    """Lengths of the stretches in which a function is positive, in order; zero where it is not."""
    edges = np.concatenate([[HOURS[0]], times, [HOURS[-1]]])
    middle = (edges[:-1] + edges[1:]) / 2
    which = np.clip(np.searchsorted(HOURS, middle, side="right") - 1, 0, len(pieces) - 1)
    signs = [function(*pieces[i][3](t)[:2], pieces[i][2]) > 0 for i, t in zip(which, middle, strict=True)]
    return np.where(signs, np.diff(edges), 0.0)


@pytest.fixture(scope="module")
def simulated():
    return bt.simulate(TWIN, {"stiffness": STIFFNESS}, record(), seed=0)


def test_integrals_agree_with_extra_states_of_scipy(simulated) -> None:
    state, _ = reference()
    np.testing.assert_allclose(simulated["work"], state[2], rtol=1e-8)
    np.testing.assert_allclose(simulated["mean"], state[3] / HOURS[-1], rtol=1e-8)


def test_extremes_are_found_between_rows(simulated) -> None:
    _, pieces = reference()
    highest = fine(pieces, lambda angle, speed, level: angle)[1].max()
    lowest = fine(pieces, lambda angle, speed, level: angle - level)[1].min()
    np.testing.assert_allclose(simulated["peak"], highest, atol=1e-7)  # the reference is sampled
    np.testing.assert_allclose(simulated["lowest"], lowest, atol=1e-7)
    assert float(simulated["peak"]) > float(simulated["angle_state"][1:].max()) + 0.1


def test_times_agree_with_the_events_of_scipy(simulated) -> None:
    _, pieces = reference()

    def above(angle, speed, level):
        return angle - 0.7

    def both(angle, speed, level):
        return np.minimum(angle - 0.2, 0.3 - speed)

    def below(angle, speed, level):
        return -0.4 - angle

    np.testing.assert_allclose(simulated["above"], held(crossings(pieces, above), above, pieces).sum(), atol=1e-8)
    np.testing.assert_allclose(simulated["longest"], held(crossings(pieces, both), both, pieces).max(), atol=1e-8)
    np.testing.assert_allclose(simulated["first"], crossings(pieces, below)[0], atol=1e-8)
    assert simulated["never"] == np.inf


def test_a_function_of_the_rows_sees_the_rows(simulated) -> None:
    expected = (simulated["angle_state"].to_numpy() * LEVELS).sum() + HOURS[-1]
    np.testing.assert_allclose(simulated["rows"], expected, rtol=1e-6)  # these are solved for less precisely


@pytest.mark.thorough
def test_a_dip_within_one_step_is_seen() -> None:
    # the level touches 1 for an instant between rows and solver steps: y = 1 − 0.001 + (t − 10.3)²
    twin = bt.Twin(
        name="dip",
        vector_field=lambda t, x, p, u: {"level": 2.0 * (t - 10.3)},
        states={"level": bt.State(0.999 + 10.3**2)},
        parameters={},
        observations={"level": bt.Observation(noise=bt.Gaussian(0.1))},
        quantities={
            "low": bt.Min(of="level"),
            "first": bt.FirstTime(lambda t, x, p, u: x.level <= 1.0),
            "below": bt.TimeWhere(lambda t, x, p, u: ~(x.level > 1.0)),
        },
    )
    found = bt.simulate(twin, {}, telemetry_of({"time": [0.0, 20.0]}), seed=0)
    half = np.sqrt(0.001)
    np.testing.assert_allclose(found["low"], 0.999, atol=1e-9)
    np.testing.assert_allclose(found["first"], 10.3 - half, atol=1e-8)
    np.testing.assert_allclose(found["below"], 2.0 * half, atol=1e-8)


@pytest.mark.thorough
def test_what_events_and_switches_do_is_followed() -> None:
    # a level falls by 1 per second, is put up to 3 at 0.5 and whenever it reaches 1: a sawtooth
    twin = bt.Twin(
        name="saw",
        vector_field=lambda t, x, p, u: {"level": -jnp.where(x.level > 2.0, 2.0, 1.0)},
        states={"level": bt.State(1.2)},
        parameters={},
        observations={"level": bt.Observation(noise=bt.Gaussian(0.1))},
        events={
            "filled": bt.Event(effect=lambda t, x, p, u: {"level": 3.0}, when=lambda t, x, p, u: 1.0 - x.level),
            "topped": bt.Event(effect=lambda t, x, p, u: {"level": x.level + 0.5}, at=(0.1,)),
        },
        quantities={
            "high": bt.Max(of="level"),
            "total": bt.Integral(of="level", unit="s"),
            "fast": bt.TimeWhere(lambda t, x, p, u: x.level > 2.0),
            "longest": bt.LongestWhere(lambda t, x, p, u: x.level < 2.0),
            "full": bt.FirstTime(lambda t, x, p, u: x.level > 2.9),
        },
    )
    found = bt.simulate(twin, {}, telemetry_of({"time": [0.0, 0.35, 2.9]}), seed=0)
    # 1.2 → 1.1 at 0.1, → 1.6, reaches 1 at 0.7; → 3, 2 at 1.2, 1 at 2.2; → 3, 2 at 2.7, 1.8 at 2.9
    expected = {"high": 3.0, "fast": 1.0, "longest": 1.0, "full": 0.7}
    expected["total"] = 0.1 * 1.15 + 0.6 * 1.3 + 0.5 * 2.5 + 1.0 * 1.5 + 0.5 * 2.5 + 0.2 * 1.9
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-8, err_msg=name)


@pytest.mark.thorough
def test_units_are_converted() -> None:
    twin = dataclasses.replace(
        TWIN,
        quantities={
            "turned": bt.Integral(of="speed", unit="deg"),
            "fastest": bt.Max(of=lambda t, x, p, u: x.speed, of_unit="rad/h", unit="deg/min"),
            "above": bt.TimeWhere(lambda t, x, p, u: x.angle > 0.7, unit="min"),
            "plain": bt.TimeWhere(lambda t, x, p, u: x.angle > 0.7),
        },
    )
    found = bt.simulate(twin, {"stiffness": STIFFNESS}, record(), seed=0)
    turned = np.degrees(float(found["angle_state"][-1]) - 1.0)
    np.testing.assert_allclose(found["turned"], turned, rtol=1e-6)
    assert found["turned"].attrs["units"] == "deg"
    np.testing.assert_allclose(found["above"], 60.0 * found["plain"], rtol=1e-12)
    assert found["plain"].attrs["units"] == "h"
    faster = dataclasses.replace(TWIN, quantities={"fastest": bt.Max(of="speed", unit="rad/h")})
    again = bt.simulate(faster, {"stiffness": STIFFNESS}, record(), seed=0)
    np.testing.assert_allclose(found["fastest"], np.degrees(again["fastest"]) / 60.0, rtol=1e-9)
