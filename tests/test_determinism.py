"""One seed gives the same bits every time, whatever was computed in between; another seed gives other draws."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray as xr
from twins import decay_telemetry, driven, known_decay, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin._base.process import key_for
from bayestwin.errors import InvalidSetting


def test_the_same_seed_gives_the_same_bits() -> None:
    first = known_decay_posterior()
    # between the two: other random numbers, in NumPy, in JAX, and in another twin
    np.random.default_rng().normal(size=3)
    jax.random.normal(jax.random.key(9), (5,))
    signals = {"time": [0.0, 1.0], "stepped": [1.0, 2.0], "sloped": [0.0, 1.0]}
    values = {"rate": 1.0, "gain": 1.0, "level_initial": 1.0, "level_scale": 1.0}
    bt.simulate(driven(), values, telemetry_of(signals), seed=3)
    again = bt.calibrate(known_decay(), decay_telemetry(), seed=3)
    for name, group in first.children.items():
        xr.testing.assert_identical(group.to_dataset(), again[name].to_dataset())
    assert again.attrs == first.attrs


def test_another_seed_gives_other_draws_everywhere() -> None:
    first, other = known_decay_posterior(), bt.calibrate(known_decay(), decay_telemetry(), seed=4)
    for group in ("posterior", "prior"):
        ours, theirs = first[group]["level_initial"].values, other[group]["level_initial"].values
        assert not np.isin(ours, theirs).any()
    assert not np.isin(first["posterior_predictive/level"], other["posterior_predictive/level"]).any()
    # and no chain is another's copy
    assert len(np.unique(first["posterior/level_initial"].values[:, 0])) == 4


def test_a_forecast_depends_on_its_own_seed() -> None:
    future, posterior = telemetry_of({"time": [5.0, 6.0]}), known_decay_posterior()
    one, same, other = (
        bt.predict(known_decay(), posterior, future, seed=s, draws=20)["predictions"] for s in (1, 1, 2)
    )
    xr.testing.assert_identical(one.to_dataset(), same.to_dataset())
    assert not np.isin(one["level"], other["level"]).any()
    xr.testing.assert_identical(one["level_state"], other["level_state"])


def test_each_use_of_a_seed_has_a_key_of_its_own() -> None:
    uses = ["warmup", "draws", "prior", "prior_predictive", "posterior_predictive", "ladder 0", "ladder 1", "simulate"]
    keys = {tuple(jax.random.key_data(key_for(seed, use)).tolist()) for use in uses for seed in (0, 1, 2**40)}
    assert len(keys) == 3 * len(uses)


def test_keys_are_the_same_in_another_process() -> None:
    program = (
        "import jax; from bayestwin._base.process import key_for; print(*jax.random.key_data(key_for(7, 'draws')))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(word) for word in jax.random.key_data(key_for(7, "draws"))]


@pytest.mark.parametrize("seed", [-1, 1.5, None, "7", True, 2**63])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)`seed`.*Expected: an integer.*Received: "):
        bt.calibrate(known_decay(), decay_telemetry(), seed=seed)
    with pytest.raises(InvalidSetting, match="`seed`"):
        bt.simulate(known_decay(), {"level_initial": 1.0}, decay_telemetry(), seed=seed)
