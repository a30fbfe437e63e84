"""A stiff twin is calibrated, and the truth is recovered, where the explicit solver would find no start."""

import numpy as np
import pytest
from twins import ROBERTSON_RATES, robertson, telemetry_of

import bayestwin as bt


@pytest.mark.slow
def test_robertsons_rates_are_recovered() -> None:
    twin = robertson(solver=bt.Solver("rodas5p"))
    times = np.concatenate([[0.0], np.geomspace(4e-5, 4e4, 40)])
    truth = ROBERTSON_RATES | {"a_scale": 0.01, "c_scale": 0.01}
    data = bt.simulate(twin, truth, telemetry_of({"time": times}), seed=1)
    seen = telemetry_of({"time": times, "a": data["a"].values, "c": data["c"].values})
    posterior = bt.calibrate(twin, seen, seed=0)
    assert not posterior["sample_stats"]["solver_failed"].any()
    assert not posterior["sample_stats"]["diverging"].any()
    for name, value in truth.items():
        draws = np.log(posterior["posterior"][name].values.ravel())
        # three standard deviations for each of five quantities: a false alarm in 75
        assert abs(draws.mean() - np.log(value)) < 3.0 * draws.std(), name
    # k1 and k3 / k2's square root decide the fraction left; the data say much more about k1 than the prior does
    assert np.log(posterior["posterior"]["k1"].values).std() < 0.1
