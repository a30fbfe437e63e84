"""Every way to a posterior takes several experiments: methods, checkpoints, NumPyro; and failures name one."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from twins import decay, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all, times_of
from bayestwin.density.density import build_density
from bayestwin.errors import InvalidTelemetry, InvalidTwin, NoValidStart
from bayestwin.inference.method import Draws
from bayestwin.model.describe import fingerprint
from bayestwin.results.checkpoint import FileCheckpoint
from bayestwin.results.schema import axes_of

TRUTH = {"rate": 0.8, "first": 5.0, "second": 4.0}


def leaks(**changes: object) -> bt.Twin:
    """The decay, solved no more precisely than needed, with a known noise."""
    settings = {"observations": {"level": bt.Observation(bt.Gaussian(0.1), unit="m")}}
    return decay(**(settings | {"solver": bt.Solver("tsit5", rtol=1e-5, atol=1e-7)} | changes))


@functools.cache
def two() -> dict[str, bt.Telemetry]:
    """Two runs at the same rate, from different levels."""
    rng, found = np.random.default_rng(5), {}
    for name, num in (("first", 12), ("second", 7)):
        times = np.linspace(0.0, 2.0, num)
        level = TRUTH[name] * np.exp(-TRUTH["rate"] * times) + 0.1 * rng.standard_normal(num)
        found[name] = telemetry_of({"time": times, "level": level})
    return found


def drawn(method: str, **settings: object) -> xr.Dataset:
    tree = bt.calibrate(leaks(), two(), seed=2, method=method, predictive_draws=20, **settings)
    return tree["posterior"].to_dataset()


@functools.cache
def by_laplace() -> xr.Dataset:
    return drawn("laplace", num_samples=1000, num_chains=2)


@pytest.mark.thorough
def test_laplace_recovers_the_truth() -> None:
    found = by_laplace()
    assert found["level_initial"].dims == ("chain", "draw", "experiment")
    for name, truth in (("rate", 0.8), ("level_initial", [5.0, 4.0])):
        mean, spread = found[name].mean(("chain", "draw")), found[name].std(("chain", "draw"))
        assert (np.abs(mean - np.asarray(truth)) < 4.0 * spread).all()
        assert (spread < 0.15).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smc", "pathfinder"])
def test_other_methods_agree(method: str) -> None:
    found = drawn(method, num_samples=300, num_chains=2)
    for name, expected in by_laplace().items():
        # 600 draws that are not all independent: say 100, whose mean lies within 0.4 standard deviations
        distance = found[name].mean(("chain", "draw")) - expected.mean(("chain", "draw"))
        assert (np.abs(distance) < 0.4 * expected.std(("chain", "draw"))).all(), name


@pytest.mark.thorough
def test_the_most_probable_values_have_errors_by_experiment() -> None:
    tree = bt.calibrate(leaks(), two(), seed=2, method="map", loss="huber")
    errors = tree.attrs["standard_errors"]
    assert set(errors) == {"rate", "level_initial[first]", "level_initial[second]"}
    assert all(0.01 < error < 0.15 for error in errors.values())


@pytest.mark.thorough
def test_one_experiment_is_what_a_single_telemetry_is() -> None:
    settings = {"seed": 4, "method": "laplace", "num_samples": 100, "num_chains": 1, "predictive_draws": 10}
    one = bt.calibrate(leaks(), {"first": two()["first"]}, **settings)
    single = bt.calibrate(leaks(), two()["first"], **settings)
    for group in ("posterior", "observed_data"):
        for name, values in single[group].data_vars.items():
            np.testing.assert_allclose(one[group][name].values.squeeze(), values.values.squeeze(), rtol=1e-6)


def test_a_checkpoint_opens_as_a_result(tmp_path: Path) -> None:
    density = build_density(leaks(), bind_all(leaks(), two()))
    kept = FileCheckpoint(tmp_path / "kept.nc", density, {}, axes_of(density.bound, density.experiments))
    kept.leave({"at": np.zeros(3)}, Draws(np.zeros((1, 3, 3)), {"lp": np.zeros((1, 3))}, {}))
    shown = bt.load(tmp_path / "kept.nc")["posterior"].to_dataset()
    assert shown["level_initial"].dims == ("chain", "draw", "experiment")
    assert list(shown["experiment"].values) == ["first", "second"]


def test_experiments_under_other_names_or_in_another_order_are_others() -> None:
    one, other = two().values()
    named = [two(), {"second": other, "first": one}, {"first": one, "third": other}, {"first": one}]
    assert len({times_of(leaks(), telemetry)["telemetry_sha256"] for telemetry in (*named, one)}) == 5


def test_numpyro_has_the_same_log_density() -> None:
    own = leaks(
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="m", shared=False)},
        observations={"level": bt.Observation(bt.Gaussian("rate"), unit="m")},
    )
    density = build_density(own, bind_all(own, two()))
    model = bt.numpyro_model(own, two())
    for seed in range(3):
        z = jnp.asarray(np.random.default_rng(seed).normal(size=4) * 0.3)
        values = density.constrain(z)
        found = log_density(model, (), {}, values)[0]
        expected = density(z) - density.constrain_with_log_det(z)[1]
        assert float(found) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.thorough
def test_the_experiment_that_cannot_be_solved_is_named() -> None:
    twin = leaks(
        vector_field=lambda t, x, p, u: {"level": p.rate * x.level**2 * (t > 1.5)},
        parameters={"rate": bt.Parameter(dist.LogNormal(3.0, 0.1))},
    )
    short = two()["second"].between(end=1.4)
    with pytest.raises(NoValidStart, match="in experiment `second` state `level`"):
        bt.calibrate(twin, {"first": short, "second": two()["second"]}, seed=0)


def test_a_known_value_cannot_be_another_in_each_experiment() -> None:
    with pytest.raises(InvalidTwin, match="Parameter `rate` is said to differ between experiments, and is known"):
        leaks(parameters={"rate": bt.Parameter(0.8, shared=False)})
    with pytest.raises(InvalidTwin, match="`experiment` stands for two things"):
        leaks(
            parameters={"rate": bt.Parameter(0.8), "experiment": bt.Parameter(dist.Normal())},
            vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        )


def test_what_is_shared_is_part_of_a_twins_fingerprint() -> None:
    start, rate = dist.Normal(5.0, 1.0), dist.LogNormal(0.0, 0.5)
    states = [{"level": bt.State(start, shared=shared)} for shared in (False, True)]
    parameters = [{"rate": bt.Parameter(rate, shared=shared)} for shared in (True, False)]
    found = {fingerprint(leaks(states=s, parameters=p)) for s in states for p in parameters}
    assert len(found) == 4


def test_a_long_table_is_cut_by_a_column(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("run,time,height\n7,0,5\n7,1,2.2\n3,0,4\n3,0.5,2.7\n7,2,1\n")
    found = bt.read_experiments(path, by="run", rename={"height": "level"}, units={"height": "cm"})
    assert list(found) == ["7", "3"]
    np.testing.assert_array_equal(found["7"].table.index, [0.0, 1.0, 2.0])
    np.testing.assert_allclose(found["3"].in_unit("level", "m"), [0.04, 0.027])
    assert "run" not in found["7"].table
    bound = bind_all(leaks(), found)
    np.testing.assert_allclose(bound["7"].observations["level"], [0.05, 0.022, 0.01])
    with pytest.raises(InvalidTelemetry, match="no experiments in `subject`"):
        bt.read_experiments(path, by="subject")
    path.write_text("run,time,height\n7,0,5\n,1,2.2\n")
    with pytest.raises(InvalidTelemetry, match="1 rows without one"):
        bt.read_experiments(path, by="run")
    path.write_text("run,time,height\n7,0,5\n7,0,2.2\n8,0,1\n")
    with pytest.raises(InvalidTelemetry, match="In experiment `7`: The time in `time` occurs twice"):
        bt.read_experiments(path, by="run")


def test_the_cost_of_a_gradient_grows_with_the_number_of_experiments_and_not_with_its_square() -> None:
    flops = {}
    for num in (2, 16):
        density = build_density(leaks(), bind_all(leaks(), {f"e{number}": two()["first"] for number in range(num)}))
        cost = jax.jit(jax.grad(density)).lower(jnp.zeros(1 + num)).compile().cost_analysis()
        flops[num] = cost["flops"]
    # tangents along all starts in every experiment would make it 8 · 17 / 3 = 45 times as much
    assert 4.0 < flops[16] / flops[2] < 12.0
