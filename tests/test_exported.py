"""An exported forecast is that of `predict`, to the last digits, and needs neither equations nor a trace."""

import functools
import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from twins import decay, decay_telemetry, driven, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry
from bayestwin.exported import OUTLINE, PROGRAMS, ExportedForecast, export_forecast, read_forecast, why_not
from bayestwin.project.model import load_model, load_telemetry

MODELS = pathlib.Path(__file__).parents[1] / "models"
SIZES = (4, 24)


def exported(twin: bt.Twin, record: bt.Telemetry, folder: pathlib.Path) -> tuple[xr.DataTree, ExportedForecast]:
    """A posterior, and its forecast as it comes back from a file."""
    posterior = bt.calibrate(twin, record, seed=0, method="laplace")
    bt.save(export_forecast(twin, posterior, sizes=SIZES), folder / "forecast.nc")
    return posterior, read_forecast(bt.load(folder / "forecast.nc"))


def check_same(
    twin: bt.Twin, posterior: xr.DataTree, forecast: ExportedForecast, future: bt.Telemetry, draws: int = 300
) -> None:
    """That all draws, and the words on what is beyond the calibration, are those of `predict`."""
    theirs = bt.predict(twin, posterior, future, seed=7, draws=draws)
    ours = forecast.draw(future, seed=7, draws=draws)
    np.testing.assert_array_equal(ours.times, theirs["predictions"]["time"])
    assert set(ours.found) == set(theirs["predictions"].data_vars) - {"num_failed"}
    for name, array in ours.found.items():
        own = theirs["predictions"][name].to_numpy().reshape(array.shape)
        np.testing.assert_allclose(array, own, rtol=1e-10, atol=1e-10 * np.nanmax(np.abs(own)), err_msg=name)
    assert forecast.beyond(ours) == list(theirs.attrs.get("beyond", ()))


def affine_record() -> bt.Telemetry:
    stepped, sloped, level = np.random.default_rng(2).normal(size=(3, 12))
    return telemetry_of({"time": np.arange(12.0), "stepped": stepped, "sloped": sloped, "level": level})


def ahead(times: object, **columns: object) -> bt.Telemetry:
    num = len(np.asarray(times))
    rng = np.random.default_rng(num)
    known = {"stepped": rng.normal(size=num), "sloped": 9.0 * rng.normal(size=num)}
    return telemetry_of({"time": times, **known, **columns})


@pytest.fixture(scope="module")
def affine(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataTree, ExportedForecast]:
    return exported(driven(), affine_record(), tmp_path_factory.mktemp("affine"))


@pytest.mark.parametrize(
    "times",
    [[11.5, 13.0], np.arange(12.0, 16.0), 12.0 + np.arange(20) * 0.5, 12.0 + np.cumsum(np.linspace(0.1, 0.4, 20))],
    ids=["two", "one kind of interval", "few kinds", "many kinds"],
)
def test_an_affine_twin(affine: tuple[xr.DataTree, ExportedForecast], times: object) -> None:
    """With an input that is held and one that is interpolated from before the end of the record."""
    check_same(driven(), *affine, ahead(times))


def test_few_draws_and_all_of_them(affine: tuple[xr.DataTree, ExportedForecast]) -> None:
    for draws in (1, 10, 249, affine[1].most_draws):
        check_same(driven(), *affine, ahead([12.0, 13.0]), draws)


def tiny_field(t, x, p, u):
    return {"level": -p.rate * x.level * jnp.abs(x.level / 1e-6) ** 0.5 + 1e-6 * u.stepped**2 + 1e-7 * u.sloped}


@functools.cache
def tiny() -> bt.Twin:
    """A nonlinear twin of states so small that the usual absolute tolerance would hide them."""
    return bt.Twin(
        name="tiny",
        vector_field=tiny_field,
        states={"level": bt.State(dist.Normal(5e-6, 1e-6))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 0.3))},
        inputs={"stepped": bt.Input(hold="previous"), "sloped": bt.Input(hold="linear", beyond="hold")},
        observations={
            "level": bt.Observation(bt.Gaussian(1e-7)),
            "double": bt.Observation(bt.Gaussian(1e-7), of=twice),
        },
    )


def twice(t, x, p, u):
    return 2.0 * x.level


def test_an_adaptive_solver_finds_its_tolerance_as_predict_does(tmp_path: pathlib.Path) -> None:
    times, rng = np.arange(12.0), np.random.default_rng(3)
    level = 5e-6 / (1.0 + 0.3 * times)
    columns = {"stepped": rng.uniform(0.5, 1.0, 12), "sloped": rng.uniform(0.5, 1.0, 12)}
    record = telemetry_of({"time": times, **columns, "level": level, "double": 2.0 * level})
    posterior, forecast = exported(tiny(), record, tmp_path)
    check_same(tiny(), posterior, forecast, ahead([12.0, 12.5, 14.0]))
    unknown_later = ahead([12.0, 12.5, 14.0], sloped=[0.5, np.nan, np.nan])
    check_same(tiny(), posterior, forecast, unknown_later)


@pytest.mark.thorough
def test_doses_that_the_telemetry_tells(tmp_path: pathlib.Path) -> None:
    model = load_model(MODELS / "dosing", "job.toml")
    split = load_telemetry(model)
    assert isinstance(split.calibration, bt.Telemetry)
    assert isinstance(split.held_out, bt.Telemetry)
    posterior, forecast = exported(model.twin, split.calibration, tmp_path)
    future = split.held_out.with_table(split.held_out.table.iloc[:20])
    assert any(np.isfinite(future.table[name]).any() for name in model.twin.events)
    twin = bt.Twin(**{**vars_of(model.twin), "quantities": {}})
    check_same(twin, posterior, forecast, future)


def vars_of(twin: bt.Twin) -> Mapping[str, object]:
    return {name: getattr(twin, name) for name in twin.__dataclass_fields__}


def test_dates_are_read_as_those_of_the_record(tmp_path: pathlib.Path) -> None:
    record = affine_record()
    start = pd.Timestamp("2026-01-01")
    table = record.table.set_index(start + pd.to_timedelta(record.table.index, "h")).reset_index(names="time")
    twin = driven(time_unit="h")
    dated = bt.read_telemetry(table, timezone="Europe/Berlin")
    posterior, forecast = exported(twin, dated, tmp_path)
    rows = {"time": ["2026-01-01 12:30", "2026-01-01 14:00"], "stepped": [1.0, 2.0], "sloped": [0.0, 1.0]}
    future = bt.read_telemetry(pd.DataFrame(rows), timezone="Europe/Berlin")
    check_same(twin, posterior, forecast, future)
    ours = forecast.draw(forecast.read(rows, {}), seed=1, draws=10)
    assert list(ours.times) == list(future.table.index.to_numpy())


def test_columns_that_need_no_mending_are_read_as_all_others_are(tmp_path: pathlib.Path) -> None:
    record = affine_record()
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(record.table.index, "h")
    twin = driven(time_unit="h")
    dated = bt.read_telemetry(record.table.set_index(times).reset_index(names="time"))
    forecast = exported(twin, dated, tmp_path)[1]
    rows = {"stepped": [1.0, np.nan, 2.0], "sloped": [0.0, 1.0, 2.0]}
    quick = ["2026-01-01T12:00Z", "2026-01-01T13:00:00.250Z", "2026-01-01T13:30Z"]
    slow = ["2026-01-01 12:00", "2026-01-01 13:00:00.250", "2026-01-01 13:30"]
    ours, theirs = (forecast.read({"time": own, **rows}, {"sloped": ""}) for own in (quick, slow))
    pd.testing.assert_frame_equal(ours.table, theirs.table, check_freq=False)
    assert (ours.units, ours.t0, ours.dated) == (theirs.units, theirs.t0, theirs.dated)
    with pytest.raises(InvalidTelemetry):
        forecast.read({"time": quick[:1] * 3, **rows}, {})
    with pytest.raises(InvalidTelemetry, match="one UTC offset"):
        forecast.read({"time": [*quick[:2], "2026-01-01T15:30+02:00"], **rows}, {})
    backwards = forecast.read({"time": quick[::-1], **rows}, {})
    assert backwards.table.index.is_monotonic_increasing


# What is refused.


def test_what_a_forecast_cannot_be(affine: tuple[xr.DataTree, ExportedForecast]) -> None:
    forecast = affine[1]
    with pytest.raises(InvalidTelemetry, match="does not begin after"):
        forecast.draw(ahead([11.0, 12.0]), seed=0, draws=10)
    with pytest.raises(InvalidTelemetry, match="at most 24 times"):
        forecast.draw(ahead(12.0 + np.arange(25)), seed=0, draws=10)
    for draws in (0, forecast.most_draws + 1):
        with pytest.raises(InvalidSetting, match="so many draws"):
            forecast.draw(ahead([12.0]), seed=0, draws=draws)
    with pytest.raises(InvalidTelemetry, match="column for the input"):
        forecast.draw(telemetry_of({"time": [12.0], "stepped": [1.0]}), seed=0, draws=10)
    with pytest.raises(InvalidTelemetry, match="gap"):
        forecast.draw(ahead([12.0, 13.0], stepped=[1.0, np.nan]), seed=0, draws=10)


def aged(t, x, p, u):
    return {"level": -p.rate * x.level * (1.0 + 0.1 * t)}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vector_field": aged}, "depend on time itself"),
        ({"observations": {"level": bt.Observation(bt.Autocorrelated(0.5, 2.0))}}, "more of its past"),
        ({"model_error": bt.ProcessNoise({"level": 0.1})}, "more of its past"),
    ],
)
def test_twins_that_cannot_be_exported_are_told_why(changes: dict, reason: str) -> None:
    posterior = bt.calibrate(decay(), decay_telemetry(12), seed=0, method="laplace")
    assert why_not(decay(), posterior) == ""
    assert reason in why_not(decay(**changes), posterior)


@pytest.mark.thorough
def test_a_twin_that_cannot_be_exported_is_an_error_that_says_what_can_be_done() -> None:
    twin = decay(vector_field=aged)
    posterior = bt.calibrate(twin, decay_telemetry(12), seed=0, method="laplace")
    with pytest.raises(InvalidSetting, match=r"(?s)depend on time itself.*`bayestwin predict`"):
        export_forecast(twin, posterior)


def test_another_file_is_no_forecast(affine: tuple[xr.DataTree, ExportedForecast]) -> None:
    with pytest.raises(InvalidArtifact, match="no exported forecast"):
        read_forecast(affine[0])
    broken = affine[1].tree.copy()
    name = next(iter(broken[PROGRAMS].data_vars))
    broken[PROGRAMS] = xr.Dataset({str(name): ("byte", np.zeros(100, np.uint8))})
    with pytest.raises(InvalidArtifact, match="cannot be read"):
        read_forecast(broken)
    assert affine[1].tree.attrs[OUTLINE]["inputs"][0]["hold"] in ("linear", "previous")
