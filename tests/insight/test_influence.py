"""What an observation does is what leaving it out does: exactly for a normal posterior, and against calibrations."""

import arviz as az
import numpy as np
import pytest
import xarray as xr
from exact import FACTOR, NOISE, OBSERVED, TIMES, normal, posterior
from scipy import stats
from twins import decay, decay_telemetry, known_decay, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidArtifact

ALL_BUT = [np.where(np.arange(len(TIMES)) == i, 0.0, 1.0) for i in range(len(TIMES))]


def by_time(found: xr.Dataset) -> xr.Dataset:
    return found.sortby("time").isel(quantity=0)


def test_without_an_observation_a_normal_posterior_is_where_it_must_be() -> None:
    (mean, sd), without = normal(), [normal(keep=keep) for keep in ALL_BUT]
    shift = np.array([(m - mean) / sd for m, _ in without])
    ratio = np.array([s / sd for _, s in without])
    elpd = [
        stats.norm.logpdf(y, c * m, np.hypot(NOISE, c * s))
        for y, c, (m, s) in zip(OBSERVED, FACTOR, without, strict=True)
    ]
    runs = [by_time(bt.influence(posterior(seed))) for seed in range(12)]
    for name, truth in (("mean_shift", shift), ("sd_ratio", ratio), ("elpd", elpd)):
        found = np.stack([run[name].to_numpy() for run in runs])
        error = found.std(axis=0, ddof=1) / np.sqrt(len(runs))
        # Student's t of 11 degrees of freedom, 12 observations; PSIS itself is off by less than a thousandth
        assert (np.abs(found.mean(axis=0) - truth) < 6.0 * error + 1e-3).all(), name
    scores = np.stack([(run["mean_shift"].to_numpy() - shift) / run["mean_shift_mcse"].to_numpy() for run in runs])
    assert 0.7 < scores.std() < 1.4  # the error that it states is the error that it has
    first = bt.influence(posterior(0)).isel(point=0)
    assert first["time"] == TIMES[np.abs(shift).argmax()]
    assert first["value"] == OBSERVED[np.abs(shift).argmax()]
    assert first["units"] == "m"


def test_densities_and_pareto_k_are_those_of_arviz() -> None:
    tree = posterior(1)
    found = by_time(bt.influence(tree))
    with pytest.warns(UserWarning, match="Pareto"):  # of the first observation, which holds the start
        theirs = az.loo(tree, pointwise=True, var_name="level")
    np.testing.assert_allclose(found["elpd"], theirs.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(found["pareto_k"], theirs.pareto_k, rtol=1e-10)
    assert found.attrs["max_pareto_k"] < theirs.good_k


def test_one_whose_effect_cannot_be_told_comes_first_and_is_not_reliable() -> None:
    tree = posterior(2)
    tree["log_likelihood"]["level"][1, 5, 7] = -np.inf
    found = bt.influence(tree)
    first = found.isel(point=0)
    assert first["time"] == TIMES[7]
    assert np.isnan(first["largest"])
    assert not first["reliable"]
    assert (found["largest"][1:].diff("point") <= 0.0).all()


def test_signals_that_are_missing_at_different_times_each_have_theirs() -> None:
    tree, gone = posterior(0), np.arange(len(TIMES)) % 3 == 0
    level = tree["log_likelihood"]["level"]
    upper = level.isel(time=~gone).rename(time="time_upper").reset_coords(drop=True)
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    groups["log_likelihood"] = xr.Dataset(
        {
            "level": level.rename(time="time_level"),
            "upper": upper.assign_coords(time_upper=TIMES[~gone]),
            "broken": (("chain", "draw", "time_broken"), np.empty((*level.shape[:2], 0))),
        },
        coords={"time_broken": np.empty(0)},
    )
    seen = {"upper": ("time", np.where(gone, np.nan, OBSERVED + 1.0)), "broken": ("time", np.full(len(TIMES), np.nan))}
    groups["observed_data"] = groups["observed_data"].assign(seen)
    both = xr.DataTree.from_dict(groups)
    both.attrs = tree.attrs
    found = bt.influence(both)
    assert found.sizes["point"] == len(TIMES) + (~gone).sum()
    for name, times, values in (("level", TIMES, OBSERVED), ("upper", TIMES[~gone], OBSERVED[~gone] + 1.0)):
        own = found.isel(point=np.flatnonzero(found["observation"] == name)).sortby("time")
        np.testing.assert_array_equal(own["time"], times)
        np.testing.assert_array_equal(own["value"], values)
    assert "`bt.backtest` does" in found.attrs["meaning"]


def test_noise_with_a_memory_is_told_apart() -> None:
    tree = posterior(0)
    assert "warning" not in bt.influence(tree).attrs
    tree.attrs["description"]["observations"][0]["noise"] = "Autocorrelated(scale = 1, correlation_time = 2)"
    assert "given the ones before it" in bt.influence(tree).attrs["warning"]


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(InvalidArtifact, match="too few draws"):
        bt.influence(posterior(0).isel(draw=slice(10)))
    tree = posterior(0)
    del tree["log_likelihood"]
    with pytest.raises(InvalidArtifact, match="no log likelihoods"):
        bt.influence(tree)


def test_it_is_stored(tmp_path) -> None:
    tree = xr.DataTree.from_dict(
        {"influence": bt.influence(posterior(0)), "power_scaling": bt.power_scaling(known_decay(), posterior(0))}
    )
    bt.save(tree, tmp_path / "influence.nc")
    found = bt.load(tmp_path / "influence.nc")
    assert all(found[name].to_dataset().identical(tree[name].to_dataset()) for name in tree.children)


@pytest.mark.slow
def test_calibrations_without_an_observation_agree_where_it_is_reliable() -> None:
    """Of a decay with unknown rate, start and noise; the first observation, which holds the start, is flagged."""
    telemetry = decay_telemetry()
    times, level = telemetry.table.index.to_numpy(), telemetry.table["level"].to_numpy()
    whole = bt.calibrate(decay(), telemetry, seed=0)
    found = bt.influence(whole)
    reliable = found.isel(point=np.flatnonzero(found["reliable"]))
    assert found["time"][0] == 0.0
    assert not found["reliable"][0]
    for own in (found.isel(point=0), reliable.isel(point=0), reliable.isel(point=-1)):
        left = telemetry_of({"time": times, "level": np.where(times == own["time"].item(), np.nan, level)})
        without = bt.calibrate(decay(), left, seed=1)["posterior"].to_dataset()
        for name in found["quantity"].to_numpy():
            one, other = whole["posterior"][name], without[name]
            worth = [float(az.ess(values, method="mean")) for values in (one, other)]
            shift = float(other.mean() - one.mean()) / float(one.std())
            ratio, said = float(other.std() / one.std()), own.sel(quantity=name)
            error = np.sqrt(1.0 / worth[0] + ratio**2 / worth[1] + float(said["mean_shift_mcse"]) ** 2)
            if own["reliable"]:
                assert abs(shift - float(said["mean_shift"])) < 4.0 * error, name
            elif name == "level_initial":
                assert shift > float(said["mean_shift"]) > 0.5
