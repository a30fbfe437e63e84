"""What is pooled has a population among the parameters, in coordinates that change no density."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from jax import Array
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.density.priors import Priors
from bayestwin.errors import InvalidTelemetry, InvalidTwin
from bayestwin.inference.centring import population_of
from bayestwin.model.describe import describe, fingerprint

NUM = 3
DIM = 2 + NUM + NUM + 1
"""A population and its members, where each begins, and the noise of all."""

CENTRINGS = {"not": 0.0, "wholly": 1.0, "each in its own way": np.array([0.0, 0.3, 0.9])}


def pooled(prior: dist.Distribution, spread: dist.Distribution) -> bt.Twin:
    return decay(parameters={"rate": bt.Parameter(prior, unit="1/h", doc="rate of the leak", pooled=spread)})


TWIN = pooled(dist.LogNormal(0.2, 0.5), dist.HalfNormal(0.4))


def priors_of(twin: bt.Twin, centring: object = 0.0) -> Priors:
    return Priors(twin, twin.sites(), NUM, {}, {"rate": np.broadcast_to(centring, (NUM,))})


def test_a_population_stands_before_what_is_drawn_from_it() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", pooled=dist.HalfNormal(0.4))},
        states={"level": bt.State(dist.Normal(5.0, 1.0), unit="m", pooled=1.5)},
    )
    assert [(site.name, site.shared, site.unit) for site in twin.sites() if site.kind != "noise"] == [
        ("rate_typical", True, "1/h"),
        ("rate_spread", True, ""),
        ("rate", False, "1/h"),
        ("level_initial_typical", True, "m"),
        ("level_initial", False, "m"),
    ]
    told = {one["name"]: one for one in describe(twin)["parameters"]}
    assert told["rate"]["prior"] == "LogNormal(log rate_typical, rate_spread)"
    assert told["rate_spread"]["doc"] == "rate, standard deviation between experiments of the logarithm"
    assert told["level_initial_spread"]["prior"] == "1.5 (known)"
    assert describe(twin)["states"][0]["initial"] == "Normal(level_initial_typical, level_initial_spread)"


def test_a_twin_made_from_a_pooled_one_is_pooled_once() -> None:
    again = bt.Twin(**{name: getattr(TWIN, name) for name in TWIN.__dataclass_fields__})
    assert [site.name for site in again.sites()] == [site.name for site in TWIN.sites()]
    assert fingerprint(again) == fingerprint(TWIN)
    assert fingerprint(pooled(dist.LogNormal(0.2, 0.5), dist.HalfNormal(0.5))) != fingerprint(TWIN)


def in_order(twin: bt.Twin, values: dict[str, Array]) -> Array:
    return jnp.concatenate([jnp.ravel(values[site.name]) for site in twin.sites()])


@pytest.mark.parametrize("centring", CENTRINGS.values(), ids=CENTRINGS)
def test_the_density_is_that_of_the_values_in_any_coordinates(centring: object) -> None:
    priors = priors_of(TWIN, centring)
    z = jax.random.normal(jax.random.key(2), (DIM,))
    values, stretch = priors.constrain(z)
    typical, spread = float(values["rate_typical"]), float(values["rate_spread"])
    expected = scipy.stats.lognorm.logpdf(typical, 0.5, scale=np.exp(0.2))
    expected += scipy.stats.halfnorm.logpdf(spread, scale=0.4)
    expected += scipy.stats.lognorm.logpdf(values["rate"], spread, scale=typical).sum()
    own = [site for site in TWIN.sites() if not site.name.startswith("rate")]
    expected += sum(float(jnp.sum(site.prior.log_prob(values[site.name]))) for site in own)
    np.testing.assert_allclose(priors.log_density(values), expected, rtol=1e-12)
    slope = jax.jacfwd(lambda z: in_order(TWIN, priors.constrain(z)[0]))(z)
    np.testing.assert_allclose(stretch, np.linalg.slogdet(slope)[1], rtol=1e-12)
    np.testing.assert_allclose(priors.unconstrain(values), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centring", CENTRINGS.values(), ids=CENTRINGS)
def test_another_unit_moves_coordinates_as_far_whatever_the_spread_is(centring: object) -> None:
    """Else values far from 1 would go along a bent ridge where the spread may be small, and other ones would not."""
    priors = priors_of(TWIN, centring)
    values, _ = priors.constrain(jax.random.normal(jax.random.key(2), (DIM,)))
    other = {name: 1000.0 * values[name] for name in ("rate", "rate_typical")}
    own = slice(2, 2 + NUM)
    for spread in (0.01, 0.1, 1.0):
        before, after = (priors.unconstrain({**values, **one, "rate_spread": spread})[own] for one in ({}, other))
        np.testing.assert_allclose(after - before, np.broadcast_to(centring, (NUM,)) * np.log(1000.0), atol=1e-9)


def test_coordinates_that_are_not_centred_are_standard_normal_and_centred_ones_are_the_values() -> None:
    keys = jax.random.split(jax.random.key(0), 2_000)
    drawn = jax.vmap(priors_of(TWIN).sample)(keys)
    place = slice(2, 2 + NUM)
    free = jax.vmap(priors_of(TWIN).unconstrain)(drawn)[:, place]
    for part in (free, free[drawn["rate_spread"] < 0.1], free[drawn["rate_typical"] > 1.5]):
        assert scipy.stats.kstest(np.ravel(part), "norm").pvalue > 1e-3
    tied = jax.vmap(priors_of(TWIN, 1.0).unconstrain)(drawn)[:, place]
    np.testing.assert_allclose(tied, np.log(drawn["rate"]), rtol=1e-12)


SUPPORTS: dict[str, tuple[dist.Distribution, Callable]] = {
    "any number": (dist.Normal(1.0, 1.0), lambda value: value),
    "positive": (dist.Gamma(2.0, 1.0), np.log),
    "a share": (dist.Beta(2.0, 2.0), scipy.special.logit),
    "an interval": (dist.Uniform(-1.0, 3.0), lambda value: scipy.special.logit((value + 1.0) / 4.0)),
    "above a bound": (dist.TruncatedNormal(2.0, 1.0, low=1.0), lambda value: np.log(value - 1.0)),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_it_is_normal_on_the_scale_on_which_it_can_have_any_value(name: str) -> None:
    prior, unbounded = SUPPORTS[name]
    priors = priors_of(pooled(prior, dist.HalfNormal(0.4)))
    drawn = jax.vmap(priors.sample)(jax.random.split(jax.random.key(1), 1_500))
    apart = unbounded(np.asarray(drawn["rate"])) - unbounded(np.asarray(drawn["rate_typical"]))[:, None]
    scores = np.ravel(apart / np.asarray(drawn["rate_spread"])[:, None])
    assert scipy.stats.kstest(scores, "norm").pvalue > 1e-3
    value, stretch = priors.constrain(jnp.zeros(DIM))
    assert np.isfinite(stretch)
    np.testing.assert_allclose(value["rate"], np.full(NUM, value["rate_typical"]), rtol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rate": bt.Parameter(1.0, pooled=dist.HalfNormal(1.0))}, "pooled, and has no prior"),
        ({"rate": bt.Parameter(dist.HalfNormal(1.0), pooled=dist.Normal(0.0, 1.0))}, "`pooled=` of parameter `rate`"),
        ({"rate": bt.Parameter(dist.HalfNormal(1.0), pooled=-0.3)}, "`pooled=` of parameter `rate`"),
        (
            {
                "rate": bt.Parameter(dist.HalfNormal(1.0), pooled=dist.HalfNormal(1.0)),
                "rate_spread": bt.Parameter(1.0),
            },
            "the name of its population is taken",
        ),
    ],
)
def test_what_cannot_be_pooled_is_refused(parameters: dict[str, bt.Parameter], words: str) -> None:
    with pytest.raises(InvalidTwin, match=words) as refused:
        decay(parameters=parameters)
    assert "Expected:" in str(refused.value)


@pytest.mark.parametrize("members", [{"states": [bt.State(1.0)]}, {"parameters": [1.0]}])
def test_members_without_names_are_refused_as_ever(members: dict) -> None:
    with pytest.raises(InvalidTwin, match="Expected:"):
        decay(**members)


def test_numpyro_has_the_same_density() -> None:
    records = {"first": decay_telemetry(12), "second": decay_telemetry(9)}
    density = build_density(TWIN, bind_all(TWIN, records))
    z = jnp.linspace(-1.0, 1.0, DIM - 2)  # two of each
    values, stretch = density.constrain_with_log_det(z)
    found, _ = numpyro.infer.util.log_density(bt.numpyro_model(TWIN, records), (), {}, values)
    np.testing.assert_allclose(found, density(z) - stretch, rtol=1e-10)


# Values that are known up to normal errors, so that the posterior of their population is an integral over one number.


def test_the_most_probable_population_is_that_of_the_marginal_density() -> None:
    own, variance = np.array([1.0, 4.0, 2.5, 7.0, 3.0]), np.array([0.1, 4.0, 1.0, 0.3, 25.0])
    tried = np.geomspace(1e-2, 1e2, 4_001)
    found = population_of(own, variance, tried, np.log(tried) - tried / 5.0)

    def fall(at: np.ndarray) -> float:
        total = np.exp(2.0 * at[1]) + variance
        return -(scipy.stats.norm.logpdf(own, at[0], np.sqrt(total)).sum() + at[1] - np.exp(at[1]) / 5.0)

    best = scipy.optimize.minimize(fall, [3.0, 0.0], tol=1e-12).x
    np.testing.assert_allclose([found.middle, np.log(found.spread)], best, atol=2e-3)
    assert (np.diff(found.shares[np.argsort(variance)]) < 0.0).all()
    assert (found.shares < found.spread**2 / (found.spread**2 + variance)).all()
    assert (np.abs(found.values - found.middle) < np.abs(own - found.middle)).all()


def levels(apart: float, noise: float, num: int = 4) -> tuple[bt.Twin, dict[str, bt.Telemetry], np.ndarray]:
    """Eight levels that stay as they are, each seen so often, and the means of what was seen."""
    twin = bt.Twin(
        name="levels",
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level},
        states={"level": bt.State(dist.Normal(0.0, 10.0), unit="m", pooled=dist.HalfNormal(3.0))},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(noise), unit="m")},
        time_unit="h",
    )
    rng = np.random.default_rng(4)
    seen = 5.0 + apart * rng.normal(size=(8, 1)) + noise * rng.normal(size=(8, num))
    times = np.arange(float(num))
    records = {f"asset {k}": telemetry_of({"time": times, "level": own}) for k, own in enumerate(seen)}
    return twin, records, seen.mean(axis=1)


def integrated(means: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the typical level, of the spread and of each level: by integrals over both, and their sds."""
    middle, spread = np.meshgrid(np.linspace(-15.0, 25.0, 2_001), np.linspace(1e-3, 12.0, 1_200), indexing="ij")
    total = np.sqrt(spread**2 + sd**2)
    density = scipy.stats.norm.logpdf(middle, 0.0, 10.0) + scipy.stats.halfnorm.logpdf(spread, scale=3.0)
    density += sum(scipy.stats.norm.logpdf(mean, middle, total) for mean in means)
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    share = spread**2 / total**2
    rows = [middle, spread, *(middle + share * (mean - middle) for mean in means)]
    own = [0.0, 0.0, *[share * sd**2] * len(means)]
    found = np.array([(weight * row).sum() for row in rows])
    squares = [(weight * (row**2 + more)).sum() for row, more in zip(rows, own, strict=True)]
    return found, np.sqrt(np.array(squares) - found**2)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("apart", "noise"),
    [(2.0, 0.2), pytest.param(0.5, 4.0, marks=pytest.mark.slow)],
    ids=["told by data", "hardly told"],
)
def test_the_posterior_is_that_of_the_integrals(apart: float, noise: float) -> None:
    twin, records, means = levels(apart, noise)
    posterior = bt.calibrate(twin, records, seed=1)
    gates = {gate.name: gate for gate in bt.diagnose(posterior)}
    assert all(gates[name].passed for name in ("rhat", "ess_bulk", "ess_tail", "divergences", "stuck_chain"))
    own = posterior["posterior"]
    draws = [
        own["level_initial_typical"],
        own["level_initial_spread"],
        *own["level_initial"].transpose("experiment", ...),
    ]
    mean, sd = integrated(means, noise / 2.0)
    for values, expected, wide in zip(draws, mean, sd, strict=True):
        error = wide / np.sqrt(gates["ess_bulk"].value)
        assert abs(float(values.mean()) - expected) < 4.0 * error
        assert float(values.std()) == pytest.approx(wide, rel=4.0 / np.sqrt(gates["ess_tail"].value))
    shares = np.array(posterior.attrs["starts"]["centring"]["level_initial"])
    assert (shares > 0.95).all() if apart > noise else (shares < 0.6).all()
    check_unseen(twin, posterior, noise)


def test_a_normal_stands_where_the_population_is_probable_and_not_where_the_density_is_highest() -> None:
    """It is no posterior: half a standard deviation is what it may be off, and its width a third."""
    twin, records, means = levels(2.0, 0.2)
    posterior = bt.calibrate(twin, records, seed=1, method="laplace")["posterior"]
    mean, sd = integrated(means, 0.1)
    for name, expected, wide in zip(("level_initial_typical", "level_initial_spread"), mean, sd, strict=False):
        assert abs(float(posterior[name].mean()) - expected) < 0.5 * wide
        assert float(posterior[name].std()) == pytest.approx(wide, rel=0.33)


def check_unseen(twin: bt.Twin, posterior: object, noise: float) -> None:
    """An asset that was never seen is as wide as the population, and no wider."""
    own = posterior["posterior"]
    future = {"another": telemetry_of({"time": np.arange(3.0)})}
    found = bt.predict(twin, posterior, future, seed=2, draws=4_000)
    assert found.attrs["unseen"] == ["another"]
    spread = float(np.sqrt((own["level_initial_spread"] ** 2).mean() + own["level_initial_typical"].var() + noise**2))
    made = found["predictions"]["level"].isel(experiment=0, time=0)
    assert float(made.mean()) == pytest.approx(float(own["level_initial_typical"].mean()), abs=4 * spread / 4_000**0.5)
    assert float(made.std()) == pytest.approx(spread, rel=0.1)
    told = future["another"].with_table(future["another"].table.assign(level=5.0))
    assert bt.intervals(found, prob=0.9)["median"].sizes["experiment"] == 1
    assert bt.coverage(found, {"another": told})["coverage"].notnull().all()
    mixed = future | {"asset 0": telemetry_of({"time": np.arange(3.0)})}
    with pytest.raises(InvalidTelemetry, match="does not go on from what was calibrated"):
        bt.predict(twin, posterior, mixed, seed=2)


def test_one_experiment_by_itself_has_no_coordinates_of_others() -> None:
    records = {"first": decay_telemetry(12), "second": decay_telemetry(9)}
    whole: Density = build_density(TWIN, bind_all(TWIN, records)).centred({"rate": np.array([0.2, 0.7])})
    alone = whole.alone(1)
    z = 0.1 * jnp.arange(float(len(alone.sites)))
    assert np.isfinite(float(alone(z)))


def test_noise_is_pooled_as_the_parameter_that_it_is_taken_from() -> None:
    sigma = bt.Parameter(dist.LogNormal(-2.0, 1.0), pooled=dist.HalfNormal(0.5))
    twin = decay(
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(0.8), "sigma": sigma},
        observations={"level": bt.Observation(bt.Gaussian(lambda t, x, p, u: p.sigma))},
        solver=bt.Solver(method="exact"),
    )
    telemetry = {name: decay_telemetry() for name in ("quiet", "loud")}
    density = build_density(twin, bind_all(twin, telemetry))
    values = {"sigma_typical": 0.15, "sigma_spread": 0.7, "sigma": np.array([0.05, 0.4])}
    prior = scipy.stats.lognorm.logpdf(0.15, 1.0, scale=np.exp(-2.0)) + scipy.stats.halfnorm.logpdf(0.7, scale=0.5)
    prior += scipy.stats.lognorm.logpdf(values["sigma"], 0.7, scale=0.15).sum()
    seen = telemetry["quiet"].table["level"]
    each = scipy.stats.norm.logpdf(
        seen.to_numpy(), 5.0 * np.exp(-0.8 * seen.index.to_numpy()), values["sigma"][:, None]
    )
    z = density.unconstrain(values)
    np.testing.assert_allclose(density(z) - density.constrain_with_log_det(z)[1], prior + each.sum(), rtol=1e-9)
