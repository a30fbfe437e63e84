"""Runs of a model as the project writes them, without anything computed, and evidence about them of every kind."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import bayestwin as bt
from bayestwin.project.record import end_record, read_record, renew_outputs, write_record

JOB = """
[telemetry]
file = "tank.csv"

[promote.staging]
requires = ["diagnostics"]

[promote.prod]
requires = ["diagnostics"]
"""

ALL = '["diagnostics", "validation", "sbc", "scenarios", "identifiability", "drift"]'

CARD = """# tank

A leaking tank with a pump.

## What it assumes
- it leaks

## Operating range
```toml
level = { low = 0.0, high = 6.0, unit = "m" }
pump = { low = 0.0, high = 4.0, unit = "m/h" }
```

## Do not use when
- it rains;
- the pump is reversed.
"""

DESCRIPTION = {
    "name": "tank",
    "doc": "It leaks.",
    "time_unit": "h",
    "states": [{"name": "level", "unit": "m", "doc": "height", "initial": "5 (known)"}],
    "parameters": [{"name": "rate", "unit": "1/h", "doc": "rate of the leak", "prior": "LogNormal(0, 0.5)"}],
    "inputs": [{"name": "pump", "unit": "m/h", "doc": "", "hold": "linear", "beyond": "error"}],
    "observations": [{"name": "level", "unit": "m", "doc": "", "noise": "Gaussian", "of": "state `level`"}],
}

MADE_FROM = {"model": "tank", "twin": "tank", "twin_sha256": "t" * 64, "code_sha256": "c" * 64}
MADE_FROM |= {"telemetry_sha256": {"calibration": "d" * 64, "held_out": "e" * 64}}


def gate(name: str, **told: Any) -> dict[str, Any]:
    """A gate as a record has it, which passed unless something else is told."""
    known = {"name": name, "passed": True, "value": 1.0, "limit": 1.01, "sentence": f"{name} is good."}
    return {**known, "severity": "fail", **told}


def write_model(root: pathlib.Path, job: str = JOB) -> pathlib.Path:
    """A model folder, of which promotions read the job alone."""
    folder = root / "models" / "tank"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.toml").write_text(job, encoding="utf-8")
    return folder


def write_run(results: pathlib.Path, name: str, command: str = "calibrate", **told: Any) -> pathlib.Path:
    """A run that came to its end, with whatever else its record says."""
    run = results / "tank" / name
    run.mkdir(parents=True)
    if command == "calibrate":
        write_posterior(run)
    else:
        result = "validation.nc" if command == "validate" else f"{command}.nc"
        (run / result).write_text("a result", encoding="utf-8")
    card = run / "inputs" / "card.md"
    card.parent.mkdir()
    card.write_text(CARD, encoding="utf-8")
    record = {"run": name, "command": command, "status": "running", "began": "2026-03-01T00:00:00+00:00", **MADE_FROM}
    record |= {"job": {"telemetry": {"file": "tank.csv"}}, "versions": {"bayestwin": "0.2.0"}}
    write_record(run, record)
    status = told.pop("status", "finished")
    end_record(
        run, record, status, **({"gates": [gate("finite"), gate("rhat"), gate("modes", severity="warn")]} | told)
    )
    return run


def write_posterior(run: pathlib.Path, mean: float = 0.8, twin: str = "t" * 64) -> None:
    """A posterior of one parameter, with the telemetry that it was calibrated on."""
    draws = mean + 0.01 * np.random.default_rng(len(run.name)).standard_normal((2, 20))
    times = np.arange(24) * 0.25
    level = xr.Variable("time", 5.0 - 0.1 * times, {"units": "m"})
    pump = xr.Variable("time", np.linspace(1.0, 2.0, 24), {"units": "m/h"})
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"rate": (("chain", "draw"), draws, {"units": "1/h", "name": run.name})}),
            "observed_data": xr.Dataset({"level": level}, {"time": times}),
            "constant_data": xr.Dataset({"pump": pump}, {"time": times}),
        }
    )
    tree.attrs = {"twin": "tank", "twin_sha256": twin, "telemetry_sha256": "d" * 64, "time_unit": "h", "method": "nuts"}
    tree.attrs |= {"description": DESCRIPTION, "telemetry_time_unit": "h", "telemetry_timezone": ""}
    bt.save(tree, run / "posterior.nc")


def posterior_sha256(run: pathlib.Path) -> str:
    return str(read_record(run)["outputs"]["posterior.nc"])


def validate(run: pathlib.Path, name: str = "20260302-validate", **told: Any) -> pathlib.Path:
    """A validation of a run, whose intervals hold."""
    verdict = {"status": "pass", "headline": "Intervals hold.", "holds": ["level: 90 of 100 inside."]}
    known = {
        "uses": {run.name: {"posterior.nc": posterior_sha256(run)}},
        "verdict": verdict,
        "summary": {"held_out": {"coverage": {"level": {"0.5": 0.5, "0.9": 0.9}}}},
    }
    return write_run(run.parents[1], name, "validate", **(known | told))


def add_json(run: pathlib.Path, name: str, content: Mapping[str, Any] | str) -> pathlib.Path:
    """A file beside the posterior of a run, which its record then knows."""
    path = run / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    renew_outputs(run)
    return path


def expected(*verdicts: str, run: str) -> dict[str, Any]:
    """What `scenario` leaves of expectations."""
    return {
        "run": run,
        "expectations": [{"scenario": "s", "text": f"e{n}", "verdict": v} for n, v in enumerate(verdicts)],
    }


def shadowed(run: pathlib.Path, production: pathlib.Path, **told: Any) -> dict[str, Any]:
    """What `shadow` leaves of 8 days, on which the candidate was better."""
    known = {"posterior_sha256": posterior_sha256(run), "production_posterior_sha256": posterior_sha256(production)}
    known |= {"span_seconds": 8 * 86_400.0}
    known |= {"observations": {"level": {"lower": -0.2, "difference": -0.1, "upper": 0.0}}}
    return known | told


def all_evidence(run: pathlib.Path) -> None:
    """Everything that the gates ask for, all of it good."""
    results = run.parents[1]
    validate(run)
    write_run(results, "20260303-sbc", "sbc", gates=[gate("sbc rate", limit=0.1)])
    write_run(results, "20260304-identify", "identify", gates=[gate("structure", limit=0.0)])
    add_json(run, "scenarios.json", expected("met", "undecided", run=run.name))
    add_json(run, "monitor.json", {"verdict": "ok"})
