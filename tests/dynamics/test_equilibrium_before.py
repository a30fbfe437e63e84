"""A start in equilibrium may be one under other circumstances, and some experiments may conserve what others do not."""

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
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
