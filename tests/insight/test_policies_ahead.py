"""A policy keeps its level in futures that it has not seen: of 1,000 new ones, as many violate it as chance allows.

New futures are those of another calibration with another seed: no draw of it has set anything.
"""

import pytest
import scipy.stats
from shipped_models import MODELS

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry
from bayestwin.telemetry import Telemetry

FUTURES, ALLOWED = 1000, 0.05

ROOM = {
    "night": bt.Control("heating", (0.0, 3000.0), daily=("20:00", "06:00")),
    "day": bt.Control("heating", (0.0, 3000.0), daily=("06:00", "20:00")),
}

CASES = {
    "room": (ROOM, "energy", "P(indoor < 16 degC) <= 0.05", "2026-03-24"),
    "dosing": ({"dose": bt.Control("dose", (100.0, 1000.0))}, "exposure", "below_5 <= 12 h with P >= 0.95", 241.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["room", "dosing"])
def test_of_1000_new_futures_as_many_violate_as_the_level_says(name: str) -> None:
    controls, least, demand, end = CASES[name]
    model = load_model(MODELS / name)
    known, future = load_telemetry(model)[:2]
    assert isinstance(known, Telemetry)
    assert isinstance(future, Telemetry)
    future = future.between(end=end)
    first, second = (bt.calibrate(model.twin, known, seed=seed, num_chains=4, num_samples=1000) for seed in (0, 1))
    found = bt.optimise(model.twin, first, future, controls, minimise=least, subject_to=[demand], seed=0)
    assert found.feasible
    assert found.converged
    assert found.constraints[0].binds
    ahead = bt.scenario(model.twin, second, future, {"policy": found.scenario}, seed=1, draws=FUTURES)
    own = ahead["expectations"].to_dataset()
    kept = float(own["value"][0])
    violated = kept if "P(" in demand else 1.0 - kept
    num = ahead["policy/predictions"].sizes["chain"] * ahead["policy/predictions"].sizes["draw"]
    assert num == FUTURES
    fewest, most = scipy.stats.binom.interval(0.95, FUTURES, ALLOWED)
    assert fewest <= round(violated * FUTURES) <= most
