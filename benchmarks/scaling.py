"""How a gradient of our log density scales: with parameters, states, observations and chains in a batch.

All points are measured in this process, one axis after the other, from small to large. Where the points so far say
that the next would take longer than `--limit`, it is left out, and that is said. With `--device gpu` each point is
measured on the CPU too, and marked where the GPU is the faster.
"""

import argparse
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from rich.console import Console
from rich.table import Table

import bayestwin as bt
import results_page
from bayestwin._base.process import on_device
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.inference.solver import NUM_COMPARED, choose_at
from figures import draw_curves

REPEATS, SEEN = 5, 20
AXES = {
    "parameters": (2, 5, 10, 20, 50, 100),
    "states": (2, 5, 10, 20, 50, 100, 200),
    "entries": (2, 5, 10, 20, 50, 100, 200),
    "observations": (100, 1_000, 10_000, 100_000, 1_000_000),
    "chains": (1, 4, 16, 64, 256, 1_024),
}
HEADER = ("axis", "size", "device", "compile, s", "ms a gradient", "µs a gradient and chain", "derivatives")


class Point(NamedTuple):
    """One size of one axis; seconds are NaN where it was left out.

    Attributes:
        compile: Seconds to trace and compile.
        call: Seconds for the gradients of one batch.
    """

    axis: str
    size: int
    device: str
    chains: int
    compile: float
    call: float
    words: str = ""

    def cells(self) -> list[str]:
        """The row of the table."""
        each = 1e6 * self.call / self.chains
        numbers = (self.compile, 1e3 * self.call, each)
        return [
            self.axis,
            f"{self.size:,}",
            self.device,
            *map(results_page.number, numbers),
            self.words,
        ]


class Size(NamedTuple):
    """What is solved, and for how many chains at once."""

    parameters: int = 4
    states: int = 4
    entries: int = 0  # of one state that is an array, in place of states
    observations: int = SEEN
    chains: int = 4


def row_of_tanks(size: Size) -> bt.Twin:
    """Tanks in a row, each fed by the one before; the rates of all together are the parameters.

    Tank i drains at the product of the parameters whose numbers leave the remainder i, or there are fewer parameters
    than tanks and they take turns: the cost of the vector field hardly depends on the number of parameters.
    """
    tanks, rates = [f"x{i}" for i in range(size.states)], [f"k{i}" for i in range(size.parameters)]

    def vector_field(t, x, p, u):
        k = [getattr(p, name) for name in rates]
        found, inflow = {}, 1.0
        for i, tank in enumerate(tanks):
            outflow = math.prod(k[i % len(k) :: len(tanks)]) * getattr(x, tank)
            found[tank], inflow = inflow - outflow, outflow
        return found

    return bt.Twin(
        name="tanks",
        vector_field=vector_field,
        states={tank: bt.State(0.0) for tank in tanks},
        parameters={rate: bt.Parameter(dist.LogNormal(0.0, 0.1)) for rate in rates},
        observations={tanks[-1]: bt.Observation(noise=bt.Gaussian(scale=0.1))},
    )


def array_of_tanks(size: Size) -> bt.Twin:
    """The same tanks as one state that is an array."""
    rates = [f"k{i}" for i in range(size.parameters)]

    def vector_field(t, x, p, u):
        k = [getattr(p, name) for name in rates]
        each = [math.prod(k[i :: size.entries]) for i in range(min(len(k), size.entries))]
        outflow = jnp.stack(each)[np.arange(size.entries) % len(each)] * x.tanks
        return {"tanks": jnp.concatenate([jnp.ones(1), outflow[:-1]]) - outflow}

    return bt.Twin(
        name="tanks",
        vector_field=vector_field,
        states={"tanks": bt.State(0.0, size=size.entries)},
        parameters={rate: bt.Parameter(dist.LogNormal(0.0, 0.1)) for rate in rates},
        observations={"last": bt.Observation(noise=bt.Gaussian(scale=0.1), of=lambda t, x, p, u: x.tanks[-1])},
    )


def gradient(size: Size) -> tuple[Callable[[jax.Array], tuple[jax.Array, jax.Array]], jax.Array, str]:
    """Value and gradient of the log density for a batch of chains, differentiated as NUTS would.

    Returns:
        The function of z, where to take it, shape (chains, d), and how derivatives are taken.
    """
    twin = array_of_tanks(size) if size.entries else row_of_tanks(size)
    times = np.linspace(0.0, 10.0, size.observations + 1)[1:]
    table = pd.DataFrame({next(iter(twin.observations)): 0.5}, index=pd.Index(times, name="time"))
    density = build_density(twin, bind(twin, bt.read_telemetry(table, t0=0.0)))
    rng = np.random.default_rng(0)
    density, chosen = choose_at(density, 0.1 * rng.standard_normal((NUM_COMPARED, len(density.sites))))
    words = "on a mesh" if density.grid.between is not None else chosen["mode"]
    z = 0.1 * rng.standard_normal((size.chains, len(density.sites)))
    return jax.vmap(jax.value_and_grad(density)), jnp.asarray(z), words


def measure(axis: str, number: int, device: str) -> Point:
    """Compile and time one point."""
    # with as many tanks as the most parameters take in turns, only the number of derivatives changes along that axis
    size = Size()._replace(**{axis: number}, **({"states": 20} if axis == "parameters" else {}))
    with on_device(device):
        function, z, words = gradient(size)
        begun = time.perf_counter()
        compiled = jax.jit(function).lower(z).compile()
        compile_seconds = time.perf_counter() - begun
        taken: list[float] = []
        while len(taken) < REPEATS and sum(taken) < 10.0:
            begun = time.perf_counter()
            value, _ = jax.block_until_ready(compiled(z))
            taken.append(time.perf_counter() - begun)
    words += "" if bool(jnp.isfinite(value).all()) else ", not solved"
    return Point(axis, number, device, size.chains, compile_seconds, min(taken), words)


def expected(points: Sequence[Point], number: int) -> float:
    """Seconds that the next point will take, from how the last two grew.

    Calls grow at least in proportion to size. Compiling grows with the number of states, which the program spells
    out one by one, and hardly with anything else, as with the entries of one that is an array.
    """
    if not points:
        return 0.0
    times = number / points[-1].size
    compiling = times ** _power(points, "compile") if points[-1].axis == "states" else 1.0
    calls = times ** _power(points, "call")
    return points[-1].compile * compiling + (1 + REPEATS) * points[-1].call * calls


def _power(points: Sequence[Point], field: str) -> float:
    """Exponent with which a field grew between the last two points, from 1 to 3."""
    if len(points) < 2:
        return 1.0
    before, last = points[-2:]
    grown = math.log(getattr(last, field) / getattr(before, field)) / math.log(last.size / before.size)
    return min(max(grown, 1.0), 3.0)


def curve(axis: str, numbers: Sequence[int], device: str, limit: float, console: Console) -> list[Point]:
    """All points of one axis on one device."""
    points: list[Point] = []
    for number in numbers:
        foreseen = expected(points, number)
        if foreseen > limit:
            words = f"left out: about {foreseen:,.0f} s"
            console.print(f"{axis} {number:,} on {device}: {words}")
            left_out = Point(axis, number, device, 1, math.nan, math.nan, words)
            return [*points, left_out]
        points.append(measure(axis, number, device))
        console.print(f"{axis} {number:,} on {device}: {1e3 * points[-1].call:.3g} ms")
    return points


def marked(points: Sequence[Point]) -> list[Point]:
    """Points with a word where the GPU is faster than the CPU at the same size."""
    on_cpu = {(p.axis, p.size): p.call for p in points if p.device == "cpu"}
    return [
        p._replace(words=f"{p.words}; the GPU pays: {on_cpu[p.axis, p.size] / p.call:.1f}×")
        if p.device == "gpu" and p.call < on_cpu.get((p.axis, p.size), 0.0)
        else p
        for p in points
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that one point may take")
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    asked, console = parser.parse_args(), Console()
    devices = ("cpu", "gpu") if asked.device == "gpu" else ("cpu",)
    found = [point for a in asked.axes for d in devices for point in curve(a, AXES[a], d, asked.limit, console)]
    points = marked(found)
    table = Table(*HEADER)
    for point in points:
        table.add_row(*point.cells())
    console.print(table)
    if asked.dry:
        return
    picture = f"scaling-{asked.device}.svg"
    measured = [p for p in points if math.isfinite(p.call)]
    curves = {
        a: {d: [(p.size, p.call) for p in measured if (p.axis, p.device) == (a, d)] for d in devices}
        for a in asked.axes
    }
    draw_curves(curves, pathlib.Path(__file__).with_name(picture))
    base = Size()
    about = (
        f"Tanks in a row; {base.parameters} parameters, {base.states} states (20 along the axis of parameters), "
        f"{base.observations} observations and {base.chains} chains where the axis says nothing else; entries are "
        "those of one state that is an array, in place of states."
    )
    body = f"{results_page.circumstances(asked.device)} {about}\n\n![Milliseconds a gradient by size]({picture})"
    title = "How a gradient scales" + (" on a GPU" if asked.device == "gpu" else "")
    results_page.write_section(title, f"{body}\n\n{results_page.markdown(HEADER, [p.cells() for p in points])}")


if __name__ == "__main__":
    main()
