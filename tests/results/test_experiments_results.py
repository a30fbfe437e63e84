"""Results of several experiments have a dimension `experiment`, and every verb and ArviZ go on from them."""

import functools
import warnings
from pathlib import Path

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidTelemetry

RATES = {"a": 0.6, "b": 1.2, "c": 0.3}
LENGTHS = {"a": 14, "b": 20, "c": 9}


def leak() -> bt.Twin:
    """A level that an inflow fills: the rate of the leak is each experiment's own, the gain is shared."""
    return bt.Twin(
        name="leak",
        vector_field=lambda t, x, p, u: {"level": p.gain * u.inflow - p.rate * x.level},
        states={"level": bt.State(dist.Normal(3.0, 1.0), unit="m")},
        parameters={
            "rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", shared=False),
            "gain": bt.Parameter(dist.LogNormal(0.0, 0.5)),
        },
        inputs={"inflow": bt.Input(hold="previous", unit="m/h")},
        observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.3)), unit="m")},
        time_unit="h",
        solver=bt.Solver("tsit5", rtol=1e-4, atol=1e-6),
    )


@functools.cache
def everything() -> dict[str, bt.Telemetry]:
    """Simulated telemetry of three experiments: of `a` with numbers from 10 on, of `b` with dates, of `c` plain."""
    found = {}
    for number, (name, rate) in enumerate(RATES.items()):
        num = LENGTHS[name]
        times = 0.25 * np.arange(num) + 0.01 * number * (np.arange(num) > 0)
        inflow = 1.0 + (np.arange(num) % (3 + number) == 0)
        truth = {"rate": rate, "gain": 1.5, "level_initial": 2.0 + number, "level_scale": 0.1}
        plain = telemetry_of({"time": times, "inflow": inflow})
        level = bt.simulate(leak(), truth, plain, seed=number)["level"].to_numpy().copy()
        level[3] = np.nan
        labels = {"a": 10.0 + times, "b": pd.Timestamp("2026-03-01") + pd.to_timedelta(times, "h"), "c": times}[name]
        found[name] = telemetry_of({"time": labels, "inflow": inflow, "level": level})
    return found


def split() -> tuple[dict[str, bt.Telemetry], dict[str, bt.Telemetry]]:
    """All but the last four rows of each experiment, and these."""
    labels = {name: one.table.index[-4] for name, one in everything().items()}
    past = {name: one.between(end=labels[name]) for name, one in everything().items()}
    return past, {name: one.between(start=labels[name]) for name, one in everything().items()}


@functools.cache
def posterior() -> xr.DataTree:
    return bt.calibrate(leak(), split()[0], seed=0, num_warmup=100, num_samples=250, num_chains=2)


@functools.cache
def forecast() -> xr.DataTree:
    return bt.predict(leak(), posterior(), split()[1], seed=1, draws=200)


@pytest.mark.thorough
def test_groups_have_the_dimensions_that_they_should() -> None:
    tree, past = posterior(), split()[0]
    sampled = tree["posterior"].to_dataset()
    assert list(sampled["experiment"].values) == list(past)
    own = ("chain", "draw", "experiment")
    dims = {"rate": own, "level_initial": own, "gain": own[:2], "level_scale": own[:2]}
    assert {name: sampled[name].dims for name in sampled} == dims
    assert {name: tree["prior"][name].dims for name in dims} == dims
    for group in ("posterior_predictive", "prior_predictive"):
        assert tree[group]["level"].dims == (*own, "time")
    for group in ("observed_data", "constant_data"):
        assert tree[group].to_dataset().sizes.keys() == {"experiment", "time"}
    for name, one in past.items():
        observed = tree["observed_data"]["level"].sel(experiment=name).dropna("time")
        expected = one.table["level"].dropna()
        np.testing.assert_array_equal(observed, expected)
        elapsed = one.table.index - one.table.index[0]
        hours = elapsed / pd.Timedelta("1h") if one.dated else elapsed
        np.testing.assert_allclose(observed["time"], hours[one.table["level"].notna()], rtol=1e-12)
        states = tree["posterior_predictive"]["level_state"].sel(experiment=name).dropna("time", how="all")
        assert states.sizes["time"] == len(one.table)
        assert np.isfinite(states).all()


def test_the_truth_is_recovered() -> None:
    sampled = posterior()["posterior"].to_dataset()
    truth = {"rate": list(RATES.values()), "gain": 1.5, "level_initial": [2.0, 3.0, 4.0], "level_scale": 0.1}
    for name, expected in truth.items():
        draws = sampled[name].stack(sample=("chain", "draw"))
        # eight quantities: one beyond four standard deviations happens once in 2,000 times
        distance = np.abs(draws.mean("sample") - np.asarray(expected)) / draws.std("sample")
        assert (distance < 4.0).all(), (name, distance.values)
        assert (draws.std("sample") < 0.3).all()


def test_arviz_goes_on_from_there() -> None:
    summary = az.summary(posterior())
    assert {"rate[a]", "level_initial[c]", "gain"} <= set(summary.index)
    likelihood = posterior()["log_likelihood"].to_dataset()
    made = [(name, one.table["level"].notna().sum()) for name, one in split()[0].items()]
    assert likelihood["level"].dims == ("chain", "draw", "experiment_time")
    assert list(likelihood["experiment"].values) == [name for name, num in made for _ in range(num)]
    assert np.isfinite(likelihood["level"]).all()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")  # so few draws, one for 30 observations
        assert np.isfinite(az.loo(posterior(), var_name="level").elpd)


def test_diagnose_names_the_experiment() -> None:
    broken = posterior().copy(deep=True)
    broken["posterior"]["rate"][dict(chain=0, draw=3, experiment=1)] = np.nan
    judged = {gate.name: gate for gate in bt.diagnose(broken)}
    assert not judged["derived"].passed
    assert "`rate[b]`" in judged["finite"].sentence
    gates = {gate.name: gate for gate in bt.diagnose(posterior())}
    assert gates["finite"].sentence == "All 500 draws of 8 parameters are finite numbers."
    assert gates["rhat"].value < 1.05


@pytest.mark.thorough
def test_a_file_gives_back_the_same(tmp_path: Path) -> None:
    for tree in (posterior(), forecast()):
        back = bt.load(bt.save(tree, tmp_path / "found.nc"))
        xr.testing.assert_identical(back, tree)
    again = bt.predict(leak(), bt.load(bt.save(posterior(), tmp_path / "found.nc")), split()[1], seed=1, draws=200)
    xr.testing.assert_equal(again["predictions"].to_dataset(), forecast()["predictions"].to_dataset())


@pytest.mark.thorough
def test_a_forecast_goes_on_where_each_experiment_ended() -> None:
    some = {name: split()[1][name] for name in ("c", "b")}
    found = bt.predict(leak(), posterior(), some, seed=1, draws=100)["predictions"].to_dataset()
    assert list(found["experiment"].values) == ["c", "b"]
    draws = posterior()["posterior"].to_dataset().sel(draw=found["draw"])
    for name in some:
        whole = everything()[name]
        at = draws.sel(experiment=name).isel(chain=1, draw=7)
        values = {quantity: float(at[quantity]) for quantity in at.data_vars}
        expected = bt.simulate(leak(), values, whole, seed=0)["level_noise_free"].to_numpy()[-4:]
        own = found["level_noise_free"].sel(experiment=name)[1, 7].dropna("time")
        np.testing.assert_allclose(own, expected, rtol=1e-3)


def test_coverage_and_scores_of_each_are_those_of_one() -> None:
    future = split()[1]
    covered, scored = bt.coverage(forecast(), future), bt.scores(forecast(), future)
    assert covered["coverage"].dims == ("experiment", "observation", "prob")
    bands = bt.intervals(forecast(), 0.9)
    for name, one in future.items():
        tree = forecast().sel(experiment=name)
        alone = bt.coverage(tree, one)
        assert int(alone["num"].min()) == 4
        ours, theirs = covered.sel(experiment=name, drop=True), alone.drop_vars("experiment", errors="ignore")
        joint = [key for key in theirs.data_vars if "joint" in str(key)]  # with how many others depends on the table
        xr.testing.assert_equal(ours.drop_vars(joint), theirs.drop_vars(joint))
        lone = bt.scores(tree, one)
        xr.testing.assert_equal(scored.sel(experiment=name, drop=True), lone.drop_vars("experiment", errors="ignore"))
        last = split()[0][name].table["level"].dropna().iloc[-1]
        expected = np.sqrt(np.mean((one.table["level"] - last) ** 2))
        assert float(lone["persistence_rmse"].item()) == pytest.approx(expected)
        own = bt.intervals(tree, 0.9)
        np.testing.assert_array_equal(bands["upper"].sel(experiment=name).dropna("time"), own["upper"].dropna("time"))
    with pytest.raises(InvalidTelemetry, match="`d`"):
        bt.coverage(forecast(), {"d": future["a"]})
    with pytest.raises(InvalidInput, match="several experiments"):
        bt.coverage(forecast(), future["a"])


def test_horizons_count_from_where_each_ended_and_bins_are_those_of_all() -> None:
    past, future = split()
    found = bt.coverage(forecast(), future, 0.9, by="horizon", bins=2)["num"]
    assert found.dims == ("experiment", "horizon", "observation", "prob")
    edges = np.append(found["horizon_from"], found["horizon_to"][-1])
    for name, one in future.items():
        index, last = one.table["level"].dropna().index, past[name].table["level"].dropna().index[-1]
        ahead = (index - last) / pd.Timedelta("1h") if one.dated else index - last
        expected = np.histogram(np.asarray(ahead, dtype=float), np.append(edges[:-1], edges[-1] * (1 + 1e-9)))[0]
        np.testing.assert_array_equal(found.sel(experiment=name).values.ravel(), expected)


@pytest.mark.thorough
def test_a_report_is_about_one_of_them() -> None:
    with pytest.raises(InvalidInput, match="sel\\(experiment='a'\\)"):
        bt.render_report(posterior())
    page = bt.render_report(posterior().sel(experiment="b"), forecast().sel(experiment="b"), validation=split()[1]["b"])
    assert "rate" in page


def test_what_is_wrong_is_said() -> None:
    past, future = split()
    with pytest.raises(InvalidTelemetry, match="`d`"):
        bt.predict(leak(), posterior(), {"d": future["a"]}, seed=0)
    with pytest.raises(InvalidTelemetry, match="telemetry of no named experiment"):
        bt.predict(leak(), posterior(), future["a"], seed=0)
    with pytest.raises(InvalidTelemetry, match="In experiment `b`"):
        bt.predict(leak(), posterior(), {"b": future["a"]}, seed=0)
    with pytest.raises(InvalidTelemetry, match="empty mapping"):
        bt.calibrate(leak(), {}, seed=0)
    with pytest.raises(InvalidTelemetry, match="1: Telemetry"):
        bt.calibrate(leak(), {1: past["a"]}, seed=0)
    with pytest.raises(InvalidTelemetry, match="DataFrame"):
        bt.calibrate(leak(), past["a"].table, seed=0)
    lacking = telemetry_of({"time": [0.0, 1.0], "inflow": [1.0, 1.0]})
    with pytest.raises(InvalidTelemetry, match=r"In experiment `b`: .*`level`"):
        bt.calibrate(leak(), {"a": past["a"], "b": lacking}, seed=0)
    with pytest.raises(InvalidTelemetry, match="a model of its own name"):
        bt.pymc_model(leak(), past)
