"""A gradient of lynx–hare in our sampler against C written by hand (`gradient.c`), compiled and timed in this run.

Both make a row of gradients within one call, as a sampler does. Value and gradient are compared first.
"""

import argparse
import ctypes
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import posteriors
import results_page
from bayestwin._base.process import on_device
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density

SOURCE = pathlib.Path(__file__).with_suffix(".c")
YEARS, RK4_PER_YEAR, REPEATS = 20, 10, 25
NEAR_MODE = {
    "alpha": 0.547,
    "beta": 0.0277,
    "gamma": 0.800,
    "delta": 0.0241,
    "hare_initial": 34.0,
    "lynx_initial": 5.94,
    "hare_scale": 0.248,
    "lynx_scale": 0.251,
}
HEADER = ("gradient", "steps", "µs", "ours / it, 1 chain", "ours / it, batch of 4")


def compiled(folder: str) -> ctypes.CDLL:
    """`gradient.c` as a library."""
    path = pathlib.Path(folder) / "gradient.so"
    command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", str(SOURCE), "-o", str(path), "-lm"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(path))
    for function in (library.log_density, library.repeat):
        function.restype = ctypes.c_double
    return library


def microseconds(call: Callable[[], object], count: int) -> float:
    """Microseconds for each of a call's `count` gradients, in the fastest call: whatever else runs only adds."""
    call()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return 1e6 * min(taken) / count


def ours(density: Density, z: np.ndarray, chains: int, count: int) -> float:
    """Microseconds a gradient and chain, in a scan over a batch of chains."""
    gradient = jax.vmap(jax.value_and_grad(density))

    def move(z: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        value, slope = gradient(z)
        return z + 1e-12 * slope, value

    row = jax.jit(lambda z: jax.lax.scan(move, z, None, length=count))
    batch = jnp.tile(jnp.asarray(z), (chains, 1))
    return microseconds(lambda: jax.block_until_ready(row(batch)), count * chains)


def by_hand(library: ctypes.CDLL, z: np.ndarray, data: np.ndarray, method: int, per_year: int, count: int) -> float:
    """Microseconds a gradient of the C program."""

    def call() -> float:
        return library.repeat(_pointer(z.copy()), _pointer(data), method, per_year, count)

    return microseconds(call, count)


def check(library: ctypes.CDLL, density: Density, z: np.ndarray, data: np.ndarray, method: int, per_year: int) -> float:
    """Largest relative difference between the C program's gradient and ours."""
    found = np.zeros(z.size)
    library.log_density(_pointer(z), _pointer(data), method, per_year, _pointer(found))
    wanted = np.asarray(jax.jit(jax.grad(density))(jnp.asarray(z)))
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    return values.ctypes.data_as(ctypes.c_void_p)


def main() -> None:
    """Check, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where ours runs")
    parser.add_argument("--count", type=int, default=1000, help="gradients in one call")
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    asked = parser.parse_args()
    posterior = posteriors.load("lynx_hare")
    data = np.concatenate([posterior.stan_data[name] for name in ("hare", "lynx")])
    with on_device(asked.device), tempfile.TemporaryDirectory() as folder:
        density = build_density(posterior.twin, bind(posterior.twin, posterior.telemetry))
        # a little off the mode, where the gradient is not zero
        z = np.asarray(density.unconstrain(NEAR_MODE)) + 0.02
        steps = int(density.predict(density.constrain(jnp.asarray(z))).num_steps)
        library = compiled(folder)
        one, four = (ours(density, z, chains, asked.count) for chains in (1, 4))
        rows = [("ours, 1 chain", str(steps), one), ("ours, a chain in a batch of 4", str(steps), four)]
        for words, method, per_year in (("C, RK4", 4, RK4_PER_YEAR), ("C, Tsit5", 5, -(-steps // YEARS))):
            gap = check(library, density, z, data, method, per_year)
            taken = by_hand(library, z, data, method, per_year, asked.count)
            rows.append((f"{words} (gradient differs by {gap:.0e})", str(per_year * YEARS), taken))
    cells = [[words, n, f"{t:.1f}", f"{one / t:.2f}", f"{four / t:.2f}"] for words, n, t in rows]
    table = Table(*HEADER)
    for row in cells:
        table.add_row(*row)
    Console().print(table)
    if not asked.dry:
        title = "A gradient against C by hand" + (" on a GPU" if asked.device == "gpu" else "")
        about = f"{results_page.circumstances(asked.device)} Lynx–hare, 6 tangents; {asked.count} gradients in a row."
        results_page.write_section(title, f"{about}\n\n{results_page.markdown(HEADER, cells)}")


if __name__ == "__main__":
    main()
