"""Four public records of different kinds, each with a simple twin whose states are disturbed, and its backtest."""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd

import bayestwin as bt
from bayestwin.project.model import load_model

ROOT = pathlib.Path(__file__).parents[1]


class Series(NamedTuple):
    """A record and its twin.

    Attributes:
        words: What it is.
        twin: Its twin.
        telemetry: The record.
        first: Number of samples that are calibrated before the first origin.
        ahead: Number of samples from one origin to the next, all of which are predicted.
    """

    words: str
    twin: bt.Twin
    telemetry: bt.Telemetry
    first: int
    ahead: int


def armadillo() -> Series:
    """The test house of `models/armadillo`, half-hourly."""
    names = {"T_ext": "outdoor", "P_hea": "heating", "T_int": "indoor"}
    twin = load_model(ROOT / "models" / "armadillo").twin
    return Series("test house, 30 min", twin, bt.datasets.load("armadillo", rename=names), 96, 4)


def school() -> Series:
    """A school-like building whose people and sun nobody measured, hourly: one capacity."""

    def heat(t, x, p, u):
        return {"indoor": (p.gain * u.heating - (x.indoor - u.outdoor) / p.resistance) / p.capacity}

    twin = bt.Twin(
        name="school",
        vector_field=heat,
        states={"indoor": bt.State(dist.Normal(18.0, 3.0), unit="degC")},
        parameters={
            "resistance": bt.Parameter(dist.LogNormal(0.0, 1.5), unit="K/kW"),
            "capacity": bt.Parameter(dist.LogNormal(3.0, 2.0), unit="kW*h/K"),
            "gain": bt.Parameter(1.0),
        },
        inputs={"heating": bt.Input(unit="kW", hold="previous"), "outdoor": bt.Input(unit="degC")},
        observations={"indoor": bt.Observation(bt.Gaussian(dist.HalfNormal(0.2)), unit="degC")},
        time_unit="h",
        model_error=bt.ProcessNoise({"indoor": dist.HalfNormal(0.5)}),
    )
    telemetry = bt.datasets.load("darkgreybox", rename={"Ti": "indoor", "Ta": "outdoor", "Ph": "heating"})
    return Series("school, hourly", twin, telemetry, 300, 12)


def wall() -> Series:
    """A solid wall between two measured temperatures, quarter-hourly: two capacities, heat flux on both faces."""

    def heat(t, x, p, u):
        middle = (x.inner - x.outer) / p.R2
        return {
            "inner": ((u.inside - x.inner) / p.R1 - middle) / p.C1,
            "outer": (middle - (x.outer - u.outside) / p.R3) / p.C2,
        }

    twin = bt.Twin(
        name="wall",
        vector_field=heat,
        states={name: bt.State(dist.Normal(15.0, 3.0), unit="degC") for name in ("inner", "outer")},
        parameters={f"R{k}": bt.Parameter(dist.LogNormal(-2.0, 1.0), unit="m^2*K/W") for k in (1, 2, 3)}
        | {f"C{k}": bt.Parameter(dist.LogNormal(3.5, 1.0), unit="W*h/(m^2*K)") for k in (1, 2)},
        inputs={name: bt.Input(unit="degC") for name in ("inside", "outside")},
        observations={
            "flux_in": bt.Observation(
                bt.Gaussian(dist.HalfNormal(2.0)), of=lambda t, x, p, u: (u.inside - x.inner) / p.R1, unit="W/m^2"
            ),
            "flux_out": bt.Observation(
                bt.Gaussian(dist.HalfNormal(2.0)), of=lambda t, x, p, u: (x.outer - u.outside) / p.R3, unit="W/m^2"
            ),
        },
        time_unit="h",
        model_error=bt.ProcessNoise({name: dist.HalfNormal(0.5) for name in ("inner", "outer")}),
    )
    names = {"Q_in": "flux_in", "Q_out": "flux_out", "T_int": "inside", "T_ext": "outside"}
    return Series("wall, 15 min", twin, every(bt.datasets.load("ucl_wall", rename=names), 3), 120, 6)


def machine() -> Series:
    """A machine that fails twice within the first 40 days, hourly: a temperature that returns to its level."""
    twin = bt.Twin(
        name="machine",
        vector_field=lambda t, x, p, u: {"value": (p.level - x.value) / p.lag},
        states={"value": bt.State(dist.Normal(80.0, 20.0))},
        parameters={
            "level": bt.Parameter(dist.Normal(80.0, 20.0)),
            "lag": bt.Parameter(dist.LogNormal(3.0, 1.0), unit="h"),
        },
        observations={"value": bt.Observation(bt.Gaussian(dist.HalfNormal(2.0)))},
        time_unit="h",
        model_error=bt.ProcessNoise({"value": dist.HalfNormal(5.0)}),
    )
    table = pd.read_csv(bt.datasets.find("nab"), parse_dates=["timestamp"], index_col="timestamp")
    # a clock was set back once, so that an hour is there twice
    sound = table[~table.index.duplicated()].sort_index()
    telemetry = bt.read_telemetry(sound, time="timestamp")
    return Series("machine, hourly", twin, every(telemetry, 12, most=960), 240, 12)


SERIES: Mapping[str, Callable[[], Series]] = {
    "armadillo": armadillo,
    "school": school,
    "wall": wall,
    "machine": machine,
}


def every(telemetry: bt.Telemetry, step: int, most: int | None = None) -> bt.Telemetry:
    """Every so many samples of telemetry."""
    return bt.read_telemetry(telemetry.table.iloc[::step][:most], units=telemetry.units)


def origins_of(series: Series) -> tuple[list[object], float]:
    """Origins that follow each other without overlap, and how far ahead each predicts, in the twin's unit of time."""
    index = series.telemetry.table.index
    places = np.arange(series.first - 1, len(index) - series.ahead, series.ahead)
    span = index[series.ahead] - index[0]
    unit = {"h": 3600.0, "d": 86400.0}[series.twin.time_unit]
    seconds = span.total_seconds() if series.telemetry.dated else float(span)
    return list(index[places]), seconds / unit
