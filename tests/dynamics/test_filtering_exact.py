"""For affine twins the filter is exact: likelihood, smoothed states and forecasts are those of one dense normal."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import expm
from scipy.stats import multivariate_normal
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density
from bayestwin.dynamics.filter import Filter
from bayestwin.dynamics.grid import build_grid
from bayestwin.dynamics.kalman import Normals

VALUES = {"rate": 0.7, "gain": 1.3, "warm_initial": 0.4, "warm_scale": 0.2, "both_scale": 0.3}
VALUES |= {"warm_diffusion": 0.5, "warm_initial_scale": 0.3}
NUM = 14


def pair_field(t, x, p, u):
    warm = -p.rate * x.warm + 0.2 * x.cold + u.sloped
    return {"warm": warm, "cold": 0.5 * x.warm - 0.4 * x.cold + p.gain * u.stepped + 0.1 * t}


def pair(word: str = "auto", rtol: float = 1e-6) -> bt.Twin:
    """Two states, of which one is disturbed, two inputs, and two sensors, one of which sees all of that."""
    positive = dist.HalfNormal(1.0)
    return bt.Twin(
        name="pair",
        vector_field=pair_field,
        states={"warm": bt.State(dist.Normal(0.0, 1.0)), "cold": bt.State(1.0)},
        parameters={"rate": bt.Parameter(positive), "gain": bt.Parameter(dist.Normal(1.0, 1.0))},
        inputs={"stepped": bt.Input(hold="previous"), "sloped": bt.Input()},
        observations={
            "warm": bt.Observation(bt.Gaussian(positive)),
            "both": bt.Observation(bt.Gaussian(positive), of=lambda t, x, p, u: x.warm + 2.0 * x.cold + u.stepped),
        },
        solver=bt.Solver("tsit5", rtol, rtol / 100.0),
        model_error=bt.ProcessNoise({"warm": positive}, {"warm": positive}, word),
    )


@functools.cache
def pair_telemetry() -> bt.Telemetry:
    """Irregular times, at some of which one sensor or both are missing; at the last one the held input changes."""
    rng = np.random.default_rng(5)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.05, 1.5, NUM - 1))])
    columns = {"time": times} | {name: rng.normal(size=NUM) for name in ("stepped", "sloped", "warm", "both")}
    columns["warm"][[3, 4, 8, NUM - 2, NUM - 1]] = np.nan
    columns["both"][[0, 4, 5, NUM - 2]] = np.nan
    return telemetry_of(columns)


class Dense(NamedTuple):
    """All states at all times, and all observations that are there, as one normal."""

    mean: np.ndarray
    covariance: np.ndarray
    seen: np.ndarray
    seen_mean: np.ndarray
    seen_slope: np.ndarray
    noise: np.ndarray

    def given_seen(self) -> tuple[np.ndarray, np.ndarray]:
        shared = self.covariance @ self.seen_slope.T
        gain = shared @ np.linalg.inv(self.seen_slope @ shared + self.noise)
        return self.mean + gain @ (self.seen - self.seen_mean), self.covariance - gain @ shared.T


def dense_pair() -> Dense:
    """By Van Loan's matrix exponentials, one for each interval, and products of what they give."""
    v, table = VALUES, pair_telemetry().table
    times, u = table.index.to_numpy(), {name: table[name].to_numpy() for name in table}
    matrix = np.array([[-v["rate"], 0.2], [0.5, -0.4]])
    spread = np.diag([v["warm_diffusion"] ** 2, 0.0])
    zero, one = np.zeros((2, 2)), np.eye(2)
    forced = np.block([[matrix, one, zero], [zero, zero, one], [zero, zero, zero]])
    mean, covariance = np.zeros((NUM, 2)), np.zeros((NUM, 2, NUM, 2))
    mean[0], covariance[0, :, 0, :] = (v["warm_initial"], 1.0), np.diag([v["warm_initial_scale"] ** 2, 0.0])
    for k, span in enumerate(np.diff(times)):
        begin = np.array([u["sloped"][k], v["gain"] * u["stepped"][k] + 0.1 * times[k]])
        rate = np.array([(u["sloped"][k + 1] - u["sloped"][k]) / span, 0.1])
        step = expm(forced * span)[:2]
        loan = expm(np.block([[-matrix, spread], [zero, matrix.T]]) * span)
        transition = step[:, :2]
        mean[k + 1] = step @ np.concatenate([mean[k], begin, rate])
        covariance[k + 1, :, : k + 1] = np.einsum("ij,jab->iab", transition, covariance[k, :, : k + 1])
        covariance[: k + 1, :, k + 1] = np.moveaxis(covariance[k + 1, :, : k + 1], 0, 2)
        covariance[k + 1, :, k + 1] = transition @ covariance[k, :, k] @ transition.T + loan[2:, 2:].T @ loan[:2, 2:]
    rows, means, seen, noise = [], [], [], []
    for name, slope, shift in (("warm", [1.0, 0.0], 0.0 * times), ("both", [1.0, 2.0], u["stepped"])):
        for k in np.flatnonzero(np.isfinite(u[name])):
            row = np.zeros((NUM, 2))
            row[k] = slope
            rows.append(row.ravel())
            means.append(row.ravel() @ mean.ravel() + shift[k])
            seen.append(u[name][k])
            noise.append(v[f"{name}_scale"] ** 2)
    flat = covariance.reshape(2 * NUM, 2 * NUM)
    return Dense(mean.ravel(), flat, np.array(seen), np.array(means), np.array(rows), np.diag(noise))


def vented_field(t, x, p, u):
    """As `pair_field`, with a rate that depends on a held input."""
    return pair_field(t, x, p, u) | {"cold": 0.5 * x.warm - 0.4 * jnp.exp(0.3 * u.stepped) * x.cold + 0.1 * t}


def filter_of(twin: bt.Twin, telemetry: bt.Telemetry | None = None) -> Filter:
    bound = bind(twin, telemetry or pair_telemetry())
    return Filter(twin, build_grid(twin, bound.times, bound.times, bound.inputs), bound.observations)


def log_likelihood(density: Density) -> float:
    return float(jax.jit(density.parts)(density.unconstrain(VALUES))[1])


def test_the_log_likelihood_is_that_of_the_dense_normal() -> None:
    dense = dense_pair()
    expected = multivariate_normal.logpdf(
        dense.seen, dense.seen_mean, dense.seen_slope @ dense.covariance @ dense.seen_slope.T + dense.noise
    )
    assert log_likelihood(bound_density(pair(), pair_telemetry())) == pytest.approx(expected, rel=1e-8)


@pytest.mark.thorough
def test_draws_have_the_mean_and_covariance_of_the_states_given_all_that_was_observed() -> None:
    mean, covariance = dense_pair().given_seen()
    stops = filter_of(pair())
    nothing = Normals(jnp.zeros(2), jnp.zeros((NUM, 2)), jnp.zeros((NUM, 2)))

    def states(normals: Normals) -> jax.Array:
        return stops.along(VALUES, normals).states.ravel()

    np.testing.assert_allclose(jax.jit(states)(nothing), mean, rtol=1e-8, atol=1e-10)
    # a draw is a linear function of independent standard normals: its slope is a root of the covariance
    slopes = jax.tree.leaves(jax.jit(jax.jacfwd(states))(nothing))
    spread = np.concatenate([np.reshape(slope, (2 * NUM, -1)) for slope in slopes], axis=1)
    np.testing.assert_allclose(spread @ spread.T, covariance, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("word", ["extended", "unscented"])
def test_the_other_filters_agree_on_an_affine_twin(word: str) -> None:
    exact, other = (jax.jit(filter_of(twin).expect)(VALUES) for twin in (pair(), pair(word, 1e-10)))
    assert bool(other.solved)
    np.testing.assert_allclose(other.moments, exact.moments, rtol=1e-6, atol=1e-7)


@pytest.mark.thorough
def test_held_inputs_may_be_in_the_matrix() -> None:
    twins = [dataclasses.replace(pair(word, 1e-10), vector_field=vented_field) for word in ("auto", "extended")]
    regular = pair_telemetry().table.reset_index().assign(time=0.5 * np.arange(NUM))
    exact, other = (jax.jit(filter_of(twin, telemetry_of(regular)).expect)(VALUES) for twin in twins)
    assert (int(exact.num_steps), int(other.num_steps) > 0) == (0, True)
    np.testing.assert_allclose(other.moments, exact.moments, rtol=1e-6, atol=1e-7)


def test_without_disturbance_the_likelihood_is_that_of_the_equations_alone() -> None:
    times = np.linspace(0.0, 3.0, 9)
    telemetry = telemetry_of({"time": times, "level": 5.0 * np.exp(-0.8 * times) + 0.1 * np.cos(9.0 * times)})
    plain, still = (decay(model_error=error) for error in (None, bt.ProcessNoise({"level": 0.0})))
    z = jnp.array([0.1, 4.9, -1.0])
    likelihoods = [jax.jit(bound_density(twin, telemetry).parts)(z)[1] for twin in (plain, still)]
    assert float(likelihoods[1]) == pytest.approx(float(likelihoods[0]), rel=1e-4)


@pytest.mark.thorough
def test_a_forecast_widens_as_an_ornstein_uhlenbeck_process_does() -> None:
    rate, diffusion, scale = 0.3, 0.7, 0.2
    twin = decay(
        parameters={"rate": bt.Parameter(rate)},
        states={"level": bt.State(2.0)},
        observations={"level": bt.Observation(bt.Gaussian(scale))},
        model_error=bt.ProcessNoise({"level": diffusion}),
    )
    times = np.array([0.0, 1.0, 1.5, 2.5, 6.0])
    observations = {"level": np.array([np.nan, 2.5, np.nan, np.nan, np.nan])}
    stops = Filter(twin, build_grid(twin, times, times, {}), observations)

    def spread(span: float) -> float:
        return diffusion**2 * (1.0 - np.exp(-2.0 * rate * span)) / (2.0 * rate)

    known = 1.0 / (1.0 / spread(1.0) + 1.0 / scale**2)
    nothing = Normals(jnp.zeros(1), jnp.zeros((5, 1)), jnp.zeros((5, 1)))
    slopes = jax.tree.leaves(jax.jacfwd(lambda n: stops.along({}, n).states.ravel())(nothing))
    variance = sum(np.sum(np.reshape(slope, (5, -1)) ** 2, axis=1) for slope in slopes)
    ahead = [known * np.exp(-2.0 * rate * (t - 1.0)) + spread(t - 1.0) for t in times[1:]]
    np.testing.assert_allclose(variance, [0.0, *ahead], rtol=1e-8, atol=1e-14)
