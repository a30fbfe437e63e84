"""New telemetry gets a verdict with its cause: by exact forecasts and what moved, and never `ok` from too little."""

import dataclasses
import functools

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry
from bayestwin.monitor.ahead import build_ahead, read_ahead, weigh
from bayestwin.monitor.verdict import Monitored
from bayestwin.update import joined

QUIET = Progress(show=False)

KNOWN, FOLLOWS, NOISE = np.arange(0.0, 60.0), np.arange(60.0, 140.0), 0.3


def field(t, x, p, u):
    """A level that follows an input."""
    return {"level": (p.gain * u.pump - x.level) / p.lag}


def twin(**changes: object) -> bt.Twin:
    settings = {
        "name": "basin",
        "vector_field": field,
        "states": {"level": bt.State(initial=1.0, unit="m")},
        "parameters": {
            "gain": bt.Parameter(dist.LogNormal(0.0, 0.3)),
            "lag": bt.Parameter(dist.LogNormal(1.0, 0.3), unit="h"),
        },
        "inputs": {"pump": bt.Input(hold="previous")},
        "observations": {"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), unit="m")},
        "time_unit": "h",
    }
    return bt.Twin(**settings | changes)


def pumped(times: np.ndarray, seed: int) -> np.ndarray:
    """An input that remembers, with steps that stay."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.uniform(1.0, 3.0, times.size // 6 + 1), 6)[: times.size]


WHOLE = np.concatenate([KNOWN, FOLLOWS])


def recorded(seed: int = 0, since: float = np.inf, **changed: float) -> bt.Telemetry:
    """A record of the basin, whose parameters are others from some time on."""
    usual = {"gain": 1.1, "lag": 2.5, "level_scale": 0.1}
    pump = np.concatenate([pumped(KNOWN, 0), pumped(FOLLOWS, seed + 1)])
    parts, level = [], 1.0
    for own, values in ((since > WHOLE, usual), (since <= WHOLE, usual | changed)):
        if own.any():
            times = WHOLE[own]
            start = dataclasses.replace(twin(), states={"level": bt.State(level, unit="m")})
            told = telemetry_of({"time": np.append(times, times[-1] + 1.0), "pump": [*pump[own], pump[own][-1]]})
            made = bt.simulate(start, values, told, seed=seed)
            parts.append(made["level"].to_numpy()[:-1])
            level = float(made["level_state"][-1])
    return telemetry_of({"time": WHOLE, "pump": pump, "level": np.concatenate(parts)})


def after(telemetry: bt.Telemetry, **changes: object) -> bt.Telemetry:
    table = telemetry.table.loc[FOLLOWS[0] :]
    return telemetry.with_table(table.assign(**changes) if changes else table)


@functools.cache
def posterior() -> xr.DataTree:
    """Read it, and leave it as it is."""
    whole = recorded()
    return bt.calibrate(twin(), whole.with_table(whole.table.loc[: KNOWN[-1]]), seed=0, num_samples=500)


def look(telemetry: bt.Telemetry, **settings: object) -> Monitored:
    return bt.monitor(twin(), posterior(), telemetry, seed=0, progress=QUIET, **settings)


@functools.cache
def steady() -> tuple[bt.Twin, xr.DataTree, bt.Telemetry]:
    """A twin whose only unknown is a constant, so that all forecasts are known: with prior N(0, 1) and noise 0.3."""
    one = decay(
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level},
        states={"level": bt.State(dist.Normal(0.0, 1.0), unit="m")},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(NOISE), unit="m")},
    )
    seen = 0.4 + NOISE * np.random.default_rng(2).standard_normal(12)
    record = telemetry_of({"time": np.arange(12.0), "level": seen})
    first = record.with_table(record.table.iloc[:3])
    return one, bt.calibrate(one, first, seed=1, num_samples=2000), record


@pytest.mark.thorough
def test_each_forecast_knows_all_readings_before_it() -> None:
    one, calibrated, record = steady()
    before, whole, _ = joined(one, calibrated, record)
    ahead = build_ahead(one, calibrated, before, whole)
    read = read_ahead(ahead, QUIET)
    found = weigh(read, np.zeros(9, bool), np.random.default_rng(0))
    seen = record.table["level"].to_numpy()
    count = np.arange(3, 12)
    precision = 1.0 + count / NOISE**2
    mean = np.array([seen[:k].sum() / NOISE**2 for k in count]) / precision
    exact = stats.norm.cdf((seen[3:] - mean) / np.sqrt(NOISE**2 + 1.0 / precision))
    # a mean of `effective` draws is off by a posterior sd over its root, of which the noise lets a part be seen
    spread = np.sqrt(1.0 / precision / found.effective) / NOISE * stats.norm.pdf(0.0)
    assert (np.abs(found.pit - exact) <= 4.0 * spread).all()
    assert ahead.from_end
    assert found.trusted == 9
    # forecasts that do not know what came in between are told from these
    plain = weigh(read._replace(log_density=0.0 * read.log_density), np.zeros(9, bool), np.random.default_rng(0))
    assert (np.abs(plain.pit - exact) > 4.0 * spread).any()


@pytest.mark.thorough
def test_from_the_end_of_the_calibration_it_is_as_along_the_whole_record() -> None:
    telemetry = recorded()
    before, whole, _ = joined(twin(), posterior(), after(telemetry))
    short = build_ahead(twin(), posterior(), before, whole)
    assert (short.from_end, len(short.labels), short.new.sum()) == (True, 80, 80)
    bare = posterior().filter(lambda group: group.name != "final_state")
    long = build_ahead(twin(), bare, before, whole)
    assert (long.from_end, len(long.labels), long.new.sum()) == (False, 140, 80)
    ours, theirs = (read_ahead(one, QUIET) for one in (short, long))
    np.testing.assert_allclose(ours.log_density, theirs.log_density, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.log_below, theirs.log_below, rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_a_clean_record_is_ok_whenever_one_looks() -> None:
    telemetry = after(recorded())
    found = look(telemetry)
    assert (found.verdict, found.cause, found.parameter, found.alarm) == ("ok", "none", None, None)
    assert found.reason.startswith("80 readings are as forecast")
    assert stats.kstest(found.readings["pit"], "uniform").pvalue > 0.01
    early = look(telemetry.with_table(telemetry.table.iloc[:30]))
    np.testing.assert_allclose(early.readings["log_e"], found.readings["log_e"][:30], rtol=1e-6, atol=1e-9)
    # rows that were calibrated are passed over
    again = look(recorded())
    np.testing.assert_allclose(again.readings["log_e"], found.readings["log_e"], rtol=1e-9)


@pytest.mark.parametrize(("name", "value"), [("gain", 1.4), ("lag", 8.0), ("level_scale", 0.25)])
def test_what_moved_is_named_with_where_to_and_since_when(name: str, value: float) -> None:
    found = look(after(recorded(since=FOLLOWS[0], **{name: value})))
    assert (found.verdict, found.cause, found.parameter) == ("act", "model", name)
    assert found.shifts[0].name == name
    assert found.shifts[0].after == pytest.approx(value, rel=0.15)
    assert f"`{name}` explains most if it alone moved" in found.reason
    assert found.e_value >= 20.0
    assert found.since[0] <= found.alarm
    late = look(after(recorded(since=FOLLOWS[40], **{name: value})))
    assert late.verdict == "act"
    assert late.alarm >= FOLLOWS[40]
    assert late.since[1] - 10.0 <= FOLLOWS[40] <= late.since[2] + 10.0


@pytest.mark.thorough
def test_weights_that_became_too_uneven_ask_for_an_update() -> None:
    rows = pd.DataFrame({"time": np.arange(60.0, 1060.0), "pump": np.repeat(np.linspace(1.0, 3.0, 10), 100)})
    number = int(posterior()["posterior_predictive"]["draw"][7])
    values = {
        name: float(posterior()["posterior"][name].sel(draw=number)[0]) for name in ("gain", "lag", "level_scale")
    }
    ended = float(posterior()["posterior_predictive"]["level_state"].sel(draw=number)[0, -1])
    start = twin(states={"level": bt.State(initial=ended, unit="m")})
    rows["pump"] = np.append(recorded().table["pump"].loc[KNOWN[-1]], rows["pump"].iloc[:-1])
    rows["time"] -= 1.0  # from the last reading on
    rows["level"] = bt.simulate(start, values, bt.read_telemetry(rows), seed=1)["level"].to_numpy()
    found = look(bt.read_telemetry(rows.iloc[1:]))
    assert (found.verdict, found.cause) == ("watch", "none")
    assert "bt.update" in found.reason
    trusted = found.observations["level"]["trusted"]
    assert 0 < trusted < 999
    assert np.isfinite(found.readings["log_e"]).sum() == trusted


NOTHING = {
    "no reading": lambda one: one.assign(level=np.nan),
    "one": lambda one: one.iloc[:1],
}


@pytest.mark.parametrize("case", NOTHING)
def test_81_too_little_is_never_ok(case: str) -> None:
    telemetry = after(recorded())
    found = look(telemetry.with_table(NOTHING[case](telemetry.table)), alpha=0.01)
    assert (found.verdict, found.cause, found.alarm) == ("insufficient data", "none", None)


def test_81_what_was_calibrated_already_says_nothing() -> None:
    whole = recorded()
    found = look(whole.with_table(whole.table.loc[: KNOWN[-1]]))
    assert (found.verdict, found.reason) == (
        "insufficient data",
        "All readings of this telemetry were calibrated already.",
    )


def test_a_defect_of_the_telemetry_is_called_data() -> None:
    telemetry = after(recorded())
    level = telemetry.table["level"].to_numpy().copy()
    level[40:43] = -999.0
    found = look(telemetry.with_table(telemetry.table.assign(level=level)))
    assert (found.verdict, found.cause, found.parameter) == ("act", "data", None)
    assert "-999" in found.reason
    twice = telemetry.table.iloc[[0, 1, 1, 2, 3]]
    found = look(telemetry.with_table(twice))
    assert (found.verdict, found.cause, found.findings[0].kind) == ("act", "data", "duplicate")


def test_a_sensor_that_is_off_is_told_from_a_parameter() -> None:
    telemetry = after(recorded())
    found = look(telemetry.with_table(telemetry.table.assign(level=telemetry.table["level"] + 0.3)))
    assert (found.verdict, found.cause) == ("act", "data")
    assert found.shifts[0].kind == "sensor"
    assert found.shifts[0].after == pytest.approx(0.3, abs=0.1)


def test_other_versions_late_rows_and_what_is_not_there_are_the_infrastructure() -> None:
    moved = after(recorded(since=FOLLOWS[0], gain=1.4))
    assert look(moved, versions={"jax": "0.0.1"}).cause == "infrastructure"
    telemetry = after(recorded())
    found = look(telemetry, versions={"jax": "0.0.1"})  # by itself it is no alarm
    assert (found.verdict, len(found.infrastructure)) == ("ok", 1)
    found = look(telemetry, due=FOLLOWS[-1] + 24.0)
    assert (found.verdict, found.cause) == ("watch", "infrastructure")
    assert "due up to" in found.reason
    assert look(telemetry, due=FOLLOWS[-1]).verdict == "ok"
    between = pd.DataFrame({"pump": [2.0], "level": [2.0]}, index=pd.Index([3.5], name="time"))
    late = telemetry.with_table(pd.concat([between, telemetry.table]))
    found = look(late)
    assert (found.verdict, found.cause) == ("watch", "infrastructure")
    assert "1 row of the time that was calibrated came after that." in found.infrastructure


def test_regimes_are_told_apart_by_the_groups_of_the_calibration() -> None:
    found = look(after(recorded(since=FOLLOWS[0], gain=1.4)), by="pump")
    assert len(found.regimes) == len(np.unique(pumped(KNOWN, 0)))
    assert all(name.startswith("level, pump ") for name in found.regimes)


REFUSED = {
    "several experiments": (lambda: {"a": recorded()}, {}, InvalidArtifact, "Only a twin of one record"),
    "no probability": (lambda: after(recorded()), {"alpha": 1.5}, InvalidSetting, "`alpha`"),
    "no such group": (lambda: after(recorded()), {"by": "wind"}, InvalidSetting, "`by` names `wind`"),
    "another time": (
        lambda: telemetry_of({"time": pd.date_range("2026-01-01", periods=3), "pump": 1.0, "level": 1.0}),
        {},
        InvalidTelemetry,
        "another kind",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    telemetry, settings, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        look(telemetry(), **settings)


def test_a_posterior_of_another_twin_is_refused() -> None:
    with pytest.raises(InvalidArtifact, match="does not belong"):
        bt.monitor(twin(name="pond"), posterior(), after(recorded()), seed=0)


def test_readings_that_cannot_occur_are_the_data() -> None:
    one = twin(observations={"level": bt.Observation(bt.LogNormal(dist.HalfNormal(0.5)), unit="m")})
    whole = recorded()
    calibrated = bt.calibrate(one, whole.with_table(whole.table.loc[: KNOWN[-1]]), seed=0, num_samples=100)
    level = whole.table["level"].to_numpy().copy()
    level[-4] = -0.2
    found = bt.monitor(one, calibrated, after(whole.with_table(whole.table.assign(level=level))), seed=0)
    assert (found.verdict, found.cause) == ("act", "data")
    assert "cannot occur under LogNormal noise" in found.reason


def test_a_clock_that_is_wrong_is_told_by_the_forecasts() -> None:
    telemetry = after(recorded())
    early = np.interp(FOLLOWS + 3.0, FOLLOWS, telemetry.table["level"])
    found = look(telemetry.with_table(telemetry.table.assign(level=early).iloc[:-3]))
    assert (found.verdict, found.cause) == ("act", "data")
    (clock,) = [one for one in found.findings if one.kind == "clock_skew"]
    assert clock.column == "level"


def test_another_unit_is_told_by_the_forecasts() -> None:
    telemetry = after(recorded())
    found = look(telemetry.with_table(telemetry.table.assign(level=1000.0 * telemetry.table["level"])))
    assert (found.verdict, found.cause, found.findings[0].kind) == ("act", "data", "unit_scale")
    assert found.findings[0].evidence["suggestion"] == "divided by 1000"


LED = {
    "process noise": {"model_error": bt.ProcessNoise({"level": dist.HalfNormal(0.2)})},
    "a discrepancy": {"model_error": bt.Discrepancy({"level": dist.HalfNormal(0.2)}, {"level": 30.0}, num_basis=12)},
    "noise that remembers": {
        "observations": {"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.3), 1.0, 0.05), unit="m")}
    },
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", LED)
def test_what_was_observed_leads_the_forecasts_of_a_twin_that_follows_it(case: str) -> None:
    one, whole = twin(**LED[case]), recorded()
    calibrated = bt.calibrate(
        one, whole.with_table(whole.table.loc[: KNOWN[-1]]), seed=0, num_samples=100, num_warmup=100, num_chains=2
    )
    clean, wrong = (
        bt.monitor(one, calibrated, after(whole, level=whole.table["level"].loc[FOLLOWS[0] :] + off), seed=0)
        for off in (0.0, 1.5)
    )
    assert clean.alarm is None
    assert wrong.verdict == "act"
    assert len(clean.shifts) >= 4
