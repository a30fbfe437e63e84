"""`run.json`: what a run was made of, what it did and what came out, as plain JSON beside its files."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from bayestwin.assess import Gate
from bayestwin.runs.folder import RECORD
from bayestwin.store import write_text_durably

PACKAGES = ("bayestwin", "arviz", "blackjax", "diffrax", "jax", "jaxlib", "numpy", "numpyro", "xarray")

ENVIRONMENT = ("JAX_ENABLE_X64", "JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS")
"""The only environment variables that are recorded: others may hold secrets."""


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
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "device": jax.default_backend(),
        },
    }
    write_record(run, record)
    return record


def end_record(run: pathlib.Path, record: dict[str, Any], status: str, **outcome: Any) -> dict[str, Any]:
    """Complete a record: its status, what came out, and the hashes of the files in the run folder."""
    files = sorted(path for path in run.iterdir() if path.name != RECORD and not path.name.startswith("."))
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    done = record | {"status": status, "ended": _now(), **outcome, "outputs": hashes}
    write_record(run, done)
    return done


def write_record(run: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, whole or not at all."""
    write_text_durably(run / RECORD, json.dumps(record, indent=2, default=str) + "\n")


def read_record(run: pathlib.Path) -> dict[str, Any]:
    """Read `run.json`; empty where there is none."""
    path = run / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def gate_rows(gates: Iterable[Gate]) -> list[dict[str, Any]]:
    """Gates as JSON; numbers that are not finite become null."""
    rows = []
    for gate in gates:
        row = gate._asdict()
        rows.append(
            {k: None if (isinstance(v, float) and v != v) or v in (float("inf"),) else v for k, v in row.items()}
        )
    return rows


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
