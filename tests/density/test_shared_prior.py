"""The posterior of some assets, as the prior of the next, is a density, keeps its shape, and says where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import xarray as xr
from test_pooling import integrated, levels
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.calibrate import check_population
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.density.shared_prior import SharedPrior, fit_shared_prior, misfit, read_shared_prior
from bayestwin.errors import InvalidArtifact, InvalidTelemetry, InvalidTwin
from bayestwin.model.describe import fingerprint

TRIANGLE = np.linalg.cholesky(np.array([[1.0, 0.6, -0.2], [0.6, 1.0, 0.1], [-0.2, 0.1, 1.0]]))
SKEWED = SharedPrior(*np.array([[-1.0, 0.5, 3.0], [0.3, 1.0, 2.0], [0.4, -0.6, 0.0], [0.8, 1.1, 1.0]]), TRIANGLE)  # type: ignore[arg-type]


def test_the_density_is_that_of_its_draws() -> None:
    """By the change of variables from a standard normal, with the derivative that JAX finds."""
    for drawn in jax.random.normal(jax.random.key(3), (5, 3)):
        z, slope = SKEWED.from_normal(drawn), jax.jacobian(SKEWED.from_normal)(drawn)
        expected = scipy.stats.norm.logpdf(drawn).sum() - np.linalg.slogdet(slope)[1]
        np.testing.assert_allclose(SKEWED.log_density(z), expected, rtol=1e-9)
    again = read_shared_prior(SKEWED.recorded(["a", "b", "c"]))
    assert all((ours == theirs).all() for ours, theirs in zip(again, SKEWED, strict=True))


def gammas(rng: np.random.Generator) -> np.ndarray:
    """Logarithms of a gamma-distributed quantity, and of one that hangs on it: a long tail to the left."""
    first = np.log(rng.gamma(1.5, size=4_000))
    return np.stack([first, 0.5 * first + rng.normal(size=4_000)], axis=1)


def two_modes(rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random((4_000, 1)) < 0.5, -3.0, 3.0) + rng.normal(size=(4_000, 2))


def bend(rng: np.random.Generator) -> np.ndarray:
    first = rng.normal(size=4_000)
    return np.stack([first, first**2 + 0.2 * rng.normal(size=4_000)], axis=1)


@pytest.mark.parametrize(("draw", "fits"), [(gammas, True), (two_modes, False), (bend, False)])
def test_what_does_not_keep_its_shape_is_seen(draw, fits: bool) -> None:
    draws = draw(np.random.default_rng(1))
    assert (misfit(fit_shared_prior(draws), draws).max() < 0.05) == fits


POOLED = decay(
    parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", pooled=dist.HalfNormal(0.4))},
    solver=bt.Solver(method="exact"),
)


@pytest.mark.thorough
def test_it_takes_the_place_of_what_sites_say_alone_and_in_experiments() -> None:
    whole = build_density(POOLED, bind_all(POOLED, {"a": decay_telemetry(12), "b": decay_telemetry(9)}))
    own = [site for site in whole.sites if site.shared]
    prior = SharedPrior(*(numbers[: len(own)] for numbers in SKEWED[:4]), TRIANGLE[: len(own), : len(own)])
    told = dataclasses.replace(whole, learnt=prior)
    for ours, theirs in ((told, whole), (told.alone(0), whole.alone(0))):
        sizes = theirs.priors.sizes
        z = 0.2 * jnp.arange(1.0, 1.0 + sum(sizes))
        places = [at for at, site in zip(np.cumsum([0, *sizes]), theirs.sites, strict=False) if site.shared]
        values, expected = theirs.constrain(z), prior.log_density(z[np.array(places)])
        for site, place in zip(own, places, strict=True):
            value = values[site.name]
            expected -= dist.biject_to(site.prior.support).log_abs_det_jacobian(z[place], value)
            expected -= site.prior.log_prob(value)
        found = ours.priors.log_density(values) - theirs.priors.log_density(values)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    z = 0.2 * jnp.arange(1.0, 1.0 + sum(told.priors.sizes))
    expected = jax.jit(jax.value_and_grad(told))(z)
    for ours, theirs in zip(jax.jit(told.local)(z)[:2], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    drawn, z = told.alone(0).draw_prior(jax.random.split(jax.random.key(0), 4_000))
    assert misfit(prior, z[:, np.array(places)]).max() < 1.95 / 4_000**0.5
    assert (drawn["rate_spread"] > 0.0).all()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("apart", "noise"),
    [(0.7, 1.4), pytest.param(2.0, 0.2, marks=pytest.mark.slow)],
    ids=["hardly told", "told by data"],
)
def test_a_new_asset_is_what_all_together_say_of_it(apart: float, noise: float) -> None:
    """Held against integrals over the population that all eight are of."""
    twin, records, means = levels(apart, noise)
    *others, new = records
    known = bt.calibrate(twin, {name: records[name] for name in others}, seed=1)
    found = bt.calibrate(twin, records[new], seed=2, population=known)
    gates = {gate.name: gate for gate in bt.diagnose(found)}
    assert all(gates[name].passed for name in ("rhat", "ess_bulk", "ess_tail", "divergences", "population"))
    assert "population of 7 assets" in gates["population"].sentence
    mean, sd = integrated(means, noise / 2.0)
    names = ("level_initial_typical", "level_initial_spread", "level_initial")
    for name, expected, wide in zip(names, mean[[0, 1, -1]], sd[[0, 1, -1]], strict=True):
        values, ess = found["posterior"][name], min(gates["ess_bulk"].value, found.attrs["population"]["ess"])
        assert abs(float(values.mean()) - expected) < 4.0 * wide * np.sqrt(2.0 / ess)
        assert float(values.std()) == pytest.approx(wide, rel=4.0 * np.sqrt(2.0 / gates["ess_tail"].value))
    check_what_goes_on_from_it(twin, found)
    check_refusals(twin, known, records)


def check_what_goes_on_from_it(twin: bt.Twin, found) -> None:
    """Priors that are evaluated again are those of the population, and predictions know the twin."""
    sensitivities = bt.power_scaling(twin, found)
    assert float(sensitivities["prior"].sel(quantity="level_initial_spread")) > 0.05
    told = {one["name"]: one["prior"] for one in found.attrs["description"]["parameters"]}
    assert told["level_initial_typical"] == "as 7 other assets have it"
    ahead = bt.predict(twin, found, telemetry_of({"time": [4.0, 5.0]}), seed=0)
    assert ahead["predictions"]["level"].notnull().all()


def check_refusals(twin: bt.Twin, known, records: dict[str, bt.Telemetry]) -> None:
    with pytest.raises(InvalidTelemetry, match=r"in the population already(?s:.*)that of `asset 3`"):
        bt.calibrate(twin, records["asset 3"], seed=0, population=known)
    with pytest.raises(InvalidTelemetry, match="`asset 3` is in the population already"):
        bt.calibrate(twin, {"asset 3": records["asset 7"]}, seed=0, population=known)
    longer = records["asset 3"].table
    longer = telemetry_of({"time": [*longer.index, 9.0], "level": [*longer["level"], 5.0]})
    with pytest.raises(InvalidTelemetry, match="in the population already"):
        bt.calibrate(twin, longer, seed=0, population=known)
    with pytest.raises(InvalidArtifact, match="does not belong to twin"):
        bt.calibrate(POOLED, decay_telemetry(), seed=0, population=known)


def as_if_calibrated(twin: bt.Twin, method: str = "nuts", num: int = 1_000) -> xr.DataTree:
    """What is looked at of a posterior before draws are."""
    group = xr.Dataset({"rate": (("chain", "draw"), np.ones((2, num)))})
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"twin_sha256": fingerprint(twin), "method": method}), "posterior": group}
    )


def test_what_no_prior_can_be_made_of_is_refused() -> None:
    alone = decay(
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", shared=False)},
        observations={"level": bt.Observation(bt.Gaussian(0.1), unit="m")},
    )
    with pytest.raises(InvalidTwin, match="shares nothing"):
        check_population(alone, as_if_calibrated(alone), decay_telemetry())
    for known in (as_if_calibrated(POOLED, "map"), as_if_calibrated(POOLED, num=40)):
        with pytest.raises(InvalidArtifact, match="no posterior that a prior could be made of"):
            check_population(POOLED, known, decay_telemetry(9))
