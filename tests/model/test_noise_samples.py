"""What each noise model draws has the distribution function that SciPy gives it, and stays within its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise_models import CASES, limits_of

import bayestwin as bt

NUM = 4000


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_their_distribution(name: str) -> None:
    case = CASES[name]
    value, time = case.value[1], 0.4
    drawn = np.asarray(case.noise.sample(jax.random.key(1), np.full(NUM, value), np.full(NUM, time), **case.given))
    exact = case.scipy(value, time)
    lower, upper, step = limits_of(case.noise)
    assert drawn.min() >= lower
    assert drawn.max() <= upper
    places = exact.ppf([0.1, 0.3, 0.5, 0.7, 0.9])
    if step:
        places = np.floor(places / step) * step
        np.testing.assert_allclose(drawn / step, np.round(drawn / step), atol=1e-9)
    for place in places[(places >= lower) & (places < upper)]:
        share = exact.cdf(place + step / 2)
        assert abs(np.mean(drawn <= place + 1e-9) - share) < 4.0 * np.sqrt(share * (1 - share) / NUM) + 1e-12


def test_what_does_not_scatter_is_what_is_predicted() -> None:
    """Within a program, where NumPyro does not refuse a scale of zero."""
    times = jnp.array([0.0, 1.0])

    def drawn(noise: bt.Gaussian | bt.LogNormal | bt.Proportional, **parameters: float) -> np.ndarray:
        sample = jax.jit(lambda value, given: noise.sample(jax.random.key(0), value, times, **given))
        return np.asarray(sample(jnp.array([0.0, 2.0]), parameters))

    before, after = drawn(bt.Proportional(0.0, 0.1), scale=0.0, relative=0.1)
    assert before == 0.0
    assert 0.0 < abs(after - 2.0) < 1.0
    without_logarithm, still = drawn(bt.LogNormal(1.0), scale=0.0)
    assert np.isnan(without_logarithm)
    assert still == pytest.approx(2.0)
    assert np.isnan(drawn(bt.Gaussian(1.0), scale=-1.0)).all()
