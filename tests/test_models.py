"""The models that ship are what their cards say: the room's truth is found, and its forecast holds what it promises."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tank_model import parse_strictly, run_command

import bayestwin as bt
from bayestwin.runs.model import load_model

MODELS = pathlib.Path(__file__).parents[1] / "models"
ROOM = MODELS / "room"


def simulated_truth() -> dict[str, float]:
    """`TRUTH` of `simulate.py`, read without running it."""
    for node in ast.parse((ROOM / "simulate.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRUTH":
            return ast.literal_eval(node.value)
    pytest.fail("simulate.py assigns no TRUTH")


TRUTH = simulated_truth()


def test_the_room_s_telemetry_can_be_made_again_bit_for_bit(tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(ROOM, tmp_path / "room")
    made = copy / "data" / "room.csv"
    shipped = made.read_bytes()
    made.unlink()
    done = subprocess.run([sys.executable, copy / "simulate.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert made.read_bytes() == shipped


def test_the_room_s_telemetry_is_as_described() -> None:
    table = bt.read_telemetry(ROOM / "data" / "room.csv").table
    steps = np.diff(table.index) / np.timedelta64(1, "m")
    assert (len(table), set(steps)) == (30 * 24 * 4, {15.0})
    missing = table.index[table["indoor"].isna()]
    assert (len(missing), missing[-1] - missing[0]) == (24, np.timedelta64(345, "m"))
    assert not table[["outdoor", "heating"]].isna().any(axis=None)
    # the operating range on the card, in whole numbers
    for name, (low, high) in {"indoor": (15, 30), "outdoor": (0, 21), "heating": (0, 2000)}.items():
        assert low <= round(table[name].min()) <= round(table[name].max()) <= high, name


def test_the_room_s_card_tells_the_truth() -> None:
    rows = dict(re.findall(r"(?m)^\| (.+?) \| ([\d.e, ]+) \S+ \|$", (ROOM / "card.md").read_text(encoding="utf-8")))
    stated = {name: float(rows[name]) for name in ("R_out", "R_in", "C_env", "C_in")}
    stated["envelope_initial"], stated["indoor_initial"] = map(float, rows["initial envelope, indoor"].split(","))
    stated["indoor_scale"] = float(rows["noise, standard deviation"])
    assert stated == TRUTH


def check_room(job: str, tmp_path: pathlib.Path) -> None:
    """Calibrate the room by a job: truth inside 99 % intervals, coverage within its band, better than persistence."""
    model = shutil.copytree(ROOM, tmp_path / "room")
    (model / "job.toml").write_text((ROOM / "job.toml").read_text(encoding="utf-8") + job, encoding="utf-8")
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results", "--json")
    assert (code, err) == (0, "")
    record = parse_strictly(out)
    run = pathlib.Path(record["folder"])
    posterior = bt.load(run / "posterior.nc")
    draws = posterior["posterior"].to_dataset()
    assert set(draws) == set(TRUTH)
    low, high = draws.quantile(0.005, ("chain", "draw")), draws.quantile(0.995, ("chain", "draw"))
    assert [name for name, value in TRUTH.items() if not float(low[name]) <= value <= float(high[name])] == []
    held_out = bt.read_telemetry(ROOM / "data" / "room.csv").between(start="2026-03-21")
    assert len(held_out.table) == 10 * 24 * 4
    covered = bt.coverage(bt.load(run / "predictions.nc"), held_out).sel(observation="indoor")
    assert int(covered["num"].sel(prob=0.9)) == 960
    assert bool(covered["within_band"].sel(prob=0.9)), float(covered["coverage"].sel(prob=0.9))
    assert record["summary"]["coverage"]["indoor"]["0.9"] == float(covered["coverage"].sel(prob=0.9))
    scored = record["summary"]["scores"]["indoor"]
    assert scored["rmse"] < scored["persistence_rmse"]


SHORT = """
num_warmup = 100
num_samples = 200
predictive_draws = 200

[gates]
max_rhat = 1.05
min_ess_per_chain = 25
"""


def test_a_short_calibration_of_the_room_finds_the_truth(tmp_path: pathlib.Path) -> None:
    check_room(SHORT, tmp_path)


@pytest.mark.slow
def test_the_room_s_own_job_finds_the_truth(tmp_path: pathlib.Path) -> None:
    check_room("", tmp_path)


@pytest.mark.parametrize("folder", sorted(path.parent for path in MODELS.glob("*/twin.py")), ids=lambda path: path.name)
def test_every_model_has_a_card_with_its_limits(folder: pathlib.Path) -> None:
    card = (folder / "card.md").read_text(encoding="utf-8")
    for heading in ("What it assumes", "Operating range", "Do not use when", "Source"):
        assert re.search(rf"\n## {heading}.*\n\S", card), heading
    twin = load_model(folder).twin
    assert twin.doc
    for group in (twin.states, twin.parameters, twin.inputs, twin.observations):
        assert all(member.doc and member.unit for member in group.values())
