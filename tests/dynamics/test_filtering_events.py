"""Events of known time with process noise: what an event does to a state, it does to what is not known about it."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal
from twins import bound_density, decay, telemetry_of

import bayestwin as bt

RATE, DIFFUSION, NOISE, SPREAD = 0.7, 0.4, 0.2, 0.3
TIMES = np.array([0.0, 0.4, 1.0, 1.5, 2.5, 3.0, 4.2])
LEVELS = np.array([5.1, 3.9, np.nan, 4.6, 2.2, 1.1, 0.9])
DOSES = np.array([1.5, np.nan, 2.0, np.nan, np.nan, np.nan, np.nan])


def refilled(word: str) -> bt.Twin:
    """A decaying level: doses of the telemetry are added, and at 2 h and 3 h half of it is let out."""
    positive = dist.HalfNormal(1.0)
    return decay(
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(positive)},
        observations={"level": bt.Observation(bt.Gaussian(positive))},
        events={
            "dose": bt.Event(lambda t, x, p, u: {"level": x.level + u.dose}),
            "valve": bt.Event(lambda t, x, p, u: {"level": 0.5 * x.level}, at=(2.0, 3.0)),
        },
        model_error=bt.ProcessNoise({"level": positive}, {"level": SPREAD}, word),
        solver=bt.Solver("tsit5", 1e-9, 1e-11),
    )


def dense() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the level at all times, from one stop to the next: an observation is before its event."""
    stops = np.union1d(TIMES, [2.0, 3.0])
    mean, rows = 5.0, np.array([SPREAD])
    means, maps = [], []
    for number, stop in enumerate(stops):
        if stop in TIMES:
            means.append(mean)
            maps.append(rows)
        if number + 1 == len(stops):
            break
        if stop in TIMES and np.isfinite(DOSES[np.searchsorted(TIMES, stop)]):
            mean = mean + DOSES[np.searchsorted(TIMES, stop)]
        if stop in (2.0, 3.0):
            mean, rows = 0.5 * mean, 0.5 * rows
        faded = np.exp(-RATE * (stops[number + 1] - stop))
        added = DIFFUSION * np.sqrt((1.0 - faded**2) / (2.0 * RATE))
        mean, rows = mean * faded, np.append(rows * faded, added)
    table = np.zeros((len(maps), len(maps[-1])))
    for number, row in enumerate(maps):
        table[number, : len(row)] = row
    return np.array(means), table @ table.T


@pytest.mark.parametrize("word", ["auto", "extended", "unscented"])
def test_the_likelihood_is_that_of_a_dense_normal(word: str) -> None:
    telemetry = telemetry_of({"time": TIMES, "level": LEVELS, "dose": DOSES})
    density = bound_density(refilled(word), telemetry)
    z = density.unconstrain({"rate": RATE, "level_scale": NOISE, "level_diffusion": DIFFUSION})
    seen = np.isfinite(LEVELS)
    mean, covariance = dense()
    noisy = covariance[np.ix_(seen, seen)] + NOISE**2 * np.eye(seen.sum())
    expected = multivariate_normal(mean[seen], noisy).logpdf(LEVELS[seen])
    assert float(jax.jit(density.parts)(z)[1]) == pytest.approx(expected, rel=1e-8)


def test_smoothed_draws_are_those_of_the_dense_normal() -> None:
    telemetry = telemetry_of({"time": TIMES, "level": LEVELS, "dose": DOSES})
    density = bound_density(refilled("auto"), telemetry)
    values = {"rate": RATE, "level_scale": NOISE, "level_diffusion": DIFFUSION}
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.jit(jax.vmap(lambda key: density.draw(key, values, density.predict(values))["level_state"]))(keys)
    seen = np.isfinite(LEVELS)
    mean, covariance = dense()
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + NOISE**2 * np.eye(seen.sum()))
    mean, covariance = mean + gain @ (LEVELS - mean)[seen], covariance - gain @ covariance[seen]
    away = np.abs(np.asarray(drawn).mean(0) - mean) / np.sqrt(np.diag(covariance) / len(keys))
    assert away.max() < 5.0
    ratio = np.asarray(drawn).var(0) / np.diag(covariance)
    assert np.abs(ratio - 1.0).max() < 5.0 * np.sqrt(2.0 / len(keys))


@pytest.mark.thorough
def test_averages_are_over_what_is_not_known_after_the_event() -> None:
    """Half of the level let out at the start is a start from half of it, also where curvature matters."""

    def likelihood(initial: float, spread: float, **events: object) -> float:
        twin = decay(
            vector_field=lambda t, x, p, u: {"level": -p.rate * x.level**2},
            states={"level": bt.State(initial)},
            model_error=bt.ProcessNoise({"level": 0.1}, {"level": spread}, "unscented"),
            solver=bt.Solver("tsit5", 1e-9, 1e-11),
            **events,
        )
        density = bound_density(twin, telemetry_of({"time": TIMES, "level": np.where(TIMES > 0, LEVELS, np.nan)}))
        return float(density.parts(density.unconstrain({"rate": RATE, "level_scale": NOISE}))[1])

    valve = bt.Event(lambda t, x, p, u: {"level": 0.5 * x.level}, at=(0.0,))
    assert likelihood(4.0, 1.2, events={"valve": valve}) == pytest.approx(likelihood(2.0, 0.6), rel=1e-9)


WRONG = {
    "parameter `rate`, which an event changes": bt.Event(lambda t, x, p, u: {"rate": 1.0}, at=(1.0,)),
    "event `act`, which the state triggers": bt.Event(
        lambda t, x, p, u: {"level": 5.0}, when=lambda t, x, p, u: 1.0 - x.level
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_events_that_a_filter_cannot_follow_are_refused(words: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=words):
        decay(events={"act": WRONG[words]}, model_error=bt.ProcessNoise({"level": 1.0}))
