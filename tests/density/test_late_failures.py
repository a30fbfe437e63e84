"""A path that cannot be solved any more is there until then, and what it leaves open is counted and told."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay_telemetry, known_decay, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin.assess.recorded import paths_gate
from bayestwin.density.discrepancy import Discrepancies
from bayestwin.report import render_report

AHEAD = np.arange(1.25, 6.01, 0.25)


def tipping() -> bt.Twin:
    """It rests at -1, and runs away within finite time once noise has pushed it beyond 1."""
    return bt.Twin(
        name="tipping",
        vector_field=lambda t, x, p, u: {"level": x.level**2 - 1.0},
        states={"level": bt.State(0.0)},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.3)))},
        model_error=bt.ProcessNoise({"level": 0.9}),
    )


@functools.cache
def forecast() -> xr.DataTree:
    """Read it, and leave it as it is."""
    past = telemetry_of({"time": np.arange(0.0, 1.01, 0.25), "level": [0.0, 0.05, 0.3, 0.2, 0.4]})
    settings = {"method": "laplace", "num_samples": 100, "num_chains": 2, "predictive_draws": 20}
    posterior = bt.calibrate(tipping(), past, seed=0, **settings)
    return bt.predict(tipping(), posterior, telemetry_of({"time": AHEAD}), seed=1, draws=200)


@pytest.mark.thorough
def test_paths_that_run_away_are_there_until_they_do() -> None:
    level = forecast()["predictions"]["level_state"].stack(path=("chain", "draw")).transpose("path", "time").values
    gone = np.isnan(level)
    assert 0.1 < gone[:, -1].mean() < 0.9
    assert not gone[:, 0].any()
    assert (np.diff(gone.astype(int), axis=1) >= 0).all()  # what has failed is not there again
    last = (~gone).sum(axis=1)[gone[:, -1]] - 1
    # from where they end a path without noise would have failed within a step: artanh(1 / level) is left
    ends = level[gone[:, -1], last]
    assert (ends > 1.0).mean() > 0.9
    np.testing.assert_array_equal(np.isnan(forecast()["predictions"]["level"].values.reshape(gone.shape)), gone)


def test_they_are_counted_and_the_rest_has_intervals(tmp_path: pathlib.Path) -> None:
    tree = bt.load(bt.save(forecast(), tmp_path / "forecast.nc"))
    gone = np.isnan(tree["predictions"]["level_state"].values).sum(axis=(0, 1))
    np.testing.assert_array_equal(tree["predictions"]["num_failed"], gone)
    told = tree.attrs["failed_paths"]
    assert (told["num"], told["of"], told["share"]) == (gone[-1], 200, gone[-1] / 200)
    assert told["since"] == f"{AHEAD[gone > 0][0]:g}"
    found = bt.intervals(tree)
    np.testing.assert_allclose(found["failed"].squeeze("observation"), gone / 200)
    assert np.isfinite(found["lower"]).all()
    gate = paths_gate(tree)
    assert (gate.value, gate.severity, gate.passed) == (gone[-1] / 200, "fail", False)
    assert f"from {AHEAD[gone > 10][0]:g} on, where more than 5 % of the paths are missing" in gate.sentence
    assert paths_gate(tree, limit=0.95).severity == "warn"
    held_out = telemetry_of({"time": AHEAD, "level": np.full(len(AHEAD), -0.9)})
    covered = bt.coverage(tree, held_out)
    assert (covered["num"] == len(AHEAD)).all()
    assert covered["failed"].item() == pytest.approx((gone / 200).mean())


def later(lost: slice) -> xr.DataTree:
    """A forecast of the decay that is sound but for some draws, which end after its first time."""
    found = bt.predict(
        known_decay(), known_decay_posterior(), telemetry_of({"time": [4.5, 5.0, 6.0]}), seed=0, draws=80
    )
    predictions = found["predictions"].to_dataset().copy(deep=True)
    for values in predictions.data_vars.values():
        values[0, lost, 1:] = np.nan
    found["predictions"] = xr.DataTree(predictions)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize(("lost", "severity"), [(slice(0, 1), "warn"), (slice(0, 20), "fail")])
def test_the_report_says_so(lost: slice, severity: str) -> None:
    tree = later(lost)
    (gate,) = [g for g in bt.diagnose(known_decay_posterior(), predictions=tree) if g.name == "failed_paths"]
    assert gate.severity == severity
    held_out = telemetry_of({"time": [4.5, 5.0, 6.0], "level": [0.1, 0.1, 0.1]})
    page = render_report(known_decay_posterior(), tree, validation=held_out)
    assert "predicted paths" in page
    assert "too narrow" not in page
    everything = later(slice(None))
    for values in everything["predictions"].data_vars.values():
        values[:] = np.nan
    assert "no path could be solved to where it was observed" in render_report(
        known_decay_posterior(), everything, validation=held_out
    )


def test_without_a_failure_nothing_is_said() -> None:
    tree = bt.predict(known_decay(), known_decay_posterior(), telemetry_of({"time": [4.5, 5.0]}), seed=0, draws=80)
    assert "num_failed" not in tree["predictions"]
    assert "failed_paths" not in tree.attrs
    assert paths_gate(tree) is None
    assert "failed" not in bt.intervals(tree)
    assert decay_telemetry().sha256 == tree.attrs["posterior_telemetry_sha256"]


def test_a_discrepancy_is_known_as_long_as_the_path_is_unless_an_observation_is_beyond() -> None:
    reached = jnp.array([True, True, False])
    for observed, known in (([1.0, np.nan, np.nan], [True, True, False]), ([1.0, np.nan, 2.0], [False] * 3)):
        assert Discrepancies(known_decay(), {"level": np.array(observed)}, {}).known(reached).tolist() == known
    assert Discrepancies(known_decay(), {}, {}).known(reached).tolist() == [True, True, False]


def test_experiments_are_told_apart_by_the_times_that_they_have() -> None:
    drawn = np.random.default_rng(3).normal(size=(1, 40, 2, 3))
    drawn[..., 1, 2] = np.nan  # the second experiment ends before
    drawn[:, :5, 0, 2] = np.nan  # of the first one five paths fail
    dims = ("chain", "draw", "experiment", "time")
    names = ("level", "level_noise_free", "level_state")
    coords = {"experiment": ["a", "b"], "time": [1.0, 2.0, 3.0]}
    counts = {"num_failed": (("experiment", "time"), [[0, 0, 5], [0, 0, 0]])}
    tree = xr.DataTree.from_dict({"predictions": xr.Dataset({name: (dims, drawn) for name in names} | counts, coords)})
    assert paths_gate(tree).value == 5 / 40
    found = bt.intervals(tree, 0.5)
    assert found["failed"].sel(experiment="a").values.tolist() == [[0.0, 0.0, 5 / 40]]
    assert found["failed"].sel(experiment="b").values[0, :2].tolist() == [0.0, 0.0]
    assert np.isnan(found["median"].sel(experiment="b", time=3.0)).all()
