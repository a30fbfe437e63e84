"""A record without noise is said to have none, first of all gates; one with noise, or exact by chance, is not."""

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin.assess.residuals import noise_gate

TIMES = np.linspace(0.0, 4.0, 30)
EXACT = 5.0 * np.exp(-0.8 * TIMES)


def result(off: float, scale: float, num: int = 30, rtol: float = 1e-6) -> xr.DataTree:
    """A result whose residuals and scale are of these sizes."""
    rng = np.random.default_rng(0)
    free = np.broadcast_to(EXACT[:num], (2, 20, num))
    seen = EXACT[:num] * (1.0 + off * rng.normal(size=num))
    three = ("chain", "draw", "time")
    draws = {name: (three[:2], 1.0 + 0.1 * rng.normal(size=(2, 20))) for name in ("rate", "level_initial")}
    posterior = draws | {"level_scale": (three[:2], scale * rng.uniform(1.0, 2.0, size=(2, 20)))}
    prior = draws | {"level_scale": (three[:2], np.abs(0.5 * rng.normal(size=(2, 20))))}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior),
            "prior": xr.Dataset(prior),
            "posterior_predictive": xr.Dataset({"level": (three, free), "level_noise_free": (three, free)}),
            "observed_data": xr.Dataset({"level": ("time", seen)}),
        }
    )
    tree.attrs["solver"] = f"auto, rtol {rtol:g}, atol 1e-08"
    return tree


def test_a_record_without_noise_is_told_in_one_sentence_before_anything_else() -> None:
    gates = bt.diagnose(result(1e-6, 1e-6))
    assert (gates[0].name, gates[0].passed, gates[0].severity) == ("noise", False, "fail")
    assert "`level` has no noise" in gates[0].sentence
    assert "`level_scale` sinks to" in gates[0].sentence


def test_what_is_left_is_that_of_the_best_draw_as_a_share_of_what_was_observed() -> None:
    tree = result(1e-6, 1e-6)
    free, seen = tree["posterior_predictive"]["level_noise_free"], tree["observed_data"]["level"].to_numpy().copy()
    tree["posterior_predictive"]["level_noise_free"] = free * xr.where(free["draw"] == 3, 1.0, 1.01)
    seen[7] = np.nan
    tree["observed_data"]["level"] = xr.DataArray(seen, dims="time")
    left, size = (np.sqrt(np.nanmean(values**2)) for values in (EXACT - seen, seen))
    assert noise_gate(tree).value == pytest.approx(left / size, rel=1e-9)


@pytest.mark.parametrize(
    "other",
    [
        result(0.01, 0.05),  # noise
        result(1e-6, 0.05),  # a scale that has not sunk
        result(1e-6, 1e-6, num=5),  # as few observations as can be met exactly
        result(1e-6, 1e-6, rtol=1e-10),  # a solver that is more exact
    ],
)
def test_any_other_record_is_not(other: xr.DataTree) -> None:
    assert noise_gate(other) is None


@pytest.mark.slow
def test_it_is_found_in_a_calibration() -> None:
    twin = decay(observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), unit="m")})
    found = bt.calibrate(twin, telemetry_of({"time": TIMES, "level": EXACT}), seed=0, num_warmup=50, num_samples=50)
    assert bt.diagnose(found)[0].name == "noise"
