"""Faults of solver, sampler and machine, injected end to end: each ends in a gate or an error that says what to do.

Those injected elsewhere: solves, starts and gates one by one in `dynamics`, `inference` and `assess`, an absent device
in `test_setting.py`, death and Ctrl-C in `runs/test_resume.py`.
"""

import multiprocessing
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from devices import absent_device
from tank_model import JOB, SECRET, run_command, write_model
from twins import decay, decay_telemetry, known_decay, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin._base.process import enough_memory
from bayestwin.assess import failed
from bayestwin.errors import NoValidStart, OutOfMemory
from bayestwin.project.record import begin_record, read_record

SHORT = {"num_warmup": 60, "num_samples": 100, "num_chains": 2, "predictive_draws": 20}


def failures(posterior: xr.DataTree, **limits: float) -> dict[str, str]:
    """Sentences of the gates that forbid to use a result, by name."""
    return {gate.name: gate.sentence for gate in failed(bt.diagnose(posterior, **limits))}


def warnings_of(posterior: xr.DataTree) -> dict[str, str]:
    """Sentences of the gates that warn, by name."""
    return {gate.name: gate.sentence for gate in bt.diagnose(posterior) if not gate.passed and gate.severity == "warn"}


def relaxing(rate: dist.Distribution, **solver: object) -> bt.Twin:
    """`level' = −10ʳ (level − cos t)`: as stiff as the power r says."""
    return decay(
        vector_field=lambda t, x, p, u: {"level": -(10.0**p.power) * (x.level - jnp.cos(t))},
        states={"level": bt.State(1.0)},
        parameters={"power": bt.Parameter(rate)},
        observations={"level": bt.Observation(bt.Gaussian(0.5))},
        solver=bt.Solver(**solver),
    )


COSINE = telemetry_of({"time": np.linspace(0.0, 3.0, 7), "level": np.cos(np.linspace(0.0, 3.0, 7))})


@pytest.fixture(scope="module")
def half_stiff() -> xr.DataTree:
    """A posterior of which an explicit solver can solve the half that is not stiff, up to rates of some hundreds."""
    twin = relaxing(dist.Normal(3.0, 0.5), method="tsit5", max_steps=100)
    return bt.calibrate(twin, COSINE, seed=0, **SHORT)


def test_max_steps_rejects_the_proposal_and_the_rate_is_reported(half_stiff: xr.DataTree) -> None:  # fault 18
    stats = half_stiff["sample_stats"]
    assert 0.0 < float(stats["solver_failed"].mean()) < 1.0
    assert int(stats["diverging"].sum()) == 0
    assert float(half_stiff["posterior/power"].max()) < 3.5  # what is stiffer is proposed, and never kept
    assert np.isfinite(half_stiff["posterior_predictive/level_state"]).all()
    assert half_stiff.attrs["starts"]["failed"] > 0


def test_failures_above_the_threshold_fail_the_gate(half_stiff: xr.DataTree) -> None:  # fault 19
    rate = float(half_stiff["sample_stats/solver_failed"].mean())
    sentence = failures(half_stiff)["solver_failures"]
    assert f"{int(rate * 200 + 0.5)} of 200 solves failed" in sentence
    assert "Try a stiff solver" in sentence
    assert "solver_failures" in failures(half_stiff, max_solver_failures=rate - 0.001)
    assert "solver_failures" not in failures(half_stiff, max_solver_failures=rate)


def test_a_million_per_hour_with_an_explicit_solver_has_no_start() -> None:  # faults 18, 30
    twin = relaxing(dist.Normal(6.0, 0.01), method="tsit5", max_steps=2000)
    with pytest.raises(NoValidStart, match=r"(?s)`power`.*the solver gives up at t=.*use a stiff solver"):
        bt.calibrate(twin, COSINE, seed=0, **SHORT)


@pytest.mark.thorough
def test_a_million_per_hour_is_calibrated_where_the_solver_is_left_to_be_chosen() -> None:
    posterior = bt.calibrate(relaxing(dist.Normal(6.0, 0.01)), COSINE, seed=0, **SHORT)
    assert posterior.attrs["solver_choice"]["method"] == "rodas5p"
    assert not posterior["sample_stats/solver_failed"].any()


@pytest.mark.thorough
def test_a_blow_up_in_finite_time_is_flagged() -> None:  # fault 24
    twin = decay(
        vector_field=lambda t, x, p, u: {"level": x.level**2},
        states={"level": bt.State(dist.Normal(1.0, 0.2))},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(30.0))},
    )
    telemetry = telemetry_of({"time": [0.0, 0.5, 1.0], "level": [0.9, 1.9, 9.0]})
    posterior = bt.calibrate(twin, telemetry, seed=0, **SHORT)
    assert float(posterior["posterior/level_initial"].max()) < 1.0  # from 1 on it blows up before t = 1
    assert "solver_failures" in failures(posterior)
    assert posterior.attrs["starts"]["failed"] > 20


@pytest.mark.thorough
def test_seconds_since_1970_give_the_bits_of_seconds_since_the_start() -> None:  # fault 26
    table = decay_telemetry().table
    seconds = np.round(3600.0 * table.index.to_numpy())
    found = []
    for begin in (0.0, 1.75e9):
        columns = {"time": begin + seconds, "level": table["level"].to_numpy()}
        telemetry = telemetry_of(columns, units={"time": "s"})
        found.append(bt.calibrate(known_decay(), telemetry, seed=0, **SHORT))
    near, far = (posterior["posterior/level_initial"].values for posterior in found)
    np.testing.assert_array_equal(near, far)
    np.testing.assert_array_equal(found[1]["observed_data/time"].values, 1.75e9 + seconds)


def test_no_start_names_the_likelihood_and_the_sites() -> None:  # fault 30
    twin = decay(observations={"level": bt.Observation(bt.LogNormal(0.1), of=lambda t, x, p, u: -1.0 - x.level**2)})
    with pytest.raises(NoValidStart) as raised:
        bt.calibrate(twin, telemetry_of({"time": [0.0, 1.0], "level": [1.0, 2.0]}), seed=0, **SHORT)
    for part in ("log likelihood of `level` is never finite", "`rate`", "`level_initial`"):
        assert part in str(raised.value)


@pytest.mark.thorough
def test_a_prior_that_excludes_the_data_warns_of_its_edge() -> None:  # fault 35
    twin = decay(parameters={"rate": bt.Parameter(dist.Uniform(1.0, 3.0))})  # it is 0.8
    posterior = bt.calibrate(twin, decay_telemetry(), seed=0, **SHORT)
    assert "`rate`" in warnings_of(posterior)["prior_edge"]


@pytest.fixture(scope="module")
def two_modes() -> xr.DataTree:
    """Only the square of `size` is seen."""
    twin = decay(
        states={"level": bt.State(1.0)},
        parameters={"rate": bt.Parameter(0.8), "size": bt.Parameter(dist.Normal(0.0, 3.0))},
        observations={"level": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: p.size**2 * x.level)},
    )
    times = np.linspace(0.0, 3.0, 10)
    telemetry = telemetry_of({"time": times, "level": 4.0 * np.exp(-0.8 * times)})
    return bt.calibrate(twin, telemetry, seed=0, **(SHORT | {"num_chains": 4}))


def test_several_modes_fail_with_the_means_of_the_chains(two_modes: xr.DataTree) -> None:  # fault 40
    sentence = failures(two_modes)["rhat"]
    assert "several modes" in sentence
    for chain, mean in enumerate(two_modes["posterior/size"].mean("draw").values):
        assert f"{chain}: {mean:.4g}" in sentence
    assert "50 %, 50 %" in warnings_of(two_modes)["modes"]


def spoilt(posterior: xr.DataTree, name: str, values: np.ndarray) -> xr.DataTree:
    """A copy of a posterior in which one variable of a group has other values."""
    copy = posterior.copy(deep=True)
    copy[name].values[...] = values
    return copy


def test_a_chain_that_was_stuck_and_chains_that_are_copies_fail() -> None:  # faults 36, 37
    healthy = known_decay_posterior()
    draws = healthy["posterior/level_initial"].values
    assert failures(healthy) == {}
    frozen, copied = draws.copy(), draws.copy()
    frozen[1], copied[2] = draws[1, 0], draws[0]
    assert "Chain 1 is stuck" in failures(spoilt(healthy, "posterior/level_initial", frozen))["stuck_chain"]
    copies = failures(spoilt(healthy, "posterior/level_initial", copied))
    assert "chain 2 of 0" in copies["identical_chains"]


def test_one_chain_fails_and_has_no_rhat() -> None:  # fault 38
    posterior = bt.calibrate(known_decay(), decay_telemetry(), seed=0, **(SHORT | {"num_chains": 1}))
    found = failures(posterior)
    assert "chains" in found
    (rhat,) = [gate for gate in bt.diagnose(posterior) if gate.name == "rhat"]
    assert np.isnan(rhat.value)
    assert not rhat.passed


def test_nothing_but_divergences_fail() -> None:  # fault 39
    every = spoilt(known_decay_posterior(), "sample_stats/diverging", np.True_)
    assert "4,000 of 4,000 transitions diverged" in failures(every)["divergences"]


@pytest.mark.thorough
def test_a_parameter_that_the_data_say_nothing_about_is_named() -> None:  # fault 41
    twin = decay(
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5)), "idle": bt.Parameter(dist.Normal(0.0, 1.0))},
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level + 0.0 * p.idle},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    posterior = bt.calibrate(twin, decay_telemetry(), seed=0, **(SHORT | {"num_samples": 500}))
    sentence = warnings_of(posterior)["prior_posterior"]
    assert "`idle`" in sentence
    assert "`rate`" not in sentence


HUGE = 10**14
"""Draws whose bytes are more than any machine can address."""


@pytest.mark.parametrize("method", ["laplace", "smc"])  # NumPy's error and XLA's
def test_out_of_memory_says_what_to_lower(method: str) -> None:  # fault 45
    with pytest.raises(OutOfMemory) as raised:
        bt.calibrate(known_decay(), decay_telemetry(), seed=0, method=method, num_samples=HUGE, num_chains=2)
    message = str(raised.value)
    for part in ("There is not enough memory.", "Expected: ", "Received: ", "Lower `num_chains`, `num_samples`"):
        assert part in message
    assert len(message.splitlines()) == 4


def test_a_run_out_of_memory_is_a_failed_run(tmp_path: Path) -> None:
    job = JOB.replace("num_samples = 75", f'num_samples = {HUGE}\nmethod = "laplace"')
    code, out, err = run_command(
        "calibrate", write_model(tmp_path / "models" / "tank", job=job), "--results", tmp_path / "results"
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: There is not enough memory.")
    (run,) = (tmp_path / "results" / "tank").iterdir()
    record = read_record(run)
    assert record["status"] == "failed"
    assert "Lower `num_chains`" in record["error"]


def test_prediction_out_of_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy:
        """In place of the predictor: takes more than there is."""

        def __init__(self, _: object) -> None:
            jnp.zeros(1 << 50).block_until_ready()

    monkeypatch.setattr(sys.modules["bayestwin.predict"], "Predictor", Greedy)
    with pytest.raises(OutOfMemory, match=r"RESOURCE_EXHAUSTED(.|\n)*Lower `draws`"):
        bt.predict(known_decay(), known_decay_posterior(), telemetry_of({"time": [5.0]}), seed=0)


def test_other_errors_of_xla_are_left_as_they_are() -> None:
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), enough_memory("Lower something."):
        raise other


def test_a_device_that_is_absent_is_no_run_at_all(tmp_path: Path) -> None:  # fault 46
    model, device = write_model(tmp_path / "models" / "tank"), absent_device()
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results", "--device", device)
    assert (code, out) == (2, "")
    assert f"There is no device `{device}` here" in err
    assert not (tmp_path / "results").exists()


def level_in_a_process() -> float:
    """Calibrates, in whatever process calls it."""
    posterior = bt.calibrate(known_decay(), decay_telemetry(), seed=0, num_warmup=40, num_samples=40, num_chains=2)
    return float(posterior["posterior/level_initial"].mean())


@pytest.mark.thorough
def test_it_runs_in_a_spawned_process_to_the_same_bits() -> None:  # fault 47
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(level_in_a_process) == level_in_a_process()


def test_nothing_forks() -> None:  # fault 47
    sources = sorted(Path(bt.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    forking = re.compile(
        r"\b(os\.fork|forkpty|ProcessPoolExecutor|multiprocessing(?!\.connection)|(?<!Model\.)get_context)\b"
    )
    for path in sources:
        assert not forking.search(path.read_text(encoding="utf-8")), path


def test_what_changes_jax_is_recorded_and_what_may_be_secret_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 48
    told = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "EQX_ON_ERROR": "raise", "XLA_PYTHON_CLIENT_PREALLOCATE": "0"}
    told |= {"BAYESTWIN_COMPILE_CACHE": "off", "JAX_DISABLE_JIT": "0"}
    secret = dict.fromkeys(("JAX_PLATFORMS_PASSWORD", "EQX_TOKEN", "XLA_KEY", "BAYESTWIN_SECRET"), SECRET)
    for name, value in (told | secret).items():
        monkeypatch.setenv(name, value)
    recorded = begin_record(tmp_path, "calibrate", {})["environment"]
    assert recorded.items() >= told.items()
    assert SECRET not in (tmp_path / "run.json").read_text(encoding="utf-8")
    assert not recorded.keys() & secret.keys()
