"""Shares add up to 1, say where they come from, are stored whole, and what cannot be shared is refused."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from test_shares_closed_form import AHEAD, LEVELS, PAST, drifting, shares_of, telemetry

import bayestwin as bt
from bayestwin.errors import InvalidArtifact, InvalidInput, InvalidSetting
from bayestwin.insight.shares import moments_of
from bayestwin.model.describe import fingerprint


@pytest.fixture(scope="module")
def shares() -> xr.Dataset:
    return shares_of(levels=LEVELS, draws=400)


def test_they_add_up_to_one_and_none_is_negative(shares):
    np.testing.assert_allclose(shares["share"].sum("source"), 1.0, rtol=1e-12)
    assert float(shares["share"].min()) >= 0.0
    np.testing.assert_allclose(shares["variance"] / shares["variance"].sum("source"), shares["share"], rtol=1e-12)


def test_they_know_their_times_and_origin(shares):
    assert shares["share"].dims == ("observation", "time", "source")
    assert list(shares["source"].values) == ["parameters", "initial_state", "inputs", "noise"]
    np.testing.assert_array_equal(shares["time"], AHEAD)
    np.testing.assert_allclose(shares["horizon"], AHEAD - PAST[-1])
    assert shares["horizon"].attrs["units"] == "h"
    assert shares.attrs["twin_sha256"] == fingerprint(drifting())
    assert (shares.attrs["seed"], shares.attrs["input_members"]) == (1, len(LEVELS))


def test_they_are_stored_and_come_back(shares, tmp_path: pathlib.Path):
    tree = xr.DataTree.from_dict({"uncertainty_shares": shares})
    tree.attrs = shares.attrs
    bt.save(tree, tmp_path / "shares.nc")
    xr.testing.assert_identical(bt.load(tmp_path / "shares.nc")["uncertainty_shares"].to_dataset(), shares)


def test_the_same_seed_gives_the_same_bits(shares):
    xr.testing.assert_identical(shares_of(levels=LEVELS, draws=400), shares)


def calibrated() -> xr.DataTree:
    observed = 1.0 + 0.2 * PAST
    return bt.calibrate(
        drifting(), telemetry(PAST, 0.0, level=observed), seed=0, method="laplace", num_samples=50, predictive_draws=8
    )


def test_what_cannot_be_shared_is_refused():
    posterior, future = calibrated(), telemetry(AHEAD, 0.0)
    with pytest.raises(InvalidSetting, match="at least 2 telemetries with the 4 times"):
        bt.uncertainty_shares(drifting(), posterior, future, seed=0, inputs=[future])
    with pytest.raises(InvalidSetting, match="with other times: 1"):
        bt.uncertainty_shares(drifting(), posterior, future, seed=0, inputs=[future, telemetry(AHEAD + 1.0, 0.0)])
    with pytest.raises(InvalidArtifact, match="does not belong"):
        bt.uncertainty_shares(drifting(bt.ProcessNoise({"level": 0.1})), posterior, future, seed=0)
    several = posterior.copy()
    several["observed_data"] = several["observed_data"].to_dataset().assign_coords(experiment="first")
    with pytest.raises(InvalidInput, match="of one telemetry"):
        bt.uncertainty_shares(drifting(), several, future, seed=0)


def test_draws_that_cannot_be_solved_leave_nothing_to_share():
    """One draw in ten is far outside of all numbers: what the others say is about another posterior."""
    posterior = calibrated()
    group = posterior["posterior"].to_dataset()
    lost = group["draw"] % 10 == 0
    posterior["posterior"] = group.assign(rate=group["rate"].where(~lost, 1e308).transpose("chain", "draw"))
    found = bt.uncertainty_shares(drifting(), posterior, telemetry(AHEAD, 0.0), seed=0)
    assert np.isnan(found["share"]).all()
    assert np.isnan(found["share_error"]).all()


@pytest.mark.thorough
@pytest.mark.parametrize("noise", [bt.Rounded(bt.Gaussian(0.5), 0.01), bt.Censored(bt.Gaussian(0.5), upper=1e6)])
def test_noise_without_a_formula_is_sampled(noise):
    value, times = np.linspace(0.0, 3.0, 200), np.arange(200.0)
    mean, variance = moments_of(noise, jnp.asarray(value), jnp.asarray(times), {"scale": 0.5})
    # the variance of 64 normal numbers has a standard deviation of 18 %, of which 200 are averaged
    assert float(variance.mean()) == pytest.approx(0.25, rel=4 * 0.18 / np.sqrt(200))
    assert float((mean - value).mean()) == pytest.approx(0.0, abs=4 * 0.5 / np.sqrt(64 * 200))
