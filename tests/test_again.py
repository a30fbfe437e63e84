"""A second record costs its draws: nothing is compiled for it, and its numbers do not depend on what was before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from jax import monitoring
from twins import decay, decay_telemetry, driven, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind, size_for
from bayestwin.density.density import Density, build_density
from bayestwin.density.survey import survey
from bayestwin.dynamics.choice import with_method

QUICK = {"seed": 0, "num_warmup": 40, "num_samples": 30, "num_chains": 2}


@contextmanager
def compiling() -> Iterator[list[str]]:
    """The programs that are compiled meanwhile, or read from the user's cache."""
    found: list[str] = []

    def heard(event: str, _seconds: float, **words: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(str(words.get("fun_name")))

    monitoring.register_event_duration_secs_listener(heard)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(heard)


def other(num: int) -> bt.Telemetry:
    """A record like that of `decay_telemetry`, of other times, as irregular as those, and values."""
    times = np.linspace(0.3, 4.4, num) ** 1.1
    return telemetry_of({"time": times, "level": 5.5 * np.exp(-0.6 * times) + 0.1 * np.cos(9.0 * times)})


@pytest.fixture(scope="module")
def first() -> xr.DataTree:
    return bt.calibrate(decay(), decay_telemetry(12), **QUICK)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("num", [10, 12, 16])
def test_a_record_of_about_the_same_length_compiles_nothing(num: int) -> None:
    assert size_for(num) == size_for(12)
    with compiling() as compiled:
        found = bt.calibrate(decay(), other(num), **QUICK)
    assert compiled == []
    assert found["posterior_predictive"].sizes["time"] == found["observed_data"].sizes["time"] == num
    assert float(found["posterior"]["rate"].mean()) == pytest.approx(0.6, abs=0.1)


@pytest.mark.usefixtures("first")
def test_other_numbers_in_the_priors_compile_nothing() -> None:
    with compiling() as compiled:
        found = bt.calibrate(decay(parameters={"rate": bt.Parameter(dist.LogNormal(-3.0, 0.05))}), other(12), **QUICK)
    assert compiled == []
    assert float(found["posterior"]["rate"].mean()) < 0.2  # the prior holds it far from what the record says, 0.6
    assert np.log(found["prior"]["rate"]).mean() == pytest.approx(-3.0, abs=0.05)


@pytest.mark.usefixtures("first")
def test_a_prediction_after_the_first_compiles_nothing() -> None:
    posterior = bt.calibrate(decay(), decay_telemetry(12), **QUICK)
    futures = [telemetry_of({"time": 5.0 + np.linspace(0.0, 2.0, num) ** 1.1}) for num in (10, 14)]
    bt.predict(decay(), posterior, futures[0], seed=0)
    with compiling() as compiled:
        found = bt.predict(decay(), posterior, futures[1], seed=0)
    assert compiled == []
    assert found["predictions"].sizes["time"] == len(futures[1].table)


@pytest.mark.slow
def test_other_standard_deviations_limits_and_spans_compile_nothing() -> None:
    """Told row by row, each of them: they are numbers of the record, as its values are."""
    noise = bt.Censored(bt.Gaussian(bt.Column("sd")), lower=bt.Column("lod"))
    mean = bt.Observation(bt.Gaussian(5.0), of=lambda t, x, p, u: x.level, unit="m", reads="mean")
    twin = decay(observations={"level": bt.Observation(noise, unit="m"), "mean": mean})
    records = []
    for record, sd in ((decay_telemetry(12), 0.1), (other(14), 0.4)):
        table = record.table.assign(sd=sd * (1.0 + record.table.index), lod=0.01, mean=record.table["level"])
        table.iloc[0, table.columns.get_loc("mean")] = np.nan
        table.iloc[[2, 5], table.columns.get_loc("lod")] = np.nan
        records.append(record.with_table(table))
    first = bt.calibrate(twin, records[0], method="laplace", seed=0, num_samples=30, num_chains=2)
    with compiling() as compiled:
        found = bt.calibrate(twin, records[1], method="laplace", seed=0, num_samples=30, num_chains=2)
    assert compiled == []
    assert float(found["posterior"]["rate"].std()) > 2.0 * float(first["posterior"]["rate"].std())


@pytest.mark.thorough
def test_another_twin_is_compiled_for_itself(first: xr.DataTree) -> None:
    def slower(t, x, p, u):
        return {"level": -0.5 * p.rate * x.level}

    with compiling() as compiled:
        found = bt.calibrate(decay(vector_field=slower), decay_telemetry(12), **QUICK)
    assert compiled
    ratio = found["posterior"]["rate"].mean() / first["posterior"]["rate"].mean()
    assert float(ratio) == pytest.approx(2.0, rel=0.1)


def test_numbers_do_not_depend_on_what_was_compiled_before(first: xr.DataTree) -> None:
    bt.calibrate(decay(), other(16), **QUICK)
    again = bt.calibrate(decay(), decay_telemetry(12), **QUICK)
    for group in ("posterior", "posterior_predictive", "prior", "log_likelihood"):
        xr.testing.assert_identical(again[group].to_dataset(), first[group].to_dataset())


def bound(twin: bt.Twin, method: str, num: int) -> Density:
    times = np.linspace(0.0, 5.0, num)
    columns = {"time": times, "level": 5.0 * np.exp(-times), "stepped": np.floor(times), "sloped": np.sin(times)}
    telemetry = telemetry_of({name: columns[name] for name in ("time", "level", *twin.inputs)})
    return build_density(with_method(twin, method), bind(twin, telemetry))


@pytest.mark.parametrize(
    ("twin", "method"),
    [
        (decay(), "exact"),
        (driven(), "tsit5"),
        (driven(), "rodas5p"),
        (decay(model_error=bt.ProcessNoise({"level": 0.1})), "tsit5"),
        pytest.param(decay(), "tsit5", marks=pytest.mark.slow),
        pytest.param(decay(), "rodas5p", marks=pytest.mark.slow),
        pytest.param(driven(), "exact", marks=pytest.mark.slow),
        pytest.param(decay(model_error=bt.ProcessNoise({"level": 0.1})), "rodas5p", marks=pytest.mark.slow),
        pytest.param(decay(model_error=bt.ProcessNoise({"level": 0.1})), "exact", marks=pytest.mark.slow),
    ],
)
def test_room_for_more_changes_a_density_by_rounding_at_most(twin: bt.Twin, method: str) -> None:
    whole = bound(twin, method, 21)
    assert whole.filled.bound.times.shape == (24,)
    _, z = whole.draw_prior(jax.random.split(jax.random.key(0), 16))
    exact, filled = survey(whole, z), survey(whole.filled, z)
    # sums of 21 terms and of 24, of which three are zero, may be taken in another order
    np.testing.assert_allclose(filled.log_density, exact.log_density, rtol=1e-13)
    np.testing.assert_array_equal(filled.num_steps.sum(axis=-1), exact.num_steps.sum(axis=-1))


ROOMY = {
    "autocorrelated": decay(observations={"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.5), 2.0))}),
    "autocorrelated with a nugget": decay(
        observations={"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.5), dist.LogNormal(0.0, 1.0), 0.1))}
    ),
    "process noise": decay(model_error=bt.ProcessNoise({"level": dist.HalfNormal(0.1)})),
    "discrepancy": decay(
        model_error=bt.Discrepancy(scale={"level": dist.HalfNormal(0.5)}, length={"level": dist.LogNormal(0.5, 0.2)})
    ),
    "proportional": decay(observations={"level": bt.Observation(bt.Proportional(0.1, dist.LogNormal(-2.0, 0.5)))}),
    "censored": decay(
        observations={"level": bt.Observation(bt.Censored(bt.Gaussian(dist.HalfNormal(1.0)), upper=5.0))}
    ),
    "driven": driven(),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ROOMY)
def test_room_for_more_changes_no_derivative(name: str) -> None:
    """Nothing is observed in the room, and a derivative of nothing is zero, not NaN."""
    whole = bound(ROOMY[name], "tsit5", 21)
    z = whole.draw_prior(jax.random.split(jax.random.key(0), 8))[1]
    exact, filled = (jax.vmap(jax.value_and_grad(density))(z) for density in (whole, whole.filled))
    assert np.isfinite(exact[1]).all()
    np.testing.assert_allclose(filled[0], exact[0], rtol=1e-12)
    scale = np.abs(exact[1]).max(axis=1, keepdims=True)
    np.testing.assert_allclose(filled[1] / scale, exact[1] / scale, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("error", [pytest.param(bt.ProcessNoise({"level": 0.1}), marks=pytest.mark.slow), None])
def test_room_for_more_changes_no_draw(error: bt.ProcessNoise | None) -> None:
    twin = decay(model_error=error)
    density = bound(twin, "tsit5", 21)
    values = density.draw_prior(jax.random.split(jax.random.key(0), 1))[0]
    one = {name: value[0] for name, value in values.items()}
    drawn = [each.draw(jax.random.key(1), one, each.predict(one)) for each in (density, density.filled)]
    for name, series in drawn[0].items():
        np.testing.assert_allclose(drawn[1][name][:21], series, rtol=1e-12, atol=1e-12, err_msg=name)


def test_sizes_leave_little_room_unused() -> None:
    sizes = [size_for(num) for num in range(1, 20_000)]
    assert all(size >= num for num, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert max(size / num for num, size in enumerate(sizes, 1) if num > 120) <= 1.13
    assert len(set(sizes)) < 90
    assert size_for(500) == size_for(520)
