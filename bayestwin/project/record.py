"""`run.json`: what a run was made of, what it did and what came out, as plain JSON beside its files."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax

from bayestwin._base.progress import ORDER, Progress
from bayestwin.errors import CorruptArtifact, explain
from bayestwin.project.plain import to_json
from bayestwin.results.store import write_text_durably

RECORD = "run.json"

PACKAGES = ("bayestwin", "arviz", "blackjax", "diffrax", "jax", "jaxlib", "numpy", "numpyro", "xarray")

ENVIRONMENT = (
    "BAYESTWIN_COMPILE_CACHE",
    "EQX_GETKEY_SEED",
    "EQX_ON_ERROR",
    "EQX_ON_ERROR_BREAKPOINT_FRAMES",
    "JAX_CPU_ENABLE_ASYNC_DISPATCH",
    "JAX_DEBUG_INFS",
    "JAX_DEBUG_NANS",
    "JAX_DEFAULT_DEVICE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DISABLE_JIT",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_ENABLE_X64",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_NUM_CPU_DEVICES",
    "JAX_PLATFORM_NAME",
    "JAX_PLATFORMS",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_THREEFRY_PARTITIONABLE",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)
"""The only environment variables that are recorded, all that change bits or memory: others may hold secrets, whatever
their names begin with."""


def begin_record(run: pathlib.Path, command: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run that has just begun, already on disk as `"status": "running"`.

    Args:
        run: Its folder.
        command: What was asked for, e.g. "calibrate".
        inputs: Model, job, seeds and hashes.
    """
    record = {
        "run": run.name,
        "command": command,
        "status": "running",
        "began": _now(),
        **inputs,
        **circumstances(),
    }
    write_record(run, record)
    return record


def circumstances() -> dict[str, dict[str, Any]]:
    """What bits depend on besides inputs and code: packages, environment, and the kind of host."""
    return {
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": jax.default_backend(),
        },
    }


def end_record(run: pathlib.Path, record: dict[str, Any], status: str, **outcome: Any) -> dict[str, Any]:
    """Complete a record: its status, what came out, and the hashes of the files in the run folder."""
    done = record | {"status": status, "ended": _now(), **outcome, "outputs": _hashes(run)}
    write_record(run, done)
    return done


def renew_outputs(run: pathlib.Path) -> None:
    """Record the hashes of a run's files anew, after one was added or written again."""
    if record := read_record(run):
        write_record(run, record | {"outputs": _hashes(run)})


def write_record(run: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, whole or not at all."""
    write_text_durably(run / RECORD, to_json(record))


def read_record(run: pathlib.Path) -> dict[str, Any]:
    """Read `run.json`; empty where there is none.

    Raises:
        CorruptArtifact: If it is no record.
    """
    path = run / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            return record
        reason = f"a {type(record).__name__}"
    except ValueError as failure:
        reason = str(failure)
    message = explain(
        f"`{path}` is damaged.",
        expected="the record of a run: one JSON object",
        received=reason,
        advice="The results beside it may be whole; without the record nothing says what they were made of.",
    )
    raise CorruptArtifact(message)


def files_of(run: pathlib.Path) -> list[str]:
    """Paths of the files of a run, counted from its folder; those whose names begin with a dot are left out."""
    names = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def timings_of(progress: Progress) -> dict[str, float]:
    """Timings in the order in which they are told, to the millisecond."""
    known = [name for name in ORDER if name in progress.timings]
    names = [*known, *(name for name in progress.timings if name not in ORDER)]
    return {name: round(progress.timings[name], 3) for name in names}


def _processor() -> str:
    """The processor's name; where Linux keeps it, since Python does not know it there."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _hashes(run: pathlib.Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files_of(run) if name != RECORD}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
