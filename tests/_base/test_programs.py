"""Programs are traced once for all processes, found by what they compute, and never by less than that."""

import os
import pathlib
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shipped_models import FOLDERS
from tank_model import write_model

from bayestwin._base import compilation
from bayestwin._base.compilation import Nameless, Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin._base.process import mapped_share

ROOT = pathlib.Path(__file__).parents[2]

CALIBRATE = """
import hashlib, pathlib, sys
import bayestwin as bt
from bayestwin._base import compilation
from bayestwin.project.model import load_model, load_telemetry
lowered, lower = [], compilation.Program._lower
def count(self, *args):
    lowered.append(self.__name__)
    return lower(self, *args)
compilation.Program._lower = count
model = load_model(pathlib.Path(sys.argv[1]))
settings = dict(num_warmup=75, num_samples=50, num_chains=2, predictive_draws=20)
posterior = bt.calibrate(model.twin, load_telemetry(model).calibration, seed=0, **settings)
digest = hashlib.sha256()
for group in posterior.children.values():
    for name, values in group.data_vars.items():
        digest.update(name.encode() + values.values.tobytes())
print(len(lowered), digest.hexdigest())
"""

# With all memory areas taken but 3,000, fewer than the programs of these calibrations need together.
CROWDED = """
import hashlib, mmap, sys
sys.path.insert(0, "tests")
import bayestwin as bt
from bayestwin._base.process import mapped_share
from twins import decay, decay_telemetry

with open("/proc/sys/vm/max_map_count") as most:
    free = int(int(most.read()) * (1.0 - mapped_share()))
taken = []
for _ in range((free - 3_000) // 2 if sys.argv[1:] else 0):  # two neighbours of one kind would be one area
    taken += [mmap.mmap(-1, 4096), mmap.mmap(-1, 4096, prot=mmap.PROT_READ)]
settings = dict(num_warmup=75, num_samples=50, num_chains=2, predictive_draws=20)
for num in (12, 40):
    posterior = bt.calibrate(decay(), decay_telemetry(num), seed=0, **settings)
    print(hashlib.sha256(posterior["posterior"]["rate"].values.tobytes()).hexdigest())
"""

SPELL = """
import pathlib, sys
from bayestwin._base.compilation import _spelled
from bayestwin._base.keys import key_of
from bayestwin.project.model import load_model
import hashlib
for folder in sys.argv[1:]:
    print(hashlib.sha256(b"".join(_spelled(key_of(load_model(pathlib.Path(folder)).twin)))).hexdigest())
"""


def python(source: str, *arguments: str, **variables: str) -> list[str]:
    """What a program in a process of its own prints, word by word."""
    environment = os.environ | variables
    command = [sys.executable, "-c", source, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.thorough
def test_the_next_process_traces_nothing_and_draws_the_same_bits(tmp_path: pathlib.Path) -> None:
    model, cache = str(write_model(tmp_path / "tank")), {"BAYESTWIN_CACHE_DIR": str(tmp_path / "cache")}
    first = python(CALIBRATE, model, **cache)
    assert int(first[0]) >= 4
    assert python(CALIBRATE, model, **cache) == ["0", first[1]]
    programs = list((tmp_path / "cache" / "compiled").glob("*.program"))
    assert len(programs) == int(first[0])
    for program in programs:  # as after a crash of the disk
        program.write_bytes(program.read_bytes()[:-100])
    assert python(CALIBRATE, model, **cache) == first
    off = python(CALIBRATE, model, BAYESTWIN_COMPILE_CACHE="off", **cache)
    assert off == first


@pytest.mark.slow
@pytest.mark.skipif(not mapped_share(), reason="nothing counts memory areas here")
def test_a_process_whose_memory_areas_are_taken_lives_and_draws_the_same_bits(tmp_path: pathlib.Path) -> None:
    cache = {"BAYESTWIN_CACHE_DIR": str(tmp_path)}
    assert python(CROWDED, "crowded", **cache) == python(CROWDED, **cache)


@pytest.mark.thorough
def test_every_process_spells_a_twin_alike() -> None:
    """The hash of text and the order of sets differ from one process to the next."""
    folders = [str(folder) for folder in FOLDERS]
    spelled = python(SPELL, *folders, PYTHONHASHSEED="1")
    assert len(set(spelled)) == len(folders)
    assert python(SPELL, *folders, PYTHONHASHSEED="2") == spelled


def spelled(value: Any) -> bytes:
    """What another process would find a value by."""
    return b"".join(compilation._spelled(key_of(value)))


def function(body: str, **given: Any) -> Callable:
    """A function `(x)` of a module of the user's own."""
    module = types.ModuleType("own_twin")
    vars(module).update({"np": np, "jnp": jnp} | given)
    exec(f"def function(x):\n    {body}", vars(module))
    return vars(module)["function"]


class Own:
    """A class of the user's own, whose code may change."""


HELPER = types.ModuleType("own_helper")
vars(HELPER)["table"] = lambda: 1.0

UNSEEN = {
    "a file that is opened": function("return x + float(open('gain.txt').read())"),
    "a table that is read": function("return x + np.loadtxt('gain.csv').sum()"),
    "an array that is loaded": function("return x + jnp.load('gain.npy')"),
    "a module imported within": function("import own_helper; return x + own_helper.gain"),
    "a path": function("return x + float(path.read_text())", path=pathlib.Path("gain.txt")),
    "chance": function("return x + np.random.default_rng().normal()"),
    "the environment": function("return x + float(os.environ['GAIN'])", os=os),
    "an object of an own class": function("return x + own.gain", own=Own()),
    "a kept result": function("return x + gain()", gain=compilation.functools.cache(lambda: 1.0)),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_a_key_does_not_see_is_not_kept(what: str) -> None:
    with pytest.raises(Nameless):
        spelled(UNSEEN[what])


SEEN = {
    "arithmetic": function("return x + jnp.where(x > 0, jnp.exp(x), np.pi)"),
    "an attribute of that name": function("return x.load + x.random"),
    "an array": function("return jnp.interp(x, table, table)", table=np.arange(3.0)),
    "an import of JAX": function("import jax.numpy as jnp; return jnp.sin(x)"),
    "a helper": function("return helper(x)", helper=function("return 2.0 * x")),
}


@pytest.mark.parametrize("what", SEEN)
def test_what_a_key_sees_is_kept(what: str) -> None:
    assert spelled(SEEN[what])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (function("return 2.0 * x"), function("return 3.0 * x")),
        (function("return gain * x", gain=2.0), function("return gain * x", gain=3.0)),
        (function("return jnp.sin(x)"), function("return jnp.cos(x)")),
        (function("return own(x)", own=SEEN["a helper"]), function("return own(x)", own=SEEN["arithmetic"])),
    ],
)
def test_what_computes_differently_is_spelled_differently(one: Callable, other: Callable) -> None:
    assert spelled(one) != spelled(other)


def test_a_program_takes_what_a_function_takes() -> None:
    @Program
    def total(named: dict[str, Any], power: Keyed[int], *more: Any) -> dict[str, Any]:
        return {"sum": sum(one**power.value for one in (*named.values(), *more)), "none": None}

    own, square = {"a": 2.0, "b": np.arange(3)}, Keyed(2, 2)
    found = total(own, square, jnp.ones(3), 1)
    np.testing.assert_array_equal(found["sum"], [6.0, 7.0, 10.0])
    assert found["none"] is None
    gradient = jax.grad(lambda x: total({"a": x}, square)["sum"])(3.0)  # within another function it is a part of that
    assert gradient == 6.0
    assert jax.vmap(lambda x: total({"a": x}, Keyed(3, 3))["sum"])(jnp.arange(3.0)).tolist() == [0.0, 1.0, 8.0]


def test_options_that_this_compiler_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compilation.compiler_options() == compilation.OPTIONS
    monkeypatch.setattr(compilation, "OPTIONS", {"xla_cpu_of_another_age": ""})
    compilation.compiler_options.cache_clear()
    try:
        assert compilation.compiler_options() == {}
        assert Program(lambda x: 2.0 * x)(jnp.asarray(3.0)) == 6.0
    finally:
        compilation.compiler_options.cache_clear()


def test_what_jax_does_not_export_is_compiled_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("custom calls without a guarantee")

    double = Program(_double)
    monkeypatch.setattr(Program, "_lower", refuse)
    assert double(np.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


def test_old_programs_make_room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "MOST_PROGRAM_BYTES", 9_000)
    monkeypatch.setattr(compilation, "_keeping", {tmp_path})
    double = Program(_double)
    for size in range(1, 12):
        double(np.ones(size))
    kept = sorted(tmp_path.glob("*.program"), key=lambda path: path.stat().st_mtime)
    assert 1 <= len(kept) < 11
    assert sum(path.stat().st_size for path in kept) <= 9_000


def test_compiled_code_makes_room_where_memory_areas_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    double, code = Program(_double), jax.jit(lambda x: _double(x))
    assert double(np.ones(2)).tolist() == code(np.ones(2)).tolist() == [2.0, 2.0]
    assert code._cache_size() == 1
    monkeypatch.setattr(compilation, "mapped_share", lambda: 0.9)
    assert double(np.ones(2)).tolist() == [2.0, 2.0]  # it is there, and nothing is needed for it
    assert code._cache_size() == 1
    assert double(np.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert code._cache_size() == 0
    assert double(np.ones(2)).tolist() == [2.0, 2.0]


def _double(x: jax.Array) -> jax.Array:
    return 2.0 * x
