"""The armadillo test house: likelihood and maximum are those that pySIP published, and NUTS takes seconds."""

import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from shared_data import SHARED
from twins import bound_density

import bayestwin as bt
from bayestwin.project.model import load_model

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (SHARED / "armadillo").is_dir(),
    reason="armadillo is not on this machine: set BAYESTWIN_DATA_DIR to where it is",
)

# locie/pySIP @ da70d25: maximum likelihood ± standard deviation, time in days
PUBLISHED = {
    "R_out": (0.017593, 0.000927),
    "R_in": (0.001984, 0.000075),
    "C_env": (169.597, 7.663),
    "C_in": (18.946, 0.772),
    "envelope_diffusion": (0.5213, 0.0470),
    "indoor_scale": (0.03433, 0.0023),
    "envelope_initial": (26.595, 0.131),
}
LOG_LIKELIHOOD = 331.05756


def house() -> tuple[bt.Twin, bt.Telemetry]:
    """The twin that ships, and all rows but the last, as published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))
        found = bt.datasets.load("armadillo")
    names = {"T_ext": "outdoor", "P_hea": "heating", "T_int": "indoor"}
    table = found.table.rename(columns=names).iloc[:-1][list(names.values())].reset_index()
    telemetry = bt.read_telemetry(table, time=table.columns[0], units={table.columns[0]: "s"})
    return load_model(ROOT / "models" / "armadillo").twin, telemetry


@functools.cache
def likelihood() -> tuple:
    """Minus the log likelihood of the values, in the order of `PUBLISHED`, with its gradient, and its Hessian."""
    density = bound_density(*house())

    def negative(values: jax.Array) -> jax.Array:
        return -density.parts(density.unconstrain(dict(zip(PUBLISHED, values, strict=True))))[1]

    return jax.jit(jax.value_and_grad(negative)), jax.jit(jax.jacfwd(jax.grad(negative)))


def test_the_likelihood_is_the_published_one() -> None:
    at = jnp.array([value for value, _ in PUBLISHED.values()])
    # the published values have four digits, of which the likelihood at its maximum feels little
    assert -float(likelihood()[0](at)[0]) == pytest.approx(LOG_LIKELIHOOD, abs=2e-4)


@pytest.mark.thorough
def test_the_maximum_is_the_published_one() -> None:
    value, hessian = likelihood()
    start = np.array([estimate * 1.1 for estimate, _ in PUBLISHED.values()])
    size = np.array([spread for _, spread in PUBLISHED.values()])

    def scaled(steps: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = value(jnp.asarray(start + size * steps))
        return float(found), np.asarray(gradient) * size

    found = minimize(scaled, np.zeros(len(size)), jac=True, method="BFGS")
    assert -found.fun == pytest.approx(LOG_LIKELIHOOD, abs=1e-4)
    best = start + size * found.x
    spread = np.sqrt(np.diag(np.linalg.inv(np.asarray(hessian(jnp.asarray(best))))))
    # pySIP differentiates numerically, after a transform
    for number, (name, (estimate, deviation)) in enumerate(PUBLISHED.items()):
        assert best[number] == pytest.approx(estimate, abs=0.02 * deviation), name
        assert spread[number] == pytest.approx(deviation, rel=0.1), name


@pytest.mark.slow
def test_four_chains_of_a_thousand_draws_take_seconds_and_none_diverges() -> None:
    begin = time.perf_counter()
    posterior = bt.calibrate(*house(), seed=0)
    # published: 254 s for 4 × (100 + 100), of which 72 diverged; here about 20 s, most of it compiling
    assert time.perf_counter() - begin < 120.0
    assert int(posterior["sample_stats"]["diverging"].sum()) == 0
    assert [gate.sentence for gate in bt.diagnose(posterior) if not gate.passed] == []
    for name, (estimate, deviation) in PUBLISHED.items():
        draws = posterior["posterior"][name]
        assert float(draws.mean()) == pytest.approx(estimate, abs=deviation), name
        assert float(draws.std()) == pytest.approx(deviation, rel=0.2), name


@pytest.mark.slow
def test_without_process_noise_the_same_forecast_is_confidently_wrong() -> None:
    twin, telemetry = house()
    past, future = telemetry.between(end=324000.0), telemetry.between(start=324000.0)
    shares = {}
    for name, error in {"none": None, "noise": twin.model_error}.items():
        plain = dataclasses.replace(twin, model_error=error)
        forecast = bt.predict(plain, bt.calibrate(plain, past, seed=0), future, seed=1)
        shares[name] = float(bt.coverage(forecast, future)["coverage"].sel(observation="indoor", prob=0.9))
    assert shares["none"] < 0.7
    assert shares["noise"] > 0.82
