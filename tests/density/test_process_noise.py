"""A twin with process noise goes through every verb: its states follow the data, and its forecasts go on from there."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density
from twins import NOISES, bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.density import predictor
from bayestwin.density.robust import HUBER
from bayestwin.dynamics import blocks
from bayestwin.model.describe import describe, fingerprint

NOISE = bt.ProcessNoise({"level": dist.HalfNormal(1.0)}, initial_scale={"level": 1.0})


def tank(**changes: object) -> bt.Twin:
    """The decay, whose initial level is left to the filter."""
    return decay(states={"level": bt.State(5.0, unit="m")}, **changes)


@functools.cache
def wandering() -> bt.Telemetry:
    """A level that decays, and half way is lifted by something that is not in the equations."""
    times = np.linspace(0.0, 6.0, 49)
    level = 5.0 * np.exp(-0.8 * times) + 2.0 * (times > 3.0) * np.exp(-0.8 * np.maximum(times - 3.0, 0.0))
    level += 0.05 * np.random.default_rng(3).standard_normal(49)
    level[[8, 30]] = np.nan
    return telemetry_of({"time": times, "level": level})


@functools.cache
def posterior() -> xr.DataTree:
    """Read it, and leave it as it is."""
    return bt.calibrate(tank(), wandering(), seed=0, model_error=NOISE, num_chains=2, num_samples=300)


@pytest.mark.thorough
def test_the_posterior_has_the_diffusion_and_no_divergences() -> None:
    draws = posterior()["posterior"]["level_diffusion"]
    assert draws.attrs == {"units": "m/h**0.5", "long_name": "process noise of level", "kind": "model_error"}
    assert 0.1 < float(draws.mean()) < 3.0
    assert int(posterior()["sample_stats"]["diverging"].sum()) == 0
    assert posterior().attrs["description"]["model_error"]["kind"] == "ProcessNoise"


def test_smoothed_states_follow_what_the_equations_leave_out() -> None:
    level = posterior()["posterior_predictive"]["level_state"].mean(("chain", "draw"))
    observed = posterior()["observed_data"]["level"]
    assert float(abs(level - observed).max()) < 0.5  # the lift of 2 m is where the states are
    # the prior is not told what was observed
    assert float(observed.sel(time=3.25)) > 2.0
    assert float(posterior()["prior_predictive"]["level_state"].mean(("chain", "draw")).sel(time=3.25)) < 1.0


def test_the_result_survives_a_file(tmp_path: pathlib.Path) -> None:
    bt.save(posterior(), tmp_path / "wandering.nc")
    assert bt.load(tmp_path / "wandering.nc").attrs["description"] == posterior().attrs["description"]


@pytest.mark.thorough
def test_a_forecast_begins_where_the_data_end_and_widens() -> None:
    future = telemetry_of({"time": [3.0, 3.75, 6.0, 6.25, 8.0]}, t0=0.0)
    found = bt.predict(tank(), posterior(), future, seed=1, model_error=NOISE)["predictions"]["level_state"]
    smoothed = posterior()["posterior_predictive"]["level_state"]
    spread = found.std(("chain", "draw")).values
    assert spread[2] < spread[3] < spread[4]
    for time in (3.0, 3.75, 6.0):  # the second is missing in the telemetry
        ours, theirs = found.sel(time=time), smoothed.sel(time=time)
        error = float(theirs.std()) / np.sqrt(theirs.size / 2)
        assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=4.0 * error)
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.2)


def test_a_forecast_needs_the_same_model_error() -> None:
    with pytest.raises(bt.errors.InvalidArtifact, match="does not belong"):
        bt.predict(tank(), posterior(), telemetry_of({"time": [6.0, 7.0]}, t0=0.0), seed=1)


def test_a_simulation_is_disturbed_on_its_way() -> None:
    values = {"rate": 0.8, "level_scale": 0.01, "level_diffusion": 0.5}
    twin, telemetry = tank(model_error=NOISE), telemetry_of({"time": np.linspace(0.0, 400.0, 2001)})
    level = bt.simulate(twin, values, telemetry, seed=0)["level_state"].values[200:]
    # Ornstein–Uhlenbeck: σ² / 2r, from about 400 · 0.8 / 2 independent values
    assert np.var(level) == pytest.approx(0.25 / 1.6, rel=4.0 * np.sqrt(2.0 / 160.0))


@pytest.mark.thorough
def test_gauss_newton_sees_the_gradient_and_numpyro_the_same_density() -> None:
    twin = tank(model_error=NOISE)
    density = bound_density(twin, wandering())
    z = jnp.array([-0.2, -2.0, 0.3])
    local = jax.jit(density.local)(z)
    assert float(local.log_density) == pytest.approx(float(jax.jit(density)(z)), rel=1e-12)
    np.testing.assert_allclose(local.gradient, jax.jit(jax.grad(density))(z), rtol=1e-9)
    step = 1e-5
    for i in range(3):
        ahead, behind = (jax.jit(density)(z.at[i].add(sign * step)) for sign in (1.0, -1.0))
        assert float(local.gradient[i]) == pytest.approx(float((ahead - behind) / (2.0 * step)), rel=1e-5)
    values, correction = density.constrain_with_log_det(z)
    theirs = log_density(bt.numpyro_model(twin, wandering()), (), {}, values)[0]
    assert float(theirs + correction) == pytest.approx(float(jax.jit(density)(z)), rel=1e-10)
    assert np.isfinite(ravel_pytree(local)[0]).all()


def test_a_robust_loss_is_of_the_innovations() -> None:
    density = bound_density(tank(model_error=NOISE), wandering())
    robust = dataclasses.replace(density, loss="huber")
    z = jnp.array([-0.2, -2.0, 0.3])
    expected = density.predict(density.constrain(z))
    away = (wandering().table["level"].to_numpy() - expected.noise_free["level"]) / expected.scales["level"]
    away = np.abs(away[np.isfinite(away)])
    assert away.max() > 3.0
    gained = 0.5 * np.where(away > HUBER, away**2 - (2.0 * HUBER * away - HUBER**2), 0.0).sum()
    found = [float(jax.jit(one.parts)(z)[1]) for one in (density, robust)]
    assert found[1] - found[0] == pytest.approx(gained, rel=1e-10)


@pytest.mark.slow
def test_a_long_record_is_smoothed_for_fewer_draws_at_once_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    density = bound_density(tank(model_error=NOISE), wandering())
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.5, 1.0, 9) for name in ("rate", "level_scale", "level_diffusion")}
    assert predictor.at_once(density) == predictor.AT_ONCE
    monkeypatch.setattr(blocks, "LONG", 1)
    found = []
    for most in (1e12, 4 * 49 * (3 + 2 + 8)):
        monkeypatch.setattr(predictor, "MOST_KEPT", most)
        with Progress(show=False).phase("predict", "predicting", 9) as phase:
            found.append(predictor.Predictor(density)(values, jax.random.key(0), phase))
    assert predictor.at_once(density) == 4
    for name, whole in found[0].items():
        np.testing.assert_allclose(found[1][name], whole, rtol=1e-9, atol=1e-12)


WRONG = {
    "a state that is not there": (bt.ProcessNoise({"lever": 1.0}), "`lever`"),
    "no state": (bt.ProcessNoise({}), "at least one of `level`"),
    "a scale below zero": (bt.ProcessNoise({"level": -1.0}), "from 0 on"),
    "a prior below zero": (bt.ProcessNoise({"level": dist.Normal(0.0, 1.0)}), "positive numbers"),
    "a prior of two": (bt.ProcessNoise({"level": dist.HalfNormal(np.ones(2))}), "shape"),
    "an unknown filter": (bt.ProcessNoise({"level": 1.0}, filter="particle"), '"extended"'),
    "something else": ("process noise", "bt.ProcessNoise"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_the_twin_is_an_error(case: str) -> None:
    error, words = WRONG[case]
    with pytest.raises(bt.errors.InvalidTwin, match=words):
        decay(model_error=error)


@pytest.mark.parametrize("noise", ["lognormal", "student", "poisson"])
def test_other_noise_than_gaussian_is_refused(noise: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match="Gaussian, with which it is integrated out"):
        decay(observations={"level": bt.Observation(NOISES[noise])}, model_error=NOISE)


def test_a_model_error_is_in_the_fingerprint() -> None:
    others = [bt.ProcessNoise({"level": 1.0}), bt.ProcessNoise({"level": 1.0}, filter="extended"), NOISE]
    others += [bt.ProcessNoise({"level": dist.HalfNormal(1.0)})]
    assert len({fingerprint(decay(model_error=error)) for error in (None, *others)}) == 5
    assert "model_error" not in describe(decay())
