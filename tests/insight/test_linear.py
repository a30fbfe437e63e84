"""For a twin linear in its unknowns, contraction, profiles and the gain of planned data are those of a closed form."""

import functools

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import telemetry_of

import bayestwin as bt
from bayestwin.insight.identify_verdict import verdict

NAMES = ["slope", "curve", "level_initial"]
PRIOR = np.array([1.0, 0.5, 2.0])
SCALE = 0.5
TIMES = np.linspace(0.0, 6.0, 21)
CUT = 12
DESIGN = np.stack([TIMES, TIMES**2 / 2, np.ones_like(TIMES)], axis=1)
SEEN = np.arange(CUT) % 4 != 1  # every fourth observation is missing


def ramp() -> bt.Twin:
    """`x' = slope + curve · t`."""
    return bt.Twin(
        name="ramp",
        vector_field=lambda t, x, p, u: {"level": p.slope + p.curve * t},
        states={"level": bt.State(dist.Normal(2.0, 2.0))},
        parameters={"slope": bt.Parameter(dist.Normal(1.0, 1.0)), "curve": bt.Parameter(dist.Normal(0.0, 0.5))},
        observations={"level": bt.Observation(bt.Gaussian(SCALE))},
    )


def telemetry() -> bt.Telemetry:
    rng = np.random.default_rng(1)
    y = DESIGN[:CUT] @ np.array([0.5, -0.4, 3.0]) + SCALE * rng.standard_normal(CUT)
    return telemetry_of({"time": TIMES[:CUT], "level": np.where(SEEN, y, np.nan)})


@functools.cache
def found() -> xr.DataTree:
    posterior = bt.calibrate(ramp(), telemetry(), seed=0, method="laplace", num_samples=1000, num_chains=4)
    # a column without values: everything planned is observed
    planned = telemetry_of({"time": TIMES[CUT:], "level": np.full(len(TIMES) - CUT, np.nan)})
    return bt.identify(ramp(), telemetry(), seed=0, posterior=posterior, planned=planned, profile=["slope", "curve"])


def covariance(rows: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.diag(PRIOR**-2) + rows.T @ rows / SCALE**2)


@pytest.mark.thorough
def test_nothing_is_tied() -> None:
    assert "ties" not in found()
    assert verdict(found())[0].passed


def test_contraction_is_exact() -> None:
    exact = covariance(DESIGN[:CUT][SEEN])
    group = found()["quantities"].to_dataset().sel(quantity=NAMES)
    np.testing.assert_allclose(group["expected_contraction"], 1 - np.diagonal(exact) / PRIOR**2, rtol=1e-6)
    sd = np.sqrt(np.diagonal(exact))
    np.testing.assert_allclose(group["expected_correlation"].sel(other=NAMES), exact / np.outer(sd, sd), rtol=1e-6)
    # a standard deviation of n normal draws has the standard error sd / √(2 n)
    assert (abs(group["sd"].values / sd - 1) < 4 / np.sqrt(2 * 4000)).all()


def test_what_is_planned_adds_what_it_will() -> None:
    exact = covariance(np.concatenate([DESIGN[:CUT][SEEN], DESIGN[CUT:]]))
    # from draws of a posterior what is known so far has their error; without draws it has none
    group = found()["planned"].to_dataset().sel(quantity=NAMES)
    np.testing.assert_allclose(group["sd_with"], np.sqrt(np.diagonal(exact)), rtol=4 / np.sqrt(2 * 4000))
    (gate,) = [gate for gate in verdict(found()) if gate.name == "planned"]
    assert gate.sentence.startswith("Adding the 9 planned times (2.7) is expected to narrow `curve` by ")


def test_profiles_of_the_likelihood_are_its_own_parabolas() -> None:
    rows, y = DESIGN[:CUT][SEEN], telemetry().table["level"].to_numpy()[SEEN]
    own = np.linalg.inv(rows.T @ rows / SCALE**2)
    best = own @ rows.T @ y / SCALE**2
    group = found()["profile"].to_dataset()
    assert (group.attrs["of"], group.attrs["prior"]) == ("likelihood", False)
    for number, name in enumerate(NAMES[:2]):
        sd = np.sqrt(own[number, number])
        row = group.sel(profiled=name)
        np.testing.assert_allclose(row["interval"], best[number] + np.array([-1.0, 1.0]) * 1.959964 * sd, rtol=1e-4)
        np.testing.assert_allclose(row["drop"], ((row["value"] - best[number]) / sd) ** 2 / 2, rtol=1e-3, atol=1e-4)


def test_the_result_comes_back_from_a_file(tmp_path) -> None:
    bt.save(found(), tmp_path / "identify.nc")
    loaded = bt.load(tmp_path / "identify.nc")
    assert loaded.identical(found())
    assert verdict(loaded) == verdict(found())


def test_what_is_planned_must_go_on() -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match="`planned` does not go on from `telemetry`"):
        bt.identify(ramp(), telemetry(), seed=0, planned=telemetry())
