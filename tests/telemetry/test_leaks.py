"""Nothing that a feature says depends on what comes later; what looks ahead is refused, by name and time."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayestwin as bt
from bayestwin.assess.backtest import cut_stages
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.derived import Feature, FeatureColumn
from bayestwin.telemetry.features import (
    Bins,
    Calendar,
    Difference,
    Expression,
    Function,
    Lag,
    Rolling,
    Standardized,
    Switch,
)
from bayestwin.telemetry.leakage import check_causal, made_of

ALL = {
    "lag": Lag("x", 2.0),
    "held": Lag("x", 0.0, max_age=3.0),
    "rate": Difference("x", 1.0, max_age=1.0, per="h"),
    **{name: Rolling("x", 3.0, name, "skip") for name in ("mean", "min", "max", "std", "sum")},
    "strict": Rolling("u", 2.0),
    "bin": Bins("x", (0.0, 1.0)),
    "on": Switch("x", above=0.5, below=-0.5),
    "sum_of": Expression("x + mean * u"),
    "later": Lag("mean", 1.0, max_age=0.5),
    "mine": Function(lambda table: table["x"].ewm(halflife=3.0).mean(), ("x",)),
    "yesterday": Function(lambda table: table["u"].shift(1), ("u",), delay=1.0),
}


def telemetry(num: int = 40, seed: int = 5) -> bt.Telemetry:
    """Hours, some of them left out; x with gaps, u without."""
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.choice(np.arange(float(2 * num)), num, replace=False))
    x = np.where(rng.random(num) < 0.2, np.nan, rng.standard_normal(num))
    table = pd.DataFrame({"x": x, "u": rng.standard_normal(num)}, index=pd.Index(hours, name="time"))
    return bt.read_telemetry(table, units={"time": "h"})


@pytest.mark.thorough
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.9))
def test_the_future_changes_no_feature(seed: int, share: float) -> None:
    whole = telemetry(seed=seed)
    features = {name: one for name, one in ALL.items() if name != "yesterday"}
    cut = int(share * 40)
    kept = whole.with_table(whole.table.iloc[:cut])
    other = whole.table.copy()
    other.iloc[cut:] = np.random.default_rng(seed + 1).normal(1e3, 1e4, (40 - cut, 2))
    names = list(features)
    ours = bt.add_features(whole, features).table[names].iloc[:cut]
    pd.testing.assert_frame_equal(bt.add_features(whole.with_table(other), features).table[names].iloc[:cut], ours)
    known = [name for name in names if ours[name].notna().any()]
    if len(known) == len(names):
        pd.testing.assert_frame_equal(bt.add_features(kept, features).table[names], ours)


def test_the_checker_finds_nothing_in_what_is_there() -> None:
    even = bt.read_telemetry(
        pd.DataFrame({"x": np.sin(np.arange(40.0)), "u": np.cos(np.arange(40.0))}, index=pd.Index(np.arange(40.0))),
        units={"time": "h"},
    )
    check_causal(even, ALL)
    index = pd.date_range("2026-01-01", periods=40, freq="h", name="time")
    check_causal(
        bt.read_telemetry(even.table.set_axis(index)), {"hour": Calendar("hour"), "z": Rolling("x", "5h", "std")}
    )


LOOKS_AHEAD = {
    "the next value": lambda table: table["x"].shift(-1),
    "the value before the next": lambda table: table["x"].rolling(3, center=True).mean(),
    "the mean of all": lambda table: table["x"] - table["x"].mean(),
    "the largest of all": lambda table: table["x"] / table["x"].max(),
    "the median of all": lambda table: (table["x"] > table["x"].median()) * 1.0,
    "how many there are": lambda table: table["x"].notna().sum() + 0.0 * table["u"],
    "the number of rows": lambda table: np.arange(len(table)) / len(table),
    "interpolated": lambda table: table["x"].interpolate(),
    "filled from behind": lambda table: table["x"].bfill(),
    "reversed": lambda table: table["x"].to_numpy()[::-1],
    "smoothed both ways": lambda table: np.convolve(table["u"], np.ones(3) / 3.0, mode="same"),
    "a fit to all": lambda table: np.polyval(np.polyfit(table.index, table["u"], 1), table.index),
}


@pytest.mark.parametrize("name", LOOKS_AHEAD)
def test_a_function_that_looks_ahead_is_refused_by_name_and_time(name: str) -> None:
    feature = Function(LOOKS_AHEAD[name], ("x", "u"))
    with pytest.raises(InvalidTelemetry, match=r"`planted` looks ahead\.\n  Expected: at \d+\.0 the same") as caught:
        bt.add_features(telemetry(), {"planted": feature})
    assert "recorded after" in str(caught.value)


def test_the_time_that_is_named_is_one_that_changed() -> None:
    even = bt.read_telemetry(pd.DataFrame({"x": np.arange(20.0)}, index=pd.Index(np.arange(20.0), name="time")))
    feature = Function(lambda table: table["x"].where(table.index != 7.0, table["x"].max()), ("x",))
    with pytest.raises(InvalidTelemetry, match=r"at 7\.0 the same value whatever is recorded after 7\.0"):
        bt.add_features(even, {"planted": feature})


def test_a_function_knows_no_more_than_its_delay_says() -> None:
    index = pd.date_range("2026-01-01", periods=48, freq="h", name="time")
    hourly = bt.read_telemetry(pd.DataFrame({"x": np.arange(48.0) % 7}, index=index))
    shifted = Function(lambda table: table["x"].shift(2), ("x",), delay="2h")
    assert made_of(bt.add_features(hourly, {"f": shifted}))["f"].of == {"x": 7200.0}
    with pytest.raises(InvalidTelemetry, match="Feature `f` looks ahead"):
        bt.add_features(hourly, {"f": Function(shifted.function, ("x",), delay="3h")})


def test_a_function_must_bear_a_part_of_the_record() -> None:
    def needs_ten(table: pd.DataFrame) -> pd.Series:
        if len(table) < 10:
            raise IndexError(len(table))
        return table["x"]

    with pytest.raises(InvalidTelemetry, match=r"Feature `f` has a function that fails(?s:.*)IndexError"):
        bt.add_features(telemetry(), {"f": Function(needs_ten, ("x", "u"))})


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Lag("x", -1.0), "looks ahead: its `by` is negative"),
        (Difference("x", -1.0), "looks ahead: its `over` is negative"),
        (Rolling("x", -1.0), "looks ahead: its `window` is negative"),
        (Rolling("x", 3.0, side="center"), "looks ahead: its window reaches beyond"),
        (Rolling("x", 3.0, side="left"), "looks ahead: its window reaches beyond"),
        (Standardized("x"), "uses the mean of the whole record, and so its future"),
    ],
)
def test_declared_leaks_are_refused(feature: Feature, words: str) -> None:
    with pytest.raises(InvalidTelemetry, match=f"Feature `ahead` {words}"):
        bt.add_features(telemetry(), {"ahead": feature})


def test_the_checker_sees_a_feature_of_ones_own_that_looks_ahead() -> None:
    class Next(Feature):
        made_of = ("u",)

        def compute(self, record) -> FeatureColumn:
            return FeatureColumn(np.append(record.values("u")[1:], np.nan), "")

    with pytest.raises(InvalidTelemetry, match=r"Feature `next` looks ahead(?s:.*)far|usual|cut off|missing"):
        check_causal(telemetry(), {"lag": Lag("u", 0.0), "next": Next()})


def test_delays_add_up_and_the_shortest_way_counts() -> None:
    made = made_of(bt.add_features(telemetry(), ALL | {"twice": Lag("lag", 3.0, max_age=5.0)}))
    assert made["twice"].of == {"x": 5.0}
    assert made["lag"].of == {"x": 2.0}
    assert made["later"].of == {"x": 1.0}
    assert made["sum_of"].of == {"x": 0.0, "u": 0.0}
    assert made["held"].until is None


def heater(driver: str = "load") -> bt.Twin:
    return bt.Twin(
        name="heater",
        vector_field=lambda t, x, p, u: {"level": p.gain * getattr(u, driver) - 0.5 * x.level},
        states={"level": bt.State(1.0)},
        parameters={"gain": bt.Parameter(dist.LogNormal(0.0, 0.5))},
        inputs={driver: bt.Input()},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
        time_unit="h",
    )


def heated(num: int = 60) -> bt.Telemetry:
    rng = np.random.default_rng(2)
    hours = 0.5 * np.arange(num)
    table = pd.DataFrame(
        {"u": 1.0 + np.sin(hours), "level": 1.0 + 0.1 * rng.standard_normal(num)}, index=pd.Index(hours, name="time")
    )
    return bt.read_telemetry(table, t0=0.0)


def test_an_input_made_of_an_observation_at_the_same_time_is_refused() -> None:
    made = bt.add_features(heated(), {"load": Expression("0.5 * level")})
    with pytest.raises(InvalidTelemetry, match="`load` is made of the observation `level` at the same time"):
        bind(heater(), made)


def test_an_input_made_of_observations_reaches_as_far_ahead_as_its_lag() -> None:
    made = bt.add_features(heated(), {"load": Lag("level", 2.0, max_age=0.0)}).between(start=2.0)
    cut = cut_stages(heater(), made, [20.0], 2.0, 0.0, "expanding")
    assert cut[0].ahead.table["load"].notna().all()
    with pytest.raises(InvalidTelemetry, match=r"`load` is made of the observation `level`(?s:.*)at 22\.5 it needs"):
        cut_stages(heater(), made, [20.0], 2.5, 0.0, "expanding")


def test_statistics_that_know_the_future_of_an_origin_are_refused() -> None:
    made = bt.add_features(heated(), {"load": Standardized("u", until=15.0)})
    assert len(cut_stages(heater(), made, [15.0, 20.0], 3.0, 0.0, "expanding")) == 2
    with pytest.raises(InvalidTelemetry, match=r"Statistics in the input `load`(?s:.*)not after its first origin"):
        cut_stages(heater(), made, [10.0, 20.0], 3.0, 0.0, "expanding")
    chained = bt.add_features(made, {"drive": Rolling("load", 1.0)}).between(start=2.0)
    with pytest.raises(InvalidTelemetry, match="Statistics in the input `drive`"):
        cut_stages(heater("drive"), chained, [10.0], 3.0, 0.0, "expanding")


@pytest.mark.thorough
def test_a_forecast_refuses_what_is_not_known_where_the_calibration_ends() -> None:
    made = bt.add_features(heated(), {"load": Lag("level", 3.0)}).between(start=3.0)
    made = made.with_table(made.table, t0=3.0)
    past, ahead = made.between(end=20.0), made.between(start=20.0)
    posterior = bt.calibrate(
        heater(), past, seed=0, method="laplace", num_samples=20, num_chains=1, predictive_draws=20
    )
    near = ahead.between(end=22.6)  # 19.5 is the last time known
    assert bt.predict(heater(), posterior, near, seed=1, draws=20)["predictions"].sizes["time"] == 6
    with pytest.raises(InvalidTelemetry, match=r"not known ahead(?s:.*)at 23\.0 it needs `level` of 3 h before"):
        bt.predict(heater(), posterior, ahead, seed=1, draws=20)


def altered_after(last: float) -> bt.Telemetry:
    """The same up to a time; after it another load, and from 1.5 h before that on other levels."""
    table = heated().table.copy()
    table.loc[last + 0.5 :, "u"] = 77.0
    table.loc[last - 1.5 :, "level"] = -5.0
    return heated().with_table(table)


FED_BACK = {"smooth": Rolling("u", 2.0), "before": Lag("level", 2.0), "load": Expression("smooth + 0.1 * before")}


def test_what_an_origin_sees_is_what_was_known_there() -> None:
    def seen(telemetry: bt.Telemetry) -> list[pd.DataFrame]:
        made = bt.add_features(telemetry, FED_BACK).between(start=2.0)
        (one,) = cut_stages(heater(), made, [20.0], 2.0, 0.0, "expanding")
        return [one.known.table, one.ahead.table]

    for ours, theirs in zip(seen(heated()), seen(altered_after(22.0)), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.slow
def test_a_backtest_does_not_know_what_comes_after_its_origins() -> None:
    """What a feature of an input and a lagged observation say up to the last forecast is all that a backtest sees."""
    asked = {"origins": [16.0, 20.0], "horizon": 2.0, "seed": 0, "method": "laplace", "num_samples": 20}
    asked |= {"num_chains": 1, "draws": 20, "predictive_draws": 20}

    def trial(telemetry: bt.Telemetry):
        made = bt.add_features(telemetry, FED_BACK).between(start=2.0)
        return bt.backtest(heater(), made.with_table(made.table, t0=2.0), **asked)["predictions"].to_dataset()

    ours, theirs = trial(heated()), trial(altered_after(22.0))
    assert np.isfinite(ours["level"]).all()
    for name in ours.data_vars:
        assert np.array_equal(ours[name], theirs[name])


def test_aligning_keeps_what_features_are_made_of() -> None:
    made = bt.add_features(heated(), {"load": Lag("level", 2.0)})
    other = bt.read_telemetry(pd.DataFrame({"v": 1.0}, index=made.table.index))
    assert made_of(bt.align({"a": made, "b": other}))["load"].of == {"level": 2.0}
    with pytest.raises(InvalidTelemetry, match=r"`load` is a feature(?s:.*)after aligning"):
        bt.align({"a": made, "b": other}, every=1.0, how=dict.fromkeys(("u", "level", "load", "v"), "interpolate"))
