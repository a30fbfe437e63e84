"""A lithium-ion cell seen through its terminal voltage: a Thevenin equivalent circuit with two RC pairs."""

import math

import jax.numpy as jnp
import numpyro.distributions as dist

import bayestwin as bt


def open_circuit(soc):
    """Voltage of the rested cell in V, by state of charge: a property of the cell type, measured once."""
    return 3.685 - 1.031 * jnp.exp(-35.0 * soc) + 0.2156 * soc - 0.1178 * soc**2 + 0.3201 * soc**3


def vector_field(t, x, p, u):
    """Charge is counted; the voltage across each RC pair relaxes to the drop over its resistor."""
    return {
        "soc": -u.current / (3600.0 * p.capacity),
        "fast": (p.R1 * u.current - x.fast) / p.tau1,
        "slow": (p.R2 * u.current - x.slow) / p.tau2,
    }


def terminal(t, x, p, u):
    """Voltage between the poles, in V."""
    return open_circuit(x.soc) - p.R0 * u.current - x.fast - x.slow


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="battery",
    vector_field=vector_field,
    states={
        "soc": bt.State(initial=dist.TruncatedNormal(0.95, 0.05, low=0.0, high=1.0), doc="state of charge"),
        "fast": bt.State(initial=0.0, unit="V", doc="voltage across the fast RC pair; the cell has rested"),
        "slow": bt.State(initial=0.0, unit="V", doc="voltage across the slow RC pair; the cell has rested"),
    },
    parameters={
        "capacity": bt.Parameter(about(0.85, 0.1), unit="A h", doc="charge of the full cell; data sheet: 0.85"),
        "R0": bt.Parameter(about(0.1, 0.5), unit="ohm", doc="resistance that acts at once"),
        "R1": bt.Parameter(about(0.05, 0.5), unit="ohm", doc="resistance of the fast pair"),
        "tau1": bt.Parameter(about(20.0, 0.5), unit="s", doc="time constant of the fast pair, R1 C1"),
        "R2": bt.Parameter(about(0.05, 0.5), unit="ohm", doc="resistance of the slow pair"),
        "tau2": bt.Parameter(about(300.0, 0.5), unit="s", doc="time constant of the slow pair, R2 C2"),
    },
    inputs={"current": bt.Input(unit="A", hold="previous", doc="current; discharge is positive")},
    observations={
        "voltage": bt.Observation(
            noise=bt.Gaussian(scale=dist.HalfNormal(0.01)), of=terminal, unit="V", doc="terminal voltage"
        ),
    },
    quantities={
        "charge": bt.Integral("current", unit="A h", doc="charge taken out; negative where it is charged"),
        "lowest": bt.Min("voltage", unit="V", doc="lowest terminal voltage"),
        "highest": bt.Max("voltage", unit="V", doc="highest terminal voltage"),
        "half_at": bt.FirstTime(lambda t, x, p, u: x.soc < 0.5, unit="min", doc="when half of the charge is left"),
    },
    time_unit="s",
    doc="One lithium-ion polymer cell of 0.85 A h at room temperature, discharged in pulses.",
)
