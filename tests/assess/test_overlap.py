"""A forecast is not judged by observations that it was calibrated on."""

import numpy as np
import pytest
import xarray as xr
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

TIMES = np.arange(6.0)


def forecast(calibrated: list[float]) -> xr.DataTree:
    """Draws at six times, from a calibration that observed `level` where a value is not NaN."""
    drawn = np.random.default_rng(0).normal(size=(2, 50, TIMES.size))
    dims = ("chain", "draw", "time")
    level = {"level": (dims, drawn), "level_noise_free": (dims, drawn)}
    seen = xr.Dataset({"level": ("time", calibrated)}, {"time": TIMES[: len(calibrated)]})
    tree = {"predictions": xr.Dataset(level, {"time": TIMES}), "observed_data": seen}
    return xr.DataTree.from_dict(tree)


def held_out(start: float) -> bt.Telemetry:
    return telemetry_of({"time": TIMES, "level": np.zeros(6)}).between(start)


@pytest.mark.parametrize("judge", [bt.coverage, bt.scores, lambda *both: bt.pit(*both, seed=0)])
def test_validation_that_overlaps_with_calibration_is_an_error(judge: object) -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)overlaps with calibration.*`level`.*2 of 4 at.*2\.0 to 3\.0"):
        judge(forecast([0.0, 0.0, 0.0, 0.0]), held_out(2.0))


def test_what_was_held_out_among_the_calibrated_times_is_judged() -> None:
    found = bt.coverage(forecast([0.0, 0.0, np.nan, np.nan]), held_out(2.0))
    assert found["num"].values.tolist() == [[4.0] * 4]
    assert bt.coverage(forecast([0.0, 0.0]), held_out(2.0))["num"].values.tolist() == [[4.0] * 4]
