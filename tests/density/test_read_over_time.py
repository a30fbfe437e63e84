"""Means, totals and changes since an earlier row are exact, whatever the solver, and results say what they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from twins import bound_density, decay, driven, telemetry_of

import bayestwin as bt
from bayestwin.density.ahead import density_ahead
from bayestwin.density.density import Density
from bayestwin.errors import InvalidTelemetry, InvalidTwin
from bayestwin.model.describe import bytecode, describe, fingerprint

TIMES = np.array([0.0, 0.5, 1.0, 1.0, 2.0, 4.0])
LEVEL = np.array([np.nan, 4.0, np.nan, 3.0, 2.0, 0.5])
VALUES = {"rate": 0.8, "level_initial": 5.0}
NOISE = bt.Gaussian(0.3)
SOLVERS = [bt.Solver("exact"), bt.Solver("tsit5", rtol=1e-9, atol=1e-11), bt.Solver("rodas5p", rtol=1e-8, atol=1e-10)]


def level_at(t: np.ndarray) -> np.ndarray:
    return 5.0 * np.exp(-0.8 * t)


def integral(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the level, from a to b."""
    return (level_at(a) - level_at(b)) / 0.8


def meter(reads: str, solver: bt.Solver = SOLVERS[1], **settings: object) -> bt.Twin:
    observation = bt.Observation(NOISE, unit="m", **({"reads": reads} | settings))
    return decay(observations={"level": observation}, solver=solver)


def record(**settings: object) -> bt.Telemetry:
    return telemetry_of({"time": TIMES, "level": LEVEL}, duplicates="all", **settings)


def predicted(density: Density, values: dict = VALUES) -> np.ndarray:
    return np.asarray(jax.jit(lambda v: density.predict(v).noise_free["level"])(values))


ROW = np.array([0.0, 0.0, 0.5, 0.5, 1.0, 2.0])  # the time before; replicates have the same


@pytest.mark.parametrize("solver", SOLVERS, ids=["exact", "tsit5", "rodas5p"])
def test_means_are_those_of_the_closed_form(solver: bt.Solver) -> None:
    found = predicted(bound_density(meter("mean", solver), record()))
    np.testing.assert_allclose(found[1:], (integral(ROW, TIMES)[1:] / (TIMES - ROW)[1:]), rtol=1e-7)
    assert found[0] == 5.0  # over no time it is the value


def test_totals_and_changes_are_since_the_last_reading_or_row() -> None:
    last = np.array([0.0, 0.0, 0.5, 0.5, 1.0, 2.0])
    level = LEVEL.copy()
    level[4] = np.nan
    told = telemetry_of({"time": TIMES, "level": level}, duplicates="all")
    since = last.copy()
    since[5] = 1.0  # the reading at 2 is missing
    found = predicted(bound_density(meter("total"), told))
    np.testing.assert_allclose(found, integral(since, TIMES), rtol=1e-7, atol=1e-12)
    found = predicted(bound_density(meter("total", since="row"), told))
    np.testing.assert_allclose(found, integral(last, TIMES), rtol=1e-7, atol=1e-12)
    change = telemetry_of({"time": TIMES, "level": np.where(TIMES < 1.0, np.nan, level)}, duplicates="all")
    with pytest.raises(InvalidTelemetry, match="is a change, and its first row has no time"):
        bound_density(meter("change"), change)
    found = predicted(bound_density(meter("change", since="row"), change))
    np.testing.assert_allclose(found[1:], (level_at(TIMES) - level_at(last))[1:], rtol=1e-7)


def test_the_first_mean_counts_from_t0_and_over_no_time_nothing_is_read() -> None:
    early = telemetry_of({"time": [1.0, 2.0], "level": [3.0, 2.0]}, t0=0.0)
    found = predicted(bound_density(meter("mean"), early))
    np.testing.assert_allclose(found, [integral(0.0, 1.0), integral(1.0, 2.0)], rtol=1e-7)
    with pytest.raises(InvalidTelemetry, match=r"(?s)is a mean.*empty cell.*3 at 1.0.*t0="):
        bound_density(meter("mean"), telemetry_of({"time": [1.0, 2.0], "level": [3.0, 2.0]}))


def test_a_long_record_is_as_exact_at_its_end() -> None:
    """A meter that has counted 2,000 rows of a flow of one: what is small beside the sum is not."""
    times = np.arange(2001.0)
    twin = bt.Twin(
        name="meter",
        vector_field=lambda t, x, p, u: {"flow": 0.0 * x.flow},
        states={"flow": bt.State(1.0)},
        parameters={"size": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={
            "flow": bt.Observation(NOISE, of=lambda t, x, p, u: x.flow + p.size * jnp.cos(8.0 * t), reads="total")
        },
        solver=bt.Solver("tsit5"),
    )
    density = bound_density(twin, telemetry_of({"time": times, "flow": np.where(times > 0, 1.0, np.nan)}))
    found = np.asarray(jax.jit(lambda v: density.predict(v).noise_free["flow"])({"size": 1.0}))
    exact = 1.0 + (np.sin(8.0 * times[1:]) - np.sin(8.0 * times[:-1])) / 8.0
    np.testing.assert_allclose(found[1:], exact, atol=1e-5)


@pytest.mark.slow
def test_fixed_steps_and_their_derivatives_are_right() -> None:
    density = bound_density(meter("mean"), record())
    fixed = dataclasses.replace(density, grid=density.grid.with_substeps(np.full(len(density.grid.edges) - 1, 40)))
    np.testing.assert_allclose(predicted(fixed)[1:], predicted(density)[1:], rtol=1e-7)
    z = density.unconstrain(VALUES)
    np.testing.assert_allclose(jax.grad(fixed)(z), density.local(z).gradient, rtol=1e-5)


def test_what_is_read_of_inputs_counts_as_well() -> None:
    power = bt.Observation(NOISE, of=lambda t, x, p, u: p.gain * u.sloped, reads="total")
    told = {"time": [0.0, 1.0, 3.0], "stepped": [0.0] * 3, "sloped": [1.0, 3.0, 1.0], "power": [np.nan, 4.0, 8.0]}
    density = bound_density(driven(observations={"power": power}), telemetry_of(told))
    values = {"rate": 0.5, "gain": 2.0, "level_initial": 1.0}
    np.testing.assert_allclose(density.predict(values).noise_free["power"], [0.0, 4.0, 8.0], atol=1e-6)


def test_derivatives_may_stand_in_a_list_and_states_be_arrays() -> None:
    told = {"time": [0.0, 1.0, 3.0], "sum": [np.nan, 4.0, 8.0]}
    total = {"sum": bt.Observation(NOISE, of=lambda t, x, p, u: x["cells"].sum() + x.side, reads="total")}
    states = {"side": bt.State(2.0), "cells": bt.State(1.0, size=3)}
    twin = decay(
        vector_field=lambda t, x, p, u: [-0.5 * x.side, -p.rate * x["cells"]], states=states, observations=total
    )
    assert twin.states["sum_integral"].shape == ()
    density = bound_density(twin, telemetry_of(told))
    found = density.predict({"rate": 0.8}).noise_free["sum"]
    ends = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 3.0])
    exact = 3.0 * integral(*ends) / 5.0 + 4.0 * (np.exp(-0.5 * ends[0]) - np.exp(-0.5 * ends[1]))
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_what_is_read_of_an_input_is_not_late_where_the_equations_take_it_late() -> None:
    """The valve opens at 1 and acts at 1.5; the meter counts what it lets through."""
    twin = bt.Twin(
        name="late",
        vector_field=lambda t, x, p, u: {"level": u.valve(t - p.dead) - p.dead * u.valve},
        states={"level": bt.State(0.0)},
        parameters={"dead": bt.Parameter(dist.LogNormal(-1.0, 1.0))},
        inputs={"valve": bt.Input(hold="previous", before=0.0)},
        observations={
            "level": bt.Observation(NOISE),
            "through": bt.Observation(NOISE, of=lambda t, x, p, u: jnp.exp(u.valve), reads="total"),
        },
        solver=bt.Solver("tsit5", rtol=1e-9, atol=1e-11),
    )
    assert twin.delayed == ("valve",)
    told = {"time": [0.0, 1.0, 3.0], "valve": [0.0, 1.0, 1.0], "level": [0.0, 0.0, 0.5], "through": [np.nan, 1.0, 5.4]}
    found = bound_density(twin, telemetry_of(told)).predict({"dead": 0.5}).noise_free
    np.testing.assert_allclose(found["level"], [0.0, 0.0, 0.5], atol=1e-7)
    np.testing.assert_allclose(found["through"], [0.0, 1.0, 2.0 * np.e], rtol=1e-7)


@pytest.mark.slow
def test_a_calibration_finds_the_rate_and_goes_on_from_the_last_row(tmp_path: object) -> None:
    times = np.linspace(0.0, 3.0, 13)
    level = np.append(np.nan, integral(times[:-1], times[1:]) / 0.25)
    noisy = level + 0.05 * np.random.default_rng(0).normal(size=13)
    twin = meter("mean", SOLVERS[0])
    posterior = bt.calibrate(twin, telemetry_of({"time": times, "level": noisy}), seed=0, method="laplace")
    rate = posterior["posterior"]["rate"]
    assert abs(float(rate.mean()) - 0.8) < 4 * float(rate.std())
    bt.save(posterior, tmp_path / "meter.nc")
    posterior = bt.load(tmp_path / "meter.nc")
    forecast = bt.predict(twin, posterior, telemetry_of({"time": [3.5, 4.0]}), seed=0)["predictions"]
    assert forecast["time"].to_numpy().tolist() == [3.5, 4.0]
    draws = posterior["posterior"]["rate"].to_numpy(), posterior["posterior"]["level_initial"].to_numpy()
    ends = np.array([[3.0, 3.5], [3.5, 4.0]])
    exact = [draws[1] / draws[0] * (np.exp(-draws[0] * a) - np.exp(-draws[0] * b)) / (b - a) for a, b in ends]
    wanted = np.stack(exact, axis=-1)
    found = forecast["level_noise_free"].transpose("chain", "draw", "time")
    np.testing.assert_allclose(found, wanted[:, found["draw"].to_numpy()], rtol=1e-6)
    assert posterior["posterior_predictive"]["level_integral_state"].attrs["units"] == "(m)*(h)"


@pytest.mark.parametrize(("reads", "begun"), [("total", [3.0, 3.0, 4.0, 4.0]), ("mean", [3.0, 3.5, 4.0, 4.5])])
def test_a_forecast_is_read_over_the_same_time_as_what_will_be(reads: str, begun: list[float]) -> None:
    """In the future every other row has a reading: a total counts from the last one, and a mean from the row before."""
    past = xr.Dataset({"level": ("time", [np.nan, 3.0, 2.0, 1.0])}, {"time": np.arange(4.0)})
    posterior = xr.DataTree.from_dict({"observed_data": past, "constant_data": xr.Dataset()})
    posterior.attrs = {"telemetry_time_unit": "h", "t0": "0.0"}
    ahead = telemetry_of({"time": [3.5, 4.0, 4.5, 5.0], "level": [np.nan, 0.1, np.nan, 0.1]})
    bound = density_ahead(meter(reads), posterior, ahead)[2].bound
    assert bound.times[bound.since["level"][-4:]].tolist() == begun


@pytest.mark.thorough
def test_experiments_and_numpyro_have_the_same_density() -> None:
    twin = meter("mean")
    both = {"first": record(), "second": telemetry_of({"time": [0.0, 1.0], "level": [np.nan, 3.5]})}
    own = VALUES | {"level_initial": np.array([5.0, 4.0])}
    joint, _ = log_density(bt.numpyro_model(twin, both), (), {}, own)
    each = 0.0
    for one, start in zip(both.values(), own["level_initial"], strict=True):
        density = bound_density(twin, one)
        values = VALUES | {"level_initial": start}
        each += float(density.log_likelihood(values, density.predict(values))["level"].sum())
    priors = dist.LogNormal(0.0, 0.5).log_prob(0.8) + dist.Normal(5.0, 1.0).log_prob(own["level_initial"]).sum()
    assert float(joint) == pytest.approx(each + float(priors), rel=1e-6)


def test_a_twin_made_from_another_has_the_integrals_that_it_needs() -> None:
    twin = meter("mean")
    again = dataclasses.replace(twin, doc="the same")
    assert list(again.states) == ["level", "level_integral"]
    assert fingerprint(again) == fingerprint(twin)
    plain = dataclasses.replace(twin, observations={"level": bt.Observation(NOISE, unit="m")})
    assert list(plain.states) == ["level"]
    assert fingerprint(plain) == fingerprint(decay(observations=plain.observations, solver=twin.solver))
    kinds = [meter(reads, since=since) for reads in ("mean", "total", "change") for since in ("row", "reading")]
    assert len({fingerprint(one) for one in [*kinds, plain]}) == 7
    written = decay(observations={"level": bt.Observation(NOISE, of=lambda t, x, p, u: x.level, reads="mean")})
    assert "0x" not in bytecode(written.own_field)  # no address, which changes from one process to the next
    told = describe(meter("total"))
    assert told["observations"][0]["reads"] == "total since the last reading"
    assert "-p.rate * x.level" in told["equations"]
    warm = decay(
        states={"level": bt.State(5.0, unit="degC")},
        observations={"level": bt.Observation(NOISE, unit="degC", reads="mean")},
    )
    assert warm.states["level_integral"].unit == ""


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidTwin, match="`reads` of observation `level`"):
        meter("median")
    with pytest.raises(InvalidTwin, match="no value at a time"):
        dataclasses.replace(meter("mean"), model_error=bt.ProcessNoise({"level": 0.1}))
    with pytest.raises(InvalidTwin, match=r"(?s)asks for `levl`.*Did you mean"):
        decay(observations={"level": bt.Observation(NOISE, of=lambda t, x, p, u: x.levl, reads="mean")})
    with pytest.raises(InvalidTwin, match=r"(?s)is a change.*zero.*`K`, or `delta_degree_Celsius`"):
        decay(observations={"level": bt.Observation(NOISE, unit="degC", reads="change")})
    warmer = decay(observations={"level": bt.Observation(NOISE, unit="K", reads="change")})
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level` is a change.*zero.*`degC`"):
        bound_density(warmer, telemetry_of({"time": [0.0, 1.0], "level": [np.nan, 0.5]}, units={"level": "degC"}))
