"""Which way to differentiate: forward through the adaptive solver, or in reverse through fixed steps?

A row of tanks with more and more parameters, observed at more and more times; the rule that follows from this table
is that of `bayestwin/dynamics/solve.py`: `MANY` derivatives, or `LEAST_WORK` steps times derivatives.
"""

import argparse
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.survey import survey
from bayestwin.dynamics.solve import plan_substeps
from scaling import Size, row_of_tanks

CHAINS, REPEATS = 4, 9


def seconds(density: Density, z: jax.Array) -> tuple[float, float]:
    """Compile seconds, and the median of a gradient of all chains."""
    begun = time.perf_counter()
    compiled = jax.jit(jax.vmap(jax.value_and_grad(density))).lower(z).compile()
    compiling = time.perf_counter() - begun
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(z))
        taken.append(time.perf_counter() - begun)
    return compiling, float(np.median(taken))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", nargs="+", type=int, default=(2, 5, 10, 20, 50))
    parser.add_argument("--observations", nargs="+", type=int, default=(20, 100, 500, 2000))
    asked, console = parser.parse_args(), Console()
    table = Table("parameters", "steps", "work", "forward, ms", "reverse, ms", "ratio", "compile, s", "the rule takes")
    for parameters in asked.parameters:
        twin = row_of_tanks(Size(parameters=parameters, states=4))
        for observations in asked.observations:
            times = np.linspace(0.0, 10.0, observations + 1)[1:]
            record = pd.DataFrame({next(iter(twin.observations)): 0.5}, index=pd.Index(times, name="time"))
            forward = build_density(twin, bind(twin, bt.read_telemetry(record, t0=0.0)))
            z = jnp.asarray(0.1 * np.random.default_rng(0).standard_normal((CHAINS, len(forward.sites))))
            taken = survey(forward, np.asarray(z)).num_steps
            substeps, plan = np.maximum(taken.max(axis=0), 1), plan_substeps(taken, parameters)[1]
            reverse = dataclasses.replace(forward, grid=forward.grid.with_substeps(substeps))
            (first, ahead), (second, back) = seconds(forward, z), seconds(reverse, z)
            row = (f"{1e3 * ahead:.3g}", f"{1e3 * back:.3g}", f"{ahead / back:.2f}", f"{first:.1f}, {second:.1f}")
            table.add_row(
                str(parameters), f"{substeps.sum():,}", f"{substeps.sum() * parameters:,}", *row, plan["mode"]
            )
            console.print(parameters, observations, *row)
    console.print(table)


if __name__ == "__main__":
    main()
