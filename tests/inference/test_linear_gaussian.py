"""A twin linear in its unknowns, with Gaussian noise, has a normal posterior and predictive in closed form: ours."""

from typing import NamedTuple

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay_telemetry, known_decay_posterior, telemetry_of

import bayestwin as bt


class Normal(NamedTuple):
    """A normal distribution of the unknowns, and what the draws are held against it with."""

    mean: np.ndarray
    covariance: np.ndarray


def posterior_of(design: np.ndarray, y: np.ndarray, scale: float, prior: Normal) -> Normal:
    """Posterior of θ for `y = design @ θ + N(0, scale²)`; design has shape (n, k)."""
    precision = np.linalg.inv(prior.covariance) + design.T @ design / scale**2
    covariance = np.linalg.inv(precision)
    return Normal(covariance @ (np.linalg.solve(prior.covariance, prior.mean) + design.T @ y / scale**2), covariance)


def check_moments(draws: np.ndarray, exact: Normal) -> None:
    """Mean and covariance of draws, shape (k, chain, draw), within 4 Monte Carlo standard errors."""
    off = draws - exact.mean[:, None, None]
    for i, row in enumerate(off):
        assert abs(row.mean()) < 4 * float(az.mcse(draws[i], method="mean"))
        for j, other in enumerate(off[: i + 1]):
            product = row * other
            assert abs(product.mean() - exact.covariance[i, j]) < 4 * float(az.mcse(product, method="mean"))


def test_decay_from_an_unknown_level() -> None:
    telemetry = decay_telemetry()
    faded = np.exp(-0.8 * telemetry.table.index.to_numpy())[:, None]
    exact = posterior_of(faded, telemetry.table["level"].to_numpy(), 0.3, Normal(np.array([5.0]), np.eye(1)))
    check_moments(known_decay_posterior()["posterior/level_initial"].values[None], exact)


# A ramp whose slope and curvature are unknown, pushed by a known input: x' = slope + curve · t + push.
NAMES = ["slope", "curve", "level_initial"]
PRIOR = Normal(np.array([1.0, 0.0, 2.0]), np.diag([1.0, 0.25, 4.0]))
SCALE = 0.5
TIMES = np.sort(np.random.default_rng(0).uniform(0.0, 6.0, 40))
TIMES[0] = 0.0
PUSH = np.cos(3.0 * TIMES)
CUT = 25  # samples before it are calibrated, those from it on predicted


def design(times: np.ndarray) -> np.ndarray:
    return np.stack([times, times**2 / 2, np.ones_like(times)], axis=1)


def pushed() -> np.ndarray:
    """What the input adds: it is interpolated, so that the trapezoidal rule is exact."""
    return np.concatenate([[0.0], np.cumsum(np.diff(TIMES) * (PUSH[1:] + PUSH[:-1]) / 2)])


@pytest.fixture(scope="module")
def ramp() -> tuple[bt.Twin, np.ndarray, xr.DataTree]:
    """The twin, its observations (three of them missing), and its posterior."""
    twin = bt.Twin(
        name="ramp",
        vector_field=lambda t, x, p, u: {"level": p.slope + p.curve * t + u.push},
        states={"level": bt.State(dist.Normal(2.0, 2.0))},
        parameters={"slope": bt.Parameter(dist.Normal(1.0, 1.0)), "curve": bt.Parameter(dist.Normal(0.0, 0.5))},
        inputs={"push": bt.Input()},
        observations={"level": bt.Observation(bt.Gaussian(SCALE))},
    )
    rng = np.random.default_rng(1)
    y = design(TIMES) @ np.array([0.5, -0.4, 3.0]) + pushed() + SCALE * rng.standard_normal(TIMES.size)
    y[[2, 7, 11]] = np.nan
    telemetry = telemetry_of({"time": TIMES[:CUT], "level": y[:CUT], "push": PUSH[:CUT]})
    return twin, y, bt.calibrate(twin, telemetry, seed=0)


def exact_posterior(y: np.ndarray) -> Normal:
    rows = np.flatnonzero(np.isfinite(y[:CUT]))
    return posterior_of(design(TIMES)[rows], (y - pushed())[rows], SCALE, PRIOR)


def test_the_posterior_of_a_ramp(ramp: tuple) -> None:
    _, y, posterior = ramp
    draws = np.stack([posterior["posterior"][name].values for name in NAMES])
    check_moments(draws, exact_posterior(y))
    assert not posterior["sample_stats/diverging"].any()


def test_the_prediction_of_a_ramp(ramp: tuple) -> None:
    twin, y, posterior = ramp
    future = telemetry_of({"time": TIMES[CUT:], "push": PUSH[CUT:]})
    found = bt.predict(twin, posterior, future, seed=1, draws=4000)["predictions"]
    exact, ahead = exact_posterior(y), design(TIMES[CUT:])
    mean = ahead @ exact.mean + pushed()[CUT:]
    spread = np.einsum("ni,ij,nj->n", ahead, exact.covariance, ahead)
    for name, variance in (("level_noise_free", spread), ("level_state", spread), ("level", spread + SCALE**2)):
        for at in range(0, mean.size, 3):
            draws = found[name].values[:, :, at]
            check_moments(draws[None], Normal(mean[[at]], variance[[at]][:, None]))


def test_the_fitted_values_of_a_ramp(ramp: tuple) -> None:
    _, y, posterior = ramp
    found = posterior["posterior_predictive"]
    exact, rows = exact_posterior(y), design(TIMES[:CUT])
    mean = rows @ exact.mean + pushed()[:CUT]
    spread = np.einsum("ni,ij,nj->n", rows, exact.covariance, rows)
    for name, variance in (("level_noise_free", spread), ("level", spread + SCALE**2)):
        for at in range(0, CUT, 6):
            draws = found[name].values[:, :, at]
            check_moments(draws[None], Normal(mean[[at]], variance[[at]][:, None]))


def test_the_log_likelihood_of_a_ramp(ramp: tuple) -> None:
    _, y, posterior = ramp
    draws = np.stack([posterior["posterior"][name].values for name in NAMES], axis=-1)
    present = np.flatnonzero(np.isfinite(y[:CUT]))
    off = (y[present] - draws @ design(TIMES[present]).T - pushed()[present]) / SCALE
    expected = -0.5 * off**2 - np.log(SCALE * np.sqrt(2 * np.pi))
    found = posterior["log_likelihood/level"]
    np.testing.assert_array_equal(found["time"], TIMES[present])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
