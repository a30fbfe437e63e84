"""The log density of each noise model is SciPy's, far out in the tails too, and its derivative is a number."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from noise_models import CASES, STEP, TIMES, Case, limits_of
from scipy import integrate, stats

import bayestwin as bt
from bayestwin.model.noise.wrapped import log_above, log_below, log_between


def digits(name: str) -> float:
    """Relative tolerance: the logarithm of the beta function, as JAX computes it, has seven digits."""
    return 1e-6 if "negative binomial" in name else 1e-9


def expected(case: Case, observed: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Log density or probability by SciPy: of a point, of an interval where it is rounded, of a tail at a limit."""
    exact = case.scipy(value, TIMES)
    lower, upper, step = limits_of(case.noise)
    discrete = hasattr(exact.dist, "logpmf")
    if step:
        # in the tail in which the difference keeps its digits
        high, low = observed + step / 2, observed - step / 2
        found = np.log(np.where(low > value, exact.sf(low) - exact.sf(high), exact.cdf(high) - exact.cdf(low)))
    else:
        found = exact.logpmf(observed) if discrete else exact.logpdf(observed)
    found = np.where(observed <= lower, exact.logcdf(lower), found)
    beyond = exact.logsf(upper - 1 if discrete else upper - step / 2)
    return np.where(observed >= upper, beyond, found)


@functools.cache
def compiled(name: str) -> Callable:
    """(observed, value, parameters) → the sum of the log densities and its terms, and the derivatives of the sum."""
    case = CASES[name]

    def total(value: jax.Array, free: dict, observed: jax.Array) -> tuple[jax.Array, jax.Array]:
        terms = case.noise.log_likelihood(observed, value, TIMES, **known_of(name), **free)
        return terms.sum(), terms

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))


def known_of(name: str) -> dict[str, float]:
    return {"df": 4.0} if name == "censored student" else {}


def arguments(name: str) -> tuple[np.ndarray, dict, np.ndarray]:
    case = CASES[name]
    free = {key: value for key, value in case.given.items() if key not in known_of(name)}
    return np.array(case.value), free, np.array(case.observed)


@pytest.mark.parametrize("name", CASES)
def test_the_log_density_is_scipy_s(name: str) -> None:
    value, free, observed = arguments(name)
    (_, found), _ = compiled(name)(value, free, observed)
    np.testing.assert_allclose(found, expected(CASES[name], observed, value), rtol=digits(name), atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_a_missing_observation_adds_nothing_and_its_derivative_is_a_number(name: str) -> None:
    value, free, observed = arguments(name)
    terms = expected(CASES[name], observed, value)
    second = np.arange(5) == 1
    gap, impossible = np.where(second, np.nan, observed), np.where(second, np.nan, value)
    (total, _), slopes = compiled(name)(impossible, free, gap)
    assert float(total) == pytest.approx(terms.sum() - terms[1], rel=digits(name))
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    (nothing, _), _ = compiled(name)(impossible, free, np.full(5, np.nan))
    assert float(nothing) == 0.0


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_is_that_of_differences(name: str) -> None:
    value, free, observed = arguments(name)

    def total(point: np.ndarray) -> float:
        return float(compiled(name)(point[:5], dict(zip(free, point[5:], strict=True)), observed)[0][0])

    slope, slopes = compiled(name)(value, free, observed)[1]
    point = np.array([*value, *free.values()])
    steps = 1e-4 * np.maximum(np.abs(point), 0.1) * np.eye(point.size)
    for found, step in zip([*slope, *(slopes[key] for key in free)], steps, strict=True):
        near, far = (total(point + k * step) - total(point - k * step) for k in (1, 2))
        assert float(found) == pytest.approx((8.0 * near - far) / (12.0 * step.sum()), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("noise", [bt.Poisson(), bt.NegativeBinomial(2.0), bt.Binomial(10), bt.LogNormal(0.1)])
def test_an_impossible_value_is_impossible_whatever_was_observed(noise: object) -> None:
    given = dict(noise.parameters)
    # under jit, as everywhere: outside of it NumPyro checks values itself
    terms = jax.jit(lambda observed, value: noise.log_likelihood(observed, value, np.zeros(2), **given))
    drawn = jax.jit(lambda value: noise.sample(jax.random.key(0), value, np.zeros(2), **given))
    value = np.array([-1e-9, 0.5])
    for observed in (0.0, 1.0):
        assert np.isnan(terms(np.full(2, observed), value)[0])
    assert list(np.isnan(drawn(value))) == [True, False]


@pytest.mark.parametrize("noise", [bt.Poisson(), bt.NegativeBinomial(2.0), bt.Binomial(10)])
def test_no_count_where_none_is_expected_is_certain(noise: object) -> None:
    def term(value: jax.Array) -> jax.Array:
        return noise.log_likelihood(np.zeros(1), value, np.zeros(1), **noise.parameters)[0]

    value, slope = jax.value_and_grad(term)(jnp.zeros(1))
    assert float(value) == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(slope).all()


FAR = [
    (bt.Gaussian(1.0), stats.norm()),
    (bt.StudentT(1.0, 3.0), stats.t(3.0)),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("noise", "exact"), FAR, ids=["gaussian", "student"])
def test_tails_and_narrow_intervals_keep_their_digits(noise: object, exact: object) -> None:
    at = np.array([-30.0, -6.0, -0.1, 0.0, 0.1, 6.0, 30.0])

    def around(v: jax.Array) -> dist.Distribution:
        return noise.distribution(v, np.zeros(7), **noise.parameters)

    d = around(jnp.zeros(7))
    slope_of = jax.jit(
        lambda high: jax.grad(lambda v: log_between(around(v), jnp.asarray(at), high).sum())(jnp.zeros(7))
    )
    np.testing.assert_allclose(log_below(d, at), exact.logcdf(at), rtol=1e-7, atol=1e-300)
    np.testing.assert_allclose(log_above(d, at), exact.logsf(at), rtol=1e-7, atol=1e-300)
    for width in (1e-12, 1e-6, 1e-3, 0.1, 2.0):
        high = at + width
        mass = [np.log(integrate.quad(lambda u, a=a: exact.pdf(a + u) / exact.pdf(a), 0, width)[0]) for a in at]
        # the interval as it is stored: at 30 a step of 1e-12 is rounded itself
        mass = np.array(mass) + exact.logpdf(at) + np.log((high - at) / width)
        np.testing.assert_allclose(log_between(d, jnp.asarray(at), jnp.asarray(high)), mass, atol=1e-6)
        slope = slope_of(jnp.asarray(high))
        assert np.isfinite(slope).all()


@pytest.mark.thorough
def test_a_fine_step_is_no_step() -> None:
    plain, fine = bt.Gaussian(0.3), bt.Rounded(bt.Gaussian(0.3), 1e-6)
    value, observed = np.array([1.0, 1.0]), np.array([1.0, 6.0])
    a, b = (n.log_likelihood(observed, value, np.zeros(2), scale=0.3) for n in (plain, fine))
    np.testing.assert_allclose(b, a + np.log(1e-6), atol=1e-6)


@pytest.mark.parametrize("name", ["rounded", "censored, rounded, biased"])
def test_probabilities_of_all_readings_add_up(name: str) -> None:
    noise, given = CASES[name].noise, CASES[name].given
    readings = np.arange(-20, 30) * STEP
    readings = readings[readings <= limits_of(noise)[1]]
    at = np.full(readings.size, 2.3)
    total = np.exp(noise.log_likelihood(readings, at, np.zeros(readings.size), **given)).sum()
    assert total == pytest.approx(1.0, abs=1e-12)
