"""Every method of inference gives the same groups, which all verbs take; and is right where the answer is known."""

import functools

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.optimize import OptimizeResult, least_squares
from test_linear_gaussian import Normal, check_moments, posterior_of
from test_starts import two_signed
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.density.robust import HUBER
from bayestwin.errors import InvalidSetting
from bayestwin.inference import METHODS

GROUPS = {"posterior", "sample_stats", "prior", "prior_predictive", "posterior_predictive", "log_likelihood"}
GROUPS |= {"observed_data", "constant_data", "final_state"}

MIXING = ["finite", "chains", "identical_chains", "stuck_chain", "rhat", "ess_bulk", "ess_tail"]
PRIOR = ["prior_edge", "prior_posterior"]
GATES = {
    "nuts": [*MIXING, "divergences", "bfmi", "solver_failures", "modes", "tolerance", *PRIOR],
    "laplace": ["finite", "approximation", "modes", "tolerance", *PRIOR],
    "pathfinder": ["finite", "approximation", "tolerance", *PRIOR],
    "map": ["finite", "point", "maximum", "modes"],
    "smc": [*MIXING, "tolerance", *PRIOR],
    "ensemble": [*MIXING, "tolerance", *PRIOR],
}


@functools.cache
def calibrated(method: str) -> xr.DataTree:
    """The decay by a method, in few draws: read it, and leave it as it is."""
    return bt.calibrate(
        decay(), decay_telemetry(), seed=0, method=method, num_warmup=50, num_samples=50, num_chains=2,
        predictive_draws=40,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_groups_and_gates_of_a_method(method: str) -> None:
    found = calibrated(method)
    assert set(found.children) == GROUPS
    assert found.attrs["method"] == method
    shape = (1, 1) if method == "map" else (2, 50)
    for name in ("posterior", "sample_stats", "log_likelihood"):
        assert (found[name].sizes["chain"], found[name].sizes["draw"]) == shape
    assert set(found["posterior"].data_vars) == {"level_initial", "rate", "level_scale"}
    assert np.isfinite(found["sample_stats/lp"]).all()
    assert abs(float(found["posterior/rate"].mean()) - 0.8) < 0.1
    gates = bt.diagnose(found)
    assert [gate.name for gate in gates] == GATES[method]
    if method == "map":
        assert {gate.name: gate.severity for gate in gates if not gate.passed} == {"point": "warn"}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_gives_is_saved_predicted_with_and_reported(method: str, tmp_path: object) -> None:
    found = calibrated(method)
    bt.save(found, tmp_path / "posterior.nc")
    again = bt.load(tmp_path / "posterior.nc")
    assert again.identical(found)
    forecast = bt.predict(decay(), again, telemetry_of({"time": [4.5, 5.0]}), seed=0, draws=40)["predictions"]
    expected = 5.0 * np.exp(-0.8 * np.array([4.5, 5.0]))
    np.testing.assert_allclose(forecast["level_noise_free"].mean(("chain", "draw")), expected, atol=0.05)
    page = bt.render_report(again)
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "rate" in page


# A ramp whose slope and curvature are unknown: its posterior is normal, also in the unconstrained space.
TIMES = np.linspace(0.0, 3.0, 15)
DESIGN = np.stack([TIMES, TIMES**2 / 2, np.ones_like(TIMES)], axis=1)
SEEN = DESIGN @ np.array([0.5, -0.4, 3.0]) + 0.5 * np.random.default_rng(0).standard_normal(TIMES.size)
EXACT = posterior_of(DESIGN, SEEN, 0.5, Normal(np.array([1.0, 0.0, 2.0]), np.diag([1.0, 0.25, 4.0])))
NAMES = ["slope", "curve", "level_initial"]


def ramp_by(method: str) -> xr.DataTree:
    twin = bt.Twin(
        name="ramp",
        vector_field=lambda t, x, p, u: {"level": p.slope + p.curve * t},
        states={"level": bt.State(dist.Normal(2.0, 2.0))},
        parameters={"slope": bt.Parameter(dist.Normal(1.0, 1.0)), "curve": bt.Parameter(dist.Normal(0.0, 0.5))},
        observations={"level": bt.Observation(bt.Gaussian(0.5))},
    )
    telemetry = telemetry_of({"time": TIMES, "level": SEEN})
    return bt.calibrate(twin, telemetry, seed=3, method=method, num_samples=500, predictive_draws=20)


@pytest.mark.thorough
def test_laplace_is_exact_where_the_posterior_is_normal() -> None:
    found = ramp_by("laplace")
    check_moments(np.stack([found["posterior"][name].values for name in NAMES]), EXACT)
    log_ratio = found["sample_stats/log_ratio"].values
    # the evidence, whatever the draw; climbing ends √(2e-6) standard deviations from the mode at most, draws go to 4
    np.testing.assert_allclose(log_ratio, log_ratio.mean(), atol=4 * np.sqrt(2e-6))
    assert found.attrs["approximation"]["pareto_k"] < 0.7
    assert found.attrs["approximation"]["normals"] == 1


@pytest.mark.thorough
def test_pathfinder_draws_from_a_normal_posterior() -> None:
    found = ramp_by("pathfinder")
    draws = np.stack([found["posterior"][name].values for name in NAMES])
    off = draws - EXACT.mean[:, None, None]
    for i, name in enumerate(NAMES):
        # some draws occur several times: the error is that of those that are distinct
        repeated = np.sqrt(draws[i].size / np.unique(draws[i]).size)
        squares = off[i] ** 2
        assert abs(off[i].mean()) < 4 * repeated * float(az.mcse(draws[i], method="mean")), name
        assert abs(squares.mean() - EXACT.covariance[i, i]) < 4 * repeated * float(az.mcse(squares, method="mean"))
    assert found.attrs["approximation"]["pareto_k"] < 0.7


@pytest.mark.thorough
def test_smc_finds_both_signs_and_gives_each_its_weight() -> None:
    times = np.linspace(0.0, 3.0, 10)
    telemetry = telemetry_of({"time": times, "level": 4.0 * np.exp(-0.8 * times)})
    found = bt.calibrate(two_signed(), telemetry, seed=0, method="smc", num_samples=200, predictive_draws=20)
    size = found["posterior/size"].values
    shares = (size > 0).mean(axis=1)
    assert ((shares > 0) & (shares < 1)).all()  # each population has both
    error = max(shares.std(ddof=1) / 2.0, np.sqrt(0.25 / size.size))
    assert abs(shares.mean() - 0.5) < 4 * error < 0.25
    # the likelihood of size² is normal; the prior is flat there
    faded = np.exp(-0.8 * times)
    spread = 0.1 / np.sqrt(faded @ faded) / 4.0
    assert abs(np.abs(size).mean() - 2.0) < 4 * spread / np.sqrt(size.size) * 2.0
    assert 0.8 * spread < np.abs(size).std() < 1.2 * spread


OUTLIER = 7
SCALE = 0.1


def flat() -> bt.Twin:
    """The decay with known noise, and priors that are flat wherever the telemetry could take it."""
    return decay(
        states={"level": bt.State(dist.Uniform(0.0, 20.0))},
        parameters={"rate": bt.Parameter(dist.Uniform(0.0, 5.0))},
        observations={"level": bt.Observation(bt.Gaussian(SCALE))},
    )


def spoilt(by: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and levels of the decay, one of which is off."""
    table = decay_telemetry().table
    level = table["level"].to_numpy().copy()
    level[OUTLIER] += by
    return table.index.to_numpy(), level


@functools.cache
def most_probable(loss: str, by: float) -> tuple[np.ndarray, np.ndarray]:
    """Level and rate by `method="map"`, and their standard errors."""
    times, level = spoilt(by)
    found = bt.calibrate(flat(), telemetry_of({"time": times, "level": level}), seed=0, method="map", loss=loss)
    names = ("level_initial", "rate")
    assert found.attrs["loss"] == loss
    errors = np.array([found.attrs["standard_errors"][name] for name in names])
    return np.array([found["posterior"][name].item() for name in names]), errors


def by_scipy(loss: str, by: float, f_scale: float = 1.0) -> OptimizeResult:
    times, level = spoilt(by)

    def residuals(values: np.ndarray) -> np.ndarray:
        return (values[0] * np.exp(-values[1] * times) - level) / SCALE

    start = np.array([5.0, 0.8])
    return least_squares(residuals, start, loss=loss, f_scale=f_scale, xtol=1e-14, ftol=1e-14, gtol=1e-14)


@pytest.mark.thorough
def test_the_most_probable_values_are_those_of_least_squares() -> None:
    values, errors = most_probable("linear", 0.0)
    exact = by_scipy("linear", 0.0)
    closed = np.sqrt(np.diag(np.linalg.inv(exact.jac.T @ exact.jac)))
    # climbing ends where 1e-6 of log density is still to gain, which is √(2e-6) standard errors
    np.testing.assert_array_less(np.abs(values - exact.x), 2e-3 * closed)
    np.testing.assert_allclose(errors, closed, rtol=2e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(("loss", "f_scale"), [("huber", HUBER), ("soft_l1", 1.0), ("cauchy", 1.0)])
def test_a_robust_loss_is_scipys_and_an_outlier_moves_it_less(loss: str, f_scale: float) -> None:
    values, errors = most_probable(loss, 2.0)
    exact = by_scipy(loss, 2.0, f_scale)
    np.testing.assert_array_less(np.abs(values - exact.x), 3e-3 * errors)
    truth = by_scipy("linear", 0.0).x
    moved = np.abs(most_probable("linear", 2.0)[0] - truth)
    np.testing.assert_array_less(np.abs(values - truth), 0.5 * moved)
    assert (moved > 2.0 * errors).any()


REFUSED = [
    ('`loss="cauchy"` belongs to `method="map"`', {"loss": "cauchy"}),
    ('`loss="huber"` belongs to `method="map"`', {"loss": "huber", "method": "laplace"}),
    ("`method` makes no sense", {"method": "annealing"}),
    ("`loss` makes no sense", {"method": "map", "loss": "absolute"}),
]


@pytest.mark.parametrize(("words", "settings"), REFUSED)
def test_a_word_that_means_nothing_is_refused_with_the_choices(words: str, settings: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting) as raised:
        bt.calibrate(decay(), decay_telemetry(), seed=0, **settings)
    message = str(raised.value)
    assert words in message
    if "makes no sense" in words:
        assert all(f'"{choice}"' in message for choice in (METHODS if "method" in words else ("linear", "cauchy")))
