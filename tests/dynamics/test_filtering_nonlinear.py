"""For other twins the filters come near the likelihood that a fine grid over the state finds, the unscented nearer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from twins import telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.dynamics.filter import Filter
from bayestwin.dynamics.grid import build_grid

GROWTH, START, SCALE, DIFFUSION = 1.5, 0.3, 0.05, 0.12
TIMES = np.array([0.0, 0.8, 1.6, 2.0, 3.2, 4.0])
SEEN = np.array([np.nan, 0.65, 0.7, np.nan, 1.1, 0.95])


def logistic(word: str) -> Filter:
    """Logistic growth with process noise, seen through a square root."""
    twin = bt.Twin(
        name="logistic",
        vector_field=lambda t, x, p, u: {"level": p.growth * x.level * (1.0 - x.level)},
        states={"level": bt.State(START)},
        parameters={"growth": bt.Parameter(GROWTH)},
        observations={"root": bt.Observation(bt.Gaussian(SCALE), of=lambda t, x, p, u: jnp.sqrt(jnp.abs(x.level)))},
        model_error=bt.ProcessNoise({"level": DIFFUSION}, filter=word),
    )
    bound = bind(twin, telemetry_of({"time": TIMES, "root": SEEN}))
    return Filter(twin, build_grid(twin, bound.times, bound.times, {}), bound.observations)


def log_likelihood(word: str) -> float:
    expected = jax.jit(logistic(word).expect)({})
    assert bool(expected.solved)
    present = np.isfinite(SEEN)
    mean, scale = expected.moments[0, present, 0], np.exp(expected.moments[1, present, 0])
    return float(norm.logpdf(SEEN[present], mean, scale).sum())


def by_grid(step: float = 0.01) -> float:
    """Euler–Maruyama by small steps, each a matrix over a fine grid of the level."""
    levels = np.linspace(-0.6, 2.4, 1200)
    width = levels[1] - levels[0]
    drift = levels + step * GROWTH * levels * (1.0 - levels)
    kernel = norm.pdf(levels[:, None], drift[None, :], DIFFUSION * np.sqrt(step)) * width
    first = START + step * GROWTH * START * (1.0 - START)
    weight, total = norm.pdf(levels, first, DIFFUSION * np.sqrt(step)) * width, 0.0
    for k, (time, value) in enumerate(zip(TIMES[1:], SEEN[1:], strict=True)):
        for _ in range(round((time - TIMES[k]) / step) - (k == 0)):
            weight = kernel @ weight
        if np.isfinite(value):
            weight = weight * norm.pdf(value, np.sqrt(np.abs(levels)), SCALE)
            total += np.log(weight.sum())
            weight = weight / weight.sum()
    return total


@pytest.mark.thorough
def test_both_filters_come_near_the_exact_likelihood() -> None:
    coarse, fine = by_grid(0.01), by_grid(0.005)
    assert fine == pytest.approx(coarse, abs=0.01)
    exact = 2.0 * fine - coarse  # the error of Euler's steps is proportional to their length
    off = {word: abs(log_likelihood(word) - exact) for word in ("auto", "extended", "unscented")}
    assert off["auto"] == off["extended"] < 0.15
    assert off["unscented"] < 0.3 * off["extended"]


def test_simulated_levels_are_distributed_as_the_diffusion_is() -> None:
    times = np.linspace(0.0, 4.0, 41)
    twin = logistic("auto").twin
    stops = Filter(twin, build_grid(twin, times, times, {}), {})
    draws = jax.jit(jax.vmap(lambda key: stops.draw({}, key).states[-1, 0]))(jax.random.split(jax.random.key(0), 4000))
    rng, levels = np.random.default_rng(1), np.full(4000, START)
    for _ in range(400):
        levels = levels + 0.01 * GROWTH * levels * (1.0 - levels) + DIFFUSION * 0.1 * rng.standard_normal(4000)
    # quantiles, for below zero the level runs away: the error of these, each of a sample, is at most 2 sd / √n
    error = np.sqrt(2.0) * 2.0 * np.quantile(np.abs(levels - np.median(levels)), 0.68) / np.sqrt(4000)
    probs = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(draws, probs), np.quantile(levels, probs), atol=3.0 * error)
