"""Noise that is known row by row, or depends on inputs and states: densities, draws, units, names and refusals."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry, InvalidTwin
from bayestwin.model.describe import describe, fingerprint
from bayestwin.model.noise import Noise

TIMES = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
LEVEL = np.array([5.1, 4.2, np.nan, 2.2, 1.3])
TOLD = np.array([10.0, 20.0, np.nan, 30.0, 5.0])  # cm
VALUES = {"rate": 0.5, "level_initial": 5.0}
EXACT = 5.0 * np.exp(-0.5 * TIMES)
SEEN = np.isfinite(LEVEL)
FACTOR = dist.LogNormal(0.0, 0.5)


def twin(noise: Noise, **changes: object) -> bt.Twin:
    observations = {"level": bt.Observation(noise, unit="m")}
    return decay(observations=observations, **({"solver": bt.Solver(rtol=1e-10, atol=1e-12)} | changes))


def telemetry(**columns: object) -> bt.Telemetry:
    told = {"time": TIMES, "level": LEVEL, "sd": TOLD, **columns}
    return telemetry_of(
        {k: v for k, v in told.items() if v is not None}, units={"sd": "cm"} if told["sd"] is not None else {}
    )


def terms(twin: bt.Twin, record: bt.Telemetry, values: dict) -> np.ndarray:
    density = bound_density(twin, record)
    return np.asarray(jax.jit(lambda v: density.log_likelihood(v, density.predict(v)))(values)["level"])


SD = np.where(SEEN, TOLD, 20.0) / 100
COLUMN = bt.Column("sd")
FAMILIES = {
    "gaussian": (bt.Gaussian(COLUMN), {}, lambda v: stats.norm(v, SD)),
    "a multiple": (bt.Gaussian(bt.Column("sd", FACTOR)), {"level_scale_factor": 2.0}, lambda v: stats.norm(v, 2 * SD)),
    "a known multiple": (bt.Gaussian(bt.Column("sd", 3.0)), {}, lambda v: stats.norm(v, 3 * SD)),
    "student": (bt.StudentT(COLUMN), {}, lambda v: stats.t(4.0, v, SD)),
    "proportional": (
        bt.Proportional(COLUMN, FACTOR),
        {"level_relative": 0.1},
        lambda v: stats.norm(v, np.hypot(SD, 0.1 * v)),
    ),
    "biased": (bt.Biased(bt.Gaussian(COLUMN), 0.3), {}, lambda v: stats.norm(v + 0.3, SD)),
    "a function": (
        bt.Gaussian(lambda t, x, p, u: 0.1 + p.rate * x.level**2),
        {},
        lambda v: stats.norm(v, 0.1 + 0.5 * v**2),
    ),
    "from a function": (
        bt.NoiseFrom(lambda v, p: dist.Laplace(v, p.width), {"width": COLUMN}),
        {},
        lambda v: stats.laplace(v, SD * 100),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_densities_and_draws_take_each_row_s_own(name: str) -> None:
    noise, values, exact = FAMILIES[name]
    record = telemetry()
    if name == "from a function":  # whose parameters have no unit that is known
        record = telemetry_of({"time": TIMES, "level": LEVEL, "sd": TOLD})
    found = terms(twin(noise), record, VALUES | values)
    np.testing.assert_allclose(found, np.where(SEEN, exact(EXACT).logpdf(np.where(SEEN, LEVEL, 1.0)), 0.0), rtol=1e-5)
    density = bound_density(twin(noise), record)
    predicted = density.predict(VALUES | values)
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: density.draw(key, VALUES | values, predicted)["level"])(keys))
    spread, scipy = np.quantile(drawn, [0.1, 0.9], axis=0), exact(EXACT)
    error = 4.0 * np.sqrt(0.09 / 4000) / scipy.pdf(scipy.ppf(0.9))  # of a quantile
    np.testing.assert_array_less(np.abs(spread - [scipy.ppf(0.1), scipy.ppf(0.9)]), [error, error])


def test_log_normal_noise_has_a_column_without_unit() -> None:
    record = telemetry_of({"time": TIMES, "level": LEVEL, "sd": [0.1, 0.2, np.nan, 0.3, 0.05]})
    found = terms(twin(bt.LogNormal(COLUMN)), record, VALUES)
    exact = stats.lognorm(np.where(SEEN, [0.1, 0.2, 1.0, 0.3, 0.05], 1.0), scale=EXACT)
    np.testing.assert_allclose(found[SEEN], exact.logpdf(LEVEL)[SEEN], rtol=1e-5)


@pytest.mark.parametrize(("unit", "told"), [("degC", "K"), ("K", "degF"), ("degC", "degC"), ("K", None)])
def test_a_standard_deviation_of_a_temperature_has_no_zero_of_a_scale(unit: str, told: str | None) -> None:
    """1 K is 1 degC and 1.8 degF; a limit is a temperature, as a reading is."""
    warm = bt.Censored(bt.Biased(bt.Gaussian(COLUMN), bt.Column("shift")), lower=bt.Column("lod"))
    size = 1.8 if told == "degF" else 1.0
    limits = {"degC": {"K": 280.15, "degC": 7.0}, "K": {"degF": 44.6, None: 280.15}}[unit][told]
    zero = 273.15 if unit == "K" else 0.0
    names = {} if told is None else dict.fromkeys(("sd", "shift", "lod"), told)
    record = telemetry_of(
        {"time": [0.0, 1.0], "room": np.array([8.0, 9.0]) + zero, "sd": size, "shift": -size, "lod": limits},
        units=names,
    )
    room = {"room": bt.Observation(warm, of=lambda t, x, p, u: x.level, unit=unit)}
    found = bound_density(decay(observations=room), record).bound.columns
    expected = {"room_scale": 1.0, "room_bias": -1.0, "room_lower": 7.0 + zero}
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)


def test_autocorrelated_noise_is_one_normal_whose_scale_and_nugget_change() -> None:
    noise = bt.Autocorrelated(COLUMN, 1.5, lambda t, x, p, u: 0.1 * x.level)
    found = terms(twin(noise), telemetry(), VALUES)
    scale, nugget, times = (array[SEEN] for array in (SD, 0.1 * EXACT, TIMES))
    covariance = np.outer(scale, scale) * np.exp(-np.abs(times[:, None] - times) / 1.5) + np.diag(nugget**2)
    assert found.sum() == pytest.approx(
        stats.multivariate_normal(EXACT[SEEN], covariance).logpdf(LEVEL[SEEN]), rel=1e-6
    )
    with pytest.raises(InvalidTwin, match=r"`correlation_time`.*each row"):
        twin(bt.Autocorrelated(1.0, COLUMN))


def test_autocorrelated_noise_goes_on_from_the_last_residual_in_the_scale_of_each_row() -> None:
    noise = bt.Autocorrelated(1.0, 1.5, 0.0)
    observed = np.array([0.4, 0.2, np.nan, np.nan])
    scale = np.array([0.1, 0.2, 0.4, 0.8])
    keys = jax.random.split(jax.random.key(0), 4000)

    def draws(given: dict) -> np.ndarray:
        sample = jax.vmap(lambda key: noise.sample_after(key, observed, np.zeros(4), np.arange(4.0), **given))
        return np.asarray(sample(keys))

    drawn = draws({"scale": scale, "correlation_time": 1.5, "nugget": 0.0})[:, 2:]
    kept = np.exp(-np.array([1.0, 2.0]) / 1.5)
    mean, sd = kept * scale[2:], scale[2:] * np.sqrt(1 - kept**2)  # the last residual is one scale above
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - mean), 4 * sd / np.sqrt(4000))
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=4 / np.sqrt(8000))


@pytest.mark.thorough
def test_limits_are_those_of_each_row() -> None:
    limits = np.array([np.nan, 4.2, 1.0, 3.0, 0.5])
    level = np.array([5.1, 4.2, np.nan, 3.0, 1.3])
    noise = bt.Censored(bt.Gaussian(0.3), lower=bt.Column("lod"), upper=5.1)
    record = telemetry_of({"time": TIMES, "level": level, "lod": 100 * limits}, units={"lod": "cm"})
    exact = stats.norm(EXACT, 0.3)
    wanted = np.where(level == limits, exact.logcdf(level), exact.logpdf(np.where(SEEN, level, 1.0)))
    wanted[0], wanted[2] = exact.logsf(5.1)[0], 0.0
    np.testing.assert_allclose(terms(twin(noise), record, VALUES), wanted, rtol=1e-5)
    density = bound_density(twin(noise), record)
    slope = jax.grad(density)(density.unconstrain(VALUES))
    assert np.isfinite(slope).all()
    drawn = density.draw(jax.random.key(0), VALUES, density.predict(VALUES))["level"]
    assert np.all(np.asarray(drawn) >= np.nan_to_num(limits, nan=-np.inf))
    below = telemetry_of({"time": TIMES, "level": level, "lod": limits + 0.5})
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level`.*, within the limits of its row.*4.2 in row 2"):
        bound_density(twin(noise), below)


def test_numbers_are_arguments_of_what_is_compiled() -> None:
    densities = [bound_density(twin(bt.Gaussian(COLUMN)), telemetry(sd=told)) for told in (TOLD, 2 * TOLD)]
    flat = [jax.tree.flatten(density) for density in densities]
    assert flat[0][1] == flat[1][1]
    assert any(np.array_equal(leaf, 2 * SD) for leaf in flat[1][0])


@pytest.mark.thorough
def test_numpyro_has_the_same_density() -> None:
    noise = bt.Censored(bt.Gaussian(bt.Column("sd", FACTOR)), lower=bt.Column("lod"))
    record = telemetry(lod=[1.0, 4.2, 1.0, 1.0, 1.0])
    values = VALUES | {"level_scale_factor": 2.0}
    density = bound_density(twin(noise), record)
    z = density.unconstrain(values)
    found, _ = log_density(bt.numpyro_model(twin(noise), record), (), {}, values)
    assert float(found) == pytest.approx(float(density(z) - density.constrain_with_log_det(z)[1]), rel=1e-9)
    two = {"first": record, "second": telemetry(sd=2 * TOLD, lod=[1.0, 4.2, 1.0, 1.0, 1.0])}
    own = values | {"level_initial": np.array([5.0, 4.9])}
    joint, _ = log_density(bt.numpyro_model(twin(noise), two), (), {}, own)
    each = [
        terms(twin(noise), one, values | {"level_initial": start}).sum()
        for one, start in zip(two.values(), own["level_initial"], strict=True)
    ]
    priors = (
        dist.LogNormal(0.0, 0.5).log_prob(np.array([0.5, 2.0])).sum()
        + dist.Normal(5.0, 1.0).log_prob(own["level_initial"]).sum()
    )
    assert float(joint) == pytest.approx(sum(each) + float(priors), rel=1e-6)


def test_what_a_column_is_and_its_factor_have_names_words_and_a_fingerprint() -> None:
    one = twin(bt.Gaussian(bt.Column("sd", FACTOR)))
    site = one.sites()[-1]
    assert (site.name, site.unit, site.kind) == ("level_scale_factor", "", "noise")
    assert describe(one)["observations"][0]["noise"] == "Gaussian(scale = column `sd` × factor ~ LogNormal(0, 0.5))"
    noises = [COLUMN, bt.Column("other"), bt.Column("sd", 2.0), bt.Column("sd", FACTOR)]
    noises += [lambda t, x, p, u: 0.1 * x.level, lambda t, x, p, u: 0.2 * x.level]
    found = [fingerprint(twin(bt.Gaussian(scale))) for scale in noises]
    found += [fingerprint(twin(bt.NoiseFrom(lambda v, p: dist.Normal(v, p.s), {"s": scale}))) for scale in noises]
    assert len(set(found)) == 2 * len(noises)


WRONG = {
    "text": ({"sd": ["good", "good", "", "bad", "good"]}, "column `sd` holds text.*not numbers"),
    "no column": ({"sd": None}, r"no column for the noise `scale` of observation `level`, called `sd`"),
    "zero": ({"sd": [10.0, 0.0, 10.0, 10.0, 10.0]}, r"positive number.*0 in row 2 \(0.5\)"),
    "missing": ({"sd": [10.0, 10.0, 10.0, np.nan, 10.0]}, r"wherever `level` has a value.*nothing in row 4 \(2.0\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_columns_that_do_not_tell_are_refused_by_row(case: str) -> None:
    columns, pattern = WRONG[case]
    with pytest.raises(InvalidTelemetry, match=f"(?s){pattern}"):
        bound_density(twin(bt.Gaussian(COLUMN)), telemetry(**columns))


MISFITS = {
    "unknown name in a function": (
        lambda: twin(bt.Gaussian(lambda t, x, p, u: x.levl)),
        "`levl`.*Did you mean `level`",
    ),
    "a negative factor": (lambda: twin(bt.Gaussian(bt.Column("sd", -1.0))), "`factor` of noise `scale`.*positive"),
    "an unknown factor": (lambda: twin(bt.Gaussian(bt.Column("sd", "gain"))), "`gain`"),
    "process noise": (
        lambda: twin(bt.Gaussian(COLUMN), model_error=bt.ProcessNoise({"level": 0.1})),
        "Process noise.*same in all rows",
    ),
    "limits of counts": (lambda: bt.Censored(bt.Poisson(), upper=COLUMN), "row by row"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_by_name(case: str) -> None:
    make, pattern = MISFITS[case]
    with pytest.raises(InvalidTwin, match=f"(?s){pattern}"):
        make()


@pytest.mark.slow
def test_a_calibration_keeps_the_column_and_its_forecast_asks_for_it(tmp_path: object) -> None:
    noise = twin(bt.Gaussian(bt.Column("sd", FACTOR)))
    rng = np.random.default_rng(0)
    times = np.linspace(0.0, 4.0, 40)
    sd = rng.uniform(2.0, 20.0, 40)
    level = 5.0 * np.exp(-0.5 * times) + 2.0 * sd / 100 * rng.normal(size=40)
    record = telemetry_of({"time": times, "level": level, "sd": sd}, units={"sd": "cm"})
    posterior = bt.calibrate(noise, record, seed=0, method="laplace", num_samples=100, num_chains=2)
    factor = posterior["posterior"]["level_scale_factor"]
    assert abs(float(factor.mean()) - 2.0) < 4 * float(factor.std())
    kept = posterior["constant_data"]["level_scale"]
    np.testing.assert_allclose(kept, sd / 100)
    assert kept.attrs["units"] == "m"
    bt.save(posterior, tmp_path / "kept.nc")
    posterior = bt.load(tmp_path / "kept.nc")
    future = {"time": [4.5, 5.0], "sd": [10.0, 1000.0]}
    forecast = bt.predict(noise, posterior, telemetry_of(future, units={"sd": "cm"}), seed=0)["predictions"]["level"]
    ratio = forecast.std(("chain", "draw")).to_numpy()
    assert ratio[1] > 50 * ratio[0]
    with pytest.raises(InvalidTelemetry, match="`sd`"):
        bt.predict(noise, posterior, telemetry_of({"time": [4.5, 5.0]}), seed=0)
