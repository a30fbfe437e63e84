"""Autocorrelated noise has the joint density of a dense multivariate normal, at any times, and draws from it."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidSetting

RNG = np.random.default_rng(3)
TIMES = np.cumsum(RNG.uniform(0.01, 2.0, 12))
VALUE, OBSERVED = RNG.normal(size=(2, 12))
NOISE = bt.Autocorrelated(0.7, 1.5)


def covariance(times: np.ndarray, nugget: float) -> np.ndarray:
    return 0.49 * np.exp(-np.abs(times[:, None] - times) / 1.5) + nugget**2 * np.eye(times.size)


@pytest.mark.parametrize("nugget", [0.0, 0.4])
@pytest.mark.parametrize("missing", [[], [0], [3, 4, 5, 9], [11]])
def test_its_terms_are_conditional_densities_that_add_up_to_the_joint_one(nugget: float, missing: list) -> None:
    observed, value = OBSERVED.copy(), VALUE.copy()
    observed[missing] = value[missing] = np.nan
    found = NOISE.log_likelihood(observed, value, TIMES, scale=0.7, correlation_time=1.5, nugget=nugget)
    rows = np.delete(np.arange(12), missing)
    whole = covariance(TIMES[rows], nugget)
    off = (OBSERVED - VALUE)[rows]
    upto = range(1, rows.size + 1)
    joint = [stats.multivariate_normal.logpdf(off[:n], cov=whole[:n, :n]) for n in upto]
    np.testing.assert_allclose(np.asarray(found)[rows], np.diff(joint, prepend=0.0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(found)[missing], 0.0)


def test_evenly_spaced_it_is_the_ar1_recursion() -> None:
    times = np.arange(12.0)
    share = np.exp(-1.0 / 1.5)
    off = OBSERVED - VALUE
    spread = 0.7 * np.sqrt(1.0 - share**2)
    expected = [stats.norm.logpdf(off[0], 0.0, 0.7), *stats.norm.logpdf(off[1:], share * off[:-1], spread)]
    found = NOISE.log_likelihood(OBSERVED, VALUE, times, **NOISE.parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.thorough
def test_with_gaps_all_derivatives_are_numbers_and_those_of_the_dense_normal() -> None:
    rows = np.array([0, 1, 2, 4, 5, 7, 8, 9, 10, 11])
    observed, value = OBSERVED.copy(), VALUE.copy()
    observed[[3, 6]] = value[[3, 6]] = np.nan
    off = jnp.asarray((OBSERVED - VALUE)[rows])
    apart = jnp.abs(TIMES[rows][:, None] - TIMES[rows][None, :])

    def dense(p: jax.Array) -> jax.Array:
        cov = p[0] ** 2 * jnp.exp(-apart / p[1]) + p[2] ** 2 * jnp.eye(10)
        return jax.scipy.stats.multivariate_normal.logpdf(off, jnp.zeros(10), cov)

    def ours(p: jax.Array) -> jax.Array:
        return NOISE.log_likelihood(observed, value, TIMES, scale=p[0], correlation_time=p[1], nugget=p[2]).sum()

    point = jnp.array([0.7, 1.5, 0.4])
    for derivative in (jax.grad, jax.hessian):
        found, exact = (jax.jit(derivative(function))(point) for function in (ours, dense))
        np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("nugget", [0.0, 0.4])
def test_its_draws_have_its_covariance(nugget: float) -> None:
    num, times = 20_000, TIMES[:5]
    keys = jax.random.split(jax.random.key(2), num)
    given = {"scale": 0.7, "correlation_time": 1.5, "nugget": nugget}
    off = np.asarray(jax.jit(jax.vmap(lambda key: NOISE.sample(key, VALUE[:5], times, **given)))(keys)) - VALUE[:5]
    exact = covariance(times, nugget)
    # the variance of a product of two normals is v₁ v₂ + c²
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / num)
    assert (np.abs(off.T @ off / num - exact) < 4.0 * error).all()
    assert (np.abs(off.mean(axis=0)) < 4.0 * np.sqrt(np.diag(exact) / num)).all()


def test_a_twin_has_it_in_its_log_density() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(0.8)}, observations={"level": bt.Observation(bt.Biased(NOISE, bias=0.5))}
    )
    observed = 5.0 * np.exp(-0.8 * TIMES) + OBSERVED
    observed[[2, 7]] = np.nan
    density = bound_density(twin, telemetry_of({"time": TIMES, "level": observed}, t0=0.0))
    rows = np.flatnonzero(np.isfinite(observed))
    off = observed - 5.2 * np.exp(-0.8 * TIMES) - 0.5
    expected = stats.multivariate_normal.logpdf(off[rows], cov=covariance(TIMES[rows], 0.0))
    expected += stats.norm.logpdf(5.2, 5.0, 1.0)
    assert float(jax.jit(density)(jnp.array([5.2]))) == pytest.approx(expected, abs=1e-4)


def test_a_robust_loss_is_refused() -> None:
    twin = decay(observations={"level": bt.Observation(NOISE)})
    telemetry = telemetry_of({"time": TIMES, "level": OBSERVED})
    with pytest.raises(InvalidSetting, match=r"(?s)`level`.*Expected: .*independent.*Received: autocorrelated"):
        bt.calibrate(twin, telemetry, seed=0, method="map", loss="huber")


@pytest.mark.parametrize("nugget", [0.0, 0.4])
@pytest.mark.parametrize("missing", [[], [2, 6]])
def test_after_the_last_observation_it_goes_on_from_there(nugget: float, missing: list) -> None:
    """Mean and covariance of what comes are those of the normal given what was observed."""
    last, num = 8, 40_000
    observed = OBSERVED.copy()
    observed[[*missing, *range(last, 12)]] = np.nan
    keys = jax.random.split(jax.random.key(1), num)
    parameters = {"scale": 0.7, "correlation_time": 1.5, "nugget": nugget}
    drawn = np.asarray(jax.vmap(lambda key: NOISE.sample_after(key, observed, VALUE, TIMES, **parameters))(keys))
    seen, ahead = np.delete(np.arange(last), missing), np.arange(last, 12)
    whole = covariance(TIMES, nugget)
    gain = np.linalg.solve(whole[np.ix_(seen, seen)], whole[np.ix_(seen, ahead)]).T
    mean = VALUE[ahead] + gain @ (OBSERVED - VALUE)[seen]
    spread = whole[np.ix_(ahead, ahead)] - gain @ whole[np.ix_(seen, ahead)]
    error = np.sqrt(np.diag(spread) / num)
    np.testing.assert_array_less(np.abs(drawn[:, ahead].mean(axis=0) - mean), 4 * error)
    found = np.cov(drawn[:, ahead], rowvar=False)
    np.testing.assert_allclose(found, spread, atol=6 * np.diag(spread).max() / np.sqrt(num))
    np.testing.assert_array_equal(drawn[0, :last], NOISE.sample(keys[0], VALUE, TIMES, **parameters)[:last])


def test_where_nothing_was_observed_it_starts_as_it_always_does() -> None:
    parameters = {"scale": 0.7, "correlation_time": 1.5, "nugget": 0.2}
    key, nothing = jax.random.key(4), np.full(12, np.nan)
    found = NOISE.sample_after(key, nothing, VALUE, TIMES, **parameters)
    np.testing.assert_allclose(found, NOISE.sample(key, VALUE, TIMES, **parameters), rtol=1e-12)


@pytest.mark.thorough
def test_a_forecast_goes_on_from_the_last_residual() -> None:
    """Errors that last for a day say much about the next minutes, and nothing about next week."""
    twin = decay(
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(0.5)},
        observations={"level": bt.Observation(bt.Autocorrelated(dist.LogNormal(0.0, 0.01), 24.0))},
    )
    times = np.arange(0.0, 10.0, 0.5)
    table = {"time": times, "level": 5.0 * np.exp(-0.5 * times) + 2.0}
    settings = {"num_samples": 100, "num_chains": 2, "predictive_draws": 20}
    posterior = bt.calibrate(twin, telemetry_of(table, t0=0.0), seed=0, method="laplace", **settings)
    ahead = np.array([9.6, 9.75, 10.5, 200.0])
    future = telemetry_of({"time": ahead, "level": np.full(4, np.nan)}, t0=0.0)
    found = bt.predict(twin, posterior, future, seed=0, draws=200)["predictions"]
    assert found.sizes["time"] == 4
    off = (found["level"] - found["level_noise_free"]).values.reshape(-1, 4)
    kept = np.exp(-(ahead - times[-1]) / 24.0)
    np.testing.assert_allclose(off.mean(axis=0), 2.0 * kept, atol=4 / np.sqrt(len(off)))
    np.testing.assert_allclose(off.std(axis=0), np.sqrt(1.0 - kept**2), rtol=0.25)
