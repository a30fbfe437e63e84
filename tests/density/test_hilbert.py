"""Sums of sines against dense Gaussian processes: covariances, likelihoods with gaps, and conditional draws."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import bayestwin as bt
from bayestwin.density.discrepancy import HilbertProcess, build_process

PLACES = np.sort(np.random.default_rng(1).uniform(3.0, 13.0, 60))
SMOOTHNESS = {"matern32": 1.5, "matern52": 2.5}


def exact_kernel(kernel: str, apart: np.ndarray, length: float) -> np.ndarray:
    """Unit-variance covariances by their textbook formulas, those of Matérn by Bessel functions."""
    if kernel == "squared_exponential":
        return np.exp(-0.5 * (apart / length) ** 2)
    nu = SMOOTHNESS[kernel]
    scaled = np.sqrt(2.0 * nu) * np.maximum(np.abs(apart), 1e-12) / length
    return 2.0 ** (1.0 - nu) / special.gamma(nu) * scaled**nu * special.kv(nu, scaled)


def process_of(observed: np.ndarray | None = None, kernel: str = "matern52", length: object = 2.0) -> HilbertProcess:
    """A process at `PLACES`."""
    seen = np.ones(len(PLACES), bool) if observed is None else observed
    error = bt.Discrepancy(scale={"level": 1.0}, length={"level": length}, kernel=kernel)
    return build_process(error, "level", PLACES, seen)


@pytest.mark.parametrize("kernel", ["squared_exponential", "matern52", "matern32"])
def test_covariances_are_those_of_the_kernel_over_the_plausible_lengths(kernel: str) -> None:
    """The rule for the number of functions promises about 1 % of the variance; 2 % is what is asked here."""
    process = process_of(kernel=kernel, length=dist.LogNormal(0.5, 0.4))
    for length in np.exp(0.5 + 0.4 * stats.norm.ppf([0.02, 0.5, 0.98])):
        factor = np.asarray(process.factor(1.5, length))
        exact = 1.5**2 * exact_kernel(kernel, PLACES[:, None] - PLACES, length)
        np.testing.assert_allclose(factor @ factor.T, exact, atol=0.02 * 1.5**2)


def test_the_likelihood_is_that_of_a_dense_normal_with_gaps() -> None:
    observed = np.arange(len(PLACES)) % 4 != 1
    process = process_of(observed)
    residuals = np.where(observed, np.random.default_rng(2).normal(size=len(PLACES)), np.nan)
    factor = np.asarray(process.factor(0.7, 2.3))[observed]
    covariance = factor @ factor.T + 0.4**2 * np.eye(observed.sum())
    expected = stats.multivariate_normal(np.zeros(observed.sum()), covariance).logpdf(residuals[observed])
    assert float(process.log_likelihood(residuals, 0.4, 0.7, 2.3)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.thorough
def test_gradients_are_finite_where_the_kernel_leaves_a_function_nothing() -> None:
    process = process_of(kernel="squared_exponential", length=dist.LogNormal(0.5, 0.7))
    residuals = np.random.default_rng(2).normal(size=len(PLACES))
    gradient = jax.grad(lambda p: process.log_likelihood(residuals, *p))
    for point in ((0.4, 0.7, 40.0), (0.4, 1e-8, 2.0), (1e-3, 0.7, 2.0)):
        assert np.isfinite(gradient(point)).all(), point


@pytest.mark.thorough
def test_draws_are_those_of_the_conditional_normal() -> None:
    observed = np.arange(len(PLACES)) < 40
    process = process_of(observed)
    residuals = np.where(observed, np.sin(PLACES), np.nan)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: process.draw(key, residuals, 0.2, 1.0, 2.0))(keys))
    factor = np.asarray(process.factor(1.0, 2.0))
    prior = factor @ factor.T
    gain = prior[:, observed] @ np.linalg.inv(prior[np.ix_(observed, observed)] + 0.04 * np.eye(40))
    mean, covariance = gain @ residuals[observed], prior - gain @ prior[observed]
    error = np.sqrt(np.diag(covariance) / len(drawn))
    assert (np.abs(drawn.mean(0) - mean) < 5.0 * error).all()
    ratio = drawn.var(0) / np.diag(covariance)
    assert (np.abs(ratio - 1.0) < 5.0 * np.sqrt(2.0 / len(drawn))).all()
    assert ratio.size == 60


def test_lengths_that_need_too_many_functions_are_an_error() -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=r"(?s)`level` is too fine.*400 functions.*keep further away"):
        process_of(length=dist.HalfNormal(1.0))
    given = bt.Discrepancy({"level": 1.0}, {"level": dist.HalfNormal(1.0)}, num_basis=30)
    assert build_process(given, "level", PLACES, np.ones(60, bool)).basis.shape == (60, 30)
