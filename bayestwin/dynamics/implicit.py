"""One interval of the grid by diffrax's implicit Kvaerno5, for stiff twins; only they import diffrax."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bayestwin.dynamics.explicit import Position
from bayestwin.twin import Solver


def advance(slope: Callable[[Array, Array], Array], start: Array, end: Array, at: Position, solver: Solver) -> Position:
    """Solve from `start` to `end`; arguments and result as in `explicit.advance`."""
    with jax.ensure_compile_time_eval():  # what it computes as it is imported must not become part of the trace
        import diffrax

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
    reached = solution.ys[0]
    solved = at.solved & (solution.result == diffrax.RESULTS.successful) & jnp.isfinite(reached).all()
    state = jnp.where(solved, reached, at.state)
    return Position(state, at.step, solved, at.num_steps + solution.stats["num_steps"])
