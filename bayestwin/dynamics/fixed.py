"""The whole grid by a fixed number of explicit steps an interval: one straight loop, which reverse mode goes through.

How many steps each interval takes is learnt from adaptive solves; whether that was exact enough is found out
afterwards by the tolerance audit.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin.dynamics.explicit import take_step
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid, inputs_from

MOST_STEPS = 200_000
"""Reverse mode keeps the state before every step."""

MANY, LEAST_WORK = 8, 4_000
"""Derivatives, or steps times derivatives, from which on reverse mode is faster: see `benchmarks/sensitivities.py`."""

WASTEFUL = 1.5
"""Fixed steps must be no more than this times those that a typical adaptive solve takes."""


def integrate(field: Field, state: Array, grid: Grid, substeps: np.ndarray) -> Array:
    """States at the end of each interval; shape (m, s).

    Args:
        field: The twin with its parameters.
        state: At the first edge; shape (s,).
        grid: m intervals.
        substeps: Equal steps in each; shape (m,).
    """
    interval = np.repeat(np.arange(len(substeps)), substeps)
    number = np.arange(len(interval)) - np.repeat(np.cumsum(substeps) - substeps, substeps)
    step = (np.diff(grid.edges) / substeps)[interval]
    begun = grid.edges[interval]
    # what happens at the start of an interval happens before its first step only
    amounts = np.where((number == 0)[:, None], grid.amounts[interval], np.nan)

    @jax.checkpoint  # its stages are computed again on the way back: less memory, and not slower
    def body(state: Array, span: tuple[Array, ...]) -> tuple[Array, Array]:
        begun, start, step, coefficients, amounts = span
        state = field.happen(start, state, coefficients[0], amounts)
        state, _ = take_step(field.slope(inputs_from(begun, coefficients)), start, state, step)
        return state, state

    spans = (begun, begun + number * step, step, grid.coefficients[interval], amounts)
    _, after = lax.scan(body, state, tuple(jnp.asarray(a) for a in spans))
    return after[np.cumsum(substeps) - 1]


def plan_substeps(num_steps: np.ndarray, num_derivatives: int) -> tuple[np.ndarray | None, Mapping[str, Any]]:
    """How many steps each interval is to take, from adaptive solves; None where forward mode does better.

    Args:
        num_steps: Steps that n adaptive solves took in each of m intervals; shape (n, m).
        num_derivatives: With respect to how many quantities derivatives are needed.

    Returns:
        Steps of each interval, shape (m,), or None; and what was chosen and why, as plain values.
    """
    substeps = np.maximum(num_steps.max(axis=0), 1)
    total, typical = int(substeps.sum()), float(np.median(num_steps.sum(axis=1)))
    evidence = {"steps": total, "derivatives": num_derivatives}
    if num_derivatives < MANY and total * num_derivatives < LEAST_WORK:
        return None, {"mode": "forward", "reason": "few steps and derivatives", **evidence}
    if total > WASTEFUL * typical or total > MOST_STEPS:
        return None, {"mode": "forward", "reason": "the steps that solves need differ too much", **evidence}
    return substeps, {"mode": "reverse", "reason": "many steps or derivatives, evenly needed", **evidence}
