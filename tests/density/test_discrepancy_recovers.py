"""With a discrepancy, truths drawn from the prior lie in their intervals as often as these promise."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin._base.process import key_for

SETS, PROB = 50, 0.9


@pytest.mark.slow
def test_truths_drawn_from_the_prior_lie_in_their_intervals() -> None:
    error = bt.Discrepancy({"level": dist.LogNormal(-0.7, 0.5)}, {"level": dist.LogNormal(0.5, 0.3)})
    twin = decay(observations={"level": bt.Observation(bt.Gaussian(dist.LogNormal(-1.5, 0.5)))}, model_error=error)
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
