"""Our loop from stop to stop against `diffrax.diffeqsolve`, for states and sensitivities of 4 chains at once.

diffrax saves at the same times and is told of the same kinks (`jump_ts`); both use Tsit5 at the same tolerances. The
largest difference of the states is printed beside the times, so that nothing is bought with accuracy.
"""

import pathlib
import statistics
import time
from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bayestwin._base.progress import Progress
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.solve import parameters
from bayestwin.inference.starts import find_starts
from bayestwin.project.model import load_model, load_telemetry

ROOT = pathlib.Path(__file__).parent.parent / "models"
CHAINS, REPEATS = 4, 15


def by_diffrax(density: Density) -> Callable[[jax.Array], jax.Array]:
    """z → states, by one `diffeqsolve` with a dense grid of save times and jumps."""
    twin, grid = density.twin, density.grid
    edges, left, right = (jnp.asarray(a) for a in (grid.edges, grid.left, grid.right))
    controller = diffrax.PIDController(rtol=twin.solver.rtol, atol=twin.solver.atol)
    if twin.inputs:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=edges[1:-1])

    def inputs_at(t: jax.Array) -> jax.Array:
        i = jnp.clip(jnp.searchsorted(edges, t, side="right") - 1, 0, len(edges) - 2)
        return left[i] + (right[i] - left[i]) * (t - edges[i]) / (edges[i + 1] - edges[i])

    def states(z: jax.Array) -> jax.Array:
        values = density.constrain(z)
        initial = jnp.stack([values[f"{name}_initial"] for name in twin.states])
        slope = Field(twin, parameters(twin, values)).slope(inputs_at)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: slope(t, y)),
            diffrax.Tsit5(),
            0.0,
            edges[-1],
            None,
            initial,
            saveat=diffrax.SaveAt(ts=jnp.asarray(density.bound.times)),
            stepsize_controller=controller,
            adjoint=diffrax.ForwardMode(),
            max_steps=100_000,
            throw=False,
        )
        assert solution.ys is not None
        return solution.ys

    return states


def measure(states: Callable[[jax.Array], jax.Array], z: jax.Array) -> tuple[float, float, np.ndarray]:
    """Seconds to compile, median seconds a call, and the states."""

    def with_tangents(one: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(lambda e: jax.jvp(states, (one,), (e,)), out_axes=(None, 0))(jnp.eye(one.size))

    begun = time.perf_counter()
    compiled = jax.jit(jax.vmap(with_tangents)).lower(z).compile()
    compile_seconds = time.perf_counter() - begun
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        found = jax.block_until_ready(compiled(z))
        seconds.append(time.perf_counter() - begun)
    return compile_seconds, statistics.median(seconds), np.asarray(found[0])


def main() -> None:
    """Measure both on both models, in turn."""
    table = Table("model", "solver", "compile, s", "call, ms", "ratio", "largest difference")
    for name in ("lynx_hare", "room"):
        model = load_model(ROOT / name)
        density = build_density(model.twin, bind(model.twin, load_telemetry(model).calibration))
        with Progress() as progress:
            starts = find_starts(density, CHAINS, 0, progress)
        z = jnp.asarray(starts.z)
        ours = measure(lambda z, density=density: density.predict(density.constrain(z)).states, z)
        theirs = measure(by_diffrax(density), z)
        gap = float(np.abs(ours[2] - theirs[2]).max())
        table.add_row(name, "bayestwin", f"{ours[0]:.1f}", f"{1e3 * ours[1]:.2f}", "1", "")
        ratio = f"{theirs[1] / ours[1]:.1f}"
        table.add_row("", "diffrax", f"{theirs[0]:.1f}", f"{1e3 * theirs[1]:.2f}", ratio, f"{gap:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
