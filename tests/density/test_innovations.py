"""Innovations with heavy tails have the likelihood that they are said to have; forecasts then keep their promise."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.density.density import Density
from bayestwin.density.robust import LeastFavourable
from bayestwin.model.describe import describe, fingerprint

POSITIVE = dist.HalfNormal(1.0)
NOISE = bt.ProcessNoise({"level": POSITIVE}, {"level": 1.0})
TAILS = {
    "student": dataclasses.replace(NOISE, innovations="student", df=dist.Gamma(2.0, 0.1)),
    "huber": dataclasses.replace(NOISE, innovations="huber", threshold=2.0),
}
VALUES = {"rate": 0.4, "level_scale": 0.1, "level_diffusion": 0.3, "innovation_df": 3.5}


def tank(error: bt.ProcessNoise) -> bt.Twin:
    return decay(states={"level": bt.State(0.0, unit="m")}, model_error=error)


def record(num: int, seed: int, *, outliers: bool) -> bt.Telemetry:
    """An Ornstein–Uhlenbeck process, which at some steps is pushed, and then seen, five times as hard as else."""
    rng = np.random.default_rng(seed)
    kept, level, seen = np.exp(-0.4 * 0.5), 0.0, []
    push = 0.3 * np.sqrt((1.0 - kept**2) / 0.8)
    for _ in range(num):
        size = 5.0 if outliers and rng.random() < 0.05 else 1.0
        level = kept * level + size * push * rng.normal()
        seen.append(level + 0.1 * size * rng.normal())
    return telemetry_of({"time": 0.5 * np.arange(num), "level": np.array(seen)})


def moments(density: Density, values: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    found = jax.jit(density.predict)(values)
    return np.asarray(found.noise_free["level"]), np.asarray(found.scales["level"])


@pytest.mark.parametrize("word", TAILS)
def test_the_likelihood_is_that_of_innovations_in_standard_deviations(word: str) -> None:
    telemetry = record(120, 4, outliers=True)
    density = bound_density(tank(TAILS[word]), telemetry)
    mean, scale = moments(bound_density(tank(NOISE), telemetry), VALUES)
    away = (telemetry.table["level"].to_numpy() - mean) / scale
    assert np.abs(away).max() > 3.0
    if word == "student":
        expected = stats.t.logpdf(away, VALUES["innovation_df"])
    else:
        loss = np.where(np.abs(away) > 2.0, 2.0 * np.abs(away) - 2.0, away**2 / 2.0)
        mass = np.sqrt(2.0 * np.pi) * (1.0 - 2.0 * stats.norm.sf(2.0)) + np.exp(-2.0)
        expected = -loss - np.log(mass)
    found = float(jax.jit(density.parts)(density.unconstrain(VALUES))[1])
    assert found == pytest.approx((expected - np.log(scale)).sum(), rel=1e-10)


def test_the_least_favourable_density_is_one_and_is_drawn_from() -> None:
    ours = LeastFavourable(1.2, 0.5, 2.0)
    ends = (-np.inf, 0.5 - 2.4, 0.5 + 2.4, np.inf)
    parts = [integrate.quad(lambda y: float(jnp.exp(ours.log_prob(y))), *pair)[0] for pair in itertools.pairwise(ends)]
    assert sum(parts) == pytest.approx(1.0, abs=1e-9)
    drawn = np.asarray(ours.sample(jax.random.key(0), (20_000,)))
    for share, below in zip(np.cumsum(parts), ends[1:3], strict=False):
        assert np.mean(drawn < below) == pytest.approx(share, abs=4.0 * np.sqrt(share * (1.0 - share) / 20_000))


def test_the_spread_at_the_start_follows_the_diffusion() -> None:
    twin = tank(bt.ProcessNoise({"level": POSITIVE}, "diffusion"))
    scale = moments(bound_density(twin, record(5, 1, outliers=False)), VALUES)[1]
    added = 0.3**2 * (1.0 - np.exp(-2.0 * 0.4 * 0.5)) / (2.0 * 0.4)
    assert scale[0] == pytest.approx(np.sqrt(added + 0.1**2), rel=1e-9)
    extended = tank(bt.ProcessNoise({"level": POSITIVE}, "diffusion", "extended"))
    assert moments(bound_density(extended, record(5, 1, outliers=False)), VALUES)[1] == pytest.approx(scale, rel=1e-6)


def test_what_is_new_in_a_forecast_is_student_t() -> None:
    error = bt.ProcessNoise({"level": POSITIVE}, innovations="student", df=3.5)
    telemetry = telemetry_of({"time": [0.0, 0.5], "level": [np.nan, np.nan]})
    bound = bound_density(tank(error), record(2, 1, outliers=False)).bound
    density = bound_density(tank(error), record(2, 1, outliers=False))
    blank = dataclasses.replace(
        density, bound=bound._replace(observations={"level": telemetry.table["level"].to_numpy()})
    )

    def one(key: jax.Array) -> jax.Array:
        return blank.draw(key, VALUES, blank.predict(VALUES))["level"][1]

    drawn = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 4_000)))
    spread = np.sqrt(0.3**2 * (1.0 - np.exp(-0.4)) / 0.8 + 0.1**2)
    assert stats.kstest(drawn / spread, stats.t(3.5).cdf).pvalue > 1e-3
    assert stats.kstest(drawn / spread, stats.norm.cdf).pvalue < 1e-6


WRONG = {
    "an unknown word": (bt.ProcessNoise({"level": 1.0}, innovations="cauchy"), '"student"'),
    "degrees of freedom of others": (bt.ProcessNoise({"level": 1.0}, df=4.0), 'innovations="student"'),
    "a threshold of others": (bt.ProcessNoise({"level": 1.0}, threshold=3.0), 'innovations="huber"'),
    "no degrees of freedom": (bt.ProcessNoise({"level": 1.0}, innovations="student", df=0.0), "positive"),
    "no threshold": (bt.ProcessNoise({"level": 1.0}, innovations="huber", threshold=-1.0), "positive"),
    "a threshold with a prior": (bt.ProcessNoise({"level": 1.0}, innovations="huber", threshold=POSITIVE), "inferred"),
    "another spread at the start": (bt.ProcessNoise({"level": 1.0}, "steady"), '"diffusion"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_go_together_is_an_error(case: str) -> None:
    error, words = WRONG[case]
    with pytest.raises(bt.errors.InvalidTwin, match=words):
        tank(error)


def test_all_of_it_is_in_the_fingerprint_and_nothing_where_it_is_not_used() -> None:
    others = [NOISE, *TAILS.values(), dataclasses.replace(NOISE, innovations="student")]
    others += [
        dataclasses.replace(NOISE, innovations="student", df=5.0),
        dataclasses.replace(NOISE, innovations="huber"),
    ]
    others += [bt.ProcessNoise({"level": POSITIVE}, "diffusion"), bt.ProcessNoise({"level": POSITIVE})]
    assert len({fingerprint(tank(error)) for error in others}) == len(others)
    assert describe(tank(NOISE))["model_error"]["settings"] == {"filter": "auto"}


@functools.cache
def covered(word: str, *, outliers: bool) -> dict[float, float]:
    """Shares of a new record that lie in intervals one step ahead, from the most probable values."""
    error = TAILS.get(word, NOISE)
    found = bt.calibrate(tank(error), record(1_500, 3, outliers=outliers), seed=0, method="map")["posterior"]
    values = {name: float(found[name].mean()) for name in found.data_vars}
    new = record(1_500, 4, outliers=outliers)
    mean, scale = moments(bound_density(tank(error), new), values)
    family = stats.t(values["innovation_df"]) if word == "student" else stats.norm
    away = np.abs(new.table["level"].to_numpy() - mean) / scale
    return {prob: float(np.mean(away < family.ppf(0.5 + prob / 2.0))) for prob in (0.5, 0.8, 0.95)}


@pytest.mark.slow
def test_forecasts_of_records_with_outliers_are_nearer_to_their_promise_and_others_as_before() -> None:
    widened, tailed = (covered(word, outliers=True) for word in ("gaussian", "student"))
    for prob in (0.5, 0.8):
        band = 4.0 * np.sqrt(prob * (1.0 - prob) / 1_500)
        assert widened[prob] > prob + band  # everything is widened by few rows
        assert abs(tailed[prob] - prob) < 0.5 * abs(widened[prob] - prob)
    for prob, share in covered("student", outliers=False).items():
        band = 4.0 * np.sqrt(prob * (1.0 - prob) / 1_500)
        assert share == pytest.approx(prob, abs=band)
        assert share == pytest.approx(covered("gaussian", outliers=False)[prob], abs=band)
