"""With `forget` an updated posterior is that of the record whose readings count less the older they are, exactly."""

import dataclasses
import datetime

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from test_update import NOISE, RATE, TABLE, begun, rows
from twins import decay, decay_telemetry, known_decay

import bayestwin as bt
from bayestwin.errors import InvalidArtifact, InvalidInput, InvalidSetting
from bayestwin.update import half_life_of

HALF_LIFE = 1.5


def discounted(half_life: float, num: int) -> tuple[float, float, np.ndarray]:
    """Mean and standard deviation of the start of a decay by linear regression with weights, and the weights."""
    times, seen = TABLE.index.to_numpy()[:num], TABLE["level"].to_numpy()[:num]
    weights, slope = 0.5 ** ((times[-1] - times) / half_life), np.exp(-RATE * times)
    precision = 1.0 + (weights * slope**2).sum() / NOISE**2
    return (5.0 + (weights * slope * seen).sum() / NOISE**2) / precision, precision**-0.5, weights


def check_discounted(posterior: xr.DataTree, half_life: float, num: int) -> None:
    draws = posterior["posterior"]["level_initial"].to_numpy()
    mean, sd, weights = discounted(half_life, num)
    assert abs(draws.mean() - mean) <= 4.0 * az.mcse(draws, method="mean")
    assert abs(draws.std() - sd) <= 4.0 * az.mcse(draws, method="sd")
    told = posterior.attrs["forget"]
    assert told["half_life"] == half_life
    assert told["count"] == pytest.approx(weights.sum())
    assert told["faded"] == (weights < 0.1).sum()
    times, seen = TABLE.index.to_numpy()[:num], TABLE["level"].to_numpy()[:num]
    off = seen - draws[..., None] * np.exp(-RATE * times)
    ours = -0.5 * (draws - 5.0) ** 2 - 0.5 * (weights * off**2).sum(axis=-1) / NOISE**2
    assert np.ptp(posterior["sample_stats"]["lp"].to_numpy() - ours) < 1e-6


@pytest.mark.thorough
@pytest.mark.parametrize(("max_k", "how"), [(0.9, "weighted"), (-np.inf, "went on")])
def test_it_is_the_discounted_regression(max_k: float, how: str) -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5, 6), seed=1, forget=HALF_LIFE, max_k=max_k)
    told = found.attrs["updates"][0]
    assert (told["how"], told["log_predictive"]) == (how, None)
    check_discounted(found, HALF_LIFE, 7)


@pytest.mark.thorough
def test_batches_do_not_matter_and_the_latest_half_life_holds() -> None:
    found = begun()
    for row in (4, 5, 6, 7):
        found = bt.update(known_decay(), found, rows(row), seed=row, forget=4.0 * HALF_LIFE)
    check_discounted(found, 4.0 * HALF_LIFE, 8)
    last = bt.update(known_decay(), found, rows(8), seed=9, forget=HALF_LIFE)
    check_discounted(last, HALF_LIFE, 9)


def test_without_it_all_rows_count_in_full_again() -> None:
    forgotten = bt.update(known_decay(), begun(), rows(4, 5), seed=1, forget=HALF_LIFE)
    found = bt.update(known_decay(), forgotten, rows(6), seed=2)
    assert "forget" not in found.attrs
    draws = found["posterior"]["level_initial"].to_numpy()
    mean, sd, _ = discounted(np.inf, 7)
    assert abs(draws.mean() - mean) <= 4.0 * az.mcse(draws, method="mean")
    assert abs(draws.std() - sd) <= 4.0 * az.mcse(draws, method="sd")


@pytest.mark.thorough
def test_a_length_of_time_may_be_said_in_its_own_unit() -> None:
    hours = dataclasses.replace(known_decay(), time_unit="h")
    posterior = bt.calibrate(hours, decay_telemetry(), seed=0, num_samples=500)
    last = bt.read_telemetry(TABLE.iloc[[-1]].assign(level=0.1).reset_index())
    lengths = (1.5, "1.5", "1.5 h", "PT1H30M", datetime.timedelta(minutes=90))
    found = [bt.update(hours, posterior, last, seed=1, forget=one).attrs["forget"]["half_life"] for one in lengths]
    assert found == pytest.approx([1.5] * 5)


@pytest.mark.parametrize("forget", [0.0, -1.0, np.nan, np.inf, True, "soon", ""])
def test_what_is_no_length_of_time_is_refused(forget: object) -> None:
    with pytest.raises(InvalidSetting, match=r"`forget` is no length of time"):
        bt.update(dataclasses.replace(known_decay()), begun(), rows(4), seed=1, forget=forget)  # type: ignore[arg-type]


def test_readings_that_depend_on_each_other_cannot_be_forgotten_by_parts() -> None:
    remembering = {"level": bt.Observation(bt.Autocorrelated(scale=0.3, correlation_time=2.0))}
    noisy, off = (
        bt.ProcessNoise({"level": dist.HalfNormal(0.1)}),
        bt.Discrepancy({"level": dist.HalfNormal(0.1)}, {"level": dist.InverseGamma(5.0, 5.0)}),
    )
    twins = (decay(observations=remembering), decay(model_error=noisy), decay(model_error=off))
    for twin, word in zip(twins, ("remembers", "ProcessNoise", "Discrepancy"), strict=True):
        with pytest.raises(InvalidSetting, match=f"(?s)cannot forget.*{word}"):
            half_life_of(twin, HALF_LIFE)


def test_what_leaves_readings_out_refuses_it() -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5), seed=1, forget=HALF_LIFE)
    with pytest.raises(InvalidArtifact, match="forgotten a part of each reading"):
        bt.influence(found)
    with pytest.raises(InvalidInput, match="forgotten a part of each reading"):
        bt.compare({"all": begun(), "late": found})


def test_gates_and_the_page_say_it() -> None:
    found = bt.update(known_decay(), begun(), rows(4, 5, 6, 7, 8, 9), seed=1, forget=0.3)
    page = bt.render_report(found)
    assert "Rows count half after 0.3" in page
    assert "count for less than a tenth" in page
