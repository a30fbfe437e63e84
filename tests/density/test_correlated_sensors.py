"""Noise that sensors share in a row: densities and draws are those of a multivariate normal, whatever is missing."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.errors import InvalidSetting, InvalidTwin
from bayestwin.insight.information import PAIRS, information_of
from bayestwin.model.noise import Noise
from bayestwin.ppl.numpyro import numpyro_model
from bayestwin.ppl.pymc import pymc_model

LEFT, RIGHT, FAR = 0.3, 0.2, 0.25
"""Standard deviations of three sensors; the last multiplies."""

KNOWN = {("left", "right"): 0.8, ("left", "far"): -0.3, ("right", "far"): 0.2}


def sensors(**changes: object) -> bt.Twin:
    """A level that decays, seen by three sensors."""
    members = {
        "left": bt.Observation(bt.Gaussian(LEFT), of=lambda t, x, p, u: x.level, correlated={"right": "rho"}),
        "right": bt.Observation(bt.Proportional(RIGHT, 0.1), of=lambda t, x, p, u: 2.0 * x.level),
        "far": bt.Observation(
            bt.LogNormal(FAR), of=lambda t, x, p, u: x.level, correlated={"left": -0.3, "right": 0.2}
        ),
    }
    settings = {
        "states": {"level": bt.State(5.0)},
        "parameters": {"rate": bt.Parameter(dist.LogNormal(-0.5, 0.5)), "rho": bt.Parameter(dist.Uniform(-0.9, 0.9))},
        "observations": members,
    }
    return decay(**settings | changes)


def record(seed: int = 0, num: int = 30, missing: bool = True) -> dict[str, np.ndarray]:
    """Rows drawn from the model at rate 0.6 and correlation 0.8, by NumPy."""
    rng = np.random.default_rng(seed)
    times = np.linspace(0.0, 3.0, num)
    noise = rng.multivariate_normal(np.zeros(3), matrix(0.8), size=num)
    level = 5.0 * np.exp(-0.6 * times)
    rows = {"time": times, "left": level + LEFT * noise[:, 0]}
    rows["right"] = 2.0 * level + np.hypot(RIGHT, 0.2 * level) * noise[:, 1]
    rows["far"] = level * np.exp(FAR * noise[:, 2])
    if missing:
        for number, name in enumerate(("left", "right", "far")):
            rows[name][rng.permutation(num)[: 8 + number]] = np.nan
    return rows


def matrix(rho: float) -> np.ndarray:
    """Correlations of left, right and far."""
    return np.array([[1.0, rho, -0.3], [rho, 1.0, 0.2], [-0.3, 0.2, 1.0]])


def naive(rows: dict[str, np.ndarray], rate: float, rho: float) -> float:
    """The log likelihood, row by row, of what is there."""
    total = 0.0
    for at in range(len(rows["time"])):
        level = 5.0 * np.exp(-rate * rows["time"][at])
        centre = np.array([level, 2.0 * level, np.log(level)])
        scale = np.array([LEFT, np.hypot(RIGHT, 0.2 * level), FAR])
        seen = np.array([rows["left"][at], rows["right"][at], np.log(rows["far"][at])])
        there = np.isfinite(seen)
        if not there.any():
            continue
        covariance = (matrix(rho) * np.outer(scale, scale))[np.ix_(there, there)]
        total += stats.multivariate_normal(centre[there], covariance).logpdf(seen[there])
        total -= seen[2] if there[2] else 0.0
    return total


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.8])
def test_the_density_is_that_of_rows_whatever_is_missing(rho: float) -> None:
    rows = record()
    density = bound_density(sensors(), telemetry_of(rows))
    z = density.unconstrain({"rate": 0.6, "rho": rho})
    assert float(density.parts(z)[1]) == pytest.approx(naive(rows, 0.6, rho), rel=1e-8)


@pytest.mark.thorough
def test_gradients_are_those_of_finite_differences() -> None:
    density = bound_density(sensors(), telemetry_of(record()))
    z = density.unconstrain({"rate": 0.6, "rho": 0.7})
    gradient = np.asarray(jax.grad(density)(z))
    for i, unit in enumerate(np.eye(2)):
        there, here = float(density(z + 1e-5 * unit)), float(density(z - 1e-5 * unit))
        assert gradient[i] == pytest.approx((there - here) / 2e-5, rel=1e-5)


@pytest.mark.thorough
def test_draws_are_correlated_as_it_is_said() -> None:
    density = bound_density(sensors(), telemetry_of(record(num=4, missing=False)))
    values = {"rate": jnp.asarray(0.6), "rho": jnp.asarray(0.8)}
    predicted = density.predict(values)
    num = 4000
    drawn = jax.vmap(lambda key: density.draw(key, values, predicted))(jax.random.split(jax.random.key(0), num))
    scores = [np.asarray(drawn["left"]), np.asarray(drawn["right"]), np.log(drawn["far"])]
    found = np.array([np.corrcoef([score[:, row] for score in scores]) for row in range(4)])
    spread = np.hypot(RIGHT, 0.1 * np.asarray(predicted.noise_free["right"]))
    np.testing.assert_allclose(scores[1].std(axis=0), spread, rtol=4.0 / np.sqrt(2 * num))
    error = (1.0 - matrix(0.8) ** 2) / np.sqrt(num)  # of a sample correlation
    assert (np.abs(found - matrix(0.8)) <= 4.0 * error + 1e-12).all()


@pytest.mark.thorough
def test_correlation_is_inferred_and_numpyro_has_the_same_density() -> None:
    rows = record(num=200)
    telemetry = telemetry_of(rows)
    posterior = bt.calibrate(sensors(), telemetry, seed=0, method="laplace")["posterior"]
    density = bound_density(sensors(), telemetry)
    middle, spread = float(posterior["rho"].mean()), float(posterior["rho"].std())
    assert spread < 0.1
    assert abs(middle - 0.8) < 4.0 * spread
    for rate, rho in ((0.6, 0.5), (0.5, -0.6), (0.5, 0.899)):
        values = {"rate": jnp.asarray(rate), "rho": jnp.asarray(rho)}
        ours = float(density.priors.log_density(values)) + float(density.parts(density.unconstrain(values))[1])
        theirs = float(numpyro.infer.util.log_density(numpyro_model(sensors(), telemetry), (), {}, values)[0])
        assert theirs == pytest.approx(ours, rel=1e-10)


@pytest.mark.thorough
def test_experiments_are_correlated_each_by_its_own() -> None:
    rows = {"first": record(1), "second": record(2, num=17)}
    density = build_density(sensors(), bind_all(sensors(), {name: telemetry_of(own) for name, own in rows.items()}))
    z = density.unconstrain({"rate": 0.6, "rho": 0.4})
    found = float(density.parts(z)[1])
    assert found == pytest.approx(sum(naive(own, 0.6, 0.4) for own in rows.values()), rel=1e-8)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.6])
def test_what_data_can_tell_is_less_where_sensors_err_together(rho: float) -> None:
    """Two sensors of one number, each with unit noise, tell `2 / (1 + rho)` of it a row."""
    num = 50
    level = {"of": lambda t, x, p, u: x.level}
    twin = decay(
        states={"level": bt.State(dist.Normal(0.0, 10.0))},
        parameters={"rate": bt.Parameter(0.0)},
        observations={
            "a": bt.Observation(bt.Gaussian(1.0), **level, correlated={"b": rho}),
            "b": bt.Observation(bt.Gaussian(1.0), **level),
        },
    )
    rows = {"time": np.arange(float(num)), "a": np.zeros(num), "b": np.zeros(num)}
    density = bound_density(twin, telemetry_of(rows))
    z = jnp.zeros(1)
    slope = float(jax.jacfwd(lambda at: density.constrain(at)["level_initial"])(z)[0])
    found = information_of(density, seed=0)(np.asarray(z)[None])[0, 0, 0] / slope**2
    error = np.sqrt(2.0 / (PAIRS * 2 * num))  # of the mean square of as many scores
    assert found == pytest.approx(num * 2.0 / (1.0 + rho), rel=4.0 * error)


def test_impossible_correlations_have_no_density() -> None:
    twin = sensors()
    members = dict(twin.observations)
    members["far"] = bt.Observation(bt.LogNormal(FAR), of=members["far"].of, correlated={"left": -0.9, "right": 0.9})
    density = bound_density(sensors(observations=members), telemetry_of(record()))
    assert float(density(density.unconstrain({"rate": 0.6, "rho": 0.8}))) == -np.inf
    assert np.isfinite(float(density(density.unconstrain({"rate": 0.6, "rho": -0.8}))))


@pytest.mark.parametrize(
    ("correlated", "noise", "words"),
    [
        ({"nobody": 0.5}, bt.Gaussian(1.0), "no other observation"),
        ({"left": 0.5}, bt.Gaussian(1.0), "no other observation"),
        ({"right": 1.0}, bt.Gaussian(1.0), "by 1.0"),
        ({"right": "sigma"}, bt.Gaussian(1.0), "no parameter"),
        ({"right": 0.5}, bt.StudentT(1.0, 4.0), "StudentT of `left`"),
        ({"right": 0.5}, bt.Censored(bt.Gaussian(1.0), lower=0.0), "Censored of `left`"),
    ],
)
def test_what_cannot_be_correlated_is_refused(correlated: dict, noise: Noise, words: str) -> None:
    members = sensors().observations
    left = bt.Observation(noise, of=members["left"].of, correlated=correlated)
    with pytest.raises(InvalidTwin, match=re.escape(words)):
        sensors(observations={"left": left, "right": members["right"]})


def test_where_correlations_cannot_be_had_it_is_said() -> None:
    members = sensors().observations
    twice = {**members, "right": bt.Observation(bt.Gaussian(1.0), of=members["left"].of, correlated={"left": 0.1})}
    with pytest.raises(InvalidTwin, match="told twice"):
        sensors(observations=twice)
    alike = {name: bt.Observation(bt.Gaussian(1.0), of=members["left"].of) for name in ("left", "right")}
    alike["left"] = dataclasses.replace(alike["left"], correlated={"right": 0.5})
    with pytest.raises(InvalidTwin, match="and a model error"):
        sensors(observations=alike, model_error=bt.ProcessNoise({"level": 0.1}, initial_scale={"level": 1.0}))
    with pytest.raises(InvalidTwin, match="drawn here by itself"):
        pymc_model(sensors(), telemetry_of(record()))
    with pytest.raises(InvalidSetting, match="noise of observation"):
        bt.calibrate(sensors(), telemetry_of(record()), seed=0, method="map", loss="huber")
