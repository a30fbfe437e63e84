"""Runs in production whose forecasts are those of a small affine twin, made once for all tests of the server."""

import functools
import hashlib
import pathlib
import sys

import numpy as np
import xarray as xr

import bayestwin as bt
from bayestwin.exported import FORECAST, export_forecast
from bayestwin.project.record import end_record, write_record
from bayestwin.registry.log import append

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from twins import driven, telemetry_of

NUM = 12
"""Rows of the record: its times are 0 to 11."""


@functools.cache
def calibrated(seed: int = 0) -> tuple[xr.DataTree, xr.DataTree]:
    """A posterior, and what is exported of it."""
    stepped, sloped, level = np.random.default_rng(seed).normal(size=(3, NUM))
    record = telemetry_of({"time": np.arange(float(NUM)), "stepped": stepped, "sloped": sloped, "level": level})
    posterior = bt.calibrate(driven(), record, seed=seed, method="laplace")
    return posterior, export_forecast(driven(), posterior, sizes=(24,))


def add_run(results: pathlib.Path, name: str, seed: int = 0, model: str = "driven", *, export: bool = True) -> str:
    """A run as calibration leaves it, with its exported forecast; the hash of its posterior."""
    run = results / model / name
    run.mkdir(parents=True)
    posterior, exported = calibrated(seed)
    bt.save(posterior, run / "posterior.nc")
    if export:
        bt.save(exported, run / FORECAST)
    record = {"run": name, "command": "calibrate", "status": "running", "model": model, "job": {"telemetry": {}}}
    record |= {"began": "2026-03-01T00:00:00+00:00", "twin_sha256": posterior.attrs["twin_sha256"]}
    write_record(run, record)
    end_record(run, record, "finished", gates=[])
    return hashlib.sha256((run / "posterior.nc").read_bytes()).hexdigest()


def promote_run(results: pathlib.Path, name: str, sha256: str, who: str = "Ann", model: str = "driven") -> None:
    """Bring a run to production, as the log has it."""
    path = results / model / name / FORECAST
    documents = {FORECAST: hashlib.sha256(path.read_bytes()).hexdigest()} if path.is_file() else {}
    append(
        results / model,
        None,
        event="promote",
        run=name,
        stage="prod",
        who=who,
        why="it is better",
        posterior_sha256=sha256,
        record_sha256="r",
        evidence={"documents": documents},
    )


def ahead(num: int = 3, **changes: object) -> dict[str, object]:
    """What a forecast is asked by."""
    body = {
        "times": [float(NUM + n) for n in range(num)],
        "inputs": {"stepped": [1.0] * num, "sloped": [0.5] * num},
        "draws": 48,
        "seed": 3,
    }
    return {**body, **changes}
