"""What is said one parameter after the other is the joint prior, by the densities of NumPyro and of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.density.priors import Priors
from bayestwin.errors import InvalidTwin

LOC = jnp.array([0.3, -0.5, 0.1])
COVARIANCE = jnp.array([[1.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 0.5]])
NORMAL = dist.MultivariateNormal(LOC, covariance_matrix=COVARIANCE)
ORDERED = dist.transforms.OrderedTransform()
KINDS = {
    "normal": (NORMAL, 3),
    "log-normal": (dist.TransformedDistribution(NORMAL, dist.transforms.ExpTransform()), 3),
    "shares": (dist.Dirichlet(jnp.array([1.5, 2.0, 3.0, 0.7])), 4),
    "ordered": (dist.TransformedDistribution(dist.Normal(0.5, 1.3).expand([3]).to_event(1), ORDERED), 3),
    "ordered, each its own": (dist.TransformedDistribution(dist.Normal(LOC, 1.0).to_event(1), ORDERED), 3),
    "correlations of two": (dist.LKJ(2, 2.0), 1),
    "correlations of four": (dist.LKJ(4, 1.5), 6),
}


def of(names: tuple[str, ...], prior: object, **words: object) -> bt.Twin:
    """A decay whose rate is known, beside parameters that have a joint prior."""
    return decay(
        parameters={
            "rate": bt.Parameter(0.8),
            "mean": bt.Parameter(dist.Normal(0.0, 1.0)),
            **bt.joint(names, prior, **words),
        },
        observations={"level": bt.Observation(bt.Gaussian(0.3))},
    )


def as_event(prior: object, values: np.ndarray) -> jnp.ndarray:
    """What the whole distribution takes: a matrix where it is one of correlations."""
    if not isinstance(prior, dist.LKJ):
        return jnp.asarray(values)
    rows, columns = np.triu_indices(prior.dimension, 1)
    matrix = jnp.broadcast_to(jnp.eye(prior.dimension), (len(values), prior.dimension, prior.dimension))
    return matrix.at[:, rows, columns].set(values).at[:, columns, rows].set(values)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_the_density_is_that_of_the_whole(kind: str) -> None:
    prior, num = KINDS[kind]
    names = tuple(f"part_{number}" for number in range(num))
    twin = of(names, prior)
    priors = Priors(twin, tuple(site for site in twin.sites() if site.name in names))
    values = jax.vmap(priors.sample)(jax.random.split(jax.random.key(0), 300))
    whole = values | jax.vmap(priors.derive)(values)
    event = as_event(prior, np.stack([whole[name] for name in names], axis=-1))
    np.testing.assert_allclose(
        jax.vmap(priors.log_density)(values), jax.vmap(prior.log_prob)(event), rtol=1e-9, atol=1e-9
    )
    z = jax.vmap(priors.unconstrain)(values)
    back, correction = jax.vmap(priors.constrain)(z)
    for name in values:
        np.testing.assert_allclose(back[name], values[name], rtol=1e-9, atol=1e-9)
    derivative = jax.vmap(jax.jacfwd(lambda z: jnp.stack(list(priors.constrain(z)[0].values()))))(z)
    np.testing.assert_allclose(correction, jnp.linalg.slogdet(derivative)[1], rtol=1e-7, atol=1e-7)


def test_draws_have_the_moments_of_the_whole() -> None:
    twin = of(("a", "b", "c"), NORMAL)
    values, _ = build_density(twin, bind_all(twin, decay_telemetry())).draw_prior(
        jax.random.split(jax.random.key(4), 8000)
    )
    drawn = np.stack([values[name] for name in "abc"])
    error = 4.0 / np.sqrt(8000)
    np.testing.assert_allclose(drawn.mean(axis=1), LOC, atol=error * np.sqrt(2.0))
    np.testing.assert_allclose(np.cov(drawn), COVARIANCE, atol=error * 2.0 * np.sqrt(2.0))


def test_ordered_quantities_ascend_and_shares_add_up() -> None:
    for kind, told in (("ordered", np.diff), ("shares", lambda drawn, axis: 1.0 - np.abs(drawn.sum(axis=axis) - 1.0))):
        prior, num = KINDS[kind]
        names = tuple(f"part_{number}" for number in range(num))
        density = build_density(of(names, prior), bind_all(of(names, prior), decay_telemetry()))
        values, _ = density.draw_prior(jax.random.split(jax.random.key(1), 500))
        whole = {**values, **density.derive_all(values)}
        drawn = np.stack([whole[name] for name in names])
        assert (np.asarray(told(drawn, axis=0)) > 0.0).all()


@pytest.mark.thorough
def test_a_posterior_of_correlated_priors_is_the_one_on_paper() -> None:
    """The level at the start and a second one that is not seen: what is learnt of one moves the other."""
    prior = dist.MultivariateNormal(jnp.array([5.0, 2.0]), jnp.array([[1.0, 0.8], [0.8, 1.0]]))
    twin = decay(
        parameters={"rate": bt.Parameter(0.8), **bt.joint(("start", "other"), prior, unit={"start": "m"})},
        states={"level": bt.State(lambda p: p.start, unit="m")},
        observations={"level": bt.Observation(bt.Gaussian(0.3), unit="m")},
    )
    assert twin.parameters["start"].unit == "m"
    telemetry = decay_telemetry()
    posterior = bt.calibrate(twin, telemetry, seed=0)["posterior"]
    times, seen = telemetry.table.index.to_numpy(), telemetry.table["level"].to_numpy()
    weight = np.exp(-0.8 * times)
    variance = 1.0 / (1.0 + (weight**2).sum() / 0.09)
    mean = variance * (5.0 + (weight * seen).sum() / 0.09)
    other = 2.0 + 0.8 * (mean - 5.0), 1.0 - 0.64 + 0.64 * variance
    error = 5.0 / np.sqrt(1000)
    np.testing.assert_allclose(posterior["start"].mean(), mean, atol=error * np.sqrt(variance))
    np.testing.assert_allclose(posterior["other"].mean(), other[0], atol=error * np.sqrt(other[1]))
    np.testing.assert_allclose(posterior["other"].std(), np.sqrt(other[1]), rtol=error)


@pytest.mark.thorough
def test_a_function_of_parameters_makes_the_distribution_and_experiments_have_their_own() -> None:
    def around(p: object) -> dist.Distribution:
        return dist.MultivariateNormal(jnp.array([p.mean, 2.0]), jnp.array([[1.0, 0.8], [0.8, 1.0]]))

    twin = of(("a", "b"), around, shared=False)
    telemetry = {"first": decay_telemetry(), "second": telemetry_of({"time": [0.0, 1.0], "level": [5.0, 2.2]})}
    density = build_density(twin, bind_all(twin, telemetry))
    values = {
        "mean": np.array(0.4),
        "a": np.array([0.1, 0.9]),
        "b": np.array([1.0, 2.5]),
        "level_initial": np.array([5.0, 5.1]),
    }
    expected = stats.norm.logpdf(0.4) + stats.norm.logpdf(values["level_initial"], 5.0, 1.0).sum()
    for a, b in zip(values["a"], values["b"], strict=True):
        expected += stats.multivariate_normal.logpdf([a, b], [0.4, 2.0], [[1.0, 0.8], [0.8, 1.0]])
    np.testing.assert_allclose(density.priors.log_density(values), expected, rtol=1e-10)
    z = density.unconstrain(values)
    total = density(z) - density.constrain_with_log_det(z)[1]
    np.testing.assert_allclose(log_density(bt.numpyro_model(twin, telemetry), (), {}, values)[0], total, rtol=1e-9)


@pytest.mark.thorough
def test_correlations_of_three_sensors_are_inferred() -> None:
    rho = ("rho_12", "rho_13", "rho_23")
    sensors = {
        "one": bt.Observation(
            bt.Gaussian(0.2), of=lambda t, x, p, u: x.level, correlated={"two": "rho_12", "three": "rho_13"}
        ),
        "two": bt.Observation(bt.Gaussian(0.2), of=lambda t, x, p, u: x.level, correlated={"three": "rho_23"}),
        "three": bt.Observation(bt.Gaussian(0.2), of=lambda t, x, p, u: x.level),
    }
    twin = decay(parameters={"rate": bt.Parameter(0.8), **bt.joint(rho, dist.LKJ(3, 1.0))}, observations=sensors)
    truth = np.array([[1.0, 0.8, -0.3], [0.8, 1.0, 0.1], [-0.3, 0.1, 1.0]])
    times = np.linspace(0.0, 4.0, 400)
    noise = 0.2 * np.random.default_rng(2).multivariate_normal(np.zeros(3), truth, len(times))
    table = {"time": times} | {
        name: 5.0 * np.exp(-0.8 * times) + own for name, own in zip(sensors, noise.T, strict=True)
    }
    posterior = bt.calibrate(twin, telemetry_of(table), seed=0, method="laplace")["posterior"]
    for name, true in zip(rho, (0.8, -0.3, 0.1), strict=True):
        assert abs(float(posterior[name].mean()) - true) < 4.0 * float(posterior[name].std())
        assert float(posterior[name].std()) < 0.06


@pytest.mark.parametrize(
    ("names", "prior", "said"),
    [
        (("a", "b"), NORMAL, "3 quantities"),
        (("a", "b"), dist.LKJ(3, 1.0), "3 quantities"),
        (("a", "b"), dist.MultivariateStudentT(3.0, jnp.zeros(2), jnp.eye(2)), "MultivariateStudentT"),
        (("a", "b"), dist.Normal(0.0, 1.0).expand([2]).to_event(1), "Received: Normal"),
        (("a", "b", "c"), dist.MultivariateNormal(jnp.zeros((4, 3)), jnp.eye(3)), r"in each of \(4,\)"),
        (("a", "b"), 3.0, "3.0"),
    ],
)
def test_other_kinds_are_refused(names: tuple[str, ...], prior: object, said: str) -> None:
    with pytest.raises(InvalidTwin, match=said):
        bt.joint(names, prior)


def test_a_vector_prior_of_one_parameter_is_told_the_word_for_it() -> None:
    with pytest.raises(InvalidTwin, match=r"bt\.joint"):
        decay(parameters={"rate": bt.Parameter(NORMAL)})
