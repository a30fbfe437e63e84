"""Fields that switch are solved from switch to switch, with exact derivatives; what happens in time is not missed.

Expected values are closed forms, piece by piece, and so are derivatives, which a moment that does not move with its
parameters would fail.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import bayestwin as bt
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid, build_grid, stops_within
from bayestwin.dynamics.solve import Trajectory, solve
from bayestwin.dynamics.switching import take_apart
from bayestwin.model.dependence import parameters


def switching(field: Callable, parameters: tuple[str, ...], method: Any = "tsit5", **states: float) -> bt.Twin:
    """A twin with this field, which starts at these states."""
    return bt.Twin(
        name="switching",
        vector_field=field,
        states={name: bt.State(value) for name, value in states.items()},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in parameters},
        observations={next(iter(states)): bt.Observation(noise=bt.Gaussian(scale=0.1))},
        solver=bt.Solver(method, rtol=1e-8, atol=1e-10),
    )


def grid_of(twin: bt.Twin, times: np.ndarray) -> Grid:
    return build_grid(twin, times, np.zeros(1), {})


def decay_after(times: np.ndarray, begin: float, end: float, rate: float, inflow: float) -> np.ndarray:
    """What an inflow from `begin` to `end` leaves in a tank that empties at a rate."""
    during = inflow / rate * (1.0 - np.exp(-rate * np.clip(times - begin, 0.0, end - begin)))
    return during * np.exp(-rate * np.maximum(times - end, 0.0))


def pulse(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": jnp.where((t <= 5.0) | (t >= 5.001), 0.0, p.inflow) - p.rate * x.a}


def onset(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": jnp.where(t > p.begin, p.inflow, 0.0) - p.rate * x.a}


def timetable(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": p.inflow * (jnp.mod(t, 24.0) < p.hours) - p.rate * x.a}


def staircase(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": p.step * jnp.floor(t / p.width)}


def table(t: Any, x: Any, p: Any, u: Any) -> dict:
    begins = jnp.array([3.0, 10.0, 11.5, 40.0])
    return {"a": p.inflow * jnp.sum((t > begins) & (t < begins + 0.01)) - p.rate * x.a}


def threshold(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": jax.lax.cond(x.a < p.level, lambda: p.fast, lambda: p.slow)}


def relay(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": jnp.where(x.a < p.level, p.fast, -p.slow)}


def late_relay(t: Any, x: Any, p: Any, u: Any) -> dict:
    """What holds the state at the threshold grows, until it lets it go at t = fast / slow."""
    return {"a": jnp.where(x.a < p.level, p.fast, p.slow * t - p.fast)}


def pieces(t: Any, x: Any, p: Any, u: Any) -> dict:
    """Two comparisons of the same two numbers."""
    return {"a": jnp.piecewise(x.a, [x.a < p.level, x.a >= p.level], [lambda a: p.fast + 0.0 * a, lambda a: p.slow])}


TIMES = np.array([0.0, 2.0, 6.0, 11.0, 31.0, 60.0])


def of_table(inflow: float, rate: float) -> np.ndarray:
    return np.sum([decay_after(TIMES, begin, begin + 0.01, rate, inflow) for begin in (3.0, 10.0, 11.5, 40.0)], axis=0)


def of_timetable(inflow: float, rate: float, hours: float) -> np.ndarray:
    return np.sum([decay_after(TIMES, day, day + hours, rate, inflow) for day in (0.0, 24.0, 48.0)], axis=0)


def of_staircase(step: float, width: float) -> np.ndarray:
    whole = np.floor(TIMES / width)
    return step * (width * whole * (whole - 1) / 2 + whole * (TIMES - whole * width))


def of_threshold(level: float, fast: float, slow: float) -> np.ndarray:
    return np.where(level / fast > TIMES, fast * TIMES, level + slow * (TIMES - level / fast))


def of_relay(level: float, fast: float, slow: float) -> np.ndarray:
    del slow  # which only keeps the state at the level
    return np.minimum(fast * TIMES, level)


def of_late_relay(level: float, fast: float, slow: float) -> np.ndarray:
    let_go = fast / slow
    return np.minimum(fast * TIMES, level) + 0.5 * slow * np.maximum(TIMES - let_go, 0.0) ** 2


CASES = {
    "pulse": (pulse, lambda inflow, rate: decay_after(TIMES, 5.0, 5.001, rate, inflow), {"inflow": 900.0, "rate": 0.2}),
    "onset": (
        onset,
        lambda inflow, rate, begin: decay_after(TIMES, begin, 1e3, rate, inflow),
        {"inflow": 3.0, "rate": 0.25, "begin": 7.3},
    ),
    "timetable": (timetable, of_timetable, {"inflow": 2.0, "rate": 0.1, "hours": 8.3}),
    "staircase": (staircase, of_staircase, {"step": 0.3, "width": 0.7}),
    "table": (table, of_table, {"inflow": 50.0, "rate": 0.05}),
    "threshold": (threshold, of_threshold, {"level": 3.7, "fast": 1.0, "slow": 0.1}),
    "pieces": (pieces, of_threshold, {"level": 3.7, "fast": 1.0, "slow": 0.1}),
    "relay": (
        relay,
        lambda level, fast, slow: np.minimum(fast * TIMES, level),
        {"level": 3.7, "fast": 1.0, "slow": 2.0},
    ),
    "late relay": (late_relay, of_late_relay, {"level": 3.7, "fast": 1.0, "slow": 0.07}),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES)
def test_states_and_derivatives_are_those_of_the_closed_form(case: str) -> None:
    field, expected, values = CASES[case]
    twin = switching(field, tuple(values), a=0.0)
    grid = grid_of(twin, TIMES)

    def solved(values: dict) -> tuple[jax.Array, Trajectory]:
        found = solve(twin, grid, values)
        return found.states[:, 0], found

    slopes, found = jax.jit(jax.jacfwd(solved, has_aux=True))(values)
    assert bool(found.solved)
    assert np.allclose(found.states[:, 0], expected(**values), rtol=2e-7, atol=1e-8)
    for name, value in values.items():
        h = 1e-6 * value
        ends = [expected(**values | {name: value + sign * h}) for sign in (-1.0, 1.0)]
        difference = (ends[1] - ends[0]) / (2.0 * h)
        assert np.allclose(slopes[name], difference, rtol=1e-5, atol=1e-6 * (1.0 + np.abs(difference).max())), name


def rubbed(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": x.v, "v": -p.stiffness * x.a - p.dry * jnp.sign(x.v) - p.wet * x.v}


def rests(times: np.ndarray, stiffness: float, dry: float, wet: float) -> np.ndarray:
    """A slide with dry friction, half a swing after the other, until the spring no longer moves it."""
    out, start, begun = np.empty(len(times)), 0.2, 0.0
    rate, speed = wet / 2.0, np.sqrt(stiffness - wet**2 / 4.0)
    while abs(start) * stiffness > dry:
        middle = np.sign(start) * dry / stiffness
        later = times - begun
        swing = np.exp(-rate * later) * (np.cos(speed * later) + rate / speed * np.sin(speed * later))
        now = (later >= 0.0) & (later <= np.pi / speed)
        out[now] = middle + (start - middle) * swing[now]
        start, begun = middle - (start - middle) * np.exp(-rate * np.pi / speed), begun + np.pi / speed
    out[times >= begun] = start
    return out


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_dry_friction_sticks(method: str) -> None:
    values = {"stiffness": 100.0, "dry": 4.0, "wet": 1.5}
    twin = switching(rubbed, tuple(values), method, a=0.2, v=0.0)
    times = np.arange(0.0, 2.5, 0.1)
    found = jax.jit(lambda values: solve(twin, grid_of(twin, times), values))(values)
    assert bool(found.solved)
    assert int(found.num_steps) < 400  # a solver that finds each turn by trial and error fails instead
    assert np.allclose(found.states[:, 0], rests(times, **values), atol=1e-7)
    assert np.abs(found.states[-5:, 1]).max() < 1e-12


def dry_tank(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": (jnp.where(t < 25.0, 0.35, 0.0) - p.valve * jnp.sqrt(jnp.maximum(x.a, 0.0))) / p.area}


def guarded_tank(t: Any, x: Any, p: Any, u: Any) -> dict:
    inflow = jnp.where(t < 25.0, 0.35, 0.0)
    return {"a": jnp.where(x.a > 0.0, inflow - p.valve * jnp.sqrt(x.a), inflow) / p.area}


def power_tank(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": (jnp.where(t < 25.0, 0.35, 0.0) - p.valve * jnp.maximum(x.a, 0.0) ** 0.5) / p.area}


def forbidden(t: Any, x: Any, p: Any, u: Any) -> dict:
    """A user who says where the equations end."""
    return {"a": jnp.where(x.a < 2.0, p.rate, jnp.nan)}


def ends_within(t: Any, x: Any, p: Any, u: Any) -> dict:
    """A side that has no value from somewhere on, before the state comes to the other side."""
    return {"a": jnp.where(x.a < 3.0, p.rate + 0.0 * jnp.sqrt(2.0 - x.a), 1.0)}


def ends_by_cond(t: Any, x: Any, p: Any, u: Any) -> dict:
    return {"a": jax.lax.cond(x.a > -1.0, lambda: p.rate + 0.0 * jnp.log(2.0 - x.a), lambda: 1.0)}


@pytest.mark.parametrize("field", [forbidden, ends_within, ends_by_cond])
def test_a_side_without_a_value_is_not_replaced_by_the_other_one(field: Callable) -> None:
    twin = switching(field, ("rate",), a=0.0)
    run = jax.jit(jax.vmap(lambda rate: solve(twin, grid_of(twin, np.linspace(0.0, 4.0, 5)), {"rate": rate})))
    found = run(jnp.array([0.4, 0.9]))  # to 1.6, where all have a value, and to 3.6
    assert found.solved.tolist() == [True, False]
    assert np.allclose(found.states[0, :, 0], 0.4 * np.linspace(0.0, 4.0, 5), rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize("field", [dry_tank, guarded_tank, power_tank])
def test_a_tank_that_begins_empty_and_runs_dry_has_derivatives(field: Callable) -> None:
    values = {"valve": 0.3, "area": 1.5}
    twin = switching(field, tuple(values), a=0.0)
    grid = grid_of(twin, np.array([0.0, 10.0, 25.0, 30.0, 60.0]))

    @jax.jit
    def levels(values: dict) -> jax.Array:
        return solve(twin, grid, values).states[:, 0]

    # out of the tank goes what its level was: sqrt(level) falls by valve / (2 area) a minute
    filled = float(levels(values)[2])
    emptying = (np.sqrt(filled) - 0.3 / 3.0 * 5.0) ** 2
    assert np.allclose(levels(values)[3:], [emptying, 0.0], atol=1e-7)
    found = jax.jit(jax.jacfwd(levels))(values)
    for name, value in values.items():
        h = 1e-4 * value
        difference = (levels(values | {name: value + h}) - levels(values | {name: value - h})) / (2.0 * h)
        assert np.abs(found[name][1:4]).min() > 1e-2  # a derivative that is not a number would have become zero
        # near its end the level is a square, so errors of the level are those of the root of the tolerance
        assert np.allclose(found[name], difference, rtol=2e-4, atol=5e-4), name


def zoo(t: Any, x: Any, p: Any, u: Any) -> dict:
    """Each way to write something that switches."""
    lowered = jax.lax.cond(x.a > p.k, lambda: 1.0, lambda: jnp.where(t > 3.0, 2.0, 5.0))
    whole = jnp.ceil(x.a) + jnp.round(3.0 * x.a) + jnp.trunc(2.0 * t) + jnp.fmod(-t, 0.7) + t // 0.3
    counted = jnp.array([1.0, -2.0, 3.0, 0.5, 7.0, 8.0])[jnp.clip((x.a * 2.0).astype(int), 0, 5)]
    return {"a": lowered + whole + counted + jnp.heaviside(x.a - 0.2, 0.5) - (p.k >= x.a) * jnp.sign(t - x.a)}


@pytest.mark.thorough
def test_the_equations_taken_apart_are_the_equations() -> None:
    twin = switching(zoo, ("k",), a=0.0)
    field = Field(twin, parameters(twin, {"k": 0.4}))
    equations = take_apart(twin)
    rng = np.random.default_rng(3)
    for t, a in rng.uniform([0.0, -3.0], [9.0, 3.0], size=(50, 2)):
        arguments = (t, *field.arguments(lambda _: jnp.zeros(0), jnp.asarray(t), jnp.array([a])))
        unknown = jnp.full(equations.count, np.nan)
        held, gaps = equations.hold(*arguments, equations.follow(*arguments, 0.0 * unknown, unknown))
        whole = twin.vector_field(*arguments)
        assert np.allclose(held["a"], whole["a"], rtol=1e-12)
        assert np.isfinite(gaps).all()


def test_what_held_inputs_and_parameters_decide_is_left_alone() -> None:
    twin = bt.Twin(
        name="heated",
        vector_field=lambda t, x, p, u: {
            "a": jnp.where(u.on > 0.5, p.heat, 0.0) - jnp.where(p.heat > 1.0, 1.0, 2.0) * x.a
        },
        states={"a": bt.State(0.0)},
        parameters={"heat": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        inputs={"on": bt.Input(hold="previous")},
        observations={"a": bt.Observation(noise=bt.Gaussian(scale=0.1))},
    )
    assert take_apart(twin).count == 0
    sloped = bt.Twin(**{**vars_of(twin), "inputs": {"on": bt.Input()}})
    assert take_apart(sloped).count == 1


def vars_of(twin: bt.Twin) -> dict:
    names = ("name", "vector_field", "states", "parameters", "inputs", "observations")
    return {name: getattr(twin, name) for name in names}


def peaks(t: Any, x: Any, p: Any, u: Any) -> dict:
    """Two smooth peaks of four seconds in ten hours."""
    shape = jnp.exp(-0.5 * ((t - 17_000.0) / 2.0) ** 2) + jnp.exp(-0.5 * ((t - 17_300.0) / 2.0) ** 2)
    return {"a": p.inflow * shape - p.rate * x.a}


def spikes(t: Any, x: Any, p: Any, u: Any) -> dict:
    """On for a quarter of a second twenty times, within one interval."""
    return {"a": p.inflow * (jnp.sin(2.0 * jnp.pi * t / 50.0) > 0.9999) - p.rate * x.a}


def test_smooth_peaks_are_not_stepped_over() -> None:
    twin = switching(peaks, ("inflow", "rate"), a=0.0)
    found = solve(twin, grid_of(twin, np.linspace(0.0, 36_000.0, 5)), {"inflow": 1.0, "rate": 1e-4})
    area = np.sqrt(2.0 * np.pi) * 2.0
    expected = sum(area * np.exp(-1e-4 * (36_000.0 - begin) + 0.5 * 4e-8) for begin in (17_000.0, 17_300.0))
    assert np.isclose(float(found.states[-1, 0]), expected, rtol=1e-6)


def test_a_comparison_that_is_true_twice_in_an_interval_is_not_stepped_over() -> None:
    twin = switching(spikes, ("inflow", "rate"), a=0.0)
    found = solve(twin, grid_of(twin, np.array([0.0, 1_000.0])), {"inflow": 1.0, "rate": 0.01})
    half = (np.pi - 2.0 * np.arcsin(0.9999)) * 50.0 / (4.0 * np.pi)
    middles = 12.5 + 50.0 * np.arange(20)
    expected = sum(decay_after(np.array([1_000.0]), m - half, m + half, 0.01, 1.0)[0] for m in middles)
    assert np.isclose(float(found.states[-1, 0]), expected, rtol=1e-6)


def test_no_stop_is_set_where_steps_see_what_happens() -> None:
    """A season that the solver follows by itself, and an input, cost no stop."""
    twin = switching(lambda t, x, p, u: {"a": p.k * jnp.sin(t) - x.a}, ("k",), a=0.0)
    assert not len(stops_within(twin, np.linspace(0.0, 40.0, 9), ()))
    assert not len(
        stops_within(switching(lambda t, x, p, u: {"a": -p.k * x.a}, ("k",), a=0.0), np.array([0.0, 9.0]), ())
    )


IN_TIME: dict[str, tuple[Callable, bool]] = {
    "not at all": (lambda t, x, p, u: {"a": -p.k * x.a}, False),
    "one comparison of the clock": (lambda t, x, p, u: {"a": jnp.where(t < p.k, 1.0, 0.0) - x.a}, False),
    "of what is left of it": (lambda t, x, p, u: {"a": jnp.where(2.0 * (p.k - t) / 3.0 > 0.0, 1.0, 0.0)}, False),
    "evenly": (lambda t, x, p, u: {"a": p.k * t - 1.0}, False),
    "a comparison that holds twice": (lambda t, x, p, u: {"a": jnp.where(jnp.sin(p.k * t) > 0.999, 1.0, 0.0)}, True),
    "every day anew": (lambda t, x, p, u: {"a": jnp.where(jnp.mod(t, 24.0) < 1e-3, p.k, 0.0)}, True),
    "a square": (lambda t, x, p, u: {"a": jnp.where(t * t < p.k, 1.0, 0.0)}, True),
    "a peak within a comparison": (
        lambda t, x, p, u: {"a": jnp.where(t < 5.0, jnp.exp(-((t - 3.0) ** 2) * 1e9), 0.0)},
        True,
    ),
    "a state beside the clock": (lambda t, x, p, u: {"a": jnp.where(x.a < jnp.sin(t), p.k, 0.0)}, True),
}


@pytest.mark.parametrize("name", IN_TIME)
def test_time_is_searched_unless_it_decides_each_comparison_once(name: str) -> None:
    """What is not searched cannot hide a pulse; what may hide one is."""
    field, shaped = IN_TIME[name]
    assert take_apart(switching(field, ("k",), a=0.5)).shaped is shaped


def test_two_comparisons_of_the_clock_are_not_stepped_over() -> None:
    """A pulse of a thousandth of its record's hundredth between two of them, though nothing is searched."""
    twin = switching(pulse, ("inflow", "rate"), a=0.0)
    assert not take_apart(twin).shaped
    found = solve(twin, grid_of(twin, np.array([0.0, 100.0])), {"inflow": 1.0, "rate": 0.01})
    expected = decay_after(np.array([100.0]), 5.0, 5.001, 0.01, 1.0)
    assert np.isclose(float(found.states[-1, 0]), expected[0], rtol=1e-6)


@pytest.mark.thorough
def test_an_input_that_crosses_a_threshold_between_its_samples() -> None:
    twin = bt.Twin(
        name="heated",
        vector_field=lambda t, x, p, u: {"a": jnp.where(u.cold < p.limit, p.heat, 0.0)},
        states={"a": bt.State(0.0)},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in ("heat", "limit")},
        inputs={"cold": bt.Input()},
        observations={"a": bt.Observation(noise=bt.Gaussian(scale=0.1))},
    )
    grid = build_grid(twin, np.array([0.0, 10.0]), np.array([0.0, 10.0]), {"cold": np.array([5.0, 0.0])})

    def warm(values: dict) -> jax.Array:
        return solve(twin, grid, values).states[-1, 0]

    values = {"heat": 2.0, "limit": 1.5}  # below it from t = 7 on
    assert np.isclose(float(warm(values)), 6.0, rtol=1e-9)
    slopes = jax.jacfwd(warm)(values)
    assert np.isclose(float(slopes["limit"]), 4.0, rtol=1e-8)
    assert np.isclose(float(slopes["heat"]), 3.0, rtol=1e-8)


def test_a_batch_is_what_each_of_it_is() -> None:
    """Lanes of a batch switch at steps of their own."""
    field, expected, values = CASES["onset"]
    twin = switching(field, tuple(values), a=0.0)
    grid = grid_of(twin, TIMES)
    begins = np.array([0.5, 7.3, 30.0, 70.0])

    def one(begin: Any) -> Trajectory:
        return solve(twin, grid, {**values, "begin": begin})

    together = jax.jit(jax.vmap(one))(begins)
    for begin, states in zip(begins, together.states, strict=True):
        assert np.allclose(states[:, 0], expected(**values | {"begin": begin}), rtol=2e-7, atol=1e-8)
