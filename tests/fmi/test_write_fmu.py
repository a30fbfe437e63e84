"""A calibrated twin as an FMU is valid, and does what `simulate` does, with values of a draw or at quantiles."""

import functools
import json
import pathlib
import zipfile

import fmpy
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from fmpy.validation import validate_fmu
from fmus import library
from jax.scipy.special import erf
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTwin
from bayestwin.model.describe import fingerprint

TIMES = np.linspace(0.0, 10.0, 41)
INFLOW = 1.0 + 0.5 * (TIMES > 4.0)


def rates(t: object, x: object, p: object, u: object) -> dict[str, object]:
    """A tank that runs dry, and its temperature."""
    flow = jnp.where(x.level > 0.0, p.k * jnp.sqrt(jnp.maximum(x.level, 1e-9)), 0.0)
    return {"level": (u.inflow - flow) / p.area, "warm": (20.0 - x.warm) / p.tau + 0.1 * jnp.sin(t)}


def tank(**changes: object) -> bt.Twin:
    made = {
        "name": "tank",
        "vector_field": rates,
        "states": {
            "level": bt.State(dist.LogNormal(0.0, 0.3), unit="m", doc="level & more, <1 m"),
            "warm": bt.State(lambda p: 10.0 * p.k, unit="degC"),
        },
        "parameters": {
            "k": bt.Parameter(dist.LogNormal(0.0, 0.3)),
            "area": bt.Parameter(2.0, unit="m^2"),
            "tau": bt.Parameter(lambda p: 3.0 * p.area, unit="min"),
        },
        "inputs": {"inflow": bt.Input(hold="previous")},
        "observations": {
            "level": bt.Observation(bt.Gaussian(0.05), unit="m"),
            "gauge": bt.Observation(bt.Gaussian(0.05), of=lambda t, x, p, u: 2.0 * x.level + u.inflow),
        },
        "time_unit": "min",
    }
    return bt.Twin(**{**made, **changes})


def record(**columns: np.ndarray) -> bt.Telemetry:
    return telemetry_of({"time": TIMES, "inflow": INFLOW, **columns})


@functools.cache
def calibrated() -> xr.DataTree:
    """Draws as a calibration would leave them."""
    rng = np.random.default_rng(0)
    draws = {"k": 1.1, "level_initial": 1.5, "level_scale": 0.05}
    group = {
        name: (("chain", "draw"), own * np.exp(0.05 * rng.standard_normal((2, 50)))) for name, own in draws.items()
    }
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(group)})
    tree.attrs = {"twin_sha256": fingerprint(tank()), "solver_choice": {"method": "tsit5"}}
    return tree


def written(folder: pathlib.Path, **settings: object) -> pathlib.Path:
    library()  # skips where there is no compiler
    return bt.write_fmu(tank(), calibrated(), folder / "tank.fmu", **settings)


def run(path: pathlib.Path, **settings: object) -> np.ndarray:
    """All outputs at the rows, by FMPy, whose time is in seconds."""
    fed = np.array(list(zip(60.0 * TIMES, INFLOW, strict=True)), dtype=[("time", float), ("inflow", float)])
    return fmpy.simulate_fmu(
        str(path), stop_time=600.0, output_interval=15.0, step_size=15.0, input=fed,
        output=["level", "warm", "gauge"], **settings,
    )  # fmt: skip


def simulated(k: float, level: float) -> xr.Dataset:
    return bt.simulate(tank(), {"k": k, "level_initial": level}, record(), seed=0)


def check(found: np.ndarray, expected: xr.Dataset) -> None:
    for name, own in (("level", "level_state"), ("warm", "warm_state")):
        np.testing.assert_allclose(found[name], expected[own], rtol=1e-7, atol=1e-8)
    # outputs at a row are those of the input that led there; it jumps at one row
    same = np.flatnonzero(np.diff(INFLOW, prepend=INFLOW[0]) == 0.0)
    np.testing.assert_allclose(found["gauge"][same], expected["gauge_noise_free"][same], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("draw", [(0, 0), (1, 17)])
def test_at_a_draw_it_is_that_simulation(tmp_path: pathlib.Path, draw: tuple[int, int]) -> None:
    path = written(tmp_path, draw=draw)
    assert validate_fmu(str(path)) == []
    k, level = (float(calibrated()["posterior"][name].values[draw]) for name in ("k", "level_initial"))
    check(run(path), simulated(k, level))


@pytest.mark.thorough
def test_a_posterior_as_it_is_calibrated_can_be_written(tmp_path: pathlib.Path) -> None:
    library()
    made = simulated(1.1, 1.5)
    seen = record(level=made["level"].values, gauge=made["gauge"].values)
    posterior = bt.calibrate(tank(), seen, seed=0, num_samples=50, num_chains=2)
    path = bt.write_fmu(tank(), posterior, tmp_path / "tank.fmu", draw=(1, 49))
    k, level = (float(posterior["posterior"][name].values[1, 49]) for name in ("k", "level_initial"))
    check(run(path), simulated(k, level))
    stiff = posterior.copy()
    stiff.attrs = {**posterior.attrs, "solver_choice": {"method": "rodas5p"}}
    with pytest.raises(InvalidTwin, match="stiff equations"):
        bt.write_fmu(tank(), stiff, tmp_path / "tank.fmu")


def test_at_a_quantile_and_with_other_values_set_by_whoever_imports_it(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path, quantile=0.9)
    k, level = (float(np.quantile(calibrated()["posterior"][name], 0.9)) for name in ("k", "level_initial"))
    check(run(path), simulated(k, level))
    check(run(path, start_values={"k": 0.8, "level_initial": 2.0}), simulated(0.8, 2.0))
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("resources/bayestwin.json"))
        assert "sources/tank.c" in archive.namelist()
    assert (told["quantile"], told["values"]["k"]) == (0.9, k)
    assert told["twin_sha256"] == calibrated().attrs["twin_sha256"]


def test_the_same_twin_gives_the_same_bytes(tmp_path: pathlib.Path) -> None:
    first = written(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first
    assert written(tmp_path, quantile=0.4).read_bytes() != first


def test_what_is_written_can_be_read_back_as_a_twin(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path)
    parameters = {"k": bt.Parameter(1.2), "level_initial": bt.Parameter(0.9)}
    fmu = bt.Fmu(path, parameters, outputs=["level", "warm"], inputs={"inflow": bt.Input(hold="previous")})
    twin = fmu.twin({"level": bt.Observation(bt.Gaussian(0.05))})
    assert twin.states["level"].doc == "level & more, <1 m"
    found = bt.simulate(twin, {}, telemetry_of({"time": 60.0 * TIMES, "inflow": INFLOW}), seed=0)
    expected = simulated(1.2, 0.9)
    np.testing.assert_allclose(found["level_state"], expected["level_state"], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found["warm_state"], expected["warm_state"], rtol=1e-7, atol=1e-8)


REFUSED = {
    "event `fill`": {"events": {"fill": bt.Event(lambda t, x, p, u: {"level": 1.0}, at=[1.0])}},
    "`model_error=Discrepancy(…)`": {
        "model_error": bt.Discrepancy(scale={"level": dist.HalfNormal(0.1)}, length={"level": dist.LogNormal(0.0, 1.0)})
    },
    "the vector field, which does `erf`": {
        "vector_field": lambda t, x, p, u: {"level": -p.k * erf(x.level), "warm": 0.0 * x.warm}
    },
    "the start of `warm`, SteadyState": {
        "states": {"level": bt.State(dist.LogNormal(0.0, 0.3)), "warm": bt.State(bt.SteadyState(20.0))},
        "vector_field": lambda t, x, p, u: {"level": -p.k * x.level, "warm": 20.0 - x.warm},
    },
    "observation `level`, which is a mean": {
        "observations": {"level": bt.Observation(bt.Gaussian(0.05), unit="m", reads="mean")}
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_an_fmu_cannot_say_is_refused_by_name(tmp_path: pathlib.Path, what: str) -> None:
    twin, posterior = tank(**REFUSED[what]), calibrated().copy()
    posterior.attrs = {**posterior.attrs, "twin_sha256": fingerprint(twin)}
    with pytest.raises(InvalidTwin, match="cannot be written as an FMU") as told:
        bt.write_fmu(twin, posterior, tmp_path / "tank.fmu")
    assert what in told.value.received
    assert not (tmp_path / "tank.fmu").exists()


def test_settings_and_posteriors_that_do_not_fit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match="no such draw"):
        written(tmp_path, draw=(2, 0))
    with pytest.raises(InvalidSetting, match="no such quantile"):
        written(tmp_path, quantile=1.5)
    with pytest.raises(InvalidArtifact, match="does not belong"):
        bt.write_fmu(tank(time_unit="h"), calibrated(), tmp_path / "tank.fmu")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(InvalidSetting, match="No FMU can be made here"):
        bt.write_fmu(tank(), calibrated(), tmp_path / "tank.fmu")
