"""Simulated telemetry of the shipped models is honest, however nonlinear: `check` finds next to nothing in it."""

import pathlib

import pytest
from shipped_models import SIMULATED, name_of

from bayestwin.check import Thresholds, record_for
from bayestwin.check.check import signal_findings
from bayestwin.project.model import load_model, load_telemetry

HONEST = {("room", "gap"), ("queue", "spike")}
"""The room's telemetry has a gap; a backlog of requests can go up and down within a row."""


@pytest.mark.parametrize("folder", SIMULATED, ids=name_of)
def test_honest_dynamics_are_no_finding(folder: pathlib.Path) -> None:
    model = load_model(folder)
    split = load_telemetry(model)
    found = signal_findings(record_for(model.twin, split.calibration, split.held_out), Thresholds())
    warned = [(folder.name, one.kind) for one in found if one.severity != "note"]
    assert set(warned) <= HONEST
    assert len(warned) <= 1
