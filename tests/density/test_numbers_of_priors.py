"""The numbers of priors are arguments of compiled programs: other ones compile nothing, and none is ever mistaken."""

import functools
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from numpyro.distributions import transforms
from twins import decay, decay_telemetry

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.priors import Priors, form_of, numbers_of, renumbered

type Maker = Callable[[float], dist.Distribution]
"""Makes a prior of one number between ½ and 2."""

PRIORS: dict[str, Maker] = {
    "normal": lambda a: dist.Normal(a, 0.5 * a),
    "log-normal": lambda a: dist.LogNormal(a - 1.0, 0.3 * a),
    "half-normal": dist.HalfNormal,
    "uniform": lambda a: dist.Uniform(0.1 * a, 3.0 + a),
    "log-uniform": lambda a: dist.LogUniform(0.1 * a, 3.0 + a),
    "gamma": lambda a: dist.Gamma(2.0 * a, a),
    "inverse gamma": lambda a: dist.InverseGamma(3.0 * a, a),
    "exponential": dist.Exponential,
    "student t, with whole degrees": lambda a: dist.StudentT(int(4 * a), a, 1.0),
    "half-cauchy": dist.HalfCauchy,
    "weibull": lambda a: dist.Weibull(a, 1.5),
    "truncated below": lambda a: dist.TruncatedNormal(a, 0.5, low=0.2 * a),
    "truncated above": lambda a: dist.TruncatedNormal(1.0, a, high=3.0 + a),
    "truncated on both sides": lambda a: dist.TruncatedNormal(a, 1.0, low=0.1, high=3.0 + a),
    "beta": lambda a: dist.Beta(a, 2.0),
    "moved and stretched": lambda a: dist.TransformedDistribution(
        dist.Gamma(2.0, a), transforms.AffineTransform(0.0, 2.0)
    ),
    "logistic": lambda a: dist.Logistic(a, 0.2),
    "laplace": lambda a: dist.Laplace(a, 0.2 * a),
}


@functools.cache
def telemetry() -> bt.Telemetry:
    return decay_telemetry()


def density_of(twin: bt.Twin) -> Density:
    return build_density(twin, bind(twin, telemetry())).filled


def prior_density(priors: Priors, z: Array) -> Array:
    values, stretch = priors.constrain(z)
    return priors.log_density(values) + stretch + values["rate"]  # where it lies says more than that of a uniform one


def compare(function: Callable, one: Density | Priors, other: Density | Priors) -> None:
    """One compiled function of both, against functions in which their numbers are constants."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    z = 0.1 * jnp.arange(1.0, 1.0 + len(one.sites))
    compiled = jax.jit(lambda own, z: function(own, z))
    found = [compiled(each, z) for each in (one, other)]
    assert compiled._cache_size() == 1
    exact = [jax.jit(functools.partial(function, each))(z) for each in (one, other)]
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert abs(exact[0] - exact[1]) > 1e-3


@pytest.mark.parametrize("name", PRIORS)
def test_other_numbers_are_taken_and_no_other(name: str) -> None:
    twins = [decay(parameters={"rate": bt.Parameter(PRIORS[name](a))}) for a in (1.0, 1.25)]
    compare(prior_density, *(Priors(twin, twin.sites()) for twin in twins))


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_made_again_of_its_numbers_is_the_same(name: str) -> None:
    one, other = PRIORS[name](1.0), PRIORS[name](1.25)
    again = renumbered(one, iter(numbers_of(other)))
    for value in (0.3, 0.7, 0.9):
        assert again.log_prob(value) == other.log_prob(value)
    assert str(again.support) == str(other.support)
    own, made, wanted = (np.concatenate([*map(np.ravel, numbers_of(prior))]) for prior in (one, again, other))
    np.testing.assert_array_equal(made, wanted)
    assert (made != own).any()


PLACES: dict[str, Callable[[float], bt.Twin]] = {
    "initial": lambda a: decay(states={"level": bt.State(dist.Normal(5.0, a), unit="m")}),
    "noise": lambda a: decay(observations={"level": bt.Observation(bt.StudentT(dist.HalfNormal(a), 4.0), unit="m")}),
    "wrapped noise": lambda a: decay(
        observations={"level": bt.Observation(bt.Censored(bt.Gaussian(dist.HalfNormal(a)), lower=0.01), unit="m")}
    ),
    "process noise": lambda a: decay(model_error=bt.ProcessNoise({"level": dist.HalfNormal(a)})),
    "discrepancy": lambda a: decay(
        model_error=bt.Discrepancy(scale={"level": dist.HalfNormal(a)}, length={"level": dist.LogNormal(0.5, 0.2)})
    ),
    "beside a prior that depends on it": lambda a: decay(
        parameters={
            "rate": bt.Parameter(dist.LogNormal(0.0, a)),
            "other": bt.Parameter(lambda p: dist.LogNormal(jnp.log(p.rate), 0.3)),
        },
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_prior_stands_its_numbers_are_taken(place: str) -> None:
    compare(lambda density, z: density(z), *(density_of(PLACES[place](a)) for a in (1.0, 1.25)))


def closing_over(prior: dist.Distribution) -> bt.Twin:
    def depending(p):
        return dist.LogNormal(jnp.log(p.rate), prior.scale)

    parameters = {"rate": bt.Parameter(dist.LogNormal(0.0, 1.0)), "other": bt.Parameter(depending)}
    return decay(parameters=parameters)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (decay(parameters={"rate": bt.Parameter(PRIORS["gamma"](1.0))}), decay()),
        (closing_over(dist.Normal(0.0, 1.0)), closing_over(dist.Normal(0.0, 2.0))),
        (
            decay(parameters={"rate": bt.Parameter(dist.TruncatedNormal(1.0, 1.0, low=0.0))}),
            decay(parameters={"rate": bt.Parameter(dist.TruncatedNormal(1.0, 1.0, low=0.0, high=9.0))}),
        ),
    ],
    ids=["another kind", "a number that a function has from outside", "one bound more"],
)
def test_what_is_no_number_of_a_prior_tells_twins_apart(one: bt.Twin, other: bt.Twin) -> None:
    assert jax.tree.structure(density_of(one)) != jax.tree.structure(density_of(other))


def test_transforms_are_no_numbers() -> None:
    """Where they stand in a prior they are what compiled programs are found by."""

    def form(factor: float) -> Hashable:
        return form_of(dist.TransformedDistribution(dist.Gamma(2.0, 1.0), transforms.AffineTransform(0.0, factor)))

    assert form(2.0) == form(2.0) != form(3.0)


def test_draws_of_the_prior_follow_its_numbers() -> None:
    keys = jax.random.split(jax.random.key(0), 64)
    levels = []
    for middle in (0.0, 2.0):
        twin = decay(parameters={"rate": bt.Parameter(dist.LogNormal(middle, 0.1))})
        levels.append(np.median(density_of(twin).draw_prior(keys)[0]["rate"]))
    np.testing.assert_allclose(levels, np.exp([0.0, 2.0]), rtol=0.1)
