"""Fisher information is that of closed forms: exactly for Gaussian noise, within chance where records are imagined."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from twins import bound_density, decay, decay_telemetry

import bayestwin as bt
from bayestwin.insight.information import PAIRS, information_of
from bayestwin.model.noise import Noise

TRUTH = {"rate": 0.8, "level_initial": 5.0, "level_scale": 0.2}


def jointly_normal(slopes: np.ndarray, covariance: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """`∂mᵀ C⁻¹ ∂m + ½ tr(C⁻¹ ∂C C⁻¹ ∂C)`; slopes (n, d), bends (n, n, d)."""
    inverse = np.linalg.inv(covariance)
    turned = np.einsum("ij,jkd->dik", inverse, bends)
    return slopes.T @ inverse @ slopes + 0.5 * np.einsum("dik,eki->de", turned, turned)


def check(noise: Noise, extra: dict[str, float], covariance, model_error=None) -> None:
    """The information of `decay` under a noise model whose records are jointly normal with this covariance."""
    twin = decay(observations={"level": bt.Observation(noise, unit="m")}, model_error=model_error)
    density = bound_density(twin, decay_telemetry())
    z = density.unconstrain(TRUTH | extra)
    names = [site.name for site in density.sites]

    def moments(z: Array) -> tuple[Array, Array]:
        values = density.constrain(z)
        return density.predict(values).noise_free["level"], covariance(density, values)

    (_, spread), (slopes, bends) = moments(z), jax.jacfwd(moments)(z)
    exact = jointly_normal(*map(np.asarray, (slopes, spread, bends)))
    found = information_of(density, 0)(np.asarray(z)[None])[0]
    physics = [names.index(name) for name in ("rate", "level_initial")]
    root = np.sqrt(np.diagonal(exact))
    off = abs(found - exact) / np.outer(root, root)
    if not extra:
        np.testing.assert_allclose(off, 0.0, atol=1e-9)
        return
    if model_error is not None:
        np.testing.assert_allclose(off[np.ix_(physics, physics)], 0.0, atol=1e-9)
    # a product of two scores, each of which is about normal, varies by √2 at most
    assert off.max() < 4 * np.sqrt(2 / (2 * PAIRS))
    assert np.linalg.eigvalsh(found).min() > 0


def test_white_noise_is_exact() -> None:
    check(bt.Gaussian(dist.HalfNormal(0.5)), {}, lambda density, v: v["level_scale"] ** 2 * jnp.eye(12))


@pytest.mark.slow
def test_noise_that_remembers_is_right_within_chance() -> None:
    noise = bt.Autocorrelated(dist.HalfNormal(0.5), correlation_time=dist.LogNormal(-1.0, 0.5))

    def covariance(density, v):
        gaps = abs(density.bound.times[:, None] - density.bound.times[None])
        return v["level_scale"] ** 2 * jnp.exp(-gaps / v["level_correlation_time"])

    check(noise, {"level_correlation_time": 0.5}, covariance)


@pytest.mark.slow
def test_with_a_discrepancy_what_is_told_of_the_equations_is_exact() -> None:
    error = bt.Discrepancy(scale={"level": dist.HalfNormal(1.0)}, length={"level": dist.LogNormal(0.0, 0.3)})

    def covariance(density, v):
        root = density.discrepancies.factor("level", v)
        return root @ root.T + v["level_scale"] ** 2 * jnp.eye(12)

    extra = {"level_discrepancy_scale": 0.5, "level_discrepancy_length": 1.0}
    check(bt.Gaussian(dist.HalfNormal(0.5)), extra, covariance, error)
