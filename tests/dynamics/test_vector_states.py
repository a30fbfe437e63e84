"""A state that is an array is solved as its entries spelled out are, and has its dimensions in every result."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from pytensor.compile.mode import Mode
from scipy.integrate import solve_ivp
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin.density import predictor
from bayestwin.dynamics import affine
from bayestwin.dynamics.affine import is_affine
from bayestwin.dynamics.grid import build_grid
from bayestwin.dynamics.solve import solve
from bayestwin.dynamics.steppers import LARGE, invert
from bayestwin.errors import InvalidTwin
from bayestwin.model.describe import describe, fingerprint
from bayestwin.model.tracing import Layout
from bayestwin.report.reading import entries_of

TIMES = np.array([0.0, 0.1, 0.25, 0.7, 1.0])
CELLS = 5
PLACES = np.arange(1, CELLS + 1) / (CELLS + 1)


def conduction(t, x, p, u):
    """Heat in a rod whose ends are kept at zero."""
    padded = jnp.pad(x.temperature, 1)
    return {"temperature": p.diffusivity * jnp.diff(padded, 2) / (PLACES[1] - PLACES[0]) ** 2}


def rod(**changes: object) -> bt.Twin:
    settings = {
        "name": "rod",
        "vector_field": conduction,
        "states": {"temperature": bt.State(np.sin(np.pi * PLACES), unit="K", coords={"place": PLACES})},
        "parameters": {"diffusivity": bt.Parameter(dist.LogNormal(-2.0, 0.5))},
        "observations": {"probe": bt.Observation(noise=bt.Gaussian(0.01), of=lambda t, x, p, u: x.temperature[1])},
    }
    return bt.Twin(**{**settings, **changes})


def spelled_out() -> bt.Twin:
    """The same rod, each cell a state of its own."""

    def field(t, x, p, u):
        padded = [0.0, *x, 0.0]
        each = [padded[i] - 2 * padded[i + 1] + padded[i + 2] for i in range(CELLS)]
        return {f"cell{i}": p.diffusivity * (CELLS + 1) ** 2 * each[i] for i in range(CELLS)}

    states = {f"cell{i}": bt.State(float(np.sin(np.pi * place))) for i, place in enumerate(PLACES)}
    probe = bt.Observation(noise=bt.Gaussian(0.01), of=lambda t, x, p, u: x.cell1)
    return rod(vector_field=field, states=states, observations={"probe": probe})


def modes(rate: float, times: np.ndarray, *numbers: int) -> np.ndarray:
    """The sum of these modes, each at size 1 at first, under the operator of the rod; shape (n, cells)."""
    decay = [4.0 * rate * (CELLS + 1) ** 2 * np.sin(k * np.pi / 2 / (CELLS + 1)) ** 2 for k in numbers]
    return sum(np.outer(np.exp(-d * times), np.sin(k * np.pi * PLACES)) for d, k in zip(decay, numbers, strict=True))


def states_of(twin: bt.Twin, times: np.ndarray, values: dict[str, float]) -> np.ndarray:
    grid = build_grid(twin, times, times, {})
    return np.asarray(jax.jit(lambda given: solve(twin, grid, given).states)(values))


def record() -> bt.Telemetry:
    return telemetry_of({"time": TIMES[1:], "probe": 0.3 * np.exp(-TIMES[1:])}, time="time", t0=0.0)


@pytest.mark.parametrize(("method", "error"), [("exact", 1e-13), ("tsit5", 3e-6), ("rodas5p", 3e-6)])
def test_modes_decay_at_the_eigenvalues_of_the_operator(method: str, error: float) -> None:
    start = bt.State(modes(0.0, np.zeros(1), 1, 3)[0], coords={"place": PLACES})
    twin = rod(states={"temperature": start}, solver=bt.Solver(method))
    assert is_affine(twin)
    found = states_of(twin, TIMES, {"diffusivity": 0.13})
    np.testing.assert_allclose(found, modes(0.13, TIMES, 1, 3), atol=error)


def test_density_and_gradient_are_those_of_the_entries_spelled_out() -> None:
    found = []
    for twin in (rod(solver=bt.Solver("tsit5")), dataclasses.replace(spelled_out(), solver=bt.Solver("tsit5"))):
        density = bound_density(twin, record())
        found.append(jax.jit(jax.value_and_grad(density))(jnp.array([-1.7])))
    for array, each in zip(*found, strict=True):
        np.testing.assert_allclose(array, each, rtol=1e-9)
    assert np.abs(found[0][1]) > 1.0


def reaction(t, x, p, u):
    """Growth and spread, and two scalars beside them, one of them positive."""
    padded = jnp.concatenate([x.density[:1], x.density, x.density[-1:]])
    spread = 9.0 * jnp.diff(padded, 2)
    return {"food": -0.2 * x.density.sum(), "density": x.density * (1.0 - x.density) + spread, "age": x.age * p.rate}


def test_arrays_and_scalars_together_follow_scipy_through_an_event() -> None:
    def graze(t, x, p, u):
        return {"density": x.density.at[2:].multiply(0.1), "food": x.food + 1.0}

    start = np.array([0.9, 0.5, 0.2, 0.1])
    twin = bt.Twin(
        name="front",
        vector_field=reaction,
        states={"food": bt.State(3.0), "density": bt.State(start, size=4, positive=True), "age": bt.State(1.0)},
        parameters={"rate": bt.Parameter(dist.Normal(0.0, 1.0))},
        observations={"food": bt.Observation(noise=bt.Gaussian(0.1))},
        events={"graze": bt.Event(graze, at=(0.5,))},
    )

    def field(t: float, y: np.ndarray) -> np.ndarray:
        density = y[1:5]
        spread = 9.0 * np.diff(np.concatenate([density[:1], density, density[-1:]]), 2)
        return np.concatenate([[-0.2 * density.sum()], density * (1.0 - density) + spread, [0.3 * y[5]]])

    settings = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-12}
    early = solve_ivp(field, (0.0, 0.5), np.concatenate([[3.0], start, [1.0]]), **settings).y[:, -1]
    jumped = early * np.array([1.0, 1.0, 1.0, 0.1, 0.1, 1.0]) + np.array([1.0, 0, 0, 0, 0, 0])
    late = solve_ivp(field, (0.5, 1.0), jumped, **settings).y[:, -1]
    found = states_of(twin, np.array([0.0, 0.5, 1.0]), {"rate": 0.3})
    np.testing.assert_allclose(found[1:], [early, late], rtol=1e-5)


def test_an_event_that_the_array_triggers_happens_when_its_entry_crosses() -> None:
    """Entries that grow at rates 1, 2, 3 are all set to zero when the last reaches 1.5: at 0.5, and again at 1."""
    twin = bt.Twin(
        name="clocks",
        vector_field=lambda t, x, p, u: {"clock": jnp.arange(1.0, 4.0) * p.pace},
        states={"clock": bt.State(0.0, size=3)},
        parameters={"pace": bt.Parameter(dist.LogNormal(0.0, 0.1))},
        observations={"last": bt.Observation(noise=bt.Gaussian(0.1), of=lambda t, x, p, u: x.clock[2])},
        events={"reset": bt.Event(lambda t, x, p, u: {"clock": 0.0}, when=lambda t, x, p, u: x.clock[2] - 1.5)},
    )
    found = states_of(twin, np.array([0.0, 0.4, 0.9, 1.2]), {"pace": 1.0})
    np.testing.assert_allclose(found, np.outer([0.0, 0.4, 0.4, 0.2], [1.0, 2.0, 3.0]), atol=1e-7)


@pytest.mark.thorough
def test_each_entry_switches_at_its_own_time() -> None:
    """Entry i rises at rate 1 from time (i + 1) / 4 on."""
    onsets = np.array([0.25, 0.5, 0.75])
    twin = bt.Twin(
        name="onsets",
        vector_field=lambda t, x, p, u: {"level": jnp.where(t > p.slowness * onsets, 1.0, 0.0)},
        states={"level": bt.State(lambda p: 0.0 * p.slowness, size=3)},
        parameters={"slowness": bt.Parameter(dist.LogNormal(0.0, 0.1))},
        observations={"last": bt.Observation(noise=bt.Gaussian(0.1), of=lambda t, x, p, u: x.level[2])},
    )
    times = np.array([0.0, 1.0])
    grid = build_grid(twin, times, times, {})
    last = jax.jit(jax.jacfwd(lambda slowness: solve(twin, grid, {"slowness": slowness}).states[-1]))
    np.testing.assert_allclose(states_of(twin, times, {"slowness": 1.2})[-1], 1.0 - 1.2 * onsets, atol=1e-9)
    np.testing.assert_allclose(last(1.2), -onsets, atol=1e-9)


def test_all_entries_of_an_array_start_in_equilibrium() -> None:
    twin = rod(
        vector_field=lambda t, x, p, u: {"temperature": p.diffusivity * (PLACES - x.temperature)},
        states={"temperature": bt.State(bt.SteadyState(0.5), coords={"place": PLACES})},
    )
    np.testing.assert_allclose(states_of(twin, TIMES, {"diffusivity": 0.3}), np.tile(PLACES, (len(TIMES), 1)))


def test_large_matrices_are_inverted_as_small_ones_are() -> None:
    matrix = np.random.default_rng(0).standard_normal((LARGE + 1, LARGE + 1)) + 10.0 * np.eye(LARGE + 1)
    small = matrix[:-1, :-1]
    np.testing.assert_allclose(invert(jnp.asarray(matrix)) @ matrix, np.eye(LARGE + 1), atol=1e-12)
    np.testing.assert_allclose(invert(jnp.asarray(small)) @ small, np.eye(LARGE), atol=1e-12)


def test_results_have_the_dimensions_of_the_array() -> None:
    found = bt.simulate(rod(), {"diffusivity": 0.13}, record(), seed=0)
    path = found["temperature_state"]
    assert path.dims == ("time", "place")
    np.testing.assert_array_equal(path["place"], PLACES)
    np.testing.assert_allclose(path.values, modes(0.13, TIMES[1:], 1), atol=1e-12)
    np.testing.assert_allclose(found["probe_noise_free"], path.isel(place=1))


def test_of_a_line_and_a_plane_no_more_numbers_are_kept_than_there_is_room_for() -> None:
    along = {"x": np.arange(40.0)}
    places = {"line": along, "edge": {"z": np.arange(400.0)}, "plane": along | {"y": np.arange(10.0)}}
    states = {name: bt.State(0.0, coords=coords) for name, coords in places.items()}
    twin = rod(
        vector_field=lambda t, x, p, u: {name: -p.diffusivity * x[name] for name in places},
        states=states,
        observations={"probe": bt.Observation(noise=bt.Gaussian(0.01), of=lambda t, x, p, u: x.line[1])},
    )
    times = 4 * predictor.MOST_NUMBERS // 840
    kept = predictor.entries_kept(twin, times)
    assert {dim: len(rows) for dim, rows in kept.items()} == {"x": 10, "y": 5, "z": 100}
    assert (10 + 100 + 10 * 5) * times <= predictor.MOST_NUMBERS
    assert predictor.entries_kept(twin, predictor.MOST_NUMBERS // 840) == {}


@pytest.mark.thorough
def test_posterior_prediction_and_file_keep_them(tmp_path, monkeypatch) -> None:
    """Long trajectories are kept at fewer places, the first and the last among them, and the words say so."""
    twin = rod()
    few = {"num_warmup": 20, "num_samples": 20, "num_chains": 2, "predictive_draws": 10}
    monkeypatch.setattr(predictor, "MOST_NUMBERS", 10 * 4 * 3)  # of 10 draws, 4 times
    posterior = bt.calibrate(twin, record(), seed=0, method="laplace", **few)
    path = posterior["posterior_predictive"]["temperature_state"]
    assert path.dims == ("chain", "draw", "time", "place")
    assert path.shape == (2, 5, 4, 3)
    np.testing.assert_array_equal(path["place"], PLACES[[0, 2, 4]])
    assert "at 3 of its 5 places" in path.attrs["long_name"]
    drawn = posterior["posterior"]["diffusivity"].sel(draw=path["draw"])
    expected = np.stack([[modes(float(d), TIMES[1:], 1) for d in chain] for chain in drawn.values])
    np.testing.assert_allclose(path, expected[..., [0, 2, 4]], atol=1e-6)

    bt.save(posterior, tmp_path / "rod.nc")
    read = bt.load(tmp_path / "rod.nc")["posterior_predictive"]["temperature_state"]
    assert read.identical(path)

    monkeypatch.undo()
    anew = bt.predict(twin, posterior, record(), seed=0, initial={"temperature": 2.0 * PLACES}, draws=4)
    path = anew["predictions"]["temperature_state"]
    assert path.dims == ("chain", "draw", "time", "place")
    assert path.sizes["place"] == CELLS
    first = np.asarray(modes(0.0, np.zeros(1), 1))  # of the calibration: what is predicted here starts elsewhere
    assert np.abs(path.isel(time=0) - first).max() > 0.1


def test_the_fingerprint_sees_size_and_labels() -> None:
    size = rod(states={"temperature": bt.State(0.5, size=CELLS)})
    twins = [rod(), size, rod(states={"temperature": bt.State(0.5, coords={"place": PLACES})})]
    twins += [rod(states={"temperature": bt.State(np.cos(PLACES), coords={"place": PLACES})})]
    twins += [rod(states={"temperature": bt.State(0.5, coords={"cell": PLACES})})]
    assert len({fingerprint(twin) for twin in twins}) == len(twins)
    assert describe(size)["states"][0]["dimensions"] == {"temperature_dim_0": list(range(CELLS))}


def state(**settings: object) -> dict:
    return {"temperature": bt.State(**{"initial": 0.0, "size": CELLS, **settings})}


WRONG = {
    "scalar derivative": (
        lambda: rod(vector_field=lambda t, x, p, u: {"temperature": x.temperature.sum()}),
        ["derivative of `temperature`", "shape (5,)", "shape ()"],
    ),
    "derivative of another size": (
        lambda: rod(vector_field=lambda t, x, p, u: {"temperature": jnp.diff(x.temperature)}),
        ["derivative of `temperature`", "shape (5,)", "shape (4,)"],
    ),
    "observed as a whole": (
        lambda: rod(observations={"temperature": bt.Observation(noise=bt.Gaussian(0.1))}),
        ["which entry", "scalar", "shape (5,)", "x.temperature["],
    ),
    "initial of another size": (
        lambda: rod(states=state(initial=np.zeros(4))),
        ["initial value of state `temperature`", "shape (5,)", "shape (4,)"],
    ),
    "initial not finite": (lambda: rod(states=state(initial=[0.0, 1.0, np.nan, 0.0, 0.0])), ["not all of them finite"]),
    "initial function of another size": (
        lambda: rod(states=state(initial=lambda p: p.diffusivity * jnp.ones(3))),
        ["`initial=` of state `temperature`", "shape (5,)", "shape (3,)"],
    ),
    "array for a scalar": (lambda: rod(states=state(size=None, initial=np.zeros(5))), ["one number", "size="]),
    "size and coords": (lambda: rod(states=state(coords={"place": PLACES})), ["size of state `temperature`"]),
    "size of nothing": (lambda: rod(states=state(size=0)), ["size of state `temperature`", "size=0"]),
    "labels twice": (
        lambda: rod(states=state(size=None, coords={"place": [1, 1, 2, 3, 4]})),
        ["dimensions of state `temperature`", "different labels"],
    ),
    "a dimension of results": (lambda: rod(states=state(size=None, coords={"draw": PLACES})), ["`draw`", "taken"]),
    "a name of the twin": (
        lambda: rod(states=state(size=None, coords={"diffusivity": PLACES})),
        ["`diffusivity` stands for two things"],
    ),
    "two meanings of a dimension": (
        lambda: rod(
            states={
                "temperature": bt.State(0.0, coords={"place": PLACES}),
                "moisture": bt.State(0.0, coords={"place": PLACES + 1}),
            }
        ),
        ["`temperature` and `moisture`", "dimension `place`"],
    ),
    "event of another size": (
        lambda: rod(events={"reset": bt.Event(lambda t, x, p, u: {"temperature": jnp.zeros(2)}, at=(1.0,))}),
        ["new value of `temperature`", "shape (5,)", "shape (2,)"],
    ),
    "process noise": (
        lambda: rod(model_error=bt.ProcessNoise(scale={"temperature": 0.1})),
        ["state `temperature`, which is an array"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_an_error(case: str) -> None:
    build, words = WRONG[case]
    with pytest.raises(InvalidTwin) as raised:
        build()
    for word in words:
        assert word in str(raised.value)


def test_numpyro_and_pymc_have_its_log_density() -> None:
    density, theirs = bound_density(rod(), record()), bt.numpyro_model(rod(), record())
    z = jnp.array([-1.7])
    values, correction = density.constrain_with_log_det(z)
    found = log_density(theirs, (), {}, values)[0]
    assert float(found) == pytest.approx(float(density(z) - correction), rel=1e-9)

    model = bt.pymc_model(rod(), record(), start=False)
    logp = model.compile_fn(model.logp(), inputs=model.value_vars, mode=Mode("py", "fast_compile"))
    assert logp({model.value_vars[0].name: np.asarray(z[0])}) == pytest.approx(float(density(z)), rel=1e-7)


@pytest.mark.slow
def test_backtest_and_report_show_it() -> None:
    times = np.arange(1, 13) / 12.0
    record = telemetry_of({"time": times, "probe": 0.9 * np.exp(-1.3 * times)}, time="time", t0=0.0)
    quick = {"method": "laplace", "num_samples": 30, "num_chains": 2, "predictive_draws": 20}
    tree = bt.backtest(rod(), record, origins=(0.5, 0.75), horizon=0.25, seed=0, draws=20, **quick)
    path = tree["predictions"]["temperature_state"]
    assert path.dims == ("chain", "draw", "place", "origin", "horizon")
    np.testing.assert_array_equal(path["place"], PLACES)
    np.testing.assert_allclose(path.isel(place=1), tree["predictions"]["probe_noise_free"])
    assert bt.coverage(tree, record)["num"].sum() > 0

    page = bt.render_report(bt.calibrate(rod(), record, seed=0, **quick))
    assert all(f"temperature, place {place:.4g}" in page for place in PLACES[[0, 2, 4]])
    assert f"temperature, place {PLACES[1]:.4g}" not in page


def test_pages_draw_a_few_entries() -> None:
    path = xr.DataArray(
        np.arange(2.0 * 3 * 4 * 5).reshape(1, 2, 3, 4, 5),
        dims=("chain", "draw", "time", "row", "column"),
        coords={"row": list("abcd"), "column": np.linspace(0, 1, 5)},
    )
    found = entries_of("field", path)
    assert list(found) == ["field, row a, column 0", "field, row c, column 0", "field, row d, column 1"]
    np.testing.assert_array_equal(found["field, row c, column 0"], path.sel(row="c", column=0.0))
    plain = path[..., 0, 0].drop_vars(["row", "column"])
    assert entries_of("field", plain)["field"] is plain


def test_large_arrays_are_exact_interval_by_interval(monkeypatch) -> None:
    """With heat that comes in more and more, at intervals of two lengths."""

    def heated(t, x, p, u):
        return {"temperature": conduction(t, x, p, u)["temperature"] + PLACES * t}

    twin = rod(vector_field=heated, solver=bt.Solver("exact"))
    times = np.array([0.0, 0.1, 0.2, 0.5, 0.6])
    monkeypatch.setattr(affine, "LARGE", CELLS - 1)
    found = states_of(twin, times, {"diffusivity": 0.13})

    def field(t: float, y: np.ndarray) -> np.ndarray:
        return 0.13 * np.diff(np.pad(y, 1), 2) * (CELLS + 1) ** 2 + PLACES * t

    settings = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-13, "t_eval": times}
    expected = solve_ivp(field, (0.0, times[-1]), np.sin(np.pi * PLACES), **settings).y.T
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_flat_array_has_each_name_at_its_place() -> None:
    layout = Layout({"level": (), "field": (2, 2), "row": (3,)})
    field, row = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 7.0, 6.0])
    flat = layout.join([0.0, field, row])
    np.testing.assert_array_equal(flat, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 6.0])
    for found, value in zip(layout.split(jnp.append(flat, 9.0)), (0.0, field, row), strict=True):
        np.testing.assert_array_equal(found, value)
    assert layout.entries[:4] == ("level", "field[0, 0]", "field[0, 1]", "field[1, 0]")
    np.testing.assert_array_equal(layout.level(jnp.append(flat, 9.0)), [0.0, *[4.0] * 4, *[7.0] * 3, 9.0])
    assert layout.least(np.asarray(flat)) == {"level": 0.0, "field": 1.0, "row": 5.0}
    np.testing.assert_array_equal(layout.repeat([True, False, True]), [True, *[False] * 4, *[True] * 3])
    np.testing.assert_array_equal(layout.join([1.0, 2.0, row])[:6], [1.0, *[2.0] * 4, 5.0])
