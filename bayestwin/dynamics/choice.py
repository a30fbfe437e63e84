"""Which solver suits a twin: both are tried on draws of its quantities, and the work that each needed decides.

The explicit one is tried alone first. The stiff one is compiled only where the explicit one fails, or takes so many
steps that the stiff one could pay off.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin.dynamics.affine import needs_no_solver, steps_exactly
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.solve import solve
from bayestwin.dynamics.steppers import LARGE
from bayestwin.model.components import SolverMethod
from bayestwin.model.error import ProcessNoise
from bayestwin.model.twin import Twin

EXPLICIT, STIFF, EXACT = "tsit5", "rodas5p", "exact"
NO_SOLVER = "none needed: steps of an affine twin are exact"
BUDGET = 50_000
"""About how many steps a trial may take per draw; one that an unsuitable solver spends counts as not solved."""
FEW_STEPS = 200
"""With no more steps than these nothing is worth compiling a second solver."""
RARE = 0.05
"""A share of draws that only one solver comes through which does not yet decide."""
ADVANTAGE = 2.0
"""How many times less the stiff solver's work must be: nearly equal work is for the explicit one."""


class SolverTrial(NamedTuple):
    """What one solver made of n draws.

    Attributes:
        solved: Whether it came through; shape (n,).
        num_steps: Steps taken, those before giving up included; shape (n,).
    """

    solved: np.ndarray
    num_steps: np.ndarray


class Choice(NamedTuple):
    """A solver's method, and why.

    Attributes:
        method: For `bt.Solver`.
        reason: In words, for the report.
        evidence: The figures behind it, ready for JSON; empty where the twin names its method.
    """

    method: SolverMethod
    reason: str
    evidence: Mapping[str, float]


type Attempt = Callable[[Twin, Grid], SolverTrial]
"""Tries a twin, which says by which method, on a grid, which says how many steps that may take."""


def choose_solver(
    twin: Twin, grid: Grid, draws: Mapping[str, ArrayLike], attempt: Attempt | None = None
) -> tuple[Twin, Choice]:
    """Replace the method `"auto"` by the one that suits.

    Args:
        twin: The twin.
        grid: Where the solver will stop.
        draws: By site, the values at which the solvers are tried; shape (n,) each, or (n, E) for E experiments; a few
            dozen will do.
        attempt: Solves at these draws; by default by a program of its own.

    Returns:
        The twin with its method fixed, and why that one.
    """
    if twin.black_box:
        return twin, Choice(twin.solver.method, "the model brings its own", {})
    if twin.solver.method != "auto":
        return twin, Choice(twin.solver.method, f"{twin.solver.method}: named by the twin", {})
    if can_be_exact(twin):
        return with_method(twin, EXACT), Choice(EXACT, NO_SOLVER, {})
    if steps_exactly(twin):
        return with_method(twin, EXPLICIT), Choice(EXPLICIT, NO_SOLVER, {})
    ratio = cost_ratio(twin.layout.size)
    attempt = attempt or functools.partial(_attempt, draws)
    limit = max(100, BUDGET // max(grid.edges.shape[-1] - 1, 1))
    most = np.asarray(np.minimum(grid.precision.max_steps, limit))
    bounded = grid._replace(precision=grid.precision._replace(max_steps=most))
    explicit = attempt(with_method(twin, EXPLICIT), bounded)
    enough = max(FEW_STEPS, ADVANTAGE * ratio * (grid.edges.shape[-1] - 1))  # the stiff one stops at every edge as well
    fine = explicit.solved.mean() >= 1.0 - RARE and np.median(explicit.num_steps) <= enough
    choice = judge(explicit, None if fine else attempt(with_method(twin, STIFF), bounded), ratio)
    return with_method(twin, choice.method), choice


def can_be_exact(twin: Twin) -> bool:
    """Whether the twin needs no solver: without process noise, which a filter follows.

    Of a large array exponentials of matrices cost more than solving.
    """
    few = twin.layout.scalar or twin.layout.size <= LARGE
    return few and not isinstance(twin.model_error, ProcessNoise) and needs_no_solver(twin)


def cost_ratio(num_states: int) -> float:
    """How many explicit steps one stiff step costs, both with derivatives; fitted to `benchmarks/stiff.py`."""
    return 4.0 + num_states**2 / 25.0


def _attempt(draws: Mapping[str, ArrayLike], twin: Twin, grid: Grid) -> SolverTrial:
    """Solve a twin at every draw, in one batch."""
    batch = {name: jnp.asarray(value, float) for name, value in draws.items()}
    solved, num_steps = _solve_all(Keyed(twin, (key_of(twin), twin.solver.method)), grid, batch)
    return SolverTrial(np.atleast_1d(solved), np.atleast_1d(num_steps))


@Program
def _solve_all(twin: Keyed[Twin], grid: Grid, batch: Mapping[str, Array]) -> tuple[Array, Array]:
    def one(values: Mapping[str, Array]) -> tuple[Array, Array]:
        trajectory = solve(twin.value, grid, values)
        # experiments are solved side by side: what takes the longest is what they take
        return trajectory.solved.all(), trajectory.num_steps.max()

    return jax.vmap(one)(batch) if batch else one(batch)


def judge(explicit: SolverTrial, stiff: SolverTrial | None, ratio: float) -> Choice:
    """The choice that follows from both trials, or from the explicit one alone.

    Args:
        explicit: What the explicit solver made of the draws.
        stiff: What the stiff one made of them; None if it was not tried.
        ratio: Work of a stiff step, in explicit steps.
    """
    num = len(explicit.solved)
    evidence = {"draws": num, **_figures("explicit", explicit)}
    if stiff is None:
        return Choice(EXPLICIT, f"explicit: {_words(explicit)}", evidence)
    evidence |= {**_figures("stiff", stiff), "cost_ratio": ratio}
    both = f"the explicit solver: {_words(explicit)}; the stiff one: {_words(stiff)}"
    gained = int(stiff.solved.sum()) - int(explicit.solved.sum())
    if abs(gained) > RARE * num:
        method, word = (STIFF, "stiff") if gained > 0 else (EXPLICIT, "explicit")
        return Choice(method, f"{word}: it solves more of the draws ({both})", evidence)
    compared = explicit.solved & stiff.solved
    work = [float(t.num_steps[compared].sum()) for t in (explicit, stiff)] if compared.any() else [0.0, 0.0]
    if work[0] > ADVANTAGE * ratio * work[1] > 0.0:
        return Choice(STIFF, f"stiff: less work, though each of its steps costs {ratio:.0f} ({both})", evidence)
    return Choice(EXPLICIT, f"explicit: the stiff solver does no better ({both})", evidence)


def with_method(twin: Twin, method: SolverMethod) -> Twin:
    """The twin, solved by this method."""
    return dataclasses.replace(twin, solver=dataclasses.replace(twin.solver, method=method))


def _figures(name: str, trial: SolverTrial) -> dict[str, float]:
    return {
        f"{name}_solved": int(trial.solved.sum()),
        f"{name}_median_steps": float(np.median(trial.num_steps)),
        f"{name}_most_steps": int(trial.num_steps.max()),
    }


def _words(trial: SolverTrial) -> str:
    num, solved = len(trial.solved), int(trial.solved.sum())
    if solved == 0:
        return f"none of {num} draws solved"
    return f"{solved} of {num} draws solved in at most {trial.num_steps[trial.solved].max()} steps"
