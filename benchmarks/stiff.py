"""Our Rodas5P against diffrax's Kvaerno5 on Robertson's reaction, and what one of its steps costs beside Tsit5's.

Both tables are for states and all their derivatives in forward mode, for 4 chains at once. In the first, the error is
the largest over time relative to the largest value of a state, for the chain at the nominal rates, against SciPy's
Radau at 1e-12.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp

import bayestwin as bt
from bayestwin.dynamics import solve as steppers
from bayestwin.dynamics.choice import cost_ratio
from bayestwin.dynamics.grid import build_grid
from bayestwin.dynamics.steppers import Position, Slope

CHAINS, REPEATS = 4, 15
RATES = {"k1": 0.04, "k2": 3e7, "k3": 1e4}
TIMES = np.concatenate([[0.0], np.geomspace(4e-5, 4e4, 30)])
ATOL = 1e-12


def kvaerno5(slope: Slope, start: jax.Array, end: jax.Array, at: Position, solver: bt.Solver) -> Position:
    """One interval by diffrax, with the signature of our steppers."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: slope(jnp.asarray(t), y)),
        diffrax.Kvaerno5(scan_kind="lax"),
        start,
        end,
        None,
        at.state,
        stepsize_controller=diffrax.PIDController(rtol=solver.rtol, atol=solver.atol),
        max_steps=solver.max_steps,
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
    assert solution.ys is not None
    solved = at.solved & (solution.result == diffrax.RESULTS.successful)
    return Position(solution.ys[0], at.step, solved, at.num_steps + solution.stats["num_steps"])


def robertson(t, x, p, u):
    slow, fast, last = p.k1 * x.a, p.k3 * x.b * x.c, p.k2 * x.b**2
    return {"a": -slow + fast, "b": slow - fast - last, "c": last}


def lattice(num_states: int) -> bt.Twin:
    """Brusselators that exchange with their neighbours: as many states as wanted, all of one kind."""
    cells = num_states // 2

    def across(y, end):
        return jnp.diff(jnp.concatenate([jnp.full(1, end), y, jnp.full(1, end)]), n=2)

    def field(t, x, p, u):
        u_, v_ = (jnp.stack([getattr(x, f"{name}{i}") for i in range(cells)]) for name in "uv")
        product = u_**2 * v_
        of_u = p.k1 + product - (p.k2 + 1.0) * u_ + p.k3 * across(u_, 1.0)
        of_v = p.k2 * u_ - product + p.k3 * across(v_, 3.0)
        return {f"u{i}": of_u[i] for i in range(cells)} | {f"v{i}": of_v[i] for i in range(cells)}

    starts = {f"u{i}": 1.0 + 0.1 * i / cells for i in range(cells)} | {f"v{i}": 3.0 for i in range(cells)}
    return twin_of("lattice", field, starts, {"k1": 1.0, "k2": 3.0, "k3": 0.5})


def twin_of(name: str, field: Callable, starts: dict[str, float], rates: dict[str, float]) -> bt.Twin:
    return bt.Twin(
        name=name,
        vector_field=field,
        states={n: bt.State(value) for n, value in starts.items()},
        parameters={n: bt.Parameter(dist.LogNormal(np.log(value), 0.2)) for n, value in rates.items()},
        observations={next(iter(starts)): bt.Observation(bt.Gaussian(0.1))},
    )


def measure(twin: bt.Twin, times: np.ndarray) -> tuple[float, float, np.ndarray, int]:
    """Seconds to compile, median seconds a call, states of the first chain, most steps of a chain."""
    grid = build_grid(twin, times, times, {})
    names = list(twin.parameters)

    def with_tangents(logs: jax.Array) -> tuple[jax.Array, steppers.Trajectory]:
        def states(logs: jax.Array) -> tuple[jax.Array, steppers.Trajectory]:
            found = steppers.solve(twin, grid, dict(zip(names, jnp.exp(logs), strict=True)))
            return found.states, found

        return jax.jacfwd(states, has_aux=True)(logs)

    nominal = np.log([np.exp(site.prior.loc) for site in twin.sites()])
    logs = nominal + 0.2 * np.random.default_rng(0).normal(size=(CHAINS, 1)) * (np.arange(CHAINS) > 0)[:, None]
    begun = time.perf_counter()
    compiled = jax.jit(jax.vmap(with_tangents)).lower(logs).compile()
    compile_seconds = time.perf_counter() - begun
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        _, found = jax.block_until_ready(compiled(logs))
        seconds.append(time.perf_counter() - begun)
    assert found.solved.all()
    return compile_seconds, statistics.median(seconds), np.asarray(found.states[0]), int(found.num_steps.max())


def compare_on_robertson() -> Table:
    table = Table("rtol", "solver", "compile, s", "call, ms", "steps", "error")
    twin = twin_of("robertson", robertson, {"a": 1.0, "b": 0.0, "c": 0.0}, RATES)

    def plain(t: float, y: np.ndarray) -> list[float]:
        slow, fast, last = RATES["k1"] * y[0], RATES["k3"] * y[1] * y[2], RATES["k2"] * y[1] ** 2
        return [-slow + fast, slow - fast - last, last]

    exact = solve_ivp(plain, (0.0, TIMES[-1]), [1.0, 0.0, 0.0], "Radau", TIMES, rtol=1e-12, atol=1e-16).y.T
    for rtol in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        for method in ("rodas5p", "kvaerno5"):
            # the benchmark alone knows Kvaerno5: it stands in for the stiff method of the package
            ours = steppers.STEPPERS["rodas5p"]
            steppers.STEPPERS["rodas5p"] = kvaerno5 if method == "kvaerno5" else ours
            tried = dataclasses.replace(twin, solver=bt.Solver("rodas5p", rtol=rtol, atol=ATOL))
            compile_seconds, seconds, states, steps = measure(tried, TIMES)
            steppers.STEPPERS["rodas5p"] = ours
            error = (np.abs(states - exact).max(axis=0) / np.abs(exact).max(axis=0)).max()
            table.add_row(
                f"{rtol:.0e}", method, f"{compile_seconds:.1f}", f"{1e3 * seconds:.2f}", f"{steps}", f"{error:.1e}"
            )
    return table


def compare_steps() -> Table:
    table = Table("states", "Tsit5, µs a step", "Rodas5P, µs a step", "ratio", "`cost_ratio`")
    for num_states in (2, 4, 8, 16, 32):
        each = []
        for method in ("tsit5", "rodas5p"):
            twin = dataclasses.replace(lattice(num_states), solver=bt.Solver(method))
            _, seconds, _, steps = measure(twin, np.linspace(0.0, 10.0, 11))
            each.append(1e6 * seconds / steps)
        ratio = f"{each[1] / each[0]:.1f}"
        table.add_row(f"{num_states}", f"{each[0]:.1f}", f"{each[1]:.1f}", ratio, f"{cost_ratio(num_states):.1f}")
    return table


def main() -> None:
    """Print both tables."""
    console = Console()
    console.print(compare_on_robertson())
    console.print(compare_steps())


if __name__ == "__main__":
    main()
