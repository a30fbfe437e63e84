"""Leave-future-out is the closed form where there is one, with a calibration at each origin or with weighted draws."""

import functools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from twins import decay, known_decay, telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidSetting
from bayestwin.insight import future

NOISE, RATE, LEVEL, SPREAD = 0.3, 0.8, 5.0, 1.0
ORIGINS, HORIZON = (1.1, 1.6, 2.1, 2.6), 0.45
QUICK = {"method": "laplace", "num_samples": 500, "num_chains": 4}


def record(num: int = 40) -> bt.Telemetry:
    """The decay at 40 even times, two of them without a sample."""
    times = np.arange(num) * 0.1
    level = LEVEL * np.exp(-RATE * times) + NOISE * np.random.default_rng(3).standard_normal(num)
    level[[5, 18]] = np.nan
    return telemetry_of({"time": times, "level": level})


def covariance(times: np.ndarray, kind: str) -> np.ndarray:
    """Of all observations, with everything that is inferred integrated out."""
    faded = np.exp(-RATE * times)
    found = SPREAD**2 * np.outer(faded, faded) + NOISE**2 * np.eye(times.size)
    if kind == "process noise":  # an Ornstein–Uhlenbeck process that starts at the level
        early = np.minimum.outer(times, times)
        found += 0.2**2 / (2 * RATE) * (np.exp(2 * RATE * early) - 1.0) * np.outer(faded, faded)
    if kind == "discrepancy":
        found += 0.4**2 * np.exp(-0.5 * (np.subtract.outer(times, times) / 1.0) ** 2)
    return found


def exact_density(kind: str, origin: float) -> float:
    """log p(y in the window | y until the origin), by the normal distribution of all of them."""
    table = record().table["level"].dropna()
    times = table.index.to_numpy()
    mean, cov, y = LEVEL * np.exp(-RATE * times), covariance(times, kind), table.to_numpy()
    before, until = times <= origin + 1e-9, times <= origin + HORIZON + 1e-9

    def density(rows: np.ndarray) -> float:
        return scipy.stats.multivariate_normal.logpdf(y[rows], mean[rows], cov[np.ix_(rows, rows)])

    return float(density(until) - density(before))


ERRORS = {
    "none": None,
    "process noise": bt.ProcessNoise(scale={"level": 0.2}),
    "discrepancy": bt.Discrepancy(scale={"level": 0.4}, length={"level": 1.0}, kernel="squared_exponential"),
}


SLOW = [("discrepancy", False), *[(kind, True) for kind in ERRORS]]


@functools.cache
def found(kind: str = "none", exact: bool = False, **changes: object) -> xr.DataTree:
    settings = {"horizon": HORIZON, "origins": ORIGINS, "seed": 0, "exact": exact} | QUICK | changes
    return bt.leave_future_out(known_decay(), record(), model_error=ERRORS[kind], **settings)


def rows(tree: xr.DataTree) -> xr.Dataset:
    return tree["leave_future_out"].to_dataset()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        ("none", False),
        ("process noise", False),
        *[pytest.param(k, e, marks=pytest.mark.slow) for k, e in SLOW],
    ],
)
def test_it_is_the_closed_form(kind: str, exact: bool) -> None:
    """Within four Monte Carlo standard errors; a discrepancy is a sum of few functions, whence 0.02 more."""
    own = rows(found(kind, exact))
    expected = [exact_density(kind, origin) for origin in ORIGINS]
    slack = 0.02 if kind == "discrepancy" else 1e-3
    np.testing.assert_array_less(np.abs(own["elpd"] - expected), 4 * own["mcse"] + slack)
    assert (own["mcse"] < 0.05).all()
    assert list(own["num"].values) == [4, 3, 4, 4]
    assert own["recalibrated"].values.sum() == (4 if exact else 1)


@pytest.mark.slow
def test_weighted_draws_and_calibrations_agree_by_nuts() -> None:
    """On a twin with three unknowns, within four Monte Carlo standard errors of both."""
    settings = {"horizon": 0.8, "origins": (1.0, 1.8, 2.6), "seed": 1, "num_samples": 1000}
    exact, weighted = (rows(bt.leave_future_out(decay(), record(), exact=exact, **settings)) for exact in (True, False))
    assert not weighted["recalibrated"].values.all()
    error = np.hypot(exact["mcse"], weighted["mcse"])
    np.testing.assert_array_less(np.abs(exact["elpd"] - weighted["elpd"]), 4 * error + 1e-3)
    assert (exact["failed_gates"] == "").all()


@pytest.mark.thorough
def test_weights_that_fail_make_it_calibrate_anew() -> None:
    """Here all do: no Pareto k is that small."""
    own = rows(found(max_k=-10.0, origins=ORIGINS[:2]))
    assert own["recalibrated"].values.all()
    np.testing.assert_array_equal(own["elpd"][:1], rows(found())["elpd"][:1])
    error = np.hypot(own["mcse"], rows(found())["mcse"][:2])
    np.testing.assert_array_less(np.abs(own["elpd"] - rows(found())["elpd"][:2]), 4 * error + 1e-3)


def test_nothing_that_comes_after_the_window_matters() -> None:
    table = record().table.copy()
    table.loc[table.index > 1.1 + HORIZON + 1e-9, "level"] += 50.0
    changed = bt.leave_future_out(
        known_decay(), bt.read_telemetry(table), horizon=HORIZON, origins=[1.1], seed=0, exact=True, **QUICK
    )
    np.testing.assert_array_equal(rows(changed)["elpd"], rows(found())["elpd"][:1])


def test_a_draw_that_cannot_be_solved_ahead_has_no_density_there() -> None:
    np.testing.assert_array_equal(future._between(np.array([-np.inf, 1.0]), np.array([-np.inf, 3.0])), [-np.inf, 2.0])
    weighted = future.smoothed(np.array([np.nan, 1.0]), 1.0)
    assert weighted.pareto_k == np.inf


def test_origins_that_fail_and_such_without_anything_ahead() -> None:
    """At the first nothing is observed yet, and it is kept as one that failed; after the last nothing is."""
    table = record().table.copy()
    table.loc[(table.index < 1.3) | (table.index > 2.15), "level"] = np.nan
    tree = bt.leave_future_out(known_decay(), bt.read_telemetry(table), horizon=0.65, origins=ORIGINS, seed=0, **QUICK)
    own = rows(tree)
    assert list(own["origin"].values) == [1.1, 1.6]
    assert str(own["failure"].values[0]).startswith("InvalidTelemetry: ")
    assert list(np.isfinite(own["elpd"].values)) == [False, True]
    assert tree.attrs["overlapping"]


def test_it_is_stored_and_says_what_it_is_of(tmp_path: Path) -> None:
    tree = found()
    bt.save(tree, tmp_path / "future.nc")
    loaded = bt.load(tmp_path / "future.nc")
    xr.testing.assert_identical(rows(loaded).drop_attrs(), rows(tree).drop_attrs())
    assert loaded.attrs == tree.attrs
    assert (tree.attrs["twin"], tree.attrs["seed"], tree.attrs["horizon"]) == ("decay", 0, HORIZON)
    assert (tree.attrs["overlapping"], tree.attrs["interrupted"]) == (False, False)
    assert tree.attrs["telemetry_sha256"] == record().sha256


@pytest.mark.parametrize("settings", [{"horizon": -1.0}, {"origins": [9.0]}, {"num_samples": 0}])
def test_what_makes_no_sense_is_refused(settings: dict) -> None:
    with pytest.raises(InvalidSetting):
        found(**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
