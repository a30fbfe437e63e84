"""The numbers that the report computes itself are right: contraction, skill, times, normal scores, autocorrelation."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from bayestwin.assess import coverage
from bayestwin.assess.residuals import autocorrelation
from bayestwin.report.coverage import residuals_of
from bayestwin.report.prose import key_figures, start_words, verdict
from bayestwin.report.reading import read_quantities, result_rows, split
from bayestwin.report.tables import parameter_rows


def test_table_holds_mean_sd_interval_and_contraction_of_known_draws():
    shares = (np.arange(4000) + 0.5) / 4000
    normal = scipy.stats.norm.ppf(np.random.default_rng(0).permutation(shares)).reshape(4, 1000)
    attrs = {"units": "K/W", "long_name": ""}
    dims = ("chain", "draw")
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"R": (dims, 2 + 0.1 * normal, attrs)}),
            "prior": xr.Dataset({"R": (dims, 1 + 0.4 * normal.reshape(1, -1), attrs)}),
        }
    )
    tree.attrs = {"description": {"parameters": [{"name": "R", "doc": "wall"}]}}
    (found,) = read_quantities(tree)
    assert found.lower == pytest.approx(2 - 0.1 * 1.6449, abs=1e-3)
    assert found.upper == pytest.approx(2 + 0.1 * 1.6449, abs=1e-3)
    assert found.contraction == pytest.approx(0.75, abs=1e-3)
    (row,) = parameter_rows([found], [])
    assert (row.mean, row.sd, row.lower, row.upper, row.unit) == ("2.00", "0.10", "1.84", "2.16", "K/W")
    assert row.doc == "wall"


def test_a_posterior_at_the_high_end_of_a_wide_prior_is_narrower_by_decades_not_by_units():
    """Prior of a standard deviation of 1 in the logarithm, posterior of 0.2 around a value 50 times higher."""
    normal = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000).reshape(4, 1000)
    dims = ("chain", "draw")
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"C": (dims, 50 * np.exp(0.2 * normal))}),
            "prior": xr.Dataset({"C": (dims, np.exp(normal.reshape(1, -1)))}),
        }
    )
    assert read_quantities(tree)[0].contraction == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(
    ("skill", "words", "value"), [(0.25, "RMSE lower by", "25\u202f%"), (-0.4, "RMSE higher by", "40\u202f%")]
)
def test_an_error_above_that_of_persistence_is_not_said_to_be_lower(lynx_hare, skill, words, value):
    scored = xr.Dataset({"skill": ("observation", [skill])})
    quantities = read_quantities(lynx_hare.posterior)
    told = key_figures(lynx_hare.posterior, quantities, (), None, scored)[-1]
    assert (told.name, told.value.replace("\u00a0", "\u202f")) == (words, value)


def test_the_start_is_said_on_the_clock_of_the_other_times(room):
    posterior = room.posterior.copy()
    posterior.attrs |= {"telemetry_timezone": "Europe/Amsterdam", "t0": "2021-11-22 08:00:00"}
    told = dict(result_rows(posterior, split(posterior, None, None), None, None))
    assert told["start of the twin (t0)"] == "2021-11-22 09:00+01:00"
    posterior.attrs["t0"] = {"first": "0.0", "second": "2021-07-22 08:00:00"}
    told = dict(result_rows(posterior, split(posterior, None, None), None, None))
    assert told["start of the twin (t0)"] == "first: 0.0, second: 2021-07-22 10:00+02:00"


def test_scores_are_standard_normal_and_independent_when_the_twin_is_right(room):
    calibration, later = residuals_of(split(room.posterior, room.forecast, room.validation))
    scores = later.scores
    assert np.isfinite(scores).all()
    # sd of a mean and of a standard deviation of n independent standard normals, times four
    assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
    assert abs(scores.std() - 1) < 4 / np.sqrt(2 * scores.size)
    assert abs(autocorrelation(scores, 1)[0]) < 4 / np.sqrt(scores.size)
    assert np.isnan(calibration.scores[1000:1024]).all()
    assert np.isnan(calibration.raw[1000:1024]).all()


def test_telemetry_in_another_unit_gives_the_same_residuals(room):
    table = room.validation.table.assign(indoor=room.validation.table["indoor"] * 1.8 + 32)
    other = dataclasses.replace(room.validation, table=table, units=dict(room.validation.units) | {"indoor": "degF"})
    _, plain = residuals_of(split(room.posterior, room.forecast, room.validation))
    _, converted = residuals_of(split(room.posterior, room.forecast, other))
    np.testing.assert_allclose(converted.raw, plain.raw, atol=1e-9)


def test_scores_do_not_depend_on_the_noise_model(lynx_hare):
    def logged(tree: xr.DataTree) -> xr.DataTree:
        groups = {name: node.to_dataset() for name, node in tree.children.items()}
        groups["posterior_predictive"] = np.log(groups["posterior_predictive"])
        groups["observed_data"] = np.log(groups["observed_data"])
        built = xr.DataTree.from_dict(groups)
        built.attrs = tree.attrs
        return built

    plain = residuals_of(split(lynx_hare.posterior, None, None))
    logs = residuals_of(split(logged(lynx_hare.posterior), None, None))
    for one, other in zip(plain, logs, strict=True):
        np.testing.assert_allclose(one.scores, other.scores)


def test_autocorrelation_of_a_known_process_with_gaps():
    rng = np.random.default_rng(4)
    series = np.zeros(20_000)
    for step in range(1, series.size):
        series[step] = 0.7 * series[step - 1] + rng.normal()
    series[rng.random(series.size) < 0.2] = np.nan
    np.testing.assert_allclose(autocorrelation(series, 3), [0.7, 0.49, 0.343], atol=0.05)


def test_autocorrelation_of_too_few_is_not_a_number():
    assert np.isnan(autocorrelation(np.array([1.0, np.nan, 2.0]), 1)).all()
    assert np.isnan(autocorrelation(np.full(3, np.nan), 1)).all()


def test_observations_whose_errors_follow_each_other_are_said_to_be_worth_fewer(room):
    covered = coverage(room.forecast, room.validation)
    (plain,) = verdict((), covered, interrupted=False).lines
    assert "(indoor: 960 observations)" in plain
    (told,) = verdict((), covered.assign(num_effective=0 * covered["num_effective"] + 2.7), interrupted=False).lines
    assert "960 observations, worth about 3 independent of each other)" in told


def test_more_climbs_may_end_at_the_best_mode_than_converged():
    """Climbs that were stopped there count too, so that they are not said to be some of those that converged."""
    tree = xr.DataTree()
    tree.attrs = {"starts": {"drawn": 64, "failed": 0, "optimised": 16, "converged": 6, "highest": 15}}
    assert "Of the best 16, which were optimised, 6 converged, 15 ended at the best mode." in start_words(tree)
