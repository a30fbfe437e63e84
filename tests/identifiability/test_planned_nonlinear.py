"""What planned data are expected to tell is what calibrations of simulated data then tell, for a non-linear twin."""

import numpy as np
import pytest
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt


@pytest.mark.slow
def test_the_expected_spread_is_the_mean_over_simulated_data() -> None:
    twin, telemetry = decay(), decay_telemetry()
    later = np.linspace(4.2, 6.0, 10)
    planned = telemetry_of({"time": later, "level": np.full(10, np.nan)})
    posterior = bt.calibrate(twin, telemetry, seed=0, num_samples=500)
    group = posterior["posterior"].to_dataset()
    found = bt.identify(twin, telemetry, seed=0, posterior=posterior, planned=planned)["planned"].to_dataset()
    rng = np.random.default_rng(3)
    spreads = []
    for _ in range(24):
        at = {"chain": rng.integers(4), "draw": rng.integers(500)}
        truth = {name: float(group[name].isel(at)) for name in ("rate", "level_initial", "level_scale")}
        whole = np.concatenate([telemetry.table.index, later])
        new = bt.simulate(twin, truth, telemetry_of({"time": whole}), seed=int(rng.integers(2**31)))["level"].values
        seen = np.concatenate([telemetry.table["level"], new[-10:]])
        again = bt.calibrate(twin, telemetry_of({"time": whole, "level": seen}), seed=1, method="laplace")
        draws = again["posterior"].to_dataset()
        logs = [np.log(draws["rate"]), draws["level_initial"], np.log(draws["level_scale"])]
        spreads.append([float(one.var()) for one in logs])
    variance = found["sd_with"].sel(quantity=["rate", "level_initial", "level_scale"]).values ** 2
    error = np.std(spreads, axis=0, ddof=1) / np.sqrt(len(spreads))
    # information is averaged over 16 points, the calibrations are normal approximations: 10 % beside chance
    assert (abs(np.mean(spreads, axis=0) - variance) < 4 * error + 0.1 * variance).all()
    print(np.mean(spreads, axis=0), variance, error, found["sd_without"].values ** 2)  # noqa: T201
