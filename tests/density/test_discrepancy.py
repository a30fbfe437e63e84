"""A twin with a discrepancy goes through every verb: what the equations leave out is told apart from noise."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from scipy import stats
from twins import NOISES, bound_density, decay, driven, telemetry_of

import bayestwin as bt
from bayestwin.model.describe import describe, fingerprint

TIMES = np.linspace(0.0, 6.0, 61)
ERROR = bt.Discrepancy(scale={"level": dist.HalfNormal(0.5)}, length={"level": dist.LogNormal(0.5, 0.3)})


@functools.cache
def swaying() -> bt.Telemetry:
    """A level that decays and sways, which is not in the equations; two samples are missing."""
    level = 5.0 * np.exp(-0.8 * TIMES) + 0.4 * np.sin(1.5 * TIMES)
    level += 0.05 * np.random.default_rng(3).standard_normal(61)
    level[[8, 30]] = np.nan
    return telemetry_of({"time": TIMES, "level": level})


@functools.cache
def posterior() -> xr.DataTree:
    """Read it, and leave it as it is."""
    return bt.calibrate(decay(), swaying(), seed=0, model_error=ERROR, num_chains=2, num_samples=300)


@pytest.mark.thorough
def test_the_posterior_has_scale_and_length_and_no_divergences() -> None:
    draws = posterior()["posterior"]
    assert draws["level_discrepancy_scale"].attrs["units"] == "m"
    assert draws["level_discrepancy_length"].attrs["units"] == "h"
    assert 0.1 < float(draws["level_discrepancy_scale"].mean()) < 1.0
    assert float(draws["level_scale"].mean()) == pytest.approx(0.05, rel=0.3)
    assert int(posterior()["sample_stats"]["diverging"].sum()) == 0
    assert posterior().attrs["description"]["model_error"]["settings"]["kernel"] == "matern52"


def test_parts_of_what_is_predicted_are_kept_apart() -> None:
    found = posterior()["posterior_predictive"]
    sway = found["level_discrepancy"].mean(("chain", "draw")).values
    # what the twin cannot follow is in the discrepancy; what it can, the two share
    whole = (found["level_noise_free"] + found["level_discrepancy"]).mean(("chain", "draw")).values
    truth = 5.0 * np.exp(-0.8 * TIMES) + 0.4 * np.sin(1.5 * TIMES)
    assert np.abs(whole - truth).max() < 0.08
    assert np.ptp(sway) > 0.5
    noise = found["level"] - found["level_noise_free"] - found["level_discrepancy"]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.3)
    # the prior is not told what was observed
    assert abs(float(posterior()["prior_predictive"]["level_discrepancy"].mean())) < 0.15


def test_the_likelihood_of_a_result_is_that_given_its_discrepancy() -> None:
    found, terms = posterior()["posterior_predictive"], posterior()["log_likelihood"]["level"]
    assert terms.sizes["time"] == 59
    scale = posterior()["posterior"]["level_scale"]
    one = {"chain": 1, "draw": int(found["draw"][7])}
    mean = (found["level_noise_free"] + found["level_discrepancy"]).sel(one).sel(time=terms["time"])
    observed = posterior()["observed_data"]["level"].sel(time=terms["time"])
    expected = stats.norm.logpdf(observed, mean, float(scale.sel(one)))
    np.testing.assert_allclose(terms.sel(one), expected, rtol=1e-9)


def test_the_result_survives_a_file(tmp_path: pathlib.Path) -> None:
    bt.save(posterior(), tmp_path / "swaying.nc")
    assert bt.load(tmp_path / "swaying.nc").attrs["description"] == posterior().attrs["description"]


def test_a_forecast_goes_on_from_what_is_known_and_forgets_it() -> None:
    future = telemetry_of({"time": [3.0, 6.0, 6.2, 16.0]}, t0=0.0)
    found = bt.predict(decay(), posterior(), future, seed=1, model_error=ERROR)["predictions"]["level_discrepancy"]
    known = posterior()["posterior_predictive"]["level_discrepancy"]
    spread = found.std(("chain", "draw")).values
    assert spread[1] < spread[2] < spread[3]
    for time in (3.0, 6.0):
        ours, theirs = found.sel(time=time), known.sel(time=time)
        error = np.hypot(float(ours.std()), float(theirs.std())) / np.sqrt(200.0)
        assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=4.0 * error)
    scale = posterior()["posterior"]["level_discrepancy_scale"]
    assert spread[3] == pytest.approx(float(np.sqrt((scale**2).mean())), rel=0.25)


@pytest.mark.thorough
def test_the_density_is_that_of_a_dense_normal_around_the_exact_solution() -> None:
    density = bound_density(decay(model_error=ERROR), swaying())
    values = {"rate": 0.7, "level_initial": 4.6, "level_scale": 0.1}
    values |= {"level_discrepancy_scale": 0.3, "level_discrepancy_length": 1.4}
    z = density.unconstrain(values)
    observed = swaying().table["level"].to_numpy()
    seen = np.isfinite(observed)
    factor = np.asarray(density.discrepancies.factor("level", values))[seen]
    around = stats.multivariate_normal(4.6 * np.exp(-0.7 * TIMES[seen]), factor @ factor.T + 0.01 * np.eye(seen.sum()))
    assert float(density.parts(z)[1]) == pytest.approx(around.logpdf(observed[seen]), rel=1e-6)


@pytest.mark.thorough
def test_gauss_newton_sees_the_gradient_and_numpyro_the_same_density() -> None:
    twin = decay(model_error=ERROR)
    density = bound_density(twin, swaying())
    z = jnp.array([-0.2, 4.7, -2.0, -1.0, 0.3])
    local = jax.jit(density.local)(z)
    assert float(local.log_density) == pytest.approx(float(jax.jit(density)(z)), rel=1e-12)
    step = 1e-5
    for i in range(5):
        ahead, behind = (jax.jit(density)(z.at[i].add(sign * step)) for sign in (1.0, -1.0))
        assert float(local.gradient[i]) == pytest.approx(float((ahead - behind) / (2.0 * step)), rel=1e-5)
    values, correction = density.constrain_with_log_det(z)
    theirs = log_density(bt.numpyro_model(twin, swaying()), (), {}, values)[0]
    assert float(theirs + correction) == pytest.approx(float(jax.jit(density)(z)), rel=1e-10)


@pytest.mark.slow
def test_a_discrepancy_over_an_input_takes_what_it_learned_along() -> None:
    """What depends on an input is known again where that input returns, however much later."""
    times = np.arange(240) * 0.25
    sloped = 2.0 + np.cos(0.6 * times)
    columns = {"time": times, "stepped": np.ones(240), "sloped": sloped}
    error = bt.Discrepancy({"level": dist.HalfNormal(1.0)}, {"level": dist.LogNormal(0.0, 0.3)}, over="sloped")
    twin = driven(observations={"level": bt.Observation(bt.Gaussian(0.05))}, model_error=error)
    truth = {"rate": 1.0, "gain": 1.0, "level_initial": 2.0}
    exact = bt.simulate(
        driven(observations={"level": bt.Observation(bt.Gaussian(0.05))}), truth, telemetry_of(columns), seed=0
    )
    table = telemetry_of(columns | {"level": exact["level"].values + (sloped - 2.0) ** 2}).table.reset_index()
    calibrated = bt.calibrate(twin, bt.read_telemetry(table[:160]), seed=0, num_chains=2, num_samples=200)
    ahead = bt.read_telemetry(table[160:], t0=0.0)
    found = bt.predict(twin, calibrated, ahead, seed=1)["predictions"]["level"]
    assert float(abs(found.mean(("chain", "draw")) - table["level"][160:].to_numpy()).max()) < 0.3
    assert float(found.std(("chain", "draw")).max()) < 0.2


def test_a_simulation_has_the_discrepancy() -> None:
    values = {"rate": 0.8, "level_initial": 0.0, "level_scale": 0.01}
    values |= {"level_discrepancy_scale": 0.5, "level_discrepancy_length": 1.0}
    empty = telemetry_of({"time": np.linspace(0.0, 200.0, 401)})
    error = dataclasses.replace(ERROR, length={"level": dist.LogNormal(0.0, 0.1)}, num_basis=400)
    found = bt.simulate(decay(model_error=error), values, empty, seed=0)
    assert found["level_discrepancy"].attrs["units"] == "m"
    np.testing.assert_allclose(found["level"] - found["level_noise_free"], found["level_discrepancy"], atol=0.06)
    # about one independent value in two lengths
    assert float(found["level_discrepancy"].var()) == pytest.approx(0.25, rel=4.0 * np.sqrt(2.0 / 100.0))


WRONG = {
    "an observation that is not there": (bt.Discrepancy({"lever": 1.0}, {"lever": 1.0}), "`lever`"),
    "nothing": (bt.Discrepancy({}, {}), "at least one of `level`"),
    "no length": (bt.Discrepancy({"level": 1.0}, {}), "lengths for none"),
    "a scale below zero": (bt.Discrepancy({"level": -1.0}, {"level": 1.0}), "from 0 on"),
    "no length at all": (bt.Discrepancy({"level": 1.0}, {"level": 0.0}), "positive number"),
    "a length below zero": (bt.Discrepancy({"level": 1.0}, {"level": dist.Normal(0.0, 1.0)}), "positive numbers"),
    "an unknown input": (bt.Discrepancy({"level": 1.0}, {"level": 1.0}, over="wind"), '"time"'),
    "an unknown kernel": (bt.Discrepancy({"level": 1.0}, {"level": 1.0}, kernel="cubic"), '"matern52"'),
    "half a function": (bt.Discrepancy({"level": 1.0}, {"level": 1.0}, num_basis=0.5), "an integer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_the_twin_is_an_error(case: str) -> None:
    error, words = WRONG[case]
    with pytest.raises(bt.errors.InvalidTwin, match=words):
        decay(model_error=error)


@pytest.mark.parametrize("noise", ["lognormal", "student", "poisson"])
def test_other_noise_than_gaussian_is_refused(noise: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match="Gaussian, with which it is integrated out"):
        decay(observations={"level": bt.Observation(NOISES[noise])}, model_error=ERROR)


def test_what_needs_independent_observations_refuses_a_discrepancy() -> None:
    twin = decay(model_error=ERROR)
    with pytest.raises(bt.errors.InvalidSetting, match="ties them together"):
        bt.calibrate(twin, swaying(), seed=0, method="map", loss="huber")
    with pytest.raises(bt.errors.InvalidTwin, match="ties its observations together"):
        bt.pymc_model(twin, swaying())
    with pytest.raises(bt.errors.InvalidTwin, match="several experiments cannot have"):
        bt.calibrate(twin, {"first": swaying(), "second": swaying()}, seed=0)


def test_a_discrepancy_is_in_the_fingerprint_and_in_no_other_result() -> None:
    others = [ERROR, dataclasses.replace(ERROR, kernel="matern32"), dataclasses.replace(ERROR, num_basis=20)]
    others += [bt.Discrepancy({"level": 0.5}, {"level": 1.0})]
    assert len({fingerprint(decay(model_error=error)) for error in (None, *others)}) == 5
    quantities = describe(decay(model_error=ERROR))["model_error"]["quantities"]
    assert [one["name"] for one in quantities] == ["level_discrepancy_scale", "level_discrepancy_length"]


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["laplace", "map"])
def test_other_methods_take_it_too(method: str) -> None:
    found = bt.calibrate(decay(), swaying(), seed=0, model_error=ERROR, method=method, num_samples=200)
    assert float(found["posterior"]["level_discrepancy_scale"].mean()) == pytest.approx(0.35, abs=0.2)
    assert "level_discrepancy" in found["posterior_predictive"]
