"""Parameters that wander are what the same states written by hand are, and what a closed form says of them."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.stats import multivariate_normal
from twins import bound_density, decay, driven, tank, tank_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTwin
from bayestwin.model.tracing import namespace

DIFFUSION = {"lag": dist.HalfNormal(0.3)}


def by_hand() -> bt.Twin:
    """The tank whose lag wanders, as one writes it without help."""
    return dataclasses.replace(
        tank(),
        vector_field=lambda t, x, p, u: {
            "water": (u.outdoor - x.water) / (p.lag * jnp.exp(x.lag_walk)),
            "lag_walk": 0.0,
        },
        states={"water": bt.State(dist.Normal(25.0, 1.0), unit="degC"), "lag_walk": bt.State(0.0)},
        model_error=bt.ProcessNoise(scale={"lag_walk": dist.HalfNormal(0.3)}),
    )


def test_it_is_the_twin_with_the_walk_as_a_state() -> None:
    one, other = (bound_density(twin, tank_telemetry()) for twin in (bt.with_random_walk(tank(), DIFFUSION), by_hand()))
    assert [site.name for site in one.twin.sites()] == [site.name for site in other.twin.sites()]
    for z in np.random.default_rng(0).normal(size=(4, len(one.twin.sites()))):
        assert float(one(z)) == pytest.approx(float(other(z)), rel=1e-6)  # as closely as both are solved


def test_without_diffusion_it_is_the_twin_as_it_was() -> None:
    own = bound_density(tank(), tank_telemetry())
    still = bound_density(bt.with_random_walk(tank(), {"lag": 0.0}), tank_telemetry())
    for z in np.random.default_rng(1).normal(size=(3, len(own.twin.sites()))):
        assert float(still(z)) == pytest.approx(float(own(z)), rel=1e-6)  # as closely as both are solved


TIMES = np.linspace(0.25, 5.0, 20)


def trend(**members: object) -> bt.Twin:
    """A level that rises with a slope, which can have any value."""
    return bt.Twin(
        name="trend",
        vector_field=lambda t, x, p, u: {"level": p.slope},
        states={"level": bt.State(1.0, unit="m")},
        parameters={"slope": bt.Parameter(dist.Normal(0.0, 1.0), unit="m/h")},
        observations={"level": bt.Observation(bt.Gaussian(0.2), unit="m")},
        time_unit="h",
        **members,
    )


@pytest.mark.parametrize("slope", [-0.7, 1.3])
def test_of_a_trend_it_is_the_integral_of_a_brownian_motion(slope: float) -> None:
    diffusion, scale = 0.4, 0.2
    observed = 1.0 + 0.5 * TIMES + np.sin(TIMES)
    density = bound_density(
        bt.with_random_walk(trend(), {"slope": diffusion}), telemetry_of({"time": TIMES, "level": observed}, t0=0.0)
    )
    early, late = np.minimum.outer(TIMES, TIMES), np.maximum.outer(TIMES, TIMES)
    covariance = diffusion**2 * early**2 * (3.0 * late - early) / 6.0 + scale**2 * np.eye(len(TIMES))
    exact = multivariate_normal.logpdf(observed, 1.0 + slope * TIMES, covariance) + dist.Normal(0.0, 1.0).log_prob(
        slope
    )
    assert float(density(np.array([slope]))) == pytest.approx(float(exact), rel=1e-9)


def test_what_follows_from_a_parameter_and_what_is_observed_wander_with_it() -> None:
    parameters = {
        "half_life": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="h"),
        "rate": bt.Parameter(lambda p: jnp.log(2.0) / p.half_life, unit="1/h"),
    }
    seen = {"flow": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: p.rate * x.level, unit="m/h")}
    twin = bt.with_random_walk(decay(parameters=parameters, observations=seen), {"half_life": 0.2})
    x = namespace("states", ("level", "half_life_walk"))(2.0, 0.3)
    p, u = namespace("parameters", ("half_life", "rate"))(1.5, np.log(2.0) / 1.5), namespace("inputs", ())()
    rate = np.log(2.0) / (1.5 * np.exp(0.3))
    assert float(twin.vector_field(0.0, x, p, u)["level"]) == pytest.approx(-rate * 2.0)
    assert float(twin.observations["flow"].of(0.0, x, p, u)) == pytest.approx(rate * 2.0)


def test_process_noise_that_was_there_stays() -> None:
    noise = bt.ProcessNoise({"water": dist.HalfNormal(0.1)}, innovations="student")
    twin = bt.with_random_walk(dataclasses.replace(tank(), model_error=noise), DIFFUSION)
    assert list(twin.model_error.scale) == ["water", "lag_walk"]
    assert twin.model_error.innovations == "student"
    again = bt.with_random_walk(bt.with_random_walk(driven(), {"rate": 0.1}), {"gain": 0.2})
    assert again.model_error.scale == {"rate_walk": 0.1, "gain_walk": 0.2}


@pytest.mark.parametrize(
    ("twin", "scale", "received"),
    [
        (tank, {}, "none"),
        (tank, {"leak": 0.1}, "no parameter with a prior"),
        (lambda: trend(model_error=bt.Discrepancy({"level": 0.1}, {"level": 1.0})), {"slope": 0.1}, "Discrepancy"),
        (lambda: bt.with_random_walk(tank(), {"lag": 0.1}), {"lag": 0.1}, "`<parameter>_walk` is there already"),
        (
            lambda: dataclasses.replace(
                trend(), events={"shift": bt.Event(lambda t, x, p, u: {"slope": 1.0}, at=(1.0,))}
            ),
            {"slope": 0.1},
            "an event changes",
        ),
        (
            lambda: dataclasses.replace(
                trend(),
                parameters={**trend().parameters, "spread": bt.Parameter(dist.HalfNormal(1.0), unit="m")},
                observations={"level": bt.Observation(bt.Gaussian("spread"), unit="m")},
            ),
            {"spread": 0.1},
            "noise of an observation",
        ),
    ],
    ids=["nothing", "unknown", "discrepancy", "twice", "event", "noise"],
)
def test_what_cannot_wander_is_refused(twin: object, scale: dict, received: str) -> None:
    with pytest.raises(InvalidTwin, match=received):
        bt.with_random_walk(twin(), scale)


STRETCH = np.linspace(0.1, 24.0, 240)


def drifting() -> np.ndarray:
    """By how much the logarithm of a rate has moved: it falls, then climbs."""
    return 0.5 * np.sin(STRETCH / 4.0)


@functools.cache
def drifted() -> xr.DataTree:
    """A level that is pushed on and off, while its rate drifts; calibrated."""
    push = (np.floor(STRETCH / 3.0) % 2).astype(float)
    rate, level, levels = 0.8 * np.exp(drifting()), 1.0, []
    for number in range(len(STRETCH)):
        span = STRETCH[number] - (STRETCH[number - 1] if number else 0.0)
        rest = 2.0 * push[max(number - 1, 0)]
        level = rest + (level - rest) * np.exp(-rate[number] * span)
        levels.append(level)
    twin = bt.with_random_walk(
        bt.Twin(
            name="pushed",
            vector_field=lambda t, x, p, u: {"level": p.rate * (2.0 * u.push - x.level)},
            states={"level": bt.State(1.0, unit="m")},
            parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.5), unit="1/h")},
            inputs={"push": bt.Input(hold="previous", beyond="hold")},
            observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.1)), unit="m")},
            time_unit="h",
        ),
        {"rate": dist.HalfNormal(0.3)},
    )
    noise = 0.03 * np.random.default_rng(4).standard_normal(len(STRETCH))
    telemetry = telemetry_of({"time": STRETCH, "level": np.array(levels) + noise, "push": push}, t0=0.0)
    return bt.calibrate(twin, telemetry, seed=0, num_chains=2, num_samples=500)


@pytest.mark.thorough
def test_where_a_rate_went_is_found() -> None:
    posterior = drifted()
    moved = np.log(posterior["posterior"]["rate"]) + posterior["posterior_predictive"]["rate_walk_state"]
    lower, upper = (moved.quantile(q, ("chain", "draw")).values for q in (0.05, 0.95))
    truth = np.log(0.8) + drifting()
    inside = ((truth >= lower) & (truth <= upper)).mean()
    assert inside > 0.7, inside
    constant = np.log(posterior["posterior"]["rate"]).values
    assert ((truth > np.quantile(constant, 0.05)) & (truth < np.quantile(constant, 0.95))).mean() < 0.6
    assert [gate.name for gate in bt.diagnose(posterior) if gate.severity == "fail" and not gate.passed] == []
