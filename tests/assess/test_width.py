"""Predictions that are far too wide are said to be, in words about predictions; somewhat wide ones are not."""

import numpy as np
import pytest
import scipy.stats

from bayestwin.assess import coverage, diagnose
from bayestwin.assess.coverage import width_gate

TIME = np.arange(200.0)


@pytest.fixture
def judged(make_forecast, make_telemetry):
    """The gate on 200 independent errors of standard deviation 1, predicted with another one."""

    def judge(scale: float, num: int = 200, kind: str = ""):
        rng = np.random.default_rng(31)
        draws = {"voltage": rng.normal(0.0, scale, (1, 1000, num))}
        telemetry = make_telemetry({"voltage": rng.normal(size=num)}, TIME[:num])
        return width_gate(coverage(make_forecast(draws, TIME[:num]), telemetry), {"model_error": {"kind": kind}})

    return judge


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_sound_and_somewhat_wide_predictions_are_not_called_far_too_wide(judged, scale: float) -> None:
    assert judged(scale) is None


@pytest.mark.parametrize("scale", [3.0, 3.5])
def test_the_factor_is_that_by_which_they_are_too_wide(judged, scale: float) -> None:
    gate = judged(scale, kind="Discrepancy")
    assert (gate.name, gate.passed, gate.severity) == ("width", False, "warn")
    # the share inside is known to its standard error, and the factor to that over the density of the errors
    share = 2 * scipy.stats.norm.cdf(0.6745 * scale) - 1
    error = np.sqrt(share * (1 - share) / 200) / (2 * scipy.stats.norm.pdf(0.6745 * scale)) / 0.6745
    assert gate.value == pytest.approx(scale, abs=3 * error)
    assert "Predictions of `voltage` are far too wide" in gate.sentence
    assert "discrepancy" in gate.sentence


def test_where_all_lie_inside_the_factor_is_that_of_half_an_observation_outside(judged) -> None:
    expected = 0.5 * 999 / 1001  # of 1,000 draws
    inside, promised = scipy.stats.norm.ppf([1 - 1 / 800, (1 + expected) / 2])
    assert judged(50.0).value == pytest.approx(inside / promised, rel=1e-9)


def test_each_model_error_has_advice_of_its_own(judged) -> None:
    assert "Process noise adds up" in judged(4.0, kind="ProcessNoise").sentence
    assert "scale of the noise" in judged(4.0).sentence


def test_too_few_say_nothing(judged) -> None:
    assert judged(4.0, num=2) is None


def test_it_is_among_the_gates_and_may_fail(make_posterior, healthy_draws, make_forecast, make_telemetry) -> None:
    rng = np.random.default_rng(32)
    forecast = make_forecast({"voltage": rng.normal(0.0, 5.0, (1, 500, 200))}, TIME)
    covered = coverage(forecast, make_telemetry({"voltage": rng.normal(size=200)}, TIME))
    gates = {gate.name: gate for gate in diagnose(make_posterior(healthy_draws()), covered=covered, strict=["width"])}
    assert gates["width"].severity == "fail"
    assert "width" not in {gate.name for gate in diagnose(make_posterior(healthy_draws()))}
