"""What a fleet shows together: what each asset's own data say, who lies far from the population, and all counts."""

import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import xarray as xr
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin.assess import Gate, pit
from bayestwin.assess.evidence import Regime, gather, ranks
from bayestwin.assess.population import PopulationFound, of_all, populations, scores_of_all, surprise, verdicts

NAMES = [f"asset {number}" for number in range(8)]
SAID = np.log([0.9, 1.0, 1.1, 1.2, 1.3, 0.8, 1.05, 1.15])
"""What the data of each say of the logarithm of the rate."""


def twin() -> bt.Twin:
    return decay(parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", pooled=dist.HalfNormal(0.4))})


def planted(said: np.ndarray, sd: np.ndarray, spread: float = 0.2, seed: int = 0) -> xr.DataTree:
    """Draws of a population, and of assets about which data say `Normal(said, sd)`, given that: the definition."""
    rng = np.random.default_rng(seed)
    shape = (4, 5_000)
    middle = said.mean() + 0.3 * spread * rng.normal(size=shape)
    spreads = spread * np.exp(0.25 * rng.normal(size=shape))
    share = spreads[..., None] ** 2 / (spreads[..., None] ** 2 + sd**2)
    own = share * said + (1 - share) * middle[..., None] + np.sqrt(share) * sd * rng.normal(size=(*shape, len(said)))
    dims = ("chain", "draw")
    group = xr.Dataset(
        {
            "rate_typical": (dims, np.exp(middle)),
            "rate_spread": (dims, spreads),
            "rate": ((*dims, "experiment"), np.exp(own)),
        },
        coords={"experiment": NAMES[: len(said)]},
    )
    return xr.DataTree.from_dict({"posterior": group})


def test_a_spread_that_may_be_immense_makes_a_variation_that_is_a_number() -> None:
    """By a normal approximation in its logarithm it may be, and what is too large for a number warned on the way."""
    one = found(SAID, np.full(8, 0.05), spread=30.0)
    assert one.variation is not None
    assert 1e15 < one.variation[0] < np.inf
    assert one.variation[1] <= one.variation[2] < np.inf


def found(said: np.ndarray, sd: np.ndarray, **settings: float) -> PopulationFound:
    (one,) = populations(twin(), planted(said, sd, **settings))
    return one


def test_what_own_data_say_is_had_back_however_far_assets_are_drawn_to_the_population() -> None:
    sd = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.2, 0.1])
    one = found(SAID, sd)
    for member, said, wide in zip(one.members, SAID, sd, strict=True):
        # the error of a mean of 20,000 draws, and how far dividing the population out stretches it
        error = 4.0 * (1.0 + wide**2 / 0.2**2) * wide / np.sqrt(20_000)
        assert np.log(member.alone) == pytest.approx(said, abs=error)
        assert np.log(member.alone_upper / member.alone_lower) / 3.29 == pytest.approx(wide, rel=0.06)
    assert one.members[5].mean > 0.9 > one.members[5].alone  # drawn from 0.8 towards 1.05


def test_of_an_asset_without_data_nothing_is_told_alone() -> None:
    sd = np.where(np.arange(8) == 3, 50.0, 0.1)
    one = found(SAID, sd)
    assert np.isnan([one.members[3].alone, one.members[3].surprise]).all()
    assert np.isfinite([member.alone for place, member in enumerate(one.members) if place != 3]).all()


def test_an_outlier_is_named_and_nobody_else_is() -> None:
    said = SAID.copy()
    said[2] = np.log(2.4)
    # the outlier has widened the population that it is held against
    one = found(said, np.full(8, 0.05), spread=0.35)
    assert [member.name for member in one.members if member.outlier] == ["asset 2"]
    assert not any(member.outlier for member in found(SAID, np.full(8, 0.05)).members)


def test_a_fleet_without_outliers_has_none_in_95_of_100() -> None:
    rng = np.random.default_rng(3)
    tried = np.geomspace(1e-3, 1e2, 121)
    prior = scipy.stats.halfnorm.logpdf(tried, scale=1.0) + np.log(tried)
    far, alarms, fleets = [], 0, 600
    for _ in range(fleets):
        spread, variance = abs(rng.normal()), 0.3 * rng.uniform(0.2, 3.0, 6)
        own = 2.0 + spread * rng.normal(size=6) + np.sqrt(variance) * rng.normal(size=6)
        rest = [np.delete(np.stack([own, variance]), place, axis=1) for place in range(6)]
        each = [surprise(own[k], variance[k], *rest[k], tried, prior) for k in range(6)]
        far.append(each[0])
        alarms += min(each) < 1 - 0.95 ** (1 / 6)
    assert scipy.stats.kstest(far, "uniform").pvalue > 1e-3
    assert scipy.stats.binomtest(alarms, fleets, 0.05).pvalue > 1e-3


def test_the_population_is_told_in_the_words_of_its_scale() -> None:
    one = found(SAID, np.full(8, 0.1))
    assert one.spread[1] < 0.2 < one.spread[2]
    assert one.variation[0] == pytest.approx(np.sqrt(np.expm1(one.spread[0] ** 2)), rel=0.05)
    tight, loose = found(SAID, np.full(8, 0.02)), found(SAID, np.full(8, 0.6))
    # of eight the spread is known to a third: even what each asset's data decide lies nearer than its mean says
    assert tight.shrinkage < 0.35 < 0.6 < loose.shrinkage


def forecast_of(num: int = 3) -> tuple[xr.DataTree, dict[str, bt.Telemetry], np.ndarray]:
    """Draws of a level of some assets, what was observed of each, and the draws (sample, asset, time) alone."""
    rng = np.random.default_rng(1)
    names = NAMES[:num]
    record = {name: telemetry_of({"time": np.arange(6.0), "level": rng.normal(size=6)}) for name in names}
    paths = rng.normal(size=(2, 50, num, 6))
    dims = ("chain", "draw", "experiment", "time")
    about = {"t0": dict.fromkeys(names, "0.0"), "time_unit": "h"}
    group = xr.Dataset(
        {name: (dims, paths, {"units": "m"}) for name in ("level", "level_noise_free")},
        coords={"time": np.arange(6.0), "experiment": ("experiment", names, about)},
    )
    past = xr.Dataset({"level": (("experiment", "time"), np.ones((num, 1)))}, {"experiment": names, "time": [-1.0]})
    tree = xr.DataTree.from_dict({"predictions": group, "observed_data": past})
    tree.attrs = {"time_unit": "h"}
    return tree, record, paths.reshape(100, num, 6)


def test_counts_and_scores_of_all_are_those_of_every_observation() -> None:
    tree, record, paths = forecast_of()
    covered, scored = bt.coverage(tree, record), bt.scores(tree, record)
    whole, scores = of_all(covered), scores_of_all(scored)
    values = np.stack([one.table["level"] for one in record.values()])
    lower, upper = np.quantile(paths, (0.05, 0.95), axis=0)
    inside = int(((lower <= values) & (values <= upper)).sum())
    at = whole.sel(observation="level", prob=0.9)
    assert (int(at["num_inside"]), int(at["num"])) == (inside, 18)
    assert float(at["joint_lower"]) > float(covered["joint_lower"].sel(prob=0.9, observation="level").max())
    errors = paths.mean(axis=0) - values
    assert scores["rmse"].item() == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert scores["num"].item() == 18


@pytest.mark.thorough
def test_ranks_and_evidence_of_a_fleet_are_of_every_observation() -> None:
    tree, record, paths = forecast_of(8)
    found = ranks(tree, record, seed=0)
    values = np.stack([one.table["level"] for one in record.values()])
    below = (paths < values).mean(axis=0).ravel()
    for z in (0.2, 0.5, 0.8):
        at = float(found["ecdf"].sel(observation="level").interp(z=z))
        assert abs(at - (below <= z).mean()) < 2 / 48
    assert (int(found["num"][0]), int(found["num_distinct"][0])) == (48, 48)
    width = (found["band_upper"] - found["band_lower"]).sel(observation="level").max()
    assert float(width) < float(pit(tree, record, seed=0)["band_upper"].max() - 0.0)
    told = gather(tree, record, (0.5, 0.9), {"horizon": Regime("horizon", (0.0, 3.5, 7.0))})
    assert told.whole["num"].sel(observation="level", prob=0.9).item() == 48
    assert told.by["horizon"]["num"].sel(observation="level", prob=0.9).to_numpy().tolist() == [24, 24]
    by = told.by["asset"].sel(observation="level", prob=0.9)
    each = bt.coverage(tree, record, (0.5, 0.9)).sel(observation="level", prob=0.9)
    assert list(by["asset"].to_numpy()) == NAMES
    assert by["num_inside"].to_numpy().tolist() == each["num_inside"].to_numpy().tolist()


def test_the_verdict_on_an_asset_says_what_did_not_pass() -> None:
    said = SAID.copy()
    said[2] = np.log(2.4)
    tree = planted(said, np.full(8, 0.05), spread=0.35)
    tree["posterior"]["rate"][0, :, 5] *= 1.2
    gates = (Gate("rhat", False, 1.5, 1.01, "", "fail"), Gate("ess_bulk", True, 400.0, 400.0, "", "fail"))
    told = verdicts(tree, populations(twin(), tree), None, gates)
    assert [one.name for one in told if one.status == "fail"] == ["asset 5"]
    assert [one.name for one in told if one.status == "warn"] == ["asset 2"]
    assert "Chains do not agree on `rate`" in told[5].reasons[0]
    assert "`rate` is far from the population of the others" in told[2].reasons[0]
    assert [one.reasons for one in told if one.status == "pass"] == [()] * 6
