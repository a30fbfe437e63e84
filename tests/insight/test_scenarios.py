"""Scenarios: changes are applied draw by draw, differences are those of pairs, expectations know their error."""

import dataclasses
import functools
import math
import types

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.insight.expectations import Expectation, effective, judge_expectation, read_expectation, wilson
from bayestwin.insight.scenarios import changed_column, changes_of
from bayestwin.telemetry import Telemetry

HOURS = pd.date_range("2026-01-01", periods=72, freq="h", name="time")

STORE = bt.Twin(
    name="store",
    vector_field=lambda t, x, p, u: {"content": u.feed - p.rate * x.content},
    states={"content": bt.State(dist.Normal(10.0, 1.0), unit="kWh")},
    parameters={"rate": bt.Parameter(dist.LogNormal(-3.0, 0.5), unit="1/h")},
    inputs={"feed": bt.Input(unit="kW", hold="previous")},
    observations={"content": bt.Observation(noise=bt.Gaussian(0.2), unit="kWh")},
    events={"drained": bt.Event(effect=lambda t, x, p, u: {"content": 0.5 * x.content}, at=(50.0,))},
    time_unit="h",
    quantities={
        "lost": bt.Integral(of=lambda t, x, p, u: p.rate * x.content, unit="kWh"),
        "low_at": bt.FirstTime(lambda t, x, p, u: x.content < 2.0),
        "last": bt.FromRows(lambda t, x, p, u: x.content[-1], unit="kWh"),
        "least": bt.Min("content", unit="kWh"),
    },
)
RATE, FEED = 0.05, 0.1


@pytest.fixture(scope="module")
def telemetry() -> Telemetry:
    table = pd.DataFrame({"feed": np.where(np.arange(72) < 36, 0.3, FEED)}, index=HOURS)
    made = bt.simulate(STORE, {"rate": RATE, "content_initial": 10.0}, bt.read_telemetry(table), seed=0)
    return bt.read_telemetry(table.assign(content=made["content"].to_numpy()))


@pytest.fixture(scope="module")
def posterior(telemetry: Telemetry) -> xr.DataTree:
    return bt.calibrate(STORE, telemetry.between(end=HOURS[36]), seed=0, num_chains=2, num_samples=200)


SCENARIOS = {
    "same": bt.Scenario(parameters={"rate": "× 1"}),
    "tight": bt.Scenario(
        question="What if it lost half as much?",
        parameters={"rate": "/ 2"},
        expect=["lost < baseline.lost with P >= 0.99", "P(content < 0.5 kWh) <= 5 %", "lost.q90 <= 5 MJ"],
    ),
    "kept": bt.Scenario(events={"drained": None}, initial={"content": "+ 1"}),
    "fed": bt.Scenario(inputs={"feed": bt.InputChange(scale=2.0, start=HOURS[60])}),
    "known": bt.Scenario(parameters={"rate": dist.LogNormal(-3.0, 0.01)}, initial={"content": 4.0}),
}


@pytest.fixture(scope="module")
def found(telemetry: Telemetry, posterior: xr.DataTree) -> xr.DataTree:
    return bt.scenario(STORE, posterior, telemetry.between(start=HOURS[36]), SCENARIOS, seed=1, loss="lost")


def test_what_is_changed_is_told_in_its_unit() -> None:
    everything = bt.Scenario(
        inputs={"feed": bt.InputChange(value=0.2, daily=("22:00", "06:00"))},
        parameters={"rate": "/ 2"},
        initial={"content": "+ 1"},
        events={"drained": None},
    )
    assert changes_of(everything, STORE) == [
        "feed 0.2 kW daily from 22:00 to 06:00",
        "rate / 2",
        "content + 1 kWh",
        "drained: removed",
    ]
    others = bt.Scenario(inputs={"feed": 0.0}, parameters={"rate": 0.05}, initial={"content": 20.0})
    assert changes_of(others, STORE) == ["feed 0 kW", "rate 0.05 1/h", "content 20 kWh"]
    shifted = bt.Scenario(inputs={"feed": bt.InputChange(shift=-0.1, scale=2.0)})
    assert changes_of(shifted, STORE) == ["feed × 2 − 0.1 kW"]


def content_after(begin: np.ndarray, rate: np.ndarray, hours: float, feed: float) -> np.ndarray:
    return feed / rate + (begin - feed / rate) * np.exp(-rate * hours)


def test_a_start_in_the_states_of_the_baseline_changes_nothing(found: xr.DataTree) -> None:
    for name, values in found["baseline/predictions"].data_vars.items():
        np.testing.assert_allclose(found["same/predictions"][name], values, rtol=1e-7, atol=1e-7, err_msg=name)


def test_each_draw_is_changed_by_itself_as_the_closed_form_says(found: xr.DataTree, posterior: xr.DataTree) -> None:
    rate = posterior["posterior"]["rate"].to_numpy()
    begin = found["baseline/predictions"]["content_state"].isel(time=0).to_numpy()
    ends = {}
    for name, own, more in (("baseline", rate, 0.5), ("tight", rate / 2.0, 0.5), ("kept", rate, 1.0)):
        start = begin + (1.0 if name == "kept" else 0.0)
        ends[name] = content_after(more * content_after(start, own, 14.0, FEED), own, 21.0, FEED)
        np.testing.assert_allclose(found[f"{name}/predictions"]["last"], ends[name], rtol=1e-5, err_msg=name)
    paired = ends["tight"] - ends["baseline"]
    own = found["comparison"].to_dataset().sel(scenario="tight", quantity="last")
    np.testing.assert_allclose(own["difference"], np.median(paired), rtol=1e-5)
    np.testing.assert_allclose(own["difference_lower"], np.quantile(paired, 0.05), rtol=1e-4)
    np.testing.assert_allclose(own["paired_sd"], paired.std(), rtol=1e-3)
    assert float(own["less"]) == (paired < 0).mean()


def test_paired_differences_agree_with_brute_force(found: xr.DataTree) -> None:
    # each alternative by itself, on draws that the other does not have
    base, tight = (found[f"{name}/predictions"]["lost"].to_numpy() for name in ("baseline", "tight"))
    alone = tight[1].mean() - base[0].mean()
    error = math.hypot(base[0].std() / math.sqrt(effective(base[:1])), tight[1].std() / math.sqrt(effective(tight[1:])))
    paired = found["comparison"].to_dataset().sel(scenario="tight", quantity="lost")
    assert abs((tight - base).mean() - alone) < 3.0 * error
    assert abs(float(paired["difference"]) - alone) < 3.0 * error
    assert float(paired["paired_sd"]) < float(paired["unpaired_sd"])


def test_noise_and_what_was_before_are_the_same_in_all(found: xr.DataTree) -> None:
    base, fed = (found[f"{name}/predictions"].to_dataset() for name in ("baseline", "fed"))
    until = {"time": slice(None, str(HOURS[60]))}
    xr.testing.assert_allclose(base["content"].sel(until), fed["content"].sel(until))
    later = (fed["content"] - fed["content_noise_free"]) - (base["content"] - base["content_noise_free"])
    np.testing.assert_allclose(later, 0.0, atol=1e-9)
    assert (fed["last"] > base["last"] + 0.5).all()
    noise = [found[f"{n}/predictions"]["content"] - found[f"{n}/predictions"]["content_noise_free"] for n in SCENARIOS]
    np.testing.assert_allclose(noise[1], noise[0], atol=1e-9)


def test_values_and_distributions_replace_draws(found: xr.DataTree) -> None:
    own = found["known/predictions"].to_dataset()
    assert (own["content_state"].isel(time=0) == 4.0).all()
    assert own["last"].std() < found["baseline/predictions"]["last"].std()


def test_loss_says_which_is_best(found: xr.DataTree) -> None:
    own = found["comparison"].to_dataset()
    losses = np.stack([found[f"{n}/predictions"]["lost"].to_numpy().ravel() for n in own["scenario"].values])
    np.testing.assert_allclose(own["expected_loss"], losses.mean(axis=1))
    np.testing.assert_allclose(own["regret"], (losses - losses.min(axis=0)).mean(axis=1))
    best = losses == losses.min(axis=0)
    np.testing.assert_allclose(own["best"], (best / best.sum(axis=0)).mean(axis=1))
    assert float(own["best"].sel(scenario="tight")) > 0.5


def test_expectations_are_judged(found: xr.DataTree) -> None:
    own = found["expectations"].to_dataset()
    assert list(own["verdict"].values) == ["met", "met", "missed"]
    assert list(own["scenario"].values) == ["tight"] * 3
    lost = found["tight/predictions"]["lost"].to_numpy()
    assert float(own["value"][2]) == np.mean(lost <= 5.0 / 3.6)


@pytest.mark.thorough
def test_they_survive_a_file(found: xr.DataTree, tmp_path) -> None:
    bt.save(found, tmp_path / "scenarios.nc")
    again = bt.load(tmp_path / "scenarios.nc")
    xr.testing.assert_equal(again["comparison"].to_dataset(), found["comparison"].to_dataset())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P(content < 2 kWh) <= 0.05", ("Min", "<", 2.0, ("<=", 0.05))),
        ("P( content >= 7200 kJ ) > 5%", ("Max", ">=", 2.0, (">", 0.05))),
        ("P(content < 2 kWh for 90 min) <= 0.05", ("LongestWhere", ">=", 1.5, ("<=", 0.05))),
        ("P(lost > 3.6 MJ) <= 0.1", (None, ">", 1.0, ("<=", 0.1))),
        ("lost.q90 <= 2 kWh", (None, "<=", 2.0, (">=", 0.9))),
        ("lost.q10 >= 2 kWh", (None, "<=", 2.0, ("<=", 0.1))),
        ("lost.median > 2", (None, "<=", 2.0, ("<=", 0.5))),
        ("lost.mean < 2 kWh", (None, "<", 2.0, None)),
        ("lost <= 7.2 MJ", (None, "<=", 2.0, None)),
        ("lost < baseline.lost with P >= 90 %", (None, "<", ("baseline", "lost"), (">=", 0.9))),
        ("low_at > 30 min with P >= 0.9", (None, ">", 0.5, (">=", 0.9))),
    ],
)
def test_expectations_are_read_as_people_write_them(text: str, expected: tuple) -> None:
    read, needed = read_expectation(text, STORE)
    kind = type(next(iter(needed.values()))).__name__ if needed else None
    assert (kind, read.sign, pytest.approx(read.right) if isinstance(read.right, float) else read.right) == expected[:3]
    assert read.demand == (None if expected[3] is None else (expected[3][0], pytest.approx(expected[3][1])))


@pytest.mark.parametrize(
    "text",
    ["content < 2", "P(level < 2) <= 0.1", "lost.q90 <= much", "lost.q90 <= 2 degC", "lost < other.gone with P > 0.5"],
)
def test_an_expectation_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(bt.errors.InvalidSetting):
        read_expectation(text, STORE)


@pytest.mark.parametrize(("sign", "side"), [("<", 1.0), (">=", -1.0)])
def test_a_signal_is_beyond_its_limit_on_the_side_of_the_sign(sign: str, side: float) -> None:
    _, needed = read_expectation(f"P(content {sign} 2 kWh for 90 min) <= 0.05", STORE)
    (quantity,) = needed.values()
    gaps = [float(quantity.of(0.0, types.SimpleNamespace(content=content), None, None)) for content in (1.5, 3.0)]
    assert gaps == [0.5 * side, -1.0 * side]


def test_what_lies_within_the_monte_carlo_error_is_undecided() -> None:
    values = np.zeros((4, 100))
    values[:, ::20] = 1.0  # a share of 0.05
    drawn = {"baseline": xr.Dataset({"lost": (("chain", "draw"), values)})}
    verdicts = {}
    for limit in (0.01, 0.05, 0.06, 0.2):
        one = Expectation("", "lost", ">", 0.5, ("<=", limit))
        verdicts[limit] = judge_expectation(one, drawn, "baseline")
    assert [one.verdict for one in verdicts.values()] == ["missed", "undecided", "undecided", "met"]
    assert math.isinf(verdicts[0.05].draws)
    assert 400 < verdicts[0.06].draws < 20_000


def test_the_interval_of_a_probability_holds_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    for share in (0.02, 0.3, 0.9):
        hits = rng.binomial(200, share, 4000) / 200
        inside = np.mean([low <= share <= high for low, high in (wilson(one, 200) for one in hits)])
        assert abs(inside - 0.95) < 0.03


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (bt.Scenario(parameters={"rat": "× 2"}), "`rat`"),
        (bt.Scenario(inputs={"feed": "twice"}), "cannot be read"),
        (bt.Scenario(initial={"level": 1.0}), "`level`"),
        (bt.Scenario(expect=["lost < warm.lost with P > 0.5"]), "`warm`"),
        (bt.Scenario(inputs={"feed": bt.InputChange(daily=("22:00", "6 o'clock"))}), "hours"),
    ],
)
def test_a_scenario_that_does_not_fit_is_refused(scenario: bt.Scenario, words: str, posterior, telemetry) -> None:
    with pytest.raises(bt.errors.InvalidSetting, match=words):
        bt.scenario(STORE, posterior, telemetry.between(start=HOURS[36]), {"odd": scenario}, seed=1, draws=20)


def test_inputs_change_when_they_are_said_to(telemetry: Telemetry, posterior: xr.DataTree) -> None:
    future = telemetry.between(start=HOURS[36])
    changes = {
        "night": bt.InputChange(value=1.0, daily=("22:00", "06:00")),
        "late": bt.InputChange(later="3h", start=HOURS[40]),
        "more": bt.InputChange(scale=2.0, shift=0.5, end=HOURS[40]),
        "given": bt.InputChange(values=np.arange(36.0)),
        "part": bt.InputChange(value=2.0, start=HOURS[40], end=HOURS[43]),
        "less": "- 0.25",
        "third": "/ 4",
    }
    bare = dataclasses.replace(STORE, quantities={})
    found = bt.scenario(
        bare, posterior, future, {n: bt.Scenario(inputs={"feed": c}) for n, c in changes.items()}, seed=1, draws=20
    )
    feed = {name: found[f"{name}/predictions_constant_data"]["feed"].to_series() for name in changes}
    hours = feed["night"].index.hour
    assert (feed["night"] == np.where((hours >= 22) | (hours < 6), 1.0, FEED)).all()
    assert (feed["more"] == np.where(feed["more"].index < HOURS[40], 0.7, FEED)).all()
    assert (feed["given"] == np.arange(36.0)).all()
    assert (feed["late"] == FEED).all()
    part = (feed["part"].index >= HOURS[40]) & (feed["part"].index < HOURS[43])
    assert (feed["part"] == np.where(part, 2.0, FEED)).all()
    np.testing.assert_allclose(feed["less"], FEED - 0.25)
    np.testing.assert_allclose(feed["third"], FEED / 4.0)


@pytest.mark.parametrize("dated", [True, False])
def test_what_happens_later_has_the_first_value_until_then(dated: bool) -> None:
    steps = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    index = HOURS[:6] if dated else pd.Index(np.arange(6.0), name="time")
    column = pd.Series(steps, index=index)
    future = bt.read_telemetry(pd.DataFrame({"feed": column}))
    later, end = ("2h", HOURS[5]) if dated else (2.0, 5.0)
    changed = changed_column(future.table["feed"], bt.InputChange(later=later, scale=10.0, end=end), future, "`feed`")
    assert changed.tolist() == [10.0, 10.0, 10.0, 20.0, 30.0, 6.0]
    between = bt.InputChange(later="90min" if dated else 1.5)
    assert changed_column(future.table["feed"], between, future, "`feed`").tolist() == [1.0, 1.0, 1.0, 2.0, 3.0, 4.0]


def test_events_are_added_and_removed_from_the_first_time_on(telemetry: Telemetry, posterior: xr.DataTree) -> None:
    future = telemetry.between(start=HOURS[36])
    twice = bt.Event(effect=lambda t, x, p, u: {"content": 2.0 * x.content}, at=(60.0,))
    scenarios = {
        "kept": bt.Scenario(events={"drained": None}),
        "filled": bt.Scenario(events={"filled": twice}),
        "swapped": bt.Scenario(events={"drained": twice}),
    }
    found = bt.scenario(STORE, posterior, future, scenarios, seed=1, draws=40)
    base = found["baseline/predictions"].to_dataset()
    begin = base["content_state"].isel(time=0).to_numpy()
    rate = posterior["posterior"]["rate"].sel(draw=base["draw"]).to_numpy()

    def ends(jumps: dict[float, float]) -> np.ndarray:
        content, at = begin, 36.0
        for hour, factor in {**jumps, 71.0: 1.0}.items():
            content, at = factor * content_after(content, rate, hour - at, FEED), hour
        return content

    for name, jumps in (
        ("baseline", {50.0: 0.5}),
        ("kept", {}),
        ("filled", {50.0: 0.5, 60.0: 2.0}),
        ("swapped", {60.0: 2.0}),
    ):
        np.testing.assert_allclose(found[f"{name}/predictions"]["last"], ends(jumps), rtol=1e-5, err_msg=name)


def test_what_leaves_the_calibration_is_told_of_each_scenario(telemetry: Telemetry, posterior: xr.DataTree) -> None:
    scenarios = {
        "flooded": bt.Scenario(inputs={"feed": bt.InputChange(value=5.0, start=HOURS[44])}),
        "full": bt.Scenario(initial={"content": 60.0}),
    }
    bare = dataclasses.replace(STORE, quantities={})
    limits = {"feed": {"high": 4.0, "unit": "kW"}}
    future = telemetry.between(start=HOURS[36], end=HOURS[48])
    future = future.with_table(future.table.assign(feed=0.3))  # as in the calibration
    found = bt.scenario(bare, posterior, future, scenarios, seed=1, draws=40, limits=limits)
    told, shares = found.attrs["beyond"], found["comparison"]["beyond"]
    assert [*told] == ["flooded", "full"]
    assert [sentence.split(" at ")[0] for sentence in told["flooded"] if "range" in sentence] == [
        "`feed` is outside the operating range"
    ]
    assert any(sentence.startswith("`content` is ") for sentence in told["full"])
    assert float(shares.sel(scenario="baseline")) == 0.0
    codes = found["flooded/predictions"].to_dataset()["extrapolation"].sel(extrapolation_of="feed")
    np.testing.assert_array_equal(codes > 0, codes["time"] >= HOURS[44])
    assert float(shares.sel(scenario="flooded")) == pytest.approx(4 / 12)


def test_verdicts_of_values_at_the_limit_itself() -> None:
    values = np.repeat([[1.0, 2.0]], 50, axis=0).T  # half at one, half at two
    drawn = {"baseline": xr.Dataset({"lost": (("chain", "draw"), values)})}
    shares = {"<": 0.0, "<=": 0.5, ">": 0.5, ">=": 1.0}
    for sign, share in shares.items():
        one = Expectation("", "lost", sign, 1.0, ("<=", 0.2))
        assert judge_expectation(one, drawn, "baseline").value == share
    mean = Expectation("", "lost", "<", 1.8, None)
    assert judge_expectation(mean, drawn, "baseline").value == 1.5


def test_a_quantile_is_met_on_its_own_side_only() -> None:
    values = np.random.default_rng(0).permutation(np.linspace(0.0, 1.0, 4000)).reshape(4, 1000)
    drawn = {"baseline": xr.Dataset({"lost": (("chain", "draw"), values)})}
    cases = {"q90 <= 0.95": "met", "q90 <= 0.85": "missed", "q90 >= 0.85": "met", "q90 >= 0.95": "missed"}
    cases |= {"q10 <= 0.15": "met", "q10 <= 0.05": "missed", "median >= 0.45": "met", "median < 0.45": "missed"}
    for text, verdict in cases.items():
        one, _ = read_expectation(f"lost.{text}", STORE)
        assert judge_expectation(one, drawn, "baseline").verdict == verdict, text


# Twins whose future does not follow from parameters and states alone: disturbances go on, and what is added is kept.

FAMILY = {
    "disturbed": {"model_error": bt.ProcessNoise({"content": 0.2})},
    "discrepant": {
        "model_error": bt.Discrepancy(
            scale={"content": dist.HalfNormal(0.3)}, length={"content": dist.LogNormal(2.0, 0.3)}
        )
    },
    "remembering": {
        "observations": {
            "content": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.3), correlation_time=6.0), unit="kWh")
        }
    },
}
RICH = {"later": bt.Scenario(parameters={"rate": "× 2"}), "same": bt.Scenario(parameters={"rate": "× 1"})}


@functools.cache
def with_family(kind: str) -> tuple[bt.Twin, xr.DataTree, Telemetry]:
    """The store with a model error or a memory, its posterior after 36 hours, and all of its telemetry."""
    twin = dataclasses.replace(STORE, events={}, quantities={}, **FAMILY[kind])
    table = pd.DataFrame({"feed": np.where(np.arange(72) < 36, 0.3, FEED)}, index=HOURS)
    rng = np.random.default_rng(3)
    content = 10.0 * np.exp(-RATE * np.arange(72)) + 2.0 + 0.2 * rng.standard_normal(72)
    told = bt.read_telemetry(table.assign(content=content))
    return twin, bt.calibrate(twin, told.between(end=HOURS[36]), seed=0, method="laplace", num_samples=500), told


@pytest.mark.thorough
def test_a_changed_parameter_acts_on_disturbed_states_from_where_they_are() -> None:
    twin, posterior, told = with_family("disturbed")
    found = bt.scenario(twin, posterior, told.between(start=HOURS[36]), RICH, seed=1)
    base, same, later = (found[f"{name}/predictions"].to_dataset() for name in ("baseline", "same", "later"))
    ahead = bt.predict(twin, posterior, told.between(start=HOURS[36]), seed=1)["predictions"].to_dataset()
    # all begin in the states that the unchanged twin has inferred, draw by draw, and have the same disturbances
    for own in (base, same, later):
        np.testing.assert_allclose(own["content_state"][..., 0], ahead["content_state"][..., 0], rtol=1e-9)
    np.testing.assert_allclose(same["content"], base["content"], rtol=1e-6)
    # the baseline is what is predicted without scenarios, up to the disturbances that chance has drawn
    num = base.sizes["chain"] * base.sizes["draw"]
    for hour in (5, 20, 35):
        pair = [one["content_state"][..., hour].to_numpy().ravel() for one in (base, ahead)]
        assert abs(pair[0].mean() - pair[1].mean()) < 4.0 * math.hypot(*(one.std() for one in pair)) / math.sqrt(num)
        assert pair[0].std() == pytest.approx(pair[1].std(), rel=4.0 / math.sqrt(num))
    # each path is the closed form with what the disturbances have added, which the changed rate forgets faster
    rate = posterior["posterior"]["rate"].sel(draw=base["draw"]).to_numpy()
    begin = base["content_state"][..., 0].to_numpy()
    for own, factor in ((base, 1.0), (later, 2.0)):
        apart = own["content_state"][..., 20].to_numpy() - content_after(begin, factor * rate, 20.0, FEED)
        spread = 0.2 * np.sqrt(-np.expm1(-40.0 * factor * rate) / (2.0 * factor * rate))
        assert abs((apart / spread).mean()) < 4.0 / math.sqrt(num)
        assert (apart / spread).std() == pytest.approx(1.0, rel=4.0 / math.sqrt(2.0 * num))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["discrepant", "remembering"])
def test_what_is_added_to_the_equations_stays_as_the_unchanged_twin_has_it(kind: str) -> None:
    twin, posterior, told = with_family(kind)
    found = bt.scenario(twin, posterior, told.between(start=HOURS[36]), RICH, seed=1, draws=100)
    base, same, later = (found[f"{name}/predictions"].to_dataset() for name in ("baseline", "same", "later"))
    for name in base.data_vars:
        np.testing.assert_allclose(same[name], base[name], rtol=1e-6, atol=1e-6, err_msg=str(name))
    rate = posterior["posterior"]["rate"].sel(draw=base["draw"]).to_numpy()
    begin = base["content_state"][..., 0].to_numpy()
    expected = content_after(begin, 2.0 * rate, 20.0, FEED)
    np.testing.assert_allclose(later["content_noise_free"][..., 20], expected, rtol=1e-5)
    added = [one["content"] - one["content_noise_free"] for one in (base, later)]
    np.testing.assert_allclose(added[1], added[0], atol=1e-9)
    assert float(abs(added[0].mean(("chain", "draw"))[0])) > 0.05  # it goes on from what was observed


@pytest.mark.thorough
def test_one_experiment_of_several_has_scenarios_of_its_own(telemetry: Telemetry, posterior: xr.DataTree) -> None:
    twin = dataclasses.replace(
        STORE, parameters={"rate": bt.Parameter(dist.LogNormal(-3.0, 0.5), unit="1/h", shared=False)}, events={}
    )
    told = {"old": telemetry.between(end=HOURS[30]), "new": telemetry.between(end=HOURS[36])}
    several = bt.calibrate(twin, told, seed=0, method="laplace", num_samples=25)
    future, halved = telemetry.between(start=HOURS[36]), {"tight": bt.Scenario(parameters={"rate": "/ 2"})}
    with pytest.raises(bt.errors.InvalidSetting, match="those of one telemetry"):
        bt.scenario(twin, several, {"old": future}, halved, seed=1)
    for name in told:
        own = several.sel(experiment=name)
        found = bt.scenario(twin, own, future, halved, seed=1, initial={"content": 8.0})
        rate = own["posterior"]["rate"].to_numpy()
        for one, factor in (("baseline", 1.0), ("tight", 0.5)):
            last = found[f"{one}/predictions"]["last"]
            np.testing.assert_allclose(last, content_after(8.0, factor * rate, 35.0, FEED), rtol=1e-5)


@pytest.mark.thorough
def test_noise_that_depends_on_what_is_changed_is_still_refused() -> None:
    noise = bt.Autocorrelated("wide", correlation_time=6.0)
    wide = STORE.parameters | {"wide": bt.Parameter(dist.HalfNormal(0.3), unit="kWh")}
    twin, posterior, told = with_family("remembering")
    shared = dataclasses.replace(
        twin, parameters=wide, observations={"content": bt.Observation(noise, unit="kWh")}, quantities={}
    )
    posterior = bt.calibrate(shared, told.between(end=HOURS[36]), seed=0, method="laplace", num_samples=25)
    louder = {"louder": bt.Scenario(parameters={"wide": "× 2"})}
    with pytest.raises(bt.errors.InvalidSetting, match="a changed parameter in the noise that remembers"):
        bt.scenario(shared, posterior, told.between(start=HOURS[36]), louder, seed=1, draws=20)
