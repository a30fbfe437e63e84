"""The metric of experiments that share a few coordinates knows all their correlations, and becomes that of draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_nuts import covariance_of

from bayestwin.inference.metric import ArrowWhitening, first_metric, read_metric, rescale

SHARED, OWN = np.array([0, 7]), np.array([[1, 2], [3, 4], [5, 6]])


def an_arrow(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """A covariance whose inverse has nothing between experiments; shape (8, 8)."""
    rng = np.random.default_rng(seed)
    precision = np.zeros((8, 8))
    precision[np.ix_(SHARED, SHARED)] += 40.0 * np.eye(2)
    for own in OWN:
        places = np.concatenate([SHARED, own])
        root = rng.normal(size=(4, 4))
        precision[np.ix_(places, places)] += root @ root.T + 0.5 * np.eye(4)
    return np.linalg.inv(precision) * scale


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> ArrowWhitening:
    monkeypatch.setattr("bayestwin.inference.metric.DENSE_UP_TO", 4)
    found = first_metric(np.arange(8.0), np.linalg.cholesky(an_arrow()), (SHARED, OWN))
    assert isinstance(found, ArrowWhitening)
    return found


def test_it_is_the_covariance_of_the_mode(metric: ArrowWhitening) -> None:
    np.testing.assert_allclose(covariance_of(metric), an_arrow(), rtol=1e-10, atol=1e-12)
    assert metric.kind == "arrow"


@pytest.mark.thorough
def test_there_and_back_and_along(metric: ArrowWhitening) -> None:
    w, gradient = np.random.default_rng(1).normal(size=(2, 8))
    np.testing.assert_allclose(metric.whiten(np.asarray(metric.unwhiten(jnp.asarray(w)))), w, rtol=1e-10)
    slope = jax.grad(lambda w: gradient @ metric.unwhiten(w))(jnp.asarray(w))
    np.testing.assert_allclose(metric.along(gradient), slope, rtol=1e-10)


def test_few_dimensions_have_a_dense_metric() -> None:
    found = first_metric(np.zeros(8), np.linalg.cholesky(an_arrow()), (SHARED, OWN))
    assert found.kind == "dense"
    np.testing.assert_allclose(covariance_of(found), an_arrow(), rtol=1e-9, atol=1e-12)


def test_it_becomes_that_of_the_draws(metric: ArrowWhitening) -> None:
    wanted = an_arrow(seed=5, scale=3.0)
    z = np.random.default_rng(2).multivariate_normal(np.ones(8), wanted, size=(20_000, 4))
    z += np.array([50.0, 0.0, 0.0, -50.0])[:, None]  # chains apart do not widen it
    found = rescale(metric, z)
    deviation = np.sqrt(np.diag(wanted))
    difference = (covariance_of(found) - wanted) / np.outer(deviation, deviation)
    assert np.abs(difference).max() < 5.0 / np.sqrt(80_000) + 4 * 20.0 / 80_000
    few = rescale(metric, z[:1])  # one draw a chain says nothing of what is within chains
    np.testing.assert_allclose(covariance_of(few), an_arrow() * 20.0 / 24.0, rtol=1e-9, atol=1e-12)


@pytest.mark.thorough
def test_few_draws_leave_what_many_experiments_share_as_it_was() -> None:
    """Of each experiment's edges draws say little, and what they say wrongly would add up over all experiments."""
    num, rng = 300, np.random.default_rng(3)
    shared, own = np.arange(2), 2 + np.arange(2 * num).reshape(num, 2)
    roots = [np.tril(rng.normal(size=(k, 2, 2)) * 0.3) + 2.0 * np.eye(2) for k in (1, num)]
    edges = rng.normal(size=(num, 2, 2))
    exact = ArrowWhitening(np.zeros(2 + 2 * num), roots[0][0], edges, roots[1], shared, own)
    z = jax.vmap(jax.vmap(exact.unwhiten))(rng.normal(size=(50, 4, 2 + 2 * num)))
    found = rescale(exact, np.asarray(z))
    turned = np.stack(
        [exact.whiten(np.asarray(found.unwhiten(w)) - found.centre) for w in jnp.eye(2 + 2 * num)], axis=1
    )
    # given all experiments, as stiff as a unit normal but for the 200 draws of the two shared coordinates themselves
    stiff = np.linalg.eigvalsh((turned.T @ turned)[:2, :2])
    assert stiff.max() < 1.0 + 5.0 * np.sqrt(2.0 / 200)


def test_it_is_read_again(metric: ArrowWhitening) -> None:
    again = read_metric({name: np.asarray(leaf) for name, leaf in metric._asdict().items()}, 8)
    assert all((ours == theirs).all() for ours, theirs in zip(again, metric, strict=True))
