"""All comparisons of one verdict hold together: a right twin gives alarms as seldom as promised, a wrong one does."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from bayestwin.assess import coverage
from bayestwin.report.prose import verdict
from bayestwin.telemetry import Telemetry

PROB = (0.5, 0.8, 0.9, 0.95)
REPEATS = 150


@pytest.fixture
def alarms(make_forecast: Callable, make_telemetry: Callable) -> Callable[..., np.ndarray]:
    """Whether the verdict of a report is an alarm, in each simulation of two observations with normal noise."""

    def simulate(num: int, correlation: float, width: float, repeats: int = REPEATS) -> np.ndarray:
        rng = np.random.default_rng([num, round(10 * correlation)])
        time = np.arange(float(num))
        shares = (np.arange(400) + 0.5) / 400
        draws = width * rng.permuted(np.tile(scipy.stats.norm.ppf(shares), (num, 1)), axis=1).T[None]
        forecast = make_forecast({"a": draws, "b": draws}, time)
        found = []
        for _ in range(repeats):
            errors = rng.normal(size=(2, num))
            for step in range(1, num):
                errors[:, step] = correlation * errors[:, step - 1] + np.sqrt(1 - correlation**2) * errors[:, step]
            telemetry: Telemetry = make_telemetry({"a": errors[0], "b": errors[1]}, time)
            found.append(verdict((), coverage(forecast, telemetry, PROB), interrupted=False).lines[-1])
        calm = ("all intervals cover", "no interval leaves its band")  # the second where too little was held out
        return np.array([not any(words in line for words in calm) for line in found])

    return simulate


def allowed(repeats: int = REPEATS) -> float:
    """5 %, and three standard errors of that."""
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("num", "correlation"),
    [
        (6, 0.0),
        (97, 0.0),
        pytest.param(97, 0.9, marks=pytest.mark.slow),
        pytest.param(480, 0.5, marks=pytest.mark.slow),
    ],
)
def test_a_right_twin_gives_an_alarm_no_more_often_than_promised(alarms: Callable, num: int, correlation: float):
    assert alarms(num, correlation, 1.0).mean() <= allowed()


@pytest.mark.parametrize(("num", "correlation"), [(30, 0.0), (97, 0.0), (480, 0.5)])
def test_half_the_noise_is_still_caught(alarms: Callable, num: int, correlation: float):
    assert alarms(num, correlation, 0.5, 30).mean() > 0.9
