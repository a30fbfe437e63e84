"""Filtered in blocks, a long record has the moments and derivatives that it has when filtered row by row."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from test_filtering_exact import VALUES, dense_pair, filter_of, pair, pair_telemetry
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.dynamics import blocks

ROWS = 400


def seen_over_time(t, x, p, u):
    return (1.0 + 0.1 * jnp.sin(t)) * x.warm + 2.0 * x.cold + u.stepped


@functools.cache
def records() -> dict[str, tuple[bt.Twin, bt.Telemetry]]:
    """What makes a difference to how a record is filtered; the regular one settles after a third of it."""
    rng = np.random.default_rng(7)
    columns = {name: rng.normal(size=ROWS) for name in ("stepped", "sloped", "warm", "both")}
    holes = columns | {"warm": np.where(rng.random(ROWS) < 0.1, np.nan, columns["warm"])}
    regular = telemetry_of({"time": 0.3 * np.arange(ROWS)} | columns)
    irregular = telemetry_of({"time": np.cumsum(rng.choice([0.2, 0.3, 0.7], ROWS))} | holes)
    both = dataclasses.replace(pair().observations["both"], of=seen_over_time)
    varying = dataclasses.replace(pair(), observations={**pair().observations, "both": both})
    return {
        "regular": (pair(), regular),
        "of three spans, with holes": (pair(), irregular),
        "seen in another way at each time": (varying, regular),
    }


def rows_of(num: int, *, regular: bool) -> blocks.FilterRows:
    """Two states, one sensor; where they are not regular three kinds of steps, and holes."""
    rng = np.random.default_rng(2)
    kinds = 1 if regular else 3
    phi = np.array([[0.9, 0.1], [-0.2, 0.8]])[:, :, None] * np.array([1.0, 0.9, 0.7])[:kinds]
    added = np.array([[0.05, 0.01], [0.01, 0.02]])[:, :, None] * np.array([1.0, 2.0, 3.0])[:kinds]
    present = np.ones((1, num)) if regular else (rng.random((1, num)) < 0.8).astype(float)
    which = None if regular else jnp.asarray(rng.integers(0, 3, num))
    slope = np.array([[[1.0], [0.3]]])
    seen = jnp.asarray(present), jnp.asarray(rng.normal(size=(1, num)) * present)
    arrays = map(jnp.asarray, (rng.normal(size=(2, num)), slope, rng.normal(size=(1, num)), np.full((1, 1), 0.04)))
    return blocks.FilterRows(jnp.asarray(phi), jnp.asarray(added), which, *arrays, *seen)


def one_after_the_other(rows: blocks.FilterRows, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Kalman's filter as in a textbook; shape (2, m)."""
    found, which = [], rows.which if rows.which is not None else np.zeros(rows.constant.shape[1], int)
    for k in range(rows.constant.shape[1]):
        if k > 0:
            phi = np.asarray(rows.transition)[..., which[k]]
            mean = phi @ mean + np.asarray(rows.constant)[:, k]
            covariance = phi @ covariance @ phi.T + np.asarray(rows.added)[..., which[k]]
        else:
            mean = mean + np.asarray(rows.constant)[:, k]
        slope = np.asarray(rows.slope)[0, :, 0]
        variance = slope @ covariance @ slope + float(rows.variance[0, 0])
        predicted = slope @ mean + float(rows.offset[0, k])
        found.append((predicted, 0.5 * np.log(variance)))
        if rows.present[0, k] > 0:
            gain = covariance @ slope / variance
            mean = mean + gain * (float(rows.values[0, k]) - predicted)
            covariance = covariance - np.outer(gain, slope @ covariance)
    return np.array(found).T


@pytest.mark.thorough
@pytest.mark.parametrize("regular", [True, False])
def test_rows_at_once_are_rows_one_after_the_other(regular: bool) -> None:
    rows, begin = rows_of(97, regular=regular), (np.array([0.3, -0.1]), np.diag([0.5, 0.1]))
    weights = np.random.default_rng(3).normal(size=(2, 97))

    def weighed(rows: blocks.FilterRows, mean: jax.Array, spread: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = blocks.moments_of(rows, mean, spread, complete=regular, backwards=True)[:, 0]
        return (found * weights).sum(), found

    back = jax.jit(jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True, allow_int=True))
    (_, found), (of_rows, of_mean, of_spread) = back(rows, *map(jnp.asarray, begin))
    np.testing.assert_allclose(found, one_after_the_other(rows, *begin), rtol=1e-11, atol=1e-12)

    def rises(step: float, name: str, *at: int) -> float:
        leaf = getattr(rows, name)
        moved = rows._replace(**{name: leaf.at[at].add(step)})
        return float((one_after_the_other(moved, *begin) * weights).sum())

    for name, *at in (("transition", 0, 1, 0), ("added", 1, 1, 0), ("variance", 0, 0), ("constant", 1, 60)):
        slope = (rises(1e-5, name, *at) - rises(-1e-5, name, *at)) / 2e-5
        assert float(getattr(of_rows, name)[tuple(at)]) == pytest.approx(slope, rel=1e-6)
    for number, found in ((0, of_mean[1]), (1, of_spread[0, 0])):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [begin[0].copy(), begin[1].copy()]
            moved[number][(1,) if number == 0 else (0, 0)] += step
            ends.append(float((one_after_the_other(rows, *moved) * weights).sum()))
        assert float(found) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("record", records())
def test_blocks_change_nothing_but_rounding(record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, telemetry = records()[record]
    z = bound_density(twin, telemetry).unconstrain(VALUES)
    row_by_row = jax.jit(bound_density(twin, telemetry).local)(z)
    monkeypatch.setattr(blocks, "LONG", 1)
    together = jax.jit(bound_density(twin, telemetry).local)(z)
    backwards = jax.jit(jax.value_and_grad(bound_density(twin, telemetry)))(z)
    # each row rounds by 1e-16 of what is summed up, and what went before is forgotten
    for ours, theirs in zip((*together, *backwards), (*row_by_row, *row_by_row[:2]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.slow
def test_the_log_likelihood_is_that_of_the_dense_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LONG", 1)
    dense, density = dense_pair(), bound_density(pair(), pair_telemetry())
    expected = multivariate_normal.logpdf(
        dense.seen, dense.seen_mean, dense.seen_slope @ dense.covariance @ dense.seen_slope.T + dense.noise
    )
    assert float(jax.jit(density.parts)(density.unconstrain(VALUES))[1]) == pytest.approx(expected, rel=1e-8)


def test_only_long_records_of_affine_twins_are_filtered_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = filter_of(pair()).grid
    assert not blocks.in_blocks(pair(), grid)
    monkeypatch.setattr(blocks, "LONG", 1)
    assert blocks.in_blocks(pair(), grid)
    bent = bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.warm**2)
    others = [dataclasses.replace(pair(), observations={"bent": bent}), pair("extended")]
    assert not any(blocks.in_blocks(twin, grid) for twin in others)


@pytest.mark.slow
def test_another_record_as_long_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LONG", 1)
    table = records()["regular"][1].table.reset_index()
    run = jax.jit(lambda density, z: density(z))
    found = []
    for first in (0, 50):
        part = table.iloc[first : first + 300].assign(time=table["time"].iloc[:300].to_numpy())
        density = bound_density(pair(), telemetry_of(part)).filled
        assert density._parts_of.value.complete
        found.append(float(run(density, density.unconstrain(VALUES))))
    assert found[0] != found[1]
    assert run._cache_size() == 1
