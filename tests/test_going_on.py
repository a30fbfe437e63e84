"""A forecast goes on from where draws have brought the states, and is that of a solve from the start."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay, decay_telemetry, driven, telemetry_of

import bayestwin as bt
from bayestwin.density.ahead import FINAL, can_go_on, resumed
from bayestwin.project.model import load_model, load_telemetry

MODELS = pathlib.Path(__file__).parents[1] / "models"


def calibrated(twin: bt.Twin, telemetry: bt.Telemetry) -> xr.DataTree:
    return bt.calibrate(twin, telemetry, seed=0, method="laplace")


def check_same(
    twin: bt.Twin, posterior: xr.DataTree, future: bt.Telemetry, monkeypatch: pytest.MonkeyPatch, most: float
) -> None:
    """That all of a prediction is that from the start of the calibration, to so many of its standard deviations."""
    assert can_go_on(twin, posterior, future, None)
    ours = bt.predict(twin, posterior, future, seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["bayestwin.predict"], "can_go_on", lambda *_: False)
        theirs = bt.predict(twin, posterior, future, seed=1)
    assert set(ours["predictions"].data_vars) == set(theirs["predictions"].data_vars)
    for name, own in theirs["predictions"].data_vars.items():
        scale = max(float(np.nanstd(own)), 1e-3 * float(np.nanmax(np.abs(own))))
        np.testing.assert_allclose(ours["predictions"][name], own, rtol=0.0, atol=most * scale, err_msg=str(name))


@pytest.mark.thorough
def test_it_is_that_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With doses, and quantities that are looked for along the path."""
    model = load_model(MODELS / "dosing", "job.toml")
    split = load_telemetry(model)
    assert isinstance(split.held_out, bt.Telemetry)
    check_same(model.twin, calibrated(model.twin, split.calibration), split.held_out, monkeypatch, 1e-6)  # type: ignore[arg-type]


def test_inputs_go_on_between_the_last_row_and_the_first_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an affine twin; held, and along the straight line that begins before the end."""
    times, rng = np.arange(12.0), np.random.default_rng(2)
    stepped, sloped, level = rng.normal(size=(3, 12))
    record = telemetry_of({"time": times, "stepped": stepped, "sloped": sloped, "level": level})
    future = telemetry_of({"time": [11.5, 13.0], "stepped": [1.0, 2.0], "sloped": [3.0, -1.0]})
    check_same(driven(), calibrated(driven(), record), future, monkeypatch, 1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("exact", [True, False])
def test_states_may_be_arrays(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an affine twin, and of one that needs a solver; an update with later rows is that of the whole record."""

    def field(t, x, p, u):
        lost = x.rod if exact else x.rod * jnp.abs(x.rod)
        return {"rod": jnp.diff(jnp.pad(x.rod, 1, mode="edge"), 2) - p.loss * lost, "sum": x.rod.sum() - x.sum}

    twin = bt.Twin(
        name="rod",
        vector_field=field,
        states={"rod": bt.State(np.arange(1.0, 5.0), size=4), "sum": bt.State(dist.Normal(1.0, 0.1))},
        parameters={"loss": bt.Parameter(dist.LogNormal(-2.0, 0.3))},
        observations={"end": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.rod[3] + x.sum)},
    )
    times = np.arange(10.0)
    seen = bt.simulate(twin, {"loss": 0.1, "sum_initial": 1.0}, telemetry_of({"time": times}), seed=0)["end"].values
    rows = {"time": times, "end": seen}
    first, later = ({name: column[chosen] for name, column in rows.items()} for chosen in (np.s_[:7], np.s_[7:]))
    posterior = calibrated(twin, telemetry_of(first))
    assert (posterior.attrs["solver_choice"]["method"] == "exact") == exact
    check_same(twin, posterior, telemetry_of({"time": times[7:]}), monkeypatch, 1e-8 if exact else 1e-5)
    if not exact:  # which draws an update chooses would hang on the solver's last digits
        return
    chains = bt.calibrate(twin, telemetry_of(first), seed=0, num_samples=100)
    updated = bt.update(twin, chains, telemetry_of(later), seed=0, max_k=np.inf)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["bayestwin.update"], "can_go_on", lambda *_: False)
        whole = bt.update(twin, chains, telemetry_of(later), seed=0, max_k=np.inf)
    assert updated["final_state"]["rod"].shape[-1] == 4
    for group in ("posterior", "final_state"):
        xr.testing.assert_allclose(updated[group].to_dataset(), whole[group].to_dataset(), rtol=1e-6, atol=1e-6)


@pytest.mark.thorough
def test_equations_know_what_time_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def field(t, x, p, u):
        return {"level": -p.rate * x.level * (1.0 + 0.5 * np.sin(1.0) * t)}

    twin = bt.Twin(
        name="ageing",
        vector_field=field,
        states={"level": bt.State(dist.Normal(5.0, 1.0))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 0.5))},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    times = np.linspace(0.0, 3.0, 12)
    record = telemetry_of({"time": times, "level": 5.0 * np.exp(-0.3 * times)})
    check_same(twin, calibrated(twin, record), telemetry_of({"time": [3.5, 4.0]}), monkeypatch, 1e-4)


@pytest.mark.thorough
def test_what_has_happened_does_not_happen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At times that are inferred, one before the end of the record and one after it, and at one that is scheduled."""
    filled = bt.Event(lambda t, x, p, u: {"level": x.level + 2.0}, at=lambda p: (p.when, p.when + 4.0))
    again = bt.Event(lambda t, x, p, u: {"level": x.level + 1.0}, at=(1.0, 4.0, 4.8))
    twin = decay(
        events={"filled": filled, "again": again},
        parameters={
            "rate": bt.Parameter(dist.LogNormal(-0.2, 0.1), unit="1/h"),
            "when": bt.Parameter(dist.LogNormal(0.0, 0.1), unit="h"),
        },
    )
    times = np.linspace(0.0, 4.0, 41)
    level = 5.0 * np.exp(-0.8 * times)
    for at, more in ((1.0, 2.0), (1.0, 1.0)):
        level = level + more * np.exp(-0.8 * (times - at)) * (times > at)
    future = telemetry_of({"time": [4.5, 5.0, 6.0]})
    check_same(twin, calibrated(twin, telemetry_of({"time": times, "level": level})), future, monkeypatch, 1e-4)


def test_it_costs_what_is_new() -> None:
    stops = []
    for num in (10, 40):
        level = np.random.default_rng(0).normal(size=num)
        table = {"time": np.arange(float(num)), "stepped": np.ones(num), "sloped": np.ones(num), "level": level}
        posterior = calibrated(driven(), telemetry_of(table))
        future = telemetry_of({"time": num + np.arange(2.0), "stepped": [1.0, 2.0], "sloped": [3.0, -1.0]})
        assert can_go_on(driven(), posterior, future, None)
        stops.append(len(resumed(driven(), posterior, future)[2].grid.edges))
    assert stops == [3, 3]


def test_what_cannot_go_on_is_solved_from_the_start() -> None:
    record = decay_telemetry(12)
    posterior = calibrated(decay(), record)
    times = posterior["observed_data"]["time"].to_numpy()
    after = telemetry_of({"time": times[-1] + np.array([1.0])})
    assert can_go_on(decay(), posterior, after, None)
    among = telemetry_of({"time": [times[-1], times[-1] + 1.0]})
    assert not can_go_on(decay(), posterior, among, None)
    old = posterior.filter(lambda node: node.name != FINAL)
    assert not can_go_on(decay(), old, after, None)
    assert bt.predict(decay(), old, after, seed=1)["predictions"].sizes["time"] == 1
    few = posterior.copy()
    few[FINAL] = few[FINAL].to_dataset().isel(draw=slice(0, 10))
    assert can_go_on(decay(), few, after, 40)
    assert not can_go_on(decay(), few, after, 41)
    assert bt.predict(decay(), few, after, seed=1, draws=40)["predictions"].sizes["draw"] == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"model_error": bt.Discrepancy({"level": dist.HalfNormal(0.5)}, {"level": dist.LogNormal(0.5, 0.2)})},
        {"model_error": bt.ProcessNoise({"level": dist.HalfNormal(1.0)})},
        {"observations": {"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.5), 2.0))}},
        {"observations": {"level": bt.Observation(bt.Gaussian(0.1), reads="total")}},
        {"events": {"empty": bt.Event(lambda t, x, p, u: {"level": 5.0}, when=lambda t, x, p, u: x.level - 1.0)}},
    ],
)
def test_twins_that_remember_more_than_their_states(changes: dict) -> None:
    assert decay().forgetful
    assert not decay(**changes).forgetful


def test_delayed_inputs_are_remembered() -> None:
    def late(t, x, p, u):
        return {"level": -p.rate * x.level + u.stepped(t - 1.0) + u.sloped * p.gain}

    assert driven().forgetful
    assert not driven(vector_field=late).forgetful


@pytest.mark.thorough
def test_a_posterior_that_was_told_more_inputs_goes_on_from_where_its_states_are() -> None:
    """As a backtest tells one of a later origin: the last row of what is known is not that of the states."""
    rng, times = np.random.default_rng(2), np.arange(12.0)
    table = {name: rng.normal(size=12) for name in ("stepped", "sloped", "level")}
    posterior = calibrated(driven(), telemetry_of({"time": times[:8], **{n: own[:8] for n, own in table.items()}}))
    inputs = {name: table[name] for name in ("stepped", "sloped")}
    whole = bt.predict(
        driven(), posterior, telemetry_of({"time": times[8:], **{n: own[8:] for n, own in inputs.items()}}), seed=1
    )
    told = posterior.copy()
    told["constant_data"] = xr.Dataset({n: ("time", own) for n, own in inputs.items()}, {"time": times})
    told["observed_data"] = posterior["observed_data"].to_dataset().reindex(time=times)
    future = telemetry_of({"time": times[10:], **{n: own[10:] for n, own in inputs.items()}})
    ahead = bt.predict(driven(), told, future, seed=1)
    np.testing.assert_allclose(
        ahead["predictions"]["level_noise_free"],
        whole["predictions"]["level_noise_free"].sel(time=times[10:]),
        rtol=1e-8,
        atol=1e-10,
    )
