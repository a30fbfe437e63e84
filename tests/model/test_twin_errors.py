"""What is wrong in a twin is an error when it is built: it names the culprit, what was expected and what came."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import decay, decay_telemetry, driven

import bayestwin as bt
from bayestwin.errors import InvalidTwin


def level(unit: str = "") -> dict:
    return {"level": bt.State(dist.Normal(5.0, 1.0), unit=unit)}


def seen(noise: object = None, name: str = "level", **settings: object) -> dict:
    return {name: bt.Observation(noise or bt.Gaussian(0.1), **settings)}


def rate(prior: object) -> dict:
    return {"rate": bt.Parameter(prior)}


def fields(**slopes: Callable) -> Callable:
    """A vector field that returns these slopes."""
    return lambda t, x, p, u: {name: slope(t, x, p, u) for name, slope in slopes.items()}


# What is wrong, and what the message has to hold, in this order.
WRONG = {
    "derivative of an unknown state": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: -x.level, water=lambda t, x, p, u: 1.0)),
        ["decay", "keys `level`", "`level`, `water`", "Not a state: `water`"],
    ),
    "derivative missing": (
        lambda: decay(vector_field=fields(levle=lambda t, x, p, u: -x.level)),
        ["decay", "keys `level`", "`levle`", "Missing: `level`. Not a state: `levle`"],
    ),
    "no dict": (lambda: decay(vector_field=lambda t, x, p, u: -x.level), ["keys `level`", "ShapeDtypeStruct"]),
    "vector derivative": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: jnp.ones(3) * x.level)),
        ["derivative of `level`", "a real scalar", "(3,)"],
    ),
    "complex derivative": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: 1j * x.level)),
        ["derivative of `level`", "a real scalar", "complex"],
    ),
    "unknown parameter": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: -p.rat * x.level)),
        ["decay", "`rat`", "parameters", "`rate`", "`rat`", "Did you mean `rate`?"],
    ),
    "unknown state": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: -p.rate * x.levels)),
        ["`levels`", "states", "`level`", "`levels`", "Did you mean `level`?"],
    ),
    "unknown input": (
        lambda: driven(vector_field=fields(level=lambda t, x, p, u: u.slope - x.level)),
        ["`slope`", "inputs", "`stepped`, `sloped`", "`slope`", "Did you mean `sloped`?"],
    ),
    "unknown parameter in an observation": (
        lambda: decay(observations=seen(of=lambda t, x, p, u: p.rte * x.level)),
        ["`of=` of observation `level`", "`rte`", "`rate`", "Did you mean `rate`?"],
    ),
    "vector observation": (
        lambda: decay(observations=seen(of=lambda t, x, p, u: jnp.stack([x.level, x.level]))),
        ["`of=` of observation `level`", "a real scalar", "(2,)"],
    ),
    "observation of nothing": (
        lambda: decay(observations=seen(name="height")),
        ["`height`", "the name of a state", "`height`", "`level`"],
    ),
    "no noise": (lambda: decay(observations=seen(noise=dist.Normal(0.0, 1.0))), ["`level`", "bt.Gaussian", "Normal"]),
    "missing prior": (lambda: decay(parameters=rate(None)), ["parameter `rate`", "scalar NumPyro", "nothing"]),
    "vector prior": (
        lambda: decay(parameters=rate(dist.Normal(jnp.zeros(2), 1.0))),
        ["parameter `rate`", "scalar", "shape (2,)"],
    ),
    "vector-valued prior": (
        lambda: decay(parameters=rate(dist.MultivariateNormal(jnp.zeros(3), jnp.eye(3)))),
        ["parameter `rate`", "scalar", "shape (3,)"],
    ),
    "discrete prior": (
        lambda: decay(parameters=rate(dist.Poisson(3.0))),
        ["parameter `rate`", "continuous", "Poisson", "discrete"],
    ),
    "prior that is not finite": (lambda: decay(parameters=rate(math.nan)), ["parameter `rate`", "finite", "nan"]),
    "flag as prior": (lambda: decay(parameters=rate(True)), ["parameter `rate`", "scalar NumPyro", "True"]),
    "prior of a noise": (
        lambda: decay(observations=seen(bt.Gaussian(dist.Normal(jnp.zeros(2), 1.0)))),
        ["noise `scale` of observation `level`", "scalar", "shape (2,)"],
    ),
    "initial prior": (
        lambda: decay(states={"level": bt.State("5")}),
        ["initial value of state `level`", "scalar NumPyro", "'5'"],
    ),
    "bare prior": (lambda: decay(parameters={"rate": dist.Normal(0.0, 1.0)}), ["`rate`", "bt.Parameter", "Normal"]),
    "unit of a state": (lambda: decay(states=level("metre per")), ["state `level`", "`metre per`"]),
    "unit of a parameter": (
        lambda: decay(parameters={"rate": bt.Parameter(1.0, unit="1/hh our")}),
        ["parameter `rate`", "`1/hh our`"],
    ),
    "unit of an input": (
        lambda: driven(inputs={"stepped": bt.Input(unit="Wat"), "sloped": bt.Input()}),
        ["input `stepped`", "`Wat`"],
    ),
    "unit of an observation": (lambda: decay(observations=seen(unit="degX")), ["observation `level`", "`degX`"]),
    "unit of time": (lambda: decay(time_unit="yer"), ["time of twin `decay`", "`yer`"]),
    "name with a space": (
        lambda: decay(parameters={"my rate": bt.Parameter(1.0)}),
        ["parameter `my rate`", "'my rate'"],
    ),
    "keyword as name": (lambda: decay(parameters={"lambda": bt.Parameter(1.0)}), ["parameter `lambda`", "'lambda'"]),
    "hidden name": (lambda: decay(parameters={"_rate": bt.Parameter(1.0)}), ["parameter `_rate`", "'_rate'"]),
    "path as name of the twin": (lambda: decay(name="../x"), ["the twin", "'../x'"]),
    "parameter called as an initial state": (
        lambda: decay(parameters={"rate": bt.Parameter(1.0), "level_initial": bt.Parameter(dist.Normal(0.0, 1.0))}),
        ["`level_initial`", "`level_initial`, `level_initial`"],
    ),
    "parameter called as a noise": (
        lambda: decay(
            parameters={"level_scale": bt.Parameter(dist.Normal(0.0, 1.0))},
            observations=seen(bt.Gaussian(dist.HalfNormal(1.0))),
            vector_field=fields(level=lambda t, x, p, u: -x.level),
        ),
        ["`level_scale`", "Rename"],
    ),
    "parameter called as an observation": (
        lambda: decay(parameters={"rate": bt.Parameter(1.0), "level": bt.Parameter(dist.Normal(0.0, 1.0))}),
        ["`level`", "Rename"],
    ),
    "observation called as a trajectory": (
        lambda: decay(observations=seen() | seen(name="level_state", of=lambda t, x, p, u: 2.0 * x.level)),
        ["`level_state`", "Rename"],
    ),
    "parameter called as a dimension": (
        lambda: decay(parameters={"rate": bt.Parameter(1.0), "draw": bt.Parameter(dist.Normal(0.0, 1.0))}),
        ["`draw`", "dimensions", "Rename"],
    ),
    "input called as a dimension": (
        lambda: driven(inputs={"stepped": bt.Input(), "sloped": bt.Input(), "time": bt.Input()}),
        ["`time`", "dimensions", "Rename"],
    ),
    "no states": (lambda: decay(states={}), ["decay", "no states", "bt.State"]),
    "no observations": (lambda: decay(observations={}), ["decay", "no observations", "bt.Observation"]),
    "unknown hold": (
        lambda: driven(inputs={"stepped": bt.Input(hold="next")}),
        ["`hold` of input `stepped`", "'next'"],
    ),
    "unknown beyond": (
        lambda: driven(inputs={"stepped": bt.Input(beyond="wrap")}),
        ["`beyond` of input `stepped`", '"error" or "hold"', "'wrap'"],
    ),
    "unknown solver": (
        lambda: decay(solver=bt.Solver("rk4")),
        ["`method` of the solver", '"auto" or "exact" or "tsit5" or "rodas5p"', "'rk4'"],
    ),
    "python branch": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: -1.0 if x.level > 0 else 0.0)),
        ["vector field of twin `decay`", "jnp.where", "Tracer", "jax.numpy"],
    ),
    "math function": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: -math.exp(p.rate) * x.level)),
        ["vector field of twin `decay`", "test_twin_errors.py`", "jax.numpy", "ConcretizationTypeError"],
    ),
    "numpy function": (
        lambda: decay(observations=seen(of=lambda t, x, p, u: float(np.exp(x.level)))),
        ["`of=` of observation `level`", "jax.numpy", "Tracer"],
    ),
    "wrong arguments": (
        lambda: decay(vector_field=lambda t, x: {"level": -x.level}),
        ["vector field of twin `decay`", "(t, x, p, u)", "TypeError"],
    ),
    "mistake in the user's own code": (
        lambda: decay(vector_field=fields(level=lambda t, x, p, u: undefined_name * x.level)),  # noqa: F821
        ["vector field of twin `decay`", "NameError", "undefined_name"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_it_is_refused_by_name(case: str) -> None:
    build, words = WRONG[case]
    with pytest.raises(InvalidTwin) as raised:
        build()
    message = str(raised.value)
    assert "Expected: " in message
    assert "Received: " in message
    at = 0
    for word in words:
        assert word in message[at:], message
        at = message.index(word, at)


def test_what_is_right_is_not_refused() -> None:
    twin = driven(
        states={"level": bt.State(1, unit="degC")},
        parameters={"rate": bt.Parameter(2.0, unit="1/(K h)"), "gain": bt.Parameter(dist.Uniform(0.0, 1.0))},
        time_unit="year",
    )
    assert [site.name for site in twin.sites()] == ["gain", "level_scale"]


def test_a_twin_without_unknowns_cannot_be_calibrated() -> None:
    twin = decay(states={"level": bt.State(5.0)}, parameters=rate(0.8), observations=seen())
    with pytest.raises(InvalidTwin, match=r"(?s)`decay` has nothing to infer.*Expected: .*Received: .*simulate"):
        bt.calibrate(twin, decay_telemetry(), seed=0)
