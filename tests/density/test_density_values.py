"""The log density is the one on paper: computed again with SciPy, term by term, it is the same number."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats
from scipy.integrate import solve_ivp
from twins import (
    LYNX_HARE_VALUES,
    NOISES,
    PELTS,
    bound_density,
    counted,
    counted_telemetry,
    decay,
    decay_telemetry,
    lag,
    lynx_hare,
    pelts,
    telemetry_of,
)

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.density.predictor import Predictor

# Log densities of the four noise models around v; `s` holds their parameters.
SCIPY_NOISE = {
    "gaussian": lambda y, v, s: stats.norm.logpdf(y, v, s["scale"]),
    "lognormal": lambda y, v, s: stats.lognorm.logpdf(y, s["scale"], scale=v),
    "student": lambda y, v, s: stats.t.logpdf(y, s["df"], v, s["scale"]),
    "poisson": lambda y, v, s: stats.poisson.logpmf(y, v),
}
SCIPY_NOISE_PRIOR = {
    "gaussian": {"scale": stats.halfnorm(scale=0.5).logpdf},
    "lognormal": {"scale": stats.lognorm(0.5, scale=np.exp(-1.0)).logpdf},
    "student": {"scale": stats.halfnorm(scale=0.5).logpdf, "df": stats.gamma(4.0, scale=2.0).logpdf},
    "poisson": {},
}


def sigmoid_slope(z: float) -> float:
    return np.log(special.expit(z)) + np.log(special.expit(-z))


# Prior, its log density by SciPy, the transform from z, and the log of that transform's derivative.
PRIORS = {
    "normal": (dist.Normal(1.0, 2.0), stats.norm(1.0, 2.0).logpdf, lambda z: z, lambda z: 0.0),
    "lognormal": (dist.LogNormal(0.2, 0.7), stats.lognorm(0.7, scale=np.exp(0.2)).logpdf, np.exp, lambda z: z),
    "halfnormal": (dist.HalfNormal(0.6), stats.halfnorm(scale=0.6).logpdf, np.exp, lambda z: z),
    "gamma": (dist.Gamma(3.0, 2.0), stats.gamma(3.0, scale=0.5).logpdf, np.exp, lambda z: z),
    "positive normal": (
        dist.TruncatedNormal(1.0, 0.5, low=0.0),
        stats.truncnorm(-2.0, np.inf, 1.0, 0.5).logpdf,
        np.exp,
        lambda z: z,
    ),
    "above": (
        dist.TruncatedNormal(1.0, 0.5, low=0.4),
        stats.truncnorm(-1.2, np.inf, 1.0, 0.5).logpdf,
        lambda z: 0.4 + np.exp(z),
        lambda z: z,
    ),
    "uniform": (
        dist.Uniform(0.5, 2.0),
        stats.uniform(0.5, 1.5).logpdf,
        lambda z: 0.5 + 1.5 * special.expit(z),
        lambda z: np.log(1.5) + sigmoid_slope(z),
    ),
    "beta": (dist.Beta(2.0, 3.0), stats.beta(2.0, 3.0).logpdf, special.expit, sigmoid_slope),
}


@pytest.mark.parametrize("prior", PRIORS)
def test_each_prior_and_its_transform(prior: str) -> None:
    distribution, logpdf, transform, log_slope = PRIORS[prior]
    twin = decay(
        states={"level": bt.State(3.0)},
        parameters={"rate": bt.Parameter(distribution)},
        observations={"level": bt.Observation(bt.Gaussian(0.3))},
    )
    density = bound_density(twin, telemetry_of({"time": [0.0, 1.0], "level": [np.nan, 1.5]}))
    for z in (-1.3, 0.0, 0.8):
        rate = transform(z)
        expected = logpdf(rate) + log_slope(z) + stats.norm.logpdf(1.5, 3.0 * np.exp(-rate), 0.3)
        # the solver's relative error of 1e-6 a step, as seen through the noise
        assert float(jax.jit(density)(jnp.array([z]))) == pytest.approx(expected, abs=1e-4)
        assert density.constrain(jnp.array([z]))["rate"] == pytest.approx(rate, rel=1e-12)
        assert density.unconstrain({"rate": rate})[0] == pytest.approx(z, abs=1e-9)


@pytest.mark.parametrize("noise", NOISES)
def test_each_noise_model_with_inputs_and_missing_observations(noise: str) -> None:
    telemetry = counted_telemetry()
    density = bound_density(counted(NOISES[noise]), telemetry)
    evaluate = jax.jit(density)
    columns = {name: telemetry.table[name].to_numpy() for name in telemetry.table}
    times, present = telemetry.table.index.to_numpy(), np.isfinite(columns["seen"])
    rng = np.random.default_rng(2)
    for _ in range(5):
        z = rng.normal(size=len(density.sites)) * 0.5
        at = dict(zip((site.name for site in density.sites), z, strict=True))
        rate, gain, start = np.exp(at["rate"]), at["gain"], at["level_initial"]
        expected = stats.lognorm.logpdf(rate, 0.5) + at["rate"]
        expected += stats.norm.logpdf(gain, 1.0, 0.5) + stats.norm.logpdf(start, 1.0, 1.0)
        scales = {key: np.exp(at[f"seen_{key}"]) for key in SCIPY_NOISE_PRIOR[noise]}
        for key, logpdf in SCIPY_NOISE_PRIOR[noise].items():
            expected += logpdf(scales[key]) + at[f"seen_{key}"]
        level = lag(times, columns["stepped"], columns["sloped"], start, rate, gain)
        value = 5.0 + level**2 + 0.1 * columns["stepped"]
        expected += SCIPY_NOISE[noise](columns["seen"], value, scales)[present].sum()
        assert float(evaluate(jnp.array(z))) == pytest.approx(expected, rel=1e-5)


def test_lynx_and_hares_at_the_values_of_the_gold_posterior() -> None:
    v = LYNX_HARE_VALUES

    def field(t: float, y: np.ndarray) -> list[float]:
        return [(v["alpha"] - v["beta"] * y[1]) * y[0], (-v["gamma"] + v["delta"] * y[0]) * y[1]]

    start = [v["hare_initial"], v["lynx_initial"]]
    solution = solve_ivp(field, (0, 20), start, t_eval=np.arange(21.0), rtol=1e-11, atol=1e-11).y
    expected = 0.0
    for name, states in zip(("hare", "lynx"), solution, strict=True):
        scale = v[f"{name}_scale"]
        expected += stats.lognorm.logpdf(np.array(PELTS[name]), scale, scale=states).sum()
        expected += stats.lognorm.logpdf(scale, 1.0, scale=np.exp(-1.0)) + np.log(scale)
        initial = v[f"{name}_initial"]
        expected += stats.lognorm.logpdf(initial, 1.0, scale=10.0) + np.log(initial)
    for name, centre in (("alpha", 1.0), ("beta", 0.05), ("gamma", 1.0), ("delta", 0.05)):
        spread = 0.5 if centre == 1.0 else 0.05
        expected += stats.truncnorm.logpdf(v[name], -centre / spread, np.inf, centre, spread) + np.log(v[name])
    density = bound_density(lynx_hare(), pelts())
    assert float(jax.jit(density)(density.unconstrain(v))) == pytest.approx(expected, abs=1e-3)


def with_and_without(twin: bt.Twin, rows: dict, extra: dict) -> tuple[Callable, Callable]:
    """The log density of telemetry, and that of the same telemetry with rows at which nothing was observed."""
    joined = {name: [*rows[name], *extra[name]] for name in rows}
    order = np.argsort(joined["time"])
    joined = {name: np.array(values)[order] for name, values in joined.items()}
    return tuple(jax.jit(bound_density(twin, telemetry_of(table))) for table in (rows, joined))


@pytest.mark.thorough
@pytest.mark.parametrize("noise", ["gaussian", "lognormal", "student"])
def test_a_missing_observation_contributes_nothing_even_where_it_could_not_occur(noise: str) -> None:
    # at t=3 the predicted value is negative, which log-normal noise has no density for
    twin = decay(observations={"excess": bt.Observation(NOISES[noise], of=lambda t, x, p, u: x.level - 1.0)})
    rows = {"time": [0.0, 0.5, 1.0], "excess": [4.0, 2.0, 1.0]}
    plain, with_gap = with_and_without(twin, rows, {"time": [0.7, 3.0], "excess": [np.nan, np.nan]})
    z = jnp.array([0.0, 5.0, -1.0, 1.0])[: 4 if noise == "student" else 3]
    assert np.isfinite(plain(z))
    assert float(with_gap(z)) == pytest.approx(float(plain(z)), rel=1e-5)
    np.testing.assert_allclose(jax.grad(with_gap)(z), jax.grad(plain)(z), rtol=1e-4, atol=1e-4)


def test_where_the_solve_fails_the_density_is_zero_and_its_gradient_is_a_number() -> None:
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * x.level**2})
    density = bound_density(twin, decay_telemetry())
    evaluate, gradient = jax.jit(density), jax.jit(jax.grad(density))
    assert np.isfinite(evaluate(jnp.array([-3.0, 5.0, 0.0])))
    for z in ([0.0, 5.0, 0.0], [3.0, 5.0, 0.0]):
        assert float(evaluate(jnp.array(z))) == -np.inf
        assert np.isfinite(gradient(jnp.array(z))).all()
    for z in ([0.0, np.nan, 0.0], [np.inf, 5.0, 0.0], [800.0, 5.0, 0.0]):
        assert float(evaluate(jnp.array(z))) == -np.inf


def test_a_record_of_one_time_needs_no_room_and_one_with_room_no_more() -> None:
    one, some = (
        bound_density(decay(), telemetry_of({"time": times, "level": np.ones(len(times))}))
        for times in (np.zeros(1), np.arange(5.0))
    )
    assert one.filled is one
    assert some.filled.bound.times.size > some.bound.times.size
    assert some.filled.filled is some.filled
    z = jnp.zeros(len(some.sites))
    np.testing.assert_allclose(some.filled(z), some(z), rtol=1e-12)


def test_the_noise_of_each_observation_and_of_each_draw_is_its_own() -> None:
    """Two sensors of one state, and two draws: all four errors at each of many times are independent."""
    num, ones = 4_000, np.ones(4_000)
    twin = bt.Twin(
        name="twice",
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level},
        states={"level": bt.State(1.0)},
        parameters={},
        observations={
            name: bt.Observation(bt.Gaussian(dist.HalfNormal(1.0)), of=lambda t, x, p, u: x.level)
            for name in ("first", "second")
        },
    )
    density = bound_density(twin, telemetry_of({"time": np.arange(num) / num, "first": ones, "second": ones}))
    scales = {"first_scale": np.ones(2), "second_scale": np.ones(2)}
    with Progress(show=False) as shown, shown.phase("predict", "drawing", 2) as phase:
        found = Predictor(density)(scales, jax.random.key(0), phase)
    errors = np.concatenate([found[name] - found[f"{name}_noise_free"] for name in ("first", "second")])
    between = np.abs(np.corrcoef(errors) - np.eye(4)).max()
    # the largest of six correlations of independent errors: 4 standard deviations are left once in 2,600 seeds
    assert between < 4.0 / np.sqrt(num)
