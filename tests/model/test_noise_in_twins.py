"""A twin takes any noise model: names, units, words, data checks and the NumPyro model follow from its layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from noise_models import gamma
from numpyro.distributions import constraints
from numpyro.infer.util import log_density
from twins import bound_density, decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density
from bayestwin.errors import InvalidTelemetry, InvalidTwin
from bayestwin.model.describe import describe, fingerprint, noise_text
from bayestwin.model.noise import Noise

HALF = dist.HalfNormal(0.5)


def seen(noise: Noise, **changes: object) -> bt.Twin:
    return decay(observations={"level": bt.Observation(noise, unit="m")}, **changes)


def test_parameters_of_all_layers_are_sites_with_units() -> None:
    noise = bt.Biased(bt.Censored(bt.Gaussian(HALF), upper=9.0), HALF, HALF)
    found = {site.name: site.unit for site in seen(noise).sites() if site.kind == "noise"}
    assert found == {"level_scale": "m", "level_bias": "m", "level_drift": "m/h"}
    found = {s.name: s.unit for s in seen(bt.Autocorrelated(HALF, HALF, HALF)).sites() if s.kind == "noise"}
    assert found == {"level_scale": "m", "level_correlation_time": "h", "level_nugget": "m"}
    assert seen(bt.LogNormal(HALF)).sites()[-1].unit == ""


def shared() -> bt.Twin:
    """Two sensors with one scale, a parameter of the twin."""
    return decay(
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5)), "sigma": bt.Parameter(HALF, unit="m")},
        observations={
            "level": bt.Observation(bt.Gaussian("sigma"), unit="m"),
            "double": bt.Observation(bt.Biased(bt.StudentT("sigma"), HALF), lambda t, x, p, u: 2.0 * x.level, unit="m"),
        },
    )


def both_columns() -> bt.Telemetry:
    telemetry = decay_telemetry()
    level = telemetry.table["level"].to_numpy()
    return telemetry_of({"time": telemetry.table.index, "level": level, "double": 2.0 * level + 0.1})


def test_sensors_share_a_parameter_of_the_twin() -> None:
    density = bound_density(shared(), both_columns())
    assert [site.name for site in density.sites] == ["rate", "sigma", "level_initial", "double_bias"]
    values = {"rate": 0.8, "sigma": 0.2, "level_initial": 5.0, "double_bias": 0.1}
    terms = jax.jit(lambda v: density.log_likelihood(v, density.predict(v)))(values)
    predicted = density.predict(values).noise_free
    observed = density.bound.observations
    level = dist.Normal(predicted["level"], 0.2).log_prob(observed["level"])
    double = dist.StudentT(4.0, predicted["double"] + 0.1, 0.2).log_prob(observed["double"])
    np.testing.assert_allclose(terms["level"], level, rtol=1e-9)
    np.testing.assert_allclose(terms["double"], double, rtol=1e-9)


def test_a_shared_parameter_may_be_known() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(0.8), "sigma": bt.Parameter(0.2, unit="cm")},
        observations={"level": bt.Observation(bt.Gaussian("sigma"), unit="cm")},
    )
    noise, given = bound_density(twin, decay_telemetry()).noise("level", {"level_initial": 5.0})
    assert given == {"scale": 0.2}
    assert isinstance(noise, bt.Gaussian)


def test_kelvin_is_degrees_where_differences_are_meant() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(0.8), "sigma": bt.Parameter(HALF, unit="K")},
        observations={"level": bt.Observation(bt.Gaussian("sigma"), unit="degC")},
    )
    assert [site.name for site in twin.sites()] == ["sigma", "level_initial"]


SIGMA = {"rate": bt.Parameter(0.8), "sigma": bt.Parameter(HALF, unit="cm")}
WRONG = {
    "unknown parameter": (lambda: seen(bt.Gaussian("sgma"), parameters=SIGMA), r"`sgma`.*Did you mean `sigma`"),
    "another unit": (lambda: seen(bt.Gaussian("sigma"), parameters=SIGMA), r"`sigma`.*`scale`.*`m`.*`cm`"),
    "twice biased": (
        lambda: seen(bt.Biased(bt.Biased(bt.Gaussian(1.0)))),
        r"`bias`.*Biased around Biased around Gauss",
    ),
    "no limit": (lambda: bt.Censored(bt.Gaussian(1.0)), "limits of bt.Censored.*lower None"),
    "limits in disorder": (lambda: bt.Censored(bt.Gaussian(1.0), 2.0, 1.0), "limits of bt.Censored.*lower 2.0"),
    "limit at infinity": (lambda: bt.Censored(bt.Gaussian(1.0), upper=np.inf), "limits of bt.Censored.*inf"),
    "twice censored": (
        lambda: bt.Censored(bt.Biased(bt.Censored(bt.Gaussian(1.0), 0.0)), upper=1.0),
        "Censored cannot change.*both limits",
    ),
    "autocorrelated and censored": (lambda: bt.Censored(bt.Autocorrelated(1.0, 1.0), 0.0), "independent.*Autocorrel"),
    "no step": (lambda: bt.Rounded(bt.Gaussian(1.0), 0.0), "`step`.*positive.*0.0"),
    "rounded counts": (lambda: bt.Rounded(bt.Poisson(), 1.0), "Poisson.*counts"),
    "rounded limits": (lambda: bt.Rounded(bt.Censored(bt.Gaussian(1.0), 0.0), 0.1), "Limits go outside"),
    "no trials": (lambda: bt.Binomial(0), "`trials`.*0"),
    "tail of an unknown df": (lambda: seen(bt.Censored(bt.StudentT(HALF, HALF), 0.0)), "`level`.*`df` a known number"),
    "no tail": (lambda: seen(bt.Censored(bt.NoiseFrom(lambda v, p: dist.VonMises(v, 1.0)), 0.0)), "`level`.*NotImpl"),
    "unknown name in a function": (lambda: seen(bt.NoiseFrom(gamma, {"shpe": HALF})), "`level`.*shape"),
    "a joint distribution": (
        lambda: seen(bt.NoiseFrom(lambda v, p: dist.Normal(v, 1.0).to_event(1))),
        r"`level`.*batch shape \(\) and event shape \(2,\)",
    ),
    "the same for all values": (lambda: seen(bt.NoiseFrom(lambda v, p: dist.Normal(0.0, 1.0))), r"batch shape \(\)"),
    "vector prior": (lambda: seen(bt.NoiseFrom(gamma, {"shape": dist.Normal(jnp.zeros(2), 1.0)})), "`shape`.*(2,)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_by_name(case: str) -> None:
    build, words = WRONG[case]
    with pytest.raises(InvalidTwin, match=rf"(?s){words}") as raised:
        build()
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


@pytest.mark.parametrize(
    ("noise", "values", "rows"),
    [
        (bt.Censored(bt.Gaussian(1.0), lower=0.0, upper=5.0), [0.0, 5.0, 5.1, -1.0], "5.1 in row 3, -1 in row 4"),
        (bt.Censored(bt.LogNormal(1.0), upper=5.0), [0.0, 5.0, 2.0], "0 in row 1"),
        (bt.Binomial(5), [0.0, 5.0, 6.0, 1.5], "6 in row 3, 1.5 in row 4"),
        (bt.NegativeBinomial(1.0), [0.0, -1.0, 0.5], "-1 in row 2, 0.5 in row 3"),
        (bt.Rounded(bt.LogNormal(1.0), 0.5), [0.0, -0.5, 0.5], "-0.5 in row 2"),
        (bt.NoiseFrom(gamma, {"shape": 2.0}, constraints.positive), [1.0, 0.0], "0 in row 2"),
        (bt.Biased(bt.Poisson(), bias=1.0), [1.0, -2.0], "-2 in row 2"),
    ],
)
def test_data_that_cannot_occur_name_the_rows(noise: Noise, values: list, rows: str) -> None:
    telemetry = telemetry_of({"time": range(len(values)), "level": values})
    first = int(rows.split("row ")[1].split(",")[0]) - 1
    words = rf"(?s)`level`.*{type(noise).__name__}.*Expected: .*Received: {rows}; the first at {float(first)}\n"
    with pytest.raises(InvalidTelemetry, match=words):
        bind(seen(noise), telemetry)


def test_data_that_can_occur_pass() -> None:
    for noise, values in (
        (bt.Censored(bt.LogNormal(1.0), lower=0.0), [0.0, 2.0, np.nan]),
        (bt.Censored(bt.Poisson(), upper=5.0), [0.0, 5.0, np.nan]),
        (bt.Binomial(5), [0.0, 5.0, np.nan]),
        (bt.Rounded(bt.LogNormal(1.0), 0.5), [0.0, 3.0, np.nan]),
    ):
        bind(seen(noise), telemetry_of({"time": range(3), "level": values}))


def test_words_say_all_layers() -> None:
    noise = bt.Biased(bt.Censored(bt.Rounded(bt.Gaussian(HALF), 0.5), upper=9.0), bias=HALF)
    assert noise_text(noise) == (
        "Biased(Censored(Rounded(Gaussian(scale ~ HalfNormal(0.5)), step = 0.5), upper = 9), "
        "bias ~ HalfNormal(0.5), drift = 0)"
    )
    assert noise_text(bt.Gaussian("sigma")) == "Gaussian(scale = sigma)"
    assert noise_text(bt.Binomial(12)) == "Binomial(trials = 12)"
    words = noise_text(bt.NoiseFrom(gamma, {"shape": HALF}, constraints.positive))
    assert "return dist.Gamma(p.shape, p.shape / value)" in words
    assert words.endswith("Positive(lower_bound=0.0), shape ~ HalfNormal(0.5))")


def by_factor(factor: float) -> bt.Twin:
    return seen(bt.NoiseFrom(lambda value, p: dist.Normal(value, factor * p.width), {"width": HALF}))


def test_each_change_of_the_noise_changes_the_fingerprint() -> None:
    noises = [
        bt.Gaussian(HALF),
        bt.Biased(bt.Gaussian(HALF)),
        bt.Biased(bt.Gaussian(HALF), drift=1.0),
        bt.Censored(bt.Gaussian(HALF), upper=9.0),
        bt.Censored(bt.Gaussian(HALF), upper=9.5),
        bt.Censored(bt.Gaussian(HALF), lower=9.0),
        bt.Rounded(bt.Gaussian(HALF), 0.5),
        bt.Binomial(10),
        bt.Binomial(11),
        bt.NoiseFrom(gamma, {"shape": HALF}),
        bt.NoiseFrom(gamma, {"shape": HALF}, constraints.positive),
        bt.Biased(bt.NoiseFrom(gamma, {"shape": HALF}), bias=0.0),
    ]
    found = [fingerprint(seen(noise)) for noise in noises] + [fingerprint(by_factor(f)) for f in (1.0, 2.0)]
    assert len(set(found)) == len(noises) + 2
    assert fingerprint(by_factor(1.0)) == fingerprint(by_factor(1.0))
    assert "lambda value, p" in describe(by_factor(1.0))["observations"][0]["noise"]


MODELS = {
    "shared": shared,
    "censored and biased": lambda: seen(bt.Biased(bt.Censored(bt.Gaussian(HALF), lower=0.3, upper=6.0), HALF)),
    "autocorrelated": lambda: seen(bt.Autocorrelated(HALF, HALF, HALF)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_numpyro_model_has_the_same_log_density(name: str) -> None:
    columns = both_columns().table.reset_index()
    columns.loc[3, "level"] = np.nan
    columns["level"] = columns["level"].clip(0.3, 6.0)
    telemetry = telemetry_of(columns)
    density, model = bound_density(MODELS[name](), telemetry), bt.numpyro_model(MODELS[name](), telemetry)

    @jax.jit
    def both(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, correction = density.constrain_with_log_det(z)
        return density(z) - correction, log_density(model, (), {}, values)[0]

    values = {site.name: 1.0 for site in density.sites} | {"level_initial": 5.0}
    ours, theirs = both(density.unconstrain(values))
    assert np.isfinite(ours)
    assert float(theirs) == pytest.approx(float(ours), rel=1e-9)
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()
    assert trace["level"]["is_observed"]
    assert name == "autocorrelated" or trace["level"]["value"].shape == (11,)


SOFT = [
    bt.Gaussian(0.3),
    bt.Biased(bt.Gaussian(0.3), bias=0.4, drift=0.1),
    bt.Rounded(bt.Gaussian(0.3), 0.5),
    bt.Binomial(5),
]


def softened(noise: Noise, observed: list, share: float) -> Density:
    times = np.arange(float(len(observed)))
    twin = decay(
        vector_field=lambda t, x, p, u: {"level": 0.0 * p.rate},
        observations={"level": bt.Observation(noise, of=lambda t, x, p, u: share * x.level)},
    )
    return bound_density(twin, telemetry_of({"time": times, "level": observed}))


@pytest.mark.parametrize("noise", SOFT, ids=lambda noise: type(noise).__name__)
def test_a_robust_loss_is_that_of_the_deviance_from_a_perfect_prediction(noise: Noise) -> None:
    density = softened(noise, [1.0, 2.0, 5.0], 0.1)
    z = jnp.array([0.0, 4.0])
    plain = jax.jit(density.parts)(z)[1]
    soft = jax.jit(dataclasses.replace(density, loss="cauchy").parts)(z)[1]
    given, times = dict(noise.parameters), np.arange(3.0)
    best_value = np.array([1.0, 2.0, 5.0])
    if isinstance(noise, bt.Binomial):
        best_value = best_value / 5
    if isinstance(noise, bt.Biased):
        best_value = best_value - 0.4 - 0.1 * times
    best = np.asarray(noise.log_likelihood(np.array([1.0, 2.0, 5.0]), best_value, times, **given))
    terms = np.asarray(noise.log_likelihood(np.array([1.0, 2.0, 5.0]), np.full(3, 0.4), times, **given))
    assert float(plain) == pytest.approx(terms.sum(), rel=1e-9)
    assert float(soft) == pytest.approx((best - 0.5 * np.log1p(2.0 * (best - terms))).sum(), rel=1e-9)
