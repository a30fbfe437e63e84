"""An updated posterior is that of the whole record, in whatever batches and order its rows arrive."""

import functools
import importlib
import sys

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal
from shared_data import SHARED, needs
from twins import decay, decay_telemetry, driven, known_decay, tank, tank_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry
from bayestwin.insight.sbc import curves, shape_of

TABLE = decay_telemetry().table
FIRST = bt.read_telemetry(TABLE.iloc[:4].reset_index())
RATE, NOISE = 0.8, 0.3


def rows(*places: int, **columns: object) -> bt.Telemetry:
    return bt.read_telemetry(TABLE.iloc[list(places)].assign(**columns).reset_index())


@functools.cache
def begun() -> xr.DataTree:
    return bt.calibrate(known_decay(), FIRST, seed=3, num_samples=2000)


def closed_form(table: pd.DataFrame) -> tuple[float, float, float]:
    """Mean and standard deviation of the start, and the log density of all readings."""
    slope, seen = np.exp(-RATE * table.index.to_numpy()), table["level"].to_numpy()
    precision = 1.0 + (slope**2).sum() / NOISE**2
    mean = (5.0 + (slope * seen).sum() / NOISE**2) / precision
    covariance = np.outer(slope, slope) + NOISE**2 * np.eye(len(seen))
    return mean, precision**-0.5, multivariate_normal(5.0 * slope, covariance).logpdf(seen)


def check_is(posterior: xr.DataTree, table: pd.DataFrame) -> None:
    draws = posterior["posterior"]["level_initial"].to_numpy()
    mean, sd, _ = closed_form(table)
    assert abs(draws.mean() - mean) <= 4.0 * az.mcse(draws, method="mean")
    assert abs(draws.std() - sd) <= 4.0 * az.mcse(draws, method="sd")
    observed = posterior["observed_data"]["level"]
    np.testing.assert_allclose(observed, table["level"])
    np.testing.assert_allclose(observed["time"], table.index)
    lp = posterior["sample_stats"]["lp"].to_numpy()
    slope = np.exp(-RATE * table.index.to_numpy())
    off = table["level"].to_numpy() - draws[..., None] * slope
    ours = -0.5 * (draws - 5.0) ** 2 - 0.5 * (off**2).sum(axis=-1) / NOISE**2
    assert np.ptp(lp - ours) < 1e-6


@pytest.mark.thorough
def test_later_rows_need_no_solve_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that comes of it is what it is with the whole record solved again, and the next update is, too."""
    seen = {
        "level": bt.Observation(bt.Gaussian(0.4)),
        "twice": bt.Observation(bt.Gaussian(0.4), of=lambda t, x, p, u: 2.0 * x.level),
    }
    twin = driven(observations=seen)
    rng, times = np.random.default_rng(4), np.arange(26.0)
    table = pd.DataFrame({"time": times, "stepped": rng.normal(size=26), "sloped": rng.normal(size=26)})
    values = {"rate": 1.0, "gain": 1.0, "level_initial": 1.0}
    made = bt.simulate(twin, values, bt.read_telemetry(table), seed=1)
    table["level"], table["twice"] = made["level"], made["twice"]
    table.loc[[3, 23], "level"] = np.nan
    parts = [table[:20], table[20:24], table[24:].drop(columns="twice")]
    first, second, third = (bt.read_telemetry(part.reset_index(drop=True)) for part in parts)
    found = []
    for knows in (True, False):
        with monkeypatch.context() as patched:
            if not knows:
                patched.setattr(sys.modules["bayestwin.update"], "can_go_on", lambda *_: False)
            posterior = bt.calibrate(twin, first, seed=0, num_samples=500)
            for more in (second, third):
                posterior = bt.update(twin, posterior, more, seed=0, max_k=np.inf)
        found.append(posterior)
    assert [told["how"] for told in found[0].attrs["updates"]] == ["weighted", "weighted"]
    for group in ("posterior", "log_likelihood", "posterior_predictive", "final_state", "observed_data"):
        xr.testing.assert_allclose(found[0][group].to_dataset(), found[1][group].to_dataset(), rtol=1e-6, atol=1e-6)
    ours, theirs = (one["sample_stats"]["lp"].to_numpy() for one in found)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


@pytest.mark.parametrize(("max_k", "how"), [(0.7, "weighted"), (-np.inf, "went on")])
def test_it_is_the_posterior_of_the_whole_record(max_k: float, how: str) -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5), seed=1, max_k=max_k)
    told = found.attrs["updates"][0]
    assert (told["how"], told["rows"], told["readings"], told["revised"]) == (how, 2, 2, 0)
    check_is(found, TABLE.iloc[:6])
    before, after = closed_form(TABLE.iloc[:4])[2], closed_form(TABLE.iloc[:6])[2]
    # the mean of n ratios whose weights let `effective` draws count is off by about as much, relatively
    assert abs(told["log_predictive"] - (after - before)) <= 4.0 / np.sqrt(told["effective"])
    assert [gate.name for gate in bt.diagnose(found) if gate.severity == "fail" and not gate.passed] == []


def test_rows_may_come_late_in_pieces_and_with_others_that_are_known() -> None:
    later = bt.update(known_decay(), begun(), rows(8, 10, 11), seed=1)
    late = bt.update(known_decay(), later, rows(2, 3, 4, 5, 6, 7, 8, 9), seed=2)
    check_is(late, TABLE)
    assert [(one["rows"], one["readings"]) for one in late.attrs["updates"]] == [(3, 3), (5, 5)]
    first, second = late.attrs["updates"]
    page = bt.render_report(late)
    assert "update 1" in page
    assert "3 new readings; draws were weighted (Pareto k" in page
    assert first["posterior_sha256"] == begun().attrs["posterior_sha256"]
    assert second["posterior_sha256"] == later.attrs["posterior_sha256"]


def test_a_reading_that_was_revised_takes_the_place_of_the_one_before() -> None:
    found = bt.update(known_decay(), begun(), rows(3, level=[1.5]), seed=1)
    table = TABLE.iloc[:4].copy()
    table.iloc[3, 0] = 1.5
    assert found.attrs["updates"][0]["revised"] == 1
    check_is(found, table)


def test_a_batch_is_not_counted_twice() -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5), seed=1)
    with pytest.raises(InvalidTelemetry, match=r"(?s)nothing in this telemetry.*Received: 2 readings, all of them cou"):
        bt.update(known_decay(), found, rows(4, 5), seed=1)
    with pytest.raises(InvalidTelemetry, match="no readings"):
        bt.update(known_decay(), found, rows(6, level=[np.nan]), seed=1)


def test_it_is_the_same_to_the_bit_whenever_it_is_made() -> None:
    first, second = (bt.update(known_decay(), begun(), rows(4, 5), seed=7) for _ in range(2))
    xr.testing.assert_identical(first["posterior"].to_dataset(), second["posterior"].to_dataset())
    other = bt.update(known_decay(), begun(), rows(4, 5), seed=8)
    assert not other["posterior"].to_dataset().identical(first["posterior"].to_dataset())


def test_weights_that_do_not_do_are_not_used() -> None:
    # readings far from all that was foreseen: one draw in a thousand explains them
    found = bt.update(known_decay(), begun(), rows(4, 5, 6, 7, level=[4.0, 3.8, 3.6, 3.4]), seed=1)
    told = found.attrs["updates"][0]
    assert told["how"] == "went on"
    assert told["effective"] < 400.0 or told["pareto_k"] > 0.7
    table = pd.concat([TABLE.iloc[:4], TABLE.iloc[4:8].assign(level=[4.0, 3.8, 3.6, 3.4])])
    check_is(found, table)


@pytest.mark.thorough
def test_units_and_dates_are_those_of_the_record() -> None:
    whole = tank_telemetry()
    half = len(whole.table) // 2
    parts = [whole.with_table(whole.table.iloc[own]) for own in (slice(None, half), slice(half, None))]
    settings = {"num_warmup": 50, "num_samples": 50, "num_chains": 2}
    found = bt.update(tank(), bt.calibrate(tank(), parts[0], seed=1, **settings), parts[1], seed=1)
    known = xr.merge([found["observed_data"].to_dataset(), found["constant_data"].to_dataset()])
    np.testing.assert_array_equal(known["time"], whole.table.index)
    for name in known.data_vars:
        np.testing.assert_allclose(known[name], whole.in_unit(str(name), "degC"), rtol=1e-12)
    assert found.attrs["t0"] == str(whole.t0)


def test_it_predicts_from_where_the_record_ends_now() -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5), seed=1)
    ahead = bt.predict(known_decay(), found, telemetry_of({"time": [TABLE.index[5] + 1.0]}), seed=1)
    assert ahead["predictions"].sizes["time"] == 1


REFUSED = {
    "another twin": (lambda: decay(), lambda: begun(), lambda: rows(4), {}, InvalidArtifact, "does not belong"),
    "no chains": (
        lambda: known_decay(),
        lambda: bt.calibrate(known_decay(), FIRST, seed=1, method="laplace", num_samples=100),
        lambda: rows(4),
        {},
        InvalidArtifact,
        r"cannot be updated(?s:.)*method='laplace'",
    ),
    "no number": (lambda: known_decay(), lambda: begun(), lambda: rows(4), {"max_k": np.nan}, InvalidSetting, "max_k"),
    "replicates": (
        lambda: known_decay(),
        lambda: begun(),
        lambda: telemetry_of({"time": [3.0, 3.0], "level": [0.4, 0.5]}, duplicates="all"),
        {},
        InvalidTelemetry,
        "replicates cannot be updated",
    ),
    "dates": (
        lambda: known_decay(),
        lambda: begun(),
        lambda: telemetry_of({"time": pd.date_range("2026-01-01", periods=2, freq="h"), "level": [0.4, 0.5]}),
        {},
        InvalidTelemetry,
        "another kind",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_updated_is_refused(why: str) -> None:
    twin, posterior, telemetry, settings, error, words = REFUSED[why]
    with pytest.raises(error, match=words):
        bt.update(twin(), posterior(), telemetry(), seed=1, **settings)


def test_several_experiments_are_refused() -> None:
    posterior = begun().copy()
    posterior["posterior"] = xr.DataTree(begun()["posterior"].to_dataset().expand_dims(experiment=["a", "b"]))
    with pytest.raises(InvalidArtifact, match="several experiments"):
        bt.update(known_decay(), posterior, rows(6), seed=1)


# Exact by quadrature: years, mean and sd of the noise and of the level's diffusion, and log evidence.
NILE = {
    25: ((134.97, 25.39), (40.56, 30.89), -163.4176),
    50: ((137.37, 22.41), (64.80, 27.68), -330.6131),
    75: ((125.47, 15.45), (49.91, 19.45), -485.9881),
    100: ((122.15, 12.65), (43.74, 15.94), -642.9104),
}


@pytest.mark.slow
@needs("nile")
@pytest.mark.parametrize("order", [(25, 50, 75), (75, 25, 50)], ids=["in order", "shuffled"])
def test_the_nile_arrives_in_four_batches(order: tuple[int, ...]) -> None:
    record = pd.read_csv(SHARED / "nile" / "nile.csv").rename(columns={"year": "time", "flow_1e8_m3": "flow"})
    twin = driven(
        name="nile",
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level},
        states={"level": bt.State(dist.Normal(1000.0, 300.0))},
        parameters={},
        inputs={},
        observations={
            "flow": bt.Observation(bt.Gaussian(dist.HalfNormal(200.0)), of=lambda t, x, p, u: x.level),
        },
        model_error=bt.ProcessNoise({"level": dist.HalfNormal(100.0)}),
        time_unit="year",
    )
    posterior = bt.calibrate(twin, bt.read_telemetry(record.iloc[:25]), seed=1)
    in_order = order == (25, 50, 75)
    for start in order:
        posterior = bt.update(twin, posterior, bt.read_telemetry(record.iloc[start : start + 25]), seed=start)
        if in_order or start == order[-1]:
            noise, diffusion, evidence = NILE[start + 25 if in_order else 100]
            for name, (mean, sd) in {"flow_scale": noise, "level_diffusion": diffusion}.items():
                draws = posterior["posterior"][name].to_numpy()
                assert abs(draws.mean() - mean) <= 4.0 * az.mcse(draws, method="mean"), (start, name)
                assert abs(draws.std() - sd) <= 4.0 * az.mcse(draws, method="sd"), (start, name)
        if in_order:
            gained = posterior.attrs["updates"][-1]["log_predictive"]
            assert abs(gained - (evidence - NILE[start][2])) <= 0.05


def ranks_of_updates(num: int, seed: int) -> np.ndarray:
    """Ranks of levels that the prior draws, and of how probable they make the second batch, after an update with it."""
    rng, times = np.random.default_rng(seed), np.linspace(0.0, 1.0, 12)
    slope, first, second = np.exp(-RATE * times), np.s_[:6], np.s_[6:]
    ranks, weighted = [], 0
    for number, truth in enumerate(rng.normal(5.0, 1.0, num)):
        seen = truth * slope + NOISE * rng.standard_normal(len(times))
        batches = [telemetry_of({"time": times[own], "level": seen[own]}) for own in (first, second)]
        posterior = bt.calibrate(known_decay(), batches[0], seed=number, num_samples=1000, predictive_draws=50)
        updated = bt.update(known_decay(), posterior, batches[1], seed=number, max_k=np.inf, predictive_draws=50)
        weighted += updated.attrs["updates"][-1]["how"] == "weighted"
        levels = np.append(updated["posterior"]["level_initial"].to_numpy().ravel(), truth)
        off = ((seen - levels[:, None] * slope)[:, second] ** 2).sum(axis=1)
        ranks.append([(one[:-1] < one[-1]).mean() for one in (levels, -off)])
    assert weighted >= 0.8 * num  # the others are drawn anew
    return np.transpose(ranks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "shapes"),
    [(1.0, None), (2.0, ["too narrow", "too high"]), (0.0, ["uneven", "too low"])],
    ids=["counted once", "counted twice", "not counted"],
)
def test_simulation_based_calibration_of_updates(
    times: float, shapes: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks of the truth are uniform where a batch counts once; where it does not, one that knows the data tells."""
    module = importlib.import_module("bayestwin.update")
    right = module._weighed

    def weighed(z: object, values: object, here: np.ndarray, ratio: np.ndarray, *rest: object) -> object:
        return right(z, values, here + (times - 1.0) * ratio, times * ratio, *rest)

    monkeypatch.setattr(module, "_weighed", weighed)
    ranks = ranks_of_updates(200, 5)
    judged = curves(ranks, ["level_initial", "log_likelihood"], 0.99, 0)
    assert bool(judged["within_band"].all()) == (shapes is None)
    if shapes is not None:
        assert [shape_of(one) for one in ranks] == shapes
