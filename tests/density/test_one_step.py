"""Each observation given those before it: densities add up to that of all, and probabilities are those of a normal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.density.density import Density
from bayestwin.density.onestep import look, one_step, tails
from bayestwin.density.robust import LeastFavourable
from bayestwin.model.noise.wrapped import CensoredDistribution, RoundedDistribution

TIMES = np.linspace(0.0, 4.0, 24)
LEVEL = 5.0 * np.exp(-0.8 * TIMES) + 0.3 * np.random.default_rng(1).standard_normal(24).cumsum()
LEVEL[[3, 4, 11]] = np.nan
SEEN = np.isfinite(LEVEL)


def conditionals(mean: np.ndarray, covariance: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Standard normal score of each entry given those before it, by a Cholesky factor."""
    return np.linalg.solve(np.linalg.cholesky(covariance), seen - mean)


def started(**changes: object) -> bt.Twin:
    """The decay from a known level, solved exactly."""
    return decay(**{"states": {"level": bt.State(5.0, unit="m")}, "solver": bt.Solver(method="exact"), **changes})


def looked(density: Density, values: dict[str, float]) -> dict[str, tuple[np.ndarray, ...]]:
    found, reached = look(density, {name: np.array([value]) for name, value in values.items()})
    assert np.asarray(reached).all()
    return {name: tuple(np.asarray(part)[0] for part in own) for name, own in found.items()}


def check(density: Density, values: dict[str, float], z: np.ndarray, total: float) -> None:
    log_density, below, above = looked(density, values)["level"]
    assert (log_density[~SEEN] == 0.0).all()
    assert log_density.sum() == pytest.approx(total, rel=1e-9)
    np.testing.assert_allclose(below[SEEN], stats.norm.logcdf(z), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(above[SEEN], stats.norm.logsf(z), rtol=1e-7, atol=1e-9)


def test_of_independent_noise_it_is_the_noise() -> None:
    density = bound_density(started(), telemetry_of({"time": TIMES, "level": LEVEL}))
    values = {"rate": 0.8, "level_scale": 0.4}
    z = (LEVEL - 5.0 * np.exp(-0.8 * TIMES))[SEEN] / 0.4
    check(density, values, z, stats.norm.logpdf(z).sum() - z.size * np.log(0.4))


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_of_noise_that_remembers_it_is_what_the_past_leaves_open(bias: float) -> None:
    noise = bt.Autocorrelated(scale=0.5, correlation_time=0.7, nugget=0.1)
    twin = started(observations={"level": bt.Observation(bt.Biased(noise, bias=bias) if bias else noise, unit="m")})
    density = bound_density(twin, telemetry_of({"time": TIMES, "level": LEVEL}))
    t = TIMES[SEEN]
    covariance = 0.25 * np.exp(-np.abs(t[:, None] - t) / 0.7) + 0.01 * np.eye(t.size)
    mean = 5.0 * np.exp(-0.8 * t) + bias
    total = stats.multivariate_normal(mean, covariance).logpdf(LEVEL[SEEN])
    check(density, {"rate": 0.8}, conditionals(mean, covariance, LEVEL[SEEN]), total)


def test_of_process_noise_it_is_what_the_filter_expects() -> None:
    twin = dataclasses.replace(started(), model_error=bt.ProcessNoise({"level": 0.6}))
    density = bound_density(twin, telemetry_of({"time": TIMES, "level": LEVEL}))
    t = TIMES[SEEN]
    least = np.minimum(t[:, None], t)
    spread = 0.36 / 1.6 * (np.exp(-0.8 * np.abs(t[:, None] - t)) - np.exp(-0.8 * (t[:, None] + t)))
    assert (spread[least == 0.0] == 0.0).all()
    covariance, mean = spread + 0.16 * np.eye(t.size), 5.0 * np.exp(-0.8 * t)
    total = stats.multivariate_normal(mean, covariance).logpdf(LEVEL[SEEN])
    check(density, {"rate": 0.8, "level_scale": 0.4}, conditionals(mean, covariance, LEVEL[SEEN]), total)


def test_of_a_discrepancy_it_is_what_the_process_leaves_open() -> None:
    error = bt.Discrepancy(scale={"level": 0.5}, length={"level": 1.0})
    density = bound_density(
        dataclasses.replace(started(), model_error=error), telemetry_of({"time": TIMES, "level": LEVEL})
    )
    root = np.asarray(density.discrepancies.factor("level", {}))[SEEN]
    covariance, mean = root @ root.T + 0.16 * np.eye(SEEN.sum()), 5.0 * np.exp(-0.8 * TIMES[SEEN])
    total = stats.multivariate_normal(mean, covariance).logpdf(LEVEL[SEEN])
    check(density, {"rate": 0.8, "level_scale": 0.4}, conditionals(mean, covariance, LEVEL[SEEN]), total)


def test_of_correlated_sensors_it_is_given_those_named_before_in_the_row() -> None:
    twin = started(
        observations={
            "left": bt.Observation(bt.Gaussian(0.3), of=lambda t, x, p, u: x.level, correlated={"right": 0.8}),
            "right": bt.Observation(bt.Gaussian(0.2), of=lambda t, x, p, u: 2.0 * x.level),
        }
    )
    left, right = LEVEL, 2.0 * LEVEL[::-1]
    density = bound_density(twin, telemetry_of({"time": TIMES, "left": left, "right": right}))
    found = looked(density, {"rate": 0.8})
    level = 5.0 * np.exp(-0.8 * TIMES)
    first = (left - level) / 0.3
    told = np.where(np.isfinite(first), 0.8 * first, 0.0)
    z = ((right - 2.0 * level) / 0.2 - told) / np.where(np.isfinite(first), 0.6, 1.0)
    both = np.isfinite(right)
    np.testing.assert_allclose(found["left"][1][SEEN], stats.norm.logcdf(first[SEEN]), rtol=1e-8)
    np.testing.assert_allclose(found["right"][1][both], stats.norm.logcdf(z[both]), rtol=1e-8)
    np.testing.assert_allclose(found["right"][2][both], stats.norm.logsf(z[both]), rtol=1e-8, atol=1e-12)


@pytest.mark.thorough
def test_what_readings_are_off_by_is_added_to_what_is_expected() -> None:
    density = bound_density(started(), telemetry_of({"time": TIMES, "level": LEVEL}))
    values = {"rate": jnp.asarray(0.8), "level_scale": jnp.asarray(0.4)}
    predicted = density.predict(values)
    plain = bound_density(started(), telemetry_of({"time": TIMES, "level": LEVEL - 0.7}))
    moved = one_step(density, values, predicted, {"level": 0.7})["level"]
    without = one_step(density, values, predicted, {"level": 0.7}, probable=False)["level"]
    there = one_step(plain, values, predicted)["level"]
    for part in range(3):
        np.testing.assert_allclose(moved[part][SEEN], there[part][SEEN], rtol=1e-8)
    np.testing.assert_allclose(without.log_density, moved.log_density)


COUNTS = np.arange(0.0, 12.0)
VALUES = np.linspace(-3.0, 4.0, 15)

DISTRIBUTIONS = {
    "Poisson": (dist.Poisson(4.0), stats.poisson(4.0), COUNTS),
    "negative binomial": (dist.NegativeBinomial2(4.0, 2.0), stats.nbinom(2.0, 2.0 / 6.0), COUNTS),
    "binomial": (dist.BinomialProbs(0.3, 11), stats.binom(11, 0.3), COUNTS),
    "Student": (dist.StudentT(4.0, 0.5, 1.2), stats.t(4.0, 0.5, 1.2), VALUES),
    "gamma": (dist.Gamma(2.0, 0.5), stats.gamma(2.0, scale=2.0), VALUES[7:]),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_tails_are_those_of_scipy(name: str) -> None:
    ours, theirs, values = DISTRIBUTIONS[name]
    below, above = tails(ours, jnp.asarray(values))
    np.testing.assert_allclose(np.exp(below), theirs.cdf(values), atol=1e-9)
    np.testing.assert_allclose(np.exp(above), theirs.sf(values - (values is COUNTS)), atol=1e-9)


def test_tails_of_limits_and_steps_hold_what_lies_there() -> None:
    normal = dist.Normal(jnp.full(4, 0.4), 1.0)
    below, above = tails(CensoredDistribution(normal, -1.0, 1.5), jnp.array([-1.0, 0.0, 1.0, 1.5]))
    edges = stats.norm.cdf(np.array([-1.0, 0.0, 1.0, 1.5]) - 0.4)
    np.testing.assert_allclose(np.exp(below), [edges[0], edges[1], edges[2], 1.0], rtol=1e-12)
    np.testing.assert_allclose(np.exp(above), [1.0, *(1.0 - edges[1:])], rtol=1e-12)
    below, above = tails(RoundedDistribution(normal, 0.5), jnp.array([-1.0, 0.0, 1.0, 1.5]))
    mass = np.exp(RoundedDistribution(normal, 0.5).log_prob(jnp.array([-1.0, 0.0, 1.0, 1.5])))
    np.testing.assert_allclose(np.exp(below) + np.exp(above) - 1.0, mass, atol=1e-12)


def test_tails_of_the_least_favourable_density_are_its_integral() -> None:
    one = LeastFavourable(1.3, 0.5, 0.7)
    grid = np.linspace(-12.0, 13.0, 200_001)
    density = np.exp(np.asarray(one.log_prob(jnp.asarray(grid))))
    integral = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0 * np.diff(grid))])
    at = np.array([-4.0, -0.5, 0.4, 0.5, 1.2, 1.5, 5.0])
    below, above = tails(one, jnp.asarray(at))
    np.testing.assert_allclose(np.exp(below), np.interp(at, grid, integral), atol=2e-6)
    np.testing.assert_allclose(np.exp(below) + np.exp(above), 1.0, atol=1e-12)


def test_a_noise_that_remembers_and_does_not_say_so_is_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(bt.Gaussian):
        independent = False

    with pytest.raises(NotImplementedError, match="`Odd` does not say what one observation is"):
        Odd(0.1).given_before(jnp.zeros(2), jnp.zeros(2), jnp.arange(2.0), scale=0.1)


def test_draws_that_cannot_be_solved_count_no_more() -> None:
    def explode(t, x, p, u):
        return {"level": p.rate * x.level**2}

    density = bound_density(
        started(vector_field=explode, solver=bt.Solver()), telemetry_of({"time": TIMES, "level": LEVEL})
    )
    found, reached = look(density, {"rate": np.array([0.01, 1.0]), "level_scale": np.array([0.4, 0.4])})
    far = ~np.asarray(reached)[1]
    assert far.any()
    assert np.asarray(reached)[0].all()
    assert (np.asarray(found["level"].log_density)[1][far & SEEN] == -np.inf).all()
    assert jax.tree.all(jax.tree.map(lambda own: np.isfinite(np.asarray(own)[0][SEEN]).all(), found))
