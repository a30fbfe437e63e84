"""Interval ends are what their kind says: quantiles of the draws, or the narrowest interval with `prob`."""

import numpy as np
import pytest

from bayestwin.assess import intervals
from bayestwin.errors import InvalidInput, InvalidSetting

TIME = np.array([0.0, 0.5, 3.0])
PROB = (0.9, 0.5)


@pytest.fixture
def draws():
    """Skewed draws of two observations, shape (2 chains, 150 draws, 3 times)."""
    rng = np.random.default_rng(1)
    return {"indoor": rng.gamma(2.0, 3.0, (2, 150, 3)), "flow": rng.normal(5.0, 1.0, (2, 150, 3))}


def test_equal_tailed_ends_are_quantiles_of_all_chains_together(make_forecast, draws):
    found = intervals(make_forecast(draws, TIME), PROB)
    for name, values in draws.items():
        for step, time in enumerate(TIME):
            here = found.sel(observation=name, time=time)
            all_draws = np.concatenate([values[0, :, step], values[1, :, step]])
            assert here["median"] == pytest.approx(np.median(all_draws), rel=1e-12)
            for prob in PROB:
                ends = np.quantile(all_draws, [(1 - prob) / 2, (1 + prob) / 2])
                assert here["lower"].sel(prob=prob) == pytest.approx(ends[0], rel=1e-12)
                assert here["upper"].sel(prob=prob) == pytest.approx(ends[1], rel=1e-12)


def test_highest_density_ends_are_the_narrowest_pair_of_draws(make_forecast, draws):
    found = intervals(make_forecast(draws, TIME), 0.8, kind="hdi").sel(observation="indoor", prob=0.8)
    for step in range(len(TIME)):
        ordered = np.sort(draws["indoor"][..., step].ravel())
        apart = int(0.8 * len(ordered))
        widths = [ordered[i + apart] - ordered[i] for i in range(len(ordered) - apart)]
        best = int(np.argmin(widths))
        assert found["lower"][step] == ordered[best]
        assert found["upper"][step] == ordered[best + apart]


def test_shape_and_labels(make_forecast, draws):
    found = intervals(make_forecast(draws, TIME), PROB, kind="hdi")
    assert found["median"].dims == ("observation", "time")
    assert found["lower"].dims == found["upper"].dims == ("observation", "prob", "time")
    assert list(found["observation"].values) == ["indoor", "flow"]
    assert list(found["prob"].values) == list(PROB)
    np.testing.assert_array_equal(found["time"], TIME)
    assert list(found["units"].values) == ["degC", "degC"]
    assert found.attrs == {"kind": "highest-density interval", "of": "observation", "group": "predictions"}


def test_noise_free_intervals_come_from_the_noise_free_draws(make_forecast, draws):
    noise_free = {name: values / 10 for name, values in draws.items()}
    tree = make_forecast(draws, TIME, noise_free=noise_free)
    noisy, free = intervals(tree), intervals(tree, of="noise_free")
    for end in ("median", "lower", "upper"):
        np.testing.assert_allclose(free[end], noisy[end] / 10, rtol=1e-12)


def test_a_posterior_gives_the_intervals_of_its_posterior_predictive(make_forecast, draws):
    found = intervals(make_forecast(draws, TIME, group="posterior_predictive"))
    assert found.attrs["group"] == "posterior_predictive"
    np.testing.assert_array_equal(found["lower"], intervals(make_forecast(draws, TIME))["lower"])


@pytest.mark.parametrize("kind", ["eti", "hdi"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_at_a_time_with_draws_that_are_not_finite_the_interval_is_that_of_the_others(make_forecast, draws, kind, bad):
    whole = intervals(make_forecast(draws, TIME), kind=kind)
    assert "failed" not in whole
    draws["indoor"][1, 7:17, 2] = bad
    others = {"indoor": np.delete(draws["indoor"].reshape(1, 300, 3), slice(157, 167), axis=1)[..., 2:]}
    found = intervals(make_forecast(draws, TIME), kind=kind)
    expected = intervals(make_forecast(others, TIME[2:]), kind=kind)
    np.testing.assert_allclose(found["failed"], [[0.0, 0.0, 10 / 300], [0.0] * 3])
    for end in ("median", "lower", "upper"):
        np.testing.assert_allclose(found[end].sel(observation="indoor")[..., 2:], expected[end].squeeze("observation"))
        np.testing.assert_array_equal(found[end][..., :2], whole[end][..., :2])
        np.testing.assert_array_equal(found[end].sel(observation="flow"), whole[end].sel(observation="flow"))


@pytest.mark.parametrize("kind", ["eti", "hdi"])
def test_a_time_without_any_draw_has_no_interval(make_forecast, draws, kind):
    draws["indoor"][..., 1] = np.nan
    found = intervals(make_forecast(draws, TIME), kind=kind).sel(observation="indoor")
    for end in ("median", "lower", "upper"):
        np.testing.assert_array_equal(
            np.isnan(found[end]).transpose("time", ...).values.any(axis=-1)
            if end != "median"
            else np.isnan(found[end]),
            [False, True, False],
        )
    assert list(found["failed"]) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("prob", [0, 1, 1.5, 90, np.nan, (0.5, -0.1), (0.5, 0.5), ()])
def test_prob_that_is_no_probability_is_refused(make_forecast, draws, prob):
    with pytest.raises(InvalidSetting, match="`prob`"):
        intervals(make_forecast(draws, TIME), prob)


@pytest.mark.parametrize("setting", [{"kind": "quantile"}, {"of": "state"}])
def test_a_setting_without_meaning_is_refused_with_the_choices(make_forecast, draws, setting):
    with pytest.raises(InvalidSetting, match=r'"(eti|observation)": .*\n  Received: '):
        intervals(make_forecast(draws, TIME), **setting)


def test_a_tree_without_predictive_draws_is_refused_with_what_it_has(make_forecast, draws):
    with pytest.raises(InvalidInput, match="Received: other"):
        intervals(make_forecast(draws, TIME, group="other"))
    empty = make_forecast({name: values[:, :0] for name, values in draws.items()}, TIME)
    with pytest.raises(InvalidInput, match="holds no draws"):
        intervals(empty)
    states_only = make_forecast(draws, TIME)
    states_only["predictions"] = states_only["predictions"].to_dataset()[["water_state"]]
    with pytest.raises(InvalidInput, match="Received: water_state"):
        intervals(states_only)
