"""Where nothing can start because a row is impossible, the error names the row, its cause and what helps."""

import numpy as np
import numpyro.distributions as dist
import pytest
from twins import bound_density, decay, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry, NoValidStart
from bayestwin.inference.starts import no_start
from bayestwin.model.noise import Noise

TIMES = [0.0, 1.0, 2.0, 3.0]


def empty(noise: Noise) -> bt.Twin:
    """A tank that starts empty and fills at a rate."""
    return decay(
        vector_field=lambda t, x, p, u: {"level": p.rate},
        states={"level": bt.State(0.0, unit="m")},
        observations={"level": bt.Observation(noise, unit="m")},
    )


def told(noise: Noise, level: list[float]) -> str:
    density = bound_density(empty(noise), telemetry_of({"time": TIMES, "level": level}))
    return str(no_start(density.filled, 0, 64))


CASES = {
    "log-normal": (bt.LogNormal(0.2), [0.1, 1.0, 2.0, 3.0], "a value of which LogNormal noise has no logarithm"),
    "proportional": (bt.Proportional(0.0, 0.1), [0.0, 1.0, 2.0, 3.0], "with a standard deviation of 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_prediction_of_zero_is_named_with_its_row(case: str) -> None:
    noise, level, cause = CASES[case]
    message = told(noise, level)
    assert f"t=0 (row 1), where `level` was observed to be {level[0]:g} and 0 is predicted" in message
    assert cause in message
    for remedy in ("leave the row out", "bt.Censored(noise, lower=…)", "bt.Proportional(scale, relative)"):
        assert remedy in message
    assert "stiff solver" not in message


def test_any_other_impossible_row_is_named_too() -> None:
    message = told(bt.NoiseFrom(lambda v, p: dist.Uniform(v - 0.1, v + 0.1)), [0.0, 1.0, -5.0, 3.0])
    assert "row 3" in message
    assert "observed to be -5" in message


@pytest.mark.slow
@pytest.mark.parametrize("noise", [bt.Censored(bt.LogNormal(0.2), lower=0.3), bt.Proportional(0.1, 0.1)])
def test_the_remedies_help(noise: Noise) -> None:
    first = 0.3 if isinstance(noise, bt.Censored) else 0.0
    density = bound_density(empty(noise), telemetry_of({"time": TIMES, "level": [first, 1.0, 2.0, 3.0]}))
    z = density.unconstrain({"rate": 1.0})
    assert np.isfinite(density(z))
    assert np.isfinite(density.local(z).gradient).all()
    if first:
        assert float(density.log_likelihood({"rate": 1.0}, density.predict({"rate": 1.0}))["level"][0]) == 0.0


def test_a_reading_of_zero_is_refused_by_row_time_and_remedy() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)0 in row 1; the first at 0.0.*limit of detection.*Proportional"):
        bound_density(empty(bt.LogNormal(0.2)), telemetry_of({"time": TIMES, "level": [0.0, 1.0, 2.0, 3.0]}))


def test_a_calibration_says_it() -> None:
    record = telemetry_of({"time": TIMES, "level": [0.1, 1.0, 2.0, 3.0]})
    with pytest.raises(NoValidStart, match="row 1"):
        bt.calibrate(empty(bt.LogNormal(0.2)), record, seed=0)
