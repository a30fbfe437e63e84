"""Events happen exactly when they are due, and what is solved through them has exact derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.solve import Trajectory, solve

DOSES = {0.0: 3.0, 4.0: 1.0, 4.5: 2.0}
TIMES = np.array([0.0, 1.0, 4.0, 4.25, 5.0, 9.0])


def decaying(method: str = "tsit5", positive: bool = False, **settings) -> bt.Twin:
    """One compartment that empties at a rate."""
    return bt.Twin(
        name="gut",
        vector_field=lambda t, x, p, u: {"amount": -p.rate * x.amount},
        states={"amount": bt.State(1.0, positive=positive)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={"amount": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        solver=bt.Solver(method, rtol=1e-9, atol=1e-12),
        **settings,
    )


def dosed(**settings) -> bt.Twin:
    """The same, with doses that the telemetry tells."""
    dose = bt.Event(effect=lambda t, x, p, u: {"amount": x.amount + u.dose})
    return decaying(events={"dose": dose}, **settings)


def density_of(twin: bt.Twin, times: np.ndarray = TIMES, **columns) -> Density:
    """Its density where it is observed at these times."""
    table = pd.DataFrame(
        columns, index=np.union1d(times, np.concatenate([[0.0], *[c.index for c in columns.values()]]))
    )
    for name in twin.observations:
        table[name] = pd.Series(1.0, index=times)
    return build_density(twin, bind(twin, bt.read_telemetry(table, t0=0.0)))


def solved(density: Density, **values: float) -> Trajectory:
    found = solve(density.twin, density.grid, values)
    assert bool(found.solved)
    return found


def after_doses(times: np.ndarray, rate: float) -> np.ndarray:
    """Closed form; what is seen at the time of a dose is what was there just before it."""
    amounts = np.exp(-rate * times)
    for t, dose in DOSES.items():
        amounts += np.where(times > t, dose * np.exp(-rate * (times - t)), 0.0)
    return amounts


@pytest.mark.parametrize(
    "settings", [{}, {"positive": True}, {"method": "rodas5p"}], ids=["explicit", "positive", "stiff"]
)
def test_doses_of_the_telemetry_add_up(settings: dict) -> None:
    density = density_of(dosed(**settings), dose=pd.Series(DOSES))
    states = solved(density, rate=0.7).states[:, 0]
    tolerance = 1e-6 if settings.get("method") else 1e-8  # where the stiff method's error stops falling
    assert np.allclose(states, after_doses(density.bound.times, 0.7), rtol=tolerance)


def test_fixed_steps_go_through_doses_too() -> None:
    density = density_of(dosed(), dose=pd.Series(DOSES))
    steps = np.full(len(density.grid.edges) - 1, 200)
    found = solve(density.twin, density.grid.with_substeps(steps), {"rate": 0.7})
    assert np.allclose(found.states[:, 0], after_doses(density.bound.times, 0.7), rtol=1e-9)


def test_an_infusion_from_a_small_table_joined_to_the_observations() -> None:
    twin = bt.Twin(
        name="drip",
        vector_field=lambda t, x, p, u: {"amount": p.inflow - p.rate * x.amount},
        states={"amount": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0)), "inflow": bt.Parameter(0.0)},
        observations={"amount": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        events={"pump": bt.Event(effect=lambda t, x, p, u: {"inflow": u.pump})},
        solver=bt.Solver("tsit5", rtol=1e-9, atol=1e-12),
    )
    seen = pd.DataFrame({"time": [0.0, 1.0, 2.5, 4.0, 6.0], "amount": 1.0})
    infusion = pd.DataFrame({"time": [1.0, 3.5], "pump": [2.0, 0.0]})
    density = build_density(twin, bind(twin, bt.read_telemetry(seen.merge(infusion, on="time", how="outer"))))
    rate, times = 0.7, density.bound.times
    during = 2.0 / rate * (1.0 - np.exp(-rate * np.clip(times - 1.0, 0.0, 2.5)))
    expected = during * np.exp(-rate * np.maximum(times - 3.5, 0.0))
    assert np.allclose(solved(density, rate=rate).states[:, 0], expected, rtol=1e-8)


def test_a_service_changes_a_parameter_from_then_on() -> None:
    service = bt.Event(effect=lambda t, x, p, u: {"rate": 0.5 * p.rate}, at=(2.0, 6.0))
    density = density_of(decaying(events={"service": service}))
    exposed = np.interp(TIMES, [0.0, 2.0, 6.0, 9.0], [0.0, 2.0, 4.0, 4.75])

    def amounts(rate: float) -> jax.Array:
        return solve(density.twin, density.grid, {"rate": rate}).states[:, 0]

    times = np.isin(density.bound.times, TIMES)
    assert np.allclose(amounts(0.7)[times], np.exp(-0.7 * exposed), rtol=1e-8)
    assert np.allclose(jax.jacfwd(amounts)(0.7)[times], -exposed * np.exp(-0.7 * exposed), rtol=1e-7, atol=1e-12)


def bouncing() -> bt.Twin:
    """A ball that loses speed whenever it meets the ground."""
    ground = bt.Event(
        effect=lambda t, x, p, u: {"height": 0.0, "speed": -p.elastic * x.speed}, when=lambda t, x, p, u: -x.height
    )
    return bt.Twin(
        name="ball",
        vector_field=lambda t, x, p, u: {"height": x.speed, "speed": -9.81 + 0.0 * t},
        states={"height": bt.State(dist.LogNormal(0.0, 1.0)), "speed": bt.State(0.0)},
        parameters={"elastic": bt.Parameter(dist.Uniform(0.1, 1.0))},
        observations={"height": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        events={"ground": ground},
        solver=bt.Solver(rtol=1e-9, atol=1e-12),
    )


def ball(times: np.ndarray, elastic: jax.Array, start: jax.Array) -> jax.Array:
    """Closed form up to the third bounce."""
    fall = jnp.sqrt(2.0 * start / 9.81)
    first, second = fall, fall * (1.0 + 2.0 * elastic)
    impact = 9.81 * fall
    flights = [
        (0.0, start, 0.0),
        (first, 0.0, elastic * impact),
        (second, 0.0, elastic**2 * impact),
    ]
    heights = [h + v * (times - t) - 0.5 * 9.81 * (times - t) ** 2 for t, h, v in flights]
    return jnp.where(times < first, heights[0], jnp.where(times < second, heights[1], heights[2]))


@pytest.mark.thorough
def test_a_ball_bounces_when_it_meets_the_ground_with_exact_derivatives() -> None:
    times = np.array([0.2, 0.45, 0.6, 0.9, 1.1, 1.3])
    density = density_of(bouncing(), times)
    rows = np.isin(density.bound.times, times)

    def heights(values: jax.Array) -> jax.Array:
        return solve(density.twin, density.grid, {"elastic": values[0], "height_initial": values[1]}).states[rows, 0]

    values = jnp.array([0.8, 1.0])
    assert np.allclose(heights(values), ball(times, *values), atol=1e-8)
    exact = jax.jacfwd(lambda v: ball(times, *v))(values)
    assert np.allclose(jax.jacfwd(heights)(values), exact, atol=1e-6)
    assert np.allclose(jax.jacrev(heights)(values), exact, atol=1e-6)


def thermostat() -> bt.Twin:
    """A room that is heated while a relay is on; its set-point is an input that jumps."""

    def vector_field(t, x, p, u):
        return {"temperature": p.rate * (10.0 + 20.0 * x.relay - x.temperature), "relay": 0.0}

    return bt.Twin(
        name="thermostat",
        vector_field=vector_field,
        states={"temperature": bt.State(15.0), "relay": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={"temperature": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        inputs={"target": bt.Input(hold="previous", beyond="hold")},
        events={
            "on": bt.Event(
                effect=lambda t, x, p, u: {"relay": 1.0}, when=lambda t, x, p, u: u.target - 1.0 - x.temperature
            ),
            "off": bt.Event(
                effect=lambda t, x, p, u: {"relay": 0.0}, when=lambda t, x, p, u: x.temperature - u.target - 1.0
            ),
        },
        solver=bt.Solver(rtol=1e-9, atol=1e-12),
    )


def test_a_thermostat_switches_by_state_and_when_its_set_point_jumps() -> None:
    times = np.array([1.0, 2.0, 2.5, 3.0])
    target = pd.Series({0.0: 14.0, 1.0: 14.0, 2.0: 20.0})
    found = solved(density_of(thermostat(), times, target=target), rate=0.5)
    rows = {t: i for i, t in enumerate(np.union1d(times, [0.0]))}
    # cools from 15 to 13 (at t = 2 ln(5/3) = 1.02), is heated; at t = 2 the target jumps
    on = 2.0 * np.log(5.0 / 3.0)
    assert float(found.states[rows[1.0], 0]) == pytest.approx(10.0 + 5.0 * np.exp(-0.5), abs=1e-8)
    off = on + 2.0 * np.log(17.0 / 15.0)  # at 15
    back = off + 2.0 * np.log(5.0 / 3.0)  # at 13 again
    assert off < 2.0 < back
    at_jump = 10.0 + 5.0 * np.exp(-0.5 * (2.0 - off))
    assert float(found.states[rows[2.0], 0]) == pytest.approx(at_jump, abs=1e-7)
    assert float(found.states[rows[3.0], 0]) == pytest.approx(30.0 - (30.0 - at_jump) * np.exp(-0.5), abs=1e-7)
    assert found.states[:, 1].tolist()[rows[2.5]] == 1.0


def test_a_ball_that_comes_to_rest_is_a_failed_solve() -> None:
    """Infinitely many bounces in finite time are more than any number of steps."""
    density = density_of(bouncing(), np.array([0.2, 60.0]))
    assert not bool(solve(density.twin, density.grid, {"elastic": 0.5, "height_initial": 1.0}).solved)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (lambda: bt.Event(effect=lambda t, x, p, u: {"amounts": 0.0}), "does not return new values"),
        (lambda: bt.Event(effect=lambda t, x, p, u: {"amount": u.doze}), "asks for `doze`.*`dose`"),
        (lambda: bt.Event(effect=lambda t, x, p, u: {"amount": 0.0}, at=(2.0, 1.0)), "when it happens"),
        (lambda: bt.Event(effect=lambda t, x, p, u: {"amount": 0.0}, when=lambda t, x, p, u: (1.0, 2.0)), "shape"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(event, words: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=f"(?s){words}"):
        decaying(events={"dose": event()})


def test_doses_that_the_telemetry_does_not_have_are_missed() -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match="no column for the event `dose`"):
        density_of(dosed())
