"""The verdict says how far intervals can be trusted: good ones are not doubted, and each kind of bad ones is named."""

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import xarray as xr

from bayestwin.assess import Gate
from bayestwin.assess.coverage import binomial_band
from bayestwin.assess.evidence import Evidence, compared, together
from bayestwin.assess.trust import BacktestTrial, Trust, trust

PROBS = (0.5, 0.9)
PASSED = (Gate("rhat", True, 1.0, 1.01, "4 of 4 chains agree."),)


def covered(inside: Mapping[str, tuple[int, ...]], num: int, distinct: int | None = None) -> xr.Dataset:
    """Coverage of the 50 % and the 90 % interval: how many of `num` lie inside, by observation."""
    counts = xr.DataArray(
        np.array(list(inside.values())), {"observation": list(inside), "prob": list(PROBS)}, ("observation", "prob")
    )
    nums = xr.full_like(counts, num)
    different = xr.full_like(counts, num if distinct is None else distinct)
    lower, upper = binomial_band(different, counts["prob"].broadcast_like(counts).transpose(*counts.dims), 0.95)
    share = counts / nums.where(nums > 0)
    return xr.Dataset(
        {
            "coverage": share,
            "num": nums,
            "num_inside": counts,
            "num_distinct": different,
            "expected": counts["prob"].broadcast_like(counts).transpose(*counts.dims),
            "band_lower": lower,
            "band_upper": upper,
            "within_band": (share >= lower) & (share <= upper),
            "num_effective": different.astype(float),
            "told": different.astype(float),
            "freedom": xr.full_like(counts, 10_000.0, dtype=float),
        },
        attrs={"level": 0.95, "kind": "equal-tailed interval"},
    )


def by_horizon(inside: tuple[int, ...], num: int) -> xr.Dataset:
    """Coverage of the 90 % interval of `indoor` in bins of an hour each, half of `num` inside the 50 % one."""
    parts = [covered({"indoor": (num // 2, count)}, num) for count in inside]
    edges = 3600.0 * np.arange(len(inside) + 1)
    labels = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    found = xr.concat(parts, "horizon").assign_coords(horizon=labels)
    return found.assign_coords(horizon_from=("horizon", edges[:-1]), horizon_to=("horizon", edges[1:]))


NO_TRIAL = BacktestTrial(None, 0)


def judge(held_out: Evidence, trial: BacktestTrial = NO_TRIAL, **others: object) -> Trust:
    parts = {"held out": held_out} | ({} if trial.evidence is None else {"backtest": trial.evidence})
    joint = together(parts, compared(parts, 0.9))
    trial = trial._replace(evidence=joint.get("backtest"))
    return trust(others.pop("gates", PASSED), joint["held out"], trial, prob=0.9, time_unit="s", **others)


GOOD = Evidence(covered({"indoor": (100, 180)}, 200), {})


def test_good_intervals_are_trusted_as_far_as_was_checked() -> None:
    found = judge(GOOD)
    assert found.status == "pass"
    assert "180 of 200" in found.headline
    assert found.limits == ()
    assert "180 of 200 held-out observations inside the 90 % interval".replace(" %", "\u202f%") in found.holds[0]


def test_too_narrow_ones_must_not_be_trusted() -> None:
    found = judge(Evidence(covered({"indoor": (60, 130), "outdoor": (100, 180)}, 200), {}))
    assert found.status == "fail"
    assert found.headline.startswith("Do not trust these intervals")
    assert "indoor held only 65.0\u202f% of what was held out" in found.headline
    assert any("indoor are too narrow" in line for line in found.limits)
    assert not any("outdoor" in line for line in found.limits)


def test_too_wide_ones_are_safe_and_said_to_be_wide() -> None:
    found = judge(Evidence(covered({"indoor": (160, 200)}, 200), {}))
    assert found.status == "warn"
    assert "wider than need be" in found.headline


def test_a_promise_kept_on_average_and_broken_far_ahead_names_the_horizon() -> None:
    whole = covered({"indoor": (200, 360)}, 400)
    found = judge(Evidence(whole, {"horizon": by_horizon((98, 97, 90, 75), 100)}))
    assert found.status == "warn"
    assert "beyond 3 h ahead" in found.headline
    assert "not everywhere" in found.headline


def test_horizons_that_are_bad_near_by_alone_are_named_as_they_are() -> None:
    whole = covered({"indoor": (200, 360)}, 400)
    found = judge(Evidence(whole, {"horizon": by_horizon((75, 97, 97, 91), 100)}))
    assert any("at horizons of 0 to 1 h" in line for line in found.limits)


def test_a_regime_in_which_intervals_are_too_narrow_is_named() -> None:
    parts = [covered({"indoor": (50, count)}, 100) for count in (99, 75)]
    regime = xr.concat(parts, "heating").assign_coords(heating=[0.0, 2000.0])
    regime["heating"].attrs["units"] = "W"
    regime.attrs["level"] = 0.95
    found = judge(Evidence(GOOD.whole, {"heating": regime}))
    assert any("too narrow where heating is 2,000 W" in line for line in found.limits)


@pytest.mark.parametrize("inside", [(4, 8), (3, 6)])
def test_of_eight_observations_little_can_be_told(inside: tuple[int, int]) -> None:
    found = judge(Evidence(covered({"hare": inside}, 8), {}))
    assert found.status == "warn"
    assert found.headline.startswith("Little can be told")
    assert "8 held-out observations of hare are too few" in found.headline
    assert found.holds == ()
    assert any("too few to tell" in line for line in found.limits)


def test_few_that_were_held_out_are_no_excuse_for_a_backtest_that_failed() -> None:
    few = Evidence(covered({"hare": (4, 7)}, 8), {})
    found = judge(few, BacktestTrial(Evidence(covered({"hare": (20, 50)}, 100), {}), 8))
    assert found.status == "fail"
    assert "50.0\u202f% in the backtest" in found.headline


def test_a_backtest_that_misses_twice_as_often_as_promised_fails_whatever_was_held_out() -> None:
    found = judge(GOOD, BacktestTrial(Evidence(covered({"indoor": (50, 70)}, 100), {}), 8))
    assert found.status == "fail"
    assert "indoor held only 70.0\u202f% in the backtest" in found.headline
    assert any("70 of 100 forecasts of the backtest" in line and "at least twice" in line for line in found.limits)


def test_a_backtest_that_misses_less_often_than_that_is_a_reservation() -> None:
    found = judge(GOOD, BacktestTrial(Evidence(covered({"indoor": (200, 330)}, 400), {}), 8))
    assert found.status == "warn"
    assert "not in the backtest: the 90\u202f% interval of indoor held only 82.5\u202f%" in found.headline


def test_the_headline_names_the_worst_of_both_first_and_all_that_it_concerns() -> None:
    held_out = Evidence(covered({"upper": (100, 150), "lower": (100, 180)}, 200), {})
    backtest = Evidence(covered({"upper": (100, 121), "lower": (100, 116)}, 200), {})
    headline = judge(held_out, BacktestTrial(backtest, 8)).headline.replace("\u202f", " ")
    assert headline == (
        "Do not trust these intervals: the 90 % interval of lower held only 58.0 % in the backtest, that of upper held "
        "only 60.5 % in the backtest, that of upper held only 75.0 % of what was held out."
    )


def test_repeated_forecasts_of_an_observation_do_not_make_a_backtest_tell_more() -> None:
    few = Evidence(covered({"hare": (4, 8)}, 8), {})
    again = BacktestTrial(Evidence(covered({"hare": (50, 90)}, 100, distinct=10), {}), 10)
    assert judge(few, again).headline.startswith("Little can be told")
    assert not judge(few, again._replace(evidence=Evidence(covered({"hare": (50, 90)}, 100), {}))).headline.startswith(
        "Little can be told"
    )


def test_origins_that_failed_are_told_with_the_reason() -> None:
    failures = ("SolverFailure: it blew up",) * 2
    trial = BacktestTrial(Evidence(covered({"indoor": (50, 90)}, 100), {}), 8, failures, 1, gates=("rhat",))
    found = judge(GOOD, trial)
    assert found.status == "warn"
    assert any("2 of 8 origins" in line and "it blew up" in line for line in found.limits)
    assert any("At 1 of 8 origins" in line and "(rhat)" in line and "num_samples" in line for line in found.limits)
    assert any("Backtest: 6 origins" in line for line in found.basis)


def test_a_backtest_without_any_forecast_is_told() -> None:
    found = judge(GOOD, BacktestTrial(None, 2, ("OutOfMemory: too much",) * 2))
    assert found.status == "warn"
    assert any("2 of 2 origins" in line for line in found.limits)


@pytest.mark.parametrize(
    "more",
    [
        {"gates": (Gate("rhat", False, 1.5, 1.01, "Chains disagree."),)},
        {"interrupted": True},
    ],
)
def test_a_posterior_that_is_not_to_be_relied_on_gives_no_intervals_that_are(more: dict) -> None:
    found = judge(GOOD, **more)
    assert found.status == "fail"
    assert found.headline.startswith("Do not trust these intervals")


def test_what_was_never_observed_does_not_pass() -> None:
    found = judge(Evidence(covered({"indoor": (0, 0)}, 0), {}))
    assert found.status == "warn"
    assert found.holds == ()
    assert "indoor was never observed in what was held out." in found.limits


def test_an_interval_that_holds_does_not_hide_that_others_do_not() -> None:
    found = judge(Evidence(covered({"indoor": (60, 180)}, 200), {}))
    assert found.status == "warn"
    assert any("30\u202f% inside that of 50\u202f%" in line for line in found.limits)
