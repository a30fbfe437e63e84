"""A future that starts anew: from states that are given, at any time, with the parameters of the calibration."""

import json

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from twins import telemetry_of

import bayestwin as bt
from bayestwin.assess.draws import horizons
from bayestwin.density.ahead import is_another_recording
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.report import render_report


def vector_field(t, x, p, u):
    """It leaks, and a pump fills it; a float follows at once."""
    return {"level": u.pump - p.rate * x.level, "lag": (x.level - x.lag) / 2.0}


TANK = bt.Twin(
    name="tank",
    vector_field=vector_field,
    states={"level": bt.State(dist.Normal(5.0, 1.0), unit="m"), "lag": bt.State(lambda p: 3.0 * p.rate, unit="m")},
    parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h")},
    inputs={"pump": bt.Input(unit="m/h")},
    observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.2)), unit="m")},
    time_unit="h",
)


def telemetry(start: float, pump: float = 0.0) -> bt.Telemetry:
    times = start + np.linspace(0.0, 3.0, 13)
    level = 5.0 * np.exp(-0.7 * (times - start)) + 0.05 * np.cos(40.0 * times)
    return bt.read_telemetry(pd.DataFrame({"level": level, "pump": pump}, index=pd.Index(times, name="time")))


@pytest.fixture(scope="module")
def posterior() -> xr.DataTree:
    return bt.calibrate(TANK, telemetry(0.0), seed=0, method="laplace", num_samples=200)


def test_it_is_the_closed_form_whenever_it_begins(posterior: xr.DataTree) -> None:
    """Also before the calibration, or years after it, where `predict` alone would need the inputs between."""
    for start in (-50.0, 10_000.0):
        future = telemetry(start - 1.0).between(start=start)  # whose own t0 lies before
        found = (
            bt.predict(TANK, posterior, future, seed=1, initial={"level": 2.0})["predictions"].to_dataset().drop_attrs()
        )
        rate = posterior["posterior/rate"].sel(draw=found["draw"]).drop_attrs()
        expected = (2.0 * np.exp(-rate * (found["time"] - start))).transpose("chain", "draw", "time")
        xr.testing.assert_allclose(found["level_noise_free"], expected, rtol=1e-6)
        # what is not given starts as the twin says
        xr.testing.assert_allclose(found["lag_state"].isel(time=0, drop=True), 3.0 * rate, rtol=1e-9)


def test_a_start_that_is_not_known_exactly_adds_its_uncertainty(posterior: xr.DataTree) -> None:
    start = {"level": dist.Normal(4.0, 0.5)}
    found = bt.predict(TANK, posterior, telemetry(20.0), seed=1, initial=start)
    first = found["predictions/level_state"].isel(time=0)
    # 800 draws: the mean within 4 of its standard errors, the standard deviation within 4 of σ / √(2n)
    assert float(first.mean()) == pytest.approx(4.0, abs=4 * 0.5 / np.sqrt(first.size))
    assert float(first.std()) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2 * first.size))
    assert json.loads(found.attrs["job"])["initial"] == {"level": "Normal(4, 0.5)"}
    again = bt.predict(TANK, posterior, telemetry(20.0), seed=1, initial=start)
    xr.testing.assert_identical(found["predictions"].to_dataset(), again["predictions"].to_dataset())


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        bt.ProcessNoise(scale={"level": dist.HalfNormal(0.5)}),
        bt.Discrepancy(scale={"level": dist.HalfNormal(0.5)}, length={"level": dist.LogNormal(0.5, 0.2)}),
    ],
    ids=["process noise", "discrepancy"],
)
def test_a_model_error_widens_it(error: object) -> None:
    calibrated = bt.calibrate(TANK, telemetry(0.0), seed=0, method="laplace", num_samples=200, model_error=error)
    found = bt.predict(TANK, calibrated, telemetry(50.0), seed=1, initial={"level": 2.0}, model_error=error)
    last = found["predictions"].to_dataset().isel(time=-1)
    assert float(last["level"].std()) > float(last["level_noise_free"].std()) > 0.0
    assert np.isfinite(last["level"]).all()


@pytest.mark.parametrize("initial", [{}, {"lag": 1.0}, {"level": 1.0, "depth": 2.0}])
def test_a_start_that_leaves_something_open_is_refused(posterior: xr.DataTree, initial: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting, match="does not say where twin `tank` starts"):
        bt.predict(TANK, posterior, telemetry(0.0), seed=1, initial=initial)


def test_experiments_are_refused(posterior: xr.DataTree) -> None:
    with pytest.raises(InvalidSetting, match="of one telemetry"):
        bt.predict(TANK, posterior, {"a": telemetry(0.0)}, seed=1, initial={"level": 1.0})


def test_what_predict_alone_refuses_names_the_way_out(posterior: xr.DataTree) -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match="`initial=`"):
        bt.predict(TANK, posterior, telemetry(100.0), seed=1)


def other(num: int = 13) -> bt.Telemetry:
    """Another recording, on a clock that begins at 0 as well: from 8 m, without a pump."""
    times = np.linspace(0.0, 3.0, num)
    level = 8.0 * np.exp(-0.7 * times) + 0.05 * np.sin(50.0 * times)
    return bt.read_telemetry(pd.DataFrame({"level": level, "pump": 0.0}, index=pd.Index(times, name="time")))


def test_another_recording_with_a_clock_of_its_own_is_predicted_from_its_own_start(posterior: xr.DataTree) -> None:
    found = bt.predict(TANK, posterior, other(), seed=1)
    assert found.attrs["starts_anew"] == {"level": "Normal(5, 1)"}
    first = found["predictions/level_state"].isel(time=0)
    # what was inferred of the other recording's start says nothing here: it is the prior
    assert float(first.mean()) == pytest.approx(5.0, abs=4 / np.sqrt(first.size))
    assert float(first.std()) == pytest.approx(1.0, abs=4 / np.sqrt(2 * first.size))
    known = bt.predict(TANK, posterior, other(), seed=1, initial={"level": 8.0})
    covered = bt.coverage(known, other(), prob=0.95)
    assert covered["num"].item() == 13
    assert covered["coverage"].item() > 0.6
    np.testing.assert_allclose(horizons(known, known["predictions"].to_dataset()), np.linspace(0.0, 3.0, 13))
    assert np.isnan(bt.scores(known, other())["skill"]).all()  # nothing was known before


def test_its_rows_are_told_from_the_calibrated_ones(posterior: xr.DataTree) -> None:
    with pytest.raises(InvalidTelemetry, match="overlaps with calibration"):
        bt.coverage(bt.predict(TANK, posterior, telemetry(0.0), seed=1), telemetry(0.0))
    again = bt.predict(TANK, posterior, telemetry(0.0), seed=1, initial={"level": 5.0})
    with pytest.raises(InvalidTelemetry, match=r"(?s)not another recording.*13 of 13 observations"):
        bt.coverage(again, telemetry(0.0))
    # a part of them among other rows is enough, and a start that happens to be the same is not
    mixed = telemetry(0.0).table.copy()
    assert is_another_recording(TANK, posterior, other())
    assert not is_another_recording(TANK, posterior, bt.read_telemetry(mixed.iloc[4:]))
    mixed.iloc[1:, 0] += 1.0
    assert is_another_recording(TANK, posterior, bt.read_telemetry(mixed))
    # without observations it is the calibrated record, asked about what if
    assert not is_another_recording(TANK, posterior, bt.read_telemetry(mixed[["pump"]]))
    # in another unit the same rows are the same
    centimetres = bt.read_telemetry((telemetry(0.0).table * [100.0, 1.0]), units={"level": "cm"})
    assert not is_another_recording(TANK, posterior, centimetres)


@pytest.mark.thorough
def test_the_report_draws_it_by_itself(posterior: xr.DataTree) -> None:
    found = bt.predict(TANK, posterior, other(), seed=1)
    page = render_report(posterior, found, validation=other())
    assert "Another recording, on its own clock." in page
    assert "as Normal(5, 1)" in page
    assert "Another recording" in render_report(posterior, validation=other())  # nothing was predicted
    later = bt.predict(TANK, posterior, telemetry(3.25), seed=1)
    assert "Another recording" not in render_report(posterior, later, validation=telemetry(3.25))


@pytest.mark.thorough
@pytest.mark.parametrize("times", [[0.0, 1.0, 2.0], [0.0]], ids=["some rows", "one row, where nothing is solved"])
def test_where_initial_states_are_all_that_is_inferred(times: list[float]) -> None:
    twin = bt.Twin(
        name="leak",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.Normal(1.0, 1.0))},
        parameters={"rate": bt.Parameter(1.0)},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
        time_unit="h",
        quantities={"lowest": bt.Min("level")},
    )
    record = telemetry_of({"time": times, "level": [1.0, 0.4, 0.2][: len(times)]})
    posterior = bt.calibrate(twin, record, seed=0, method="laplace")
    weight = 1.0 + 100.0 * np.exp(-2.0 * np.array(times)).sum()
    assert float(posterior["posterior"]["level_initial"].std()) == pytest.approx(weight**-0.5, rel=0.1)
    found = bt.predict(twin, posterior, telemetry_of({"time": [5.0, 6.0]}), seed=0, initial={"level": 2.0})
    drawn = found["predictions"]["level"].isel(time=1)
    assert float(drawn.mean()) == pytest.approx(2.0 * np.exp(-1.0), abs=0.4 / drawn.size**0.5)
    assert float(drawn.std()) == pytest.approx(0.1, rel=4.0 / (2.0 * drawn.size) ** 0.5)
    assert (np.abs(found["predictions"]["lowest"] - 2.0 * np.exp(-1.0)) < 1e-8).all()
