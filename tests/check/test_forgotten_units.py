"""A unit that was forgotten shows where the card or the prior knows better: inputs, outputs and the unit of time."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.check import Finding

LIMITS = {
    "water": {"low": 5.0, "high": 95.0, "unit": "degC"},
    "heater": {"low": 0.0, "high": 3200.0, "unit": "W"},
    "flow": {"low": 0.0, "high": 15.0, "unit": "L/min"},
}
TANK = bt.Twin(
    name="tank",
    vector_field=lambda t, x, p, u: {"water": (u.heater - 4.2e6 * u.flow * (x.water - p.cold)) / p.C},
    states={"water": bt.State(dist.Normal(50.0, 5.0), unit="degC")},
    parameters={
        "C": bt.Parameter(dist.LogNormal(13.0, 0.5), unit="J/K"),
        "cold": bt.Parameter(dist.Normal(10.0, 2.0), unit="degC"),
    },
    inputs={"heater": bt.Input(unit="W", hold="previous"), "flow": bt.Input(unit="m^3/s", hold="previous")},
    observations={"water": bt.Observation(bt.Gaussian(0.3), unit="degC")},
    time_unit="s",
)
UNITS = {"water": "degC", "heater": "kW", "flow": "L/min"}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Two days of a tank, a row each five minutes; most of the time nothing is heated or drawn."""
    num = 576
    rng = np.random.default_rng(5)
    heater = np.where(rng.random(num) < 0.15, np.round(rng.uniform(1.0, 3.0, num), 3), 0.0)
    flow = np.where(rng.random(num) < 0.05, np.round(rng.uniform(2.0, 9.0, num), 2), 0.0)
    water = np.full(num, 50.0)
    for row in range(1, num):
        heat = 1e3 * heater[row - 1] - 4.2e6 * flow[row - 1] / 6e4 * (water[row - 1] - 10.0)
        water[row] = water[row - 1] + 300.0 * heat / 4.5e5
    times = pd.date_range("2026-10-24", periods=num, freq="5min", name="time")
    noisy = np.round(water + 0.3 * rng.standard_normal(num), 2)
    return pd.DataFrame({"water": noisy, "heater": heater, "flow": flow}, index=times)


@pytest.fixture(scope="module")
def check(log: pd.DataFrame) -> Callable[..., list[Finding]]:
    def found(units: dict[str, str], twin: bt.Twin = TANK) -> list[Finding]:
        telemetry = bt.read_telemetry(log, units=units)
        return [one for one in bt.check(twin, telemetry, seed=0, limits=LIMITS) if one.severity != "note"]

    return found


def test_with_its_units_nothing_is_suspected(check: Callable[..., list[Finding]]) -> None:
    assert "unit_scale" not in {one.kind for one in check(UNITS)}


@pytest.mark.parametrize(
    ("column", "severity", "suggestion"),
    [("heater", "warn", "times 1000"), ("flow", "fail", "divided by 60000")],
)
def test_an_input_whose_unit_was_forgotten(
    check: Callable[..., list[Finding]], column: str, severity: str, suggestion: str
) -> None:
    """In W the heater uses a thousandth of its range; in m³/s the draws, which are rare, lie far beyond theirs."""
    found = check({name: unit for name, unit in UNITS.items() if name != column})
    (suspected,) = [one for one in found if one.kind == "unit_scale" and one.column == column]
    assert (suspected.severity, suspected.evidence["suggestion"]) == (severity, suggestion)
    assert "is its unit" in suspected.sentence.lower()


def test_a_twin_whose_time_runs_too_slowly(check: Callable[..., list[Finding]]) -> None:
    """J/K and W belong with seconds; counted in hours nothing changes."""
    slow = dataclasses.replace(TANK, time_unit="h")
    (still,) = [one for one in check(UNITS, slow) if one.kind == "prior" and "hardly moves" in one.sentence]
    assert (still.column, still.severity) == ("water", "warn")
    assert "`time_unit` (h)" in still.sentence
    assert not any("hardly moves" in one.sentence for one in check(UNITS))
