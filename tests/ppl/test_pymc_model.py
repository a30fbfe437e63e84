"""The PyMC model has the log density that `calibrate` uses, and users build priors and hierarchy around it."""

import dataclasses
import functools

import arviz as az
import jax
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytensor
import pytest
from pytensor.compile.mode import Mode
from twins import (
    NOISES,
    PELTS,
    bound_density,
    counted,
    counted_telemetry,
    decay,
    decay_telemetry,
    known_decay,
    lynx_hare,
    pelts,
    tank,
    tank_telemetry,
)

import bayestwin as bt
from bayestwin.errors import InvalidSetting, InvalidTwin

CASES = {name: (counted(noise), counted_telemetry()) for name, noise in NOISES.items()}
CASES["lynx_hare"] = (lynx_hare(), pelts())
CASES["tank"] = (tank(), tank_telemetry())

INTERPRETED = Mode("py", "fast_compile")
"""PyTensor without a compiler: seconds less where a function is called a few times."""


def prior_points(twin: bt.Twin, telemetry: bt.Telemetry, num: int) -> np.ndarray:
    """Prior draws in unconstrained space, shape (num, d)."""
    density = bound_density(twin, telemetry)
    return density.draw_prior(jax.random.split(jax.random.key(3), num))[1]


def point_of(model: pm.Model, z: np.ndarray) -> dict[str, np.ndarray]:
    """z in the form that PyMC's compiled functions take; without a start the coordinates are the same."""
    return {variable.name: np.asarray(value) for variable, value in zip(model.value_vars, z, strict=True)}


QUICK = ("lynx_hare", "poisson")


@pytest.mark.thorough
@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in QUICK else [pytest.mark.slow]) for c in CASES])
def test_its_log_density_and_gradient_are_ours(case: str) -> None:
    twin, telemetry = CASES[case]
    density, model = bound_density(twin, telemetry), bt.pymc_model(twin, telemetry, start=False)
    theirs = model.compile_fn([model.logp(), model.dlogp()], inputs=model.value_vars, mode=INTERPRETED)
    ours = jax.jit(jax.vmap(jax.value_and_grad(density)))
    points = prior_points(twin, telemetry, 8)
    values, gradients = (np.asarray(leaf) for leaf in ours(points))
    finite = np.isfinite(values)
    assert finite.sum() >= 4
    for z, value, gradient in zip(points[finite], values[finite], gradients[finite], strict=True):
        found = theirs(point_of(model, z))
        assert found[0] == pytest.approx(value, rel=1e-7)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-7, atol=1e-7 * np.abs(gradient).max())


def test_its_variables_dimensions_and_times_are_named() -> None:
    model = bt.pymc_model(*CASES["lynx_hare"], start=False)
    assert [v.name for v in model.free_RVs] == [site.name for site in lynx_hare().sites()]
    assert [v.name for v in model.observed_RVs] == ["hare", "lynx"]
    assert model.named_vars_to_dims == {"hare": ("time",), "lynx": ("time",)}
    np.testing.assert_array_equal(model.coords["time"], PELTS["year"])
    # gaps of their own, and one that saw nothing
    model = bt.pymc_model(*CASES["tank"], start=False)
    assert model.named_vars_to_dims == {"water": ("water_time",), "top": ("top_time",)}
    assert [len(model.coords[f"{name}_time"]) for name in ("water", "top")] == [8, 8]


@pytest.mark.thorough
def test_one_call_of_one_operator_gives_the_density_and_its_gradient() -> None:
    model = bt.pymc_model(*CASES["lynx_hare"], start=False)
    compiled = model.compile_fn([model.logp(), model.dlogp()], inputs=model.value_vars, mode=INTERPRETED)
    nodes = compiled.f.maker.fgraph.apply_nodes
    assert [type(node.op).__name__ for node in nodes].count("JaxTerms") == 1


def test_a_failed_solve_is_impossible_and_not_an_error() -> None:
    twin = decay(vector_field=lambda t, x, p, u: {"level": p.rate * x.level**2})
    model = bt.pymc_model(twin, decay_telemetry(), start=False)
    compiled = model.compile_fn([model.logp(), model.dlogp()], inputs=model.value_vars, mode=INTERPRETED)
    value, gradient = compiled(point_of(model, np.array([np.log(5.0), 5.0, 0.0])))
    assert value == -np.inf
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_chains_start_where_the_density_is_high_however_pymc_shakes_them() -> None:
    twin, telemetry = CASES["lynx_hare"]
    model = bt.pymc_model(twin, telemetry)
    log_density = model.compile_logp(mode=INTERPRETED)
    start = model.initial_point()
    rng = np.random.default_rng(0)
    shaken = [{name: at + rng.uniform(-1.0, 1.0) for name, at in start.items()} for _ in range(200)]
    below = [log_density(start) - log_density(point) for point in shaken]
    # uniform to 2 deviations in each of 8 coordinates: half the sum of squares is 16/3 on average, were it normal
    assert np.mean(below) < 12.0
    assert max(below) < 60.0


# PyMC draws new observations from any custom distribution in Python, and says so
PREDICTED_IN_PYTHON = pytest.mark.filterwarnings("ignore:Numba will use object mode")


@functools.cache
def sampled() -> tuple[pm.Model, object]:
    """The decay at a known rate, whose posterior is normal and known, sampled by PyMC."""
    telemetry = decay_telemetry()
    with bt.pymc_model(known_decay(), telemetry) as model:
        trace = pm.sample(500, tune=300, chains=2, cores=1, random_seed=1, progressbar=False, quiet=True)
        pm.compute_log_likelihood(trace, progressbar=False)
        trace.update(pm.sample_posterior_predictive(trace, random_seed=2, progressbar=False))
    return model, trace


@pytest.mark.slow
@PREDICTED_IN_PYTHON
def test_pymc_samples_it_with_its_defaults() -> None:
    draws = sampled()[1]["posterior/level_initial"].values
    telemetry = decay_telemetry().table
    faded = np.exp(-0.8 * telemetry.index.to_numpy())
    precision = 1.0 + (faded**2).sum() / 0.09
    mean = (5.0 + (faded * telemetry["level"].to_numpy()).sum() / 0.09) / precision
    assert abs(draws.mean() - mean) < 4 * float(az.mcse(draws, method="mean"))
    assert abs(draws.std() - precision**-0.5) < 4 * float(az.mcse(draws, method="sd"))


@pytest.mark.thorough
@PREDICTED_IN_PYTHON
def test_its_log_likelihood_and_predictions_go_by_observation_and_time() -> None:
    trace = sampled()[1]
    telemetry = decay_telemetry().table
    level = trace["posterior/level_initial"].values[..., None] * np.exp(-0.8 * telemetry.index.to_numpy())
    residual = (telemetry["level"].to_numpy() - level) / 0.3
    exact = -0.5 * residual**2 - np.log(0.3 * np.sqrt(2.0 * np.pi))
    np.testing.assert_allclose(trace["log_likelihood/level"].values, exact, atol=1e-5)
    new = trace["posterior_predictive/level"]
    assert new.dims == ("chain", "draw", "time")
    # 12,000 standard normal numbers, independent of each other
    scaled = (new.values - level) / 0.3
    assert abs(scaled.mean()) < 4 / np.sqrt(scaled.size)
    assert abs(scaled.std() - 1.0) < 4 / np.sqrt(2 * scaled.size)
    np.testing.assert_array_equal(trace["observed_data/level"], telemetry["level"])


@pytest.mark.thorough
def test_a_hierarchy_stands_above_two_assets() -> None:
    twin, first, second = decay(), decay_telemetry(), decay_telemetry(9)
    with pm.Model() as fleet:
        centre = pm.Normal("centre", 0.0, 1.0)
        for name, telemetry in (("a", first), ("b", second)):
            with pm.Model(name=name):
                rate = pm.LogNormal("rate", centre, 0.3)
                bt.pymc_model(twin, telemetry, priors={"rate": rate, "level_scale": 0.2}, start=False)
    assert {v.name for v in fleet.free_RVs} == {"centre", "a::rate", "a::level_initial", "b::rate", "b::level_initial"}
    values = {"centre": 0.1, "a::rate": 0.7, "a::level_initial": 5.1, "b::rate": 0.9, "b::level_initial": 4.8}
    exact = dist.Normal(0.0, 1.0).log_prob(values["centre"])
    for name, telemetry in (("a", first), ("b", second)):
        theirs = {"rate": values[f"{name}::rate"], "level_initial": values[f"{name}::level_initial"]}
        density = bound_density(twin, telemetry)
        terms = density.log_likelihood(given := theirs | {"level_scale": 0.2}, density.predict(given))
        exact += terms["level"].sum() + dist.LogNormal(values["centre"], 0.3).log_prob(theirs["rate"])
        exact += dist.Normal(5.0, 1.0).log_prob(theirs["level_initial"])
    logp = fleet.compile_logp(jacobian=False, mode=INTERPRETED)
    unconstrained = {n: np.log(v) if n.endswith("rate") else np.asarray(v) for n, v in values.items()}
    found = logp({v.name: unconstrained[fleet.values_to_rvs[v].name] for v in fleet.value_vars})
    assert found == pytest.approx(float(exact), rel=1e-7)
    assert {"a::level_scale", "b::level_scale"} <= {v.name for v in fleet.deterministics}


def test_a_prior_under_another_name_is_recorded_under_its_own() -> None:
    with pm.Model() as model:
        effect = pm.Normal("effect", 0.0, 1.0, shape=3)
        same = bt.pymc_model(decay(), decay_telemetry(), priors={"rate": pm.math.exp(effect[1])}, start=False)
    assert same is model
    assert [v.name for v in model.deterministics] == ["rate"]


MISTAKES = {
    "another name": ({"speed": 1.0}, "the twin infers no `speed`"),
    "text": ({"rate": "normal"}, "`rate` is neither a variable of PyMC's nor a finite number"),
    "a NumPyro prior": ({"rate": dist.Normal(0.0, 1.0)}, "`rate` is neither a variable of PyMC's"),
    "not finite": ({"rate": np.nan}, "`rate` is neither a variable of PyMC's nor a finite number"),
    "a vector": ({"rate": pytensor.tensor.dvector()}, "`rate` has 1 dimensions, and a site is one number"),
    "no model around": ({"rate": pytensor.tensor.dscalar()}, "there is no model around"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_priors_that_do_not_fit_are_refused(mistake: str) -> None:
    priors, words = MISTAKES[mistake]
    with pytest.raises(InvalidSetting, match=words):
        bt.pymc_model(decay(), decay_telemetry(), priors=priors)


def test_names_that_are_taken_are_refused() -> None:
    with pm.Model() as model:
        pm.Normal("rate", 0.0, 1.0)
        with pytest.raises(InvalidSetting, match=r"one that has `rate`\n.*priors=\{'rate': …\}"):
            bt.pymc_model(decay(), decay_telemetry())
    assert len(model.named_vars) == 1


def test_a_twin_with_nothing_to_infer_is_refused() -> None:
    twin = known_decay()
    known = dataclasses.replace(twin, states={"level": bt.State(5.0)})
    with pytest.raises(InvalidTwin, match="nothing to infer"):
        bt.pymc_model(known, decay_telemetry())


def test_single_precision_is_refused() -> None:
    with jax.enable_x64(False), pytest.raises(InvalidSetting, match="float64"):
        bt.pymc_model(decay(), decay_telemetry())
