"""Seven real records with small twins and operating ranges."""

from collections.abc import Mapping, Set
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
        honest: Kinds of warnings about what it has by itself.
        still: Whether nothing in it moves at once often enough to tell whether clocks agree.
    """

    twin: bt.Twin
    observed: str
    rename: Mapping[str, str]
    limits: Mapping[str, Mapping[str, Any]]
    shift: float
    dataset: tuple[str, ...]
    honest: Set[str] = frozenset()
    still: bool = False

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


def tanks(t, x, p, u):
    fall = p.k1 * jnp.sqrt(jnp.maximum(x.upper, 1e-6))
    return {"upper": p.gain * u.pump - fall, "lower": fall - p.k2 * jnp.sqrt(jnp.maximum(x.lower, 1e-6))}


def cell(t, x, p, u):
    return {"charge": u.current / p.capacity, "slow": (p.R1 * u.current - x.slow) / p.tau}


def terminal(t, x, p, u):
    return p.empty + p.slope * x.charge + p.R0 * u.current + x.slow


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
        honest={"spike", "level_shift"},
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
        honest={"stuck"},
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
    "armadillo": RealSet(
        bt.Twin(
            "test_house",
            house,
            {"envelope": bt.State(dist.Normal(25.0, 5.0), unit="degC"), "indoor": INDOOR},
            positive(R_in=(2.0, "K/kW"), R_out=(15.0, "K/kW"), C_in=(0.5, "kW h/K"), C_env=(4.0, "kW h/K")),
            {"indoor": gaussian(0.5, "degC")},
            {"outdoor": bt.Input(unit="degC", hold="linear"), "heating": bt.Input(unit="kW", hold="linear")},
            time_unit="h",
        ),
        "indoor",
        {"T_int": "indoor", "T_ext": "outdoor", "P_hea": "heating"},
        {
            "indoor": {"low": 24.0, "high": 43.0},
            "outdoor": {"low": 9.0, "high": 33.0},
            "heating": {"low": 0.0, "high": 2.3},
        },
        0.2,
        ("armadillo",),
        honest={"spike"},
        still=True,  # the heater is switched twice
    ),
    "cascaded_tanks": RealSet(
        bt.Twin(
            "tanks",
            tanks,
            {"upper": bt.State(dist.HalfNormal(5.0), unit="V"), "lower": bt.State(dist.HalfNormal(5.0), unit="V")},
            positive(k1=(0.05, "1"), k2=(0.05, "1"), gain=(0.05, "1")),
            {"lower": gaussian(0.5, "V")},
            {"pump": bt.Input(unit="V", hold="linear")},
        ),
        "lower",
        {"yEst": "lower", "uEst": "pump"},
        {"lower": {"low": 2.0, "high": 10.0}, "pump": {"low": 0.0, "high": 7.0}},
        0.2,
        ("cascaded_tanks",),
        honest={"saturation"},  # the tanks overflow
        still=True,  # the pump is driven by slow waves
    ),
    "battery_leaf": RealSet(
        bt.Twin(
            "cell",
            cell,
            {"charge": bt.State(dist.Uniform(0.0, 0.2)), "slow": bt.State(0.0, unit="V")},
            {
                "empty": bt.Parameter(dist.Normal(3.4, 0.1), unit="V"),
                "slope": bt.Parameter(dist.Normal(0.8, 0.1), unit="V"),
                **positive(capacity=(1.1e5, "A s"), R0=(2e-3, "ohm"), R1=(2e-3, "ohm"), tau=(60.0, "s")),
            },
            {"voltage": gaussian(0.1, "V", of=terminal)},
            {"current": bt.Input(unit="A")},
        ),
        "voltage",
        {"voltage_V": "voltage", "current_A": "current"},
        {"voltage": {"low": 2.5, "high": 4.25}, "current": {"low": -40.0, "high": 40.0}},
        0.2,
        ("battery_leaf", "hppc_25C.csv"),
    ),
}
