"""The room of `models/room`: 7 quantities, 2 states, two inputs, 20 days at every quarter of an hour."""

import pathlib

import numpy as np

from bayestwin.project.model import load_model, load_telemetry
from posteriors import Posterior

ROOT = pathlib.Path(__file__).parents[2]


def build() -> Posterior:
    """The twin of `models/room` and the part of its telemetry that is calibrated."""
    model = load_model(ROOT / "models" / "room")
    telemetry = load_telemetry(model).calibration
    indoor = telemetry.table["indoor"].to_numpy()
    seen = np.flatnonzero(np.isfinite(indoor))
    data = {
        "outdoor": telemetry.table["outdoor"].tolist(),
        "heating": telemetry.table["heating"].tolist(),
        "seen": (seen + 1).tolist(),
        "m": seen.size,
        "indoor": indoor[seen].tolist(),
    }
    return Posterior("heated room, 2 inputs, 1,920 times", model.twin, telemetry, data)
