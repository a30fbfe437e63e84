"""NUTS draws from the density it is given, also where a part of its reach is impossible: that is counted, not lost."""

from collections.abc import Callable

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from jax import Array
from scipy import stats
from twins import telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess import diagnose, failed
from bayestwin.inference.climb import Mode
from bayestwin.inference.method import Draws, Settings
from bayestwin.inference.metric import Whitening, rescale, whitening_of
from bayestwin.inference.nuts import MANY, Engine, off_resonance, sample_nuts
from bayestwin.inference.starts import Starts


def drawn(log_density: Callable[[Array], Array], starts: list[list[float]], scale: np.ndarray, **settings) -> Draws:
    """Draws from `starts`, one chain each, with a first metric of `scale`."""
    z = np.array(starts)
    mode = Mode(z.mean(axis=0), 0.0, scale, 1.0)
    chosen = Settings(num_chains=len(starts))._replace(**settings)
    return sample_nuts(log_density, Starts(z, (mode,), {}), settings=chosen, seed=0, progress=Progress(show=False))


def bent(z: Array) -> Array:
    """A normal first coordinate, and a second that is normal around its square."""
    return -0.5 * z[0] ** 2 - 0.5 * ((z[1] - z[0] ** 2) / 0.5) ** 2


def walled(z: Array) -> Array:
    """Standard normal, impossible beyond 1."""
    return jnp.where(z[0] < 1.0, -0.5 * z[0] ** 2, -jnp.inf)


def covariance_of(whitening: Whitening) -> np.ndarray:
    """The covariance of z where that of w is the unit matrix."""
    dim = whitening.centre.shape[0]
    columns = np.asarray(jax.vmap(whitening.unwhiten)(jnp.eye(dim))) - np.asarray(whitening.centre)
    return columns.T @ columns


def check_mean(draws: np.ndarray, exact: float) -> None:
    """The mean of draws, shape (chain, draw), within 4 Monte Carlo standard errors."""
    assert abs(draws.mean() - exact) < 4 * float(az.mcse(draws, method="mean"))


def test_a_bent_density_is_drawn_from() -> None:
    starts = [[1.0, 1.0], [-1.0, 1.0], [0.0, 0.0], [0.5, 0.0]]
    found = drawn(bent, starts, np.eye(2), max_extensions=0)
    z = found.z
    assert z.shape == (4, 1000, 2)
    for value, exact in ((z[..., 0], 0.0), (z[..., 0] ** 2, 1.0), (z[..., 1], 1.0), (z[..., 1] ** 2, 3.25)):
        check_mean(value, exact)
    np.testing.assert_allclose(found.stats["lp"], jax.vmap(jax.vmap(bent))(jnp.asarray(z)), rtol=1e-10)
    assert not found.stats["solver_failed"].any()


@pytest.mark.thorough
def test_a_wall_is_not_crossed_and_each_attempt_is_counted_as_a_failed_solve() -> None:
    found = drawn(walled, [[0.9], [-1.0], [0.0], [0.5]], np.eye(1))
    z, stats_ = found.z[..., 0], found.stats
    assert (z < 1.0).all()
    cut = stats.truncnorm(-np.inf, 1.0)
    check_mean(z, cut.mean())
    check_mean(z**2, cut.moment(2))
    # the walls are all that trajectories end at here, so that nothing diverges otherwise
    assert 0.05 < stats_["solver_failed"].mean() < 0.95
    assert not stats_["diverging"].any()


@pytest.mark.thorough
def test_a_real_divergence_is_not_called_a_failed_solve() -> None:
    def cliff(z: Array) -> Array:
        """Finite everywhere, and so steep beyond 1 that no step size follows it."""
        return -0.5 * z[0] ** 2 - jnp.where(z[0] > 1.0, 1e6, 0.0)

    found = drawn(cliff, [[0.9], [-1.0], [0.0], [0.5]], np.eye(1), num_warmup=75, num_samples=200)
    assert found.stats["diverging"].any()
    assert not found.stats["solver_failed"].any()


@pytest.mark.thorough
def test_the_number_of_draws_is_the_number_asked_for() -> None:
    found = drawn(walled, [[0.0], [0.5]], np.eye(1), num_warmup=10, num_samples=33)
    assert found.z.shape == (2, 33, 1)
    assert all(values.shape == (2, 33) for values in found.stats.values())


def test_the_metric_becomes_that_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    covariance = np.array([[4.0, 1.9], [1.9, 1.0]])
    z = rng.multivariate_normal([3.0, -1.0], covariance, size=(5000, 4))
    z += np.array([[100.0], [0.0], [0.0], [-100.0]])  # chains apart do not widen it
    found = rescale(whitening_of(np.zeros(2), np.eye(2)), z)
    np.testing.assert_allclose(covariance_of(found), covariance, rtol=0.05)
    np.testing.assert_allclose(found.centre, z.reshape(-1, 2).mean(axis=0))
    few = rescale(whitening_of(np.zeros(2), 100.0 * covariance), z[:1])
    np.testing.assert_allclose(covariance_of(few), 100.0 * covariance * 10 / 14, rtol=1e-6)


def alike(z: Array) -> Array:
    """Standard normal."""
    return -0.5 * (z**2).sum()


@pytest.mark.thorough
def test_steps_of_many_dimensions_are_no_part_of_their_period() -> None:
    # 15 leapfrog steps end just before half a period, 31 just after a whole one
    dim, resonant = 400, 2.0 * np.sin(0.985 * np.pi / 30.0)
    engine, key = Engine(alike, 4), jax.random.key(0)
    z, unit = (
        np.random.default_rng(0).normal(size=(4, dim)),
        Whitening(np.zeros(dim), np.ones(dim), np.zeros((dim, 0)), np.zeros(0)),
    )

    def steps(step_size: float) -> float:
        teams = engine.begin(z, unit, [step_size] * 2)
        found = engine.run(teams, unit, key, 0, 50, None)
        return found[1]["n_steps"].mean()

    assert steps(resonant) > 40.0
    assert steps(off_resonance(resonant, dim)) < 16.0
    assert off_resonance(resonant, MANY) == resonant
    assert resonant < off_resonance(resonant, dim) < 1.2 * resonant
    assert off_resonance(0.3, dim) == 0.3


def blowing_up() -> bt.Twin:
    """Its hidden state blows up before t = 1 where it begins above 1, as half of its prior does."""
    return bt.Twin(
        name="blowing_up",
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level, "hidden": x.hidden**2},
        states={"level": bt.State(1.0), "hidden": bt.State(dist.Normal(1.0, 0.2))},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(1.0))},
    )


@pytest.fixture(scope="module")
def cut_off() -> xr.DataTree:
    """A posterior that ends where the twin can no longer be solved up to its last time, t = 1."""
    return bt.calibrate(blowing_up(), telemetry_of({"time": [0.0, 1.0], "level": [1.0, 1.0]}), seed=2)


def test_solves_that_fail_are_counted_and_no_draw_is_one_of_them(cut_off: xr.DataTree) -> None:
    draws, stats_ = cut_off["posterior/hidden_initial"].values, cut_off["sample_stats"]
    assert (draws < 1.0).all()
    check_mean(draws, stats.truncnorm(-np.inf, 0.0, loc=1.0, scale=0.2).mean())
    assert 0.05 < float(stats_["solver_failed"].mean()) < 0.95
    assert int(stats_["diverging"].sum()) == 0
    assert np.isfinite(cut_off["posterior_predictive/hidden_state"]).all()
    assert 20 < cut_off.attrs["starts"]["failed"] < 44
    # half of the prior's own draws cannot be shown, and are not hidden either
    assert 0.3 < np.isnan(cut_off["prior_predictive/hidden_state"]).sel(time=1.0).mean() < 0.7


def test_a_posterior_cut_off_by_failed_solves_does_not_pass(cut_off: xr.DataTree) -> None:
    assert "solver_failures" in [gate.name for gate in failed(diagnose(cut_off))]


@pytest.mark.thorough
def test_a_forecast_beyond_what_can_be_solved_shows_which_draws_are_missing(cut_off: xr.DataTree) -> None:
    forecast = bt.predict(blowing_up(), cut_off, telemetry_of({"time": [0.2, 1.25]}), seed=0)["predictions"]
    begun = cut_off["posterior/hidden_initial"].sel(draw=forecast["draw"].values).values
    lost = np.isnan(forecast["hidden_state"].values)
    np.testing.assert_array_equal(lost[..., 1], begun > 1.0 / 1.25)
    assert not lost[..., 0].any()
    np.testing.assert_array_equal(forecast["num_failed"], [0, (begun > 1.0 / 1.25).sum()])
