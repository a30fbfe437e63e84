"""The past of a state, followed by a delay line, is that which the method of steps finds."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.integrate import solve_ivp
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTwin

TIMES = np.linspace(0.0, 30.0, 61)


def growing(t: Any, x: Any, p: Any, u: Any) -> dict:
    """Growth that is slowed by how many there were a while ago."""
    rate = p.growth * x.level * (1.0 - x.past[-1] / 10.0)
    return {"level": rate, "past": bt.delay_line(x.level, x.past, p.delay)}


def decaying(t: Any, x: Any, p: Any, u: Any) -> dict:
    """What is lost was there a while ago: affine, so that no solver is needed."""
    return {"level": -p.growth * x.past[-1], "past": bt.delay_line(x.level, x.past, p.delay)}


def twin_of(field: Callable, size: int, method: str = "tsit5") -> bt.Twin:
    return bt.Twin(
        name="delayed",
        vector_field=field,
        states={"level": bt.State(2.0), "past": bt.State(2.0, size=size)},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in ("growth", "delay")},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
        solver=bt.Solver(method, rtol=1e-9, atol=1e-11),
    )


def by_steps(rate: Callable[[float, float], float], delay: float) -> np.ndarray:
    """The level at `TIMES`: over each stretch of one delay the past is known from the one before."""
    before: Callable[[float], float] = lambda _: 2.0  # noqa: E731
    begin, level, found = 0.0, 2.0, []
    while begin <= TIMES[-1]:
        past = functools.partial(lambda before, t: before(t - delay), before)
        span = (begin, begin + delay)
        solved = solve_ivp(
            lambda t, y, past=past: [rate(y[0], past(t))], span, [level], rtol=1e-10, atol=1e-12, dense_output=True
        )
        found.append(solved.sol)
        before = lambda t, sol=solved.sol: sol(t)[0]  # noqa: E731
        begin, level = begin + delay, solved.y[0, -1]
    return np.array([found[min(int(t // delay), len(found) - 1)](t)[0] for t in TIMES])


def simulated(twin: bt.Twin, growth: float, delay: float) -> np.ndarray:
    found = bt.simulate(twin, {"growth": growth, "delay": delay}, telemetry_of({"time": TIMES}), seed=0)
    return found["level_noise_free"].to_numpy().ravel()


@pytest.mark.parametrize(("size", "error"), [(5, 5e-3), (15, 2e-4), (30, 5e-5)])
def test_growth_that_depends_on_the_past(size: int, error: float) -> None:
    """A chain of lags in its place is off by 1 and more."""
    exact = by_steps(lambda now, then: 0.5 * now * (1.0 - then / 10.0), 3.0)
    off = np.abs(simulated(twin_of(growing, size), 0.5, 3.0) - exact).max()
    assert off < error


def test_an_affine_twin_with_a_past_needs_no_solver() -> None:
    exact = by_steps(lambda now, then: -0.4 * then, 2.5)
    np.testing.assert_allclose(simulated(twin_of(decaying, 20, "exact"), 0.4, 2.5), exact, atol=3e-4)


def test_the_delay_has_a_derivative() -> None:
    rows = {"time": TIMES, "level": by_steps(lambda now, then: 0.5 * now * (1.0 - then / 10.0), 3.0)}
    density = bound_density(twin_of(growing, 12), telemetry_of(rows))
    z = density.unconstrain({"growth": 0.45, "delay": 2.8})
    gradient = np.asarray(jax.grad(density)(z))
    for i, unit in enumerate(np.eye(2)):
        slope = (float(density(z + 1e-5 * unit)) - float(density(z - 1e-5 * unit))) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-4)


def test_what_is_no_line_is_refused() -> None:
    with pytest.raises(TypeError, match="an array of two or more"):
        bt.delay_line(jnp.ones(()), jnp.ones(1), 1.0)
    with pytest.raises(InvalidTwin, match=r"a state of its own, which `bt\.delay_line` follows"):
        twin_of(lambda t, x, p, u: {"level": -x.level(t - p.delay), "past": x.past}, 3)
