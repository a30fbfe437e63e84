"""Sobol indices are those of closed forms, over time and over all times, and their intervals hold these."""

import functools
import signal

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.special import ndtri
from twins import bound_density, decay, decay_telemetry, driven, lag, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTwin
from bayestwin.insight.sensitivity import BATCH, noise_free, solve_rows, sparse_density
from bayestwin.insight.sobol import ONE_SD, prior_marginal, saltelli, sobol_indices
from bayestwin.model.describe import fingerprint

A, B = 7.0, 0.1
PARTS = np.array([0.5 * (1.0 + B * np.pi**4 / 5.0) ** 2, A**2 / 8.0, 0.0, B**2 * np.pi**8 * 8.0 / 225.0])
"""Variances of Ishigami's function `sin x + A sin² y + B z⁴ sin x`: of x, y and z alone, and of x with z."""
FIRST = PARTS[:3] / PARTS.sum()
TOTAL = np.array([PARTS[0] + PARTS[3], PARTS[1], PARTS[3]]) / PARTS.sum()


def ishigami() -> bt.Twin:
    """A twin at rest that is observed through Ishigami's function, times `t`."""
    angle = bt.Parameter(dist.Uniform(-np.pi, np.pi))
    return bt.Twin(
        name="ishigami",
        vector_field=lambda t, x, p, u: {"still": 0.0 * x.still},
        states={"still": bt.State(0.0)},
        parameters={"x": angle, "y": angle, "z": angle},
        observations={
            "seen": bt.Observation(
                bt.Gaussian(dist.HalfNormal(1.0)),
                of=lambda t, x, p, u: t * (jnp.sin(p.x) * (1.0 + B * p.z**4) + A * jnp.sin(p.y) ** 2),
            )
        },
    )


def linear(t, x, p, u):
    """Two slopes, one of which belongs to the time."""
    return {"level": p.steady + p.growing * t}


RISE, GROWTH, START = 0.5, 0.3, 2.0


def ramp(**changes: object) -> bt.Twin:
    """`level = start + steady t + growing t²/2`: with normal priors all of its indices are known."""
    settings = {
        "name": "ramp",
        "vector_field": linear,
        "states": {"level": bt.State(dist.Normal(0.0, START), unit="m")},
        "parameters": {
            "steady": bt.Parameter(dist.Normal(1.0, RISE), unit="m/h"),
            "growing": bt.Parameter(dist.Normal(0.0, GROWTH), unit="m/h**2"),
        },
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), unit="m")},
        "time_unit": "h",
        "solver": bt.Solver("tsit5"),
    }
    return bt.Twin(**(settings | changes))


TIMES = np.array([0.0, 0.5, 1.5, 3.0, 6.0])
RAMP = telemetry_of({"time": TIMES, "level": TIMES})


def ramp_variances(times: np.ndarray = TIMES) -> np.ndarray:
    """Of `steady`, `growing` and the start; shape (3, n)."""
    return np.stack([(RISE * times) ** 2, (GROWTH * times**2 / 2.0) ** 2, np.full(len(times), START**2)])


def test_an_observation_without_dynamics_has_the_indices_of_its_function() -> None:
    found = bt.sensitivity(ishigami(), telemetry_of({"time": [0.0, 1.0, 2.0], "seen": 1.0}), seed=0, num_samples=2048)
    sobol = found["sobol"].to_dataset().sel(observation="seen")
    for order, truth in (("first", FIRST), ("total", TOTAL)):
        own = sobol.sel(order=order)
        wide = (own["overall_upper"] - own["overall_lower"]).to_numpy()
        assert (np.abs(own["overall"].to_numpy() - truth) < 0.5 * wide + 1e-12).all()
        assert wide.max() < 0.15
        # the function only grows with time: its indices stay
        for late in (1.0, 2.0):
            np.testing.assert_allclose(own["sobol"].sel(time=late), own["overall"], atol=1e-12)
    # at time 0 it is 0 whatever the quantities are
    assert np.isnan(sobol["sobol"].sel(time=0.0)).all()
    assert sobol["sd"].sel(time=0.0) == 0.0
    np.testing.assert_allclose(sobol["sd"].sel(time=2.0), 2.0 * np.sqrt(PARTS.sum()), rtol=0.02)


def test_intervals_hold_the_truth_at_least_as_often_as_they_say() -> None:
    """90 % intervals of 60 designs; 99.9 % of binomial counts with that probability are not below the limit."""
    held = []
    for seed in range(60):
        points = saltelli(256, 3, seed) * 2.0 * np.pi - np.pi
        x, y, z = np.moveaxis(points, -1, 0)
        outputs = np.sin(x) * (1.0 + B * z**4) + A * np.sin(y) ** 2
        _, lower, upper = sobol_indices(outputs[..., None], seed, 0.9)
        truth = np.stack([FIRST, TOTAL])
        held.append((lower.overall <= truth) & (truth <= upper.overall))
    counts = np.sum(held, axis=0)
    assert (counts >= 46).all(), counts


@functools.cache
def of_ramp() -> xr.DataTree:
    return bt.sensitivity(ramp(), RAMP, seed=3)


@pytest.mark.thorough
def test_a_linear_twin_has_the_shares_of_its_variances() -> None:
    found = of_ramp()
    sobol = found["sobol"].to_dataset().sel(observation="level")
    assert list(sobol["quantity"].to_numpy()) == ["steady", "growing", "level_initial"]
    variances = ramp_variances()
    shares = variances / variances.sum(axis=0)
    overall = variances.sum(axis=1) / variances.sum()
    for order in ("first", "total"):  # it has no interactions
        np.testing.assert_allclose(sobol["sobol"].sel(order=order), shares, atol=0.02)
        np.testing.assert_allclose(sobol["overall"].sel(order=order), overall, atol=0.02)
    np.testing.assert_allclose(sobol["sd"], np.sqrt(variances.sum(axis=0)), rtol=0.01)
    np.testing.assert_array_equal(sobol["time"], TIMES)
    assert sobol["units"] == "m"
    assert sobol["reliable"]


@pytest.mark.thorough
def test_where_a_few_points_make_the_variance_it_says_that_it_cannot_tell() -> None:
    """A log-normal so wide that its variance is that of its farthest point."""
    twin = ramp(
        parameters={"steady": bt.Parameter(dist.LogNormal(0.0, 4.0)), "growing": bt.Parameter(dist.LogNormal(0.0, 4.0))}
    )
    sobol = bt.sensitivity(twin, RAMP, seed=0, num_samples=128)["sobol"].to_dataset()
    assert not sobol["reliable"].any()


def test_more_points_come_closer() -> None:
    truth = ramp_variances().sum(axis=1) / ramp_variances().sum()
    errors = []
    for num in (64, 4096):
        start, *slopes = (saltelli(num, 3, seed=5)[..., i] for i in (2, 0, 1))
        steady, growing = (scale * ndtri(u) for scale, u in zip((RISE, GROWTH), slopes, strict=True))
        level = START * ndtri(start)[..., None] + steady[..., None] * TIMES + growing[..., None] * TIMES**2 / 2.0
        found, _, _ = sobol_indices(level, 0, 0.9)
        errors.append(np.abs(found.overall - truth).max())
    assert errors[1] < errors[0] / 8.0  # points that are independent would come an eighth as close


def test_a_posterior_is_taken_as_independent_and_says_how_wrong_that_is() -> None:
    """By hand: two quantities of variance 1 and correlation −0.9, predicted as their sum."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((4, 500))
    other = -0.9 * one + np.sqrt(1.0 - 0.9**2) * rng.standard_normal((4, 500))
    twin = ramp(parameters={"steady": bt.Parameter(dist.Normal(0.0, 9.0)), "growing": bt.Parameter(0.0)})
    tree = drawn_posterior(twin, steady=one, level_initial=other)
    found = bt.sensitivity(twin, RAMP, seed=0, posterior=tree, distribution="posterior", num_samples=2048)
    sobol = found["sobol"].to_dataset().sel(observation="level")
    np.testing.assert_allclose(sobol["sd"], np.sqrt(1.0 + TIMES**2), rtol=0.05)
    np.testing.assert_allclose(sobol["joint_sd"], np.sqrt(1.0 + TIMES**2 - 1.8 * TIMES), rtol=0.05)
    np.testing.assert_allclose(
        sobol["sobol"].sel(order="first", quantity="steady"), TIMES**2 / (1 + TIMES**2), atol=0.05
    )
    np.testing.assert_allclose(found["local"]["centre"], [one.mean(), other.mean()])
    np.testing.assert_allclose(found["local"]["scale"], [one.std(ddof=1), other.std(ddof=1)])


def drawn_posterior(twin: bt.Twin, **draws: np.ndarray) -> xr.DataTree:
    """A posterior that has these draws; shape (chain, draw) each."""
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({n: (("chain", "draw"), v) for n, v in draws.items()})})
    tree.attrs = {"twin": twin.name, "twin_sha256": fingerprint(twin), "solver_choice": {"method": "tsit5"}}
    return tree


def fragile() -> bt.Twin:
    """A level that blows up before the end if it starts above 1: a quarter of its prior does."""
    return decay(
        vector_field=lambda t, x, p, u: {"level": x.level**2},
        states={"level": bt.State(dist.Uniform(0.0, 1.3333333333), unit="m")},
        parameters={"rate": bt.Parameter(dist.Normal(0.0, 1.0))},
        solver=bt.Solver("tsit5"),
    )


@pytest.mark.thorough
def test_points_that_cannot_be_solved_are_dropped_whole_and_counted() -> None:
    found = bt.sensitivity(fragile(), telemetry_of({"time": [0.0, 1.0], "level": 0.5}), seed=0, num_samples=256)
    sobol = found["sobol"].to_dataset()
    # a row has a start in A and one in B: both must be below 1
    assert sobol.attrs["num_failed"] + sobol.attrs["num_rows"] == 256
    assert abs(sobol.attrs["num_rows"] - 256 * 9 / 16) < 8
    assert np.isfinite(sobol["sobol"]).all()
    # what is left is uniform from 0 to 1 at the start
    assert float(sobol["sd"].sel(time=0.0)[0]) == pytest.approx(np.sqrt(1.0 / 12.0), rel=0.05)
    assert float(sobol["overall"].sel(order="total", quantity="rate")[0]) == 0.0


@pytest.mark.thorough
def test_without_a_point_that_can_be_solved_nothing_is_told() -> None:
    quick = bt.Solver("tsit5", max_steps=50)
    twin = decay(vector_field=lambda t, x, p, u: {"level": 100.0 * x.level**2}, solver=quick)
    found = bt.sensitivity(twin, telemetry_of({"time": [0.0, 3.0], "level": 0.5}), seed=0, num_samples=16)
    sobol = found["sobol"].to_dataset()
    assert (sobol.attrs["num_failed"], sobol.attrs["num_rows"]) == (16, 0)
    assert not sobol["reliable"].any()
    assert all(np.isnan(variable).all() for variable in sobol.drop_vars("reliable").data_vars.values())
    assert np.isnan(found["local"]["scaled"]).all()


@pytest.mark.thorough
def test_each_experiment_has_indices_of_its_own() -> None:
    """What is not shared decides an experiment's own predictions alone; times of another are NaN."""
    short = telemetry_of({"time": TIMES[:3] + 10.0, "level": TIMES[:3]})
    found = bt.sensitivity(ramp(), {"long": RAMP, "short": short}, seed=3)
    sobol = found["sobol"].to_dataset().sel(observation="level", order="first")
    variances = ramp_variances()
    shares = variances / variances.sum(axis=0)
    np.testing.assert_allclose(sobol["sobol"].sel(experiment="long"), shares, atol=0.02)
    np.testing.assert_allclose(sobol["sobol"].sel(experiment="short")[:, :3], shares[:, :3], atol=0.02)
    assert np.isnan(sobol["sobol"].sel(experiment="short")[:, 3:]).all()
    both = np.concatenate([variances, variances[:, :3]], axis=1)
    np.testing.assert_allclose(sobol["overall"], both.sum(axis=1) / both.sum(), atol=0.02)
    assert found["local"]["scaled_rms"].notnull().all()


def signals(hours: np.ndarray, stepped: np.ndarray, sloped: np.ndarray) -> dict[str, np.ndarray]:
    return {"time": hours, "stepped": stepped, "sloped": sloped, "level": 0.0 * hours}


def test_few_times_are_picked_and_inputs_stay_whole() -> None:
    """By the exact lag of `driven`, whose inputs change at every time."""
    rng = np.random.default_rng(2)
    hours, stepped, sloped = np.arange(9.0), rng.normal(size=9), rng.normal(size=9)
    twin = driven(solver=bt.Solver("tsit5", rtol=1e-9))
    density = sparse_density(twin, bind(twin, telemetry_of(signals(hours, stepped, sloped))), max_times=4)
    np.testing.assert_array_equal(density.bound.labels, hours[[0, 3, 5, 8]])
    found = noise_free(density)({"rate": 0.7, "gain": 1.3, "level_initial": 2.0})["level"]
    np.testing.assert_allclose(found, lag(hours, stepped, sloped, 2.0, 0.7, 1.3)[[0, 3, 5, 8]], rtol=1e-7)


def test_quantiles_that_numpyro_does_not_have_come_from_draws() -> None:
    twin = decay(parameters={"rate": bt.Parameter(dist.Gamma(2.0, 1.0), unit="1/h")})
    density = bound_density(twin, decay_telemetry())
    marginal = prior_marginal(density, density.sites[0], seed=0)
    probs = np.array([0.05, 0.5, 0.95])
    np.testing.assert_allclose(density.sites[0].prior.cdf(jnp.asarray(marginal.quantile(probs))), probs, atol=0.005)
    assert marginal.centre == marginal.quantile(np.array([0.5]))[0]
    low, high = marginal.quantile(np.array([1.0 - ONE_SD, ONE_SD]))
    assert marginal.spread == pytest.approx((high - low) / 2.0)


def test_it_is_the_same_again_and_is_stored(tmp_path) -> None:
    one, two = of_ramp(), bt.sensitivity(ramp(), RAMP, seed=3)
    assert one.identical(two)
    assert one.attrs["seed"] == 3
    assert (one.attrs["twin"], one.attrs["distribution"], one.attrs["interrupted"]) == ("ramp", "prior", False)
    bt.save(one, tmp_path / "sensitivity.nc")
    assert bt.load(tmp_path / "sensitivity.nc").identical(one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_samples": 1000}, "power of two"),
        ({"max_times": 0}, "max_times"),
        ({"distribution": "posterior"}, "no posterior"),
        ({"distribution": "uniform"}, "distribution"),
        ({"prob": 1.5}, "prob"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        bt.sensitivity(ramp(), RAMP, seed=0, **settings)


def test_what_does_not_belong_is_refused() -> None:
    with pytest.raises(InvalidArtifact, match="does not belong"):
        bt.sensitivity(ramp(), RAMP, seed=0, posterior=drawn_posterior(decay(), rate=np.ones((2, 100))))
    known = ramp(
        states={"level": bt.State(0.0, unit="m")},
        parameters={"steady": bt.Parameter(1.0), "growing": bt.Parameter(1.0)},
    )
    with pytest.raises(InvalidTwin, match="nothing that its equations hang on"):
        bt.sensitivity(known, RAMP, seed=0)


def test_ctrl_c_keeps_the_points_that_are_solved() -> None:
    """Ctrl-C while the third batch is told of: three batches are there, and they are the first ones."""

    class Impatient:
        told = 0

        def advance(self, steps: int, note: str = "") -> None:  # noqa: ARG002
            self.told += 1
            if self.told == 3:
                signal.raise_signal(signal.SIGINT)

    density = sparse_density(ramp(), bind(ramp(), RAMP), 200)
    values = {
        site.name: prior_marginal(density, site, 0).quantile(saltelli(256, 3, 0)[..., i].ravel()).reshape(256, 5)
        for i, site in enumerate(density.sites[:3])
    }
    found = solve_rows(density, values, Impatient())
    assert found.interrupted
    rows = 3 * (BATCH // 5)
    exact = values["level_initial"][..., None] + values["steady"][..., None] * TIMES
    exact = exact + values["growing"][..., None] * TIMES**2 / 2.0
    np.testing.assert_allclose(found.noise_free["level"], exact[:rows], rtol=1e-5, atol=1e-6)
