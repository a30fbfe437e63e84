"""Power-scaling tells prior from data: the exact distances of a normal posterior, and words that fit the case."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from exact import normal, posterior
from scipy import stats
from twins import decay, known_decay

import bayestwin as bt
from bayestwin.errors import InvalidArtifact
from bayestwin.insight.influence import CONFLICT, FINE, STRONG_PRIOR, UNKNOWN, diagnosis, log_prior
from bayestwin.model.describe import fingerprint

SEEDS = range(12)


def distance(one: tuple[float, float], other: tuple[float, float], low: float, high: float) -> float:
    """Cumulative Jensen–Shannon distance of two normals between two ends (Nguyen and Vreeken 2015), by quadrature."""
    x = np.linspace(low, high, 20001)

    def of_side(sign: float) -> float:
        ends = np.sort(sign * x)
        p, q = (np.maximum(stats.norm.cdf(ends, sign * mean, sd), 1e-300) for mean, sd in (one, other))
        middle = np.log2((p + q) / 2.0)
        gap = np.trapezoid(q - p, ends) / (2.0 * np.log(2.0))
        pq = np.trapezoid(p * (np.log2(p) - middle), ends) + gap
        qp = np.trapezoid(q * (np.log2(q) - middle), ends) - gap
        return float(np.sqrt((pq + qp) / np.trapezoid(p + q, ends)))

    return max(of_side(1.0), of_side(-1.0))


def exact(part: str, low: float, high: float) -> float:
    """The sensitivity: mean of the distances of both powers over the binary logarithm of these."""
    found = []
    for power in (0.99, 1.01):
        moved = normal(prior=power) if part == "prior" else normal(keep=power)
        found.append(distance(normal(), moved, low, high) / abs(np.log2(power)))
    return float(np.mean(found))


@pytest.mark.parametrize("part", ["prior", "likelihood"])
def test_a_normal_posterior_moves_as_it_must(part: str) -> None:
    found, truth = [], []
    for seed in SEEDS:
        tree = posterior(seed)
        draws = tree["posterior"]["level_initial"].to_numpy()
        truth.append(exact(part, draws.min(), draws.max()))
        found.append(float(bt.power_scaling(known_decay(), tree)[part][0]))
    error = np.std(np.subtract(found, truth), ddof=1) / np.sqrt(len(SEEDS))
    assert error < 0.05 * np.mean(truth)  # or it would say nothing
    assert abs(np.mean(found) - np.mean(truth)) < 4.0 * error + 0.01 * np.mean(truth)


def test_priors_are_evaluated_in_the_units_of_their_sites() -> None:
    twin, tree = decay(), posterior(0)
    rng = np.random.default_rng(1)
    drawn = {"rate": rng.lognormal(size=(4, 9)), "level_initial": rng.normal(size=(4, 9))}
    drawn |= {"level_scale": rng.exponential(size=(4, 9))}
    tree["posterior"] = xr.Dataset({name: (("chain", "draw"), values) for name, values in drawn.items()})
    found = log_prior(twin, tree)
    hand = stats.lognorm(0.5).logpdf(drawn["rate"]) + stats.norm(5.0, 1.0).logpdf(drawn["level_initial"])
    np.testing.assert_allclose(found, hand + stats.halfnorm(scale=0.5).logpdf(drawn["level_scale"]), rtol=1e-12)
    assert found.dims == ("chain", "draw")


@pytest.mark.parametrize(
    ("prior", "likelihood", "words"),
    [
        (0.01, 0.2, FINE),
        (0.2, 0.2, CONFLICT),
        (0.2, 0.01, STRONG_PRIOR),
        (np.nan, 0.2, UNKNOWN),
        (0.01, np.nan, UNKNOWN),
    ],
)
def test_words_fit_the_case(prior: float, likelihood: float, words: str) -> None:
    assert diagnosis(prior, likelihood) == words


def test_a_posterior_far_from_its_prior_is_a_conflict() -> None:
    """The same draws, under a prior that is a hundred times as sure of another value."""
    tree = posterior(0)
    far = decay(states={"level": bt.State(dist.Normal(9.0, 0.1), unit="m")}, parameters=known_decay().parameters)
    far = dataclasses.replace(far, observations=known_decay().observations)
    tree.attrs["twin_sha256"] = fingerprint(far)
    found = bt.power_scaling(far, tree)
    assert found["diagnosis"].item() == CONFLICT
    assert "`level_initial`" in found["sentence"].item()
    calm = bt.power_scaling(known_decay(), posterior(0))
    assert calm["diagnosis"].item() == FINE


def test_draws_without_a_density_are_not_passed() -> None:
    tree = posterior(0)
    tree["log_likelihood"]["level"][0, 0, 0] = np.nan
    found = bt.power_scaling(known_decay(), tree)
    assert found["diagnosis"].item() == UNKNOWN
    assert np.isfinite(found["prior"].item())
    constant = posterior(0)
    constant["posterior"]["level_initial"][:] = 5.0
    assert bt.power_scaling(known_decay(), constant)["diagnosis"].item() == UNKNOWN


def test_the_posterior_of_another_twin_is_refused() -> None:
    with pytest.raises(InvalidArtifact, match="does not belong"):
        bt.power_scaling(decay(), posterior(0))
