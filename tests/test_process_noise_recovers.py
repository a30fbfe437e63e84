"""With process noise, intervals hold what they promise: for the truth, and for what a wrong model leaves out."""

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats
from twins import decay, driven, telemetry_of

import bayestwin as bt
from bayestwin.seeds import key_for

SETS, PROB = 50, 0.9


@pytest.mark.slow
def test_truths_drawn_from_the_prior_lie_in_their_intervals() -> None:
    error = bt.ProcessNoise({"level": dist.LogNormal(-0.7, 0.5)}, initial_scale={"level": 1.0})
    noise = bt.Gaussian(dist.LogNormal(-1.5, 0.5))
    twin = decay(states={"level": bt.State(5.0)}, observations={"level": bt.Observation(noise)}, model_error=error)
    empty = telemetry_of({"time": np.linspace(0.0, 15.0, 61)})
    inside = {site.name: 0 for site in twin.sites()}
    for seed in range(SETS):
        keys = jax.random.split(key_for(seed, "truth"), len(inside))
        truth = {s.name: float(s.prior.sample(k)) for s, k in zip(twin.sites(), keys, strict=True)}
        made = bt.simulate(twin, truth, empty, seed=seed)["level"].to_series().reset_index()
        found = bt.calibrate(twin, bt.read_telemetry(made), seed=seed, num_chains=2, num_samples=250, num_warmup=100)
        ends = found["posterior"].to_dataset().quantile([0.5 - PROB / 2, 0.5 + PROB / 2], ("chain", "draw"))
        for name, value in truth.items():
            low, high = ends[name].values
            inside[name] += int(low <= value <= high)
    low, high = stats.binom.ppf([0.0005, 0.9995], SETS, PROB)
    assert all(low <= count <= high for count in inside.values()), inside


@pytest.mark.slow
@pytest.mark.parametrize("word", ["auto", "extended"])
def test_a_model_that_leaves_out_a_driver_covers_again_with_process_noise(word: str) -> None:
    """The noise is known, as from a data sheet: where it is inferred, it takes up what the model leaves out."""
    twin = driven(observations={"level": bt.Observation(bt.Gaussian(0.1))})
    rng = np.random.default_rng(6)
    times = np.arange(400) * 0.25
    hidden = np.cumsum(rng.random(400) < 0.1) % 2 * 1.5  # someone is in the room, or not
    columns = {"time": times, "stepped": np.sin(times) > 0.0, "sloped": 2.0 + np.cos(0.3 * times)}
    heated = pd.DataFrame(columns).astype(float)
    truth = {"rate": 0.8, "gain": 1.0, "level_initial": 2.0}
    world = bt.read_telemetry(heated.assign(sloped=heated["sloped"] + hidden))
    heated["level"] = bt.simulate(twin, truth, world, seed=0)["level"].values
    held = np.arange(400) % 5 == 2
    known = bt.read_telemetry(heated.assign(level=heated["level"].where(~held)))
    asked = bt.read_telemetry(heated[held], t0=0.0)
    covered = {}
    for name, error in {"none": None, "noise": bt.ProcessNoise({"level": dist.HalfNormal(1.0)}, filter=word)}.items():
        posterior = bt.calibrate(twin, known, seed=0, model_error=error, num_samples=500)
        forecast = bt.predict(twin, posterior, asked, seed=1, model_error=error)
        covered[name] = bt.coverage(forecast, asked).sel(observation="level", prob=PROB)
    # those of one point in five, apart from each other, have errors that hardly depend on each other
    assert float(covered["none"]["coverage"]) < 0.7
    assert bool(covered["noise"]["within_band"]), float(covered["noise"]["coverage"])
