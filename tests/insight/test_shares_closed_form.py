"""On a linear Gaussian twin all shares have a closed form, and those that are computed agree within their own error."""

import itertools
import math

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.insight.shares import shares_of as shares_from_draws
from bayestwin.model.error import ModelError

PAST, AHEAD = np.arange(0.0, 11.0), np.array([11.0, 14.0, 20.0, 40.0])
NOISE, PUSH, LEVELS = 0.5, 0.3, np.array([-0.06, 0.0, 0.02, 0.1])
RATE, START = (0.2, 0.15), (1.0, 2.0)
"""Mean and standard deviation of the priors."""


def drifting(model_error: ModelError | None = None) -> bt.Twin:
    """`x(t) = start + rate · t + ∫ inflow`: everything that is unknown is normal and adds up."""
    return bt.Twin(
        name="drifting",
        vector_field=lambda t, x, p, u: {"level": p.rate + u.inflow},
        states={"level": bt.State(dist.Normal(*START))},
        parameters={"rate": bt.Parameter(dist.Normal(*RATE))},
        inputs={"inflow": bt.Input(hold="previous")},
        observations={"level": bt.Observation(bt.Gaussian(NOISE))},
        model_error=model_error,
        time_unit="h",
    )


def telemetry(times: np.ndarray, inflow: float, **columns: np.ndarray) -> bt.Telemetry:
    table = pd.DataFrame({"inflow": np.full(len(times), inflow), **columns}, index=pd.Index(times, name="time"))
    return bt.read_telemetry(table, t0=0.0)


def shares_of(model_error: ModelError | None = None, levels: np.ndarray | None = None, draws: int = 4000) -> xr.Dataset:
    twin = drifting(model_error)
    observed = 1.0 + 0.2 * PAST + NOISE * np.random.default_rng(3).standard_normal(len(PAST))
    posterior = bt.calibrate(twin, telemetry(PAST, 0.0, level=observed), seed=0, method="laplace", predictive_draws=8)
    ensemble = None if levels is None else [telemetry(AHEAD, level) for level in levels]
    return bt.uncertainty_shares(twin, posterior, telemetry(AHEAD, 0.0), seed=1, inputs=ensemble, draws=draws)


def conditional(covariance: np.ndarray, wanted: list[int], known: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and covariance of some entries of a normal vector given others."""
    if not known:
        return np.zeros((len(wanted), 0)), covariance[np.ix_(wanted, wanted)]
    slopes = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, wanted)]).T
    return slopes, covariance[np.ix_(wanted, wanted)] - slopes @ covariance[np.ix_(known, wanted)]


def exact(push: float, levels: np.ndarray | None) -> dict[str, np.ndarray]:
    """Variances by source from the joint covariance of (rate, start, future, past observations), by naive algebra."""
    times = np.concatenate([AHEAD, PAST])
    slopes = np.column_stack([times, np.ones(len(times))])
    prior = np.diag([RATE[1] ** 2, START[1] ** 2])
    walk = push**2 * np.minimum.outer(times, times)
    joint = np.block([[prior, prior @ slopes.T], [slopes @ prior, slopes @ prior @ slopes.T + walk]])
    n, past = len(AHEAD), list(range(2 + len(AHEAD), 2 + len(times)))
    joint[past, past] += NOISE**2
    _, given = conditional(joint, list(range(2 + n)), past)
    found = {source: np.zeros(n) for source in ("parameters", "initial_state", "model_error", "inputs")}
    # what is added by inputs after the last one of the calibration, which is held until the first of the future
    spread = np.zeros(n) if levels is None else np.var(levels) * (AHEAD - AHEAD[0]) ** 2
    for place in range(n):
        own = given[np.ix_([0, 1, 2 + place], [0, 1, 2 + place])]

        def explained(group: tuple[str, ...], own: np.ndarray = own, place: int = place) -> float:
            known = [number for number, name in enumerate(("parameters", "initial_state")) if name in group]
            left = conditional(own, [2], known)[1].item()
            return own[2, 2] - left + (spread[place] if "inputs" in group else 0.0)

        players = ("parameters", "initial_state", "inputs")
        for order in itertools.permutations(players):
            for number, player in enumerate(order):
                added = explained(order[: number + 1]) - explained(order[:number])
                found[player][place] += added / math.factorial(len(players))
        found["model_error"][place] = conditional(own, [2], [0, 1])[1].item()
    return found | {"noise": np.full(n, NOISE**2)}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("push", "levels"),
    [
        pytest.param(0.0, LEVELS, id="inputs"),
        pytest.param(PUSH, None, id="process noise"),
        pytest.param(0.0, None, id="alone", marks=pytest.mark.slow),
        pytest.param(PUSH, LEVELS, id="process noise and inputs", marks=pytest.mark.slow),
    ],
)
def test_shares_are_those_of_the_closed_form(push, levels):
    found = shares_of(bt.ProcessNoise({"level": push}) if push else None, levels)
    expected = exact(push, levels)
    total = sum(expected.values())
    there = [source for source, variance in expected.items() if variance.max() > 1e-12]
    assert set(found["source"].values) == set(there)
    for source in there:
        share = found["share"].sel(observation="level", source=source)
        error = found["share_error"].sel(observation="level", source=source)
        assert np.all(error < 0.04), source
        np.testing.assert_array_less(np.abs(share - expected[source] / total), 5 * error + 2e-3, source)
    np.testing.assert_allclose(found["variance"].sum("source")[0], total, rtol=0.08)  # 4000 draws: sd of 2 %


def test_the_posterior_ties_parameter_and_initial_state_together():
    """Otherwise the test above would not show that dependence is dealt with: each alone explains far more than 1."""
    past = np.column_stack([PAST, np.ones(len(PAST))])
    covariance = np.linalg.inv(past.T @ past / NOISE**2 + np.diag([RATE[1] ** -2, START[1] ** -2]))
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) < -0.8


def test_shares_from_draws_alone_are_those_of_dependent_normal_quantities() -> None:
    # y = a + 2 b with correlated a and b: what each explains alone, and what it adds to the other, have closed forms
    slopes, rho = np.array([1.0, 2.0]), 0.6
    rng = np.random.default_rng(0)
    a, b = rng.multivariate_normal([3.0, -1.0], [[1.0, rho], [rho, 1.0]], 20_000).T
    total = slopes @ np.array([[1.0, rho], [rho, 1.0]]) @ slopes
    alone = np.array([slopes[0] + rho * slopes[1], slopes[1] + rho * slopes[0]]) ** 2 / total
    expected = 0.5 * (alone + 1.0 - alone[::-1])
    found = shares_from_draws({"a": 10.0 * a, "b": b, "fixed": np.ones(a.size)}, slopes[0] * a + slopes[1] * b)
    assert list(found) == ["b", "a"]
    np.testing.assert_allclose([found["a"], found["b"]], expected, atol=0.01)
    # what no quantity explains is nobody's, and a product is that of both
    noisy = shares_from_draws({"a": a, "b": b}, a + 2.0 * b + rng.normal(0.0, math.sqrt(total), a.size))
    assert sum(noisy.values()) == pytest.approx(0.5, abs=0.02)
    c, d = rng.normal(size=(2, 20_000))
    product = shares_from_draws({"c": c, "d": d}, c * d)
    np.testing.assert_allclose([product["c"], product["d"]], 0.5, atol=0.02)
    assert shares_from_draws({"a": a}, np.full(a.size, 2.0)) == {}
