"""Lynx and hare: 8 quantities, 2 states, 42 observations; gold draws from posteriordb where they are at hand."""

import os
import pathlib

import arviz as az
import numpy as np

from bayestwin.project.model import load_model, load_telemetry
from posteriors import Moment, Posterior

ROOT = pathlib.Path(__file__).parents[2]
GOLD = pathlib.Path("lynx_hare", "hudson_lynx_hare_reference_draws.npz")
NAMES_IN_GOLD = {
    "theta_1": "alpha",
    "theta_2": "beta",
    "theta_3": "gamma",
    "theta_4": "delta",
    "z_init_1": "hare_initial",
    "z_init_2": "lynx_initial",
    "sigma_1": "hare_scale",
    "sigma_2": "lynx_scale",
}


def build() -> Posterior:
    """The twin and the record of `models/lynx_hare`."""
    model = load_model(ROOT / "models" / "lynx_hare")
    telemetry = load_telemetry(model).calibration
    pelts = {name: telemetry.table[name].tolist() for name in ("hare", "lynx")}
    return Posterior("Lotka–Volterra, 21 years", model.twin, telemetry, pelts, _gold(), "draws of posteriordb")


def _gold() -> dict[str, Moment]:
    """Moments of posteriordb's reference draws, from `BAYESTWIN_DATA_DIR` or a folder `shared/data`, if it is there."""
    folders = (os.environ.get("BAYESTWIN_DATA_DIR"), ROOT / "shared" / "data", ROOT.parent / "shared" / "data")
    for folder in folders:
        if folder and (path := pathlib.Path(folder) / GOLD).is_file():
            with np.load(path) as draws:
                return {
                    ours: Moment(float(draws[name].mean()), float(az.mcse(draws[name])))
                    for name, ours in NAMES_IN_GOLD.items()
                }
    return {}
