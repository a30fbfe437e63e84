"""With derived parameters and priors that depend on others the joint density is the one on paper, in NumPyro too."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from twins import bound_density, decay, decay_telemetry

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density

KNOWN = {"level": bt.Observation(bt.Gaussian(0.1))}


def dependent(**changes: object) -> bt.Twin:
    """Decay whose rate follows from a half-life, which has a prior around a typical one, uniform below a limit."""
    parameters = {
        "typical": bt.Parameter(dist.LogNormal(0.3, 0.4), unit="h"),
        "half_life": bt.Parameter(lambda p: dist.LogNormal(jnp.log(p.typical), 0.3), unit="h"),
        "rate": bt.Parameter(lambda p: jnp.log(2.0) / p.half_life, unit="1/h", doc="rate of the leak"),
        "share": bt.Parameter(lambda p: dist.Uniform(0.0, p.rate)),
    }
    return decay(parameters=parameters, observations=KNOWN, **changes)


def test_the_joint_density_is_that_on_paper() -> None:
    density = bound_density(dependent(), decay_telemetry())
    values = {"typical": 1.3, "half_life": 1.1, "share": 0.2, "level_initial": 5.2}
    rate = np.log(2.0) / 1.1
    prior = stats.lognorm.logpdf(1.3, 0.4, scale=np.exp(0.3)) + stats.lognorm.logpdf(1.1, 0.3, scale=1.3)
    prior += stats.uniform.logpdf(0.2, 0.0, rate) + stats.norm.logpdf(5.2, 5.0, 1.0)
    level = 5.2 * np.exp(-rate * density.bound.times)
    likelihood = stats.norm.logpdf(density.bound.observations["level"], level, 0.1).sum()
    # θ = exp z twice, θ = rate · s(z) with rate held, and θ = z: the derivative is triangular
    stretch = np.log(1.3) + np.log(1.1) + np.log(0.2 * (rate - 0.2) / rate)
    z = density.unconstrain(values)
    np.testing.assert_allclose(density(z), prior + likelihood + stretch, rtol=1e-6)
    found, correction = density.constrain_with_log_det(z)
    assert list(found) == list(values)
    np.testing.assert_allclose([found[name] for name in values], list(values.values()), rtol=1e-12)
    np.testing.assert_allclose(correction, stretch, rtol=1e-10)


@pytest.mark.thorough
def test_its_gradient_goes_through_what_is_derived() -> None:
    density = bound_density(dependent(), decay_telemetry())
    z = np.asarray(density.unconstrain({"typical": 1.3, "half_life": 1.1, "share": 0.2, "level_initial": 5.2}))
    step = 1e-5 * np.eye(len(z))
    differences = [(density(z + h) - density(z - h)) / 2e-5 for h in step]
    np.testing.assert_allclose(jax.grad(density)(jnp.asarray(z)), differences, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(density.local(jnp.asarray(z)).gradient, jax.grad(density)(jnp.asarray(z)), rtol=1e-9)


@pytest.mark.thorough
def test_prior_draws_have_the_moments_on_paper() -> None:
    density = bound_density(dependent(), decay_telemetry())
    values, z = density.draw_prior(jax.random.split(jax.random.key(4), 4000))
    derived = density.derive_all(values)
    np.testing.assert_allclose(derived["rate"], np.log(2.0) / values["half_life"], rtol=1e-14)
    half_life = np.log(values["half_life"])  # normal, with both variances
    assert abs(half_life.mean() - 0.3) < 4 * 0.5 / np.sqrt(4000)
    assert abs(half_life.std() - 0.5) < 4 * 0.5 / np.sqrt(8000)
    within = stats.kstest(values["share"] / derived["rate"], "uniform")
    assert within.pvalue > 1e-3
    np.testing.assert_allclose(jax.vmap(density.unconstrain)(values), z, rtol=1e-9, atol=1e-9)


def test_numpyro_has_the_same_density() -> None:
    twin, telemetry = dependent(), decay_telemetry()
    density, model = bound_density(twin, telemetry), bt.numpyro_model(twin, telemetry)
    values = density.sample_prior(jax.random.key(2))
    z = density.unconstrain(values)
    ours = density(z) - density.constrain_with_log_det(z)[1]
    np.testing.assert_allclose(log_density(model, (), {}, values)[0], ours, rtol=1e-10)
    trace = numpyro.handlers.trace(numpyro.handlers.substitute(model, values)).get_trace()
    np.testing.assert_allclose(trace["rate"]["value"], np.log(2.0) / values["half_life"], rtol=1e-12)
    assert trace["rate"]["type"] == "deterministic"


def experiments() -> tuple[bt.Twin, dict[str, bt.Telemetry]]:
    """Half-lives that differ between experiments around a typical one, and rates that follow from them."""
    twin = dependent()
    own = bt.Parameter(twin.parameters["half_life"].prior, shared=False)
    share = bt.Parameter(lambda p: dist.Uniform(0.0, p.rate), shared=False)
    twin = dependent_on(twin, half_life=own, share=share)
    telemetry = decay_telemetry()
    return twin, {"first": telemetry, "second": telemetry}


def dependent_on(twin: bt.Twin, **parameters: bt.Parameter) -> bt.Twin:
    """The twin with other parameters."""
    return decay(parameters={**twin.parameters, **parameters}, observations=KNOWN)


@pytest.mark.thorough
def test_each_experiment_draws_from_a_prior_of_its_own() -> None:
    twin, telemetry = experiments()
    density = build_density(twin, bind_all(twin, telemetry))
    values = {
        "typical": np.array(1.3),
        "half_life": np.array([1.1, 0.7]),
        "share": np.array([0.2, 0.4]),
        "level_initial": np.array([5.2, 4.9]),
    }
    rate = np.log(2.0) / values["half_life"]
    prior = stats.lognorm.logpdf(1.3, 0.4, scale=np.exp(0.3))
    prior += stats.lognorm.logpdf(values["half_life"], 0.3, scale=1.3).sum()
    prior += stats.uniform.logpdf(values["share"], 0.0, rate).sum()
    prior += stats.norm.logpdf(values["level_initial"], 5.0, 1.0).sum()
    np.testing.assert_allclose(density.priors.log_density(values), prior, rtol=1e-12)
    level = values["level_initial"][:, None] * np.exp(-rate[:, None] * density.bound.times)
    likelihood = stats.norm.logpdf(density.bound.observations["level"], level, 0.1).sum()
    z = density.unconstrain(values)
    total = density(z) - density.constrain_with_log_det(z)[1]
    np.testing.assert_allclose(total, prior + likelihood, rtol=1e-6)
    np.testing.assert_allclose(density.priors.derive(values)["rate"], rate, rtol=1e-14)
    model = bt.numpyro_model(twin, telemetry)
    np.testing.assert_allclose(log_density(model, (), {}, values)[0], total, rtol=1e-10)
    drawn, back = density.draw_prior(jax.random.split(jax.random.key(1), 3))
    assert drawn["share"].shape == (3, 2)
    assert (drawn["share"] < np.log(2.0) / drawn["half_life"]).all()
    np.testing.assert_allclose(jax.vmap(density.unconstrain)(drawn), back, rtol=1e-9, atol=1e-9)


def test_an_event_that_changes_a_parameter_changes_what_is_derived_from_it() -> None:
    repair = {"repair": bt.Event(lambda t, x, p, u: {"half_life": 2.0 * p.half_life}, at=(1.0,))}
    twin = dependent(events=repair)
    values = {"typical": 1.0, "half_life": 1.0, "share": 0.1, "level_initial": 5.0}
    found = bt.simulate(twin, values, decay_telemetry(), seed=0)
    t = found["time"].values
    fallen = np.where(t <= 1.0, t, 1.0 + (t - 1.0) / 2.0)
    np.testing.assert_allclose(found["level_state"], 5.0 * 0.5**fallen, rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"k": bt.Parameter(lambda p: p.rate / 2.0), "rate": bt.Parameter(1.0)}, "does not stand before it"),
        ({"rate": bt.Parameter(lambda p: p.rat), "rat2": bt.Parameter(1.0)}, "asks for `rat`"),
        ({"rate": bt.Parameter(lambda p, u: 1.0)}, "takes other arguments"),
        ({"rate": bt.Parameter(lambda p: "fast")}, "cannot be traced"),
        ({"rate": bt.Parameter(lambda p: jnp.ones(2))}, "wrong shape"),
        ({"rate": bt.Parameter(lambda p: dist.Poisson(2.0))}, "discrete"),
        ({"rate": bt.Parameter(lambda p: dist.ImproperUniform(dist.constraints.real, (), ()))}, "improper"),
        (
            {
                "a": bt.Parameter(dist.Normal(0.0, 1.0), shared=False),
                "rate": bt.Parameter(lambda p: dist.Normal(p.a, 1.0)),
            },
            "said to be the same in all experiments",
        ),
    ],
)
def test_what_cannot_be_is_refused(parameters: dict[str, bt.Parameter], said: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=said):
        decay(parameters=parameters)
