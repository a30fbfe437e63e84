"""The models that ship: their folders, what is true where telemetry is simulated, and a calibration as users run it."""

import ast
import pathlib
from typing import Any, NamedTuple

import xarray as xr
from tank_model import parse_strictly, run_command

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry

MODELS = pathlib.Path(__file__).parents[1] / "models"
FOLDERS = tuple(sorted(path.parent for path in MODELS.glob("*/twin.py")))
SIMULATED = tuple(folder for folder in FOLDERS if (folder / "simulate.py").is_file())


def name_of(folder: pathlib.Path) -> str:
    """What pytest calls a model."""
    return folder.name


def truth_of(folder: pathlib.Path) -> dict[str, float]:
    """`TRUTH` of a model's `simulate.py`, read without running it."""
    for node in ast.parse((folder / "simulate.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRUTH":
            return ast.literal_eval(node.value)
    message = f"{folder.name}/simulate.py assigns no TRUTH"
    raise AssertionError(message)


class Calibrated(NamedTuple):
    """A run of a model's job: its record, the draws, and how many held-out observations lie inside the intervals."""

    record: dict[str, Any]
    draws: xr.Dataset
    covered: xr.Dataset | None


def calibrated(folder: pathlib.Path, results: pathlib.Path) -> Calibrated:
    """`bayestwin calibrate`, which must pass its gates."""
    code, out, err = run_command("calibrate", folder, "--results", results, "--json")
    assert (code, err) == (0, ""), out
    record = parse_strictly(out)
    run = pathlib.Path(record["folder"])
    draws = bt.load(run / "posterior.nc")["posterior"].to_dataset()
    held_out = load_telemetry(load_model(folder)).held_out
    covered = None if held_out is None else bt.coverage(bt.load(run / "predictions.nc"), held_out)
    return Calibrated(record, draws, covered)


def missed(truth: dict[str, float], draws: xr.Dataset, tail: float) -> list[str]:
    """What is true and yet outside the intervals that leave out `tail` at either end."""
    assert set(draws) == set(truth)
    low, high = (draws.quantile(q, ("chain", "draw")) for q in (tail, 1.0 - tail))
    return [name for name, value in truth.items() if not float(low[name]) <= value <= float(high[name])]
