"""The room, on whose record users read first: its program, its telemetry and its forecast in every detail."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from shipped_models import MODELS, calibrated, missed, truth_of

import bayestwin as bt

ROOM = MODELS / "room"


@pytest.mark.thorough
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


def check_room(job: str, tmp_path: pathlib.Path) -> None:
    """Calibrate the room by a job: truth inside 99 % intervals, coverage within its band, better than persistence."""
    model = shutil.copytree(ROOM, tmp_path / "room")
    (model / "job.toml").write_text((ROOM / "job.toml").read_text(encoding="utf-8") + job, encoding="utf-8")
    found = calibrated(model, tmp_path / "results")
    assert missed(truth_of(ROOM), found.draws, tail=0.005) == []
    covered = found.covered.sel(observation="indoor")
    assert int(covered["num"].sel(prob=0.9)) == 10 * 24 * 4
    share = float(covered["coverage"].sel(prob=0.9))
    assert bool(covered["within_joint_band"].sel(prob=0.9)), share
    summary = found.record["summary"]
    assert summary["coverage"]["indoor"]["0.9"] == share
    scored = summary["scores"]["indoor"]
    assert scored["rmse"] < scored["persistence_rmse"]


SHORT = """
num_warmup = 100
num_samples = 200
predictive_draws = 200

[gates]
max_rhat = 1.05
min_ess_per_chain = 25
"""


@pytest.mark.thorough
def test_a_short_calibration_of_the_room_finds_the_truth(tmp_path: pathlib.Path) -> None:
    check_room(SHORT, tmp_path)


@pytest.mark.slow
def test_the_room_s_own_job_finds_the_truth(tmp_path: pathlib.Path) -> None:
    check_room("", tmp_path)
