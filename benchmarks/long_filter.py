"""What a gradient costs along a long record of a twin with process noise: row by row as before, and in blocks.

A house of three states, twelve quantities, one sensor; a regular record, and one in which a twentieth is missing.
Prints seconds, microseconds a row, their ratio, and by how much value and gradient differ.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from rich.console import Console
from rich.table import Table

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics import blocks

SIZES, REPEATS = (5_000, 20_000), 5
VALUES = {"Ci": 2.0, "Ce": 8.0, "Ch": 0.5, "Rih": 1.2, "Rie": 0.8, "Rea": 5.0, "Aw": 1.5, "Rh": 0.7}
VALUES |= {"Ti_scale": 0.05, "Ti_diffusion": 0.2, "Te_diffusion": 0.1, "Th_diffusion": 0.3}


def balance(t, x, p, u):
    """Heat balances of the air, the envelope and the heating system."""
    return {
        "Ti": ((x.Th - x.Ti) / p.Rih + (x.Te - x.Ti) / p.Rie + p.Aw * u.Ps) / p.Ci,
        "Te": ((x.Ti - x.Te) / p.Rie + (u.Ta - x.Te) / p.Rea) / p.Ce,
        "Th": ((x.Ti - x.Th) / p.Rih + p.Rh * u.Thm) / p.Ch,
    }


def house() -> bt.Twin:
    """The twin."""
    wide = dist.LogNormal(0.0, 1.0)
    return bt.Twin(
        name="house",
        vector_field=balance,
        states={"Ti": bt.State(20.0), "Te": bt.State(15.0), "Th": bt.State(25.0)},
        parameters={name: bt.Parameter(wide) for name in ("Ci", "Ce", "Ch", "Rih", "Rie", "Rea", "Aw", "Rh")},
        inputs={name: bt.Input(hold="previous") for name in ("Ps", "Ta", "Thm")},
        observations={"Ti": bt.Observation(bt.Gaussian(dist.HalfNormal(0.1)))},
        time_unit="h",
        model_error=bt.ProcessNoise(dict.fromkeys(("Ti", "Te", "Th"), wide), dict.fromkeys(("Ti", "Te", "Th"), 1.0)),
    )


def telemetry(num: int, missing: float) -> bt.Telemetry:
    """So many rows, a quarter of an hour apart."""
    rng, times = np.random.default_rng(0), 0.25 * np.arange(num)
    day = times / 24.0 * 2.0 * np.pi
    inside = 20.0 + np.sin(day) + 0.02 * np.cumsum(rng.normal(size=num)) + 0.05 * rng.normal(size=num)
    inside[rng.random(num) < missing] = np.nan
    columns = {"time": times, "Ti": inside, "Ps": np.maximum(0.0, np.sin(day)), "Ta": 10.0 + 5.0 * np.sin(day - 1.0)}
    columns["Thm"] = 40.0 * (rng.random(num) < 0.3)
    return bt.read_telemetry(pd.DataFrame(columns), time="time", units={"time": "h"})


def measured(density: Density) -> tuple[float, np.ndarray]:
    """Median seconds of a value and gradient, and these."""
    z = density.unconstrain(VALUES)
    run = jax.jit(lambda density, z: jnp.append(*reversed(jax.value_and_grad(lambda z: density(z))(z))))
    found, seconds = np.asarray(run(density, z)), []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(run(density, z))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), found


def main() -> None:
    """Print the table."""
    table = Table("rows", "missing", "before, µs a row", "in blocks, µs a row", "ratio", "largest difference")
    twin, long = house(), blocks.LONG
    for num in [int(word) for word in sys.argv[1:]] or SIZES:
        for missing in (0.0, 0.05):
            found = []
            for blocks.LONG in (sys.maxsize, long):
                found.append(measured(build_density(twin, bind(twin, telemetry(num, missing))).filled))
            (before, theirs), (after, ours) = found
            apart = np.max(np.abs(ours - theirs) / np.abs(theirs))
            each = [f"{seconds / num * 1e6:.2f}" for seconds in (before, after)]
            table.add_row(f"{num:,}", f"{missing:.0%}", *each, f"{before / after:.1f}", f"{apart:.0e}")
    Console().print(table)


if __name__ == "__main__":
    main()
