"""Four real records with small twins and operating ranges, and defects to plant in them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import bayestwin as bt


class RealSet(NamedTuple):
    """A public record: what it is about, where it comes from and what a twin of it may do.

    Attributes:
        twin: The twin.
        observed: The observation that defects are planted in.
        rename: Columns → names in the twin.
        limits: The operating range.
        shift: What a level shift is in shares of the span: one that this sensor does not make by itself.
        dataset: Its name, and that of its file where it has several.
    """

    twin: bt.Twin
    observed: str
    rename: Mapping[str, str]
    limits: Mapping[str, Mapping[str, Any]]
    shift: float
    dataset: tuple[str, ...]

    def load(self) -> bt.Telemetry:
        """The columns that the twin uses."""
        found = bt.datasets.load(*self.dataset, rename=self.rename)
        return found.with_table(found.table[[*self.twin.observations, *self.twin.inputs]])


def around(centre: float, spread: float = 0.7) -> dist.LogNormal:
    return dist.LogNormal(np.log(centre), spread)


def positive(**parameters: tuple[float, str]) -> dict[str, bt.Parameter]:
    return {name: bt.Parameter(around(centre), unit=unit) for name, (centre, unit) in parameters.items()}


def house(t, x, p, u):
    envelope = (x.indoor - x.envelope) / p.R_in + (u.outdoor - x.envelope) / p.R_out
    indoor = (x.envelope - x.indoor) / p.R_in + u.heating
    return {"envelope": envelope / p.C_env, "indoor": indoor / p.C_in}


def radiator(t, x, p, u):
    heat = jnp.maximum(u.water - x.indoor, 0.0) / p.R_water + (u.outdoor - x.indoor) / p.R_out + p.aperture * u.sun
    return {"indoor": heat / p.C}


def wall(t, x, p, u):
    return {"wall": ((u.inside - x.wall) / p.R_in + (u.outside - x.wall) / p.R_out) / p.C}


def drive(t, x, p, u):
    force = p.bias + p.gain * u.voltage - p.viscous * x.speed - p.dry * jnp.tanh(x.speed / 1e-3)
    return {"position": x.speed, "speed": force / p.mass}


def gaussian(scale: float, unit: str, **of: Any) -> bt.Observation:
    return bt.Observation(bt.Gaussian(dist.HalfNormal(scale)), unit=unit, **of)


INDOOR = bt.State(dist.Normal(20.0, 3.0), unit="degC")

SETS = {
    "darkgreybox": RealSet(
        bt.Twin(
            "house",
            house,
            {"envelope": bt.State(dist.Normal(15.0, 5.0), unit="degC"), "indoor": INDOOR},
            positive(R_in=(0.1, "K/kW"), R_out=(0.6, "K/kW"), C_in=(20.0, "kW h/K"), C_env=(200.0, "kW h/K")),
            {"indoor": gaussian(0.5, "degC")},
            {"outdoor": bt.Input(unit="degC", hold="linear"), "heating": bt.Input(unit="kW")},
            time_unit="h",
        ),
        "indoor",
        {"Ti": "indoor", "Ta": "outdoor", "Ph": "heating"},
        {"indoor": {"low": 10.0, "high": 30.0}, "outdoor": {"low": -15.0, "high": 25.0}, "heating": {"low": 0.0}},
        0.2,
        ("darkgreybox",),
    ),
    "dutch_home": RealSet(
        bt.Twin(
            "home",
            radiator,
            {"indoor": INDOOR},
            positive(R_water=(4.0, "K/kW"), R_out=(6.0, "K/kW"), C=(6.0, "kW h/K"), aperture=(4.0, "m^2")),
            {"indoor": gaussian(1.0, "degC")},
            {
                "outdoor": bt.Input(unit="degC", hold="linear"),
                "water": bt.Input(unit="degC"),
                "sun": bt.Input(unit="kW/m^2", hold="linear"),
            },
            time_unit="h",
        ),
        "indoor",
        {"yTi": "indoor", "Ta": "outdoor", "Thm": "water", "Ps": "sun"},
        {"indoor": {"low": 0.0, "high": 35.0}, "outdoor": {"low": -15.0, "high": 25.0}, "water": {"high": 90.0}},
        0.5,
        ("dutch_home",),
    ),
    "ucl_wall": RealSet(
        bt.Twin(
            "wall",
            wall,
            {"wall": bt.State(dist.Normal(16.0, 2.0), unit="degC")},
            positive(R_in=(0.2, "K m^2/W"), R_out=(0.2, "K m^2/W"), C=(3e5, "J/(K m^2)")),
            {"flux": gaussian(2.0, "W/m^2", of=lambda t, x, p, u: (u.inside - x.wall) / p.R_in)},
            {"inside": bt.Input(unit="degC", hold="linear"), "outside": bt.Input(unit="degC", hold="linear")},
        ),
        "flux",
        {"Q_in": "flux", "T_int": "inside", "T_ext": "outside"},
        {"flux": {"low": -50.0, "high": 50.0}, "inside": {"low": 10.0, "high": 35.0}},
        0.2,
        ("ucl_wall",),
    ),
    "emps": RealSet(
        bt.Twin(
            "drive",
            drive,
            {"position": bt.State(dist.Normal(0.0, 0.01), unit="m"), "speed": bt.State(0.0, unit="m/s")},
            {
                "bias": bt.Parameter(dist.Normal(0.0, 20.0), unit="N"),
                **positive(mass=(95.0, "kg"), gain=(35.0, "N/V"), viscous=(200.0, "N s/m"), dry=(20.0, "N")),
            },
            {"position": gaussian(1e-3, "m")},
            {"voltage": bt.Input(unit="V")},
        ),
        "position",
        {"qm": "position", "vir": "voltage"},
        {"position": {"low": -0.1, "high": 0.35, "max_rate": 1.0}, "voltage": {"low": -10.0, "high": 10.0}},
        0.2,
        ("emps", "emps_train_100Hz.csv"),
    ),
}

type Planted = tuple[bt.Telemetry, str, np.ndarray, int]
"""Telemetry with a defect, the kind and the rows (from 1) to be found, and by how many rows their ends may be off."""


def replaced(telemetry: bt.Telemetry, name: str, values: np.ndarray) -> bt.Telemetry:
    return telemetry.with_table(telemetry.table.assign(**{name: values}))


def stuck(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start, length = values.size // 2, max(15, values.size // 40)
    values[start : start + length] = values[start]
    # the value before may be the same by chance
    return replaced(telemetry, one.observed, values), "stuck", np.arange(start, start + length) + 1, 2


def spike(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.array([0.21, 0.52, 0.77]) * values.size
    rows = rows.astype(int)
    values[rows] += 0.4 * np.ptp(values)
    return replaced(telemetry, one.observed, values), "spike", rows + 1, 0


def sentinel(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.array([11, values.size // 3, values.size // 3 + 1, values.size - 30])
    values[rows] = -999.0
    return replaced(telemetry, one.observed, values), "sentinel", rows + 1, 0


def gap(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = values.size // 2
    table = telemetry.table.drop(telemetry.table.index[start : start + 20])
    return telemetry.with_table(table), "gap", np.array([start, start + 1]), 0


def missing(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.arange(20) + values.size // 3
    values[rows] = np.nan
    return replaced(telemetry, one.observed, values), "gap", rows + 1, 0


def duplicate(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = values.size // 4
    kept = np.sort(np.r_[np.arange(values.size), np.arange(start, start + 4)])
    table = telemetry.table.iloc[kept]
    return telemetry.with_table(table), "duplicate", start + 2 * np.arange(1, 5), 0


def clock_skew(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    half, late = values.size // 2, 8
    values[half:] = values[half - late : -late].copy()
    # told to one of up to eight windows
    rows = np.arange(half, values.size) + 1
    return replaced(telemetry, one.observed, values), "clock_skew", rows, values.size // 16 + 1


def clock_drift(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.arange(float(values.size))
    late = np.interp(rows - 12.0 * rows / values.size, rows, values)
    return replaced(telemetry, one.observed, late), "clock_drift", np.arange(values.size) + 1, 0


def unit_scale(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    return replaced(telemetry, one.observed, 1000.0 * values), "unit_scale", np.flatnonzero(values) + 1, 0


def saturation(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    limit = np.quantile(values, 0.9)
    clipped = np.minimum(values, limit)
    return replaced(telemetry, one.observed, clipped), "saturation", np.flatnonzero(values >= limit) + 1, 0


def quantisation(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    step = np.ptp(values) / 10.0
    coarse = np.round(values / step) * step
    return replaced(telemetry, one.observed, coarse), "quantisation", np.arange(values.size) + 1, 0


def level_shift(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    start = int(0.55 * values.size)
    values[start:] += one.shift * np.ptp(values)
    return replaced(telemetry, one.observed, values), "level_shift", np.array([start + 1]), 2


def out_of_range(one: RealSet, telemetry: bt.Telemetry, values: np.ndarray) -> Planted:
    rows = np.arange(6) + int(0.7 * values.size)
    low, high = (one.limits[one.observed][end] for end in ("low", "high"))
    values[rows] = high + np.linspace(0.02, 0.05, 6) * (high - low)
    return replaced(telemetry, one.observed, values), "range", rows + 1, 0


DEFECTS: Mapping[str, Callable[[RealSet, bt.Telemetry, np.ndarray], Planted]] = {
    one.__name__: one
    for one in (
        stuck,
        spike,
        sentinel,
        gap,
        missing,
        duplicate,
        clock_skew,
        clock_drift,
        unit_scale,
        saturation,
        quantisation,
        level_shift,
        out_of_range,
    )
}


def rows_of(finding: Any) -> np.ndarray:
    """The rows of a finding, one by one."""
    return np.concatenate([np.arange(first, last + 1) for first, last in finding.evidence["rows"]])
