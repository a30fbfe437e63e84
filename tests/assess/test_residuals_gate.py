"""The gate `residuals` fires where successive residuals are correlated, and not more often than chance where not."""

import re
from collections.abc import Callable

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.assess import Gate, diagnose
from bayestwin.assess.residuals import LEAST, autocorrelation, residuals_gate, successive, width_words, worth

DRAWS = 400


def line_posterior(
    rng: np.random.Generator,
    num: int,
    errors: np.ndarray,
    *,
    counts: bool = False,
    experiments: int = 0,
    fitted: bool = True,
) -> xr.DataTree:
    """A straight line calibrated exactly on n points, with errors (rows, n): residuals have lost two degrees."""
    time = np.arange(num, dtype=float)
    design = np.stack([np.ones(num), time / num], axis=1)
    predicted, observed = [], []
    for row in errors:
        values = 3.0 + design @ [1.0, 2.0] + row
        mean, covariance = np.linalg.lstsq(design, values)[0], np.linalg.inv(design.T @ design)
        lines = rng.multivariate_normal(mean, covariance, DRAWS) if fitted else np.array([4.0, 2.0])
        draws = lines @ design.T + rng.normal(size=(DRAWS, num))
        predicted.append(np.round(draws) if counts else draws)
        observed.append(np.round(values) if counts else values)
    dims = ("chain", "draw", "time")
    if experiments:
        coords = {"experiment": [f"run {i}" for i in range(experiments)], "time": time}
        names = {"level": (np.stack(predicted)[None], np.stack(observed))}
        dims, own = ("chain", "experiment", "draw", "time"), ("experiment", "time")
    else:
        coords, own = {"time": time}, ("time",)
        names = {f"y{i}": (predicted[i][None], observed[i]) for i in range(len(errors))}
    groups = {
        "posterior_predictive": xr.Dataset({n: (dims, p) for n, (p, _) in names.items()}, coords),
        "observed_data": xr.Dataset({n: (own, o) for n, (_, o) in names.items()}, coords),
    }
    return xr.DataTree.from_dict(groups)


def autoregressive(rng: np.random.Generator, shape: tuple[int, int], correlation: float) -> np.ndarray:
    found = rng.normal(size=shape)
    for step in range(1, shape[1]):
        found[:, step] = correlation * found[:, step - 1] + np.sqrt(1 - correlation**2) * found[:, step]
    return found


@pytest.mark.parametrize(("num", "rows"), [(24, 1), (24, 4), (200, 2)])
@pytest.mark.parametrize("limit", [0.0, 0.38])
def test_a_right_twin_is_warned_of_no_more_often_than_the_level_allows(num: int, rows: int, limit: float):
    rng = np.random.default_rng([num, rows])
    simulations = 200
    gates = [residuals_gate(line_posterior(rng, num, rng.normal(size=(rows, num))), limit) for _ in range(simulations)]
    fired = sum(not gate.passed for gate in gates)
    # 5 % of the simulations, and three standard errors of that
    assert fired <= simulations * 0.05 + 3 * np.sqrt(simulations * 0.05 * 0.95)


def test_numbers_are_those_of_a_known_process():
    rng = np.random.default_rng(0)
    errors = autoregressive(rng, (1, 20_000), 0.97)
    assert successive([*errors])[0] == pytest.approx(0.97, abs=0.01)
    assert autocorrelation(errors[0], 2)[1] == pytest.approx(0.97**2, abs=0.02)
    assert worth(0.97, 20_000) == pytest.approx(1 / 65.7, rel=1e-2)
    # the variance of the mean of an autoregressive process, by brute force
    means = autoregressive(rng, (4000, 400), 0.6).mean(axis=1)
    assert means.var() == pytest.approx(1 / (400 * worth(0.6, 400)), rel=4 * np.sqrt(2 / 4000))


def test_correlated_residuals_are_warned_of_in_words():
    rng = np.random.default_rng(1)
    errors = np.stack([autoregressive(rng, (1, 800), 0.97)[0], rng.normal(size=800)])
    gate = residuals_gate(line_posterior(rng, 800, errors))
    assert (gate.name, gate.passed, gate.severity) == ("residuals", False, "warn")
    assert "`y0` are correlated (0.9" in gate.sentence
    assert "not to be believed" in gate.sentence
    assert "`bt.Autocorrelated`" in gate.sentence
    assert "y1" not in gate.sentence


def test_the_factor_stands_beside_the_intervals_that_it_is_about():
    rng = np.random.default_rng(1)
    wrong, right = (
        residuals_gate(line_posterior(rng, 800, errors))
        for errors in (autoregressive(rng, (1, 800), 0.9), rng.normal(size=(1, 800)))
    )
    factor = re.search(r"by up to a factor of ([\d.]+)", wrong.sentence)[1]
    assert 3.0 < float(factor) < 7.0
    assert width_words([right, wrong]).endswith(f"too narrow, by up to a factor of {factor}.")
    assert width_words([right]) == width_words([]) == ""


def test_missing_and_irregular_observations_are_no_alarm_and_hide_none():
    rng = np.random.default_rng(2)
    right, wrong = (
        line_posterior(rng, 400, e) for e in (rng.normal(size=(2, 400)), autoregressive(rng, (2, 400), 0.95))
    )
    for tree, passed in ((right, True), (wrong, False)):
        data = tree["observed_data"].to_dataset()
        # one sensor answers where the other does not: no two neighbouring times have both
        data["y0"][::2] = np.nan
        data["y1"][1::2] = np.nan
        tree["observed_data"] = xr.DataTree(data)
        assert residuals_gate(tree).passed is passed


def test_counts_that_are_right_pass_and_correlated_ones_do_not():
    rng = np.random.default_rng(3)
    assert residuals_gate(line_posterior(rng, 300, rng.normal(size=(1, 300)), counts=True)).passed
    assert not residuals_gate(line_posterior(rng, 300, autoregressive(rng, (1, 300), 0.8), counts=True)).passed


def test_one_experiment_of_many_is_found_and_short_ones_count_together():
    rng = np.random.default_rng(4)
    errors = rng.normal(size=(10, 60))
    assert residuals_gate(line_posterior(rng, 60, errors, experiments=10)).passed
    errors[3] = autoregressive(rng, (1, 60), 0.97)
    gate = residuals_gate(line_posterior(rng, 60, errors, experiments=10))
    assert not gate.passed
    assert "`level, run 3`" in gate.sentence
    short = LEAST // 2
    assert residuals_gate(line_posterior(rng, short, rng.normal(size=(1, short)), experiments=1)) is None
    errors = autoregressive(rng, (40, short), 0.97)
    together = residuals_gate(line_posterior(rng, short, errors, experiments=40, fitted=False))
    assert not together.passed


def test_nothing_is_said_of_what_cannot_tell():
    rng = np.random.default_rng(5)
    assert residuals_gate(line_posterior(rng, LEAST, rng.normal(size=(1, LEAST)))) is None
    assert residuals_gate(line_posterior(rng, LEAST + 1, rng.normal(size=(1, LEAST + 1)))) is not None
    tree = line_posterior(rng, 200, autoregressive(rng, (1, 200), 0.97))
    for noise in ("Autocorrelated(scale ~ HalfNormal(1))", "Biased(Autocorrelated(scale = 1), bias = 2)"):
        tree.attrs["description"] = {"observations": [{"name": "y0", "noise": noise}]}
        assert residuals_gate(tree) is None
    process = {
        "observations": [{"name": "y0", "noise": "Gaussian(scale = 1)"}],
        "model_error": {"kind": "ProcessNoise"},
    }
    tree.attrs["description"] = process
    assert residuals_gate(tree) is None
    del tree["posterior_predictive"]
    tree.attrs["description"] = {}
    assert residuals_gate(tree) is None


def cooling(t, x, p, u):
    """Newton's law of cooling, heated."""
    return {"body": p.rate * (u.outside - x.body) + u.heating}


def unheated(t, x, p, u):
    """The same without its heating."""
    return {"body": p.rate * (u.outside - x.body)}


def body(field: Callable, inputs: tuple[str, ...]) -> bt.Twin:
    return bt.Twin(
        name="body",
        vector_field=field,
        states={"body": bt.State(initial=dist.Normal(20.0, 5.0))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 1.0))},
        inputs={name: bt.Input(hold="previous") for name in inputs},
        observations={"body": bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(1.0)))},
        time_unit="h",
    )


@pytest.fixture(scope="module")
def heated() -> bt.Telemetry:
    """What a heated body does, simulated; the heating is on for a while now and then."""
    rng = np.random.default_rng(6)
    time = np.arange(0.0, 40.0, 0.25)
    state, seen = 20.0, []
    outside, heating = 10.0 + 3.0 * np.sin(time / 4.0), np.where((time > 8) & (time < 20), 5.0, 0.0)
    for warm, heat in zip(outside, heating, strict=True):
        seen.append(state)
        level = warm + heat / 0.4
        state = level + (state - level) * np.exp(-0.4 * 0.25)
    frame = {"time": time, "body": seen + rng.normal(0, 0.2, time.size), "outside": outside, "heating": heating}
    return bt.read_telemetry(pd.DataFrame(frame), time="time")


@pytest.fixture(scope="module", params=["laplace", pytest.param("map", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest, heated: bt.Telemetry) -> tuple[xr.DataTree, xr.DataTree]:
    """A right twin and one that misses an input, calibrated."""
    twins = body(cooling, ("outside", "heating")), body(unheated, ("outside",))
    right, wrong = (bt.calibrate(twin, heated, seed=0, method=request.param, num_chains=2) for twin in twins)
    return right, wrong


def of_residuals(gates: tuple[Gate, ...]) -> Gate:
    (found,) = (gate for gate in gates if gate.name == "residuals")
    return found


def test_a_twin_that_misses_an_input_is_warned_of_and_the_right_one_is_not(both: tuple[xr.DataTree, xr.DataTree]):
    right, wrong = both
    assert of_residuals(diagnose(right)).passed
    assert of_residuals(diagnose(wrong)).severity == "warn"
    assert not of_residuals(diagnose(wrong)).passed
    assert of_residuals(diagnose(wrong, strict=["residuals"])).severity == "fail"
    assert of_residuals(diagnose(wrong, max_residual_correlation=1.0)).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [bt.Discrepancy({"body": dist.HalfNormal(3.0)}, length={"body": 2.0}), bt.ProcessNoise({"body": 2.0})],
)
def test_a_model_error_that_takes_up_what_is_missing_is_not_warned_of(heated: bt.Telemetry, error: bt.Discrepancy):
    found = bt.calibrate(body(unheated, ("outside",)), heated, seed=0, method="laplace", model_error=error)
    assert all(gate.passed for gate in diagnose(found) if gate.name == "residuals")
