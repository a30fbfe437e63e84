"""Several observations at one time: they are read when that is asked for, each counts, and results say so."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from twins import bound_density, decay, driven, known_decay, lag, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.times import paired

TIMES = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0])
LEVEL = np.array([5.3, 4.8, 2.4, 0.9, np.nan, 1.4, 0.3])
SEEN = np.isfinite(LEVEL)
EXACT = np.exp(-0.8 * TIMES)  # from a level of one


def replicates(times: np.ndarray = TIMES, level: np.ndarray = LEVEL, **columns: object) -> bt.Telemetry:
    return telemetry_of({"time": times, "level": level, **columns}, duplicates="all")


def test_they_are_kept_when_that_is_asked_for_and_said() -> None:
    record = replicates()
    assert record.table["level"].count() == 6
    assert any("3 rows repeat a time in `time`: they were kept as replicates" in one for one in record.notices)
    with pytest.raises(InvalidTelemetry, match=r"(?s)`time` occurs twice.*replicates.*duplicates='all'"):
        telemetry_of({"time": TIMES, "level": LEVEL})
    assert record.sha256 != telemetry_of({"time": TIMES, "level": LEVEL}, duplicates="first").sha256


def test_in_a_long_table_those_of_several_signals_stand_side_by_side() -> None:
    long = {"time": [0, 0, 0, 1, 1], "variable": ["a", "b", "b", "b", "a"], "value": [1.0, 2.0, 3.0, 4.0, 5.0]}
    table = telemetry_of(long, layout="long", duplicates="all").table
    assert table.index.tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_array_equal(table[["a", "b"]], [[1.0, 2.0], [np.nan, 3.0], [5.0, 4.0]])


@pytest.mark.thorough
def test_each_counts_and_the_posterior_is_that_of_all_of_them() -> None:
    """A normal prior, a known rate and a known scale: the posterior is normal, and known."""
    precision = 1.0 + (EXACT[SEEN] ** 2).sum() / 0.09
    mean = (5.0 + (EXACT * LEVEL)[SEEN].sum() / 0.09) / precision
    posterior = bt.calibrate(known_decay(), replicates(), seed=0, method="laplace", num_samples=500)
    level = posterior["posterior"]["level_initial"]
    error = precision**-0.5 / np.sqrt(level.size)
    assert float(level.mean()) == pytest.approx(mean, abs=4 * error)
    assert float(level.std()) == pytest.approx(precision**-0.5, rel=4 / np.sqrt(2 * level.size))
    terms = posterior["log_likelihood"]["level"]
    assert terms.sizes["time"] == SEEN.sum()
    wanted = stats.norm(level.to_numpy()[..., None] * EXACT[SEEN], 0.3).logpdf(LEVEL[SEEN])
    np.testing.assert_allclose(terms, wanted, rtol=1e-6)
    np.testing.assert_array_equal(posterior["observed_data"]["level"], LEVEL)
    drawn = posterior["posterior_predictive"]["level"]
    assert (drawn.isel(time=0) != drawn.isel(time=1)).all()  # each has noise of its own
    assert bt.diagnose(posterior)


@pytest.mark.thorough
def test_forecasts_and_coverage_take_each_reading_for_itself(tmp_path: object) -> None:
    posterior = bt.calibrate(known_decay(), replicates(), seed=0, method="laplace", num_samples=200, num_chains=2)
    bt.save(posterior, tmp_path / "replicates.nc")
    posterior = bt.load(tmp_path / "replicates.nc")
    later = replicates(np.array([3.5, 3.5, 4.0]), np.array([0.2, 9.0, 0.2]))
    once = telemetry_of({"time": [3.5, 4.0]})
    for future in (later, once):
        forecast = bt.predict(known_decay(), posterior, future, seed=0)
        found = bt.coverage(forecast, later, prob=(0.9,))
        assert int(found["num"].sum()) == 3
        assert int(found["num_inside"].sum()) == 2
    drawn = bt.predict(known_decay(), posterior, later, seed=0)["predictions"]["level"]
    assert (drawn.isel(time=0) != drawn.isel(time=1)).all()


def test_inputs_stand_in_one_row_of_a_time_or_are_alike_in_all() -> None:
    times, stepped = np.array([0.0, 1.0, 1.0, 2.5]), np.array([1.0, 2.0, np.nan, 0.5])
    sloped = np.array([0.5, 1.5, 1.5, 0.5])
    level = np.array([1.0, 1.2, 1.3, np.nan])
    twin = driven(solver=bt.Solver(rtol=1e-10, atol=1e-12))
    values = {"rate": 0.5, "gain": 2.0, "level_initial": 1.0, "level_scale": 0.3}
    density = bound_density(twin, replicates(times, level, stepped=stepped, sloped=sloped))
    once = [0, 1, 3]
    exact = lag(times[once], stepped[once], sloped[once], 1.0, 0.5, 2.0)[[0, 1, 1, 2]]
    np.testing.assert_allclose(density.predict(values).noise_free["level"], exact, rtol=1e-6)
    with pytest.raises(
        InvalidTelemetry, match=r"(?s)input `sloped` has several values at 1.0.*1.5 in row 2, 1.6 in row 3"
    ):
        bound_density(twin, replicates(times, level, stepped=stepped, sloped=np.array([0.5, 1.5, 1.6, 0.5])))


def test_a_dose_stands_in_one_row() -> None:
    dose = bt.Event(lambda t, x, p, u: {"level": x.level + u.dose})
    twin = decay(events={"dose": dose}, solver=bt.Solver(rtol=1e-10, atol=1e-12))
    values = {"rate": 0.8, "level_initial": 1.0, "level_scale": 0.3}
    told = np.full(7, np.nan)
    told[3] = 2.0
    found = bound_density(twin, replicates(dose=told)).predict(values).noise_free["level"]
    np.testing.assert_allclose(found, EXACT + np.where(TIMES > 2.0, 2.0 * np.exp(-0.8), 0.0), rtol=1e-6)
    told[5] = 2.0
    with pytest.raises(InvalidTelemetry, match="event `dose` has several values"):
        bound_density(twin, replicates(dose=told))


def test_noise_that_remembers_is_the_same_at_one_time_but_for_what_is_white() -> None:
    noise = bt.Autocorrelated(0.4, 1.5, 0.2)
    twin = decay(observations={"level": bt.Observation(noise, unit="m")}, solver=bt.Solver(rtol=1e-10, atol=1e-12))
    density, values = bound_density(twin, replicates()), {"rate": 0.8, "level_initial": 1.0}
    found = density.log_likelihood(values, density.predict(values))["level"].sum()
    times = TIMES[SEEN]
    covariance = 0.16 * np.exp(-np.abs(times[:, None] - times) / 1.5) + 0.04 * np.eye(len(times))
    assert float(found) == pytest.approx(
        stats.multivariate_normal(EXACT[SEEN], covariance).logpdf(LEVEL[SEEN]), rel=1e-6
    )
    bare = decay(observations={"level": bt.Observation(bt.Autocorrelated(0.4, 1.5), unit="m")})
    disturbed = decay(model_error=bt.ProcessNoise({"level": 0.1}))
    for other, words in ((bare, "noise of observation `level`"), (disturbed, "process noise")):
        with pytest.raises(InvalidTelemetry, match=f"Replicates do not go with.*{words}"):
            bound_density(other, replicates())


@pytest.mark.slow
def test_experiments_have_their_own_replicates() -> None:
    both = {"first": replicates(), "second": replicates(np.array([0.0, 1.0, 1.0]), np.array([4.0, 2.0, 2.1]))}
    posterior = bt.calibrate(known_decay(), both, seed=0, method="laplace", num_samples=50, num_chains=2)
    seen = posterior["observed_data"]["level"]
    assert seen["time"].to_numpy().tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]
    first, second = seen.sel(experiment="first").to_numpy(), seen.sel(experiment="second").to_numpy()
    np.testing.assert_array_equal(first, [5.3, 4.8, 2.4, np.nan, 0.9, np.nan, 1.4, 0.3])
    np.testing.assert_array_equal(second, [4.0, np.nan, 2.0, 2.1, *[np.nan] * 4])


def test_what_cannot_have_them_says_so() -> None:
    with pytest.raises(InvalidTelemetry, match=r"backtest.*replicates"):
        bt.backtest(known_decay(), replicates(), seed=0, horizon=1.0, origins=2)


def test_a_check_does_not_take_them_for_mistakes() -> None:
    found = bt.check(known_decay(), replicates(), seed=0)
    assert not [one for one in found if one.kind == "duplicate" and one.severity == "fail"]


def test_times_are_paired_in_their_order() -> None:
    among = pd.Index([0.0, 1.0, 1.0, 2.0])
    np.testing.assert_array_equal(paired(pd.Index([1.0, 1.0, 1.0, 0.0, 5.0]), among), [1, 2, 2, 0, -1])
