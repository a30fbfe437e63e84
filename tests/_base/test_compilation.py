"""Compiled code is kept between processes and changes no result; the clock counts each second of compiling once."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import pytest
from tank_model import write_model

import bayestwin as bt
from bayestwin._base.compilation import STAGES, CompileClock, compile_clock
from bayestwin.project.model import load_model, load_telemetry

ROOT = pathlib.Path(__file__).parents[2]

# A small calibration in a process of its own: what JAX says of its cache, and the hash of all draws.
CALIBRATE = """
import hashlib, json, pathlib, sys
import jax
from jax import monitoring

events = []
monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))

import bayestwin as bt
assert jax.config.jax_compilation_cache_dir in (None, *sys.argv[2:])
from bayestwin.project.model import load_model, load_telemetry

model = load_model(pathlib.Path(sys.argv[1]))
split = load_telemetry(model)
settings = dict(num_warmup=75, num_samples=50, num_chains=2, predictive_draws=20)
posterior = bt.calibrate(model.twin, split.calibration, seed=0, **settings)
predictions = bt.predict(model.twin, posterior, split.held_out, seed=0, draws=20)
digest = hashlib.sha256()
for tree in (posterior, predictions):
    for group in tree.children.values():
        for name, values in group.data_vars.items():
            digest.update(name.encode() + values.values.tobytes())
print(json.dumps({
    "hash": digest.hexdigest(),
    "hits": events.count("cache_hits"),
    "folder": jax.config.jax_compilation_cache_dir,
}))
"""


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    """The tank's model folder."""
    return write_model(tmp_path / "tank")


def begin(model: pathlib.Path, variables: Mapping[str, str], *arguments: str) -> subprocess.Popen:
    """Start the small calibration, with environment variables set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | variables
    command = [sys.executable, "-c", CALIBRATE, str(model), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen) -> tuple[dict[str, Any], str]:
    """What it found, and what stands on its standard error."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out), err


@pytest.mark.slow
def test_a_warm_cache_is_used_and_gives_the_same_bits(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    own = {"BAYESTWIN_CACHE_DIR": str(tmp_path / "cache")}
    folder = tmp_path / "cache" / "compiled"
    off, _ = finish(begin(model, own | {"BAYESTWIN_COMPILE_CACHE": "off"}))
    assert (off["folder"], off["hits"]) == (None, 0)
    assert not folder.exists()
    # two at once, both into an empty cache; then one with what they left, and with an entry whose writer was killed
    both = [begin(model, own) for _ in range(2)]
    cold = [finish(process) for process in both]
    entries = sorted(folder.glob("*-cache"))
    assert len(entries) >= 4
    entries[0].write_bytes(entries[0].read_bytes()[:100])
    entries[0].with_name(entries[0].name.removesuffix("-cache") + "-atime").unlink()
    warm, err = finish(begin(model, own))
    for found, told in [*cold, (warm, err)]:
        assert found["hash"] == off["hash"]
        assert found["folder"] == str(folder.resolve())
        assert told == ""
    assert warm["hits"] >= len(entries) - 1
    assert entries[0].stat().st_size > 100
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.thorough
def test_where_jax_has_a_cache_that_is_used(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    theirs = str(tmp_path / "theirs")
    variables = {"BAYESTWIN_CACHE_DIR": str(tmp_path / "ours"), "JAX_COMPILATION_CACHE_DIR": theirs}
    found, _ = finish(begin(model, variables, theirs))
    assert found["folder"] == theirs
    assert not (tmp_path / "ours").exists()


# The switch alone, without the seconds that a calibration takes.
SWITCH_ON = """
import warnings
import jax
import bayestwin
from bayestwin._base.compilation import keep_compiled

assert jax.config.jax_compilation_cache_dir is None
try:
    for _ in range(2):
        keep_compiled()
except bayestwin.errors.InvalidSetting as reason:
    print(reason)
print(jax.config.jax_compilation_cache_dir)
"""


def switch_on(**variables: str) -> tuple[str, str]:
    """Standard output and standard error of a process that switches the cache on twice."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "BAYESTWIN_"))} | variables
    command = [sys.executable, "-c", SWITCH_ON]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_a_folder_that_others_can_write_is_said_once_and_not_used(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(0o777)
    out, err = switch_on(BAYESTWIN_CACHE_DIR=str(tmp_path))
    assert out == "None"
    assert err.count("Compiled code is not kept") == 1
    assert f"`{folder}` cannot be used" in err
    assert "BAYESTWIN_COMPILE_CACHE=off silences this" in err
    assert list(folder.iterdir()) == []
    assert switch_on(BAYESTWIN_CACHE_DIR=str(tmp_path), BAYESTWIN_COMPILE_CACHE="off") == ("None", "")


@pytest.mark.thorough
def test_the_switch_is_on_or_off(tmp_path: pathlib.Path) -> None:
    cache = str(tmp_path)
    for word in ("on", "On", ""):
        expected = (str(tmp_path.resolve() / "compiled"), "")
        assert switch_on(BAYESTWIN_CACHE_DIR=cache, BAYESTWIN_COMPILE_CACHE=word) == expected
    assert switch_on(BAYESTWIN_CACHE_DIR=cache, BAYESTWIN_COMPILE_CACHE="OFF") == ("None", "")
    out, _ = switch_on(BAYESTWIN_CACHE_DIR=cache, BAYESTWIN_COMPILE_CACHE="0")
    assert "BAYESTWIN_COMPILE_CACHE" in out
    assert "Expected: `on` or `off`\n  Received: `0`" in out
    assert out.endswith("None")


def test_no_second_is_counted_twice() -> None:
    trace, lower, compiling = sorted(STAGES, key=lambda name: ("jaxpr_trace" not in name, "mlir" not in name))
    clock = CompileClock()
    clock.add(trace, 1.0, 2.0, fun_name="inner")
    clock.add(trace, 2.5, 3.0, fun_name="another inner")
    assert clock.seconds == 1.5
    clock.add(trace, 0.5, 4.0, fun_name="outer")
    assert clock.seconds == 3.5
    clock.add(lower, 4.0, 4.5, fun_name="outer")
    clock.add(compiling, 5.0, 7.0, fun_name="outer")
    assert clock.seconds == 6.0
    clock.add(compiling, 6.0, 8.0, fun_name="on another thread")
    clock.add("/jax/compilation_cache/cache_retrieval_time_sec", 8.0, 9.0)
    assert clock.seconds == 7.0


def test_jax_reports_each_stage() -> None:
    """The names of JAX's events are not promised to stay."""
    heard = set()

    def listen(event: str, *_: float, **__: object) -> None:
        heard.add(event)

    clock = compile_clock()
    before = clock.seconds
    jax.monitoring.register_event_time_span_listener(listen)
    try:
        jax.jit(lambda x: x + 41.0)(1.0)
    finally:
        jax.monitoring.unregister_event_time_span_listener(listen)
    assert heard >= STAGES
    assert clock.seconds > before
    assert compile_clock() is clock


def test_prior_and_posterior_share_what_is_compiled(model: pathlib.Path) -> None:
    loaded = load_model(model)
    telemetry = load_telemetry(loaded).calibration
    jax.clear_caches()  # what other tests of this process have compiled would serve this one too
    compiled = []

    def listen(event: str, *_: float, fun_name: str = "", **__: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(fun_name)

    jax.monitoring.register_event_time_span_listener(listen)
    try:
        bt.calibrate(loaded.twin, telemetry, seed=0, num_warmup=75, num_samples=50, num_chains=2)
    finally:
        jax.monitoring.unregister_event_time_span_listener(listen)
    assert compiled.count("jit(draw_prior)") == 1  # for the ladder and for the group `prior`
    assert compiled.count("jit(predict_draws)") == 1  # for both predictive groups
