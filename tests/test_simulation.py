"""`simulate` solves a twin at given values, adds its noise, and refuses what it cannot solve."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from twins import NOISES, counted, decay, decay_telemetry, driven, lag, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidSetting, SolverFailure

TIMES = np.linspace(0.0, 5.0, 2001)
VALUES = {"rate": 0.8, "level_initial": 5.0, "level_scale": 0.3}


def test_the_trajectory_is_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    times = np.sort(rng.uniform(0.0, 9.0, 30))
    stepped, sloped = rng.normal(size=(2, 30))
    telemetry = telemetry_of({"time": times, "stepped": stepped, "sloped": sloped})
    values = {"rate": 0.7, "gain": 1.3, "level_initial": 2.0, "level_scale": 0.1}
    found = bt.simulate(driven(), values, telemetry, seed=0)
    exact = lag(times, stepped, sloped, 2.0, 0.7, 1.3)
    np.testing.assert_allclose(found["level_state"], exact, rtol=1e-7)
    np.testing.assert_array_equal(found["level_noise_free"], found["level_state"])
    np.testing.assert_array_equal(found["time"], times)


@pytest.mark.parametrize("noise", NOISES)
def test_the_noise_is_that_of_its_model(noise: str) -> None:
    telemetry = telemetry_of({"time": TIMES, "stepped": 0.0 * TIMES, "sloped": 0.0 * TIMES})
    values = {"rate": 0.7, "gain": 1.3, "level_initial": 2.0}
    settings = {"gaussian": {"scale": 0.3}, "lognormal": {"scale": 0.3}, "student": {"scale": 0.3, "df": 3.0}}
    given = {f"seen_{key}": value for key, value in settings.get(noise, {}).items()}
    found = bt.simulate(counted(NOISES[noise]), values | given, telemetry, seed=1)
    seen, centre = found["seen"].values, found["seen_noise_free"].values
    expected = {
        "gaussian": lambda: stats.norm.cdf(seen, centre, 0.3),
        "lognormal": lambda: stats.lognorm.cdf(seen, 0.3, scale=centre),
        "student": lambda: stats.t.cdf(seen, 3.0, centre, 0.3),
        # a count stands for the interval below it: a random place in that interval is uniform
        "poisson": lambda: (
            stats.poisson.cdf(seen - 1, centre)
            + np.random.default_rng(0).uniform(size=seen.size) * stats.poisson.pmf(seen, centre)
        ),
    }[noise]()
    assert stats.kstest(expected, "uniform").pvalue > 1e-3


def test_values_that_do_not_fit_the_twin_are_refused_by_name() -> None:
    telemetry = telemetry_of({"time": [0.0, 1.0]})
    for values in (VALUES | {"rats": 1.0}, {"rate": 0.8}, {}):
        with pytest.raises(InvalidSetting, match=r"(?s)`decay`.*`level_initial`, `level_scale`, `rate`.*Received: "):
            bt.simulate(decay(), values, telemetry, seed=0)


@pytest.mark.thorough
def test_a_solve_that_fails_names_the_state_and_the_time() -> None:
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * jnp.log(2.5 - t)})
    with pytest.raises(SolverFailure, match=r"(?s)`decay` cannot be solved.*`level` is not finite at t=2.5"):
        bt.simulate(twin, VALUES, telemetry_of({"time": [0.0, 1.0, 4.0]}), seed=0)


def test_several_experiments_are_simulated_one_by_one() -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match="of one experiment"):
        bt.simulate(decay(), {}, {"first": decay_telemetry()}, seed=0)


def test_a_bend_of_the_field_costs_no_digits() -> None:
    """A vessel that fills at 1, and above its brim also empties; at default tolerances it was off by 4e-5 elsewhere."""
    twin = bt.Twin(
        name="brim",
        vector_field=lambda t, x, p, u: {"level": 1.0 - p.over * jnp.maximum(x.level - p.brim, 0.0)},
        states={"level": bt.State(0.0)},
        parameters={name: bt.Parameter(dist.LogNormal(0.0, 1.0)) for name in ("over", "brim")},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    times = np.linspace(0.0, 8.0, 9)
    for brim in (1.31, 2.57, 4.93):
        found = bt.simulate(twin, {"over": 3.0, "brim": brim}, telemetry_of({"time": times}), seed=0)["level_state"]
        above = brim - np.expm1(-3.0 * np.maximum(times - brim, 0.0)) / 3.0
        np.testing.assert_allclose(found, np.where(times < brim, times, above), rtol=1e-7, atol=1e-9)
