"""Nothing is computed in float32, on a device that is not there, or with settings that make no sense."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from devices import absent_device
from twins import decay, decay_telemetry

import bayestwin as bt
from bayestwin._base.progress import computing
from bayestwin.errors import InvalidSetting, OutOfMemory

ROOT = Path(__file__).parents[2]

# Each verb in turn, in a process in which float64 is off.
VERBS = """
import sys
sys.path.insert(0, "tests")
import bayestwin as bt
from twins import decay, decay_telemetry

twin, telemetry = decay(), decay_telemetry()
values = {"rate": 1.0, "level_initial": 5.0, "level_scale": 0.1}
verbs = {
    "calibrate": lambda: bt.calibrate(twin, telemetry, seed=0),
    "predict": lambda: bt.predict(twin, None, telemetry, seed=0),
    "simulate": lambda: bt.simulate(twin, values, telemetry, seed=0),
    "numpyro_model": lambda: bt.numpyro_model(twin, telemetry),
}
for name, verb in verbs.items():
    try:
        verb()
    except bt.errors.InvalidSetting as reason:
        print(name, "|", str(reason).replace(chr(10), " "))
"""


def run(program: str, **variables: str) -> str:
    """Standard output of a program in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | variables
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_where_float64_is_off_every_verb_stops_and_says_how_to_switch_it_on() -> None:
    lines = dict(line.split(" | ") for line in run(VERBS, JAX_ENABLE_X64="0").splitlines())
    assert set(lines) == {"calibrate", "predict", "simulate", "numpyro_model"}
    for message in lines.values():
        assert "float32" in message
        assert "Expected: float64" in message
        assert "Received: jax_enable_x64 = False" in message
        assert 'jax.config.update("jax_enable_x64", True)' in message
        assert "JAX_ENABLE_X64" in message


@pytest.mark.parametrize("first", ["import bayestwin, jax", "import jax, bayestwin", "import jax.numpy, bayestwin"])
def test_bayestwin_switches_float64_on_whatever_is_imported_first(first: str) -> None:
    assert run(f"{first}\nimport jax.numpy as jnp\nprint(jnp.ones(1).dtype)").split() == ["float64"]


def test_a_device_that_is_absent_is_an_error_and_nothing_falls_back() -> None:
    device = absent_device()
    with pytest.raises(
        InvalidSetting, match=rf"(?s)no device `{device}`.*Received: `{device}`; found: \w+.*device=\"cpu\""
    ):
        bt.calibrate(decay(), decay_telemetry(), seed=0, device=device)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_samples", 0),
        ("num_samples", 10.5),
        ("num_warmup", -1),
        ("num_chains", 0),
        ("predictive_draws", 0),
        ("target_acceptance", 1.0),
        ("target_acceptance", 0.0),
        ("target_acceptance", float("nan")),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidSetting, match=rf"(?s)`{name}` makes no sense.*Expected: .*Received: {value}"):
        bt.calibrate(decay(), decay_telemetry(), seed=0, **{name: value})


def test_what_a_verb_opens_with_checks_its_seed_at_once_and_its_device_on_entering() -> None:
    with pytest.raises(InvalidSetting, match="`seed` cannot be used"):
        computing(seed=None)
    absent = computing(seed=0, device="abacus")
    with pytest.raises(InvalidSetting, match="no device `abacus`"), absent:
        pass


def test_memory_that_runs_out_in_a_verb_is_an_error_with_its_advice() -> None:
    with pytest.raises(OutOfMemory, match="Lower `draws`"), computing("Lower `draws`.", seed=0):
        raise MemoryError
